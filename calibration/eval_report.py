"""What `takt eval --report` writes: the figures over a set's test panels with pictures, in one file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration import pages
from calibration.metrics import Result
from calibration.pages import Shown
from calibration.panels import GOOD, Panel, PanelSet, read_panel
from engines.detector import Detector

SHOWN, EACH_KIND = 4, 2
PIXELS = {"pixel_ap": "pixel AP", "pixel_auroc": "pixel AUROC", "aupro30": "AU-PRO to 0.3", "aupro05": "AU-PRO to 0.05",
          "segf1": "F1 at the pixel limit"}  # fmt: skip

Figures = dict[str, Any]
Look = Callable[[Result], Shown]


def write(path: Path, figures: Figures, results: Sequence[Result], detector: Detector, panels: PanelSet) -> None:
    """Write the page; the panels it shows are read and inspected once more."""
    limits = detector.limits
    names = [channel.name for channel in detector.manifest.channels]
    parts = [
        _head(figures),
        pages.words(pages.promised(limits)),
        pages.section(
            "Scores and the limit", pages.histograms(_series(results), limits), pages.words(pages.LEGEND, "dim")
        ),
        pages.section("By kind of defect", _kinds(figures)),
        pages.section("Pixels", _pixels(figures)),
        pages.section("Damaged image sets", _damaged(figures)),
        *(
            pages.section(title, pages.gallery(shown, limits, names))
            for title, shown in _galleries(results, _look(detector, panels, names))
            if shown
        ),
        pages.section("What was measured", pages.table((), _facts(figures, detector, panels).items())),
    ]
    pages.write(path, f"{detector.manifest.product} on {panels.path.resolve().name}", parts)


def _look(detector: Detector, panels: PanelSet, names: Sequence[str]) -> Look:
    known: dict[tuple[str, str], Panel] = {(panel.defect, panel.name): panel for panel in panels.panels("test")}

    def look(result: Result) -> Shown:
        panel = known[result.defect, result.name]
        frames = read_panel(panel.path, names, others=True)
        truth = panels.mask(panel, (frames.shape[1], frames.shape[2]))
        kind = "" if panel.defect == GOOD else panel.defect
        return Shown(panel.name, kind, frames, detector.inspect([frames])[0], truth)

    return look


def _galleries(results: Sequence[Result], look: Look) -> Iterator[tuple[str, list[Shown]]]:
    good, defective = _ranked(results, True), _ranked(results, False)
    yield "Defective panels with the lowest scores", [look(one) for one in defective[:SHOWN]]
    for kind in sorted({one.defect for one in defective}):
        own = [one for one in defective if one.defect == kind]
        yield f"{kind}: the highest scores", [look(one) for one in own[::-1][:EACH_KIND]]
    yield "Good panels with the highest scores", [look(one) for one in good[::-1][:SHOWN]]
    yield "Good panels with the lowest scores", [look(one) for one in good[:SHOWN]]


def _ranked(results: Sequence[Result], good: bool) -> list[Result]:
    chosen = [one for one in results if (one.defect == GOOD) == good]
    return sorted(chosen, key=lambda one: one.score if np.isfinite(one.score) else np.inf)


def _series(results: Sequence[Result]) -> dict[str, list[float]]:
    kinds = [GOOD, *sorted({one.defect for one in results} - {GOOD})]
    return {kind: [one.score for one in results if one.defect == kind] for kind in kinds}


def _head(figures: Figures) -> str:
    spread = figures["intervals95"]
    return pages.cards(
        {
            "image AUROC": (_number(figures["image_auroc"]), _between(spread.get("image_auroc"))),
            "mean over kinds": (_number(figures["image_auroc_mean"]), _between(spread.get("image_auroc_mean"))),
            "good panels rejected": _count(figures["false_reject"]),
            "defects missed": _count(figures["miss"]),
            "pixel AP": (_number(figures["pixel_ap"]), _between(spread.get("pixel_ap"))),
        }
    )


def _kinds(figures: Figures) -> str:
    heads = ("kind", "panels", "missed", "95 %", "image AUROC", "95 %", "image AP", "pixel AP")
    rows = []
    for kind, own in figures["by_defect"].items():
        missed, pixel = own["miss"], figures["pixel_ap_by_defect"].get(kind)
        row = (kind, own["panels"], f"{missed['k']} of {missed['n']}", _shares(missed["interval95"]))
        scores = (_number(own["image_auroc"]), _between(own["interval95"]), _number(own["image_ap"]), _number(pixel))
        rows.append((*row, *scores))
    return pages.table(heads, rows) if rows else pages.words("There are good panels only.")


def _pixels(figures: Figures) -> str:
    if figures["pixel_ap"] is None:
        return pages.words("The set has no masks, so there are no figures of pixels.")
    spread = figures["intervals95"]
    rows = ((title, _number(figures[name]), _between(spread.get(name))) for name, title in PIXELS.items())
    return pages.table(("figure", "value", "95 %"), rows)


def _damaged(figures: Figures) -> str:
    named, line = figures["damaged"], figures["on_the_line"]
    causes = ", ".join(f"{cause} {count}" for cause, count in named["by_cause"].items()) or "none"
    rows = (
        ("good panels named damaged", _count(named["good"])[0]),
        ("defective panels named damaged", _count(named["defective"])[0]),
        ("causes", causes),
        ("good panels rejected on the line, by score or as damaged", _count(line["false_reject"])[0]),
        ("defective panels passed on the line", _count(line["miss"])[0]),
    )
    return pages.table((), rows)


def _facts(figures: Figures, detector: Detector, panels: PanelSet) -> Figures:
    boot, ms = figures["bootstrap"], figures["ms_per_panel"]
    return {
        "set": panels.path.resolve().name,
        "panels": figures["panels"],
        "channels": ", ".join(channel.name for channel in detector.manifest.channels),
        "accuracy": f"{figures['accuracy']:.3f} ({_between(figures['accuracy_interval95'])})",
        "milliseconds a panel": f"{ms['median']:.1f} median, {ms['p99']:.1f} p99",
        "intervals": f"Clopper-Pearson for counts, {boot['resamples']} bootstrap draws of panels for the rest",
        "recipe": detector.recipe_hash,
        "engine": detector.engine_hash,
    }


def _count(of: Figures) -> tuple[str, str]:
    return f"{of['k']} of {of['n']}", _shares(of["interval95"])


def _shares(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.0%} to {interval[1]:.0%}" if interval else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _between(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
