"""What the conveyor does."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sequence = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
PanelId = Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,16}$")]


class Settings(BaseModel):
    """Frozen, no unknown fields. Where panel_ids ends, or is None, a panel is called "P%08d" % its sequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 5020
    takt_ms: Annotated[int, Field(ge=1)] = 500
    panels: Annotated[int, Field(ge=0)] = 0  # 0: endless
    window_ms: Annotated[int, Field(ge=1, le=65_535)] = 1_000
    recipe_no: Annotated[int, Field(ge=0, le=0xFFFF)] = 1
    recipe_nos: tuple[Annotated[int, Field(ge=0, le=0xFFFF)], ...] = ()  # instead: products in turn, by the sequence
    record: Path
    wires: tuple[Path, ...] = ()  # of the simulated cameras
    first_seq: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)] | None = None  # None: after the record's last
    panel_ids: tuple[PanelId, ...] | None = None
    open_loop: bool = False  # a panel comes at its time, slot or no slot: none waits, what finds none goes by
    start_when_ready: bool = True  # False: trigger whether or not the vision system is there
    skip_seqs: frozenset[Sequence] = frozenset()  # fault: counted, but never triggered
    unacknowledged_seqs: frozenset[Sequence] = frozenset()  # fault: decided, but the vision system never hears

    @property
    def least_ms(self) -> int:
        """The least time between two panels: after a small delay the belt makes up for it."""
        return self.takt_ms * 3 // 4

    def number(self, seq: int) -> int:
        """The recipe number of a panel."""
        return self.recipe_nos[seq % len(self.recipe_nos)] if self.recipe_nos else self.recipe_no

    def panel_id(self, panel: int, seq: int) -> str:
        """The bar code of physical panel `panel`."""
        ids = self.panel_ids or ()
        return ids[panel] if panel < len(ids) else f"P{seq:08d}"
