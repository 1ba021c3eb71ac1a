"""Two evaluations of the same panels: the differences of scores, and of pixels as the JSON keeps them."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra [teach]")

from calibration import bootstrap, metrics, paired
from calibration.metrics import SIDE, Result


def evaluation(scores: np.ndarray, kinds: list[str]) -> dict:
    rows = [{"panel": str(n), "defect": kind, "score": float(s)} for n, (kind, s) in enumerate(zip(kinds, scores))]  # noqa: B905
    return {"results": rows}


def test_the_same_panels_judged_better_are_better_in_nearly_every_draw() -> None:
    random, kinds = np.random.default_rng(0), ["good"] * 40 + ["pit"] * 40
    hard = random.normal(0, 1, 80) + 0.5 * (np.arange(80) >= 40)
    easy = hard + 1.5 * (np.arange(80) >= 40)
    found = paired.compared(evaluation(easy, kinds), evaluation(hard, kinds))["image_auroc"]
    assert found["difference"] > 0.1 and found["interval95"][0] > 0 and found["share_above"] > 0.99
    same = paired.compared(evaluation(easy, kinds), evaluation(easy, kinds))["image_auroc"]
    assert same == {"difference": 0.0, "interval95": [0.0, 0.0], "share_above": 0.5}


def test_pairing_finds_what_separate_intervals_hide() -> None:
    """Both evaluations err on the same panels: each figure is uncertain, their difference is not."""
    random, kinds = np.random.default_rng(1), ["good"] * 30 + ["pit"] * 30
    first = random.normal(0, 1, 60) + 1.0 * (np.arange(60) >= 30)
    second = first - 0.25 * (np.arange(60) >= 30)
    together = paired.compared(evaluation(first, kinds), evaluation(second, kinds))["image_auroc"]["interval95"]
    alone = [bootstrap.interval(bootstrap.image_figures(kinds, each, bootstrap.weights(kinds))["image_auroc"])
             for each in (first, second)]  # fmt: skip
    assert alone[0][0] < alone[1][1]
    assert together[0] > 0


def test_other_panels_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="pit/1 was evaluated in one"):
        paired.compared(evaluation(np.ones(2), ["good", "pit"]), evaluation(np.ones(1), ["good"]))


def seen(seed: int, sharpness: float, count: int = 40) -> list[Result]:
    """Panels with a spot on every second one, and maps that see it somewhat; the noise is smooth, as maps are."""
    random = np.random.default_rng(seed)
    results = []
    for number in range(count):
        mask = np.zeros((SIDE, SIDE), bool)
        row, column = random.integers(5, 100, 2)
        mask[row : row + 12, column : column + 3 + number % 9] = number % 2 == 0
        noise = np.kron(random.gamma(2.0, 0.3, (SIDE // 4, SIDE // 4)), np.ones((4, 4)))
        map = (noise + 0.1 * random.normal(0, 1, mask.shape) + sharpness * mask).astype(np.float32)
        kind = "good" if number % 2 else ("pit" if number % 4 else "crack")
        results.append(Result(kind, True, float(map.max()), map, mask, str(number)))
    return results


@pytest.mark.parametrize(("seed", "sharpness"), [(0, 0.3), (1, 0.8), (2, 1.6)])
def test_pixels_as_they_are_kept_give_nearly_the_exact_figures(seed: int, sharpness: float) -> None:
    found = metrics.figures(seen(seed, sharpness), 1.0)
    kept = json.loads(json.dumps(found))["results"]
    sums = paired._sums([row["pixels"] for row in kept])
    drawn = pixel_draws_of_all(sums)
    for name in ("pixel_ap", "aupro30", "aupro05", "pixel_auroc"):
        assert drawn[name] == pytest.approx(found[name], abs=0.004), name


def pixel_draws_of_all(sums: list[np.ndarray]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in bootstrap.pixel_draws(sums, np.ones((1, len(sums[0])))).items()}


def test_what_is_kept_of_a_panel_is_small_and_counts_all_its_pixels() -> None:
    rows = metrics.figures(seen(0, 0.8), 1.0)["results"]
    for row in rows:
        counted = [sum(map(int, row["pixels"].get(name, "0").split())) for name in ("defective", "good")]
        assert sum(counted) == SIDE * SIDE and (counted[0] > 0) == (row["defect"] != "good")
        assert len(json.dumps(row)) < 3000


def test_a_map_that_sees_better_is_better_in_every_pixel_figure() -> None:
    easy, hard = (metrics.figures(seen(0, sharpness), 1.0) for sharpness in (1.2, 0.8))
    found = paired.compared(easy, hard)
    for name in ("pixel_ap", "aupro30", "aupro05"):
        assert found[name]["difference"] == easy[name] - hard[name] > 0
        assert found[name]["interval95"][0] > 0 and found[name]["share_above"] == 1
    assert paired.compared(easy, easy)["pixel_ap"] == {"difference": 0.0, "interval95": [0.0, 0.0], "share_above": 0.5}


def test_without_pixels_in_one_of_the_two_only_images_are_compared() -> None:
    full = metrics.figures(seen(0, 0.8), 1.0)
    bare = full | {
        "results": [{key: value for key, value in row.items() if key != "pixels"} for row in full["results"]]
    }
    assert set(paired.compared(full, bare)) == {name for name in paired.compared(bare, bare) if "pixel" not in name}
