"""Small recipes of every method, exported before they learnt anything: what runs them is what is tested."""

from pathlib import Path
from typing import Any

import numpy as np
from toy_recipe import facts

from engines import recipe as recipes
from engines.recipe import Golden, Recipe, Resize

SIDE, CHANNELS, GOLDEN = 64, 2, 4
METHODS: dict[str, dict[str, Any]] = {
    "mkd": {"teacher": "resnet18"},
    "mcd": {"teacher": "takt", "push_student": 0.5},
    "mixed_teacher": {"second": "mobilenet_v2"},
    "adps": {"teacher": "takt", "patch_px": 32},
    "fused": {"teacher": "takt", "patch_px": 32},
}


def write_recipe(folder: Path, kind: str) -> Recipe:
    """A recipe of the method `kind` in `folder`, with golden panels of noise."""
    import torch

    from calibration.export import export
    from calibration.stack import Stack
    from engines import methods

    folder.mkdir()
    method = methods.load(kind)
    settings = methods.settings_of(method, {"height": SIDE, "width": SIDE, **METHODS[kind]})
    torch.manual_seed(0)
    model = method.build(CHANNELS, settings).eval()
    frames = np.random.default_rng(0).integers(0, 255, (GOLDEN, CHANNELS, SIDE, SIDE), dtype=np.uint8)
    export(model, Stack(frames, tuple("abcd"), 16), folder)
    map = np.zeros((SIDE // 4, SIDE // 4), np.float32)
    recipes.write_golden(folder, tuple(Golden(f"good_{n}", False, each, 0.0, map) for n, each in enumerate(frames)))
    told = {"geometry": Resize(height=SIDE, width=SIDE), "method": kind, "settings": settings.model_dump(mode="json")}
    return recipes.write(folder, facts(CHANNELS) | told)
