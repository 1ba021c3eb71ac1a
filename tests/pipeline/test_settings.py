"""Settings of plug-ins and their loading: the nearest spelling, what is missing, what there is."""

import sys
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from engines import plugins
from engines.errors import UsageError
from engines.settings import checked
from pipeline.errors import ConfigError


class Look(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    height: Annotated[int, Field(ge=1)] = 1
    width: int = 1


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    exposure_ms: float = 1.0
    look: Look = Look()
    spots: list[Look] = []
    maybe: Look | None = None


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"exposure": 1.0}, "camera x: exposure: unknown setting; did you mean 'exposure_ms'?"),
        ({"look": {"hight": 1}}, "camera x: look.hight: unknown setting; did you mean 'height'?"),
        ({"spots": [{}, {"widht": 1}]}, "camera x: spots.1.widht: unknown setting; did you mean 'width'?"),
        ({"maybe": {"heigth": 1}}, "camera x: maybe.heigth: unknown setting; did you mean 'height'?"),
        ({"qqq": 1}, "camera x: qqq: unknown setting; known here: exposure_ms, look, spots, maybe"),
        ({"exposure_ms": "1"}, "camera x: exposure_ms: input should be a valid number"),
        ({"look": {"height": 0}}, "camera x: look.height: input should be greater than or equal to 1"),
        ({"look": 5}, "camera x: look: input should be a valid dictionary or instance of Look"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_key(raw, says):
    with pytest.raises(UsageError) as error:
        checked(Model, raw, "camera x")
    assert str(error.value) == says


def test_the_caller_chooses_who_is_to_act():
    with pytest.raises(ConfigError):
        checked(Model, {"look": None}, "line", ConfigError)


def test_good_settings_come_back_as_the_model():
    assert checked(Model, {"exposure_ms": 2, "look": {"height": 3}}, "x").look.height == 3


def test_the_kinds_of_a_package_are_listed_and_loaded():
    assert {"simulated", "folder"} <= set(plugins.kinds("pipeline.cameras"))
    assert plugins.load("pipeline.cameras", "folder").__name__ == "pipeline.cameras.folder"


def test_an_unknown_kind_says_which_there_are():
    with pytest.raises(UsageError, match=r"^no 'foldr' in pipeline.cameras; there is .*folder.*simulated") as error:
        plugins.load("pipeline.cameras", "foldr")
    assert "\n" not in str(error.value)


def test_a_kind_whose_library_is_missing_names_it_and_the_extra(tmp_path, monkeypatch):
    package = tmp_path / "demo_plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "vendor.py").write_text("import a_vendors_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError) as error:
        plugins.load("demo_plugins", "vendor")
    assert str(error.value) == "'vendor' needs a_vendors_library: pip install 'takt[vendor]'"
    for name in [name for name in sys.modules if name.startswith("demo_plugins")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_mistake_inside_a_plug_in_is_not_hidden(tmp_path, monkeypatch):
    package = tmp_path / "broken_plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        plugins.load("broken_plugins", "broken")
