"""Lines with simulated devices, each on ports, sockets and a state folder of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import toy_line
from harness import Line, running


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for the toy line's two channels."""
    pytest.importorskip("onnx", reason="needs the extra [teach]")
    folder = tmp_path_factory.mktemp("recipes") / "toy"
    toy_line.write_recipe(folder)
    return folder


@pytest.fixture
def line_file(recipe: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a line file; keywords are merged into its tables."""
    return lambda **changes: toy_line.write_line(tmp_path, changes.pop("recipe", recipe), **changes)


@pytest.fixture
def start(line_file: Callable[..., Path]) -> Iterator[Callable[..., Line]]:
    """Starts a line; it ends with the test, and must leave nothing behind."""
    with ExitStack() as stack:

        def started(**changes: Any) -> Line:
            return stack.enter_context(running(line_file(**changes)))

        yield started
