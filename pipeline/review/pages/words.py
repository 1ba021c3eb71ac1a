"""Values as people read them. Times are those of the line PC's own zone."""

from datetime import datetime

from pipeline.messages import FAULTS, Fault, Outcome
from pipeline.review.facts import DEFECT, Filter, Finding, Row, Standing, State
from pipeline.review.figures import Share

NONE = "–"
FINDINGS = {
    (Outcome.REJECT, Finding.GOOD): "✔ good: overruled",
    (Outcome.REJECT, Finding.DEFECTIVE): "✖ reject confirmed",
    (Outcome.PASS, Finding.GOOD): "✔ good: confirmed",
    (Outcome.PASS, Finding.DEFECTIVE): "✖ defective: escaped",
}
STATES = {
    State.OPEN: "○ to be decided",
    State.HALF: "◐ a second person is to decide",
    State.DISPUTED: "⚡ two persons differ",
    State.LAB: "⚗ at the lab",
}
SAID = {Finding.GOOD: "good", Finding.DEFECTIVE: "defective", Finding.LAB: "to the lab"}
DECISIONS = {
    "": "any",
    **{f"state {state.value}": text.partition(" ")[2] for state, text in STATES.items()},
    "finding good": "found good",
    "finding defective": "found defective",
}


def when(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def clock(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S}"


def zone() -> str:
    return datetime.now().astimezone().tzname() or "local time"


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return NONE if value is None else f"{value:.{digits}f}{f' {unit}' if unit else ''}"


def percent(share: Share) -> str:
    """Rate, what it is counted of, and how far it is known."""
    if share.rate is None or share.lower95 is None or share.upper95 is None:
        return f"{NONE} (0 of 0)"
    return f"{share.rate:.2%} ({share.k} of {share.n}; 95 % sure: {share.lower95:.2%} to {share.upper95:.2%})"


def age(seconds: float | None) -> str:
    if seconds is None:
        return "never heard"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def cause(row: Row) -> str:
    """Why a panel is a reject; what a pass is."""
    return judged(row.outcome, row.fault)


def judged(outcome: Outcome, fault: Fault | None) -> str:
    if fault:
        return f"⚠ {FAULTS[fault].text}"
    return "✖ rejected by inspection" if outcome == Outcome.REJECT else "✔ passed"


def causes() -> dict[str, str]:
    """Every cause by name, for filters."""
    return {"": "any", DEFECT: "Rejected by inspection", **{fault.value: said.text for fault, said in FAULTS.items()}}


def standing(row: Row) -> str:
    """How the review stands: a sign and words."""
    return stands(row.standing, row.outcome)


def stands(said: Standing, outcome: Outcome) -> str:
    if said.state is not State.DONE or said.finding is None:
        return STATES.get(said.state, said.state.value)
    words = FINDINGS.get((outcome, said.finding), said.finding.value)
    return f"{words} {said.code}".strip()


def narrowed(wanted: Filter) -> dict[str, str]:
    """A filter as the parameters of an address, without what does not narrow."""
    plain = wanted.model_dump(mode="json", exclude_none=True)
    return {key: str(value) for key, value in plain.items() if (key, value) != ("queue", "rejects")}
