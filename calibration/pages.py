"""Pages with drawings and small pictures in one file: no script, nothing loaded from elsewhere, light and dark."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration import overlay
from engines.decide import Finding, decide, with_channels
from engines.recipe import Limits

WIDE, HIGH, ROW, BINS = 480, 150, 56, 60  # of drawings, px
SIDE, QUALITY = 240, 82  # of pictures
LEGEND = (
    "Pictures: the panel in the channel that shows its strongest defect best, and again under the heat map. Outlined"
    " red is what was marked, green what is known to be defective."
)
TOP_SHARE = 0.97  # of the scores lie inside a histogram; what is higher stands in its last bar

STYLE = """
:root { --paper: #fff; --ink: #1b2430; --dim: #5a6877; --line: #dbe2e9; --card: #f5f7f9; --good: #2f6fb3;
  --bad: #cf7a1f; --limit: #c62f3b }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e4e9ee; --dim: #9aa7b4; --line: #313a44;
  --card: #1d232a; --good: #6aa5e0; --bad: #e6a04c; --limit: #f0646e } }
* { box-sizing: border-box } body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto;
  padding: 1rem; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.6rem; margin: .5rem 0 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem }
p { max-width: 46rem } .dim, figcaption { color: var(--dim) }
.warn { border-left: 4px solid var(--limit); padding-left: .8rem }
.cards { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1rem 0 }
.cards div { background: var(--card); border-radius: 8px; padding: .6rem .9rem; min-width: 8rem; flex: 1 }
.cards b { display: block; font-size: 1.35rem; font-weight: 600 } .cards small { color: var(--dim) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .93rem }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
td.long { white-space: normal } th { color: var(--dim); font-weight: 500 }
svg { width: 100%; max-width: 680px; display: block } svg text { font-size: 11px; fill: var(--dim) }
.good { fill: var(--good) } .bad { fill: var(--bad) } .axis { stroke: var(--line) }
.curve { fill: none; stroke: var(--good); stroke-width: 1.6 } .limit { stroke: var(--limit); stroke-width: 1.6 }
.low { stroke: var(--dim); stroke-dasharray: 3 3 } svg text.limit-text { fill: var(--limit) }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); gap: 1rem }
.panels figure { margin: 0; background: var(--card); border-radius: 8px; padding: .6rem }
.panels img { width: 100%; border-radius: 4px; display: block } figcaption { font-size: .87rem; margin-top: .4rem }
figcaption b { color: var(--ink) } .reject { color: var(--limit) } .pass { color: var(--good) }
"""


@dataclass(frozen=True, eq=False)
class Shown:
    """A panel to show. `frames` [C, H, W] raw; `truth` [H, W], None where it is not known."""

    name: str
    kind: str
    frames: NDArray
    finding: Finding
    truth: NDArray[np.bool_] | None = None


def decided(map: NDArray[np.float32], score: float, frames: NDArray, limits: Limits, names: Sequence[str]) -> Finding:
    """The finding of a panel whose map and score are known, with its strongest defect's channels."""
    cells = limits.zones.cells((map.shape[0], map.shape[1])) if limits.zones else None
    found = decide(map, score, limits, (frames.shape[1], frames.shape[2]), inspected=cells)
    if found.passed or not found.defects:
        return found
    return replace(found, defects=(with_channels(found.defects[0], frames, names), *found.defects[1:]))


def write(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page of `parts`, which are HTML, to `path`."""
    head = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<meta name='color-scheme' content='light dark'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    text = f"{head}<body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    path.write_text(text, encoding="utf-8")


def words(text: str, kind: str = "") -> str:
    return f"<p class='{kind}'>{html.escape(text)}</p>"


def section(title: str, *parts: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{''.join(parts)}"


def cards(facts: dict[str, tuple[str, str]]) -> str:
    """The few numbers that matter: name -> value and a note below it."""
    texts = ((html.escape(name), html.escape(value), html.escape(note)) for name, (value, note) in facts.items())
    inner = "".join(
        f"<div><small>{name}</small><b>{value}</b><small>{note}</small></div>" for name, value, note in texts
    )
    return f"<div class='cards'>{inner}</div>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; without `heads`, of names and values."""
    top = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<div class='wide'><table>{f'<tr>{top}</tr>' if heads else ''}{body}</table></div>"


def _cell(value: object) -> str:
    text = str(value)
    return f"<td{' class=long' if len(text) > 60 else ''}>{html.escape(text)}</td>"


def curve(losses: Sequence[float]) -> str:
    """The loss as a line, mean of twenty steps, on a logarithmic scale."""
    width = min(20, max(1, len(losses)))
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    level = np.log10(np.maximum(smooth, 1e-9))
    x = np.linspace(0, WIDE, len(level))
    y = (level.max() - level) / max(np.ptp(level), 1e-9) * HIGH
    keep = np.unique(np.linspace(0, len(x) - 1, 400).astype(int))
    points = " ".join(f"{x[at]:.1f},{y[at]:.1f}" for at in keep)
    left, right = f"{smooth[0]:.3g} at step {width}", f"{smooth[-1]:.3g} at step {len(losses)}"
    return _drawing(f"<polyline class='curve' points='{points}'/>{_ends(left, right, HIGH)}", HIGH + 20)


def histograms(series: Mapping[str, Sequence[float]], limits: Limits) -> str:
    """A row of bars for each of `series`, one axis, the limit through all; "good" ones are those whose name says so."""
    finite = {name: np.array([one for one in scores if np.isfinite(one)]) for name, scores in series.items()}
    every = np.concatenate([np.zeros(0), *finite.values()])
    high = max(float(np.quantile(every, TOP_SHARE)) if every.size else 0.0, 1.25 * limits.image)
    low = min(float(every.min()) if every.size else 0.0, limits.low)
    edges = np.linspace(low, high, BINS + 1)
    rows = [_bars(place, name, scores, edges) for place, (name, scores) in enumerate(finite.items())]
    bottom = ROW * len(rows)
    marks = _mark((limits.low - low) / (high - low), "low", bottom) + _mark(
        (limits.image - low) / (high - low), "limit", bottom
    )
    at = min(max((limits.image - low) / (high - low) * WIDE, 40), WIDE - 70)
    text = (
        f"<text class='limit-text' x='{at:.0f}' y='{bottom + 14}' text-anchor='middle'>limit {limits.image:.3g}</text>"
    )
    return _drawing("".join(rows) + marks + text + _ends(f"{low:.3g}", f"{high:.3g} and above", bottom), bottom + 20)


def _bars(place: int, name: str, scores: NDArray[np.float64], edges: NDArray[np.float64]) -> str:
    counts, _ = np.histogram(np.minimum(scores, edges[-1]), bins=edges)
    top, step, base = max(int(counts.max()), 1), WIDE / BINS, ROW * (place + 1)
    kind = "good" if name.startswith("good") else "bad"
    bars = (
        f"<rect class='{kind}' x='{n * step:.1f}' y='{base - 34 * count / top:.1f}' width='{step - 0.8:.1f}'"
        f" height='{34 * count / top:.1f}'/>"
        for n, count in enumerate(counts)
        if count
    )
    label = f"<text x='2' y='{base - 42}'>{html.escape(name)} ({len(scores)})</text>"
    return f"{''.join(bars)}{label}<line class='axis' x1='0' x2='{WIDE}' y1='{base}' y2='{base}'/>"


def _mark(share: float, kind: str, bottom: float) -> str:
    x = share * WIDE
    return f"<line class='{kind}' x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{bottom}'/>"


def _ends(left: str, right: str, bottom: float) -> str:
    return (
        f"<text x='0' y='{bottom + 14}'>{html.escape(left)}</text>"
        f"<text x='{WIDE}' y='{bottom + 14}' text-anchor='end'>{html.escape(right)}</text>"
    )


def _drawing(content: str, high: float) -> str:
    return f"<svg viewBox='0 -4 {WIDE} {high + 4:.0f}' role='img'>{content}</svg>"


def gallery(panels: Sequence[Shown], limits: Limits, names: Sequence[str]) -> str:
    """Panels, each beside itself under its heat map with the mask outlined in red and the truth in green."""
    return f"<div class='panels'>{''.join(_panel(one, limits, names) for one in panels)}</div>"


def _panel(one: Shown, limits: Limits, names: Sequence[str]) -> str:
    found, channels = one.finding, one.finding.defects[0].channels if one.finding.defects else ()
    verdict = "<span class='pass'>pass</span>" if found.passed else "<span class='reject'>reject</span>"
    seen = f", seen in {html.escape(', '.join(channels))}" if channels and not found.passed else ""
    text = f"<b>{html.escape(' '.join((one.name, one.kind)).strip())}</b>: {found.score:.3g}, {verdict}{seen}"
    frame = one.frames[list(names).index(channels[0]) if channels else 0]
    data = base64.b64encode(_picture(one, frame, limits)).decode()
    picture = f"<img alt='{html.escape(one.name)}' src='data:image/jpeg;base64,{data}'>"
    return f"<figure>{picture}<figcaption>{text}</figcaption></figure>"


def _picture(one: Shown, frame: NDArray, limits: Limits) -> bytes:
    scale = SIDE / max(frame.shape)
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(frame, size, interpolation=how))
    heated = overlay.heat(small, one.finding.map, limits.pixel)
    if one.truth is not None:
        overlay.outlined(heated, _shrunk(one.truth, size), (84, 146, 31))
    overlay.outlined(heated, _shrunk(one.finding.mask, size))
    both = np.hstack([cv2.cvtColor(overlay.grey(small), cv2.COLOR_GRAY2BGR), heated])
    return cv2.imencode(".jpg", both, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _shrunk(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Every marked pixel stays."""
    share = np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    return share > 0


def promised(limits: Limits) -> str:
    """The promise in words."""
    kept, seen = limits.promise, limits.statistics.panels
    where = f" It looks at {limits.zones.share:.0%} of the panel." if limits.zones else ""
    return (
        f"A panel that scores above {limits.image:.4g} is a reject. Of good panels like the {seen} that set this limit,"
        f" at most {kept.rate:.1%} will be rejected; this holds with {kept.confidence:.0%} confidence. A score below"
        f" {limits.low:.3g} is no panel's and a fault of the engine.{where}"
    )


def amend(path: Path, text: str) -> None:
    """Put a remark below the title of a page that is there; nothing where it is not."""
    if path.is_file():
        page = path.read_text(encoding="utf-8")
        path.write_text(page.replace("</h1>", f"</h1>{words(text, 'warn')}", 1), encoding="utf-8")
