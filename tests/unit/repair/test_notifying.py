"""Pending events and the end of what they lie in: a register goes only after its events."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from objstore.model import bucketconfig
from objstore.model.notification import BucketNotification, Rule
from objstore.model.records import Space
from objstore.notify.sender import Sender, Target
from tests.sim.loop import run
from tests.unit.repair.rig import SETTINGS, MappedCluster, body
from tests.unit.repair.test_endings import spaces, until

IMPATIENT = replace(SETTINGS, garbage_delay_s=2.0, orphan_age_s=5.0, orphan_round_s=2.0, upload_age_s=6.0)


class Hook(Sender):
    answers = False
    taken = 0

    async def attempt(self, target: str, body: bytes, delivery_id: str) -> str:
        self.taken += self.answers
        return "" if self.answers else "it answered 500"


def test_a_deleted_bucket_is_collected_only_after_its_events_are_told() -> None:
    async def main() -> None:
        async with MappedCluster(70) as sim:
            hook = Hook({"hook": Target("http://hook/")}, "r", sim.clock("repairer1"))
            sim.sender = lambda process: hook
            sim.repair = {"garbage_delay_s": 2.0, "orphan_round_s": 2.0, "upload_age_s": 6.0}
            one, _ = sim.engines
            rules = BucketNotification((Rule("r", "hook", ("ObjectCreated:*", "ObjectRemoved:*")),))
            await one.create_bucket("b", config=bucketconfig.encoded(rules))
            big = bytes(50_000)
            await one.put_object("b", "k", body(big), len(big), {})
            await one.delete_object("b", "k")
            await one.delete_bucket("b")
            await sim.start("repairer1")
            await asyncio.sleep(60)
            assert await spaces(sim) == [Space.OBJECT, Space.BUCKET]
            survey = await sim.survey()
            assert survey is not None
            (report,) = survey.notify
            assert (report.pending, report.delivered, report.reason) == (2, 0, "it answered 500")
            assert report.failing_since_ms and report.oldest_ms
            hook.answers = True
            await until(sim, spaces_left=[], fragments_left=0, within_s=400.0)
            assert hook.taken == 2

    run(main, 70)
