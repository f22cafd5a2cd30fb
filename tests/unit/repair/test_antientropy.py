"""What anti-entropy writes anew when replicas disagree."""

from __future__ import annotations

from objstore.repair.term import _rewrite
from tests.sim.loop import run
from tests.unit.repair.acceptors import append, key_of, make_world, words


def test_what_is_written_anew_never_takes_the_place_of_something_newer() -> None:
    """What a look found may have been replaced since: writing it anew all the same would undo an operation whose
    success was told (INV-3)."""

    async def main() -> None:
        world = make_world("ABC", ["ABC"])
        registers, key = world.registers(1), key_of(0)
        await append(registers, key, b"one")
        old = await registers.read(key)
        await append(registers, key, b"two")
        await _rewrite(world.registers(2, wall_ms=9_000_000), key, old.state, old.listing)
        assert await words(registers, key) == [b"one", b"two"]

    run(main, 1)
