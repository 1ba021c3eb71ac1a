"""Whole panels and tiles through every runtime that takes this card, against the processor's reference."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines import parity, runtimes
from engines import recipe as recipes
from engines.build import derive
from engines.detector import Detector, open_detector
from engines.errors import DeviceError, UsageError
from engines.scoring import limits_of_golden

DEMO = Path(__file__).parents[2] / "pipeline/demo/recipe"
KINDS = ("tensorrt", "tensorrt_rtx", "torch_cuda")
RELATIVE = {"fp32": 1e-4, "fp16": 0.01}


@pytest.fixture(params=[(kind, precision) for kind in KINDS for precision in RELATIVE], ids="-".join)
def choice(request: pytest.FixtureRequest) -> tuple[str, str]:
    kind, precision = request.param
    try:
        runtimes.load(kind, precision).device()
    except (UsageError, DeviceError) as missing:
        pytest.skip(str(missing))
    return kind, precision


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is compiled once for all tests: some libraries take long."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def detector(choice: tuple[str, str], kept: Path) -> Iterator[Detector]:
    demo = recipes.load(DEMO)
    graph = derive(demo, *choice)
    with open_detector(demo, *choice, threads=1, max_batch=5, derived=graph, kept=kept) as opened:
        opened.warm(1)
        yield opened


def test_panels_answer_as_on_the_processor_in_any_batch(choice: tuple[str, str], detector: Detector) -> None:
    demo = recipes.load(DEMO)
    panels = [one.frames for one in demo.golden]
    with open_detector(demo, threads=1, max_batch=5) as reference:
        expected = reference.inspect(panels)
    for count in (1, 2, 3, 5, len(panels)):
        for found, known in zip(detector.inspect(panels[:count]), expected, strict=False):
            assert found.passed == known.passed or abs(known.score / demo.manifest.limits.image - 1) < 0.01
            np.testing.assert_allclose(found.score, known.score, rtol=RELATIVE[choice[1]])
    detector.prove()
    copies = detector.device_copies_ms(panels[:3])
    assert all(0 < ms < 100 for ms in copies.values()) and set(copies) in ({"device_in", "device_out"}, set())


def test_it_is_granted_a_certificate_by_what_it_says(choice: tuple[str, str], kept: Path) -> None:
    demo = recipes.load(DEMO)
    graph = derive(demo, *choice)
    with open_detector(demo, *choice, max_batch=5, derived=graph, proving=False, kept=kept) as detector:
        judged = parity.judge(parity.prove(detector, demo.golden), limits_of_golden(demo.manifest))
    assert judged.granted, judged.reason


def test_a_second_start_finds_what_was_compiled(choice: tuple[str, str], kept: Path) -> None:
    demo = recipes.load(DEMO)
    graph = derive(demo, *choice)
    scores = []
    for _ in range(2):
        with open_detector(demo, *choice, max_batch=5, derived=graph, kept=kept) as detector:
            scores.append([found.score for found in detector.inspect([demo.golden[0].frames, demo.golden[9].frames])])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
