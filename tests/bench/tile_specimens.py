"""`magnetic_tile` with its specimens told: `python tests/bench/tile_specimens.py SETS/magnetic_tile OUT`.

Its pictures are named exp<E>_num_<N>; numbers at most 250 apart show the same tile at other exposures. OUT gets links
to the set whose names in train/good begin with their tile, and a set.toml that says so. Then, for the figures by hand:
`takt teach OUT --method fused --teacher-weights WEIGHTS --out RECIPE` and `takt eval RECIPE OUT`.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

APART = 250
GOOD = Path("train") / "good"


def main(given: Annotated[Path, typer.Argument()], out: Annotated[Path, typer.Argument()]) -> None:
    """Write the set of links."""
    given = given.resolve()
    (out / GOOD).mkdir(parents=True)
    tile, before = 0, -APART - 1
    for number, path in sorted((_number(path), path) for path in (given / GOOD).iterdir()):
        tile += number - before > APART
        before = number
        (out / GOOD / f"tile{tile:02}_{path.name}").symlink_to(path)
    for folder in ("test", "ground_truth"):
        (out / folder).symlink_to(given / folder)
    (out / "set.toml").write_text("specimen = '^(tile[0-9]+)_'\n")
    print(f"{tile} tiles")  # noqa: T201


def _number(path: Path) -> int:
    found = re.search(r"_num_(\d+)", path.stem)
    if not found:
        raise typer.BadParameter(f"{path}: is not named exp<E>_num_<N>")
    return int(found[1])


if __name__ == "__main__":
    typer.run(main)
