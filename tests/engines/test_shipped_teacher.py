"""The teacher that ships is small, whole, and takes the place of weights that are not there."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from engines import methods  # noqa: E402
from engines.backbones import TEACHERS, Imitation, ResNet, load_weights, teachers  # noqa: E402
from engines.backbones.download import Published, cache, sha256_of  # noqa: E402
from engines.errors import UsageError  # noqa: E402
from engines.methods import adps, mcd, mixed_teacher, mkd  # noqa: E402

FILE = Path(teachers.__file__).parent / "takt.safetensors"
SIZE = {"height": 64, "width": 96}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_one_small_file_that_its_digest_names() -> None:
    assert FILE.stat().st_size < 5_000_000
    assert load_weights(TEACHERS["takt"].trunk(), "takt", None) == ("takt", sha256_of(FILE))


@pytest.mark.parametrize("strides", [(4, 8, 16), (4, 8), (16,)])
def test_its_features_are_finite_not_negative_and_differ_from_place_to_place(strides: tuple[int, ...]) -> None:
    trunk = TEACHERS["takt"].trunk(strides)
    load_weights(trunk, "takt", None)
    torch.manual_seed(0)
    with torch.no_grad():
        maps = trunk(torch.randn(2, 3, 96, 64))
    assert [tuple(one.shape) for one in maps] == [
        (2, w, 96 // s, 64 // s) for s, w in zip(strides, trunk.widths, strict=True)
    ]
    for one in maps:
        assert torch.isfinite(one).all() and one.min() >= 0
        assert (one.std((0, 2, 3)) > 0).float().mean() > 0.8


def test_its_levels_are_as_wide_as_those_it_imitates_and_see_as_far() -> None:
    ours, target = Imitation(), ResNet((2, 2, 2, 2))
    assert (ours.widths, ours.fields, ours.strides) == (target.widths, target.fields, target.strides)


def test_another_file_in_its_place_is_refused() -> None:
    with pytest.raises(UsageError, match="install takt again"):
        teachers._whole(Published(FILE.name, "0" * 64, 2.2))


@pytest.mark.parametrize("method", [mkd, mcd, adps])
def test_auto_is_resnet18_where_its_weights_are_and_else_the_one_that_ships(method, tmp_path: Path) -> None:
    auto = methods.settings_of(method, SIZE)
    assert methods.teachers(method, auto) == ("resnet18",)  # what --download-weights fetches
    assert methods.settled(method, auto, None) == auto.model_copy(update={"teacher": "takt"})
    assert methods.settled(method, auto, tmp_path) == auto.model_copy(update={"teacher": "resnet18"})
    said = methods.settings_of(method, SIZE | {"teacher": "mobilenet_v2"})
    assert methods.settled(method, said, None) == methods.settled(method, said, tmp_path) == said


def test_auto_takes_weights_that_were_downloaded_before_but_no_others() -> None:
    cache().mkdir(parents=True)
    (cache() / "resnet18-f37072fd.pth").write_bytes(b"not the pinned file")
    assert methods.settled(mkd, methods.settings_of(mkd, SIZE), None).teacher == "takt"  # type: ignore[attr-defined]


def test_two_teachers_still_need_their_weights() -> None:
    with pytest.raises(UsageError, match="two teachers need their weights"):
        methods.settled(mixed_teacher, methods.settings_of(mixed_teacher, SIZE | {"second": "auto"}), None)
