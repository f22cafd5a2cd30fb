"""What kind of trouble a schedule of the explorer has: drawn once per seed, so that schedules differ in kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from objstore.model import limits
from tests.sim.register_history import APPEND, DELETE, EVEN, KEEP, NEW, READ

LAYOUTS: tuple[tuple[str, ...], ...] = (
    ("abc",),
    ("abc", "def"),
    ("abc", "ade"),
    ("abc", "abd"),
    ("abc", "abd", "abc"),
    ("abc", "def", "abc"),
    ("abc", "ade", "abc"),
    ("abc", "cba", "ade"),
    ("a", "abc"),
    ("ab", "bcd"),
    ("abc", "ade", "def", "abd"),
    ("abcde", "abfgh"),
)
"""Successive sets of acceptors. Later ones are drawn less often: they make long schedules."""

DELETING = ((APPEND, NEW, DELETE, READ), (APPEND, DELETE), (NEW, DELETE, DELETE, READ))
PHASES = ("starve", "lonely accepts", "lonely accepts", "only prepares", "no replies", "split", "pause")

PLOTS: tuple[tuple[str, ...], ...] = (
    ("lonely accepts", "starve", "open"),
    ("lonely accepts", "only prepares, starve", "open"),
    ("lonely accepts", "another, lonely accepts", "starve", "open"),
    ("only prepares", "lonely accepts", "starve", "another, starve", "open"),
    ("open", "lonely accepts", "split", "another, starve", "open"),
    (
        "still, lonely accepts",
        "rush, hold, lonely accepts",
        "still, hold, only prepares, starve",
        "rush, hold, only prepares",
    ),
    ("still, lonely accepts", "still, another, lonely accepts", "rush, hold, starve", "rush, another"),
)
"""Phases in an order in which a value that was never chosen sits with one acceptor, and others go on without it.

still, rush: leaders pause, or hurry. hold: what is blocked comes later, and is not lost. another: the next trouble is
about another acceptor than the last."""


@dataclass(slots=True)
class Personality:
    """What kind of trouble a schedule has."""

    layout: tuple[str, ...]
    proposers: int
    operations: int  # of each proposer
    kinds: tuple[str, ...]  # of operations, drawn evenly
    steps: int
    loss: float
    repeat: float
    phase: int  # mean steps of a phase
    phases: tuple[str, ...]  # drawn evenly
    plot: tuple[str, ...]  # phases that come first, in this order
    late: float  # share of messages that come much later
    lazy: float  # share of steps in which an acceptor commits; 0: at once
    crash: float  # of acceptors, per step
    restart: float  # of proposers, per step
    patience: int  # ticks before a proposer gives a round or an operation up
    quit: float  # how often it gives up what found no majority in time
    tick: float  # share of steps that wake a proposer
    move: float  # share of steps of the layout change
    leaders: int
    leap: int  # ms between steps; enough of them prune the results of operations
    skew: int  # ms between the clocks of proposers


Draw = Callable[[random.Random], Personality]


def draw(dice: random.Random) -> Personality:
    mood = _any(dice)
    if dice.random() < 0.4:
        _calm(mood)
        if dice.random() < 0.5:
            _sharpen(mood, dice)
    return mood


def draw_sharp(dice: random.Random) -> Personality:
    """Always the schedules that are about one thing."""
    mood = _any(dice)
    _calm(mood)
    _sharpen(mood, dice)
    return mood


def _calm(mood: Personality) -> None:
    """Nothing but reordering: trouble of one kind is blurred by others."""
    mood.loss = mood.repeat = mood.late = mood.lazy = mood.crash = mood.restart = 0.0
    mood.leap, mood.skew = 1, 0


def _sharpen(mood: Personality, dice: random.Random) -> None:
    """Few operations with much at stake, and accepts that reach one acceptor while others go on without it."""
    mood.phase, mood.patience, mood.quit = 25, 8, 0.3
    if dice.random() < 0.5:  # is what was refused applied after all?
        mood.layout, mood.move = ("abc",), 0.0
        mood.proposers, mood.operations, mood.kinds = 2, 2, (EVEN, APPEND)
        mood.steps, mood.plot = 160, ("lonely accepts", "starve") * 2
    else:  # does a value that nobody chose overtake the chosen one on its way to other acceptors?
        mood.layout, mood.move = dice.choice((("abc", "abd"), ("abc", "def"), ("abc", "ade"))), 0.3
        mood.proposers, mood.operations, mood.kinds = 3, 1, (APPEND, APPEND, READ)
        mood.steps, mood.plot, mood.tick = 200, dice.choice(PLOTS[-2:]), 0.2


def _any(dice: random.Random) -> Personality:
    pick = dice.choice
    layout = LAYOUTS[int(dice.random() ** 1.4 * len(LAYOUTS))]
    lazy = pick((0.0, 0.0, 0.0, 0.05, 0.2))
    return Personality(
        layout=layout,
        proposers=pick((2, 2, 3)),
        operations=pick((1, 1, 2, 3)),
        kinds=pick(((APPEND, EVEN, READ), (EVEN, EVEN, APPEND, READ), (APPEND, KEEP, READ), pick(DELETING))),
        steps=pick((20, 40, 80, 120)) * (1 + (len(layout) > 1)),
        loss=pick((0.0, 0.0, 0.02, 0.1)),
        repeat=pick((0.0, 0.05)),
        phase=pick((6, 12, 25, 50)),
        phases=("open", *dice.sample(PHASES, dice.randint(1, 3))),
        plot=pick((*PLOTS, *[()] * len(PLOTS))),
        late=pick((0.0, 0.0, 0.0, 0.2)),
        lazy=lazy,
        crash=pick((0.0, 0.03, 0.06) if lazy else (0.0, 0.0, 0.02)),
        restart=pick((0.0, 0.0, 0.01)),
        patience=pick((3, 8, 20)),
        quit=pick((0.1, 0.5)),
        tick=pick((0.15, 0.25, 0.4)),
        move=pick((0.05, 0.15, 0.3)) if len(layout) > 1 else 0.0,
        leaders=pick((1, 1, 2)),
        leap=pick((0, 1, 1, limits.OPS_KEPT_MS // 20)),
        skew=pick((0, 0, 5, limits.OPS_KEPT_MS)),
    )
