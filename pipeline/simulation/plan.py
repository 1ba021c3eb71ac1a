"""What passes below the cameras: panel index -> good, or which defect. Conveyor, cameras and checker each compute
it from the same settings, so nothing about it has to travel on the line."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from engines.errors import UsageError
from pipeline.simulation import defects
from pipeline.simulation.defects import KINDS, Defect

BLOCK = 10
_WHOLE = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One drawing of the pool: a good panel (`kind` None) or one with a defect. Panels share drawings."""

    kind: str | None
    number: int


@dataclass(frozen=True)
class Planned:
    """One physical panel of the run. `defect` is None on a good one; its size is that on a frame with room for it."""

    index: int
    entry: Entry
    defect: Defect | None

    @property
    def kind(self) -> str | None:
        return self.entry.kind

    @property
    def size_px(self) -> float:
        """Largest extent of the defect, 0 on a good panel."""
        return self.defect.size_px if self.defect else 0.0


class Plan(BaseModel):
    """A run of panels. Every block of ten has its exact share of defective ones (over blocks, where it does not
    divide), in seeded order; the kinds take turns."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: Annotated[int, Field(ge=0)] = 0
    defective_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    kinds: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = tuple(KINDS)
    pool_good: Annotated[int, Field(ge=1)] = 8
    pool_defective: Annotated[int, Field(ge=1)] = 2  # of each kind
    defect_scale: Annotated[float, Field(gt=0)] = 1.0  # of the sizes in `defects.KINDS`

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no defect kind {unknown[0]!r}; there is {', '.join(KINDS)}")
        return kinds

    def panel(self, index: int) -> Planned:
        """What the panel with this index is.

        Raises:
            UsageError: the index is negative; -1 on the wire means that there is no panel.
        """
        if index < 0:
            raise UsageError(f"no panel has the index {index}; they count from 0")
        entry = self._entry(index)
        return Planned(index, entry, self.defect(entry))

    def entries(self) -> Iterator[Entry]:
        """Every drawing that a panel of this plan can be."""
        if self.defective_share < 1:
            yield from (Entry(None, number) for number in range(self.pool_good))
        if self.defective_share > 0:
            yield from (Entry(kind, n) for kind in self.kinds for n in range(self.pool_defective))

    def defect(self, entry: Entry) -> Defect | None:
        """The defect of a drawing, None for a good one."""
        if entry.kind is None:
            return None
        return defects.draw(entry.kind, self.drawing_seed(entry), self.defect_scale)

    def drawing_seed(self, entry: Entry) -> int:
        """The seed that `panel.render` takes for a drawing."""
        return derived_seed("line", self.seed, entry.kind, entry.number)

    def _entry(self, index: int) -> Entry:
        block, place = divmod(index, BLOCK)
        before, upto = self._defective_before(block), self._defective_before(block + 1)
        rank = _order(self.seed, block)[place]
        if rank >= upto - before:
            return Entry(None, derived_seed("good", self.seed, index) % self.pool_good)
        turn = before + rank
        return Entry(self.kinds[turn % len(self.kinds)], turn // len(self.kinds) % self.pool_defective)

    def _defective_before(self, block: int) -> int:
        return block * BLOCK * round(self.defective_share * _WHOLE) // _WHOLE


def derived_seed(*parts: str | int | None) -> int:
    """A seed of 63 bits from names and numbers: the same on every machine and in every version."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@lru_cache(maxsize=256)
def _order(seed: int, block: int) -> tuple[int, ...]:
    """The rank of each place in a block: a seeded permutation of 0..9."""
    places = sorted(range(BLOCK), key=lambda place: derived_seed("order", seed, block, place))
    return tuple(places.index(place) for place in range(BLOCK))
