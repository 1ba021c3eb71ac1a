"""The conveyor's logic: takt, slots and windows. No socket, and the time is given to every turn."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pipeline.plcs import ACK_TIMED_OUT, SLOTS
from pipeline.plcs.simulated.record import PanelRecord, Remembered, Row, outcome
from pipeline.plcs.simulated.rule3 import UNDECIDED, Vision, accepts
from pipeline.plcs.simulated.server import Memory
from pipeline.plcs.simulated.settings import Settings

WRAP = 1 << 32
START_STATES = (6, 8)  # Ready, ContinuousExecution
HALTED = 2  # the vision system is being stopped on purpose: the belt stands, and no panel is lost unseen
MS = 1_000_000
BEAT_NS = 50 * MS  # both sides beat at 20 Hz
LOST_NS = 4 * BEAT_NS  # the third beat is missed for good when the fourth is due
GRACE_NS = 1_000 * MS  # after the last window, for the slots to be zeroed


@dataclass(frozen=True)
class Panel:
    """A panel between its trigger and the PLC's decision."""

    seq: int
    panel: int  # the physical one: a number in the run's plan
    panel_id: str
    trigger_ns: int
    trigger_time: str


class Line:
    """One run of the conveyor. `pulse(panel, edge_ns)` is the photo-eye's wire to the cameras."""

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        record: PanelRecord,
        remembered: Remembered,
        pulse: Callable[[int, int], object],
    ) -> None:
        self._settings, self._memory, self._record, self._pulse = settings, memory, record, pulse
        anew = settings.first_seq is not None or remembered.last_seq is None
        self._seq = (settings.first_seq or 1) if anew else _next(remembered.last_seq or 0)
        self._panel = 0 if settings.first_seq else remembered.panels
        self._counts = Counter() if settings.first_seq else remembered.counts()
        self._counts["triggers"] = self._counts.total()
        self._open: dict[int, Panel] = {}  # by slot
        self._overdue: dict[int, int] = {}  # slot -> sequence that was rejected on silence
        self._due_ns: int | None = None  # None: not started
        self._earliest_ns = 0  # of the next panel, however late the belt is
        self._blocked = False
        self._heartbeat, self._heard_ns = 0, -LOST_NS
        self._beat, self._beat_due_ns = 0, 0
        self._last_window_ns = 0
        self._restore(() if anew else remembered.latest)

    def turn(self, now_ns: int) -> int:
        """Do what is due now; returns when to come again at the latest."""
        vision = self._look(now_ns)
        for slot in range(SLOTS):
            self._decide(slot, now_ns, vision)
        if self._due_ns is None and self._may_start(vision):
            self._due_ns = now_ns
        if not self._all_placed and self._due_ns is not None and now_ns >= max(self._due_ns, self._earliest_ns):
            self._place(now_ns, self._due_ns, vision)
        self._beat_if_due(now_ns)
        return self._next_due_ns()

    def is_over(self, now_ns: int) -> bool:
        """Every panel was placed and decided; the slots were answered and zeroed, or will not be any more."""
        if not self._all_placed or self._open:
            return False
        settled = not self._overdue and not any(self._memory.code(slot) for slot in range(SLOTS))
        return settled or now_ns > self._last_window_ns + GRACE_NS

    def stop(self, now_ns: int) -> None:
        """Reject what is still under way."""
        for panel in list(self._open.values()):
            self._close(panel, now_ns, ACK_TIMED_OUT, "line stopped")

    def end(self, how: str) -> None:
        """Write the record's last line."""
        names = ("triggers", "passed", "rejected", "lost", "skipped", "blocked", "late")
        self._record.decided({"end": how, **{name: self._counts[name] for name in names}})

    @property
    def _all_placed(self) -> bool:
        return 0 < self._settings.panels <= self._panel

    def _restore(self, latest: tuple[Row, ...]) -> None:
        """A PLC keeps its registers through a power cut; a driver must not take the start for new triggers."""
        for back in range(1, min(SLOTS, self._seq - 1) + 1):
            self._memory.put("trigger_seq", self._seq - back, (self._seq - back) % SLOTS)
        for row in latest:
            if row["acknowledged"]:
                self._acknowledge(row["seq"], row["ack_code"])
        self._publish_counts()

    def _look(self, now_ns: int) -> Vision:
        status = self._memory.status()
        if status.heartbeat != self._heartbeat:
            self._heartbeat, self._heard_ns = status.heartbeat, now_ns
        return Vision(alive=now_ns - self._heard_ns < LOST_NS, state=status.state)

    def _may_start(self, vision: Vision) -> bool:
        return not self._settings.start_when_ready or (vision.alive and vision.state in START_STATES)

    def _decide(self, slot: int, now_ns: int, vision: Vision) -> None:
        panel = self._open.get(slot)
        if panel is None:
            self._count_late(slot)
            return
        open_still = now_ns < self._window_end_ns(panel)
        seen, recipe_no = self._memory.result(slot), self._settings.number(panel.seq)
        ack_code, reason = accepts(seen, panel.seq, recipe_no, window_open=open_still, vision=vision)
        if ack_code != UNDECIDED:
            self._close(panel, now_ns, ack_code, reason)

    def _count_late(self, slot: int) -> None:
        """Rule 5: a result that comes after the window is counted once, and nothing else."""
        if slot in self._overdue and self._memory.result(slot).seq_copy == self._overdue[slot]:
            del self._overdue[slot]
            self._counts["late"] += 1

    def _close(self, panel: Panel, now_ns: int, ack_code: int, reason: str) -> None:
        slot = panel.seq % SLOTS
        del self._open[slot]
        if ack_code == ACK_TIMED_OUT:
            self._overdue[slot] = panel.seq
        self._counts[outcome(ack_code)] += 1
        told = panel.seq not in self._settings.unacknowledged_seqs
        self._write_down(panel, now_ns, ack_code, reason, told)
        self._publish_counts()
        if told:
            self._acknowledge(panel.seq, ack_code)

    def _write_down(self, panel: Panel, now_ns: int, ack_code: int, reason: str, told: bool) -> None:
        seen = self._memory.result(panel.seq % SLOTS).result
        decision = {
            "ack_code": ack_code,
            "acknowledged": told,
            "code": seen.code,
            "fault": seen.fault,
            "latency_ms": round((now_ns - panel.trigger_ns) / MS, 3),
            "reason": reason,
        }
        self._record.decided(asdict(panel) | decision)

    def _acknowledge(self, seq: int, ack_code: int) -> None:
        self._memory.put("ack_code", ack_code, seq % SLOTS)
        self._memory.put("ack_seq", seq, seq % SLOTS)

    def _place(self, now_ns: int, due_ns: int, vision: Vision) -> None:
        """Trigger the next panel, or let the line stand while its slot is in use or the vision system is halted."""
        while self._seq in self._settings.skip_seqs:
            self._seq = _next(self._seq)
            self._counts["skipped"] += 1
        slot = self._seq % SLOTS
        in_use = slot in self._open or self._memory.code(slot) != 0
        if self._settings.open_loop and vision.state != HALTED:
            self._pass(slot, now_ns, due_ns, in_use)
            return
        if in_use or vision.state == HALTED:
            self._counts["blocked"] += not self._blocked
            self._blocked = True
            return
        takt_ns, least_ns = self._settings.takt_ms * MS, self._settings.least_ms * MS
        # after a stand the next panel is a whole takt away; small delays must not add up
        self._due_ns = now_ns + takt_ns if self._blocked else max(due_ns + takt_ns, now_ns + least_ns)
        self._blocked = False
        self._trigger(slot, now_ns)

    def _pass(self, slot: int, now_ns: int, due_ns: int, in_use: bool) -> None:
        """Open loop: panel n is due n takts after the first, whatever became of those before it."""
        self._due_ns = due_ns + self._settings.takt_ms * MS
        self._earliest_ns = now_ns + self._settings.least_ms * MS
        if in_use:
            self._counts["blocked"] += 1
            self._panel += 1
        else:
            self._trigger(slot, now_ns)

    def _trigger(self, slot: int, now_ns: int) -> None:
        panel_id = self._settings.panel_id(self._panel, self._seq)
        wall_time = datetime.now(UTC).isoformat(timespec="milliseconds")
        panel = Panel(self._seq, self._panel, panel_id, now_ns, wall_time)
        self._open[slot] = panel
        self._overdue.pop(slot, None)
        self._last_window_ns = self._window_end_ns(panel)
        self._seq, self._panel = _next(self._seq), self._panel + 1
        self._counts["triggers"] += 1
        self._record.triggered(asdict(panel))
        self._announce(slot, panel)

    def _announce(self, slot: int, panel: Panel) -> None:
        self._publish_counts()
        self._memory.put("panel_id", panel.panel_id, slot)
        self._memory.put("recipe_no", self._settings.number(panel.seq), slot)
        self._memory.put("window_ms", self._settings.window_ms, slot)
        self._memory.put("trigger_seq", panel.seq, slot)
        self._pulse(panel.panel, panel.trigger_ns)

    def _publish_counts(self) -> None:
        for name in ("triggers", "passed", "rejected"):
            self._memory.put(f"plc_{name}", self._counts[name])

    def _beat_if_due(self, now_ns: int) -> None:
        if now_ns >= self._beat_due_ns:
            self._beat, self._beat_due_ns = self._beat + 1, now_ns + BEAT_NS
            self._memory.put("plc_heartbeat", self._beat)

    def _window_end_ns(self, panel: Panel) -> int:
        return panel.trigger_ns + self._settings.window_ms * MS

    def _next_due_ns(self) -> int:
        """A line that stands, or has not started, waits for the vision system and not for the time."""
        due = [self._beat_due_ns, *map(self._window_end_ns, self._open.values())]
        if self._due_ns is not None and not self._blocked and not self._all_placed:
            due.append(max(self._due_ns, self._earliest_ns))
        return min(due)


def _next(seq: int) -> int:
    return (seq + 1) % WRAP
