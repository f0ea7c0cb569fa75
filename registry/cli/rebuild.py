"""Rebuild: the command ``registry rebuild``."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, describe
from registry.cli.progress import progress_bar
from registry.cli.store_check import probe_store
from registry.config.file import ConfigError, ConfigProblem

RestartOption = Annotated[
    bool,
    typer.Option("--restart", help="Read all repositories again, also those that an interrupted rebuild has done."),
]
StatusOption = Annotated[
    bool, typer.Option("--status", help="Tell how far a rebuild has come, here or in another process; nothing is done.")
]


def rebuild(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    restart: RestartOption = False,
    status: StatusOption = False,
) -> None:
    """Fill the cache database from storage, in place, also beside a running server.

    After an interruption the same command goes on behind the last repository that is done.
    """
    with command(as_json=as_json) as output:
        if restart and status:
            raise ConfigError([ConfigProblem("--status", "does nothing: leave --restart out", "")])
        settings = output.usable_settings(config)
        from registry.maintenance import rebuild as maintenance

        if status:
            progress = maintenance.rebuild_progress(settings)
            unknown = ["no rebuild is under way, and none was interrupted"]
            output.document(progress, unknown if progress is None else describe(progress))
            return
        from registry.maintenance.single_replica import writing

        right = writing(settings, conditional_writes=probe_store(settings))
        with right, progress_bar("Rebuilding", quiet=as_json) as on_progress:
            report = maintenance.rebuild(settings, anew=restart, on_progress=on_progress)
        output.document(report, describe(report))
        raise typer.Exit(ExitCode.PROBLEMS if report.problems else ExitCode.DONE)
