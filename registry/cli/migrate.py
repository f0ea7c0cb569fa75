"""``registry migrate-s3-storage``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from registry.cli.migration_report import report_lines, review_lines
from registry.cli.output import ConfigOption, ExitCode, JsonOption, Output, command, describe
from registry.cli.progress import phases
from registry.cli.store_check import probe_store
from registry.config import ConfigError
from registry.config_file import Problem

if TYPE_CHECKING:
    from registry.config import Settings

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
    typer.Option("--rate", min=0.1, help="Requests per second at most; in a review, those for which to tell times."),
]
ParallelOption = Annotated[
    int | None, typer.Option("--parallel", min=1, help="Requests that are under way at the same time.")
]
PrefixOption = Annotated[
    bool, typer.Option("--single-prefix", help="Repositories below the name of the root are of that name.")
]
AdoptOption = Annotated[
    bool, typer.Option("--adopt-only", help="Serve everything from the original's objects, and copy none of them yet.")
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
) -> None:
    """Migrate a bucket that zot, docker distribution or an earlier layout filled, beside running servers."""
    with command(as_json=as_json) as output:
        _check(
            (
                "--status",
                status and (dry_run or plan is not None),
                "stands alone: --dry-run and --plan are no part of it",
            ),
            ("--adopt-only", adopt_only and (dry_run or status), "is of a run: no --dry-run, no --status"),
            ("--verify", verify == "full" and not dry_run, "is of a review: add --dry-run"),
        )
        settings = _settings(output, config, rate, parallel)
        if status:
            _status(output, settings)
        elif dry_run:
            _review(output, settings, verify, plan, single_prefix=single_prefix)
        else:
            _run(output, settings, plan, single_prefix=single_prefix, adopt_only=adopt_only)


def _check(*mistakes: tuple[str, bool, str]) -> None:
    """Raises ConfigError, with all of them."""
    found = [Problem(flag, message, "") for flag, is_mistake, message in mistakes if is_mistake]
    if found:
        raise ConfigError(found)


def _settings(output: Output, config: Path | None, rate: float | None, parallel: int | None) -> Settings:
    """Those of the configuration, with what the command line says instead."""
    settings = output.settings(config)
    said = {name: value for name, value in (("rate", rate), ("parallel", parallel)) if value is not None}
    return settings.model_copy(update={"migration": settings.migration.model_copy(update=said)})


def _status(output: Output, settings: Settings) -> None:
    from registry.migration.status import bucket_status

    found = bucket_status(settings)
    output.document(found, describe(found))


def _review(
    output: Output, settings: Settings, verify: Literal["sizes", "full"], plan: Path | None, *, single_prefix: bool
) -> None:
    from registry.migration.plan import check_target
    from registry.migration.review import Options, review

    if plan is not None:
        check_target(plan)
    with phases(quiet=output.as_json) as on_progress:
        found = review(settings, Options(verify, single_prefix, settings.migration.rate), on_progress)
    if plan is not None:
        found.write(plan)
    output.document(found.document(), [] if output.as_json else review_lines(found, kept=plan))
    raise typer.Exit(ExitCode.PROBLEMS if found.problems else ExitCode.DONE)


def _run(output: Output, settings: Settings, plan: Path | None, *, single_prefix: bool, adopt_only: bool) -> None:
    from registry.maintenance.single_replica import writing
    from registry.migration.adopt import Pass
    from registry.migration.context import RunOptions
    from registry.migration.coverage import Reviewed
    from registry.migration.run import run

    reviewed = None if plan is None else Reviewed.read(plan)
    options = RunOptions(reviewed, single_prefix, adopt_only)
    right = writing(settings, conditional_writes=probe_store(settings))
    with right, phases(quiet=output.as_json) as on_progress:
        found = run(settings, options, on_progress)
    changed = found.changed if isinstance(found, Pass) else []
    output.document(found, [] if output.as_json else report_lines(found, changed))
    raise typer.Exit(ExitCode.REFUSED if changed else ExitCode.PROBLEMS if found.problems else ExitCode.DONE)
