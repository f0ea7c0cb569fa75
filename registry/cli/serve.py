"""Serve: the command ``registry serve``."""

from __future__ import annotations

import gc
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command
from registry.cli.store_check import probe_credentials, probe_store
from registry.config.file import ConfigError

if TYPE_CHECKING:
    from registry.config.settings import Settings


def serve(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Listen and serve until Ctrl-C or SIGTERM, then let requests in flight end and stop."""
    with command(as_json=as_json) as output:
        settings = output.settings(config)
        from registry.config.check import check_port, check_settings

        problems = check_settings(settings) + check_port(settings.http)
        if problems:
            raise ConfigError(problems)
        probe_credentials(settings)
        code = _run(settings, config, conditional_writes=probe_store(settings))
        output.document({"exit_code": code}, [])
        raise typer.Exit(code)


class _Stopped(BaseException):
    """SIGTERM or SIGINT while no server handles them: before it runs, and again after it has drained."""


def _run(settings: Settings, config: Path | None, *, conditional_writes: bool) -> int:
    """Serve, and return 0 after a signal, which uvicorn raises once more when it has drained."""
    from registry.observability.metrics.metrics_directory import metrics_directory

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        with metrics_directory():  # before the server, whose imports decide how metrics are kept
            gc.disable()  # what an import makes stays: to look for garbage in it is a tenth of a start
            from registry.server.process import run

            gc.freeze()
            gc.enable()
            return run(settings, conditional_writes=conditional_writes, config=config)
    except _Stopped:
        return ExitCode.DONE
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped
