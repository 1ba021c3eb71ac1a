"""Who is there: the stages' signs of life as the bridge hears them, and the kernel's word that a process has ended.

A heartbeat finds a stage that hangs, on any host, once it is older than its stall. A process of this host that has
ended is known at once: its pid, which its heartbeat names, is held open.
"""

import os
import select
from dataclasses import dataclass, field

from pipeline.config import LineConfig
from pipeline.curve import is_local
from pipeline.messages import Health, Loaded, Presence
from pipeline.open_panels import Panel
from pipeline.stages import inspectors

STALL_MS = 400  # of a stage that inspects nothing, and the least of one that does
MS = 1_000_000


class Lifelines:
    """Processes of this host by name, each until it ends."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._held: dict[str, tuple[int, int]] = {}  # name -> pid, descriptor
        self._gone: dict[str, int] = {}  # the pid that ended last

    def hold(self, name: str, pid: int) -> bool:
        """Watch `pid` under `name`; False where that process is known to have ended."""
        if name in self._held and self._held[name][0] == pid:
            return True
        self._let_go(name)
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # not of this namespace, or not allowed: its heartbeat alone tells
            return self._gone.get(name) != pid
        self._held[name] = (pid, descriptor)
        self._poll.register(descriptor, select.POLLIN)
        return True

    def ended(self) -> list[str]:
        """The names whose process has ended since the last call."""
        over = {descriptor for descriptor, _ in self._poll.poll(0)}
        names = [name for name, (_, descriptor) in self._held.items() if descriptor in over]
        for name in names:
            self._gone[name] = self._held[name][0]
            self._let_go(name)
        return names

    def _let_go(self, name: str) -> None:
        if name in self._held:
            _, descriptor = self._held.pop(name)
            self._poll.unregister(descriptor)
            os.close(descriptor)


@dataclass
class Seen:
    """The last sign of life of a stage."""

    presence: Presence
    at_ns: int

    def holds(self, needed: frozenset[Loaded]) -> bool:
        return needed <= frozenset(self.presence.loaded)


@dataclass
class Peers:
    """The stages that the bridge needs, and which inspector gets the next panel."""

    config: LineConfig
    needed: frozenset[Loaded] = frozenset()  # what an inspector holds that may get panels
    _seen: dict[str, Seen] = field(default_factory=dict)
    _lifelines: Lifelines = field(default_factory=Lifelines)
    _assigned: str | None = None
    _archived_ns: int | None = None  # when the archiver last said that it keeps everything

    def heard(self, presence: Presence, now_ns: int) -> None:
        """A sign of life; one that a process left behind when it ended is none."""
        here = is_local(self.config.bridge_socket)
        if not (here and presence.pid) or self._lifelines.hold(presence.stage, presence.pid):
            self._seen[presence.stage] = Seen(presence, now_ns)

    def fallen(self) -> list[str]:
        """Stages whose process has ended since the last call; they are not there until the next one speaks."""
        names = self._lifelines.ended()
        for name in names:
            self._seen.pop(name, None)
        return names

    def inspectors(self, now_ns: int) -> list[str]:
        """Those whose last loop turn is young, whose engine is well, and who hold every recipe in use."""
        young = [name for name in inspectors(self.config) if self._young(name, now_ns)]
        return [name for name in young if self._seen[name].holds(self.needed)]

    def ready(self, now_ns: int) -> dict[str, Presence]:
        """What they said last."""
        return {name: self._seen[name].presence for name in self.inspectors(now_ns)}

    def missing(self, now_ns: int) -> list[str]:
        """Who is not there that the line cannot do without, in words."""
        missing = [] if self.inspectors(now_ns) else ["inspector"]
        captures = [f"capture_{camera.name}" for camera in self.config.cameras]
        missing += [name for name in captures if not self._young(name, now_ns)]
        return missing if self._is_kept(now_ns) else [*missing, "archiver, which cannot keep evidence"]

    def archives(self, health: Health, now_ns: int) -> None:
        """The archiver's word."""
        self._archived_ns = now_ns if health.state == "ready" else None

    def _is_kept(self, now_ns: int) -> bool:
        """Whether evidence is, where the line file asks for it."""
        silence_ns = self.config.supervisor.silent_s * 1000 * MS  # it tells nothing while it compresses a panel
        said_ns = self._archived_ns
        return not self.config.archive.required or (said_ns is not None and now_ns - said_ns < silence_ns)

    def assigned(self, now_ns: int) -> str | None:
        """The inspector of the next panel: the same as long as it is there, then the one with the most credits."""
        there = self.inspectors(now_ns)
        if self._assigned not in there:
            self._assigned = max(there, key=lambda name: self._seen[name].presence.credits, default=None)
        return self._assigned

    def ages_s(self, now_ns: int) -> dict[tuple[str, ...], float]:
        """Since each stage was heard last."""
        return {(name,): (now_ns - seen.at_ns) / 1e9 for name, seen in list(self._seen.items())}

    def _young(self, name: str, now_ns: int) -> bool:
        seen = self._seen.get(name)
        return seen is not None and seen.presence.ready and now_ns - seen.at_ns < self._stall_ns(seen.presence)

    def _stall_ns(self, presence: Presence) -> int:
        """Twice what the largest batch took when the engine was warmed; who is busy for a window passes nothing."""
        timing = self.config.timing
        derived = max(STALL_MS, min(2 * presence.batch_ms, timing.window_ms))
        return (derived if timing.stall_ms is None else timing.stall_ms) * MS


def waits_for(panel: Panel, stage: str) -> bool:
    """True while nothing was written for the panel and the stage has not said its part."""
    if panel.written or not panel.inspector:
        return False
    if stage == panel.inspector:
        return panel.verdict is None
    return stage.startswith("capture_") and stage.removeprefix("capture_") not in dict(panel.captured)
