"""What `objstore notify status` shows."""

from __future__ import annotations

from objstore.cli.notify import describe
from objstore.model.survey import Survey, TargetReport, decode_survey, encode_survey


def test_each_target_has_a_line_that_says_what_waits_and_why() -> None:
    failing = TargetReport("hook", "http://h/", 12, 1_000, 3, 4, 5, 31_000, "it answered 500")
    fine = TargetReport("other", "http://o/", 0, 0, 7, 0, 0, 0, "")
    survey = Survey(61_000, "r1", 1, "4+2", notify=[failing, fine])
    assert decode_survey(encode_survey(survey)) == survey
    _, one, two, _ = describe(survey, 61_000)
    assert one.startswith("hook    12       1") and one.partition("fails")[0].split()[-3:] == ["3", "4", "5"]
    assert "it answered 500" in one and "answers" in two
    (nothing,) = describe(Survey(1, "r1", 1, "4+2"), 2)
    assert "[notify.NAME]" in nothing
