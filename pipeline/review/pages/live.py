"""The line now: its processes, the last panels, what waits, and how long the disk lasts."""

from asyncio import to_thread

from nicegui import ui

from pipeline.review.figures import Live, StageFacts
from pipeline.review.pages.cards import Cards
from pipeline.review.pages.frame import Visit, main
from pipeline.review.pages.markup import Html, join, pairs, table, tag
from pipeline.review.pages.words import NONE, age, number

OLD_S = 3.0  # a process that was heard no later is late
GOOD = ("ready", "running", "idle")


class LivePage:
    """Looks again each second."""

    def __init__(self, visit: Visit) -> None:
        self._visit, self._desk = visit, visit.desk
        visit.draw("Live", [], lambda name: None, lambda text: ui.navigate.to("/"))
        with main():
            self._state = ui.html("", sanitize=False)
            self._stages = ui.html("", sanitize=False)
            ui.html("Last panels", sanitize=False, tag="h2")
            self._last = Cards("No panels yet.")

    async def first(self) -> None:
        """Fill the page before it is sent: a timer sends it, so it comes behind."""
        await self._visit.trying(self._load)
        self._visit.every_second(self._load)

    async def _load(self) -> None:
        live = await to_thread(self._desk.live)
        self._state.set_content(state(live))
        self._stages.set_content(stages(live.stages))
        self._last.show(live.last, {"queue": "all"})


def state(live: Live) -> Html:
    disk = live.disk
    days = "unknown yet" if disk.days_left is None else f"{disk.days_left:.1f} days"
    rows = [
        ("Line", "● running" if live.running else "○ not running"),
        (
            "Evidence that waits",
            f"{live.spooled} panels" + (f", the oldest {age(live.spool_age_s)}" if live.spooled else ""),
        ),
        ("Disk", f"{number(disk.free_gb, 1, 'GB')} free; lasts {days}"),
        (
            "Pictures kept",
            f"{number(disk.today_gb, 3, 'GB')} today, {number(disk.last_days_gb, 3, 'GB')} in seven days",
        ),
    ]
    return join((tag("h1", "The line now"), pairs(rows)))


def stages(rows: list[StageFacts]) -> Html:
    if not rows:
        return tag("p", "Nobody listens to the line's processes here.")
    head = ("process", "state", "heard", "says", "counters")
    return table("Processes", head, (_stage(row) for row in rows))


def _stage(row: StageFacts) -> tuple[Html, Html, str, str, Html]:
    late = row.age_s is None or row.age_s > OLD_S
    well = row.state in GOOD and not late
    sign = "✔" if well else "⚠"
    said = tag("span", f"{sign} {row.state}{', late' if late else ''}", class_="well" if well else "bad")
    name = tag("span", row.stage)
    return name, said, f"{age(row.age_s)}" + (" ago" if row.age_s is not None else ""), row.text or NONE, _counters(row)


def _counters(row: StageFacts) -> Html:
    """Queues, drops and the like: what a process counts."""
    if not row.counters:
        return tag("span", NONE)
    shown = (f"{name} {value:g}" for name, value in sorted(row.counters.items()))
    return tag("details", tag("summary", f"{len(row.counters)} counters"), tag("span", ", ".join(shown)))
