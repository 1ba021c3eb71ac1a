"""Programs that are run by hand start at all: each is loaded as its own process would load it, from one warm parent."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent / "bench"
PROGRAM = """
import os, runpy, sys, traceback
import torch, onnx, onnxruntime, cv2, typer, pydantic, httpx  # what most of them need: imported once, then shared
import calibration.metrics, calibration.train, pipeline.bench.storm, pipeline.cli, pipeline.engine_room
import pipeline.review.desk
failed = []
for script in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        sys.argv = [script]
        sys.path[0] = os.path.dirname(script)
        try:
            runpy.run_path(script, run_name="loaded")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        failed.append(script)
sys.exit(" ".join(failed) or 0)
"""
ELSEWHERE = {"anomalib_peer.py"}  # runs in another program's environment


def test_each_can_be_loaded() -> None:
    scripts = sorted(str(path) for path in BENCH.glob("*.py") if path.name not in ELSEWHERE)
    assert len(scripts) > 10
    told = subprocess.run([sys.executable, "-c", PROGRAM, *scripts], capture_output=True, text=True, cwd=BENCH)
    assert told.returncode == 0, told.stderr
