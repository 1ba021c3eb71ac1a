"""Passports for tests, by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.bench.line_figures import figures, samples
from pipeline.bench.passport import EnginePassport, LinePassport
from pipeline.bench.spread import noise_floor, spread
from pipeline.bench.timeline import Run, Timeline

HEAD = {"made": "2026-11-26T12:00:00+00:00", "takt_version": "0.1.0", "command": "takt bench", "machine": {"cores": 2}}
TILES = {"kind": "tiles", "height": 256, "width": 256, "halo": 32, "grid": 16, "panel": None, "piece": None}
RESIZE = {"kind": "resize", "height": 128, "width": 128}


def subject(**changes: Any) -> dict[str, Any]:
    hashes = {name: name[0] * 64 for name in ("recipe", "engine", "calibration")}
    engine = {"method": "mkd", "runtime": "onnxruntime", "precision": "fp32", "threads": 2, "max_batch": 8}
    sizes = {"channels": 3, "panel": (224, 224), "dtype": "uint8", "rows": 1, "tile": (128, 128), "geometry": RESIZE}
    return {"product": "glass", "golden_row": True} | hashes | engine | sizes | changes


def row(batch: int, ms: Callable[[int], list[float]], parts: dict[str, float]) -> dict[str, Any]:
    """`ms` gives the runs of a pass; `parts` the median of each."""
    passes = [ms(0), ms(1)]
    every = [one for pair in zip(*passes, strict=True) for one in pair]
    speed = {"panels_per_s": 1000 * batch / float(np.mean(every)), "pixels_per_s": 1e6}
    return {
        "runtime": "onnxruntime",
        "precision": "fp32",
        "batch": batch,
        "network_rows": batch,
        "runs": len(every),
        "warm_runs": 10,
        "ms": spread(every),
        "parts_ms": {name: spread([each]) for name, each in parts.items()},
        "floor_ms": 5.0,
        "floor": {"compute_ms": 5.0, "bytes_ms": 1.0},
        "ratio": 2.0,
        "noise_floor": noise_floor(passes),
        "energy_j_per_panel": None,
        "samples_ms": passes,
        **speed,
    }


def engine_passport(rows: list[dict[str, Any]], **changes: Any) -> EnginePassport:
    rates = {"operations_per_s": 1e11, "bytes_per_s": 1e10}
    more = {"subject": subject(**changes), "own_share": 0.0001, "rates": rates, "rows": rows}
    return EnginePassport.model_validate(HEAD | more)


def times(median_ms: float, scatter: float, runs: int, seed: int = 0) -> Callable[[int], list[float]]:
    """Passes of a steady machine: milliseconds around `median_ms`."""

    def drawn(which: int) -> list[float]:
        return np.random.default_rng([seed, which]).normal(median_ms, scatter * median_ms, runs).tolist()

    return drawn


def line_passport(panels: int = 40, network_ms: float = 40.0, seed: int = 0, **changes: Any) -> LinePassport:
    rng, run = np.random.default_rng(seed), Run(100, 800, 4, panels)
    found = [_panel(n, network_ms * float(rng.normal(1, 0.02))) for n in range(panels)]
    more = {"subject": subject(), "own_share": 0.001, "settings": {}, "reconciled": True, "samples": samples(found)}
    return LinePassport.model_validate(HEAD | figures(found, run) | more | changes)


def _panel(number: int, network_ms: float) -> Timeline:
    stages = {"exposure": 8.0, "carrier": 1.0, "check": 2.0, "network": network_ms, "plc_write": 2.0, "ack": 1.0}
    return Timeline(number, f"P{number}", "PASS", number * 100.0, sum(stages.values()), stages, 1)
