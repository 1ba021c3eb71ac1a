"""The parity certificate: this engine gives this recipe's verdicts on this machine. Signed, and bound to all three.

`engines.parity` measures and judges. Who signs is passed in: keys are the line's business.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.build import EngineKey
from engines.errors import EngineError
from engines.golden import GOLDEN
from engines.manifest import Sha256
from engines.parity import Judgement, PanelProof, judge
from engines.recipe import Recipe, canonical
from engines.revision import revision
from engines.scoring import limits_of_golden
from engines.zones import Zones

FORMAT = 1
Sign = Callable[[bytes], str]
Holds = Callable[[bytes, str], bool]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Key(_Part):
    """`engines.build.EngineKey` as it is written down."""

    network: Sha256
    runtime: str
    version: str
    precision: str
    device: str
    profile: str


class Bound(_Part):
    """What the certificate speaks of. `golden` and `zones` are those that the scores were measured with."""

    recipe: Sha256
    calibration: Sha256
    engine: Sha256
    golden: Sha256
    inspection: Sha256  # how frames become a score, but for the network
    low: float
    limit: float
    zones: Zones | None


class Certificate(_Part):
    """Written by `takt build`. What is measured stays; `granted` and the rest follow from it and the limits."""

    format: Literal[1] = FORMAT
    bound: Bound
    key: Key
    panels: tuple[PanelProof, ...]
    granted: bool
    reason: str
    flipped: tuple[str, ...]
    score_error: float | None
    nearest: str
    nearest_margin: float | None
    machine: dict[str, str]
    issued: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT")]  # UTC, ISO 8601
    signature: str = ""

    def text(self) -> bytes:
        """What is signed."""
        return b"takt certificate\n" + canonical(self.model_dump(mode="json", exclude={"signature"}))

    def signed(self, sign: Sign) -> "Certificate":
        return self.model_copy(update={"signature": sign(self.text())})


@dataclass(frozen=True)
class Subject:
    """An engine for a recipe at a station: what a certificate has to be of."""

    recipe: Recipe
    key: EngineKey
    calibration: str  # its hash

    def bound(self) -> Bound:
        limits = self.recipe.manifest.limits
        return Bound(
            recipe=self.recipe.hash,
            calibration=self.calibration,
            engine=self.key.hash,
            golden=golden_digest(self.recipe),
            inspection=inspection_digest(self.recipe, self.key.runtime),
            low=limits.low,
            limit=limits.image,
            zones=limits.zones,
        )

    def judge(self, panels: Sequence[PanelProof]) -> Judgement:
        """Whether an engine that answered like this may inspect by the recipe's limits."""
        return judge(panels, limits_of_golden(self.recipe.manifest))

    @property
    def name(self) -> str:
        """A file name."""
        return sha256(canonical(self.bound().model_dump(mode="json"))).hexdigest()[:32]


def golden_digest(recipe: Recipe) -> str:
    """SHA-256 over names and hashes of the golden panels' files."""
    files = {name: sha for name, sha in recipe.manifest.files.items() if name.startswith(f"{GOLDEN}/")}
    return sha256(canonical(files)).hexdigest()


def inspection_digest(recipe: Recipe, runtime: str) -> str:
    """SHA-256 of what the manifest says of frames and of the score, and of the code that acts on it."""
    said = {"channels", "geometry", "dtype", "method", "settings", "score"}
    told = recipe.manifest.model_dump(mode="json", include=said)
    return sha256(canonical(told | {"revision": revision(runtime)})).hexdigest()


def certify(
    subject: Subject, panels: Sequence[PanelProof], machine: dict[str, str], issued: str, sign: Sign
) -> Certificate:
    """A signed certificate, granted or not, from what was measured."""
    judgement, key = subject.judge(panels), Key(**asdict(subject.key))
    judged = asdict(judgement) | {"granted": judgement.granted}
    told = {"bound": subject.bound(), "key": key, "panels": tuple(panels), "machine": machine, "issued": issued}
    return Certificate(**judged, **told).signed(sign)


def rejudged(old: Certificate, subject: Subject, sign: Sign) -> Certificate | None:
    """The certificate of a recipe with other limits from the scores of `old`; None where they are not its scores."""
    new = subject.bound()
    if new.model_copy(update={"recipe": old.bound.recipe, "low": old.bound.low, "limit": old.bound.limit}) != old.bound:
        return None
    return certify(subject, old.panels, old.machine, old.issued, sign)


def read(text: bytes, where: str) -> Certificate:
    """A certificate from its file.

    Raises:
        EngineError: it is damaged, or newer than this program.
    """
    try:
        return Certificate.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "text"
        if first["loc"] == ("format",):
            raise EngineError(f"{where}: its format is not {FORMAT}: update takt, or build again") from None
        raise EngineError(f"{where}: is damaged ({place}: {first['msg']}): build again") from None


def check(certificate: Certificate, subject: Subject, holds: Holds) -> None:
    """Raise unless this certificate lets this engine inspect.

    Raises:
        EngineError: it is not signed by this machine, is of something else, or was not granted.
    """
    if not holds(certificate.text(), certificate.signature):
        raise EngineError("its certificate is not signed by this machine's key")
    if certificate.bound != subject.bound():
        raise EngineError("its certificate is of another engine, recipe or calibration")
    judged = subject.judge(certificate.panels)
    if not (judged.granted and certificate.granted):
        raise EngineError(f"its certificate was refused: {judged.reason or certificate.reason}")
