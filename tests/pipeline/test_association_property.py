"""A camera, a PLC and a belt in simulated time, with edges and frames dropped and added at random.

What the association pairs is held against what was exposed for which panel, which only the simulation knows.
"""

import heapq
from dataclasses import dataclass, field
from itertools import count

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from pipeline.association import Confirmed, FrameSeen, Paired, Rearm, Refused, Rules, State, Tick, TriggerSeen, step
from pipeline.messages import Fault

MS = 1_000_000
CHANNELS, SPACING_MS = 4, 5
RULES = Rules(CHANNELS, early_ns=50 * MS, exposure_ns=150 * MS, settle_ns=60 * MS, quiet_ns=11 * MS)
LEAST_TAKT_MS = 201  # from here on windows do not overlap
NOBODY = -1
KINDS = (
    "nothing",
    "missed edge",  # the camera does not see it
    "unseen trigger",  # the bridge does not see it
    "extra edge",  # an edge without a panel, 70 ms before the panel's own
    "extra edge inside the window",  # the same, 30 ms before it
    "edge after",  # 60 ms after the panel's own
    "lost frame",  # counted, never delivered
    "unexposed frame",  # not even counted
    "double frame",  # exposed and counted twice
    "unusable frame",
)


@dataclass(frozen=True)
class Course:
    """One panel: what goes wrong at it, at which channel, and how late the bridge and the announcement are."""

    wrong: str
    channel: int
    takt_ms: int
    bridge_ms: int  # edge as the bridge saw it, after the edge
    message_ms: int  # and the announcement after that


@dataclass
class Line:
    """Runs the courses through `step`, in the order of time."""

    courses: list[Course]
    arming_ms: int
    state: State = field(default_factory=lambda: State(RULES))
    counter: int = 0
    armed_ms: float = -1.0
    exposed: dict[int, tuple[int, int]] = field(default_factory=dict)  # counter since arming -> panel, channel
    paired: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # panel -> what it was paired with
    pairs: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # the confirmed ones among them
    refused: dict[int, Fault] = field(default_factory=dict)
    queue: list[tuple[float, int, str, tuple]] = field(default_factory=list)
    order: count = field(default_factory=count)

    def at(self, ms: float, what: str, *about: float | str) -> None:
        heapq.heappush(self.queue, (ms, next(self.order), what, about))

    def run(self) -> "Line":
        now = 100
        for panel, course in enumerate(self.courses):
            self._plan(panel, course, now)
            now += course.takt_ms
        for ms in range(0, now + 1000, 10):
            self.at(ms, "tick")
        while self.queue:
            ms, _, what, about = heapq.heappop(self.queue)
            getattr(self, "_" + what)(ms, *about)
        return self

    def _plan(self, panel: int, course: Course, ms: int) -> None:
        wrong = course.wrong
        if wrong != "unseen trigger":
            seen = ms + course.bridge_ms
            self.at(seen + course.message_ms, "announce", panel, seen)
        if wrong != "missed edge":
            for channel in range(CHANNELS):
                shown = wrong if channel == course.channel else ""
                if shown != "unexposed frame":
                    self.at(ms + SPACING_MS * channel, "expose", panel, channel, shown)
                if shown == "double frame":
                    self.at(ms + SPACING_MS * channel + 1, "expose", panel, channel, "")
        beside = {"extra edge": -70, "extra edge inside the window": -30, "edge after": 60}.get(wrong)
        if beside is not None:
            for channel in range(CHANNELS):
                self.at(ms + beside + SPACING_MS * channel, "expose", NOBODY, channel, "")

    # --- what happens ---

    def _tick(self, ms: float) -> None:
        self._tell(Tick(round(ms * MS)), ms)

    def _announce(self, ms: float, panel: int, edge_ms: float) -> None:
        self._tell(TriggerSeen(str(panel), panel, round(edge_ms * MS)), ms)

    def _expose(self, ms: float, panel: int, channel: int, wrong: str) -> None:
        if ms < self.armed_ms:
            return
        self.exposed[self.counter] = panel, channel
        if wrong != "lost frame":
            self.at(ms + SPACING_MS, "deliver", self.counter, ms, self.armed_ms, wrong == "unusable frame")
        self.counter += 1

    def _deliver(self, ms: float, counter: int, exposed_ms: float, armed_ms: float, unusable: bool) -> None:
        if armed_ms == self.armed_ms:
            problem = Fault.CAMERA if unusable else None
            self._tell(FrameSeen(counter, round(exposed_ms * MS), problem), ms)

    def _tell(self, seen: FrameSeen | TriggerSeen | Tick, ms: float) -> None:
        self.state, results = step(self.state, seen)
        for result in results:
            match result:
                case Paired(token, index):
                    numbers = range(index * CHANNELS, (index + 1) * CHANNELS)
                    self.paired[int(token)] = [self.exposed[number] for number in numbers]
                case Confirmed(token):
                    self.pairs[int(token)] = self.paired[int(token)]
                case Refused(token, fault):
                    self.refused[int(token)] = fault
                case Rearm():
                    self.counter, self.armed_ms = 0, ms + self.arming_ms + 0.001
                    self.exposed = {}


@st.composite
def lines(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, least_takt_ms: int = LEAST_TAKT_MS + 70) -> Line:
    wrong = draw(st.lists(st.one_of(st.just("nothing"), st.sampled_from(kinds)), min_size=1, max_size=10))
    courses = [
        Course(
            kind,
            draw(st.integers(0, CHANNELS - 1)),
            draw(st.integers(least_takt_ms, 400)),
            draw(st.integers(0, 15)),
            draw(st.integers(0, 35)),
        )
        for kind in wrong
    ]
    return Line(courses, draw(st.integers(0, 20)))


def line_of(*wrong: str, message_ms: int = 2, takt_ms: int = 300) -> Line:
    return Line([Course(kind, 1, takt_ms, 2, message_ms) for kind in wrong], arming_ms=1)


@example(line_of("nothing", "missed edge", "nothing", "nothing", message_ms=35))
@example(line_of("nothing", "extra edge inside the window", "nothing", "nothing"))
@example(line_of("unexposed frame", "double frame", "nothing"))
@example(line_of("unseen trigger", "missed edge", "nothing", "nothing"))
@given(lines())
@settings(max_examples=300, deadline=None)
def test_a_trigger_gets_the_frames_exposed_for_it_or_none(line):
    line.run()
    for panel, frames in line.pairs.items():
        of_a_neighbour = {whose for whose, _ in frames} - {panel, NOBODY}
        assert not of_a_neighbour, f"panel {panel} got {frames}"
        if frames != [(panel, channel) for channel in range(CHANNELS)]:
            assert panel in line.refused  # an edge too many inside its own window: taken back
            event("taken back")
    event(f"{len(line.pairs) > 0}: something was paired")


@given(lines(kinds=("double frame", "unexposed frame", "lost frame", "missed edge"), least_takt_ms=LEAST_TAKT_MS))
@settings(max_examples=200, deadline=None)
def test_a_set_with_a_frame_too_many_or_too_few_is_never_confirmed(line):
    line.run()
    for panel, frames in line.pairs.items():
        assert frames == [(panel, channel) for channel in range(CHANNELS)]


@example(line_of("missed edge", "nothing", "nothing", takt_ms=100, message_ms=35))
@given(lines(kinds=("missed edge", "lost frame", "unexposed frame"), least_takt_ms=80))
@settings(max_examples=150, deadline=None)
def test_on_a_line_faster_than_its_windows_a_neighbours_set_is_taken_back(line):
    line.run()
    for panel, frames in line.pairs.items():
        if frames != [(panel, channel) for channel in range(CHANNELS)]:
            assert panel in line.refused
            event("taken back")


@given(lines())
@settings(max_examples=150, deadline=None)
def test_every_announced_trigger_is_answered(line):
    line.run()
    announced = {panel for panel, course in enumerate(line.courses) if course.wrong != "unseen trigger"}
    assert line.pairs.keys() | line.refused.keys() == announced
    assert line.state.windows == () and line.state.frames == ()


@given(lines(), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_after_two_clean_triggers_everything_is_paired_again(line, more):
    dirty = len(line.courses)
    line.courses += [Course("nothing", 0, 300, 2, 2)] * (2 + more)
    line.run()
    clean = range(dirty + 2, dirty + 2 + more)
    assert all(line.pairs[panel] == [(panel, channel) for channel in range(CHANNELS)] for panel in clean)
    assert not line.refused.keys() & set(clean)


@given(lines(kinds=("nothing",)))
@settings(max_examples=60, deadline=None)
def test_a_clean_line_loses_no_panel(line):
    line.run()
    assert list(line.pairs) == list(range(len(line.courses))) and not line.refused


@given(lines(kinds=("nothing", "unusable frame")))
@settings(max_examples=60, deadline=None)
def test_unusable_frames_cost_their_own_panels_alone(line):
    line.run()
    spoiled = {panel for panel, course in enumerate(line.courses) if course.wrong == "unusable frame"}
    assert line.refused == dict.fromkeys(spoiled, Fault.CAMERA)
    assert line.pairs.keys() == set(range(len(line.courses))) - spoiled
