"""Rebuild: the command ``registry rebuild``."""

from __future__ import annotations

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, describe
from registry.cli.progress import progress_bar
from registry.cli.store_check import probe_store


def rebuild(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Fill the cache database from storage, in place, also beside a running server."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.maintenance.rebuild import rebuild as run
        from registry.maintenance.single_replica import writing

        right = writing(settings, conditional_writes=probe_store(settings))
        with right, progress_bar("Rebuilding", quiet=as_json) as on_progress:
            report = run(settings, on_progress=on_progress)
        output.document(report, describe(report))
        raise typer.Exit(ExitCode.PROBLEMS if report.problems else ExitCode.DONE)
