"""The parts of event notifications, as processes hold them: gateways and repairers send to the same targets."""

from __future__ import annotations

from contextlib import AsyncExitStack

from objstore.config import Config
from objstore.engine.engine import Engine
from objstore.notify.courier import Courier
from objstore.notify.sender import Sender, Target
from objstore.ports import Clock


def sender_of(stack: AsyncExitStack, config: Config, clock: Clock) -> Sender:
    targets = {one.name: Target(one.url, one.secret) for one in config.notify}
    sender = Sender(targets, config.gateway.region, clock)
    stack.push_async_callback(sender.close)
    return sender


def deliver_from(stack: AsyncExitStack, engine: Engine, config: Config, clock: Clock) -> Sender:
    """What this engine writes is told by this process, right away."""
    sender = sender_of(stack, config, clock)
    courier = Courier(engine.registers, sender)
    stack.push_async_callback(courier.close)
    engine.on_event(courier.hear)
    return sender
