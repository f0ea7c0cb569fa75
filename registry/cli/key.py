"""API keys: the commands ``registry key create | list | revoke``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, open_command_audit

if TYPE_CHECKING:
    from registry.auth.keys.key_administration import KeyAdministration, ListedKey
    from registry.config.settings import Settings
    from registry.observability.audit import Event

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
        from registry.observability.audit import Event

        _check_enabled(settings)
        with _opened(settings) as keys:
            audit = _audit(settings)
            secret, key = keys.create(
                owner=owner,
                repositories=repository or [],
                actions=action or [],
                days=days,
                description=description,
            )
        audit(Event.KEY_CREATED, key.record.key_id, owner=owner, expires=key.document()["expires"])
        output.document({"secret": secret.text, **key.document()}, [*_lines(key), secret.text])


@app.command("list", short_help="List the keys.", epilog=examples.KEY_LIST)
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the keys, with their bounds and when each was last used; a secret is never among that."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        with _opened(settings) as keys:
            if as_json:
                output.document({"keys": [key.document() for key in keys.all()]}, [])
            else:
                output.document(None, (line for key in keys.all() for line in _lines(key)))


@app.command(short_help="Revoke a key.", epilog=examples.KEY_REVOKE)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key and its tokens: every process refuses them within a second."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.observability.audit import Event

        _check_id(key_id)
        with _opened(settings) as keys:
            audit = _audit(settings)
            found = keys.revoke(key_id)
        if found:
            audit(Event.KEY_REVOKED, key_id)
        done = "revoked" if found else "there was none; every process was told to forget it"
        output.document({"id": key_id, "revoked": found}, [f"key {key_id}: {done}"])
        raise typer.Exit(ExitCode.DONE if found else ExitCode.PROBLEMS)


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[KeyAdministration]:
    from registry.auth.keys.key_administration import KeyAdministration
    from registry.auth.keys.key_store import KeyStore
    from registry.config.access_sections import AuthSettings
    from registry.database.engine import Database
    from registry.database.schema import upgrade_database
    from registry.storage.factory import open_driver

    auth = settings.auth or AuthSettings()

    def has_user(name: str) -> bool:
        from registry.auth.passwords.password_file import PasswordFile

        return auth.htpasswd is not None and name in PasswordFile(auth.htpasswd.file).users()

    with contextlib.closing(open_driver(settings)) as driver, contextlib.closing(Database.of(settings)) as database:
        upgrade_database(database)
        yield KeyAdministration(KeyStore(driver, database), database, has_user, auth.keys.max_days)


def _audit(settings: Settings) -> Callable[..., None]:
    """Writes a line about a key. Opened before anything is done: an operator sees that it cannot be."""
    from registry.observability.audit import operator

    log = open_command_audit(settings)

    def add(event: Event, key_id: str, **fields: object) -> None:
        if log is not None:
            log.add(event, who=operator(), key=key_id, **fields)

    return add


def _check_enabled(settings: Settings) -> None:
    from registry.auth.errors import AccountError

    if settings.auth is None or not settings.auth.keys.enabled:
        raise AccountError("API keys are not in use: the settings have no auth, or auth.keys.enabled is false")


def _check_id(key_id: str) -> None:
    from registry.auth.errors import AccountError

    if not re.fullmatch(r"[0-9a-f]{16}", key_id):
        raise AccountError("the id of a key has 16 hex digits; registry key list has them")


def _lines(key: ListedKey) -> list[str]:
    from registry.oci.moment import to_text

    record, used = key
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
