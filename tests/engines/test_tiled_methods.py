"""Every method in tiles answers as its network does to the whole panel, at borders and in dark fields."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from engines import methods  # noqa: E402
from engines.gather import Gather  # noqa: E402
from engines.patches import halo  # noqa: E402
from engines.recipe import Tiles  # noqa: E402
from engines.tiles import grown  # noqa: E402

CHANNELS = 4
ROWS = 50  # one tile down, several across
METHODS: dict[str, dict[str, Any]] = {
    "mkd": {"teacher": "resnet18", "student_width": 4, "blend": "balanced"},
    "mcd": {"teacher": "resnet18", "student_width": 4},
    "mixed_teacher": {"second": "mobilenet_v2"},
    "adps": {"teacher": "resnet18", "student_width": 4, "decoder_widths": [8, 6, 4]},
    "fused": {"teacher": "resnet18", "student_width": 4, "patch_px": 32, "decoder_widths": [8, 6, 4]},
}


def model(kind: str, height: int, width: int) -> Any:
    method = methods.load(kind)
    settings = methods.settings_of(method, {"height": 64, "width": 64, "smooth": 0.5, **METHODS[kind]})
    torch.manual_seed(1)
    return method.build(CHANNELS, settings.sized(height, width)).eval()


def panel(width: int) -> np.ndarray:
    """Noise, with one channel that shows nothing but in its last columns."""
    frames = np.random.default_rng(3).integers(20, 220, (CHANNELS, ROWS, width), np.uint8)
    frames[1, :, : width - 40] = 0
    return frames


@pytest.mark.parametrize("kind", METHODS)
def test_stitched_tiles_equal_the_untiled_map(kind: str) -> None:
    grid = model(kind, 64, 64).settings.grid
    margin = halo(model(kind, 64, 64).receptive_field, grid)
    side = 2 * margin + 2 * grid
    frames = panel(side + 4 * grid - 11)
    geometry = Tiles(height=64, width=side, halo=margin, grid=grid, panel=(ROWS, frames.shape[2]))
    whole_width = grown(frames.shape[2], side, grid)
    whole, tile = model(kind, 64, whole_width), model(kind, 64, side)
    row = np.pad(frames, ((0, 0), (0, 64 - ROWS), (0, whole_width - frames.shape[2])), "edge") / np.float32(255)
    seen = torch.from_numpy(row.astype(np.float32))[None]
    whole.fit_input(lambda: [seen])
    whole.fit_output(lambda: [torch.cat([seen, seen.roll(9, 3)])])
    alike = {name: one for name, one in whole.state_dict().items() if tile.state_dict()[name].shape == one.shape}
    tile.load_state_dict(alike, strict=False)
    gather = Gather(CHANNELS, geometry, "uint8")
    with torch.no_grad():
        map, score = whole(seen)
        maps = [tile(torch.from_numpy(each)[None])[0][0].numpy() for each in gather.rows(frames)]
    joined = gather.pieces(frames).joined(maps)
    assert len(maps) > 2 and joined.covered is not None and joined.covered.all()
    wanted = map[0, : joined.map.shape[0], : joined.map.shape[1]].numpy()
    weights = sum(abs(part.weight) for part in methods.score_rule(whole))
    assert float(np.abs(joined.map - wanted).max()) * weights < 1e-3 * float(score)
