"""Database: the command ``registry db upgrade``.

Tests: ``tests/cli/test_commands.py``.
"""

from __future__ import annotations

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, JsonOption, command

app = typer.Typer(help="The cache database.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep ``upgrade`` a command of its own while it is the only one."""


@app.command(short_help="Bring its schema to that of this release.", epilog=examples.UPGRADE)
def upgrade(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the schema of the cache database to that of this release; serve does it too when it starts."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.database.schema import upgrade as run

        report = run(settings.database_url)
        done = "already up to date" if report.before == report.after else f"upgraded from {report.before or 'nothing'}"
        output.document(report, [f"schema {report.after}: {done}"])
