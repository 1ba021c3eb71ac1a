"""Reviewed panels as a panel set: good ones to teach from and to test with, confirmed defects with masks."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from calibration.panels import GOOD, read_panel, write_panel
from engines.parity import Tell
from pipeline.errors import NotFoundError, PanelError, UsageError
from pipeline.messages import Outcome
from pipeline.review import looking, marking, recipes
from pipeline.review.facts import Finding, State
from pipeline.review.panel import Pictures
from pipeline.review.queries import text_of
from pipeline.review.recipes import Known
from pipeline.store import Database, check
from pipeline.store.tables import Panel, Picture, Review

UNCLASSIFIED = "defect"
Decided = tuple[Panel, Picture, Review]


@dataclass(frozen=True)
class Order:
    """What to export; `test_share` of the good ones go to `test/good`, the same ones every time."""

    out: Path
    product: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    test_share: float = 0.2


def export(database: Database, own: Pictures, order: Order, tell: Tell) -> dict[str, Any]:
    """Write the set; how many panels of each kind it holds, and why others are left out.

    Raises:
        UsageError: nothing fits, several products do, or something lies there already.
        PanelError: the disk does not take it.
    """
    if order.out.exists() and any(order.out.iterdir()):
        raise UsageError(f"{order.out}: is not empty: name another folder")
    check(database)
    with database.reading() as session:
        found, known = _decided(session, order), recipes.known(session)
    product = _one_product(found, known, order)
    ours = [one for one in found if _of(known, one[0]).product == product]
    recipe = _of(known, ours[-1][0])
    counts: Counter[str] = Counter()
    for number, (panel, picture, review) in enumerate(ours):
        tell("export", number, len(ours))
        counts[_written(own, order, _of(known, panel), recipe, panel, picture, review)] += 1
    _write_facts(order.out, recipe)
    written = {name: count for name, count in sorted(counts.items()) if "/" in name}
    left = {name: count for name, count in sorted(counts.items()) if "/" not in name}
    counted = {"panels": sum(written.values()), "written": written, "left_out": left}
    return {"set": str(order.out), "product": product, **counted}


def _decided(session: Session, order: Order) -> list[Decided]:
    """Inspected panels on which people have agreed, in the order of closing."""
    wanted = select(Panel, Picture, Review).join(Picture, Picture.token == Panel.token)
    wanted = wanted.join(Review, Review.token == Panel.token).where(Review.state == State.DONE, Panel.fault.is_(None))
    if order.since:
        wanted = wanted.where(Panel.closed_at >= text_of(order.since))
    if order.until:
        wanted = wanted.where(Panel.closed_at < text_of(order.until))
    return [(row[0], row[1], row[2]) for row in session.execute(wanted.order_by(Panel.closed_at))]


def _of(known: dict[str, Known], panel: Panel) -> Known:
    return known.get(panel.recipe, Known(panel.recipe, "", {}))


def _one_product(found: Sequence[Decided], known: dict[str, Known], order: Order) -> str:
    products = sorted({_of(known, panel).product for panel, _, _ in found} - {""})
    if order.product is not None:
        products = [product for product in products if product == order.product]
    if len(products) > 1:
        raise UsageError(f"panels of several products were decided: --product {' or '.join(products)}")
    if not products:
        raise UsageError("no inspected panel with pictures was decided: review some, or widen --since and --until")
    return products[0]


def _written(
    own: Pictures, order: Order, theirs: Known, recipe: Known, panel: Panel, picture: Picture, review: Review
) -> str:
    """Where the panel went, as `<split>/<kind>`, or why it is left out."""
    if theirs.channels != recipe.channels:
        return "other channels"
    names = _named(recipe.channels, own.files(picture))
    if names is None:
        return "pictures are gone"
    try:
        frames = np.concatenate([read_panel(path) for path in names])
        folder = _folder(review, panel, order)
        mask = (
            _mask(own, theirs, panel, picture)
            if folder.startswith("test/") and review.finding != Finding.GOOD
            else None
        )
    except PanelError:
        return "pictures are damaged"
    write_panel(order.out / folder, _name(panel), frames, recipe.channels, mask)
    return folder


def _named(channels: Sequence[str], files: dict[str, tuple[Path | None, Path | None]]) -> list[Path] | None:
    """The lossless pictures in the recipe's order, whichever camera took them; None where one is missing."""
    found: list[Path] = []
    for channel in channels:
        fitting = sorted((name for name in files if name.endswith(f"_{channel}")), key=len)
        path = files[fitting[0]][0] if fitting else None
        if path is None:
            return None
        found.append(path)
    return found


def _folder(review: Review, panel: Panel, order: Order) -> str:
    if review.finding == Finding.GOOD:
        drawn = int(sha256(panel.token.encode()).hexdigest()[:8], 16) / 0x1_0000_0000
        return f"{'test' if drawn < order.test_share else 'train'}/{GOOD}"
    return f"test/{review.code or UNCLASSIFIED}"


def _mask(own: Pictures, recipe: Known, panel: Panel, picture: Picture) -> NDArray[np.bool_] | None:
    """What the inspection marked; None for an escape, of which it marked nothing."""
    manifest = recipe.manifest
    if panel.outcome != Outcome.REJECT or manifest is None or not (picture.height and picture.width):
        return None
    try:
        return marking.mask(looking.anomalies(own, picture), manifest, (picture.height, picture.width))
    except NotFoundError:
        return None


def _name(panel: Panel) -> str:
    """The bar code as far as it can be a file's name, and the token's beginning, which tells two of them apart."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", panel.panel_id).strip("-") or "panel"
    return f"{plain}_{panel.token[:12]}"


def _write_facts(out: Path, recipe: Known) -> None:
    try:
        (out / "set.toml").write_text("".join(_facts(recipe)), encoding="utf-8")
    except OSError as error:
        raise PanelError(f"{out}: cannot be written: {error.strerror}") from None


def _facts(recipe: Known) -> Iterator[str]:
    yield f"product = {dumps(recipe.product)}\n"
    yield f"channels = {dumps(recipe.channels)}\n"
    if recipe.mm_per_px:
        yield f"mm_per_px = {recipe.mm_per_px}\n"
