"""Bugs in event notifications."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

KEYSTATE = "objstore.engine.keystate"

CANARIES = (
    Canary(
        "deleted key forgets whom to tell",
        KEYSTATE,
        (
            Edit(
                'return encode(state) if state != KeyState() else b""',
                'return encode(state) if state.versions or state.retired or state.attempts else b""',
            ),
        ),
        "ambush notifications",
        "INV-20: the register of a deleted key becomes a tombstone with its events in it",
        limit=20,
        quick=True,
    ),
    Canary(
        "events that came meanwhile go with those that were told",
        KEYSTATE,
        (Edit("done = answered.get(event.sequence, ())", "done = event.open"),),
        "ambush notifications",
        "INV-20: who takes away what was answered takes what was written since, too",
        limit=20,
        quick=True,
    ),
    Canary(
        "told is what was sent",
        "objstore.notify.outbox",
        (
            Edit(
                "if not await _send(sender, event, delivery, key):",
                "if await _send(sender, event, delivery, key) is None:",
            ),
        ),
        "ambush notifications",
        "INV-20: an event goes though its target has refused it",
        limit=20,
        quick=True,
    ),
    Canary(
        "repairer tells only of keys that are listed",
        "objstore.repair.inventory",
        (Edit("if new.waiting:", "if new.waiting and new.counted:"),),
        "ambush notifications",
        "INV-20: nobody goes on with the events of a hidden key once its gateway has died",
        limit=20,
        quick=True,
    ),
)
