"""The commissioning record of `takt plc probe`: a line of text, JSON and a page to print and sign. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from pipeline.bench.probe_cases import ACK_TEXT, Finding

NAME_WIDTH, ACK_WIDTH = 20, 12
STYLE = """\
body { font: 15px/1.4 Helvetica, Arial, sans-serif; color: #1b2733; max-width: 1100px; margin: 2em auto }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3em .6em; vertical-align: top }
.cases td, .cases th { border-bottom: 1px solid #c9d2da } .right { background: #ddf0e0 } .wrong { background: #f3c1bb }
h1 + p { font-size: 1.2em; padding: .5em } .sign td { border-bottom: 1px solid #1b2733; height: 3em; width: 33% }
"""


@dataclass(frozen=True)
class Occasion:
    """What was probed, when and how."""

    date: str
    station: str
    plc: str  # kind and address
    simulated: bool
    seed: int
    version: str


def heading() -> str:
    """The table's first line."""
    return f"{'':5} {'case':{NAME_WIDTH}} {'acknowledged':{ACK_WIDTH}} {'ms':>6}  written"


def line(finding: Finding) -> str:
    """One row of the table."""
    after = "" if finding.after_ms is None else f"{finding.after_ms:.0f}"
    said = f"{finding.case:{NAME_WIDTH}} {_ack(finding):{ACK_WIDTH}} {after:>6}  {finding.written}"
    return f"{'right' if finding.ok else 'WRONG'} {said}" + ("" if finding.ok else f"\n      {finding.remark}")


def conclusion(findings: Sequence[Finding]) -> str:
    """The last line, for people."""
    wrong = _wrong(findings)
    if not wrong:
        return f"all {len(findings)} answers right: this PLC passes a good panel and nothing else that was tried"
    names = ", ".join(dict.fromkeys(finding.case for finding in wrong))
    return f"{len(wrong)} of {len(findings)} answers WRONG ({names}): do not start the line with this PLC program"


def figures(occasion: Occasion, findings: Sequence[Finding]) -> dict[str, Any]:
    """The content of `--json FILE`."""
    counts = {"answers": len(findings), "wrong": len(_wrong(findings)), "accepted": not _wrong(findings)}
    return asdict(occasion) | counts | {"cases": [asdict(finding) for finding in findings]}


def page(occasion: Occasion, findings: Sequence[Finding]) -> str:
    """The commissioning record as one HTML page that needs nothing else."""
    state = "wrong" if _wrong(findings) else "right"
    facts = {
        "Date": occasion.date,
        "Station": occasion.station,
        "PLC": occasion.plc + (" (simulated: no record of a real PLC)" if occasion.simulated else ""),
        "Program": f"takt {occasion.version}, plc probe, seed {occasion.seed}",
    }
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>PLC of {escape(occasion.station)}</title>\n"
        f"<style>\n{STYLE}</style></head><body>\n<h1>Commissioning record: PLC probe</h1>\n"
        f'<p class="{state}">{escape(conclusion(findings))}</p>\n<table>{_facts(facts)}</table>\n<h2>Cases</h2>\n'
        f'<table class="cases">\n{_rows(findings)}</table>\n<h2>Signed</h2>\n'
        '<table class="sign"><tr><td>Name</td><td>Date</td><td>Signature</td></tr></table>\n</body></html>\n'
    )


def _wrong(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def _ack(finding: Finding) -> str:
    return ACK_TEXT.get(finding.ack_code, str(finding.ack_code))


def _facts(facts: dict[str, str]) -> str:
    return "".join(f"<tr><th>{name}</th><td>{escape(fact)}</td></tr>" for name, fact in facts.items())


def _rows(findings: Sequence[Finding]) -> str:
    names = ("", "Case", "What was written", "Sequence", "Panel", "PLC acknowledged", "After", "Verdict")
    rows = [f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"]
    for number, finding in enumerate(findings, 1):
        after = "" if finding.after_ms is None else f"{finding.after_ms:.0f} ms"
        verdict = "right" if finding.ok else f"WRONG: {finding.remark}"
        cells = (number, finding.case, finding.written, finding.seq, finding.panel_id, _ack(finding), after, verdict)
        inside = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        rows.append(f'<tr class="{"" if finding.ok else "wrong"}">{inside}</tr>')
    return "\n".join(rows) + "\n"
