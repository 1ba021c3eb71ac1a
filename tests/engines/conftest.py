"""Recipes for the tests of this folder; see `toy_recipe`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from toy_recipe import facts, write_network

from engines import recipe as recipes
from engines.recipe import Recipe

settings.register_profile("no deadline", deadline=None)  # shared machines stall
settings.load_profile("no deadline")


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    def make(channels: int = 2, **changes: object) -> Recipe:
        pytest.importorskip("onnx", reason="needs the extra [teach]")
        folder = tmp_path / f"recipe{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_network(folder / "network.onnx", channels)
        return recipes.write(folder, facts(channels) | changes)

    return make
