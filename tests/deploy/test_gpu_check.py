"""The unattended check where there is no card, and where there is one and nothing else: it says so, in files too."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOWS_A_CARD = '#!/bin/sh\necho "GPU 0: A card of tests (UUID: GPU-0)"\n'


@pytest.fixture
def no_card() -> None:
    if any(Path("/proc/driver/nvidia/gpus").glob("*")):
        pytest.skip("there is a card")


def checked(order: list[str], path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(order, cwd="/", env=environment, capture_output=True, text=True, timeout=120, check=False)


def passport(place: Path) -> dict:
    return json.loads((place / "passport.json").read_text())


@pytest.mark.usefixtures("no_card")
def test_without_a_card_it_says_so_in_one_line(tmp_path: Path) -> None:
    python = Path(sys.executable).parent
    done = checked(["sh", str(ROOT / "deploy/gpu-check"), str(tmp_path / "out")], f"{python}:/usr/bin:/bin")
    assert done.returncode == 3, done.stderr
    assert done.stdout == "TensorRT-RTX: not asked, there is no NVIDIA card here; nothing was run\n"
    assert "nothing was run" in (tmp_path / "out/report.md").read_text()
    found = passport(tmp_path / "out")
    assert found["format"] == 1 and found["rows"] is None and found["failed"] == []
    assert [one["what"] for one in found["skipped"]] == ["everything"]


@pytest.mark.usefixtures("no_card")
def test_a_card_and_a_bare_python_skip_everything_with_its_reason(tmp_path: Path) -> None:
    """No package is there: not even numpy. A step that cannot run is named, and nothing falls."""
    venv.create(tmp_path / "bare", with_pip=False)
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(SHOWS_A_CARD)
    tool.chmod(0o755)
    order = [str(tmp_path / "bare/bin/python"), str(ROOT / "deploy/gpu_check.py"), str(tmp_path / "out"), "--offline"]
    done = checked([*order, "--seconds", "100"], f"{tool.parent}:/usr/bin:/bin")
    found = passport(tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("TensorRT-RTX: not known whether it accepts compute capability unknown")
    assert "No module named 'tensorrt_rtx'" in done.stdout.splitlines()[0]
    assert found["rows"] == [] and found["failed"] == [] and found["machine"]["card"]["name"] == "unknown card"
    why = {one["what"]: one["why"] for one in found["skipped"]}
    assert why["installing numpy"] == "--offline" and why["tests_gpu"] == "pytest is not installed"
    for step in ("floors", "networks", "engine_torch_cuda_fp16", "engine_tensorrt_fp16", "engine_tensorrt_rtx_int8"):
        assert why[step].startswith(("needs ", "numpy is not there", "torch is not there", "pydantic is not")), why[
            step
        ]
    assert all(one["what"] in (tmp_path / "out/report.md").read_text() for one in found["skipped"])


def test_it_names_what_it_would_install() -> None:
    done = checked([sys.executable, str(ROOT / "deploy/gpu_check.py"), "--packages"])
    assert done.returncode == 0 and {"pydantic", "pycuda", "tensorrt-rtx-cu13"} <= set(done.stdout.split())


def test_wrong_use_is_one_line() -> None:
    done = checked([sys.executable, str(ROOT / "deploy/gpu_check.py")])
    assert done.returncode == 2 and "DIR" in done.stderr.splitlines()[-1]
