import pytest

from objstore.engine.conditions import check
from objstore.engine.types import ALWAYS, WriteCondition
from objstore.model.errors import NoSuchKey, PreconditionFailed
from objstore.model.records import ObjectVersion


@pytest.mark.parametrize(
    ("condition", "etag", "refused"),
    [
        (ALWAYS, None, None),
        (ALWAYS, "e", None),
        (WriteCondition(if_match="e"), "e", None),
        (WriteCondition(if_match='"e"'), "e", None),
        (WriteCondition(if_match="a, e"), "e", None),
        (WriteCondition(if_match="*"), "e", None),
        (WriteCondition(if_match="x"), "e", PreconditionFailed),
        (WriteCondition(if_match="e"), None, NoSuchKey),
        (WriteCondition(if_match="*"), None, NoSuchKey),
        (WriteCondition(if_none_match="*"), None, None),
        (WriteCondition(if_none_match="*"), "e", PreconditionFailed),
        (WriteCondition(if_none_match="e"), "e", PreconditionFailed),
        (WriteCondition(if_none_match="x"), "e", None),
        (WriteCondition(if_size=7), "e", None),
        (WriteCondition(if_size=8), "e", PreconditionFailed),
        (WriteCondition(if_size=0), None, None),
        (WriteCondition(if_modified_s=5), "e", None),
        (WriteCondition(if_modified_s=6), "e", PreconditionFailed),
        (WriteCondition(if_modified_s=6), None, None),
        (WriteCondition("e", None, 7, 5), "e", None),
        (WriteCondition("e", None, 7, 4), "e", PreconditionFailed),
        (WriteCondition("e", None, 6, 5), "e", PreconditionFailed),
    ],
)
def test_condition_table(condition: WriteCondition, etag: str | None, refused: type[Exception] | None) -> None:
    current = ObjectVersion(b"v", 7, etag, 5_999, {}, ()) if etag is not None else None
    if refused is None:
        check(condition, current)
    else:
        with pytest.raises(refused):
            check(condition, current)
