"""Usage: the command ``registry usage``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.output import ConfigOption, JsonOption, command
from registry.cli.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.usage.holders import Range
    from registry.maintenance.usage.figures import Figures
    from registry.maintenance.usage.usage import Usage

COLUMNS = ("logical", "stored", "own", "waiting", "frees")
_HEAD = "".join(f"{each:>13}" for each in COLUMNS) + "  repository\n"


def usage(
    scope: Annotated[
        str, typer.Argument(metavar="[REPO | PREFIX/** | REPO:TAG | REPO@DIGEST]", show_default=False)
    ] = "**",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many bytes repositories take on storage, and what deleting a repository or a tag would free.

    logical: of all manifests, and of blobs as often as manifests name them. stored: what is on storage, each blob once.
    own: of blobs that no other repository has. waiting: of what no manifest names any more: in the trash, doomed, or
    not found by a collection yet. frees: what would leave storage with the repository or tag, and with its trash.
    """
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.images.registry import Registry
        from registry.maintenance.usage.scope import Scope
        from registry.maintenance.usage.usage import Usage

        wanted = Scope.parse(scope)
        registry = Registry.open(settings)
        try:
            found, reference = Usage(registry), wanted.reference
            if wanted.within is not None:
                _print_all(found, wanted.within, as_json=as_json)
            elif reference is not None and (reference.tag or reference.digest):
                figures = found.manifest(reference.repository, reference.digest or reference.tag or "", reference.tag)
                output.document(figures.document(), figures.lines())
            elif reference is not None:
                whole = found.repository(reference.repository)
                document = {"repository": reference.repository, **whole.document()}
                output.document(document, [reference.repository, *whole.lines()])
        finally:
            registry.close()


def _print_all(usage: Usage, within: Range, *, as_json: bool) -> None:
    """Print all repositories once there are all of them: an error before that has a document of its own."""
    from registry.oci.quotas import shown

    with Spool() as spool:
        count = _write(spool, usage.repositories(usage.names(within)), as_json=as_json)
        total = usage.total(within)
        sys.stdout.write('{"repositories": [' if as_json else _HEAD)
        spool.print()
        if as_json:
            sys.stdout.write(f'\n],\n"total": {json.dumps({"repositories": count, **total.document()})}}}\n')
        else:
            print(f"{_row(total)}  all {count} repositories together")
            if total.quarantine:
                print(f"in quarantine: {shown(total.quarantine)}")


def _write(spool: Spool, found: Iterable[tuple[str, Figures]], *, as_json: bool) -> int:
    """Write each repository; returns how many."""
    count = 0
    for name, figures in found:
        count += 1
        if as_json:
            spool.entry({"repository": name, **figures.document()})
        else:
            spool.line(f"{_row(figures)}  {name}")
    return count


def _row(figures: Figures) -> str:
    from registry.oci.quotas import about

    waiting = figures.unreferenced + figures.doomed + figures.trash
    values = (figures.logical, figures.stored, figures.own, waiting, figures.frees)
    return "".join(f"{about(value):>13}" for value in values)
