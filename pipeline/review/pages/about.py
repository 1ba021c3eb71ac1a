"""What is known of one panel, as HTML."""

from collections.abc import Iterable

from pipeline.messages import Outcome
from pipeline.review.facts import Again, DefectFacts, PanelFacts, Vote
from pipeline.review.pages.markup import Html, join, pairs, table, tag
from pipeline.review.pages.words import NONE, SAID, cause, judged, number, stands, when, zone

STEPS = {
    "captured": "image set complete",
    "verdict": "verdict at the bridge",
    "written": "written to the PLC",
    "ack": "acknowledged by the PLC",
    "wait": "waited in the inspector",
    "inspect": "inspected",
    "decide": "decided",
}
AT_IT = tag("p", "Being inspected again …")


def heading(panel: PanelFacts) -> Html:
    row = panel.row
    name = row.panel_id or f"no bar code, number {row.seq}"
    return join(
        [
            tag("h1", f"Panel {name}"),
            tag("p", tag("strong", cause(row)), f" · {when(row.closed_at)} {zone()}", class_="cause"),
            tag("p", f"Review: {stands(row.standing, row.outcome)}", class_="state", id="standing"),
            tag("p", "This product needs two persons who agree.") if panel.two_persons else "",
        ]
    )


def measured(panel: PanelFacts) -> Html:
    """The raw score beside its limit."""
    row = panel.row
    if row.score is None:
        return tag("p", "No score: the panel was not inspected.")
    relation = "no limit is known" if row.limit is None else "above" if row.score > row.limit else "at or below"
    words = relation if row.limit is None else f"{relation} the limit {number(row.limit, 4)}"
    return tag("p", "Score ", tag("strong", number(row.score, 4)), f", {words}", class_="score")


def compared(panel: PanelFacts, found: Again) -> Html:
    """What was recorded beside what the recipe in use says of the same frames."""
    row, same = panel.row, found.recipe == panel.recipe.recipe
    rows = [
        ("verdict", cause(row), judged(found.outcome, found.fault)),
        ("score", number(row.score, 4), number(found.score, 4)),
        ("limit", number(row.limit, 4), number(found.limit, 4)),
        ("defects", len(panel.defects), found.defects),
        ("recipe", panel.recipe.recipe[:12], f"{found.recipe[:12]}{' (the same)' if same else ''}"),
        ("engine", panel.engine[:12], found.engine[:12]),
    ]
    said = tag("p", "Nothing was changed: the recorded verdict stands.")
    return join((table("Inspected again", ("", "recorded", "recipe now in use"), rows), said))


def defects(found: list[DefectFacts], code: str) -> Html:
    """Each as a button that centres it; `code` is the class that people gave the panel."""
    if not found:
        return tag("p", "No defects are marked.")
    head = ("defect", "area", "position", "peak", "seen in")
    rows = [_defect(at, defect) for at, defect in enumerate(found)]
    kind = tag("p", f"Type: {code}" if code else "Type: not classified yet")
    return join((kind, table("Defects", head, rows)))


def _defect(at: int, defect: DefectFacts) -> tuple[Html, str, str, str, str]:
    show = tag("button", f"{at + 1} show", type="button", data_defect=at)
    pixels = (defect.x_px + defect.width_px / 2, defect.y_px + defect.height_px / 2)
    if defect.area_mm2 is None or defect.centre_x_mm is None or defect.centre_y_mm is None:
        area, where = f"{defect.area_px} px", f"{pixels[0]:.0f}, {pixels[1]:.0f} px"
    else:
        area, where = f"{defect.area_mm2:.3g} mm²", f"{defect.centre_x_mm:.1f}, {defect.centre_y_mm:.1f} mm"
    return show, area, where, number(defect.peak, 3), ", ".join(defect.channels) or NONE


def origin(panel: PanelFacts) -> Html:
    """What judged it, and what the PLC did."""
    row, recipe = panel.row, panel.recipe
    rows = [
        ("PLC", panel.ack_text),
        ("Fault", panel.fault_text or NONE),
        ("Product", recipe.product or NONE),
        ("Recipe", recipe.recipe),
        ("Engine", panel.engine),
        ("Calibration", panel.calibration),
        ("Station", row.station),
        ("Number", row.seq),
        ("Token", row.token),
        ("Trigger to acknowledgement", number(row.latency_ms, 1, "ms")),
        ("Kept for", panel.kept_for or NONE),
    ]
    return pairs((name, tag("span", value or NONE, class_="code")) for name, value in rows)


def steps(panel: PanelFacts) -> Html:
    rows = [
        (STEPS.get(one.step, one.step), number(one.after_ms, 1, "ms"), number(one.took_ms, 1, "ms"))
        for one in panel.steps
    ]
    if not rows:
        return tag("p", "No times were recorded.")
    return table("Times", ("stage", "after the trigger", "took"), rows)


def greys(panel: PanelFacts) -> Html:
    rows = [(one.channel, one.camera, number(one.mean_grey, 1)) for one in panel.pictures]
    return table("Pictures", ("channel", "camera", "mean grey"), rows) if rows else Html()


def votes(said: Iterable[Vote], outcome: Outcome) -> Html:
    """Who said what, and when; what was taken back stays to be seen."""
    rows = [(vote.by, when(vote.at), _said(vote), vote.comment) for vote in said]
    if not rows:
        return tag("p", "Nobody has decided yet.")
    return table("Decisions", ("who", "when", "what", "comment"), rows)


def _said(vote: Vote) -> Html:
    words = f"{SAID[vote.finding]} {vote.code}".strip()
    return tag("span", tag("s", words), " taken back") if vote.undone else tag("span", words)
