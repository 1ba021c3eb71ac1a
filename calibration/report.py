"""The recipe's `report.html`: what it was made from and how it scores, with pictures, in one file."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration import overlay
from engines.recipe import Limits

SHOWN = 4
WIDE, HIGH, BINS, SIDE = 800, 220, 48, 200  # of the drawings and pictures, px

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733 }
h1, h2 { font-weight: 600 } table { border-collapse: collapse } td { padding: .15rem 1rem .15rem 0 }
svg { width: 100% } figure { margin: 0 0 1.5rem } figcaption { color: #5b6875 }
figure div { display: inline-block; margin: .3rem }
"""


@dataclass(frozen=True, eq=False)
class Shown:
    """A held-out panel to show: one frame [H, W], its map [h, w] and score."""

    name: str
    frame: NDArray
    map: NDArray[np.float32]
    score: float


def write(
    path: Path, facts: dict[str, Any], losses: Sequence[float], held_out: Sequence[Shown], limits: Limits
) -> None:
    """Write the report to `path`. `facts` become the first table; `losses` are one a step."""
    ranked = sorted(held_out, key=lambda one: one.score)
    scores = [one.score for one in held_out]
    parts = [
        _table(facts),
        _figure(_curve(losses), "Training loss, mean of twenty steps"),
        _figure(_histogram(scores, limits), "Scores of good panels that training never saw, and the limit"),
        _figure(_gallery(ranked[-SHOWN:][::-1], limits), "Held-out good panels with the highest scores"),
        _figure(_gallery(ranked[:SHOWN], limits), "Held-out good panels with the lowest scores"),
    ]
    title = f"Recipe for {html.escape(str(facts.get('product', 'a product')))}"
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    path.write_text(f"{head}<h1>{title}</h1>{''.join(parts)}</html>\n", encoding="utf-8")


def amend(path: Path, limits: Limits) -> None:
    """Say at the top of a report that was copied with its recipe what holds since; nothing where there is none."""
    if not path.is_file():
        return
    kept = limits.promise
    note = (
        f"<p><strong>The limits were set anew after this was written:</strong> limit {limits.image:.4g}, at most"
        f" {kept.rate:.1%} false rejects with {kept.confidence:.0%} confidence; {_inspected(limits)}.</p>"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</h1>", f"</h1>{note}", 1), encoding="utf-8")


def _inspected(limits: Limits) -> str:
    return f"{limits.zones.share:.0%} of the panel inspected" if limits.zones else "the whole panel inspected"


def _table(facts: dict[str, Any]) -> str:
    rows = (f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<table>{''.join(rows)}</table>"


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _curve(losses: Sequence[float]) -> str:
    """The loss as a line, logarithmic, with its first and last value in words."""
    width = min(20, max(1, len(losses)))
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    level = np.log10(np.maximum(smooth, 1e-9))
    x = np.linspace(0, WIDE, len(level))
    y = (level.max() - level) / max(np.ptp(level), 1e-9) * HIGH
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    line = f"<polyline points='{points}' fill='none' stroke='#2463a4' stroke-width='1.5'/>"
    return _drawing(line, f"{smooth[0]:.3g} at step {width}", f"{smooth[-1]:.3g} at step {len(losses)}")


def _histogram(scores: Sequence[float], limits: Limits) -> str:
    """Scores as bars; the lower bound dotted, the limit in red."""
    low, high = min(*scores, limits.low), max(*scores, limits.image)
    room = 0.02 * max(high - low, 1e-9)
    low, high = low - room, high + room
    counts, _ = np.histogram(scores, bins=BINS, range=(low, high))
    step = WIDE / BINS
    bars = "".join(
        f"<rect x='{n * step:.1f}' y='{HIGH * (1 - count / counts.max()):.1f}' width='{step - 1:.1f}' "
        f"height='{HIGH * count / counts.max():.1f}' fill='#2463a4'/>"
        for n, count in enumerate(counts)
        if count
    )
    marks = _mark((limits.low - low) / (high - low), "grey", "4") + _mark(
        (limits.image - low) / (high - low), "crimson", "0"
    )
    return _drawing(bars + marks, f"lower bound {limits.low:.3g} (dotted)", f"limit {limits.image:.3g} (red)")


def _mark(share: float, colour: str, dash: str) -> str:
    x = share * WIDE
    place = f"x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{HIGH}'"
    return f"<line {place} stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>"


def _drawing(content: str, left: str, right: str) -> str:
    words = (
        f"<text x='0' y='{HIGH + 18}' font-size='13'>{html.escape(left)}</text>"
        f"<text x='{WIDE}' y='{HIGH + 18}' font-size='13' text-anchor='end'>{html.escape(right)}</text>"
    )
    return f"<svg viewBox='0 -4 {WIDE} {HIGH + 28}' role='img'>{content}{words}</svg>"


def _gallery(panels: Sequence[Shown], limits: Limits) -> str:
    """Each panel beside itself under its heat map, full red from one and a half times the pixel limit."""
    return "".join(f"<div>{_picture(one, limits)}<br>{html.escape(one.name)}: {one.score:.3f}</div>" for one in panels)


def _picture(panel: Shown, limits: Limits) -> str:
    grey = overlay.grey(panel.frame)
    heated = overlay.heat(panel.frame, panel.map, limits.pixel)
    both = np.hstack([cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), heated])
    small = cv2.resize(both, (2 * SIDE, SIDE), interpolation=cv2.INTER_AREA)
    data = base64.b64encode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()).decode()
    return f"<img alt='{html.escape(panel.name)}' src='data:image/jpeg;base64,{data}'>"
