"""Chooses settings without a test panel: `python tests/bench/choose.py SET... --teacher-weights DIR --out DIR`.

Every fourth good panel is kept from training. Each candidate is taught from the others, with half of the kinds of
synthetic defects where it asks for any, and has to tell the good panels kept back from themselves with the other half.
One JSON a cell, kept and not measured again; the table goes to DIR/table.md. Nothing of `test/` is read.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from calibration import anomalies
from calibration.fit import Checkpoint, fit, fit_output
from calibration.material import Material
from calibration.metrics import aupro, auroc, average_precision, pooled_map, pooled_mask
from calibration.panels import PanelSet
from calibration.stack import floats, read_good
from engines import methods
from engines.recipe import Resize

CONSOLE = Console()
KEPT_BACK, ROUNDS = 4, 4
Figures = tuple[float, ...]
FIGURES = ("image_auroc", "pixel_ap", "aupro30")
TAUGHT, ASKED = anomalies.KINDS[0::2], anomalies.KINDS[1::2]
SHORT = {"schedule": {"image_passes": 1600}}
FUSED: dict[str, Any] = {"decoder_passes": 1200, "decoder_variety": 400, "decoder_share": 0.35}
CONTRAST = {**FUSED, "contrast_passes": 480}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "mkd": ("mkd", {}),
    "mkd balanced": ("mkd", {"blend": "balanced"}),
    "pull": ("mcd", {"contrast_passes": 0}),
    "pull focus": ("mcd", {"contrast_passes": 0, "third": "focus"}),
    "pull balanced": ("mcd", {"contrast_passes": 0, "blend": "balanced"}),
    "contrast": ("mcd", {}),
    "contrast 0.3": ("mcd", {"push": 0.3}),
    "contrast slow": ("mcd", {"contrast_rate": 0.005}),
    "contrast student": ("mcd", {"push": 0.3, "push_student": 0.1}),
    "fused": ("fused", FUSED),
    "fused wide": ("fused", {**FUSED, "decoder_narrow": None}),
    "fused contrast": ("fused", CONTRAST),
    "fused contrast patches of 32": ("fused", {**CONTRAST, "patch_px": 32}),
    "fused contrast whole panels": ("fused", {**CONTRAST, "patch_px": 192}),
}
# settings that act on what was taught: tried on the same network
ANSWERS: dict[str, dict[str, dict[str, Any]]] = {
    "fused": {f" share {share:g}": {"decoder_share": share} for share in (0.0, 0.2, 0.5)}
}


@dataclass(frozen=True, eq=False)
class Trial:
    """What every candidate of a set is taught from and asked: frames [n, C, h, w], masks [n, h, w], kinds [n]."""

    material: Material
    good: NDArray
    defective: NDArray
    masks: NDArray[np.bool_]
    kinds: NDArray


def main(
    sets: Annotated[list[Path], typer.Argument()],
    teacher_weights: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    only: Annotated[list[str] | None, typer.Option(help="names of candidates")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    side: Annotated[int, typer.Option(help="network input, px")] = 192,
) -> None:
    """Fill the table."""
    out.mkdir(parents=True, exist_ok=True)
    cells = [(path, name, seed) for path in sets for seed in range(seeds) for name in only or CANDIDATES]
    with Progress(console=CONSOLE) as progress:
        bar = progress.add_task("cells", total=len(cells))
        for path, name, seed in cells:
            if not _file(out, path, name, seed).is_file():
                for more, found in measured(trial(path, seed, side), name, teacher_weights, side).items():
                    _file(out, path, name + more, seed).write_text(json.dumps(found) + "\n")
            progress.advance(bar)
    table = tabled({file.stem: json.loads(file.read_text()) for file in sorted(out.glob("*.json"))})
    (out / "table.md").write_text(table)
    CONSOLE.print(table, markup=False)


def _file(out: Path, path: Path, name: str, seed: int) -> Path:
    return out / f"{path.name}-{name.replace(' ', '_')}-{seed}.json"


def trial(path: Path, seed: int, side: int) -> Trial:
    """The same panels and defects for every candidate."""
    panels, rng = PanelSet(path), np.random.default_rng(1000 + seed)
    good = read_good(panels, Resize(height=side, width=side), lambda phase, done, total: None)
    kept_back = np.arange(len(good.names)) % KEPT_BACK == KEPT_BACK - 1
    material = Material(good, panels.channels, seed, kinds=TAUGHT).without(kept_back)
    asked = good.part(kept_back).frames
    drawn = [
        anomalies.draw(frames, rng, str(rng.choice(ASKED)), panels.channels) for _ in range(ROUNDS) for frames in asked
    ]
    return Trial(
        material,
        asked,
        np.stack([one.frames for one in drawn]),
        np.stack([one.mask for one in drawn]),
        np.array([one.kind for one in drawn]),
    )


def measured(one: Trial, name: str, weights: Path, side: int) -> dict[str, dict[str, Any]]:
    """The figures of a candidate, and of what is tried on its network, by what its name has more."""
    kind, changes = CANDIDATES[name]
    method = methods.load(kind)
    plain = {"height": side, "width": side, **SHORT, **changes}
    settings = methods.settled(method, methods.settings_of(method, plain), weights)
    torch.manual_seed(one.material.seed)
    model: Any = method.build(len(one.material.channels), settings)
    method.load_teacher(model, weights)
    with tempfile.TemporaryDirectory() as place:
        fit(model, one.material, settings.schedule, Checkpoint(Path(place) / "c.pt"), lambda stage, done, total: None)
    found = {"": told(one, model)}
    for more, changed in ANSWERS.get(kind, {}).items():
        other: Any = method.build(len(one.material.channels), settings.model_copy(update=changed))
        other.load_state_dict(model.state_dict())
        fit_output(other.eval(), one.material)
        found[more] = told(one, other)
    if getattr(model, "keeps_unseen", False):
        model.fit_output(one.material.parted()[0].batches)
        found[" scales of what trained"] = told(one, model)
    return found


def told(one: Trial, model: Any) -> dict[str, Any]:
    """Image AUROC, pixel AP and AU-PRO, mean over kinds; how far the loss of a channel lifts good panels' scores."""
    maps, scores = answers(model, one.good)
    bad_maps, bad_scores = answers(model, one.defective)
    masks = np.stack([pooled_mask(mask) for mask in one.masks])
    by_kind = {each: _told(scores, maps, bad_scores, bad_maps, masks, one.kinds == each) for each in ASKED}
    found = [cell for cell in by_kind.values() if cell]
    lost = [_lost(model, one.good, channel, scores) for channel in range(one.good.shape[1])]
    return {
        "image_auroc": float(np.mean([cell[0] for cell in found])),
        "pixel_ap": float(np.mean([cell[1] for cell in found])),
        "aupro30": float(np.mean([cell[2] for cell in found])),
        "by_kind": by_kind,
        "lost_channel": float(np.median(lost)) if len(lost) > 3 else None,
        "facts": model.training_facts,
    }


def answers(model: Any, frames: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Maps at the size of the pixel figures and scores."""
    maps, scores = [], []
    with torch.no_grad():
        for at in range(0, len(frames), 8):
            map, score = model(torch.from_numpy(floats(frames[at : at + 8])))
            maps += [pooled_map(each) for each in map.numpy()]
            scores += score.tolist()
    return np.stack(maps), np.array(scores)


def _told(
    scores: NDArray, maps: NDArray, bad_scores: NDArray, bad_maps: NDArray, masks: NDArray, chosen: NDArray[np.bool_]
) -> tuple[float, float, float] | None:
    if not chosen.any():
        return None
    labels = np.r_[np.zeros(len(scores), bool), np.ones(int(chosen.sum()), bool)]
    image = auroc(labels, np.r_[scores, bad_scores[chosen]])
    truth = np.concatenate([np.zeros(maps.shape, bool), masks[chosen]])
    both = np.concatenate([maps, bad_maps[chosen]])
    pixel = average_precision(truth.ravel(), both.ravel())
    return float(image or 0), float(pixel or 0), float(aupro(truth, both, 0.3) or 0)


def _lost(model: Any, good: NDArray, channel: int, scores: NDArray) -> float:
    """By how many deviations of good panels' scores these rise without a channel."""
    partial = good.copy()
    partial[:, channel] = 0
    return float((answers(model, partial)[1] - scores).mean() / scores.std())


def tabled(cells: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row a candidate, a column a set, image AUROC / pixel AP / AU-PRO 0.3, mean over seeds."""
    names = sorted({cell.rsplit("-", 2)[0] for cell in cells})
    rows = sorted({cell.rsplit("-", 2)[1] for cell in cells})
    lines = ["| candidate | " + " | ".join(names) + " | mean |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        by_set = [_mean([cells[key] for key in cells if key.rsplit("-", 1)[0] == f"{name}-{row}"]) for name in names]
        lines.append(f"| {row.replace('_', ' ')} | " + " | ".join(map(_said, [*by_set, _overall(by_set)])) + " |")
    return "\n".join(lines) + "\n"


def _mean(cells: Sequence[dict[str, Any]]) -> Figures | None:
    return tuple(float(np.mean([each.get(name, np.nan) for each in cells])) for name in FIGURES) if cells else None


def _overall(all: Sequence[Figures | None]) -> Figures | None:
    known = [each for each in all if each]
    return tuple(np.mean(known, axis=0).tolist()) if len(known) == len(all) else None


def _said(figures: Figures | None) -> str:
    return " / ".join(f"{value:.3f}" for value in figures) if figures else ""


if __name__ == "__main__":
    typer.run(main)
