"""See `deploy/gpu-check`. Standard library alone: each step is a process of its own, which may fail, fall or hang.

DIR gets `passport.json` with every figure, `report.md` with the tables, and one log a step. Exit status: 0 all that
could run was in order, 1 something that ran was not, 3 nothing could: there is no NVIDIA card, or no runtime for it.
"""

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S, MARGIN_S = 480, 15
NO_CARD = "TensorRT-RTX: not asked, there is no NVIDIA card here; nothing was run"
# The module that shows whether it is there, and the packages that bring it: nothing else, since what is installed below
# DIR hides the machine's own.
WANTED: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "cv2": ("opencv-python-headless",),
    "pydantic": ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    "onnx": ("onnx", "ml-dtypes", "protobuf", "typing-extensions"),
    "onnxruntime": ("onnxruntime", "flatbuffers", "packaging", "protobuf"),
    "safetensors": ("safetensors",),
    "pytest": ("pytest", "iniconfig", "pluggy", "packaging", "pygments"),
    "hypothesis": ("hypothesis", "sortedcontainers"),
    "cuda.bindings": ("cuda-bindings", "cuda-pathfinder"),
    "cuda.bindings.nvrtc": ("nvidia-cuda-nvrtc",),
    "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
    "pycuda": ("pycuda", "pytools", "platformdirs", "mako", "markupsafe"),
}
COMPILED = ("pycuda",)
KINDS = ("torch_cuda", "tensorrt_rtx", "tensorrt")
ENGINES = tuple(
    (kind, precision)
    for precision in ("fp16", "int8", "fp32", "bf16")
    for kind in KINDS
    if (kind, precision) != ("torch_cuda", "int8")
)
ENGINE_S = {"tensorrt": 110}  # it measures what it compiles
QUANTILES = ("median", "p90", "p99", "max")


@dataclass
class Check:
    """One run: where it writes, until when, and what came of its steps."""

    place: Path
    ends: float
    found: dict[str, Any] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def left(self) -> float:
        return self.ends - time.monotonic()

    def skip(self, what: str, why: str) -> None:
        self.skipped.append({"what": what, "why": why})
        told(f"skipped {what}: {why}")

    def run(self, name: str, order: list[str], at_most: float, **environment: str) -> int | None:
        """A step's exit status; None where it was cut off, or no time was left for it."""
        seconds = min(at_most, self.left())
        if seconds < 5:
            self.skip(name, "no time was left")
            return None
        told(f"{name} (at most {seconds:.0f} s)")
        with (self.place / f"{name}.log").open("w") as log:
            try:
                done = subprocess.run(
                    order,
                    cwd=ROOT,
                    env=self.environment() | environment,
                    stdout=log,
                    stderr=log,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                self.failed.append({"what": name, "why": f"was not done after {seconds:.0f} s, see {name}.log"})
                return None
        return done.returncode

    def step(self, name: str, *arguments: str, at_most: float) -> Any:
        """What one step of `gpu_steps.py` found, None where it did not come to it."""
        answer = self.place / f"{name}.json"
        answer.unlink(missing_ok=True)
        status = self.run(name, [sys.executable, "deploy/gpu_steps.py", str(answer), *arguments], at_most)
        try:  # one that was cut off has written what it had
            found = json.loads(answer.read_text())
        except (OSError, ValueError):
            if status is None:
                return None
            self.failed.append({"what": name, "why": f"ended with {status}, see {name}.log"})
            return None
        if "skipped" in found:
            self.skip(name, found["skipped"])
        if "failed" in found:
            self.failed.append({"what": name, "why": found["failed"]})
        return found

    def environment(self) -> dict[str, str]:
        paths = [str(ROOT), str(self.place / "site"), os.environ.get("PYTHONPATH", "")]
        own = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        tools = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
        return {**os.environ, **own, "PATH": tools, "PYTHONUNBUFFERED": "1", "TAKT_GPU_CHECK": str(self.place)}


def main() -> int:
    given = _given()
    if given.packages:
        print(*dict.fromkeys(package for packages in WANTED.values() for package in packages))
        return 0
    given.dir.mkdir(parents=True, exist_ok=True)
    check = Check(given.dir.resolve(), time.monotonic() + given.seconds - MARGIN_S)
    if not there_is_a_card():
        check.found["answer"] = NO_CARD
        print(NO_CARD, flush=True)
        check.skip("everything", "there is no NVIDIA card: neither its driver nor nvidia-smi shows one")
        written(check)
        return 3
    install(check, given.wheels, given.offline)
    check.found["probe"] = check.step("probe", "probe", at_most=90) or {}
    check.found["answer"] = first_line(check.found["probe"])
    print(check.found["answer"], flush=True)
    measured(check)
    written(check)
    print((check.place / "report.md").read_text())
    return 1 if check.failed else 0 if check.found["rows"] else 3


def measured(check: Check) -> None:
    """Everything behind the first line, what matters most first."""
    check.found["floors"] = check.step("floors", "floors", at_most=60)
    networks = check.step("networks", "networks", str(check.place / "networks"), at_most=90) or {}
    check.found["networks"] = networks.get("networks", [])
    tests(check, "tests_gpu", ["tests/gpu"], 90)
    rows, parity = [], []
    for kind, precision in ENGINES:
        name = f"engine_{kind}_{precision}"
        found = check.step(name, "engine", kind, precision, str(check.place), at_most=ENGINE_S.get(kind, 60)) or {}
        rows += found.get("rows", [])
        parity += found.get("parity", [])
        if found.get("parity") and not all(one["granted"] for one in found["parity"]):
            check.failed.append({"what": name, "why": "its verdicts are not the reference's"})
    check.found |= {"rows": rows, "parity": parity}
    tests(check, "tests_runtimes", ["tests/engines/test_runtimes.py", "-k", "tensorrt or torch_cuda"], 60)


def tests(check: Check, name: str, what: list[str], at_most: float) -> None:
    if util.find_spec("pytest") is None and not (check.place / "site/pytest").is_dir():
        check.skip(name, "pytest is not installed")
        return
    report = check.place / f"{name}.xml"
    # The project's own options name plug-ins that may be missing here.
    options = ["-p", "no:cacheprovider", "-o", "addopts=", "-q", "-rs", f"--junitxml={report}"]
    status = check.run(name, [sys.executable, "-m", "pytest", *options, *what], at_most)
    check.found[name] = {"status": status}
    if status not in (0, 5, None):
        check.failed.append({"what": name, "why": f"tests failed, see {name}.log"})


def there_is_a_card() -> bool:
    """Cheap, and without any package; whether it can be used is asked later."""
    if any(Path("/proc/driver/nvidia/gpus").glob("*")) or any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "GPU 0" in listed.stdout


def install(check: Check, wheels: Path | None, offline: bool) -> None:
    """What is missing, below DIR alone: from a folder of wheels, or from the registry that pip is set up for."""
    site = check.place / "site"
    for module, packages in WANTED.items():
        if present(module, site):
            continue
        if offline and wheels is None:
            check.skip(f"installing {packages[0]}", "--offline")
            continue
        order = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", str(site)]
        order += ["--retries", "0", "--timeout", "8", "--constraint", "deploy/constraints.txt"]
        if wheels:
            order += ["--no-index", "--find-links", str(wheels.resolve())]
        compiled, environment = module in COMPILED, {}
        if compiled:
            environment = ready_to_compile(check.place)
            order += ["--no-build-isolation"] if util.find_spec("setuptools") else []
        if check.run(f"install_{packages[0]}", [*order, *packages], 150 if compiled else 45, **environment) != 0:
            check.skip(f"installing {packages[0]}", f"pip could not, see install_{packages[0]}.log")


def ready_to_compile(place: Path) -> dict[str, str]:
    """PyCUDA's defaults, and the environment in which they are read: they lie in the home folder.

    It is made without random numbers, whose header is often missing, and linked with the driver's library that is here,
    which often lacks the name that linkers look for.
    """
    settings = os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))  # of pip, which stay where they are
    environment = {"HOME": str(place), "XDG_CONFIG_HOME": settings}
    link = place / "link"
    link.mkdir(exist_ok=True)
    defaults = {"CUDA_ENABLE_CURAND": False, "CUDADRV_LIB_DIR": [str(link)]}
    roots = Path("/usr/local/cuda"), Path(shutil.which("nvcc") or "/nowhere/bin/nvcc").resolve().parents[1]
    if root := next((root for root in roots if (root / "include/cuda.h").exists()), None):
        defaults["CUDA_ROOT"] = str(root)
    (place / ".aksetup-defaults.py").write_text("".join(f"{name} = {each!r}\n" for name, each in defaults.items()))
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return environment
    maps = Path("/proc/self/maps").read_text().split()
    found = next((word for word in maps if Path(word).name.startswith("libcuda.so")), None)
    if found and not (link / "libcuda.so").exists():
        (link / "libcuda.so").symlink_to(found)
    return environment


def present(module: str, site: Path) -> bool:
    sys.path.append(str(site))
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.remove(str(site))


def first_line(probe: dict[str, Any]) -> str:
    """Does TensorRT-RTX accept this compute capability?"""
    asked, card = probe.get("rtx", {}), probe.get("card", {})
    what = f"compute capability {card.get('capability', 'unknown')} ({card.get('name', 'unknown card')})"
    accepts = asked.get("accepts")
    if accepts is None:
        return f"TensorRT-RTX: not known whether it accepts {what}: {asked.get('says', 'it could not be asked')}"
    return f"TensorRT-RTX: {'yes, it accepts' if accepts else 'no, it does not accept'} {what}: {asked['says']}"


def written(check: Check) -> None:
    machine = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "commit": _commit(),
        **{name: check.found.get("probe", {}).get(name) for name in ("card", "packages", "tools")},
    }
    passport = {
        "format": 1,
        "made_by": "gpu-check",
        "answer": check.found["answer"],
        "machine": machine,
        "tensorrt_rtx": check.found.get("probe", {}).get("rtx"),
        **{name: check.found.get(name) for name in ("floors", "networks", "rows", "parity")},
        "tests": {name: check.found.get(name) for name in ("tests_gpu", "tests_runtimes")},
        "skipped": check.skipped,
        "failed": check.failed,
    }
    (check.place / "passport.json").write_text(json.dumps(passport, indent=1) + "\n")
    (check.place / "report.md").write_text("\n".join(report(passport)) + "\n")


def report(passport: dict[str, Any]) -> Iterator[str]:
    """The passport as tables."""
    card = passport["machine"].get("card") or {}
    yield f"# {card.get('name', 'no NVIDIA card')}"
    yield ""
    yield passport["answer"]
    yield ""
    floors = passport["floors"] or {}
    if floors.get("copy"):
        rates = ", ".join(f"{name} {rate / 1e12:.0f} Top/s" for name, rate in floors["multiply"].items())
        across = f"host to card {floors['across'] / 1e9:.1f} GB/s"
        yield f"Measured rates: copy {floors['copy'] / 1e12:.2f} TB/s, {across}, matrix products {rates}."
        yield ""
    yield from table(
        ("network", "runtime", "precision", "path", "batch", *QUANTILES, "panels/s", "floor ms", "ratio"),
        [
            (
                *(row[name] for name in ("network", "runtime", "precision", "path", "batch")),
                *(f"{row['ms'][name]:.3f}" for name in QUANTILES),
                f"{row['panels_per_s']:.0f}",
                _or_dash(row.get("floor_ms"), ".3f"),
                _or_dash(row.get("ratio"), ".1f"),
            )
            for row in passport["rows"] or []
        ],
    )
    heads = ("runtime", "precision", "granted", "flipped", "score_error", "nearest_margin", "reason")
    yield from table(heads, [tuple(row[name] for name in heads) for row in passport["parity"] or []])
    yield from table(("failed", "why"), [(one["what"], one["why"]) for one in passport["failed"]])
    yield from table(("skipped", "why"), [(one["what"], one["why"]) for one in passport["skipped"]])


def table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    if not rows:
        return
    for row in (heads, ("---",) * len(heads), *rows):
        yield "| " + " | ".join(str(each).replace("|", "/") for each in row) + " |"
    yield ""


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def told(line: str) -> None:
    print(f"gpu-check: {line}", file=sys.stderr, flush=True)


def _commit() -> str:
    try:
        order = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(order, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu-check", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("dir", type=Path, metavar="DIR", nargs="?")
    parser.add_argument("--packages", action="store_true", help="name what it would install, for a folder of wheels")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="packages that are missing are taken from here")
    parser.add_argument("--offline", action="store_true", help="install nothing from a registry")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help=f"the whole of it, {LIMIT_S} unless said")
    given = parser.parse_args()
    if given.dir is None and not given.packages:
        parser.error("name the folder DIR that results go to")
    return given


if __name__ == "__main__":
    sys.exit(main())
