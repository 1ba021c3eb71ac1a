"""Which engine answers: everything that can change a score, without loading the network."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from engines import graphs, runtimes, selfcontained
from engines import recipe as recipes
from engines.errors import UsageError
from engines.gather import Gather
from engines.recipe import NETWORK, Recipe, canonical
from engines.runtimes import AS_TAUGHT, WEIGHTS, Source


@dataclass(frozen=True)
class EngineKey:
    """What a compiled engine is made of; two engines of one key give the same scores."""

    network: str  # SHA-256 of what it is made from: network.onnx, the graph derived of it, or the weights and settings
    runtime: str
    version: str
    precision: str
    device: str
    profile: str  # how large batches may be, and how many threads compute them

    @property
    def hash(self) -> str:
        """SHA-256, 64 hexadecimal digits."""
        return sha256(canonical(asdict(self))).hexdigest()


def engine_key(
    recipe: Recipe,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    derived: str = "",
    threads: int = 2,
    max_batch: int = 8,
) -> EngineKey:
    """The key of the engine that this host would open for `recipe`; any process on it gets the same.

    `derived` is the SHA-256 of the derived graph, where the engine is made from one.

    Raises:
        UsageError: there is no such runtime or precision, its library is not installed, or it needs a derived graph.
    """
    module = runtimes.load(runtime, precision)
    network = _fingerprint(recipe, runtime, precision, derived)
    profile = f"batch 1-{max_batch}, threads {threads}"
    return EngineKey(network, runtime, module.version(), precision, module.device(), profile)


def source_of(recipe: Recipe, runtime: str, precision: str, derived: bytes | None = None) -> Source:
    """What an engine is made from; `derived` is what `derive` made.

    Raises:
        UsageError: see `engine_key`.
        RecipeError: the recipe was changed since it was loaded.
        EngineError: the graph takes values from another file.
    """
    form = runtimes.load(runtime, precision).made_from(precision)
    if form == WEIGHTS:
        return Source(str(recipe.path), recipe=recipe)
    if form == AS_TAUGHT:
        return Source(str(recipe.network), _network(recipe), recipe)
    if not derived:
        raise _needs_a_graph(recipe, runtime, precision)
    name = f"{recipe.network} in {precision}"
    selfcontained.check(derived, name)
    return Source(name, derived, recipe)


def derive(recipe: Recipe, runtime: str, precision: str, more: Iterable[NDArray] = ()) -> bytes | None:
    """The graph that `runtime` loads in `precision`; None where it loads the recipe's own files.

    int8 is calibrated on the recipe's golden good panels, and on `more` of them: raw frames [C, H, W].

    Raises:
        UsageError: there is no such runtime or precision, or a library is not installed.
        EngineError: the network cannot be derived.
    """
    form = runtimes.load(runtime, precision).made_from(precision)
    if form in (AS_TAUGHT, WEIGHTS):
        return None
    return graphs.derive(_network(recipe), form, _good_panels(recipe, more))


def _network(recipe: Recipe) -> bytes:
    """The graph as it was verified, with all its values in it."""
    network = recipe.read(NETWORK)
    selfcontained.check(network, str(recipe.network))
    return network


def _good_panels(recipe: Recipe, more: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
    """As the network takes them, [C, h, w]."""
    manifest = recipe.manifest
    gather = Gather(len(manifest.channels), manifest.geometry, manifest.dtype)
    golden = (gather.golden(one.frames) for one in recipe.golden if not one.defective)
    for pieces in chain(golden, map(gather.pieces, more)):
        yield from gather.filled(pieces)


def _fingerprint(recipe: Recipe, runtime: str, precision: str, derived: str) -> str:
    form = runtimes.load(runtime, precision).made_from(precision)
    manifest = recipe.manifest
    if form == AS_TAUGHT:
        return manifest.files[NETWORK]
    if form == WEIGHTS:
        weights = manifest.files.get(recipes.WEIGHTS, "")
        made = {"weights": weights, "method": manifest.method, "settings": manifest.settings}
        return sha256(canonical(made | {"channels": len(manifest.channels)})).hexdigest()
    if not derived:
        raise _needs_a_graph(recipe, runtime, precision)
    return derived


def _needs_a_graph(recipe: Recipe, runtime: str, precision: str) -> UsageError:
    how = f"takt build {recipe.path} --runtime {runtime} --precision {precision}"
    return UsageError(f"{runtime} needs a graph derived for {precision}: {how}")
