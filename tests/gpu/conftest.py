"""What runs on an NVIDIA card, skipped with the reason where there is none."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import cuda
from engines.cuda import Device
from engines.errors import DeviceError, UsageError

sys.path.append(str(Path(__file__).parents[1] / "engines"))  # small recipes, and the processor as a card


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture
def device() -> Iterator[Device]:
    """The first card, its context current."""
    try:
        found = cuda.device()
    except (DeviceError, UsageError) as missing:
        pytest.skip(str(missing))
    with found.current():
        yield found
