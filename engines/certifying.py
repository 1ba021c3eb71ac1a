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
from engines.errors import EngineError, UsageError
from engines.parity import Tell, prove
from engines.recipe import Recipe, Tiles
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
        found = None if again or panels else self.cache.find(recipe, choice)
        engine = found or self._derived(recipe, choice, panels or ())
        subject = Subject(recipe, engine.key, calibration.hash)
        known = None if again else self.cache.known(subject)
        judged = None if again or known else self._rejudged(subject)
        certificate = known or judged or self._proved(subject, engine, calibration)
        if found is None and (certificate.granted or not self._serves(recipe, choice, calibration)):
            self._keep_graph(recipe, engine)
        if known is None:
            self.cache.keep(subject, certificate)
        return Built(engine, certificate, fresh=known is None)

    def _serves(self, recipe: Recipe, choice: Choice, calibration: StationCalibration) -> bool:
        """Whether a certified engine is there, which a refused one must not replace."""
        try:
            self.cache.certified(recipe, choice, calibration)
        except EngineError:
            return False
        return True

    def _keep_graph(self, recipe: Recipe, engine: Engine) -> None:
        if engine.graph is not None and (form := engine.choice.form):
            self.cache.keep_graph(recipe, form, engine.graph)

    def _derived(self, recipe: Recipe, choice: Choice, panels: Iterable[NDArray]) -> Engine:
        if choice.form is None:
            return engine_of(recipe, choice, None)
        if choice.precision == "int8" and isinstance(recipe.manifest.geometry, Tiles) and not panels:
            raise UsageError(
                "int8 of a recipe in tiles learns from whole panels, golden ones are pieces: give --panels SET"
            )
        self.tell(f"deriving {choice.precision}", 0, 1)
        return engine_of(recipe, choice, derive(recipe, choice.runtime, choice.precision, panels))

    def _proved(self, subject: Subject, engine: Engine, calibration: StationCalibration) -> Certificate:
        recipe, choice = subject.recipe, asdict(engine.choice)
        how = {"derived": engine.graph, "calibration": calibration, "kept": self.cache.folder}
        with open_detector(recipe, **choice, **how, proving=False) as detector:
            measured = prove(detector, recipe.golden, self.tell)
        return certificates.certify(subject, measured, machine(), self.now, self.sign)

    def _rejudged(self, subject: Subject) -> Certificate | None:
        found = (certificates.rejudged(old, subject, self.sign) for old in self.cache.all())
        return next((one for one in found if one), None)


def machine() -> dict[str, str]:
    """What a certificate says of the machine, beside the engine's key."""
    return {"system": platform.platform(), "python": platform.python_version(), "takt": metadata.version("takt")}
