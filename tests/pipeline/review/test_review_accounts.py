"""Who may come in: accounts, log-ins, lock-out."""

from datetime import UTC, datetime, timedelta

import pytest
from review_parts import config, filled, row
from sqlalchemy import select, text

from pipeline.errors import NotFoundError, RefusedError, UsageError
from pipeline.review.accounts import LOCAL
from pipeline.review.desk import Desk
from pipeline.review.facts import Role
from pipeline.store.tables import Account, LogIn

pytest.importorskip("argon2", reason="needs the extra [review]")
PASSWORD = "correct horse"


@pytest.fixture
def desk(tmp_path):
    line = config(tmp_path, review={"lock_after": 3})
    filled(line, [row(1, "REJECT")]).close()
    desk = Desk(line)
    yield desk
    desk.close()


def changed(desk: Desk, statement: str) -> None:
    with desk.accounts.audit.database.writing() as session:
        session.execute(text(statement))


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat(timespec="microseconds")


def test_without_accounts_everybody_on_this_machine_is_local(desk):
    session = desk.session(None)
    assert session.person == LOCAL and desk.session("no such").person == LOCAL
    desk.accounts.add("root (shell)", "eve", Role.OPERATOR, PASSWORD)
    assert desk.session(None) is None
    desk.accounts.set_disabled("root (shell)", "eve", disabled=True)
    assert desk.session(None) is None  # to disable the last one opens nothing


def test_a_log_in_lasts_until_log_out_idleness_or_its_longest(desk):
    desk.accounts.add("root", "eve", Role.QUALITY, PASSWORD)
    session = desk.log_in("eve", PASSWORD)
    assert desk.session(session.secret).person == session.person and session.person.role is Role.QUALITY
    assert desk.session(session.secret).csrf == session.csrf
    desk.log_out(session.secret)
    assert desk.session(session.secret) is None
    for column, time in (("seen", ago(minutes=61)), ("began", ago(hours=13))):
        session = desk.log_in("eve", PASSWORD)
        changed(desk, f"UPDATE log_ins SET {column} = '{time}'")
        assert desk.session(session.secret) is None
    with pytest.raises(RefusedError):
        desk.log_in("nobody", PASSWORD)


def test_what_a_page_fetches_by_itself_keeps_nobody_logged_in(desk):
    desk.accounts.add("root", "eve", Role.QUALITY, PASSWORD)
    session, long_ago = desk.log_in("eve", PASSWORD), ago(minutes=59)
    changed(desk, f"UPDATE log_ins SET seen = '{long_ago}'")
    assert desk.session(session.secret, click=False).person == session.person and seen(desk) == long_ago
    assert desk.session(session.secret).person == session.person and seen(desk) > ago(minutes=1)


def seen(desk: Desk) -> str:
    with desk.accounts.audit.database.reading() as session:
        return session.scalars(select(LogIn.seen)).one()


def test_so_many_wrong_passwords_lock_the_account_for_a_while_whatever_comes_then(desk):
    desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
    for _ in range(3):
        with pytest.raises(RefusedError, match="wrong, or the account is locked"):
            desk.log_in("eve", "wrong")
    with pytest.raises(RefusedError):
        desk.log_in("eve", PASSWORD)
    assert desk.accounts.all()[0]["locked_until"] > ago()
    whats = [record.what for record in desk.audit().rows]
    assert whats == ["locked", "log-in refused", "log-in refused", "account added"]
    changed(desk, f"UPDATE accounts SET locked_until = '{ago(seconds=1)}'")
    assert desk.log_in("eve", PASSWORD)


def test_a_new_password_ends_log_ins_and_locks(desk):
    desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
    session = desk.log_in("eve", PASSWORD)
    changed(desk, f"UPDATE accounts SET locked_until = '{ago(days=-1)}'")
    desk.accounts.set_password("root", "eve", "another one entirely")
    assert desk.session(session.secret) is None
    assert desk.log_in("eve", "another one entirely")
    with pytest.raises(RefusedError):
        desk.log_in("eve", PASSWORD)


def test_another_role_and_disabling_hold_at_once(desk):
    desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
    session = desk.log_in("eve", PASSWORD)
    desk.accounts.set_role("root", "eve", Role.ADMIN)
    assert desk.session(session.secret).person.role is Role.ADMIN
    desk.accounts.set_disabled("root", "eve", disabled=True)
    assert desk.session(session.secret) is None
    with pytest.raises(RefusedError):
        desk.log_in("eve", PASSWORD)
    desk.accounts.set_disabled("root", "eve", disabled=False)
    assert desk.log_in("eve", PASSWORD)
    said = [(record.what, record.before, record.after) for record in desk.audit().rows if record.who == "root"]
    assert said[-2] == ("account's role", "operator", "admin")


def test_neither_a_password_nor_a_cookies_secret_stands_in_the_store(desk, real_hash):
    desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
    session = desk.log_in("eve", PASSWORD)
    with desk.accounts.audit.database.reading() as db:
        assert db.scalars(select(Account.password)).one().startswith("$argon2id$")
        assert session.secret not in {row.secret for row in db.scalars(select(LogIn))}
    with desk.accounts.audit.database.reading() as db:
        dump = "\n".join(str(row) for row in db.execute(text("SELECT * FROM audit")))
    assert PASSWORD not in dump and session.secret not in dump


@pytest.mark.parametrize("name", ["", " eve", "x" * 65, "local", "a\x00b", "a\nb"])
def test_a_name_that_cannot_be_one_is_refused(desk, name):
    with pytest.raises(UsageError, match="cannot be an account's name"):
        desk.accounts.add("root", name, Role.OPERATOR, PASSWORD)


def test_what_cannot_be_is_one_line(desk):
    desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
    with pytest.raises(UsageError, match="has an account already"):
        desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
    with pytest.raises(UsageError, match="10 to 200 characters"):
        desk.accounts.set_password("root", "eve", "short")
    with pytest.raises(NotFoundError, match="has no account"):
        desk.accounts.set_role("root", "tom", Role.ADMIN)
