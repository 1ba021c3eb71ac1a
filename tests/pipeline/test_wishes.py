"""Which recipe a line uses: the wish, the line file's last word, and what survives whom."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from line import toy_line

from engines import recipe as recipes
from pipeline import asking, wishes
from pipeline.check import check_line
from pipeline.config import LineConfig, load
from pipeline.errors import ConfigError, RecipeError, StageError, TaktError, UsageError
from pipeline.wishes import Place, Row


@dataclass
class Shop:
    """A line that stands still, and two recipes for its one number."""

    line: Path
    first: Path
    second: Path

    @property
    def config(self) -> LineConfig:
        return load(self.line)

    def use(self, recipe: Path, number: int = 1, **how: bool) -> str:
        place, _ = asking.checked(self.config, number, Place(path=recipe), **how)
        return asking.ask(self.config, number, place, 1.0)

    def in_use(self) -> Path:
        return wishes.resolved(self.config)[1].place.path

    @property
    def place_of_first(self) -> Place:
        return Place(path=self.first, recipe=recipes.load(self.first).hash)


@contextmanager
def running(shop: Shop, row: Row) -> Iterator[None]:
    """The line runs, and its one number stands like this."""
    config = shop.config
    config.run_dir.mkdir()
    config.state.mkdir(exist_ok=True)
    try:
        wishes.stand(config, {1: row})
        with config.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    finally:
        wishes.standing_file(config).unlink()
        config.run_dir.rmdir()


@pytest.fixture
def shop(line_file: Callable[..., Path], recipe: Path, tmp_path: Path) -> Shop:
    return Shop(line_file(), recipe, other(recipe, tmp_path / "second"))


def other(recipe: Path, folder: Path, image: float = 0.3, **changes: Any) -> Path:
    limits = recipes.load(recipe).manifest.limits.model_copy(update={"image": image})
    toy_line.write_recipe(folder, limits=limits, **changes)
    return folder


def test_a_line_that_stands_still_uses_it_from_the_next_start(shop: Shop) -> None:
    assert shop.in_use() == shop.first
    assert shop.use(shop.second) == "will be used from the next start"
    assert shop.in_use() == shop.second
    assert any(f"wish: recipe 1 is {shop.second}" in found for found in check_line(shop.config))


def test_the_line_file_has_the_last_word(shop: Shop, tmp_path: Path) -> None:
    """A wish holds until the engineer writes another entry for its number; what else he writes is no matter."""
    shop.use(shop.second)
    shop.line.write_text(shop.line.read_text().replace('station = "toy"', 'station = "toy2"'))
    assert shop.in_use() == shop.second
    third = other(shop.first, tmp_path / "third", 0.4)
    shop.line.write_text(shop.line.read_text().replace(str(shop.first), str(third)))
    assert shop.in_use() == third
    [said] = list(wishes.said(shop.config))
    assert "is the line file's, which was changed" in said
    with pytest.raises(UsageError, match="none before it"):
        asking.back(shop.config, 1)


def test_back_and_back_again(shop: Shop) -> None:
    with pytest.raises(UsageError, match="none before it"):
        asking.back(shop.config, 1)
    shop.use(shop.second)
    for expected in (shop.first, shop.second, shop.first):
        place = asking.back(shop.config, 1)
        assert asking.ask(shop.config, 1, place, 1.0) == "will be used from the next start"
        assert shop.in_use() == expected


def test_what_is_in_use_need_not_be_asked_for(shop: Shop) -> None:
    shop.use(shop.second)
    assert shop.use(shop.second) == "in use already"


def test_who_asks_for_what_is_in_use_takes_back_what_was_asked_for_and_never_came(shop: Shop, tmp_path: Path) -> None:
    """The line runs with the first, and a command that was killed has left the wish for the second."""
    shop.use(shop.second)
    refused = Row(place=shop.place_of_first, state="refused", reason="why")
    with running(shop, refused), pytest.raises(StageError, match="not in use after"):
        shop.use(shop.first)
    assert shop.in_use() == shop.first


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "network.onnx").write_bytes(b"x"), "was changed"),
        (lambda folder: (folder / "network.onnx").unlink(), "is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is damaged"),
    ],
)
def test_a_damaged_recipe_is_not_asked_for(shop: Shop, harm: Callable[[Path], object], says: str) -> None:
    harm(shop.second)
    with pytest.raises(RecipeError, match=says):
        shop.use(shop.second)
    assert shop.in_use() == shop.first and not wishes.wish_file(shop.config).exists()


def test_what_does_not_fit_the_line_is_not_asked_for(shop: Shop, tmp_path: Path) -> None:
    for ask in (lambda: shop.use(shop.second, number=2), lambda: asking.back(shop.config, 2)):
        with pytest.raises(UsageError, match=r"^the line file has no recipe 2; it has 1: add it there$"):
            ask()
    one_channel = tmp_path / "one"
    toy_line.write_recipe(one_channel, channels=("dark_left_surface",))
    with pytest.raises(ConfigError, match="cameras deliver"):
        shop.use(one_channel)
    stranger = other(shop.first, tmp_path / "stranger", product="other")
    with pytest.raises(UsageError, match="--other-product"):
        shop.use(stranger)
    assert shop.in_use() == shop.first
    shop.use(stranger, other_product=True)
    assert shop.in_use() == stranger


def test_a_number_that_the_file_has_since_the_line_was_started_is_said_to_be_so(shop: Shop) -> None:
    text = shop.line.read_text().replace("recipes = { ", f'recipes = {{ "2" = "{shop.second}", ')
    said = "started before its file had a recipe 2: stop it and start it again"
    with running(shop, Row(place=shop.place_of_first)):
        shop.line.write_text(text)
        with pytest.raises(UsageError, match=said):
            shop.use(shop.second, number=2)


def test_what_the_line_file_does_not_allow_is_not_asked_for(shop: Shop) -> None:
    shop.line.write_text(shop.line.read_text().replace('["unproven_recipe"]', "[]"))
    with pytest.raises(ConfigError, match="unproven_recipe"):
        shop.use(shop.second)


def test_a_folder_that_was_filled_anew_is_not_what_was_asked_for(shop: Shop, tmp_path: Path) -> None:
    shop.use(shop.second)
    shop.second.rename(tmp_path / "away")
    other(shop.first, shop.second, 0.35)
    with pytest.raises(RecipeError, match="was asked for"):
        list(check_line(shop.config))
    [row] = asking.shown(shop.config)["recipes"]
    assert row["state"] == "refused" and "was asked for" in row["reason"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b'{"format": 2, "wishes": {}}', b'{"format": 1, "wishes": {"x": {}}}']
)
def test_a_wish_file_that_is_no_wish_file_keeps_the_line_from_starting(shop: Shop, content: bytes) -> None:
    """The recipe that was asked for is not known: to start with another one would be a guess."""
    shop.use(shop.second)
    wishes.wish_file(shop.config).write_bytes(content)
    for call in (lambda: list(check_line(shop.config)), lambda: shop.use(shop.first)):
        with pytest.raises(TaktError, match=r"recipes.json: is damaged or of another takt .* remove it"):
            call()


def test_a_wish_is_taken_back_only_by_who_made_it(shop: Shop) -> None:
    shop.use(shop.second)
    mine = wishes.wishes(shop.config)[1]
    assert not wishes.put(shop.config, 1, None, instead_of="another")
    assert wishes.wishes(shop.config) == {1: mine}
    assert wishes.put(shop.config, 1, None, instead_of=mine.id)
    assert wishes.wishes(shop.config) == {} and shop.in_use() == shop.first


def test_a_stage_begins_with_the_runs_standing_and_without_one_with_what_a_start_would_find(shop: Shop) -> None:
    assert wishes.in_use(shop.config)[1].place.path == shop.first
    shop.config.run_dir.mkdir()
    try:
        row = Row(
            place=Place(path=shop.second, recipe="a"), state="waiting", reason="why", former=Place(path=shop.first)
        )
        wishes.stand(shop.config, {1: row})
        assert wishes.in_use(shop.config) == {1: row}
        assert not wishes.runs(shop.config), "a crash left it behind: nobody holds the line's lock"
    finally:
        wishes.standing_file(shop.config).unlink()
        shop.config.run_dir.rmdir()
