"""Which engine answers: everything that can change a score, without loading the network."""

import hashlib
from dataclasses import asdict, dataclass

from engines import runtimes
from engines.recipe import NETWORK, Recipe, canonical


@dataclass(frozen=True)
class EngineKey:
    """What a compiled engine is made of; two engines of one key give the same scores."""

    network: str  # SHA-256 of network.onnx
    runtime: str
    version: str
    precision: str
    device: str

    @property
    def hash(self) -> str:
        """SHA-256, 64 hexadecimal digits."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()


def engine_key(recipe: Recipe, runtime: str = "onnxruntime", precision: str = "fp32") -> EngineKey:
    """The key of the engine that this host would open for `recipe`; any process on it gets the same.

    Raises:
        UsageError: there is no such runtime or precision, or its library is not installed.
    """
    module = runtimes.load(runtime, precision)
    network = recipe.manifest.files[NETWORK]
    return EngineKey(network, runtime, module.version(), precision, module.device())
