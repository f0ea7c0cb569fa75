"""``registry rebuild``."""

from __future__ import annotations

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, describe
from registry.cli.progress import progress_bar


def rebuild(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Fill the cache database from storage, in place, also beside a running server."""
    with command(as_json=as_json) as output:
        settings = output.settings(config)
        from registry.maintenance.rebuild import rebuild as run

        with progress_bar("Rebuilding", quiet=as_json) as on_progress:
            report = run(settings, on_progress=on_progress)
        output.document(report, describe(report))
        raise typer.Exit(ExitCode.PROBLEMS if report.problems else ExitCode.DONE)
