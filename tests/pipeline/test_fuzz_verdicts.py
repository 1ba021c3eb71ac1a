"""The short form of tests/bench/fuzz_verdicts.py, and that it would notice."""

import pytest
from bench.fuzz_verdicts import Fuzz

from pipeline import decision, handshake


def test_no_fuzzed_or_replayed_verdict_passes_a_panel() -> None:
    fuzz = Fuzz(seed=1)
    fuzz.run(20_000)
    assert fuzz.counts["wrong_pass"] == fuzz.counts["wrong_reject"] == fuzz.counts["not_one_result"] == 0
    assert fuzz.counts["passed"] > 500 and fuzz.counts["panels"] > 5000


@pytest.mark.parametrize("believed", ["digest", "recipe", "calibration", "engine", "station", "inspector"])
def test_a_decision_that_believes_one_field_would_be_noticed(monkeypatch: pytest.MonkeyPatch, believed: str) -> None:
    real = decision.proves

    def credulous(verdict, panel, terms) -> bool:
        expected = terms.recipes[panel.seen.recipe_no]
        right = {
            "digest": panel.digest(terms.cameras) or "",
            "recipe": expected.recipe,
            "calibration": expected.calibration,
            "engine": expected.engine,
            "station": terms.station,
            "inspector": panel.inspector,
        }[believed]
        return real(verdict.model_copy(update={believed: right}), panel, terms)

    monkeypatch.setattr(decision, "proves", credulous)
    assert handshake.decide is decision.decide
    fuzz = Fuzz(seed=2)
    fuzz.run(4000)
    assert fuzz.counts["wrong_pass"] > 0
