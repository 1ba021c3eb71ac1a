"""Writes what people say of a panel: votes, how the review stands, and the audit, in one transaction.

It touches no limit, and there is no way from here to the PLC.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.audit import Audit, Pen
from pipeline.errors import NotFoundError, RefusedError
from pipeline.messages import Outcome
from pipeline.review.facts import Finding, Person, Role, Standing, Wish
from pipeline.review.panel import one, votes_of
from pipeline.review.queries import text_of
from pipeline.review.recipes import Recipes
from pipeline.review.standing import standing
from pipeline.store.tables import Panel, Review, Vote


@dataclass(frozen=True)
class Rules:
    """What the line file says of decisions."""

    codes: Collection[str]
    two_persons: Collection[str]  # products
    overrule_role: Role
    recipes: Recipes


def decide(audit: Audit, rules: Rules, person: Person, token: str, wish: Wish) -> Standing:
    """Raises NotFoundError, RefusedError: there is no such panel; the person may not say that of it."""
    with audit.writing() as pen:
        panel = one(pen.session, token)
        _check(rules, person, panel, wish)
        before = standing_of(pen.session, panel, rules)
        said = _text(wish.finding, wish.code)
        record = pen.write(
            person.name, "finding", token, before=_said(before), after=said, reason=wish.comment, recipe=panel.recipe
        )
        named = {"finding": wish.finding, "code": wish.code, "comment": wish.comment}
        pen.session.add(Vote(n=record.n, token=token, by=person.name, at=record.at, undone=False, **named))
        return _stand(pen, panel, rules)


def undo(audit: Audit, rules: Rules, person: Person, token: str, n: int | None) -> Standing:
    """Take back the person's own newest finding of this panel, or finding `n`."""
    with audit.writing() as pen:
        panel = one(pen.session, token)
        vote = _to_undo(pen.session, person, token, n)
        before = standing_of(pen.session, panel, rules)
        vote.undone = True
        pen.session.flush()
        after = standing_of(pen.session, panel, rules)
        reason = f"undoes record {vote.n} of {vote.by}"
        pen.write(
            person.name, "undo", token, before=_said(before), after=_said(after), reason=reason, recipe=panel.recipe
        )
        return _stand(pen, panel, rules)


def standing_of(session: Session, panel: Panel, rules: Rules) -> Standing:
    """As its votes say."""
    two_persons = rules.recipes.of(session, panel.recipe).product in rules.two_persons
    return standing(votes_of(session, panel.token), two_persons=two_persons)


def _check(rules: Rules, person: Person, panel: Panel, wish: Wish) -> None:
    if wish.code and wish.code not in rules.codes:
        raise RefusedError(f"class {wish.code!r} is not in the plant's tree")
    if wish.code and wish.finding is Finding.GOOD:
        raise RefusedError("a good panel has no defect class: leave it out")
    overrules = wish.finding is Finding.GOOD and panel.outcome == Outcome.REJECT
    if overrules and not person.may(rules.overrule_role):
        raise RefusedError(f"calling a reject good needs the role {rules.overrule_role}: ask somebody who has it")


def _to_undo(session: Session, person: Person, token: str, n: int | None) -> Vote:
    wanted = select(Vote).where(Vote.token == token, ~Vote.undone).order_by(Vote.n.desc()).limit(1)
    vote = session.scalars(wanted.where(Vote.by == person.name if n is None else Vote.n == n)).first()
    if vote is None:
        raise NotFoundError("there is no such finding that could be undone")
    if vote.by != person.name and not person.may(Role.QUALITY):
        raise RefusedError(f"what {vote.by} said is undone by himself, or by the role quality")
    return vote


def _stand(pen: Pen, panel: Panel, rules: Rules) -> Standing:
    """Keep how the review stands now."""
    now = standing_of(pen.session, panel, rules)
    if now.at is None:
        kept = pen.session.get(Review, panel.token)
        if kept is not None:
            pen.session.delete(kept)
        return now
    plain = {"state": now.state, "finding": now.finding, "code": now.code, "by": now.by, "votes": now.votes}
    pen.session.merge(Review(token=panel.token, at=text_of(now.at), **plain))
    return now


def _said(standing: Standing) -> str:
    return _text(standing.finding, standing.code) if standing.finding else standing.state.value


def _text(finding: Finding, code: str) -> str:
    return f"{finding.value} {code}".strip()
