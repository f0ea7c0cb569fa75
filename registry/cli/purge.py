"""Purge: the command ``registry purge``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, open_command_audit
from registry.cli.store_check import probe_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.trash.purge import Purged


def purge(
    reference: Annotated[str, typer.Argument(metavar="REPO@DIGEST | REPO:TAG", show_default=False)],
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also from each other repository that has it, and from its trash.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a manifest or a blob for good and at once, as a secret that was pushed by mistake; it cannot be restored.

    A manifest goes with its tags, with what is attached to it, and with the blobs that nothing else needs: past the
    trash, and without waiting for leases. What stays, or cannot be reached, is listed with the reason; the exit code is
    1 then, and 4 where the same command has to be run again.
    """
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.images.registry import Registry
        from registry.maintenance.single_replica import writing
        from registry.observability.audit import Event, operator
        from registry.oci.change_reference import ChangeReference
        from registry.oci.errors import RequestInvalid

        wanted = ChangeReference.parse(reference)
        if wanted.sequence is not None or not (wanted.tag or wanted.digest):
            raise RequestInvalid("purge takes REPO@DIGEST or REPO:TAG; `registry history REPO` lists what there was")
        audit = open_command_audit(settings)
        with writing(settings, conditional_writes=probe_store(settings)):
            registry = Registry.open(settings)
            try:
                name, who = wanted.repository, operator()
                digest = wanted.digest or registry.manifests.find(name, wanted.tag or "").digest
                if audit is not None:
                    audit.add(Event.PURGE, who=who, repository=name, digest=digest)
                done = registry.purge.run(name, digest, actor=f"operator:{who['name']}", everywhere=everywhere)
                registry.fold_waiting()
            finally:
                registry.close()
        seconds = settings.storage.redirect_expiry if settings.storage.redirect != "off" else 0
        output.document(done.document(signed_urls=seconds), _lines(done, seconds))
        if done.unfinished:
            raise typer.Exit(ExitCode.UNFINISHED)
        raise typer.Exit(ExitCode.PROBLEMS if done.kept or done.unreachable else ExitCode.DONE)


def _lines(done: Purged, signed_urls: int) -> Iterator[str]:
    for digest in done.manifests:
        yield f"purged {digest}"
    yield f"removed from storage: {len(done.removed)} blobs, {done.bytes} bytes"
    for each in done.kept:
        named = ", ".join([*each["repositories"], *each["manifests"]])
        yield f"kept {each['digest']}: {each['because']} ({named})"
    for line in done.unreachable:
        yield f"not reached: {line}"
    for line in done.unfinished:
        yield f"run it again: {line}"
    if signed_urls and done.kept:
        yield f"signed addresses of what was kept are good for {signed_urls} seconds"
