"""What a leader reports: gathers the situation of its parts and writes the survey (`model/survey.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from objstore.engine.rebuilding import Stored
from objstore.model.cluster import ClusterMap
from objstore.model.ids import NodeId
from objstore.model.survey import FAILED_SHOWN, FailedItem, Kind, NodeHoldings, ObjectCounts, Survey
from objstore.ports import Clock
from objstore.repair.damage import item_name
from objstore.repair.dispatcher import FAILED_AFTER, Dispatcher, Hopeless, Parked
from objstore.repair.inventory import Inventory
from objstore.repair.orders import Orders
from objstore.repair.pace import Pace
from objstore.repair.redundancy import can_lose, totals
from objstore.repair.report import Ledger, Situation
from objstore.repair.tally import Harm


@dataclass(frozen=True, slots=True)
class Picture:
    """What the last look that ended has found. While the next one reads, the inventory is neither here nor there."""

    as_of_ms: int
    began: float  # the same moment on our own clock
    epoch: int  # of the layout that it was judged by
    generation: int  # of the inventory; -1: not every member that answers has told what it holds
    objects: ObjectCounts
    can_lose: int
    redundancy: list[int]
    nodes: dict[str, NodeHoldings]  # by node id
    damaged_parts: int  # parts of open uploads that are not at full redundancy

    def evidence(self, leader: str) -> Survey:
        """As much of the survey as a look alone can say."""
        return Survey(
            as_of_ms=self.as_of_ms,
            leader=leader,
            epoch=self.epoch,
            code="",
            objects=self.objects,
            can_lose=self.can_lose,
            redundancy=self.redundancy,
            nodes=self.nodes,
            damaged_parts=self.damaged_parts,
        )


def take_picture(
    inventory: Inventory, began: float, as_of_ms: int, *, listed: bool, told: Callable[[NodeId], bool]
) -> Picture:
    """listed: every member that answers has told what it holds. told: a member has, and nothing changed since."""
    placed = set(inventory.topology.map.newest.layout.nodes)

    def needed(node: NodeId) -> int:
        is_known = node not in placed and node in inventory.live and told(node)
        return inventory.needed_on(node) if is_known else -1

    histogram, code = inventory.tally.histogram, inventory.code
    return Picture(
        as_of_ms=as_of_ms,
        began=began,
        epoch=inventory.topology.map.newest.epoch,
        generation=inventory.generation if listed else -1,
        objects=ObjectCounts(*totals(histogram, code)),
        can_lose=can_lose(histogram, code, len(placed.intersection(inventory.live))),
        redundancy=list(histogram),
        nodes={
            node: NodeHoldings(inventory.fragments_on(node), inventory.missing_on(node), needed(node))
            for node in inventory.topology.node_ids
        },
        damaged_parts=sum(harm is Harm.DAMAGED for harm in inventory.tally.parts.values()),
    )


class Account:
    """The dispatcher's `Books`, and the survey."""

    def __init__(self, clock: Clock, ledger: Ledger, inventory: Inventory, pace: Pace, orders: Orders) -> None:
        self.ledger = ledger
        self._clock = clock
        self._inventory = inventory
        self._pace = pace
        self._orders = orders

    def moved(self, kind: Kind, traffic: float, written: int) -> None:
        self.ledger.moved(self._clock.monotonic(), kind, traffic, written)

    def finished(self, kind: Kind, traffic: float, held_s: float, stored: Sequence[Stored]) -> None:
        self.ledger.finished(self._clock.monotonic(), kind, traffic, held_s, sum(one.size for one in stored))

    def failed(self, kind: Kind) -> None:
        self.ledger.failed(kind)

    def survey(self, leader: str, picture: Picture, situation: Situation, dispatcher: Dispatcher) -> Survey:
        ledger = self.ledger
        progress = ledger.progress(self._clock.monotonic(), self._clock.wall_ms(), situation)
        return Survey(
            as_of_ms=picture.as_of_ms,
            leader=leader,
            epoch=picture.epoch,
            code=str(situation.code),
            objects=picture.objects,
            can_lose=picture.can_lose,
            redundancy=picture.redundancy,
            repair=progress,
            nodes=picture.nodes,
            events=list(ledger.events),
            receipt=ledger.receipt,
            receipts=list(ledger.receipts),
            episodes=ledger.episodes(situation),
            failed_items=self._failed_items(dispatcher),
            rebuilt_bytes=ledger.written["repair"],
            moved_bytes=ledger.written["rebalance"],
            repaired_objects=situation.restored,
            damaged_parts=picture.damaged_parts,
        )

    def situation(
        self,
        cluster_map: ClusterMap,
        dispatcher: Dispatcher,
        picture: Picture | None,
        silent: Mapping[NodeId, float],
        held_up: str,
        *,
        breaker_tripped: bool,
    ) -> Situation:
        """silent: members that may come back, and for how long that is waited for. held_up: why the map does not
        change."""
        inventory, orders, tally = self._inventory, self._orders, self._inventory.tally
        failures = list(dispatcher.failures.values())
        parked, parked_left = dispatcher.parked()
        looked = picture is not None and picture.generation == inventory.generation
        hopeless = dispatcher.hopeless() if looked else Hopeless()  # until then nodes may hold what is not listed yet
        return Situation(
            code=cluster_map.code,
            members=len(cluster_map.nodes),
            live=len(inventory.live),
            debt=tally.count(Harm.DAMAGED),
            misplaced=tally.count(Harm.MISPLACED),
            left=tally.left(Harm.DAMAGED).without(parked_left),
            left_to_move=tally.left(Harm.MISPLACED),
            in_flight=dispatcher.in_flight,
            restored=tally.restored,
            rehomed=tally.rehomed,
            in_work=dispatcher.in_work,
            only_moves=dispatcher.only_moves,
            waiting=parked[Parked.WAITING],
            blocked=parked[Parked.BLOCKED],
            no_room=parked[Parked.NO_ROOM],
            full=sorted(names_of(cluster_map, [node]) for node in dispatcher.full),
            hopeless=hopeless.objects,
            rescuers=sorted(names_of(cluster_map, [node]) for node in hopeless.rescuers),
            retrying=len(failures),
            failed=sum(failure.attempts >= FAILED_AFTER for failure in failures),
            last_error=failures[-1].error if failures else "",
            moving=how_far(cluster_map),
            moving_held_up=held_up,
            silent=[names_of(cluster_map, [node]) for node in silent],
            rebuild_in_s=min(silent.values(), default=None),
            why_slow=self._pace.why_slow if dispatcher.in_work else "",
            paused=orders.paused and orders.known,
            rebalance_paused=orders.rebalance_paused and orders.known,
            paused_for_s=orders.paused_for_s,
            budget=orders.budget,
            orders=orders.followed,
            breaker_tripped=breaker_tripped,
        )

    def _failed_items(self, dispatcher: Dispatcher) -> list[FailedItem]:
        now = self._clock.monotonic()
        worst = sorted(dispatcher.failures.items(), key=lambda one: -one[1].attempts)[:FAILED_SHOWN]
        return [
            FailedItem(
                item_name(self._inventory, segment),
                f"{segment[:16].hex()}/{int.from_bytes(segment[16:], 'big')}",
                failure.attempts,
                round(max(0.0, failure.again_at - now), 1),
                failure.error,
            )
            for segment, failure in worst
        ]


def how_far(cluster_map: ClusterMap) -> str:
    """Of a layout change that is under way, or ""."""
    if cluster_map.next is None:
        return ""
    synced = sum(byte.bit_count() for byte in cluster_map.synced)
    return f"metadata moves to layout {cluster_map.next.epoch}: {synced} of {cluster_map.partitions} partitions"


def names_of(cluster_map: ClusterMap, nodes: Collection[NodeId]) -> str:
    return " ".join(sorted(node.name for node in cluster_map.nodes if node.id in nodes))
