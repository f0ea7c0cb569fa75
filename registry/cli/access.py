"""Access: the command ``registry access check``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, ExitCode, JsonOption, command

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.images.quotas.fill import Fill

ACTIONS = ("pull", "push", "delete", "admin")

app = typer.Typer(help="Who may do what.", no_args_is_help=True)


@app.callback()
def access() -> None:
    """Explain rules."""


@app.command(short_help="Say which rule allows something.", epilog=examples.ACCESS_CHECK)
def check(
    who: Annotated[str, typer.Argument(help="An identity as rules name it: alice, key:ID, oidc:PROVIDER/USER.")],
    repository: Annotated[str, typer.Argument(help="Name of a repository, which need not exist.")],
    action: Annotated[str, typer.Argument(help="pull, push, delete or admin.")],
    group: Annotated[list[str] | None, typer.Option(help="Group that it is in as well; may be repeated.")] = None,
    claim: Annotated[list[str] | None, typer.Option(help="Claim that it has, as NAME=VALUE; may be repeated.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether an identity may do something, and by which rule; exit code 1 if it may not.

    For a push it says as well how much of the quotas of the repository is used, if the database can be asked.
    """
    with command(as_json=as_json) as output:
        settings = output.settings(config)
        from registry.auth.errors import AccountError
        from registry.auth.rules.explanation import explain, named
        from registry.oci.name import is_name

        if action not in ACTIONS:
            raise AccountError(f"{action} is none of {', '.join(ACTIONS)}")
        if not is_name(repository):
            raise AccountError(f"{repository} is no name of a repository")
        claims = {name: value for name, _, value in (each.partition("=") for each in claim or ())}
        try:
            identity = named(who, group or (), claims, settings)
        except ValueError as error:
            raise AccountError(str(error)) from error
        found = explain(settings, identity, action, repository)
        verdict = "may" if found.is_allowed else "may not"
        fills = _fills(settings, repository) if found.is_allowed and action == "push" else []
        document = {
            "allowed": found.is_allowed,
            "rule": found.rule,
            "reason": found.reason,
            "quotas": [fill.document() for fill in fills],
        }
        output.document(document, [f"{who} {verdict} {action} in {repository}: {found.reason}", *map(str, fills)])
        if not found.is_allowed:
            raise typer.Exit(ExitCode.PROBLEMS)


def _fills(settings: Settings, repository: str) -> list[Fill]:
    """The use of the quotas that the repository is under; a database that is not there is not made."""
    from pathlib import Path

    from registry.database.engine import Database
    from registry.database.errors import DatabaseError
    from registry.images.quotas.fill import Fill, count_fills
    from registry.oci.quotas import Quotas

    quotas = Quotas(settings.access.quotas if settings.access else ()).of(repository)
    unknown = [Fill(quota, None) for quota in quotas]
    kind, _, path = settings.database_url.partition(":///")
    if not quotas or (kind == "sqlite" and not Path(path).is_file()):
        return unknown
    with contextlib.closing(Database.of(settings)) as database:
        try:
            return count_fills(database, quotas)
        except DatabaseError:
            return unknown
