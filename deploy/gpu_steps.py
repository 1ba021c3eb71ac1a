"""The steps of `deploy/gpu-check`, each in a process of its own: `gpu_steps.py ANSWER.json STEP ...`.

A step writes what it found, {"skipped": why} where the machine lacks something, or {"failed": why}.
"""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import gpu_times

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
DEMO = ROOT / "pipeline/demo/recipe"
SIDE = 256
PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13", "pycuda", "cuda-bindings",
            "pydantic", "pyzmq", "opencv-python-headless")  # fmt: skip
TAUGHT = (  # name, method, settings, channels; their weights do not change their time
    ("resnet18 and thin student", "mkd", {"teacher": "resnet18"}, 3),
    ("fused on resnet18", "fused", {"teacher": "resnet18"}, 3),
)
TILED = ("8 x 4096 x 3000 in tiles", "fused", {"teacher": "resnet18"}, 8)


def probe(answer: dict[str, Any]) -> None:
    """What is here: packages, tools, the card, and whether TensorRT-RTX takes it."""
    answer["packages"] = {name: _version(name) for name in PACKAGES}
    answer["tools"] = {name: _said([name, *flags]) for name, *flags in (("nvcc", "--version"), ("nvidia-smi",))}
    answer["card"] = _card()
    answer["rtx"] = _rtx()


def floors(answer: dict[str, Any]) -> None:
    """Copy bandwidth and matrix rates of the card."""
    from engines import floors as rates

    answer |= asdict(rates.of_card())


def networks(answer: dict[str, Any], place: str) -> None:
    """Networks to time, exported untaught; where PyTorch is not here, only the demo's is timed."""
    _needs("torch", "onnxscript", "onnx", "pydantic")
    shutil.rmtree(place, ignore_errors=True)
    Path(place).mkdir(parents=True)
    answer["networks"] = []
    for number, (name, method, changes, channels) in enumerate((*TAUGHT, TILED)):
        geometry = _geometry(method, changes, channels) if name == TILED[0] else None
        folder = Path(place) / str(number)
        _export(folder, method, changes, channels, geometry)
        answer["networks"].append({"name": name, "folder": str(folder), "tiled": geometry is not None})


def engine(answer: dict[str, Any], kind: str, precision: str, place: str) -> None:
    """Parity on the demo's golden panels, then times of every network there is."""
    from engines import runtimes
    from engines.errors import DeviceError, UsageError

    _needs("pydantic", "onnx", "cv2")
    try:
        answer["device"] = runtimes.load(kind, precision).device()
    except (UsageError, DeviceError) as missing:
        answer["skipped"] = str(missing)
        return
    kept = Path(place) / "compiled"
    answer["parity"], answer["rows"] = [_parity(kind, precision, kept)], []
    _save(answer)
    for name, folder, tiled in _networks(Path(place)):
        try:
            timed = gpu_times.tiles if tiled else gpu_times.batches
            answer["rows"] += timed(name, folder, kind, precision, kept)
        except Exception as error:  # the other networks are told all the same
            answer.setdefault("failed", f"{name}: {_one_line(error)}")
        _save(answer)


def _card() -> dict[str, Any]:
    try:
        from engines import cuda

        found = cuda.card()
        known = {"name": found.name, "capability": "{}.{}".format(*found.capability), "driver": found.driver}
        return known | {"memory": found.memory, "processors": found.processors, "seen_by": "pycuda"}
    except Exception as error:
        why = _one_line(error)
    try:
        import torch

        facts = torch.cuda.get_device_properties(0)
        known = {"name": facts.name, "capability": f"{facts.major}.{facts.minor}", "seen_by": f"torch; {why}"}
        return known | {"memory": facts.total_memory, "processors": facts.multi_processor_count}
    except Exception as error:
        return {"name": "unknown card", "capability": "unknown", "seen_by": f"nothing: {why}; {_one_line(error)}"}


def _rtx() -> dict[str, Any]:
    """Asked by a plan of the demo's network: the library's list of targets may say less than it takes."""
    try:
        rtx: Any = importlib.import_module("tensorrt_rtx")
    except Exception as error:
        return {"accepts": None, "says": _one_line(error)}
    targets = [name for name in rtx.ComputeCapability.__members__ if name.startswith("SM")]
    found: dict[str, Any] = {"version": rtx.__version__, "targets": targets}
    try:
        from engines import plans
        from engines.device_errors import code_in
        from engines.runtimes import Source

        plan = plans.compiled(rtx, Source("demo", (DEMO / "network.onnx").read_bytes()), 2, {})
        log = plans.log_of(rtx)
        runtime = rtx.Runtime(log)
        opened = runtime.deserialize_cuda_engine(plan)
        validity, diagnosis = runtime.get_engine_validity(plan)
        found |= {"validity": f"{validity} {diagnosis}"}
        if opened is not None:
            return found | {"accepts": True, "says": "a plan was made and loaded"}
        says = log.said("it does not load its own plan")
        return found | {"accepts": None if code_in(says) else False, "says": f"{says}; its targets: {targets}"}
    except Exception as error:
        return found | {"accepts": None, "says": f"{_one_line(error)}; its targets: {targets}"}


def _parity(kind: str, precision: str, kept: Path) -> dict[str, Any]:
    from engines import parity
    from engines import recipe as recipes
    from engines.build import derive
    from engines.detector import open_detector
    from engines.scoring import limits_of_golden

    demo = recipes.load(DEMO)
    graph = derive(demo, kind, precision)
    with open_detector(demo, kind, precision, 2, 8, derived=graph, proving=False, kept=kept) as detector:
        judged = parity.judge(parity.prove(detector, demo.golden), limits_of_golden(demo.manifest))
    told = {name: getattr(judged, name) for name in ("granted", "score_error", "nearest_margin", "reason")}
    return {"runtime": kind, "precision": precision, "flipped": len(judged.flipped), **told}


def _networks(place: Path) -> list[tuple[str, Path, bool]]:
    try:
        told = json.loads((place / "networks.json").read_text()).get("networks", [])
    except (OSError, ValueError):
        told = []
    return [("demo", DEMO, False), *((one["name"], Path(one["folder"]), one["tiled"]) for one in told)]


def _geometry(method: str, changes: dict[str, Any], channels: int) -> Any:
    from engines import methods, tiles

    module = methods.load(method)
    settings = methods.settings_of(module, {"height": SIDE, "width": SIDE, **changes})
    halo = int(module.build(channels, settings).training_facts["halo_px"])
    return tiles.chosen(gpu_times.PANEL, halo, settings.grid)


def _export(folder: Path, method: str, changes: dict[str, Any], channels: int, tiled: Any) -> None:
    import numpy as np
    import torch

    from calibration.export import export
    from calibration.stack import Stack
    from engines import methods
    from engines import recipe as recipes
    from engines.recipe import Golden, Resize

    sys.path.insert(0, str(ROOT / "tests/engines"))
    facts = importlib.import_module("toy_recipe").facts(channels)
    folder.mkdir()
    module = methods.load(method)
    settings = methods.settings_of(module, {"height": SIDE, "width": SIDE, **changes})
    if tiled is not None:
        settings = settings.sized(tiled.height, tiled.width)
    height, width = settings.height, settings.width
    torch.manual_seed(0)
    model = module.build(channels, settings).eval()
    frames = np.random.default_rng(0).integers(0, 255, (2, channels, height, width), dtype=np.uint8)
    export(model, Stack(frames, ("a", "b"), 16), folder)
    map = np.zeros((height // 4, width // 4), np.float32)
    recipes.write_golden(folder, tuple(Golden(f"good_{n}", False, each, 0.0, map) for n, each in enumerate(frames)))
    told = {"geometry": tiled or Resize(height=height, width=width), "method": method}
    rule = methods.score_rule(model) if tiled is not None else ()
    recipes.write(folder, facts | told | {"settings": settings.model_dump(mode="json"), "score": rule})


def _needs(*modules: str) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SystemExit(f"{name} is not there: {_one_line(error)}") from None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _said(order: Sequence[str]) -> str:
    try:
        done = subprocess.run(order, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _one_line(error)
    return (done.stdout or done.stderr).strip()[:4000]


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


STEPS: dict[str, Callable[..., None]] = {"probe": probe, "floors": floors, "networks": networks, "engine": engine}


def _save(answer: dict[str, Any]) -> None:
    Path(sys.argv[1]).write_text(json.dumps(answer, indent=1, default=str) + "\n")


def main() -> None:
    step, *arguments = sys.argv[2:]
    answer: dict[str, Any] = {}
    try:
        STEPS[step](answer, *arguments)
    except SystemExit as missing:
        answer["skipped"] = str(missing)
    except ModuleNotFoundError as missing:
        answer["skipped"] = f"needs {missing.name}"
    except Exception as error:
        name = type(error).__name__
        answer["skipped" if name in ("UsageError", "DeviceError") else "failed"] = _one_line(error)
        importlib.import_module("traceback").print_exc()
    _save(answer)


if __name__ == "__main__":
    main()
