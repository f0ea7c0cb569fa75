"""Configuration: the commands ``registry config check | show | schema``.

Tests: ``tests/cli/test_commands.py``.
"""

from __future__ import annotations

import json

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, JsonOption, command, print_json
from registry.cli.store_check import probe_credentials, probe_database, probe_store
from registry.config.file import ConfigError

app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)


@app.command(short_help="Say whether the registry can start.", epilog=examples.CHECK)
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether the registry can start with this configuration; every mistake names its key."""
    with command(as_json=as_json) as output:
        settings = output.settings(config)
        from registry.auth.rules.review import review
        from registry.config.check import check_address, check_settings, short_times, without_effect
        from registry.maintenance.retention.review import review as review_retention

        cannot_listen, notes = check_address(settings.http)
        problems = check_settings(settings) + cannot_listen
        if problems:
            raise ConfigError(problems)
        probe_credentials(settings)
        probe_database(settings)
        conditional_writes = probe_store(settings)
        if not conditional_writes:
            notes.append("The store ignores conditional writes: only one process, with one worker, can serve from it.")
        doubtful = without_effect(settings) + short_times(settings)
        notes += [f"{problem.source or problem.key} {problem.message}" for problem in doubtful]
        notes += [*review(settings), *review_retention(settings.retention)]
        lines = ["The configuration is valid.", *notes]
        output.document({"problems": [], "conditional_writes": conditional_writes, "notes": notes}, lines)


@app.command(short_help="Print every setting in use.", epilog=examples.SHOW)
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print every setting in use, from the file, the environment and the defaults, with secrets masked."""
    with command(as_json=as_json) as output:
        settings = output.settings(config).masked()
        output.document(settings, json.dumps(settings, indent=2, ensure_ascii=False).splitlines())


@app.command(short_help="Print the JSON Schema of the file.", epilog=examples.SCHEMA)
def schema(config: ConfigOption = None, as_json: JsonOption = False) -> None:  # noqa: ARG001 - every command has both
    """Print the JSON Schema of the configuration file."""
    with command(as_json=as_json):
        from registry.config.settings import Settings

        print_json(Settings.json_schema())
