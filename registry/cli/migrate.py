"""Migrate: the command ``registry migrate-s3-storage``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from registry.cli.migration_report import finalize_lines, report_lines, review_lines, rollback_lines
from registry.cli.output import ConfigOption, ExitCode, JsonOption, Output, command, describe
from registry.cli.progress import phases
from registry.cli.store_check import probe_store
from registry.config.file import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.migration.command import Run
    from registry.migration.context import RunOptions
    from registry.migration.report import Report

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Review the bucket: what there is, what is wrong, what a migration costs.")
]
VerifyOption = Annotated[
    Literal["sizes", "full"],
    typer.Option("--verify", help="What a review compares: the sizes of blobs, or in full the digests of their bytes."),
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Keep a review in a file, or run only what such a file covers."),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", metavar="N", min=0.1, help="Requests per second at most; in a review, those for which to tell times."
    ),
]
ParallelOption = Annotated[
    int | None, typer.Option("--parallel", metavar="N", min=1, help="Requests that are under way at the same time.")
]
PrefixOption = Annotated[
    bool, typer.Option("--single-prefix", help="Repositories below the name of the root are of that name.")
]
AdoptOption = Annotated[
    bool, typer.Option("--adopt-only", help="Serve everything from the source's objects, and copy none of them yet.")
]
RollbackOption = Annotated[
    bool, typer.Option("--rollback", help="Give the bucket back, with what was pushed since; with --dry-run, tell it.")
]
LossOption = Annotated[
    bool, typer.Option("--accept-loss", help="Leave out of a rollback what the source cannot represent.")
]
FinalizeOption = Annotated[
    bool, typer.Option("--finalize", help="Delete source objects that are copied; with --dry-run, tell which.")
]
StatusOption = Annotated[bool, typer.Option("--status", help="Tell where the migration is; nothing is written.")]


def migrate_s3_storage(  # noqa: PLR0913, PLR0917 - a parameter for each option
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    verify: VerifyOption = "sizes",
    plan: PlanOption = None,
    rate: RateOption = None,
    parallel: ParallelOption = None,
    single_prefix: PrefixOption = False,
    adopt_only: AdoptOption = False,
    status: StatusOption = False,
    rollback: RollbackOption = False,
    accept_loss: LossOption = False,
    finalize: FinalizeOption = False,
) -> None:
    """Migrate a bucket that zot, docker distribution or an earlier layout filled, beside running servers."""
    with command(as_json=as_json) as output:
        is_way_on = not (status or rollback or finalize)
        _check(
            ("--status", status and dry_run, "writes nothing anyway: leave --dry-run out"),
            ("--finalize", status + rollback + finalize > 1, "--status, --rollback and --finalize exclude each other"),
            ("--plan", plan is not None and not is_way_on, "is of a review, or of a run"),
            ("--single-prefix", single_prefix and not is_way_on, "is of a review, or of a run"),
            ("--adopt-only", adopt_only and (dry_run or not is_way_on), "is of a run alone"),
            ("--accept-loss", accept_loss and not rollback, "is of a rollback: add --rollback"),
            ("--verify", verify == "full" and not (dry_run and is_way_on), "is of a review: add --dry-run"),
        )
        settings = _settings(output, config, rate, parallel)
        if status:
            _status(output, settings)
        elif dry_run and is_way_on:
            _review(output, settings, verify, plan, single_prefix=single_prefix)
        else:
            from registry.migration.context import RunOptions
            from registry.migration.review.plan_file import SavedPlan

            reviewed = None if plan is None else SavedPlan.read(plan)
            options = RunOptions(reviewed, single_prefix, adopt_only, accept_loss)
            with _running(output, settings, options) as run:
                if dry_run:
                    _tell(output, run, options, rollback=rollback)
                else:
                    _report(output, run.rollback() if rollback else run.finalize() if finalize else run.run())


def _check(*mistakes: tuple[str, bool, str]) -> None:
    """Raise ConfigError with all mistakes."""
    found = [ConfigProblem(flag, message, "") for flag, is_mistake, message in mistakes if is_mistake]
    if found:
        raise ConfigError(found)


def _settings(output: Output, config: Path | None, rate: float | None, parallel: int | None) -> Settings:
    """The settings, with the options of the command line in place of theirs."""
    settings = output.usable_settings(config)
    said = {name: value for name, value in (("rate", rate), ("parallel", parallel)) if value is not None}
    return settings.model_copy(update={"migration": settings.migration.model_copy(update=said)})


def _status(output: Output, settings: Settings) -> None:
    from registry.migration.status import bucket_status

    found = bucket_status(settings)
    output.document(found, describe(found))


def _review(
    output: Output, settings: Settings, verify: Literal["sizes", "full"], plan: Path | None, *, single_prefix: bool
) -> None:
    from registry.migration.review.plan_file import check_target
    from registry.migration.review.review import Options, review

    if plan is not None:
        check_target(plan)
    with phases(quiet=output.as_json) as on_progress:
        found = review(settings, Options(verify, single_prefix, settings.migration.rate), on_progress)
    if plan is not None:
        found.write(plan)
    output.document(found.document(), [] if output.as_json else review_lines(found, kept=plan))
    raise typer.Exit(ExitCode.PROBLEMS if found.problems else ExitCode.DONE)


@contextmanager
def _running(output: Output, settings: Settings, options: RunOptions) -> Iterator[Run]:
    from registry.maintenance.single_replica import writing
    from registry.migration.command import running

    right = writing(settings, conditional_writes=probe_store(settings))
    with right, phases(quiet=output.as_json) as on_progress, running(settings, options, on_progress) as run:
        yield run


def _tell(output: Output, run: Run, options: RunOptions, *, rollback: bool) -> None:
    """Print what a rollback, or else a finalize, would do."""
    if rollback:
        plan = run.plan_rollback()
        output.document(plan.document(), [] if output.as_json else rollback_lines(plan))
        is_refused = plan.changed or (plan.losses and not options.accept_loss)
        raise typer.Exit(ExitCode.REFUSED if is_refused else ExitCode.PROBLEMS if plan.problems else ExitCode.DONE)
    going = run.plan_finalize()
    output.document(going, [] if output.as_json else finalize_lines(going))


def _report(output: Output, report: Report) -> None:
    """Print what was done."""
    from registry.migration.adopt.adopt import Pass

    changed = report.changed if isinstance(report, Pass) else []
    output.document(report, [] if output.as_json else report_lines(report, changed))
    raise typer.Exit(ExitCode.REFUSED if changed else ExitCode.PROBLEMS if report.problems else ExitCode.DONE)
