"""Access: the command ``registry access check``."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, ExitCode, JsonOption, command

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
    """Say whether an identity may do something, and by which rule; exit code 1 if it may not."""
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
        document = {"allowed": found.is_allowed, "rule": found.rule, "reason": found.reason}
        output.document(document, [f"{who} {verdict} {action} in {repository}: {found.reason}"])
        if not found.is_allowed:
            raise typer.Exit(ExitCode.PROBLEMS)
