"""Forget one guard at a time of what decides about a pass, and see a test fail: `deploy/mutate-guards`.

Every mutant runs in a process of its own, forked from one that has imported all but the mutated modules; the files
of the package stay as they are. Exit status 0: every mutant was killed, but for those of `equivalent.toml`.
"""

import argparse
import importlib.abc
import importlib.util
import json
import os
import select
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

from guards import Mutant, mutants

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
HANDSHAKE = [
    "test_decision.py",
    "test_handshake.py",
    "test_handshake_course.py",
    "test_handshake_count.py",
    "test_handshake_conflicts.py",
    "test_handshake_guards.py",
    "test_handshake_swap.py",
    "test_handshake_exploration.py",
    "test_handshake_property.py",
    "test_late_looks.py",
]
ASSOCIATION = ["test_association.py", "test_association_guards.py", "test_association_property.py"]
SLOWER = ("exploration", "property", "late_looks")
OF_HANDSHAKE = ("handshake", "triggers", "panel_steps", "decision")
TESTS = {f"pipeline.{name}": HANDSHAKE for name in OF_HANDSHAKE} | {"pipeline.association": ASSOCIATION}
LONG = "tests/pipeline/test_handshake_exploration.py::test_three_panels_in_flight_with_one_thing_wrong"
KILLED, SURVIVED, TIMED_OUT = "killed", "SURVIVED", "killed by time-out"


@dataclass(frozen=True)
class Fate:
    """What became of a mutant; `test` is the one that killed it."""

    mutant: Mutant
    verdict: str
    seconds: float
    test: str = ""


class _Forgetful(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Imports one module from a mutant's source."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=self.get_filename(fullname))

    def get_filename(self, fullname: str) -> str:
        return f"<{self._mutant.name}>"

    def get_data(self, path: str) -> bytes:
        return self._mutant.source.encode()

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._mutant.source, self.get_filename(fullname), "exec")


def all_mutants(functions: Sequence[str]) -> list[Mutant]:
    """Of all modules; `functions`, as "decision.proves", choose among them."""
    found = []
    for module in TESTS:
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        found += mutants(module, source)
    chosen = {f"pipeline.{name}" for name in functions}
    known = {f"{mutant.module}.{mutant.function}" for mutant in found}
    if chosen - known:
        sys.exit(f"no guards in {', '.join(sorted(chosen - known))}")
    return [mutant for mutant in found if not chosen or f"{mutant.module}.{mutant.function}" in chosen]


def equivalent() -> dict[str, str]:
    """The mutants that no test can tell from the module, with the reason."""
    return tomllib.loads(EQUIVALENT.read_text())["equivalent"]


def _tests(module: str, quick: bool) -> list[str]:
    names = [name for name in TESTS[module] if not quick or not any(kind in name for kind in SLOWER)]
    return [str(ROOT / "tests" / "pipeline" / name) for name in names]


def _warm() -> None:
    """Import what the tests import, but for the modules that change."""
    import hypothesis
    import pytest

    import pipeline.frames
    import pipeline.messages
    import pipeline.open_panels

    assert pytest and pipeline and hypothesis
    assert not TESTS.keys() & sys.modules.keys()
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None)


def _child(mutant: Mutant | None, said: Path, tests: Sequence[str]) -> int:
    """Run the tests on a mutant and name the first that fails; 0: none did."""
    import pytest

    class Witness:
        @staticmethod
        def pytest_runtest_logreport(report: pytest.TestReport) -> None:
            if report.failed:
                said.write_text(report.nodeid)

    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.setsid()
    if mutant:
        sys.meta_path.insert(0, _Forgetful(mutant))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--hypothesis-profile=mutants"]
    options += ["--deselect", LONG]  # what it shows, the smaller walks show as well
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # it would rather import hypothesis itself
    return int(pytest.main([*options, f"--rootdir={ROOT}", *tests], plugins=[Witness()]))


def _fork(mutant: Mutant | None, said: Path, tests: Sequence[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        status = _child(mutant, said, tests)
    except BaseException:
        said.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _waited(pid: int, timeout_s: float) -> int | None:
    """The exit status, None when it took too long and was ended."""
    descriptor = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) if ready else None
    finally:
        os.close(descriptor)


def _tried(mutant: Mutant | None, tests: Sequence[str], timeout_s: float) -> Fate:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        status = _waited(_fork(mutant, said, tests), timeout_s)
        test = said.read_text() if said.exists() else ""
    verdict = TIMED_OUT if status is None else SURVIVED if status == 0 else KILLED
    shown = mutant or Mutant("", "", "", "", 0, "")
    return Fate(shown, verdict, time.monotonic() - began, test or f"exit status {status}")


def _worker(found: list[Mutant], quick: bool, timeout_s: float, out: Path) -> None:
    with out.open("w") as file:
        for mutant in found:
            fate = _tried(mutant, _tests(mutant.module, quick), timeout_s)
            row = {"name": mutant.name, "verdict": fate.verdict, "seconds": fate.seconds, "test": fate.test}
            file.write(json.dumps(row) + "\n")
            file.flush()


def fates(found: list[Mutant], processes: int, timeout_s: float, *, quick: bool = False) -> Iterator[Fate]:
    """Every mutant's fate; the mutants are dealt out to the processes."""
    by_name = {mutant.name: mutant for mutant in found}
    with tempfile.TemporaryDirectory() as folder:
        outs, pids = [], []
        for number in range(processes):
            outs.append(Path(folder) / str(number))
            pids.append(os.fork())
            if not pids[-1]:
                try:
                    _worker(found[number::processes], quick, timeout_s, outs[-1])
                finally:
                    os._exit(0)
        for pid in pids:
            os.waitpid(pid, 0)
        for row in (json.loads(line) for out in outs for line in out.read_text().splitlines()):
            yield Fate(by_name[row["name"]], row["verdict"], row["seconds"], row["test"])


def _report(all_fates: list[Fate], excused: dict[str, str], seconds: float) -> list[str]:
    """Print it; returns what is wrong."""
    survivors = [fate.mutant for fate in all_fates if fate.verdict == SURVIVED]
    wrong = [f"{mutant.name} (line {mutant.line})" for mutant in survivors if mutant.name not in excused]
    tried = {fate.mutant.name for fate in all_fates}
    killed = {fate.mutant.name for fate in all_fates if fate.verdict != SURVIVED}
    wrong += [f"{name} is called equivalent, but a test fails" for name in excused if name in killed]
    counts = Counter(fate.verdict for fate in all_fates)
    equal = sum(mutant.name in excused for mutant in survivors)
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{len(tried)} guards forgotten one at a time in {seconds:.0f} s: {said}, {equal} of them equivalent")  # noqa: T201
    for line in wrong:
        print(f"survives: {line}")  # noqa: T201
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="*", help="as decision.proves; none: all guards of all modules")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="for one mutant")
    parser.add_argument("--quick", action="store_true", help="only the tests that state one thing each")
    parser.add_argument("--list", action="store_true", help="only name the mutants")
    parser.add_argument("--fates", action="store_true", help="also say what became of each")
    asked = parser.parse_args()
    found = all_mutants(asked.functions)
    if asked.list:
        print("\n".join(mutant.name for mutant in found))  # noqa: T201
        return 0
    excused, names = equivalent(), {mutant.name for mutant in found}
    if not asked.functions and excused.keys() - names:
        sys.exit(f"{EQUIVALENT.name} names what is not there: {sorted(excused.keys() - names)}")
    os.chdir(ROOT)
    _warm()
    for module in sorted({mutant.module for mutant in found}):
        fate = _tried(None, _tests(module, asked.quick), asked.timeout)
        if fate.verdict != SURVIVED:
            sys.exit(f"the tests of {module} fail without any mutant: {fate.test}")
    began = time.monotonic()
    all_fates = list(fates(found, asked.processes, asked.timeout, quick=asked.quick))
    if asked.fates:
        for fate in all_fates:
            print(f"{fate.seconds:6.1f} s  {fate.verdict}: {fate.mutant.name}  [{fate.test}]")  # noqa: T201
    return 1 if _report(all_fates, excused, time.monotonic() - began) else 0


if __name__ == "__main__":
    sys.exit(main())
