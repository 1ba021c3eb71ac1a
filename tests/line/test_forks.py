"""Stages are forks of one process: what it is to their supervisor, and what its own end costs."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from harness import Line, assert_accounted, fork_server

from pipeline.config import load
from pipeline.fork_server import Child, Order
from pipeline.stages import stages
from pipeline.supervisor import Supervisor

ENDLESS = {"settings": {"panels": 0}}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "stage.out"


def never_a_stage(output: Path) -> Child:
    """A process that ends at once, since it is given no run file."""
    return fork_server().start(Order("archiver", str(output.parent / "none"), str(output), os.getpid()))


def test_its_end_and_its_words_are_the_supervisors(output: Path) -> None:
    child = never_a_stage(output)
    assert child.wait(20) == child.poll() == child.returncode == 1
    assert "FileNotFoundError" in output.read_text()
    child.kill()  # too late, and nobody else is hit
    assert child.returncode == 1


def test_each_goes_when_its_row_says_and_a_signal_that_ended_one_is_told(start: Callable[..., Line]) -> None:
    line = start(conveyor=ENDLESS)
    process = line.supervisor.running["archiver"].process
    assert process.poll() is None and psutil.Process(process.pid).ppid() == os.getpid()
    assert psutil.Process(process.pid).name() == "takt:archiver"
    line.until_passing_again()
    for name, nice in {stage.name: stage.nice for stage in stages(line.config)}.items():
        process_id = line.supervisor.running[name].process.pid
        allowed = nice >= 0 or os.geteuid() == 0  # who may not goes behind nobody
        threads = [each.id for each in psutil.Process(process_id).threads()] if name != "archiver" else [process_id]
        expected = min(max(os.nice(0) + nice * allowed, -20), 19)
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {expected}, name
        group = Path(f"/proc/{process_id}/autogroup")  # by which Linux shares the processors among sessions
        assert not group.exists() or group.read_text().split()[-2:] == ["nice", str(expected)], name
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_what_makes_them_ends_no_stage_and_keeps_none_from_coming_back(
    line_file: Callable[..., Path], number: signal.Signals
) -> None:
    config = load(line_file(conveyor=ENDLESS))
    before = set(psutil.Process().children())
    with Supervisor(config) as supervisor:
        line = Line(config, supervisor)
        line.until_all_up()  # one that falls before it was heard of is taken for a mistake in the line file
        line.until_passing_again()
        [server] = [each for each in psutil.Process().children() if each not in before and is_server(each)]
        server.send_signal(number)
        old = line.kill("inspector")
        line.until_restarted("inspector", old)
        line.until_passing_again()
        assert set(supervisor.restarted) == {"inspector"}
    assert_accounted(config)
    assert not [each for each in psutil.Process().children() if each not in before]


def test_a_fork_that_its_supervisor_was_not_told_of_never_begins(output: Path) -> None:
    fork_server()  # makes this process the parent of forks that are left alone
    before = set(psutil.Process().children())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        order = Order("archiver", str(output.parent / "none"), str(output), os.getpid())
        ours.send(json.dumps(asdict(order)).encode())
        ours.close()
        number = theirs.fileno()
        command = [sys.executable, "-m", "pipeline.fork_server", str(number), str(os.getpid())]
        server = subprocess.run(command, pass_fds=[number], capture_output=True, text=True, timeout=20)
    assert "BrokenPipeError" in server.stderr
    psutil.wait_procs([each for each in psutil.Process().children() if each not in before], 20)
    assert not output.exists()


def is_server(process: psutil.Process) -> bool:
    return "pipeline.fork_server" in process.cmdline() and not process.name().startswith("takt:")


def test_no_thread_runs_in_what_is_forked(line_file: Callable[..., Path]) -> None:
    """A lock that another thread holds at that moment would be held for ever in the fork."""
    modules = [stage.module for stage in stages(load(line_file())) if stage.needed]
    program = f"import threading, {', '.join(modules)}; print(threading.active_count())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "1\n"
