"""The parts of migrations, as processes hold them: gateways read through to origins, the leading repairer walks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from objstore.cluster.directory import Directory
from objstore.cluster.port import Coordinator
from objstore.config import Config
from objstore.engine.engine import Engine
from objstore.engine.peers import Peers
from objstore.migrate.copying import Copier
from objstore.migrate.origins import Origins
from objstore.migrate.through import ReadThrough
from objstore.migrate.walk import CoordinatorBoard, Walker
from objstore.ports import Clock, Random, Transport


def origins_of(stack: AsyncExitStack, config: Config, clock: Clock) -> Origins:
    origins = Origins(config.cluster.secret.encode(), clock)
    stack.push_async_callback(origins.close)
    return origins


def read_through(stack: AsyncExitStack, engine: Engine, config: Config, clock: Clock, random: Random) -> None:
    origins = origins_of(stack, config, clock)
    through = ReadThrough(engine, origins, Copier(engine, config.encryption.keys, random))
    stack.push_async_callback(through.close)
    through.install()


def walk_from(
    stack: AsyncExitStack,
    config: Config,
    coordinator: Coordinator,
    directory: Directory,
    transport: Transport,
    clock: Clock,
    random: Random,
    leads: Callable[[], bool],
) -> None:
    """This process walks while it leads."""
    engine = Engine(Peers(directory, transport, clock), clock, random)
    stack.push_async_callback(engine.close)
    origins = origins_of(stack, config, clock)
    copier = Copier(engine, config.encryption.keys, random)
    walker = Walker(engine, origins, copier, CoordinatorBoard(coordinator), clock)
    task = asyncio.create_task(walker.run(leads), name="migrations")

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
