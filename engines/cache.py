"""The engines of this machine: graphs derived from recipes, and parity certificates. Kept by content, written whole.

A graph is found by what it has to be derived from; a certificate by the recipe, engine and calibration that it is of.
What is found and differs is not there: it is made again, never loaded. Recipes are only read.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from engines import certificate as certificates
from engines import graphs, runtimes
from engines.build import EngineKey, engine_key
from engines.certificate import Certificate, Holds, Subject, golden_digest
from engines.errors import EngineError
from engines.keeping import keep
from engines.recipe import NETWORK, Recipe, canonical
from engines.runtimes import AS_TAUGHT, WEIGHTS
from engines.station import IDENTITY, StationCalibration


@dataclass(frozen=True)
class Choice:
    """Which engine is wanted: a runtime, its precision, processor threads, and panels in a batch at most."""

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 2
    max_batch: int = 8

    @property
    def form(self) -> str | None:
        """The graph that has to be derived, one of `engines.graphs.FORMS`; None: the recipe's own files are loaded.

        Raises:
            UsageError: there is no such runtime or precision, or its library is not installed.
        """
        form = runtimes.load(self.runtime, self.precision).made_from(self.precision)
        return None if form in (AS_TAUGHT, WEIGHTS) else form


@dataclass(frozen=True)
class Engine:
    """What is known of an engine before it is opened. `graph` is what was derived for it, None where nothing was."""

    choice: Choice
    key: EngineKey
    graph: bytes | None


def engine_of(recipe: Recipe, choice: Choice, graph: bytes | None) -> Engine:
    """The engine that is opened with this graph.

    Raises:
        UsageError: see `engines.build.engine_key`.
    """
    derived = sha256(graph).hexdigest() if graph else ""
    return Engine(choice, engine_key(recipe, derived=derived, **asdict(choice)), graph)


@dataclass(frozen=True)
class Cache:
    """A folder of graphs and certificates; `holds` tells whether this machine signed a text."""

    folder: Path
    holds: Holds

    def find(self, recipe: Recipe, choice: Choice) -> Engine | None:
        """The engine as it would be opened now; None where its graph has not been derived yet.

        Raises:
            UsageError: see `Choice.form`.
        """
        form = choice.form
        graph = self._graph(recipe, form) if form else None
        return None if form and graph is None else engine_of(recipe, choice, graph)

    def certified(
        self, recipe: Recipe, choice: Choice, calibration: StationCalibration = IDENTITY
    ) -> tuple[Engine, Certificate]:
        """The engine, if this machine has proved that its verdicts are the reference's.

        Raises:
            EngineError: it has not; why.
            UsageError: see `Choice.form`.
        """
        engine = self.find(recipe, choice)
        if engine is None:
            raise EngineError("its graph has not been derived on this machine")
        subject = Subject(recipe, engine.key, calibration.hash)
        found = self._read(subject)
        if found is None:
            raise self._missing(subject)
        certificates.check(found, subject, self.holds)
        return engine, found

    def _missing(self, subject: Subject) -> EngineError:
        """Why there is no certificate: another card, driver or processor than the one that was certified is named."""
        own = asdict(subject.key)
        for old in self.all():
            other = old.key.model_dump()
            if {name for name in own if own[name] != other[name]} == {
                "device"
            } and old.bound.recipe == subject.recipe.hash:
                return EngineError(f"it was certified on {other['device']}, and this is {own['device']}")
        return EngineError("it has no certificate on this machine")

    def known(self, subject: Subject) -> Certificate | None:
        """The certificate that is there, granted or not, if it is of this and signed by this machine."""
        try:
            found = self._read(subject)
        except EngineError:
            return None
        if found is None or found.bound != subject.bound() or not self._signed(found):
            return None
        judged = subject.judge(found.panels)
        return found if (judged.granted, judged.reason) == (found.granted, found.reason) else None

    def all(self) -> Iterator[Certificate]:
        """Every certificate here that this machine signed."""
        for path in sorted((self.folder / "certificates").glob("*.json")):
            try:
                found = certificates.read(path.read_bytes(), str(path))
            except (OSError, EngineError):
                continue
            if self._signed(found):
                yield found

    def keep(self, subject: Subject, certificate: Certificate) -> None:
        """Write a certificate down.

        Raises:
            EngineError: it cannot be written.
        """
        keep(self._certificate_path(subject), certificate.model_dump_json(indent=1).encode() + b"\n")

    def keep_graph(self, recipe: Recipe, form: str, graph: bytes) -> None:
        """Write a derived graph down, and then the label without which it does not count.

        Raises:
            EngineError: it cannot be written.
        """
        path = self._graph_path(recipe, form)
        keep(path, graph)
        keep(path.with_suffix(".json"), _label(recipe, form, graph))

    def _signed(self, certificate: Certificate) -> bool:
        return self.holds(certificate.text(), certificate.signature)

    def _read(self, subject: Subject) -> Certificate | None:
        path = self._certificate_path(subject)
        try:
            return certificates.read(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineError(f"{path}: cannot be read: {error.strerror or error}") from None

    def _certificate_path(self, subject: Subject) -> Path:
        return self.folder / "certificates" / f"{subject.name}.json"

    def _graph_path(self, recipe: Recipe, form: str) -> Path:
        return self.folder / "graphs" / f"{sha256(_origin(recipe, form)).hexdigest()[:32]}.onnx"

    def _graph(self, recipe: Recipe, form: str) -> bytes | None:
        """The graph, if its label says that it was made from exactly this and it is whole."""
        path = self._graph_path(recipe, form)
        try:
            graph, label = path.read_bytes(), path.with_suffix(".json").read_bytes()
        except OSError:
            return None
        return graph if label == _label(recipe, form, graph) else None


def _origin(recipe: Recipe, form: str) -> bytes:
    """What a graph follows from. int8 learns its ranges from the golden panels."""
    made = {"network": recipe.manifest.files[NETWORK], "golden": golden_digest(recipe), "form": form}
    return canonical(made | {"rewriting": graphs.REVISION})


def _label(recipe: Recipe, form: str, graph: bytes) -> bytes:
    label = json.loads(_origin(recipe, form)) | {"format": 1, "sha256": sha256(graph).hexdigest()}
    return canonical(label)
