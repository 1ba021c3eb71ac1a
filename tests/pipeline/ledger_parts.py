"""Ledgers for tests: what the bridge records of a panel, and how the lines are read back and rewritten."""

from pathlib import Path

from pipeline.ledger import Ledger, ledger_files, read_lines
from pipeline.messages import Fault, Outcome
from pipeline.recount import recount


def panel(ledger: Ledger, seq: int, outcome: Outcome | None = Outcome.PASS, fault: Fault | None = None) -> None:
    """What the bridge records of a panel; without an outcome the panel stays open."""
    token = f"{seq:032x}"
    ledger.record("trigger", token=token, seq=seq, panel_id=f"p{seq}", recipe_no=1, edge_ns=seq)
    if outcome is not None:
        ledger.record("intent", token=token, seq=seq, outcome=outcome, fault=fault)
        ledger.record("outcome", token=token, seq=seq, outcome=outcome, fault=fault, score=0.1)


def counted(folder: Path):
    return recount(read_lines(ledger_files(folder)))


def lines_of(folder: Path) -> list[bytes]:
    return [line for _, line in read_lines(ledger_files(folder))]


def rewrite(folder: Path, lines: list[bytes]) -> None:
    [file] = ledger_files(folder)
    file.write_bytes(b"".join(lines))


def written(folder: Path, panels: int = 4) -> list[bytes]:
    """A ledger of some panels, the last one still open; its lines."""
    with Ledger(folder, "cell_1") as ledger:
        for seq in range(1, panels):
            panel(ledger, seq, Outcome.PASS if seq % 2 else Outcome.REJECT, Fault.LATE if seq % 4 == 2 else None)
        panel(ledger, panels, None)
    return lines_of(folder)
