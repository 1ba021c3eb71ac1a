"""Fuzzed and replayed verdicts against the bridge's decision, at full speed; not one may become a wrong PASS.

    python tests/bench/fuzz_verdicts.py [--verdicts 1000000] [--seed 0] [--json FILE]

Every panel is sent some verdicts, each of them wrong in at least one part: mutated fields, verdicts of other and of
closed panels, verdicts for sets that never came. Now and then a panel gets its one right verdict, and must pass,
so that nobody can be safe by rejecting everything. What is right is this script's own book, not the decision's.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))

from handshake_parts import EXPECTED, OTHER, Desk, captured, verdict  # pyright: ignore[reportMissingImports]

from pipeline.messages import Fault, LowMask, Outcome, Timing, Verdict
from pipeline.open_panels import CapturedSeen, VerdictSeen
from pipeline.plcs import ACK_PASSED, ACK_REJECTED, PASS_CODE

CAMERAS = ("top", "side")
LARGE = (1 << 64) - 1


def hexadecimal(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def one_character(rng: random.Random, text: str) -> str:
    """`text` with one character exchanged: the nearest miss."""
    at = rng.randrange(len(text))
    return text[:at] + rng.choice([other for other in "0123456789abcdef" if other != text[at]]) + text[at + 1 :]


def wrong_field(rng: random.Random, good: Verdict) -> dict[str, Any]:
    """One field that makes a verdict no proof."""
    return rng.choice(
        [
            lambda: {"token": one_character(rng, good.token)},
            lambda: {"station": rng.choice(["", "cell_2", "CELL_1", "cell_1 "])},
            lambda: {"inspector": rng.choice(["inspector_2", "capture_top", "INSPECTOR"])},
            lambda: {"outcome": Outcome.REJECT},
            lambda: {"fault": rng.choice(list(Fault))},
            lambda: {"digest": rng.choice(["", hexadecimal(rng), one_character(rng, good.digest), good.token])},
            lambda: {"recipe": rng.choice(["", OTHER.recipe, EXPECTED.recipe.upper(), EXPECTED.engine])},
            lambda: {"calibration": rng.choice(["", OTHER.calibration, EXPECTED.recipe])},
            lambda: {"engine": rng.choice(["", OTHER.engine, one_character(rng, EXPECTED.engine)])},
            lambda: {"score": rng.choice([nan, inf, -inf, 0.51, 1e308, good.limit + 1e-9])},
            lambda: {"limit": rng.choice([nan, -inf, 0.1999, -1.0])},
        ]
    )()


def harmless_field(rng: random.Random) -> dict[str, Any]:
    """What a decision does not rest on, as large as the schema lets it be."""
    extreme = Timing(joined_ns=LARGE, started_ns=0, network_ns=LARGE, decided_ns=LARGE)
    mask = LowMask(height=LARGE, width=1, bits=rng.randbytes(8))
    return rng.choice([{}, {"batch": LARGE}, {"timing": extreme}, {"mask": mask}])


class Fuzz:
    """A bridge's hand-shake, a book of what is right, and the count of what came out."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.desk = Desk()
        self.old: list[Verdict] = []  # of closed panels
        self.sent = self.seq = 0
        self.counts: Counter[str] = Counter()

    def run(self, verdicts: int) -> None:
        while self.sent < verdicts:
            self.panel()

    def panel(self) -> None:
        """One panel from its trigger to its acknowledgement."""
        rng, desk = self.rng, self.desk
        self.seq += 1
        token = desk.trigger(self.seq)
        good = verdict(token)
        complete = rng.random() < 0.8
        for camera in CAMERAS if complete else CAMERAS[:1]:
            desk.tell(CapturedSeen(captured(token, camera)))
        may_pass = complete and rng.random() < 0.2
        if may_pass:
            self.tell(self.of_others(good))  # what names another panel must not hurt this one either
            self.tell(good)
        else:
            for _ in range(rng.randrange(1, 6)):
                self.tell(self.wrong(good))
        desk.wait(1)
        desk.wait(2000 if not desk.writes() else 0)
        self.judge(may_pass=may_pass)
        self.old = [*self.old[-63:], good]
        desk.actions.clear()

    def tell(self, said: Verdict) -> None:
        self.sent += 1
        self.desk.tell(VerdictSeen(said))

    def wrong(self, good: Verdict) -> Verdict:
        if self.rng.random() < 0.2:
            return self.of_others(good)
        changes = harmless_field(self.rng)
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            changes |= wrong_field(self.rng, good)
        return good.model_copy(update=changes)

    def of_others(self, good: Verdict) -> Verdict:
        """A replay as it was, or a panel that there never was."""
        if self.old and self.rng.random() < 0.7:
            return self.rng.choice(self.old)
        return good.model_copy(update={"token": hexadecimal(self.rng)})

    def judge(self, *, may_pass: bool) -> None:
        written = [write.result.code for write in self.desk.writes()]
        self.counts["panels"] += 1
        self.counts["passed"] += PASS_CODE in written
        self.counts["wrong_pass"] += PASS_CODE in written and not may_pass
        self.counts["wrong_reject"] += may_pass and written != [PASS_CODE]
        self.counts["not_one_result"] += len(written) > 1
        code = ACK_PASSED if PASS_CODE in written else ACK_REJECTED
        slot = self.seq % len(self.desk.slots)
        self.desk.slots[slot] = replace(self.desk.slots[slot], ack_seq=self.seq, ack_code=code)
        self.desk.look()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    fuzz, begun = Fuzz(wanted.seed), time.monotonic()
    fuzz.run(wanted.verdicts)
    figures = {"verdicts": fuzz.sent, **fuzz.counts, "seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps(figures))  # noqa: T201
    if wanted.json:
        wanted.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if fuzz.counts["wrong_pass"] or fuzz.counts["wrong_reject"] else 0)


if __name__ == "__main__":
    main()
