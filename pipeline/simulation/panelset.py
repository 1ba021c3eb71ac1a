"""Writes a simulated panel set: `python -m pipeline.simulation.panelset OUT --good 64 --defective 24`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from calibration.panels import GOOD, write_panel
from engines.errors import PanelError, TaktError, UsageError
from pipeline.simulation import defects, panel, watermark
from pipeline.simulation.panel import CHANNELS, Look
from pipeline.simulation.plan import derived_seed

PRODUCT = "simulated-display"
MM_PER_PX = 0.02


@dataclass(frozen=True)
class Item:
    """One panel to write. `mark` is its number in the whole set, stamped on its frames."""

    split: str
    kind: str | None
    name: str
    mark: int


def items(good: int, test_good: int, defective: int, kinds: tuple[str, ...]) -> Iterator[Item]:
    """The panels of a set: `defective` in all, the kinds in turn."""
    yield from (Item("train", None, f"{n:04d}", n) for n in range(good))
    yield from (Item("test", None, f"{n:04d}", good + n) for n in range(test_good))
    for n in range(defective):
        yield Item("test", kinds[n % len(kinds)], f"{n // len(kinds):04d}", good + test_good + n)


def write_set(
    out: Path, wanted: list[Item], look: Look, seed: int, channels: tuple[str, ...] = CHANNELS, scale: float = 1.0
) -> None:
    """Write the panels of `wanted` and `set.toml` to `out`; shows its progress.

    The same seed writes the same pixels. No panel of a set is drawn like one of `plan.Plan`, whatever its seed.

    Raises:
        UsageError: `out` holds something already, or a channel is unknown.
        PanelError: the disk refuses.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; name a new folder")
    for item in track(wanted, description=f"drawing {out.name}"):
        _write(out, item, look, seed, channels, scale)
    _write_facts(out / "set.toml", channels)


def _write(out: Path, item: Item, look: Look, seed: int, channels: tuple[str, ...], scale: float) -> None:
    own = derived_seed("set", seed, item.split, item.kind, item.name)
    defect = defects.draw(item.kind, own, scale) if item.kind else None
    drawn = panel.render(own, look, channels, defect)
    watermark.stamp_set(drawn.frames, item.mark)
    folder = out / item.split / (item.kind or GOOD)
    write_panel(folder, item.name, drawn.frames, channels, drawn.mask if item.kind else None)


def _write_facts(path: Path, channels: tuple[str, ...]) -> None:
    # a list of plain names is written alike in JSON and TOML
    lines = [f'product = "{PRODUCT}"', f"mm_per_px = {MM_PER_PX}", f"channels = {json.dumps(channels)}"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise PanelError(f"{path}: cannot be written: {error.strerror or error}") from None


def _command(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    good: Annotated[int, typer.Option(min=0, help="panels in train/good")] = 64,
    test_good: Annotated[int, typer.Option(min=0, help="panels in test/good")] = 32,
    defective: Annotated[int, typer.Option(min=0, help="panels in test/<kind>, in all")] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    size: Annotated[int, typer.Option(min=64, max=8192, help="height and width, px")] = 224,
    channels: Annotated[str, typer.Option(help="names in order, with commas")] = ",".join(CHANNELS),
    kinds: Annotated[str, typer.Option(help="defect kinds, with commas")] = ",".join(defects.KINDS),
    deep: Annotated[bool, typer.Option("--uint16", help="16-bit frames")] = False,
) -> None:
    """Write a simulated panel set."""
    look = Look(height=size, width=size, dtype="uint16" if deep else "uint8")
    wanted = list(items(good, test_good, defective, tuple(kinds.split(","))))
    try:
        write_set(out, wanted, look, seed, tuple(channels.split(",")))
    except TaktError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise typer.Exit(error.exit_status) from None


def main() -> None:
    """The command line of `python -m pipeline.simulation.panelset`."""
    command = typer.Typer(add_completion=False)
    command.command()(_command)
    command()


if __name__ == "__main__":
    main()
