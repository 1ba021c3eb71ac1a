"""What several people's findings come to. Pure."""

from collections.abc import Sequence

from pipeline.review.facts import Finding, Standing, State, Vote


def standing(votes: Sequence[Vote], *, two_persons: bool) -> Standing:
    """Of each person the newest finding counts. Two persons, where they are wanted, must agree."""
    valid = {vote.by: vote for vote in sorted(votes, key=lambda vote: vote.n) if not vote.undone}
    if not valid:
        return Standing()
    newest = max(valid.values(), key=lambda vote: vote.n)
    said = Standing(by=newest.by, at=newest.at, votes=len(valid), code=newest.code)
    if newest.finding is Finding.LAB:
        return said.model_copy(update={"state": State.LAB})
    if not two_persons:
        return said.model_copy(update={"state": State.DONE, "finding": newest.finding})
    return _agreed(said, [vote for vote in valid.values() if vote.finding is not Finding.LAB])


def _agreed(said: Standing, votes: list[Vote]) -> Standing:
    """One finding that two share and that more share than the other."""
    by = {finding: [vote for vote in votes if vote.finding is finding] for finding in (Finding.GOOD, Finding.DEFECTIVE)}
    finding = max(by, key=lambda one: len(by[one]))
    most, least = sorted((len(them) for them in by.values()), reverse=True)
    if most >= 2 and most > least:
        code = max(by[finding], key=lambda vote: vote.n).code
        return said.model_copy(update={"state": State.DONE, "finding": finding, "code": code})
    return said.model_copy(update={"state": State.DISPUTED if least else State.HALF})
