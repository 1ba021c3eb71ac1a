"""Runs one row of the process table: in a fork, or by `python -m pipeline.stage NAME RUN.json PARENT`."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType

from pipeline.bus import Bus
from pipeline.config import LineConfig
from pipeline.curve import curve_of
from pipeline.errors import TaktError
from pipeline.log import bound_output, catch_all, log_file, logger, to_file, to_stderr
from pipeline.messages import Health
from pipeline.metrics import Metrics
from pipeline.scrape import scraped
from pipeline.stages import HALT, stages

LOG = logger("stage")
TELL_EVERY_NS = 200_000_000
PR_SET_PDEATHSIG = 1
AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_TRIES, AUTOGROUP_PAUSE_S = 20, 0.05


class Life:
    """A stage's end of the supervisor's watch: has it been asked to stop, and how does it say that it is well."""

    def __init__(self, bus: Bus, config: LineConfig, name: str, metrics: Metrics) -> None:
        self.name, self.metrics = name, metrics
        self.stopping = False
        self._port = bus.pub(config.socket(f"health-{name}"), "health")
        self._state, self._told_ns = "", 0
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def tell(self, state: str, text: str = "", counters: Mapping[str, int | float] | None = None) -> None:
        """Publish health; call it at every loop turn, it thins itself out."""
        now = time.monotonic_ns()
        if state == self._state and now - self._told_ns < TELL_EVERY_NS:
            return
        if state != self._state:
            LOG.info("state", extra={"state": state, "text": text})
        self._state, self._told_ns = state, now
        bound_output()
        health = Health(stage=self.name, pid=os.getpid(), state=state, text=text, counters=dict(counters or {}))
        self._port.send("health", health)


def main(name: str, run_file: Path, supervisor: int) -> int:
    """Run the stage until it ends or is asked to stop; the process's exit status."""
    die_with(supervisor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's: it stops the stages in order
    to_stderr("", name)
    catch_all()
    config = LineConfig.model_validate_json(run_file.read_bytes())
    open_log(config, name)
    row = next(stage for stage in [*stages(config), HALT] if stage.name == name)
    prioritise(row.nice)  # before its threads are made, which inherit it
    try:
        with Bus(name, curve_of(config, name)) as bus:
            metrics = Metrics(config.station, name, row.module.rpartition(".")[2])
            metrics.read(bus.counted)
            with scraped(config, name, metrics):
                life = Life(bus, config, name, metrics)
                life.tell("starting")
                import_module(row.module).main(config, row.part, life, bus)
    except TaktError as error:
        LOG.error(str(error), extra={"fatal": True})
        return error.exit_status
    except Exception:
        LOG.exception("crashed", extra={"fatal": True})
        return 70
    return 0


def open_log(config: LineConfig, name: str, *, aloud: bool = False) -> None:
    """Send this process's log to its file; `aloud`: to stderr as well."""
    path = log_file(config.state, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file(config.station, name, path, int(config.logs.max_mb * 1e6), config.logs.keep, aloud=aloud)


def prioritise(nice: int) -> None:
    """Add to what the line was started with, as far as the system allows it.

    A stage is a session of its own, and Linux shares the processors among sessions before it does inside them
    (sched(7), autogroup), so that the session's nice value is what other stages feel.
    """
    with suppress(PermissionError):
        os.nice(nice)
    own = os.nice(0)
    for _ in range(AUTOGROUP_TRIES if own else 0):  # a new session's is 0
        try:
            AUTOGROUP.write_text(str(own))
        except BlockingIOError:  # who is not root may set one every 100 ms, all processes together
            time.sleep(AUTOGROUP_PAUSE_S)
        except OSError:  # not this system's way, or not allowed
            return
        else:
            return


def die_with(supervisor: int) -> None:
    """Linux: no stage outlives a supervisor that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it was killed before that call
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
