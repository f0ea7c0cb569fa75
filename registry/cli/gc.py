"""Garbage collection: the command ``registry gc``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.output import SHOWN, ConfigOption, ExitCode, JsonOption, command, open_command_audit
from registry.cli.progress import named_bar
from registry.cli.spool import Spool

if TYPE_CHECKING:
    from registry.maintenance.collection.ledger import Ledger


def gc(
    repository: Annotated[
        str | None, typer.Argument(metavar="[REPO]", show_default=False, help="With --empty-trash: only this one.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a run would remove, and change nothing.")
    ] = False,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="On local disk also files that other tools have left, and that nothing names."),
    ] = False,
    empty_trash: Annotated[
        bool,
        typer.Option("--empty-trash", help="What was deleted goes at once, of REPO or of all; it cannot be restored."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free what is out of use: blobs that nothing names, what was deleted long ago, and abandoned uploads.

    Servers may run meanwhile. What a run finds out of use it notes, and a later run removes it, once gc.grace is over;
    what was deleted can be restored for gc.undelete_window and is freed after that.
    """
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.cli.store_check import probe_store
        from registry.images.registry import Registry
        from registry.maintenance.collection.collection import Collection
        from registry.maintenance.collection.ledger import Ledger
        from registry.maintenance.single_replica import writing
        from registry.observability.audit import Event, operator
        from registry.oci.errors import RequestInvalid
        from registry.oci.name import parse_name

        if repository is not None and not empty_trash:
            raise RequestInvalid("a collection is of all repositories; REPO is for --empty-trash alone")
        emptied = (parse_name(repository) if repository else "") if empty_trash else None
        if emptied is not None and not dry_run:
            audit = open_command_audit(settings)
            if audit is not None:
                audit.add(Event.TRASH_EMPTIED, who=operator(), repository=emptied or None)
        right = nullcontext() if dry_run else writing(settings, conditional_writes=probe_store(settings))
        with ExitStack() as stack:
            stack.enter_context(right)
            removed, waiting = (stack.enter_context(Spool()) for _ in range(2))
            registry = Registry.open(settings)
            stack.callback(registry.close)
            ledger = Ledger(
                lambda found: removed.entry(found.entry()) if as_json else removed.line(_line(found.entry())),
                lambda found: waiting.entry(found.entry()) if as_json else None,
            )
            with named_bar(quiet=as_json) as on_progress:
                Collection(registry, settings).run(
                    ledger, dry=dry_run, with_found=orphans, emptied=emptied, on_progress=on_progress
                )
            if not dry_run:
                registry.fold_waiting()
            if as_json:
                _print_document(ledger, removed, waiting)
            else:
                removed.print()
                _print_summary(ledger, dry=dry_run)
        raise typer.Exit(ExitCode.PROBLEMS if ledger.problems else ExitCode.DONE)


def _line(entry: dict[str, Any]) -> str:
    named = [entry[name] for name in ("key", "digest") if name in entry][:1]  # a tag has both
    what = " in ".join([*named, entry["repository"]] if "repository" in entry else named)
    return f"{entry['kind']} {what}, {entry['bytes']} bytes: {entry['reason']}"


def _print_document(ledger: Ledger, removed: Spool, waiting: Spool) -> None:
    sys.stdout.write('{"removed": [')
    removed.print()
    sys.stdout.write('],\n"waiting": [')
    waiting.print()
    rest = {
        "kept": {str(reason): count for reason, count in ledger.kept.items()},
        "objects": ledger.objects,
        "bytes": ledger.bytes,
        "problems": [*ledger.problems, *_more(ledger)],
    }
    sys.stdout.write(f"],\n{json.dumps(rest, ensure_ascii=False, indent=1)[1:]}\n")


def _print_summary(ledger: Ledger, *, dry: bool) -> None:
    print(f"{'would be removed' if dry else 'removed'}: {ledger.objects} objects, {ledger.bytes} bytes")
    until = f", the first from {_moment(ledger.next)}" if ledger.next is not None else ""
    print(f"waiting: {sum(ledger.waiting.values())}, {ledger.waiting_bytes} bytes{until}")
    for reason, count in ledger.kept.items():
        print(f"kept: {count}, because {reason}")
    for problem in ledger.problems[:SHOWN]:
        print(f"registry: {problem}", file=sys.stderr)
    more = len(ledger.problems) + ledger.more_problems - SHOWN
    if more > 0:
        print(f"registry: and {more} more problems: --json has them", file=sys.stderr)


def _more(ledger: Ledger) -> list[str]:
    return [f"and {ledger.more_problems} more"] if ledger.more_problems else []


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
