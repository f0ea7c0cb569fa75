"""The command ``registry``: puts the commands together and turns mistakes of usage into exit code 2."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from registry import DISTRIBUTION
from registry.cli import config, db, migrate, rebuild, serve
from registry.cli.output import ExitCode, print_json

app = typer.Typer(
    name="registry",
    help="An OCI container registry. Exit codes: 0 done, 1 done with problems, 2 bad usage or configuration, "
    "3 refused because something would be lost, 4 not finished, run it again.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)
app.command()(serve.serve)
app.add_typer(config.app, name="config")
app.command()(rebuild.rebuild)
app.command("migrate-s3-storage")(migrate.migrate_s3_storage)
app.add_typer(db.app, name="db")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"registry {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Run the command of ``sys.argv`` and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(arguments, prog_name="registry", standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        if "--json" in arguments:
            print_json({"error": "usage", "message": message})
        elif message.startswith("Usage:"):  # no command was named: the message is the help
            print(message, file=sys.stderr)
        else:
            print(f"registry: {message.removesuffix('.')}; see registry --help", file=sys.stderr)
        return ExitCode.USAGE
    return int(code or ExitCode.DONE)
