"""History: the command ``registry history``.

Tests: ``tests/cli/test_restore.py``.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.cli.output import ConfigOption, JsonOption, command

if TYPE_CHECKING:
    from collections.abc import Iterator


def history(
    reference: Annotated[str, typer.Argument(metavar="REPO[:TAG]", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Changes to show at most, the last first.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Only changes with a smaller number.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the changes of a repository or a tag, the last first: number, time, caller, and what the tag was before."""
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.cli.spool import Spool
        from registry.images.records.change_history import document_of
        from registry.images.registry import Registry
        from registry.oci.change_reference import ChangeReference

        wanted = ChangeReference.parse(reference)
        registry = Registry.open(settings)
        with Spool() as spool:  # an error before the last one has a document of its own
            try:
                records = registry.change_history.records(wanted.repository, wanted.tag, before=before)
                for record in islice(records, count):
                    document = document_of(record, wanted.tag)
                    if as_json:
                        spool.entry(document)
                    else:
                        for line in _lines(document):
                            spool.line(line)
            finally:
                registry.close()
            if as_json:
                sys.stdout.write(f'{{"repository": {json.dumps(wanted.repository)}, "changes": [')
            spool.print()
            if as_json:
                sys.stdout.write("\n]}\n")


def _lines(change: dict[str, Any]) -> Iterator[str]:
    names = ",".join(change["tags"]) or "-"
    yield f"{change['change']:>8}  {change['time']}  {change['operation']:<6}  {names}  {change['digest'] or '-'}"
    yield f"          by {change['actor']}" + "".join(
        f"; {tag} was {digest}" for tag, digest in change["before"].items()
    )
