"""Users: the commands ``registry user add | passwd | remove | list``."""

from __future__ import annotations

import enum
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, JsonOption, command

if TYPE_CHECKING:
    from registry.auth.passwords.password_file import PasswordFile
    from registry.auth.passwords.password_hash import PasswordHash
    from registry.cli.output import Output

MAX_INPUT = 4096
"""Bytes of a password on standard input that are read."""

app = typer.Typer(help="Users with passwords, in a htpasswd file.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="USER", show_default=False)]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="htpasswd file (none: auth.htpasswd.file of the settings)."),
]


class SchemeName(enum.StrEnum):
    """How a password is hashed."""

    ARGON2ID = "argon2id"
    BCRYPT = "bcrypt"


SchemeOption = Annotated[
    SchemeName, typer.Option("--scheme", help="Hash; bcrypt is for files that other programs read too.")
]


@app.command(short_help="Add a user.", epilog=examples.USER_ADD)
def add(
    user: NameArgument,
    scheme: SchemeOption = SchemeName.ARGON2ID,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a user; the password is asked for, or is the first line of standard input. A running server sees it."""
    with command(as_json=as_json) as output:
        found = _file(output, file, config)
        found.add(user, _hashed(user, scheme))
        output.document({"user": user, "done": "added"}, [f"user {user} added"])


@app.command(short_help="Change the password of a user.", epilog=examples.USER_PASSWORD)
def passwd(
    user: NameArgument,
    scheme: SchemeOption = SchemeName.ARGON2ID,
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the password of a user, which ends the tokens that it has; it is asked for as by add."""
    with command(as_json=as_json) as output:
        found = _file(output, file, config)
        if user not in found.users():
            from registry.auth.errors import AccountError

            raise AccountError(f"there is no user {user}")
        found.replace(user, _hashed(user, scheme))
        output.document({"user": user, "done": "changed"}, [f"password of user {user} changed"])


@app.command(short_help="Remove a user.", epilog=examples.USER_REMOVE)
def remove(
    user: NameArgument, file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Remove a user, which ends its tokens and keys within a second."""
    with command(as_json=as_json) as output:
        _file(output, file, config).remove(user)
        output.document({"user": user, "done": "removed"}, [f"user {user} removed"])


@app.command("list", short_help="List users.", epilog=examples.USER_LIST)
def list_users(file: FileOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the users of the file, in its order."""
    with command(as_json=as_json) as output:
        users = _file(output, file, config).users()
        output.document({"users": users}, users)


def _file(output: Output, file: Path | None, config: Path | None) -> PasswordFile:
    from registry.auth.errors import AccountError
    from registry.auth.passwords.password_file import PasswordFile

    if file is not None:
        return PasswordFile(file)
    auth = output.settings(config).auth
    if auth is None or auth.htpasswd is None:
        raise AccountError("the settings have no auth.htpasswd.file; name the file with --file")
    return PasswordFile(auth.htpasswd.file)


def _hashed(user: str, scheme: SchemeName) -> PasswordHash:
    from registry.auth.errors import AccountError
    from registry.auth.passwords.password_hash import PasswordHash

    password = _asked(user) if sys.stdin.isatty() else _read()
    try:
        return PasswordHash.make(password, scheme.value)
    except ValueError as error:
        raise AccountError(str(error)) from error


def _asked(user: str) -> str:
    from registry.auth.errors import AccountError

    password = getpass.getpass(f"Password of {user}: ")
    if getpass.getpass("Again: ") != password:
        raise AccountError("the two passwords differ")
    return password


def _read() -> str:
    """The first line of standard input."""
    from registry.auth.errors import AccountError

    line = sys.stdin.buffer.readline(MAX_INPUT)
    try:
        return line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise AccountError("the password is no UTF-8") from error
