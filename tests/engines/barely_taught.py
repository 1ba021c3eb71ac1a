"""Small recipes of every method, taught for a moment: what exports and runs them is what is tested."""

from pathlib import Path
from typing import Any

import numpy as np
from toy_recipe import facts

from engines import recipe as recipes
from engines.recipe import Golden, Recipe, Resize

SIDE, CHANNELS, PANELS = 64, 2, 8
SHORT = {"schedule": {"image_passes": 8, "batch": 4}}
METHODS: dict[str, dict[str, Any]] = {
    "mkd": {"teacher": "resnet18"},
    "mcd": {"teacher": "takt", "push_student": 0.5, "contrast_passes": 8},
    "mixed_teacher": {"second": "mobilenet_v2", "fusion": "sum"},
    "adps": {"teacher": "takt", "patch_px": 32, "decoder_passes": 8},
    "fused": {"teacher": "takt", "patch_px": 32, "contrast_passes": 8, "decoder_passes": 16, "decoder_variety": 8},
}


def write_recipe(folder: Path, kind: str) -> tuple[Recipe, float]:
    """A recipe of the method `kind` in `folder`, one of its panels without a channel; and what `prove` says of it."""
    import torch

    from calibration.export import export, prove
    from calibration.fit import Checkpoint, fit
    from calibration.material import Material
    from calibration.stack import Stack
    from engines import methods

    folder.mkdir()
    method = methods.load(kind)
    settings = methods.settings_of(method, {"height": SIDE, "width": SIDE, **SHORT, **METHODS[kind]})
    torch.manual_seed(0)
    model = method.build(CHANNELS, settings)
    frames = np.random.default_rng(0).integers(60, 180, (PANELS, CHANNELS, SIDE, SIDE), dtype=np.uint8)
    frames[3, 1] = 0
    stack = Stack(frames, tuple("abcdefgh"), 16)
    material = Material(stack, ("bright", "dark"), 0)
    fit(model, material, settings.schedule, Checkpoint(folder.with_suffix(".pt")), lambda stage, done, total: None)
    export(model.eval(), stack, folder)
    error = prove(method.build(CHANNELS, settings), stack, folder)
    map = np.zeros((SIDE // 4, SIDE // 4), np.float32)
    recipes.write_golden(folder, tuple(Golden(f"good_{n}", False, each, 0.0, map) for n, each in enumerate(frames)))
    told = {"geometry": Resize(height=SIDE, width=SIDE), "method": kind, "settings": settings.model_dump(mode="json")}
    return recipes.write(folder, facts(CHANNELS) | told), error
