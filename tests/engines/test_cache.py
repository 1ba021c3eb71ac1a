"""What the cache hands out was made from exactly what is asked for, and its certificate is whole, signed and of it."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree

import pytest
from test_parity import DEMO, SIGNATURE, demo, workshop

from engines import certificate as certificates
from engines.cache import Choice
from engines.certificate import Subject
from engines.certifying import Workshop
from engines.errors import EngineError, UsageError
from engines.runtimes import onnxruntime
from engines.station import IDENTITY

CHOICE = Choice("onnxruntime", "fp32", threads=1, max_batch=1)
INT8 = Choice("onnxruntime", "int8", threads=1, max_batch=1)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Choice], Path]:
    """A folder in which this was built: that takes seconds."""

    @cache
    def build(choice: Choice) -> Path:
        folder = tmp_path_factory.mktemp("built")
        assert workshop(folder).build(demo(), choice).fresh
        return folder

    return build


@pytest.fixture
def built(once: Callable[[Choice], Path], tmp_path: Path) -> Workshop:
    copytree(once(CHOICE), tmp_path, dirs_exist_ok=True)
    return workshop(tmp_path)


def refused(made: Workshop, choice: Choice = CHOICE, recipe=None) -> str:
    with pytest.raises(EngineError) as caught:
        made.cache.certified(recipe or demo(), choice)
    assert caught.value.exit_status == 3
    return str(caught.value)


def only(folder: Path, pattern: str) -> Path:
    [path] = folder.glob(pattern)
    return path


def edited(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_was_certified_is_found_and_not_made_again(built):
    engine, certificate = built.cache.certified(demo(), CHOICE)
    assert engine.key.hash == certificate.bound.engine and certificate.granted
    assert not built.build(demo(), CHOICE).fresh
    assert built.build(demo(), CHOICE, again=True).fresh


@pytest.mark.parametrize(
    "other",
    [Choice("onnxruntime", "fp32", 2, 1), Choice("onnxruntime", "fp32", 1, 2), Choice("openvino", "fp32", 1, 1)],
    ids=str,
)
def test_another_engine_needs_a_certificate_of_its_own(built, other):
    pytest.importorskip(other.runtime)
    assert "no certificate" in refused(built, other)


def test_a_new_version_of_the_library_needs_a_new_certificate(built, monkeypatch):
    from engines.runtimes import onnxruntime

    monkeypatch.setattr(onnxruntime, "version", lambda: "999")
    assert "no certificate" in refused(built)


def test_an_update_that_changes_how_frames_become_a_score_needs_a_new_certificate(built, monkeypatch):
    monkeypatch.setattr("engines.certificate.revision", lambda runtime: "another")
    assert "no certificate" in refused(built)


def test_a_certificate_under_the_name_of_another_engine_is_refused(built):
    path = only(built.cache.folder, "certificates/*.json")
    other = Choice("onnxruntime", "fp32", 2, 1)
    engine = built.cache.find(demo(), other)
    assert engine is not None
    path.rename(path.with_name(f"{Subject(demo(), engine.key, IDENTITY.hash).name}.json"))
    assert "another engine" in refused(built, other)


def test_an_edited_certificate_is_refused(built):
    def grant_more(content: dict) -> None:
        content["score_error"] = content["score_error"] / 2 + 1e-12  # an engine may answer to the last digit

    edited(only(built.cache.folder, "certificates/*.json"), grant_more)
    made = Workshop(type(built.cache)(built.cache.folder, _signed_as(built)), built.sign, built.now)
    assert "not signed" in refused(made)


def _signed_as(made: Workshop) -> Callable[[bytes, str], bool]:
    """Holds for the one text that was signed."""
    path = only(made.cache.folder, "certificates/*.json")
    known: list[bytes] = []
    original = Workshop(made.cache, lambda text: known.append(text) or SIGNATURE, made.now)
    text = path.read_bytes()
    original.build(demo(), CHOICE, again=True)
    path.write_bytes(text)
    return lambda text, signature: text in known and signature == SIGNATURE


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 2}', b"\x00\xff"], ids=repr)
def test_a_damaged_certificate_is_refused_in_one_line(built, content):
    only(built.cache.folder, "certificates/*.json").write_bytes(content)
    said = refused(built)
    assert ("damaged" in said or "format" in said) and "\n" not in said
    assert built.build(demo(), CHOICE).fresh  # and made again


def test_an_engine_that_was_not_granted_is_refused_with_its_reason(built):
    worse = [one.model_copy(update={"lowest": None, "highest": None}) for one in _panels(built)]
    subject = _subject(built)
    built.cache.keep(subject, certificates.certify(subject, worse, {}, built.now, built.sign))
    assert "no finite score" in refused(built)
    assert not built.build(demo(), CHOICE).fresh  # it is known


def test_the_word_granted_alone_grants_nothing(built):
    """Even signed: what counts is what was measured."""
    worse = tuple(one.model_copy(update={"highest": 99.0}) for one in _panels(built))
    found = built.cache.known(_subject(built))
    assert found is not None
    built.cache.keep(_subject(built), found.model_copy(update={"panels": worse}).signed(built.sign))
    assert "refused" in refused(built)


def _subject(made: Workshop) -> Subject:
    engine = made.cache.find(demo(), CHOICE)
    assert engine is not None
    return Subject(demo(), engine.key, IDENTITY.hash)


def _panels(made: Workshop):
    return made.cache.certified(demo(), CHOICE)[1].panels


def test_other_limits_are_judged_again_from_the_scores_that_are_kept(built, tmp_path, monkeypatch):
    relimited = _relimited(tmp_path, 1.3)
    assert "no certificate" in refused(built, recipe=relimited)
    monkeypatch.setattr("engines.certifying.prove", lambda *args: pytest.fail("measured again"))
    made = built.build(relimited, CHOICE)
    assert made.fresh and made.certificate.granted and made.certificate.bound.limit == 1.3
    assert built.cache.certified(relimited, CHOICE)[1] == made.certificate


def test_a_limit_beside_a_golden_score_is_refused_where_the_engine_is_not_exact(built, tmp_path):
    nearly = [one.model_copy(update={"highest": one.reference + 1e-3}) for one in _panels(built)]
    subject = _subject(built)
    built.cache.keep(subject, certificates.certify(subject, nearly, {}, built.now, built.sign))
    close = _relimited(tmp_path, demo().golden[0].score + 2e-3)
    assert not built.build(close, CHOICE).certificate.granted


def _relimited(tmp_path: Path, limit: float):
    pytest.importorskip("sklearn", reason="needs the extra [teach]")
    from calibration.relimit import Wish, relimit

    return relimit(demo(), Wish(image=limit), tmp_path / "other").recipe


# --- graphs ---


@pytest.fixture
def quantised(once: Callable[[Choice], Path], tmp_path: Path) -> Workshop:
    pytest.importorskip("onnx", reason="needs the extra [int8]")
    copytree(once(INT8), tmp_path, dirs_exist_ok=True)
    return workshop(tmp_path)


def test_an_engine_of_another_card_or_driver_names_both(built, monkeypatch):
    there = built.cache.certified(demo(), CHOICE)[0].key.device
    monkeypatch.setattr(onnxruntime, "device", lambda: "NVIDIA B sm_90 driver 580.1")
    assert refused(built) == f"it was certified on {there}, and this is NVIDIA B sm_90 driver 580.1"
    assert (
        refused(built, Choice("onnxruntime", "fp32", threads=2, max_batch=1)) == "it has no certificate on this machine"
    )


def test_a_graph_is_derived_once_and_loaded_from_the_cache(quantised, monkeypatch):
    monkeypatch.setattr("engines.certifying.derive", lambda *args: pytest.fail("derived again"))
    assert quantised.build(demo(), INT8).engine.graph == only(quantised.cache.folder, "graphs/*.onnx").read_bytes()
    wider = Choice("onnxruntime", "int8", 1, 2)  # another engine, of the same graph
    assert quantised.build(demo(), wider).engine.graph is not None


def test_a_truncated_graph_is_never_loaded(quantised):
    path = only(quantised.cache.folder, "graphs/*.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert quantised.cache.find(demo(), INT8) is None
    assert "not been derived" in refused(quantised, INT8)
    assert quantised.build(demo(), INT8).engine.graph == whole


def test_a_graph_of_another_network_under_this_name_is_never_loaded(quantised):
    label = only(quantised.cache.folder, "graphs/*.json")
    edited(label, lambda content: content.update(network="0" * 64))
    assert quantised.cache.find(demo(), INT8) is None


def test_a_graph_put_there_with_a_fitting_label_lacks_the_certificate(quantised):
    """Who can write into the cache can make engines, and cannot make them inspect."""
    other = only(quantised.cache.folder, "graphs/*.onnx").read_bytes() + b"\0"
    form = INT8.form
    assert form
    quantised.cache.keep_graph(demo(), form, other)
    assert "no certificate" in refused(quantised, INT8)


def test_nothing_is_written_into_the_recipe(tmp_path):
    folder = tmp_path / "recipe"
    copytree(DEMO, folder)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    from engines import recipe as recipes

    workshop(tmp_path).build(recipes.load(folder), CHOICE)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_a_cache_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "engines").write_text("in the way")
    with pytest.raises(EngineError, match="cannot be written"):
        workshop(tmp_path).build(demo(), CHOICE)


def test_a_runtime_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="no 'abacus'"):
        workshop(tmp_path).build(demo(), Choice("abacus"))
