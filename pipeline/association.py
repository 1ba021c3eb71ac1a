"""Which frames belong to which trigger. Pure: no socket, no clock.

A set belongs to a trigger only if the camera's own frame counter since arming equals the trigger's number and
every exposure lies inside that trigger's window; windows never overlap. Any gap, surplus or early frame rejects
both neighbours, the trigger it was seen in (or after) and the next one, and arms the camera anew: at once, so that
nothing old is left, and again in the next pause between two panels, since a camera armed in the middle of a set
counts wrong from the first frame on. A frame is never kept for a trigger that could not have caused it.

A full set is `Paired` at once and `Confirmed` only when no surplus frame followed it for `quiet_ns`: inspection starts
with the first and no pass is possible before the second.
"""

from dataclasses import dataclass, replace

from pipeline.messages import Fault

WRAP = 1 << 32


@dataclass(frozen=True)
class Rules:
    """What the line file fixes. All times in nanoseconds."""

    channels: int
    early_ns: int  # an exposure may begin this long before the edge as the bridge saw it
    exposure_ns: int  # and this long after it
    settle_ns: int  # a frame may be delivered this long after its window; a trigger this long after its frames
    quiet_ns: int  # longer than from one exposure of a set to the delivery of the next; shorter than between panels


@dataclass(frozen=True)
class Window:
    """One open trigger."""

    token: str
    number: int  # of its set since arming
    edge_ns: int
    opens_ns: int
    closes_ns: int
    got: int = 0
    fault: Fault | None = None


@dataclass(frozen=True)
class FrameSeen:
    """A frame came out of the camera; `problem` says that it has no usable pixels."""

    counter: int
    exposed_ns: int
    problem: Fault | None = None


@dataclass(frozen=True)
class TriggerSeen:
    """The bridge announced a panel."""

    token: str
    seq: int
    edge_ns: int


@dataclass(frozen=True)
class Tick:
    """Time has passed."""

    now_ns: int


@dataclass(frozen=True)
class Paired:
    """Set number `index` since arming is the trigger's."""

    token: str
    index: int


@dataclass(frozen=True)
class Confirmed:
    """The set paired for this trigger was the whole set: nothing followed it."""

    token: str


@dataclass(frozen=True)
class Refused:
    """The trigger gets no set; `index` names the one that nobody gets now, of which `got` frames were its own."""

    token: str
    fault: Fault
    index: int | None = None
    got: int = 0


@dataclass(frozen=True)
class Rearm:
    """Throw away every frame and count from 0 again."""


Event = FrameSeen | TriggerSeen | Tick
Result = Paired | Confirmed | Refused | Rearm


@dataclass(frozen=True)
class State:
    """What is open: windows without their frames, frames without their window."""

    rules: Rules
    first_seq: int | None = None  # the trigger of frame 0 since arming
    windows: tuple[Window, ...] = ()
    frames: tuple[FrameSeen, ...] = ()
    last: Window | None = None  # the set paired last
    unconfirmed: Window | None = None  # the same, until it is known that nothing followed it
    tainted: bool = False  # the next trigger is a neighbour of an irregularity
    seeking: bool = False  # after an irregularity, until the pause in which the camera is armed
    heard_ns: int = 0  # exposure of the newest frame


def step(state: State, event: Event) -> tuple[State, list[Result]]:
    """The next state and what to do now, in order."""
    match event:
        case TriggerSeen(token) if state.seeking:
            return state, [Refused(token, Fault.ASSOCIATION)]
        case FrameSeen(_, exposed_ns) if state.seeking:
            return replace(state, heard_ns=exposed_ns), []
        case TriggerSeen():
            opened = _opened(state, event)
            return _irregular(opened, early=True) if _strayed(state, event) else _match(opened)
        case FrameSeen():
            return _match(replace(state, frames=(*state.frames, event), heard_ns=event.exposed_ns))
        case Tick(now_ns) if state.seeking:
            return _armed(state, now_ns)
        case Tick(now_ns):
            state, confirmed = _confirmed(state, now_ns)
            state, expired = _expired(state, now_ns)
            return state, [*confirmed, *expired]


def due_ns(state: State) -> int | None:
    """When the next tick has something to confirm or to arm; None when it has not."""
    if state.seeking:
        return state.heard_ns + state.rules.quiet_ns
    return state.unconfirmed.closes_ns + state.rules.quiet_ns if state.unconfirmed else None


def _strayed(state: State, trigger: TriggerSeen) -> bool:
    """The set paired last goes on so near to this edge that its end, or all of it, may be this trigger's.

    That is how a missed edge shows on a line whose panels follow faster than the exposure window is long. Near
    is `early_ns`, and on a line faster than four times that, a quarter of the time from edge to edge.
    """
    last = state.last
    if last is None:
        return False
    near_ns = min(state.rules.early_ns, (trigger.edge_ns - last.edge_ns) // 4)
    return last.closes_ns >= trigger.edge_ns - near_ns


def _opened(state: State, trigger: TriggerSeen) -> State:
    """The trigger's window, cut off the one before it so that they never overlap."""
    rules, before = state.rules, state.windows
    opens = trigger.edge_ns - rules.early_ns
    if before:
        before = (*before[:-1], replace(before[-1], closes_ns=min(before[-1].closes_ns, opens)))
    elif state.last:
        opens = max(opens, state.last.closes_ns)
    fault = Fault.ASSOCIATION if state.tainted else None
    closes = trigger.edge_ns + rules.exposure_ns
    first = trigger.seq if state.first_seq is None else state.first_seq
    number = (trigger.seq - first) % WRAP
    window = Window(trigger.token, number, trigger.edge_ns, opens, closes, fault=fault)
    return replace(state, first_seq=first, windows=(*before, window), tainted=False)


def _match(state: State) -> tuple[State, list[Result]]:
    results: list[Result] = []
    while state.windows and state.frames:
        frame, window = state.frames[0], state.windows[0]
        if not _fits(state, frame, window):
            irregular, refused = _irregular(state, early=frame.exposed_ns < window.opens_ns)
            return irregular, results + refused
        window = replace(window, got=window.got + 1, fault=window.fault or frame.problem)
        state = replace(state, frames=state.frames[1:], windows=(window, *state.windows[1:]))
        if window.got == state.rules.channels:
            # Its exposures are over: what is exposed from now on belongs to nobody or to the next trigger.
            closed = replace(window, closes_ns=frame.exposed_ns)
            results += _left_behind(state)
            results.append(_finished(window, frame.counter // state.rules.channels))
            state = replace(state, windows=state.windows[1:], last=closed, unconfirmed=None if window.fault else closed)
    return state, results


def _fits(state: State, frame: FrameSeen, window: Window) -> bool:
    in_order = frame.counter == window.number * state.rules.channels + window.got
    return in_order and window.opens_ns <= frame.exposed_ns <= window.closes_ns


def _finished(window: Window, index: int) -> Result:
    return Refused(window.token, window.fault, index, window.got) if window.fault else Paired(window.token, index)


def _left_behind(state: State) -> list[Result]:
    """The next set being full in its own window confirms the one before it."""
    return [Confirmed(state.unconfirmed.token)] if state.unconfirmed else []


def _confirmed(state: State, now_ns: int) -> tuple[State, list[Result]]:
    over = state.unconfirmed
    if over is None or state.frames or now_ns < over.closes_ns + state.rules.quiet_ns:
        return state, []
    return replace(state, unconfirmed=None), [Confirmed(over.token)]


def _armed(state: State, now_ns: int) -> tuple[State, list[Result]]:
    """Arm in a pause; the first trigger after it is still a neighbour."""
    if now_ns < state.heard_ns + state.rules.quiet_ns:
        return state, []
    return State(state.rules, tainted=True), [Rearm()]


def _irregular(state: State, *, early: bool = False) -> tuple[State, list[Result]]:
    """Both neighbours are rejected: what is open now and, `early` or if nothing is open, the set paired last.

    That one is rejected in any case while it is not confirmed.
    """
    refused: list[Result] = []
    if state.last and (early or not state.windows or state.unconfirmed):
        refused.append(Refused(state.last.token, Fault.ASSOCIATION))
    refused += [_unfinished(window) for window in state.windows]
    return State(state.rules, seeking=True, heard_ns=state.heard_ns), [*refused, Rearm()]


def _unfinished(window: Window) -> Refused:
    return Refused(window.token, window.fault or Fault.ASSOCIATION, window.number, window.got)


def _expired(state: State, now_ns: int) -> tuple[State, list[Result]]:
    settle = state.rules.settle_ns
    if state.windows and now_ns > state.windows[0].closes_ns + settle:
        late = replace(state.windows[0], fault=state.windows[0].fault or Fault.INCOMPLETE)
        return _irregular(replace(state, windows=(late, *state.windows[1:])))
    if state.frames and now_ns > state.frames[0].exposed_ns + settle:
        return _irregular(state)
    return state, []
