"""The table is filled cell by cell by the commands themselves, goes on where it stopped, and says what failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "measure.py"
PLAN = """
seeds = [0, 1]
sets = ["tiles", "screens"]
without = {tiles = ["dent"]}
[methods.plain]
teach = ["--method", "plain"]
[methods."plain, one channel"]
teach = ["--method", "plain", "--channels", "c1"]
sets = ["tiles"]
"""
# stands for the program: writes what the commands write, and notes how it was called
TAKT = """#!{python}
import json, sys
from pathlib import Path
command, rest = sys.argv[1], sys.argv[2:]
option = lambda name: rest[rest.index(name) + 1]
with Path({log!r}).open("a") as log:
    log.write(command + " " + " ".join(rest) + "\\n")
if "screens" in " ".join(rest) and Path({broken!r}).exists():
    sys.exit("the lamp is off\\nno panels in train/good")
if command == "teach":
    Path(option("--out")).mkdir()
    (Path(option("--out")) / "manifest.json").write_text(json.dumps({{"settings": {{"width": 16}}}}))
    said = {{"seconds": 3.2, "promised_false_reject": {{"rate": 0.1, "confidence": 0.95}}, "out": option("--out")}}
else:
    count = {{"k": 1, "n": 4, "rate": 0.25, "upper95": 0.75, "interval95": [0.01, 0.81]}}
    kind = lambda n: "good" if n < 4 else "pit" if n < 7 else "dent"
    rows = [{{"panel": str(n), "defect": kind(n), "score": n}} for n in range(8)]
    kinds = {{"pit": {{"image_auroc": 1.0, "interval95": [1.0, 1.0], "image_ap": 1.0, "miss": count}}}}
    said = {{"image_auroc": 1.0, "image_auroc_mean": 1.0, "pixel_ap": None, "aupro30": None, "aupro05": None,
            "intervals95": {{"image_auroc": [0.9, 1.0]}}, "false_reject": count, "miss": count, "by_defect": kinds,
            "pixel_ap_by_defect": {{}}, "ms_per_panel": {{"median": 20.0, "p99": 30.0}}, "results": rows}}
Path(option("--json")).write_text(json.dumps(said))
"""


class Bench:
    """The script with a program of our own in place of `takt`."""

    def __init__(self, place: Path) -> None:
        self.place, self.log, self.broken = place, place / "log", place / "broken"
        self.results = place / "results"
        (place / "plan.toml").write_text(PLAN)
        program = place / "takt"
        program.write_text(TAKT.format(python=sys.executable, log=str(self.log), broken=str(self.broken)))
        program.chmod(0o755)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), "--data", str(self.place / "data"), "--takt", str(self.place / "takt")]
        command += ["--plan", str(self.place / "plan.toml"), "--results", str(self.results), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "300"})

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def cells(self) -> list[str]:
        return sorted(path.stem for path in self.results.glob("*.json"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    pytest.importorskip("sklearn", reason="needs the extra [teach]")
    return Bench(tmp_path)


def test_every_cell_is_taught_and_evaluated_once(bench: Bench) -> None:
    done = bench.run()
    assert done.returncode == 0, done.stderr
    assert bench.cells() == [
        "screens--plain--s0", "screens--plain--s1", "tiles--plain--s0", "tiles--plain--s1",
        "tiles--plain-one-channel--s0", "tiles--plain-one-channel--s1",
    ]  # fmt: skip
    assert len(bench.calls()) == 12
    taught = [call for call in bench.calls() if call.startswith("teach") and "c1" in call]
    assert len(taught) == 2 and "--seed 1" in taught[1] and "tiles" in taught[0]
    assert bench.run().stdout == done.stdout
    assert len(bench.calls()) == 12


def test_a_cell_tells_with_which_settings_and_on_what_it_was_measured(bench: Bench) -> None:
    bench.run("--only", "set=tiles", "--only", "seed=0", "--only", "method=plain")
    cell = json.loads((bench.results / "tiles--plain--s0.json").read_text())
    assert cell["settings"] == {"width": 16}
    assert cell["machine"]["cpu"] and "numpy" in cell["machine"]["versions"]


def test_the_table_has_counts_intervals_and_the_paired_difference(bench: Bench) -> None:
    lines = bench.run("--only", "set=tiles", "--only", "seed=0").stdout.splitlines()
    plain, one = lines[2], lines[3]
    assert "| tiles | plain | 0 | 1.000 [0.90, 1.00] |" in plain and "1/4 [1%, 81%]" in plain
    assert "10.0% at 95%" in plain and "| tiles | plain, one channel | 0 |" in one
    assert any("| pit | 1.000 [1.00, 1.00] |" in line for line in lines)


def test_each_metric_of_the_first_is_compared_on_the_same_draws_by_set_and_over_all(bench: Bench) -> None:
    lines = bench.run("--only", "seed=0").stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("| set | plain less | seed |"))
    assert lines[at].endswith("| image_auroc_mean | pixel_ap | aupro30 | aupro05 | image_auroc_mean_without |")
    same = "+0.000 [+0.000, +0.000], better in 50%"
    assert lines[at + 2] == f"| tiles | plain, one channel | 0 | {same} | - | - | - | {same} |"
    assert lines[at + 3] == f"| all | plain, one channel | 1 cells | {same} | - | - | - | {same} |"


def test_the_mean_without_a_kind_is_that_of_the_others(bench: Bench) -> None:
    lines = bench.run("--only", "seed=0", "--only", "set=tiles").stdout.splitlines()
    assert "| tiles | plain | 0 | dent | 1.000 [1.00, 1.00] |" in lines


def test_means_are_those_of_the_methods_that_were_measured_everywhere(bench: Bench) -> None:
    said = bench.run().stdout
    assert "| method | cells | image_auroc_mean | pixel_ap | aupro30 | aupro05 |" in said
    assert "| plain | 4 of 4 | 1.000 (4) | - | - | - |" in said
    assert "| plain, one channel | 2 of" not in said


def test_a_cell_that_fails_is_said_and_the_others_go_on(bench: Bench) -> None:
    bench.broken.touch()
    done = bench.run("--only", "seed=0")
    assert done.returncode == 1
    assert "screens--plain--s0: takt teach ended with 1: no panels in train/good" in done.stderr
    assert bench.cells() == ["tiles--plain--s0", "tiles--plain-one-channel--s0"]
    bench.broken.unlink()
    assert bench.run("--only", "seed=0").returncode == 0
    assert len(bench.calls()) == 1 + 6


def test_a_recipe_that_is_taught_is_not_taught_again_after_an_interruption(bench: Bench) -> None:
    bench.run("--only", "set=tiles", "--only", "seed=0", "--only", "method=plain")
    (bench.results / "tiles--plain--s0.json").unlink()
    bench.run("--only", "set=tiles", "--only", "seed=0", "--only", "method=plain")
    assert [call.split()[0] for call in bench.calls()] == ["teach", "eval", "eval"]


def test_cells_of_other_options_are_not_mixed_in(bench: Bench) -> None:
    bench.run("--only", "seed=0", "--only", "set=tiles")
    (bench.place / "plan.toml").write_text(PLAN.replace('"c1"', '"c2"'))
    done = bench.run("--only", "seed=0", "--only", "set=tiles")
    assert done.returncode == 2 and "remove it to measure it anew" in done.stderr


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("sets=tiles", "write method="),
        ("tiles", "write method="),
        ("set=tile", "has tiles, screens"),
        ("seed=2", "has 0, 1"),
    ],
)
def test_a_wrong_choice_is_one_line(bench: Bench, only: str, says: str) -> None:
    done = bench.run("--only", only)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_what_is_there_can_be_printed_alone(bench: Bench) -> None:
    assert bench.run("--print").returncode == 0 and not bench.calls()


def test_the_plan_that_ships_can_be_read(bench: Bench) -> None:
    done = bench.run("--print", "--plan", str(SCRIPT.with_suffix(".toml")))
    assert done.returncode == 0, done.stderr
    assert bench.cells() == []
