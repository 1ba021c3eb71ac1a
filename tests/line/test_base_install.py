"""The base install runs the line: no module of it may need a library of an extra, above all of [teach]."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEACH = {"openvino", "torch", "onnx", "onnxscript", "onnx_ir", "sklearn", "matplotlib", "safetensors", "torchvision"}
REVIEW = {"argon2", "fastapi", "httpx", "nicegui", "psycopg", "starlette", "uvicorn"}
CARDS = {"cuda", "pycuda", "tensorrt", "tensorrt_rtx"}
NEED_TEACH = (
    "engines/methods/",
    "engines/backbones/",
    "engines/blend.py",
    "engines/convex.py",
    "engines/located.py",
    "engines/one_teacher.py",
    "engines/patches.py",
    "engines/segmentation.py",
    "engines/models.py",
    "engines/runtimes/pytorch.py",
    "engines/runtimes/torch_cuda.py",
)
NEED_ANOTHER_EXTRA = (  # openvino, int8, review, tensorrt, tensorrt-rtx
    "pipeline/review/api.py",
    "pipeline/review/origin.py",
    "pipeline/review/pages/",
    *(f"engines/runtimes/{name}.py" for name in ("openvino", "tensorrt", "tensorrt_rtx")),
    *(f"engines/graphs/{name}.py" for name in ("half", "int8", "ranges", "rewriting", "surgery", "work")),
)
CALIBRATION = ("calibration/__init__.py", "calibration/panels.py")
PROGRAM = """
import sys
from importlib import import_module

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    import_module(name)
    print(name)
"""


def base_modules() -> list[str]:
    """Every module of the base install, by its file."""
    files = [
        path.relative_to(ROOT).as_posix() for top in ("pipeline", "engines") for path in (ROOT / top).rglob("*.py")
    ]
    extras = NEED_TEACH + NEED_ANOTHER_EXTRA
    files = [file for file in files if not file.startswith(extras) or file == "engines/methods/__init__.py"]
    return sorted(file[:-3].replace("/", ".").removesuffix(".__init__") for file in (*files, *CALIBRATION))


def imported(*modules: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(blocked=TEACH | REVIEW | CARDS)
    return subprocess.run([sys.executable, "-c", program, *modules], capture_output=True, text=True, timeout=120)


def test_every_base_module_imports_without_the_extras() -> None:
    modules = base_modules()
    done = imported(*modules)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.split() == modules
    assert {"pipeline.cli", "pipeline.run", "engines.detector", "engines.runtimes.onnxruntime"} <= set(modules)


def test_the_block_blocks() -> None:
    assert "torch is blocked" in imported("engines.backbones").stderr
