"""Line files and a recipe for them, for every test that needs a line; and one thread for tiny trainings."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other spin, and a shared core stands still


KEEP_TIME = ("line", "pipeline", "deploy")  # folders of tests whose processes do: the check looks for them there


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        assert folder in KEEP_TIME or not item.get_closest_marker("alone"), f"{item.nodeid}: deploy/check runs no such"


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for the toy line's two channels."""
    pytest.importorskip("onnx", reason="needs the extra [teach]")
    from line import toy_line  # here, since tests of cards alone run where the line's packages are missing

    folder = tmp_path_factory.mktemp("recipes") / "toy"
    toy_line.write_recipe(folder)
    return folder


@pytest.fixture
def line_file(recipe: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a line file with devices, ports and state of its own; keywords are merged into its tables."""
    from line import toy_line

    return lambda **changes: toy_line.write_line(tmp_path, changes.pop("recipe", recipe), **changes)
