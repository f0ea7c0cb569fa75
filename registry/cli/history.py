"""History: the command ``registry history``.

Tests: ``tests/cli/test_restore.py``.
"""

from __future__ import annotations

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
        from registry.images.records.change_history import document_of
        from registry.images.registry import Registry
        from registry.oci.change_reference import ChangeReference

        wanted = ChangeReference.parse(reference)
        registry = Registry.open(settings)
        try:
            records = registry.change_history.page(wanted.repository, wanted.tag, before=before, count=count).records
        finally:
            registry.close()
        documents = [document_of(record, wanted.tag) for record in records]
        output.document({"repository": wanted.repository, "changes": documents}, _lines(documents))


def _lines(changes: list[dict[str, Any]]) -> Iterator[str]:
    for change in changes:
        names = ",".join(change["tags"]) or "-"
        yield f"{change['change']:>8}  {change['time']}  {change['operation']:<6}  {names}  {change['digest'] or '-'}"
        yield f"          by {change['actor']}" + "".join(
            f"; {tag} was {digest}" for tag, digest in change["before"].items()
        )
