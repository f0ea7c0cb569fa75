"""Retention: the command ``registry retention``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, open_command_audit
from registry.cli.spool import Spool

if TYPE_CHECKING:
    from registry.maintenance.retention.report import Summary
    from registry.maintenance.retention.run import RetentionRun


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report only, whatever retention.mode says.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Remove tags, whatever retention.mode says.")] = False,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON file with {"rules": [...]} or a whole retention section, in place of the configured one;'
            " reports only, unless --apply is given.",
        ),
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Repository of which more than retention.max_share may go this time; may be repeated.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which tags the rules of retention keep and remove, and why; remove them where retention.mode says apply."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.auth.errors import AccountError
        from registry.cli.store_check import probe_store
        from registry.config.retention_sections import load_retention
        from registry.images.registry import Registry
        from registry.maintenance.retention.run import RetentionRun
        from registry.maintenance.retention.scheduled_run import audited
        from registry.maintenance.single_replica import writing
        from registry.observability.audit import operator
        from registry.oci.name import is_name

        if dry_run and apply:
            raise AccountError("--dry-run and --apply exclude each other")
        for name in force or ():
            if not is_name(name):
                raise AccountError(f"{name} is no name of a repository")
        wanted = settings.retention if rules is None else load_retention(rules)
        applies = apply or (not dry_run and rules is None and wanted.mode == "apply")
        audit = open_command_audit(settings) if applies else None
        right = writing(settings, conditional_writes=probe_store(settings)) if applies else nullcontext()
        with right:
            registry = Registry.open(settings)
            try:
                forced, on_removed = frozenset(force or ()), audited(audit, operator())
                run = RetentionRun(registry, wanted, applies=applies, forced=forced, on_removed=on_removed)
                _print(run, as_json=as_json)
                if applies:
                    registry.fold_waiting()
            finally:
                registry.close()
        _conclude(run.summary, applies=applies, as_json=as_json)


def _print(run: RetentionRun, *, as_json: bool) -> None:
    """Print all entries once there are all of them: an error before that has a document of its own."""
    from registry.maintenance.retention.report import entry_of, line_of

    with Spool() as spool:
        for repository, each in run.judged(run.names()):
            if as_json:
                spool.entry(entry_of(repository, each))
            else:
                spool.line(line_of(repository, each))
        sys.stdout.write("[" if as_json else "")
        spool.print()
        sys.stdout.write("]\n" if as_json else "")


def _conclude(summary: Summary, *, applies: bool, as_json: bool) -> None:
    if not as_json:
        print(f"kept: {summary.kept}")
        print(f"{'removed' if applies else 'would be removed'}: {summary.removed}")
    for problem in summary.problems:
        print(f"registry: {problem}", file=sys.stderr)
    raise typer.Exit(ExitCode.PROBLEMS if summary.problems else ExitCode.DONE)
