"""Random harm to everything while clients work. Longer: `python -m tests.process.chaos`."""

from __future__ import annotations

import pytest

from tests.process.chaos import chaos


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("seed", "seconds"), [(1, 10.0), (2, 45.0)])
def test_under_random_harm_nothing_is_wrong_or_lost(seed: int, seconds: float) -> None:
    said: list[str] = []
    verdict = chaos(seed, seconds, folder=None, say=said.append)
    assert not verdict.wrong, "\n".join([*said, str(verdict)])
