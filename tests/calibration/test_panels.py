"""People's panel sets just work, and what is wrong with one is said in one line."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.panels import Panel, PanelSet, natural, read_panel, write_panel
from engines.errors import PanelError

RANDOM = np.random.default_rng(0)


def frames(channels: int = 2, size: tuple[int, int] = (12, 10), dtype: type = np.uint8) -> np.ndarray:
    return RANDOM.integers(0, np.iinfo(dtype).max, (channels, *size), dtype, endpoint=True)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return tmp_path / "set" / "train" / "good"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [("grey",), ("red", "green", "blue"), ("a_1", "a_2", "b_1", "b_2")])
def test_a_written_panel_reads_back(good: Path, channels: tuple[str, ...], dtype: type) -> None:
    pixels = frames(len(channels), dtype=dtype)
    write_panel(good, "p1", pixels, channels)
    panels = PanelSet(good.parents[1])
    (panel,) = panels.panels("train", "good")
    assert (panel.name, panel.defect, panels.channels) == ("p1", "good", channels)
    np.testing.assert_array_equal(panels.read(panel), pixels)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".jpg"])
def test_the_usual_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    picture = np.full((8, 9), 77, np.uint8)
    cv2.imencode(suffix, picture)[1].tofile(path)
    np.testing.assert_array_equal(read_panel(path)[0], picture)


def test_sixteen_bit_tiff_keeps_its_bits(tmp_path: Path) -> None:
    picture = np.arange(72, dtype=np.uint16).reshape(8, 9) * 900
    cv2.imencode(".tif", picture)[1].tofile(tmp_path / "p.tif")
    np.testing.assert_array_equal(read_panel(tmp_path / "p.tif")[0], picture)


def test_channels_sort_naturally_and_set_toml_overrides(good: Path) -> None:
    names = ("exp2", "exp10", "exp1")
    write_panel(good, "p", frames(3), names)
    assert PanelSet(good.parents[1]).channels == ("exp1", "exp2", "exp10")
    (good.parents[1] / "set.toml").write_text('channels = ["exp10", "exp1", "exp2"]\nproduct = "x"\nmm_per_px = 0.05')
    panels = PanelSet(good.parents[1])
    assert panels.channels == ("exp10", "exp1", "exp2")
    assert (panels.product, panels.facts.mm_per_px) == ("x", 0.05)


def test_some_channels_can_be_chosen_whatever_others_there_are(good: Path) -> None:
    pixels = frames(3)
    write_panel(good, "p", pixels, ("exp1", "exp2", "exp3"))
    panels = PanelSet(good.parents[1], ("exp3", "exp1"))
    (panel,) = panels.panels("train", "good")
    assert panels.channels == ("exp3", "exp1")
    np.testing.assert_array_equal(panels.read(panel), pixels[[2, 0]])
    with pytest.raises(PanelError, match="exp2 is not expected"):
        read_panel(panel.path, ("exp3", "exp1"))
    with pytest.raises(PanelError, match="exp9 is missing"):
        read_panel(panel.path, ("exp9",), others=True)


def test_a_colour_can_be_chosen(good: Path) -> None:
    pixels = frames(3)
    path = write_panel(good, "p", pixels, ("red", "green", "blue"))
    np.testing.assert_array_equal(read_panel(path, ("green",), others=True), pixels[1:2])
    with pytest.raises(PanelError, match="has channels red, green, blue; expected infrared"):
        read_panel(path, ("infrared",), others=True)


def test_set_toml_says_where_to_inspect(good: Path) -> None:
    write_panel(good, "p", frames(1))
    said = good.parents[1] / "set.toml"
    said.write_text("[zones]\nignore = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]")
    zones = PanelSet(good.parents[1]).facts.zones
    assert zones and zones.share == pytest.approx(0.5)
    said.write_text("[zones]\nignroe = []")
    with pytest.raises(PanelError, match="did you mean 'ignore'"):
        PanelSet(good.parents[1])


def test_set_toml_says_which_image_sets_are_of_one_specimen(good: Path) -> None:
    write_panel(good, "p", frames(1))
    assert PanelSet(good.parents[1]).specimens(["a_1", "a_2"]) == ()
    (good.parents[1] / "set.toml").write_text("specimen = '^([a-z]+)_'")
    panels = PanelSet(good.parents[1])
    assert panels.specimens(["a_1", "a_2", "b_1", "7"]) == ("a", "a", "b", "7")
    (good.parents[1] / "set.toml").write_text("specimen = '^([a-z]+)?'")
    assert PanelSet(good.parents[1]).specimens(["a_1", "7", "8"]) == ("a", "7", "8"), "a group that took no part"
    with pytest.raises(PanelError, match=r"specimen fits no name, such as 7"):
        panels.specimens(["7", "8"])


def test_splits_kinds_and_masks(tmp_path: Path) -> None:
    mask = np.zeros((12, 10), bool)
    mask[3:5, 2:4] = True
    write_panel(tmp_path / "test" / "good", "p1", frames(1))
    write_panel(tmp_path / "test" / "scratch", "p10", frames(1), mask=mask)
    write_panel(tmp_path / "test" / "scratch", "p9", frames(1))
    panels = PanelSet(tmp_path)
    assert [(panel.defect, panel.name) for panel in panels.panels("test")] == [
        ("good", "p1"),
        ("scratch", "p9"),
        ("scratch", "p10"),
    ]
    normal, unlabelled, labelled = panels.panels("test")
    normal_mask, read = panels.mask(normal, (12, 10)), panels.mask(labelled, (12, 10))
    assert normal_mask is not None and not normal_mask.any()
    assert panels.mask(unlabelled, (12, 10)) is None
    np.testing.assert_array_equal(read, mask)
    with pytest.raises(PanelError, match="but its panel is 11x12"):
        panels.mask(labelled, (12, 11))


def truncate(folder: Path) -> None:
    data = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(data[: len(data) // 2])


def write(picture: np.ndarray, name: str = "b.png") -> Callable[[Path], object]:
    return lambda folder: cv2.imencode(Path(name).suffix, picture)[1].tofile(folder / name)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "b.png").unlink(), "channel b is missing"),
        (lambda folder: (folder / "b.png").rename(folder / "c.png"), "channel b is missing"),
        (write(np.zeros((12, 10), np.uint8), "c.png"), "channel c is not expected"),
        (write(np.zeros((12, 10), np.uint8), "b.bmp"), "two pictures of one channel"),
        (truncate, "empty, truncated or no picture"),
        (lambda folder: (folder / "b.png").write_bytes(b""), "empty, truncated or no picture"),
        (write(np.zeros((12, 11), np.uint8)), "is 11x12 uint8, but a is 10x12 uint8"),
        (write(np.zeros((12, 10), np.uint16)), "is 10x12 uint16, but a is"),
        (write(np.zeros((12, 10, 3), np.uint8)), "is a colour picture"),
        (write(np.zeros((12, 10, 4), np.uint8)), "has 4 layers"),
        (lambda folder: [each.unlink() for each in folder.iterdir()], "holds no picture"),
    ],
)
def test_damage_is_one_clear_line(good: Path, damage: Callable[[Path], object], says: str) -> None:
    for name in ("p1", "p2"):
        write_panel(good, name, frames(2), ("a", "b"))
    panels = PanelSet(good.parents[1])
    damage(good / "p2")
    healthy, damaged = panels.panels("train", "good")
    panels.read(healthy)
    with pytest.raises(PanelError, match=says) as raised:
        panels.read(damaged)
    assert "\n" not in str(raised.value)
    assert "p2" in str(raised.value)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_picture_is_refused_and_nothing_else_is_said(
    tmp_path: Path, suffix: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = cv2.imencode(suffix, RANDOM.integers(0, 255, (64, 64), np.uint8))[1].tobytes()
    (tmp_path / f"p{suffix}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PanelError, match="empty, truncated or no picture"):
        read_panel(tmp_path / f"p{suffix}")
    assert capfd.readouterr() == ("", "")


def test_other_depths_are_refused(tmp_path: Path) -> None:
    cv2.imencode(".tif", np.zeros((8, 9), np.float32))[1].tofile(tmp_path / "p.tif")
    with pytest.raises(PanelError, match="float32 pixels"):
        read_panel(tmp_path / "p.tif")


def test_missing_files_and_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"nowhere.png: cannot be read: No such file"):
        read_panel(tmp_path / "nowhere.png")
    with pytest.raises(PanelError, match="no such panel set"):
        PanelSet(tmp_path / "nowhere")
    with pytest.raises(PanelError, match="holds no panels"):
        _ = PanelSet(tmp_path).channels
    with pytest.raises(PanelError, match="expected red, green, blue"):
        read_panel(write_panel(tmp_path, "p", frames(1)), ("red", "green", "blue"))
    with pytest.raises(PanelError, match="2 channels but 1 names"):
        write_panel(tmp_path, "p", frames(2), ("a",))


@pytest.mark.parametrize(
    "text",
    [
        "channels = []",
        'channels = ["a", "a"]',
        "mm_per_px = -1",
        "product = 3",
        "chanels = []",
        "a = ",
        "specimen = 3",
        "specimen = '('",
        "specimen = '^p'",
        "specimen = '(a)(b)'",
    ],
)
def test_set_toml_is_strict(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.toml").write_text(text)
    with pytest.raises(PanelError, match=r"set\.toml"):
        PanelSet(tmp_path)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=5))
def test_numbers_in_names_sort_by_value(numbers: list[int]) -> None:
    names = [f"exp{number}" for number in numbers]
    assert [int(name[3:]) for name in sorted(names, key=natural)] == sorted(numbers)


def test_an_empty_split_has_no_panels(good: Path) -> None:
    write_panel(good, "p", frames(1))
    assert list(PanelSet(good.parents[1]).panels("test")) == []
    assert isinstance(next(PanelSet(good.parents[1]).panels("train")), Panel)
