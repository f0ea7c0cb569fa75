"""Cache: the command ``registry cache status``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from registry.cli import examples
from registry.cli.output import ConfigOption, JsonOption, command

if TYPE_CHECKING:
    from registry.storage.middleware.tiered.status import TierStatus

app = typer.Typer(help="Look at the cache of this machine.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Look at the cache of this machine."""


@app.command(short_help="Count what the cache has.", epilog=examples.CACHE_STATUS)
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Count the files of the cache of this machine, beside servers; nothing is changed."""
    with command(as_json=as_json) as output:
        settings = output.settings(config)
        from registry.storage.middleware.tiered.status import status_of

        found = status_of(settings.cache)
        lines = [line for each in found for line in _lines(each)]
        document = {"write": settings.cache.write, "tiers": [each.document() for each in found]}
        output.document(document, lines or ["No cache is configured: cache.blob_directory names its directory."])


def _lines(tier: TierStatus) -> list[str]:
    from registry.oci.quotas import about

    lines = [f"{tier.tier}: {tier.directory}"]
    contents = tier.contents
    if contents is None:
        return [*lines, f"  cannot be read: {tier.problem}"]
    lines.append(f"  {contents.files:,} files with {about(contents.bytes)}, of {about(tier.max_bytes)}")
    if contents.filling:
        lines.append(f"  {contents.filling} being filled")
    if contents.oldest is not None:
        oldest = datetime.fromtimestamp(contents.oldest, UTC)
        lines.append(f"  used longest ago: {oldest:%Y-%m-%d %H:%M:%S} UTC")
    return lines
