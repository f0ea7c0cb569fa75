"""API keys: the commands ``registry key create | list | revoke``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, ExitCode, JsonOption, command

if TYPE_CHECKING:
    from registry.auth.keys.key_record import KeyRecord
    from registry.auth.keys.key_scope import KeyScope
    from registry.auth.keys.key_store import KeyStore
    from registry.config.access_sections import AuthSettings
    from registry.config.settings import Settings
    from registry.database.engine import Database

DAY = 86400.0

app = typer.Typer(help="API keys, which are passwords of programs.", no_args_is_help=True)


@app.command(short_help="Make a key and print it, once.", epilog=examples.KEY_CREATE)
def create(
    owner: Annotated[
        str | None,
        typer.Option(help="User of whose rights it has a part (none: it has what rules give to key:ID)."),
    ] = None,
    repository: Annotated[
        list[str] | None, typer.Option(help="Pattern of repositories that it is bounded to; may be repeated.")
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help="Action that it is bounded to: pull, push, delete, admin or *; may be repeated."),
    ] = None,
    days: Annotated[int | None, typer.Option(help="Days until it ends (none: auth.keys.max_days).")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it; it is not shown again. A running server takes it at once, as a password of any user."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        auth = _auth(settings)
        from registry.auth.keys.key_record import KeyRecord
        from registry.auth.keys.key_secret import KeySecret

        _check_owner(auth, owner)
        scope, seconds = _scope(repository, action), _days(auth, days) * DAY
        now, secret = time(), KeySecret.make()
        record = KeyRecord.make(
            secret, owner=owner, scope=scope, created=now, expires=now + seconds, description=description
        )
        with _opened(settings) as (store, _):
            store.add(record)
        output.document({"secret": secret.text, **_shown(record, None)}, [*_lines(record, None), secret.text])


@app.command("list", short_help="List the keys.", epilog=examples.KEY_LIST)
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the keys, with their bounds and when each was last used; a secret is never among that."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.database import key_uses

        with _opened(settings) as (store, database):
            with database.autocommit() as connection:
                uses = key_uses.of_all(connection).get()
            records = list(store.all())
        shown = [_shown(record, uses.get(record.key_id)) for record in records]
        output.document(
            {"keys": shown}, [line for record in records for line in _lines(record, uses.get(record.key_id))]
        )


@app.command(short_help="Revoke a key.", epilog=examples.KEY_REVOKE)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key and its tokens: every process refuses them within a second."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        _check_id(key_id)
        with _opened(settings) as (store, _):
            found = store.remove(key_id)
        done = "revoked" if found else "there was none; every process was told to forget it"
        output.document({"id": key_id, "revoked": found}, [f"key {key_id}: {done}"])
        raise typer.Exit(ExitCode.DONE if found else ExitCode.PROBLEMS)


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[tuple[KeyStore, Database]]:
    from registry.auth.keys.key_store import KeyStore
    from registry.database.engine import Database
    from registry.database.schema import upgrade_database
    from registry.storage.factory import open_driver

    with contextlib.closing(open_driver(settings)) as driver, contextlib.closing(Database.of(settings)) as database:
        upgrade_database(database)
        yield KeyStore(driver, database), database


def _auth(settings: Settings) -> AuthSettings:
    from registry.auth.errors import AccountError

    if settings.auth is None or not settings.auth.keys.enabled:
        raise AccountError("API keys are not in use: the settings have no auth, or auth.keys.enabled is false")
    return settings.auth


def _check_owner(auth: AuthSettings, owner: str | None) -> None:
    from registry.auth.errors import AccountError
    from registry.auth.passwords.password_file import PasswordFile

    users = [] if auth.htpasswd is None else PasswordFile(auth.htpasswd.file).users()
    if owner is not None and owner not in users:
        raise AccountError(f"there is no user {owner} in auth.htpasswd.file")


def _scope(repositories: list[str] | None, actions: list[str] | None) -> KeyScope | None:
    """None if neither is bounded."""
    from registry.auth.errors import AccountError
    from registry.auth.keys.key_scope import ALL, EVERYWHERE, KeyScope

    if not repositories and not actions:
        return None
    try:
        return KeyScope.of(repositories or [EVERYWHERE], actions or [ALL])
    except ValueError as error:
        raise AccountError(str(error)) from error


def _days(auth: AuthSettings, days: int | None) -> int:
    from registry.auth.errors import AccountError

    most = auth.keys.max_days
    if days is not None and not 0 < days <= most:
        raise AccountError(f"a key may have 1 to {most} days (auth.keys.max_days)")
    return days or most


def _check_id(key_id: str) -> None:
    from registry.auth.errors import AccountError

    if not re.fullmatch(r"[0-9a-f]{16}", key_id):
        raise AccountError("the id of a key has 16 hex digits; registry key list has them")


def _shown(record: KeyRecord, used: float | None) -> dict[str, object]:
    from registry.oci.moment import to_text

    document = record.document()
    del document["sha256"], document["version"]
    return {**document, "last_used": None if used is None else to_text(used)}


def _lines(record: KeyRecord, used: float | None) -> list[str]:
    from registry.oci.moment import to_text

    scope = record.scope
    bound = "everything" if scope is None else f"{','.join(scope.actions)} in {','.join(scope.repositories)}"
    end = "never" if record.expires is None else to_text(record.expires)
    owner = record.owner or f"itself, as key:{record.key_id}"
    last = "never" if used is None else to_text(used)
    return [
        f"key {record.key_id}{f' ({record.description})' if record.description else ''}",
        f"  rights of {owner}; bounded to {bound}",
        f"  ends {end}; last used {last}",
    ]
