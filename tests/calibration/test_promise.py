"""Over many draws of good panels, limits reject more than they promise no more often than their confidence allows."""

from pathlib import Path

import numpy as np
import pytest
from bench import promise

POPULATIONS = {
    "long tail": lambda random: random.lognormal(0, 0.6, 3000),
    "two kinds": lambda random: np.where(random.uniform(size=3000) < 0.05, 3, 1) * random.uniform(0.9, 1.1, 3000),
    "many ties": lambda random: np.round(random.gamma(4, 0.3, 3000), 1) + 0.1,
}


@pytest.mark.parametrize("panels", promise.COUNTS)
@pytest.mark.parametrize("kind", POPULATIONS)
def test_the_promise_holds_whatever_the_scores_look_like(kind: str, panels: int) -> None:
    population = POPULATIONS[kind](np.random.default_rng(7))
    assert promise.check(population, panels, promise.WISH).holds
    assert promise.check(population, panels, promise.Promise(rate=0.1, confidence=0.8)).holds


def test_a_limit_that_is_set_too_low_is_seen() -> None:
    """The check can fail: a population in which the panels drawn do not stand for the rest."""
    population = np.random.default_rng(7).lognormal(0, 0.6, 3000)
    wide = promise.Promise(rate=0.1, confidence=0.8)
    limits = [np.quantile(np.random.default_rng(n).choice(population, 60), 0.9) for n in range(200)]
    assert (
        sum((population > limit).mean() > wide.rate for limit in limits)
        > promise.check(population, 60, wide).allowed_by_chance
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_promise_holds_on_simulated_panels(tmp_path_factory: pytest.TempPathFactory) -> None:
    kept = Path(tmp_path_factory.getbasetemp().parent) / "takt-promise.npz"
    population = promise.kept_scores(kept, 2400)
    for panels in promise.COUNTS:
        assert promise.check(population, panels, promise.WISH).holds
