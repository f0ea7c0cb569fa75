"""``registry migrate-s3-storage``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from registry.cli.migration_report import review_lines
from registry.cli.output import ConfigOption, ExitCode, JsonOption, command
from registry.cli.progress import phases
from registry.config import ConfigError
from registry.config_file import Problem

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Review the bucket: what there is, what is wrong, what a migration costs.")
]
VerifyOption = Annotated[
    Literal["sizes", "full"],
    typer.Option("--verify", help="What is compared: the sizes of blobs, or in full the digests of their bytes too."),
]
PlanOption = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="Keep the review in a file, in place of an older one.")
]
RateOption = Annotated[
    float | None, typer.Option("--rate", min=0.1, help="Requests per second for which to tell times too.")
]
PrefixOption = Annotated[
    bool, typer.Option("--single-prefix", help="Repositories below the name of the root are of that name.")
]
_ONLY_REVIEW = "is missing: this release can only review a bucket, which changes nothing in it; add --dry-run"


def migrate_s3_storage(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    verify: VerifyOption = "sizes",
    plan: PlanOption = None,
    rate: RateOption = None,
    single_prefix: PrefixOption = False,
) -> None:
    """Migrate a bucket that zot, docker distribution or an earlier layout filled; as yet, review it with --dry-run."""
    with command(as_json=as_json) as output:
        if not dry_run:
            raise ConfigError([Problem("--dry-run", _ONLY_REVIEW, "")])
        settings = output.settings(config)
        from registry.migration.plan import check_target
        from registry.migration.review import Options, review

        if plan is not None:
            check_target(plan)
        with phases(quiet=as_json) as on_progress:
            found = review(settings, Options(verify, single_prefix, rate), on_progress)
        if plan is not None:
            found.write(plan)
        output.document(found.document(), [] if as_json else review_lines(found, kept=plan))
        raise typer.Exit(ExitCode.PROBLEMS if found.problems else ExitCode.DONE)
