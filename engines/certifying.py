"""An engine for a recipe, certified: derived if it is not there, measured on the golden panels, judged and signed."""

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata

from numpy.typing import NDArray

from engines import certificate as certificates
from engines.build import derive
from engines.cache import Cache, Choice, Engine, engine_of
from engines.certificate import Certificate, Sign, Subject
from engines.detector import open_detector
from engines.parity import Tell, prove
from engines.recipe import Recipe
from engines.station import IDENTITY, StationCalibration


@dataclass(frozen=True)
class Built:
    """An engine with its certificate, granted or not; `fresh` is false where both were there already."""

    engine: Engine
    certificate: Certificate
    fresh: bool


@dataclass(frozen=True)
class Workshop:
    """Where engines are built: the machine's cache, its signature, the time in UTC, and who hears of the progress."""

    cache: Cache
    sign: Sign
    now: str  # ISO 8601
    tell: Tell = lambda phase, done, total: None

    def build(
        self,
        recipe: Recipe,
        choice: Choice,
        panels: Iterable[NDArray] | None = None,
        again: bool = False,
        calibration: StationCalibration = IDENTITY,
    ) -> Built:
        """Derive and certify what is not there. `panels` are more good ones from which int8 learns: it is derived anew.

        Where a recipe differs in its limits alone from one that was certified, that one's scores are judged again.

        Raises:
            UsageError: there is no such runtime or precision, or a library is not installed.
            EngineError: the network cannot be derived, the runtime cannot load it, or it failed.
        """
        engine = None if again or panels else self.cache.find(recipe, choice)
        engine = engine or self._derived(recipe, choice, panels or ())
        subject = Subject(recipe, engine.key, calibration.hash)
        if not again and (known := self.cache.known(subject)):
            return Built(engine, known, fresh=False)
        certificate = None if again else self._rejudged(subject)
        certificate = certificate or self._proved(subject, engine, calibration)
        self.cache.keep(subject, certificate)
        return Built(engine, certificate, fresh=True)

    def _derived(self, recipe: Recipe, choice: Choice, panels: Iterable[NDArray]) -> Engine:
        form = choice.form
        if form is None:
            return engine_of(recipe, choice, None)
        self.tell(f"deriving {choice.precision}", 0, 1)
        graph = derive(recipe, choice.runtime, choice.precision, panels)
        assert graph is not None
        self.cache.keep_graph(recipe, form, graph)
        return engine_of(recipe, choice, graph)

    def _proved(self, subject: Subject, engine: Engine, calibration: StationCalibration) -> Certificate:
        recipe, choice = subject.recipe, asdict(engine.choice)
        with open_detector(recipe, **choice, derived=engine.graph, calibration=calibration, proving=False) as detector:
            measured = prove(detector, recipe.golden, self.tell)
        return certificates.certify(subject, measured, machine(), self.now, self.sign)

    def _rejudged(self, subject: Subject) -> Certificate | None:
        found = (certificates.rejudged(old, subject, self.sign) for old in self.cache.all())
        return next((one for one in found if one), None)


def machine() -> dict[str, str]:
    """What a certificate says of the machine, beside the engine's key."""
    return {"system": platform.platform(), "python": platform.python_version(), "takt": metadata.version("takt")}
