import pytest

from objstore.engine.conditions import check
from objstore.engine.types import ALWAYS, WriteCondition
from objstore.model.errors import NoSuchKey, PreconditionFailed


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
    ],
)
def test_condition_table(condition: WriteCondition, etag: str | None, refused: type[Exception] | None) -> None:
    if refused is None:
        check(condition, etag)
    else:
        with pytest.raises(refused):
            check(condition, etag)
