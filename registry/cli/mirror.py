"""Mirrors: the command ``registry mirror list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, JsonOption, command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.mirror.conditions import MirrorCondition

app = typer.Typer(help="Look at mirrors of other registries.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Look at mirrors of other registries."""


@app.command("list", short_help="List the mirrors, and how their upstreams do.", epilog=examples.MIRROR_LIST)
def list_mirrors(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the mirrors of the settings: how each upstream does, as all servers know it, and what of it is here.

    state: ok; paused (the upstream wants no request for a while); given up (it does not answer, and is asked seldom);
    offline (the settings say so). No upstream is asked.
    """
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.database.engine import Database
        from registry.database.schema import upgrade_database
        from registry.mirror.conditions import conditions

        database = Database.of(settings)
        try:
            upgrade_database(database)
            found = list(conditions(database, settings.mirrors))
        finally:
            database.close()
        lines = [line for each in found for line in _lines(each)] or ["No mirror is configured."]
        output.document({"mirrors": [each.document() for each in found]}, lines)


def _lines(mirror: MirrorCondition) -> Iterator[str]:
    from registry.oci.moment import to_text
    from registry.oci.quotas import about

    until = f", asked again in {mirror.asked_in:.0f} s" if mirror.asked_in else ""
    left = f", {mirror.remaining:,} requests left" if mirror.remaining is not None else ""
    yield f"{mirror.name}: {mirror.prefix}/ from {', '.join(mirror.upstreams)}: {mirror.condition}{until}{left}"
    here = mirror.contents
    fetches = f", {here.fetches} being fetched" if here.fetches else ""
    yield f"  {here.repositories:,} repositories, {here.tags:,} tags, {about(here.bytes)}{fetches}"
    if mirror.error is not None and mirror.failed_at is not None:
        yield f"  last error, {to_text(mirror.failed_at)}: {mirror.error}"
