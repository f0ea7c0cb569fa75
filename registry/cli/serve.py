"""``registry serve``."""

from __future__ import annotations

import typer

from registry.cli.output import ConfigOption, JsonOption, command
from registry.config import ConfigError, Settings
from registry.config_check import check_settings


def serve(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Listen and serve until Ctrl-C or SIGTERM, then let requests in flight end and stop."""
    with command(as_json=as_json) as output:
        settings = output.settings(config)
        problems = check_settings(settings)
        if problems:
            raise ConfigError(problems)
        code = _run(settings)
        output.document({"exit_code": code}, [])
        raise typer.Exit(code)


def _run(settings: Settings) -> int:
    from registry.observability.metrics_directory import metrics_directory

    with metrics_directory():  # before the server, whose imports decide how metrics are kept
        from registry.server.process import run

        return run(settings)
