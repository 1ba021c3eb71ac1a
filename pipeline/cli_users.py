"""`takt users`: who may log in to the review station, and as what."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import load
from pipeline.errors import UsageError
from pipeline.figures import write_json

users_app = typer.Typer(
    no_args_is_help=True, help="Accounts of the review station: add, role, password, disable, list."
)
Line = Annotated[Path, typer.Argument(metavar="LINE.toml", help="the line file")]
Name = Annotated[str, typer.Argument(help="the account's name")]
RoleName = Annotated[str, typer.Option("--role", help="operator, quality, engineer or admin")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="its first line; - reads stdin; else it is asked for")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="also write the list to this file")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the root command."""
    app.add_typer(users_app, name="users")


@users_app.command()
def add(line: Line, name: Name, role: RoleName = "operator", password_file: PasswordFile = None) -> None:
    """Add an account. With the first one, everybody has to log in."""
    with _accounts(line) as accounts:
        accounts.add(_who(), name, _role(role), _password(password_file))
    _print(f"{name} may log in as {role}")


@users_app.command()
def role(line: Line, name: Name, role: Annotated[str, typer.Argument(help="the new one")]) -> None:
    """Give an account another role, at once."""
    with _accounts(line) as accounts:
        accounts.set_role(_who(), name, _role(role))
    _print(f"{name} is {role}")


@users_app.command()
def password(line: Line, name: Name, password_file: PasswordFile = None) -> None:
    """Set a new password; the account's log-ins end, and so does its lock."""
    with _accounts(line) as accounts:
        accounts.set_password(_who(), name, _password(password_file))
    _print(f"{name} has a new password")


@users_app.command()
def disable(line: Line, name: Name) -> None:
    """Lock an account out, at once; it is kept, since the audit names it."""
    with _accounts(line) as accounts:
        accounts.set_disabled(_who(), name, disabled=True)
    _print(f"{name} cannot log in any more")


@users_app.command()
def enable(line: Line, name: Name) -> None:
    """Let a disabled account in again."""
    with _accounts(line) as accounts:
        accounts.set_disabled(_who(), name, disabled=False)
    _print(f"{name} may log in again")


@users_app.command("list")
def list_all(line: Line, json_file: JsonFile = None) -> None:
    """List name, role and state."""
    with _accounts(line) as accounts:
        found = accounts.all()
    for row in found:
        state = "disabled" if row["disabled"] else f"locked until {row['locked_until']}" if row["locked_until"] else ""
        _print(f"{row['name']:24} {row['role']:10} {state}".rstrip())
    write_json(json_file, found)


@contextmanager
def _accounts(line: Path) -> Iterator[Any]:
    """The accounts of a line's store, which is made where there is none yet."""
    from pipeline.review.desk import Desk
    from pipeline.store import Store
    from pipeline.store.places import place_of

    config = load(line)
    Store(place_of(config), config.station).close()
    desk = Desk(config)
    try:
        yield desk.accounts
    finally:
        desk.close()


def _role(name: str) -> Any:
    from pipeline.review.facts import Role

    try:
        return Role(name)
    except ValueError:
        raise UsageError(f"{name!r} is no role: operator, quality, engineer or admin") from None


def _who() -> str:
    """Whoever has a shell on the line's machine."""
    return f"{getpass.getuser()} (shell)"[:64]


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            text = sys.stdin.readline() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--password-file {file}: cannot be read: {error}") from None
        return text.splitlines()[0] if text else ""
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the password: give --password-file")
    return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))


def _print(text: str) -> None:
    print(text)  # noqa: T201
