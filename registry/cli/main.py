"""The command ``registry``: puts the commands together and turns mistakes of usage into exit code 2.

Tests: ``tests/cli/test_commands.py``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from registry import DISTRIBUTION
from registry.cli import (
    access,
    cache,
    config,
    db,
    examples,
    gc,
    history,
    key,
    migrate,
    mirror,
    purge,
    rebuild,
    restore,
    retention,
    scrub,
    serve,
    usage,
    user,
)
from registry.cli.output import ExitCode, JsonOption, command, print_json

app = typer.Typer(
    name="registry",
    help="An OCI container registry. Without any configuration it serves ./registry-data on 127.0.0.1:5000.",
    epilog="Settings come from one JSON file (--config) and the environment over it (REGISTRY_HTTP__PORT=8080). "
    "Exit codes: 0 done, 1 done with problems, 2 bad usage or configuration, 3 refused because something would be "
    "lost, 4 not finished, run it again.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
app.command(short_help="Listen and serve.", epilog=examples.SERVE)(serve.serve)
app.add_typer(config.app, name="config")
app.command(short_help="Fill the cache database from storage.", epilog=examples.REBUILD)(rebuild.rebuild)
app.command(short_help="Free what is out of use.", epilog=examples.GC)(gc.gc)
app.command("garbage-collect", hidden=True, epilog=examples.GC)(gc.gc)
app.command(short_help="Say which tags stay by rules, and remove the rest.", epilog=examples.RETENTION)(
    retention.retention
)
app.command(short_help="Say how many bytes repositories take.", epilog=examples.USAGE)(usage.usage)
app.command(short_help="Read every object again.", epilog=examples.SCRUB)(scrub.scrub)
app.command(short_help="Show what happened to a repository or a tag.", epilog=examples.HISTORY)(history.history)
app.command(short_help="Bring back what was deleted or overwritten.", epilog=examples.RESTORE)(restore.restore)
app.command(short_help="Remove content for good, past the trash.", epilog=examples.PURGE)(purge.purge)
app.command("migrate-s3-storage", short_help="Migrate a bucket in place, and back.", epilog=examples.MIGRATE)(
    migrate.migrate_s3_storage
)
app.add_typer(cache.app, name="cache")
app.add_typer(mirror.app, name="mirror")
app.add_typer(db.app, name="db")
app.add_typer(access.app, name="access")
app.add_typer(user.app, name="user")
app.add_typer(key.app, name="key")


def _version() -> str:
    from importlib.metadata import version

    return version(DISTRIBUTION)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"registry {_version()}")
        raise typer.Exit


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    with command(as_json=as_json) as output:
        output.document({"version": _version()}, [f"registry {_version()}"])


@app.command("help", short_help="Explain a command.")
def explain(
    names: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", show_default=False)] = None,
) -> None:
    """Explain a command, as its option --help does; without one, list all."""
    raise typer.Exit(run([*(names or []), "--help"]))


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options before a command."""


def main() -> None:
    """Run the command of ``sys.argv`` and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


@functools.cache
def _command() -> Callable[..., int | None]:
    """All commands, put together once in a process: that takes longer than most of them."""
    return get_command(app)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = _command()(arguments, prog_name="registry", standalone_mode=False)
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
