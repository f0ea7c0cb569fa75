"""Scrub: the command ``registry scrub``."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command
from registry.cli.progress import progress_bar


def scrub(
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right bytes back where another location has them.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every object again, also beside running servers; wrong bytes are served no more."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.images.registry import Registry
        from registry.maintenance.scrub.run import ScrubRun
        from registry.maintenance.scrub.scheduled_run import turn
        from registry.oci.errors import Unavailable

        registry = Registry.open(settings)
        try:
            registry.source_locations.ensure_row()
            with turn(registry) as is_ours, progress_bar("Scrubbing", quiet=as_json) as on_progress:
                if not is_ours:
                    raise Unavailable("another registry scrub is running")
                report = ScrubRun(registry, settings.scrub, repairs=repair, on_progress=on_progress).run()
            registry.fold_waiting()
        finally:
            registry.close()
        output.document(report.document(), report.lines())
        raise typer.Exit(ExitCode.DONE if report.is_clean else ExitCode.PROBLEMS)
