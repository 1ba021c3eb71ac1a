"""Two passports side by side."""

import json
from pathlib import Path

import passports
import pytest

from pipeline.bench.compare import FASTER, SAME, SLOWER, Change, changes, differences
from pipeline.bench.passport import EnginePassport, LinePassport
from pipeline.cli import app
from pipeline.errors import UsageError


def engine(median_ms: float, seed: int, scatter: float = 0.02, runs: int = 300) -> EnginePassport:
    rows = [passports.row(1, passports.times(median_ms, scatter, runs, seed), {"network": median_ms})]
    return passports.engine_passport(rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_measured_twice_is_no_difference(seed: int) -> None:
    found = changes(engine(100, seed), engine(100, seed + 50))
    assert [one.verdict for one in found] == [SAME]


@pytest.mark.parametrize(("after_ms", "verdict"), [(80, FASTER), (125, SLOWER)])
def test_what_is_more_than_noise_is_a_difference(after_ms: float, verdict: str) -> None:
    (change,) = changes(engine(100, 1), engine(after_ms, 2))
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(after_ms / 100, rel=0.02)
    assert change.interval[0] < change.ratio < change.interval[1]


def test_a_restless_machine_covers_a_difference_that_a_quiet_one_shows() -> None:
    assert changes(engine(100, 1), engine(104, 2))[0].verdict == SLOWER
    assert changes(engine(100, 1, scatter=0.6, runs=60), engine(104, 2, scatter=0.6, runs=60))[0].verdict == SAME


def test_noise_covers_as_much_downwards_as_upwards() -> None:
    change = Change("latency, median", 200, 56, 0.28, (0.24, 0.34), noise=0.94)
    assert change.verdict == FASTER
    assert Change("latency, median", 56, 200, 1 / 0.28, (1 / 0.34, 1 / 0.24), noise=0.94).verdict == SLOWER
    assert Change("latency, median", 200, 110, 0.55, (0.52, 0.6), noise=0.94).verdict == SAME


def test_lines_are_compared_by_latency_and_stage() -> None:
    before, after = passports.line_passport(400, seed=1), passports.line_passport(400, network_ms=60, seed=2)
    found = {one.what: one.verdict for one in changes(before, after)}
    assert found["latency, median"] == found["network, median"] == SLOWER
    assert found["exposure, median"] == SAME


def test_a_tail_is_compared_only_where_enough_panels_stand_behind_it() -> None:
    few = {one.what for one in changes(engine(100, 1), engine(100, 2))}
    many = {one.what for one in changes(engine(100, 1, runs=1000), engine(100, 2, runs=1000))}
    assert (few, many) == ({"batch 1, median"}, {"batch 1, median", "batch 1, p99"})


def test_what_was_not_the_same_is_named() -> None:
    other = passports.engine_passport([], precision="int8").model_copy(update={"machine": {"cores": 8}})
    said = list(differences(passports.engine_passport([]), other))
    assert said == ["precision: fp32, int8", "machine cores: 2, 8"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (engine(100, 1), passports.line_passport(), "like with like"),
        (engine(100, 1), passports.engine_passport([]), "no figure in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(before: EnginePassport, after: LinePassport, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        changes(before, after)


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, passport in {"a": engine(100, 1), "b": engine(80, 2)}.items():
        (tmp_path / f"{name}.json").write_text(passport.model_dump_json())
    told = tmp_path / "told.json"
    app(
        ["bench", "compare", *(str(tmp_path / f"{name}.json") for name in "ab"), "--json", str(told)],
        standalone_mode=False,
    )
    (change,) = json.loads(told.read_text())["changes"]
    assert (change["what"], change["verdict"]) == ("batch 1, median", FASTER)
    assert FASTER in capsys.readouterr().out
