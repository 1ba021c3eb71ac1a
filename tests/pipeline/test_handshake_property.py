"""Whatever happens in whatever order: a PASS is written for a proven panel alone, and every trigger is closed once."""

from collections import Counter
from dataclasses import replace
from typing import Any

from handshake_parts import (
    BAD,
    CAMERAS,
    EXPECTED,
    GIVE_UP_MS,
    MS,
    NEW,
    NO_ANSWER,
    OTHER,
    RECIPE_NO,
    Desk,
    captured,
    verdict,
)
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from pipeline.messages import Fault, Outcome
from pipeline.open_panels import CapturedSeen, LedgerState, LinkLost, Stopping, Unrouted, VerdictSeen, Write
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, PASS_CODE

WRONG: list[dict[str, Any]] = [
    BAD,
    NO_ANSWER,
    {"recipe": OTHER.recipe},
    {"calibration": OTHER.calibration},
    {"engine": OTHER.engine},
    {"digest": "f" * 32},
    {"score": float("nan")},
    {"score": 0.7},
    {"inspector": "inspector_2"},
    {"station": "cell_2"},
    NEW,
    {},  # right for some panels, wrong for those that were triggered for `OTHER`
]
WHO = st.integers(0, 5)  # how many triggers back
STEPS = st.one_of(
    st.tuples(st.just("trigger"), st.sampled_from([1, 1, 1, 1, 2, 5]), st.sampled_from([3, 3, 3, 9])),
    st.tuples(st.just("whole set"), WHO),
    st.tuples(st.just("whole set"), WHO),
    st.tuples(st.just("one camera"), WHO, st.sampled_from(CAMERAS), st.sampled_from(["", "", "", "CAMERA", "swapped"])),
    st.tuples(st.just("good verdict"), WHO),
    st.tuples(st.just("good verdict"), WHO),
    st.tuples(st.just("wrong verdict"), WHO, st.sampled_from(WRONG)),
    st.tuples(st.just("verdict of another"), WHO, WHO),
    st.tuples(st.just("ack"), WHO, st.sampled_from([ACK_PASSED, ACK_REJECTED, ACK_TIMED_OUT, 0, 7])),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 200, 900, 1600])),
    st.tuples(st.just("unrouted"), WHO),
    st.tuples(st.just("count anew"), st.sampled_from([5, 6, 90, 1 << 20, (1 << 32) - 5000])),
    st.tuples(st.sampled_from(["link lost", "ledger lost", "ledger back", "no inspector", "inspector back", "stop"])),
    st.tuples(st.just("swap")),
)


@st.composite
def courses(draw: st.DrawFn) -> list[tuple]:
    """The course of good panels with a few things put in, left out or changed in order."""
    steps: list[tuple] = []
    for _ in range(draw(st.integers(1, 6))):
        own = [("trigger", 1, RECIPE_NO), *(("one camera", 0, camera, "") for camera in CAMERAS), ("good verdict", 0)]
        for _ in range(draw(st.integers(0, 2))):
            own.insert(draw(st.integers(1, len(own))), draw(STEPS))
        if draw(st.integers(0, 5)) == 0:
            own.pop(draw(st.integers(1, len(own) - 1)))
        steps += own
        if draw(st.booleans()):
            steps.append(("ack", 0, draw(st.sampled_from([ACK_PASSED, ACK_PASSED, ACK_TIMED_OUT]))))
    return steps


class World:
    """Drives a desk and keeps its own book of what makes each panel good."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.seq = 0
        self.counted: list[int] = []  # what must have a record, in order
        self.tokens: list[str] = []
        self.opened_ns: dict[str, int] = {}
        self.reports: dict[str, list[tuple[str, str, str | None]]] = {}  # camera, digest, fault
        self.verdicts: dict[str, list[dict[str, Any]]] = {}  # what differs from the good one
        self.right: dict[str, dict[str, Any]] = {}  # the verdict that is the good one: by the trigger's recipe
        self.in_force = EXPECTED
        self.spoiled: set[str] = set()
        self.ledger_ok, self.stopped = True, False

    def do(self, step: tuple) -> None:
        before = len(self.desk.actions)
        getattr(self, "_" + step[0].replace(" ", "_"))(*step[1:])
        for action in self.desk.actions[before:]:
            if isinstance(action, Write) and action.outcome is Outcome.PASS:
                assert action.result.code == PASS_CODE
                self._must_be_good(action.token)
            elif isinstance(action, Write):
                assert action.result.code != PASS_CODE

    def _must_be_good(self, token: str) -> None:
        """Everything that a pass needs, from the test's own book."""
        sets = dict.fromkeys(CAMERAS, "")
        for camera, digest, fault in self.reports[token]:
            assert fault is None and sets[camera] in ("", digest)
            sets[camera] = digest
        assert sets == {camera: captured(token, camera).digest for camera in CAMERAS}
        assert self.verdicts[token] and all(changes == self.right[token] for changes in self.verdicts[token])
        assert self.desk.now_ns < self.opened_ns[token] + 960 * MS
        assert token not in self.spoiled and self.ledger_ok and not self.stopped
        event("a panel passed")

    def _token(self, back: int) -> str | None:
        return self.tokens[-1 - back] if back < len(self.tokens) else None

    def _open(self) -> list[str]:
        return [panel.token for panel in self.desk.state.panels]

    def _spoil(self) -> None:
        """What is open and not yet written can no longer pass."""
        self.spoiled |= {panel.token for panel in self.desk.state.panels if panel.written is None}

    # --- what may happen ---

    def _trigger(self, ahead: int, recipe_no: int) -> None:
        for _ in range(ahead):
            self.seq = (self.seq + 1) % (1 << 32)
            self.counted.append(self.seq)
        if self._known(self.seq):
            self._trigger(1, recipe_no)
        else:
            self._placed(recipe_no)

    def _known(self, seq: int) -> bool:
        """The slot shows this number from before the PLC counted anew: used again, it changes nothing there."""
        return seq in (self.desk.slots[seq % 4].trigger_seq, self.desk.slots[seq % 4].ack_seq)

    def _placed(self, recipe_no: int) -> None:
        token = self.desk.trigger(self.seq, recipe_no=recipe_no)
        self.tokens.append(token)
        self.opened_ns[token], self.reports[token], self.verdicts[token] = self.desk.now_ns, [], []
        self.right[token] = NEW if self.in_force is OTHER else {}
        if recipe_no != RECIPE_NO or not self.ledger_ok or self.stopped or self.desk.inspector is None:
            self.spoiled.add(token)

    def _count_anew(self, back: int) -> None:
        """The PLC was restarted: its next number lies behind the last one, or far ahead."""
        self.desk.wait(1)
        seq = (self.seq - back) % (1 << 32)
        if self._known(seq):
            return
        self.seq = seq
        self.counted.append(seq)
        self._placed(RECIPE_NO)
        self.spoiled.add(self.tokens[-1])

    def _whole_set(self, back: int) -> None:
        for camera in CAMERAS:
            self._one_camera(back, camera, "")

    def _one_camera(self, back: int, camera: str, wrong: str) -> None:
        token = self._token(back)
        if token is None:
            return
        said = captured(token, camera)
        if wrong == "CAMERA":
            said = said.model_copy(update={"fault": Fault.CAMERA, "digest": ""})
        elif wrong == "swapped":
            said = said.model_copy(update={"digest": "e" * 32})
        if token in self._open() and not self._written(token):
            self.reports[token].append((camera, said.digest, said.fault))
        self.desk.tell(CapturedSeen(said))
        self.desk.wait(0)

    def _written(self, token: str) -> bool:
        return any(panel.token == token and panel.written for panel in self.desk.state.panels)

    def _good_verdict(self, back: int) -> None:
        self._wrong_verdict(back, self.right.get(self._token(back) or "", {}))

    def _wrong_verdict(self, back: int, changes: dict[str, Any]) -> None:
        token = self._token(back)
        if token is None:
            return
        if token in self._open() and not self._written(token):
            self.verdicts[token].append(changes)
        self.desk.tell(VerdictSeen(verdict(token, **changes)))
        self.desk.wait(0)

    def _verdict_of_another(self, back: int, other: int) -> None:
        theirs = self._token(other)
        if theirs is not None and other != back:
            self._wrong_verdict(back, {"digest": verdict(theirs).digest})

    def _ack(self, back: int, code: int) -> None:
        seq = (self.seq - back) % (1 << 32)
        if self.desk.slots[seq % 4].trigger_seq == seq:
            self.desk.ack(seq, code)

    def _wait(self, ms: int) -> None:
        self.desk.wait(ms)

    def _unrouted(self, back: int) -> None:
        token = self._token(back)
        if token is not None:
            if not self._written(token):
                self.spoiled.add(token)
            self.desk.tell(Unrouted(token))

    def _link_lost(self) -> None:
        self._spoil()
        self.desk.tell(LinkLost())

    def _ledger_lost(self) -> None:
        self._spoil()
        self.ledger_ok = False
        self.desk.tell(LedgerState(ok=False))

    def _ledger_back(self) -> None:
        self.ledger_ok = True
        self.desk.tell(LedgerState(ok=True))

    def _no_inspector(self) -> None:
        self.desk.inspector = None

    def _inspector_back(self) -> None:
        self.desk.inspector = "inspector"

    def _swap(self) -> None:
        """The other recipe takes over."""
        self.in_force = EXPECTED if self.in_force is OTHER else OTHER
        self.desk.switch(self.in_force)

    def _stop(self) -> None:
        self._spoil()
        self.stopped = True
        self.desk.tell(Stopping())


GOOD = [("trigger", 1, 3), ("whole set", 0), ("good verdict", 0)]


@example([*GOOD, ("ack", 0, ACK_PASSED)])
@example([("trigger", 1, 3), ("trigger", 1, 3), ("whole set", 0), ("whole set", 1), ("verdict of another", 0, 1)])
@example([*GOOD, ("swap",), *GOOD, ("ack", 0, ACK_PASSED), ("ack", 1, ACK_PASSED)])
@example([GOOD[0], ("swap",), *GOOD[1:], ("ack", 0, ACK_PASSED)])
@given(st.one_of(courses(), courses(), st.lists(STEPS, max_size=40)))
@settings(max_examples=500, deadline=None)
def test_only_a_proven_panel_passes_and_every_trigger_is_closed_once(steps):
    world = World()
    for step in steps:
        world.do(step)
        state = world.desk.state
        assert state.triggers == state.passed + state.rejected + len(state.panels)
    world.desk.wait(GIVE_UP_MS)
    world.desk.wait(GIVE_UP_MS)
    desk = world.desk
    assert desk.state.panels == ()
    triggers, outcomes = desk.records("trigger"), desk.records("outcome")
    assert Counter(record["token"] for record in triggers) == Counter(record["token"] for record in outcomes)
    assert max(Counter(record["token"] for record in triggers).values(), default=1) == 1
    assert len(desk.finals()) == len(outcomes) == desk.state.triggers
    assert [record["seq"] for record in triggers] == world.counted
    assert desk.state.passed == sum(record["outcome"] is Outcome.PASS for record in outcomes)
    _passed_means_the_plc_passed(desk)


def _passed_means_the_plc_passed(desk: Desk) -> None:
    acks = {record["token"]: record["code"] for record in desk.records("ack")}
    wrote = {write.token: write.outcome for write in desk.writes()}
    for record in desk.records("outcome"):
        assert (record["outcome"] is Outcome.PASS) == (acks.get(record["token"]) == ACK_PASSED)
        if record["outcome"] is Outcome.PASS and record["fault"] is None:
            assert wrote[record["token"]] is Outcome.PASS
        assert record["acknowledged"] == (record["token"] in acks)


@given(st.integers(0, (1 << 32) - 1), st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_no_number_is_lost_or_doubled_wherever_the_sequence_stands(start, jumps):
    desk = Desk(first_seq=start)
    seq = start
    for jump in jumps:
        seq = (seq + jump) % (1 << 32)
        desk.trigger(seq)
    named = [record["seq"] for record in desk.records("trigger")]
    assert named == [(start + ahead) % (1 << 32) for ahead in range(1, sum(jumps) + 1)]


@given(st.permutations([6, 7, 8, 9]), st.integers(1, 4))
def test_triggers_that_one_look_shows_together_are_all_opened(order, shown):
    desk = Desk(first_seq=5)
    for seq in sorted(order[:shown]):
        desk.slots[seq % 4] = replace(desk.slots[seq % 4], trigger_seq=seq, recipe_no=RECIPE_NO, window_ms=1000)
    desk.look()
    assert [trigger.seq for trigger in desk.routed()] == sorted(order[:shown])
