"""Lines with simulated devices, each on ports, sockets and a state folder of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import Line, running


@pytest.fixture
def start(line_file: Callable[..., Path]) -> Iterator[Callable[..., Line]]:
    """Starts a line; it ends with the test, and must leave nothing behind."""
    with ExitStack() as stack:

        def started(**changes: Any) -> Line:
            return stack.enter_context(running(line_file(**changes)))

        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of a whole line keeps time with its processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.alone)
