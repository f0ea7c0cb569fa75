"""Purge: the command ``registry purge``."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.output import ConfigOption, ExitCode, JsonOption, command, open_command_audit
from registry.cli.store_check import probe_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.trash.purge_grounds import Purged


def purge(
    reference: Annotated[str, typer.Argument(metavar="REPO@DIGEST | REPO:TAG", show_default=False)],
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also from each other repository that has it, and from its trash.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and what would stay.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a manifest or a blob for good and at once, as a secret that was pushed by mistake; it cannot be restored.

    A manifest goes with its tags, with what is attached to it, and with the blobs that nothing else needs: past the
    trash, and without waiting for leases. What stays, or cannot be reached, is listed with the reason; the exit code is
    1 then, and 4 where the same command has to be run again. With --dry-run nothing is changed, and all of it is said.
    """
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.images.registry import Registry
        from registry.maintenance.collection.survey.survey import Survey
        from registry.maintenance.single_replica import writing
        from registry.observability.audit import Event, operator
        from registry.oci.change_reference import ChangeReference
        from registry.oci.errors import RequestInvalid

        wanted = ChangeReference.parse(reference)
        if wanted.sequence is not None or not (wanted.tag or wanted.digest):
            raise RequestInvalid("purge takes REPO@DIGEST or REPO:TAG; `registry history REPO` lists what there was")
        audit = None if dry_run else open_command_audit(settings)
        right = nullcontext() if dry_run else writing(settings, conditional_writes=probe_store(settings))
        with right, closing(Registry.open(settings)) as registry:
            name, who = wanted.repository, operator()
            digest = wanted.digest or registry.manifests.find(name, wanted.tag or "").digest
            unknown = Survey(registry, dry=dry_run).unknown
            if dry_run:
                done = registry.purge.preview(name, digest, unknown=unknown, everywhere=everywhere)
            else:
                if audit is not None:
                    audit.add(Event.PURGE, who=who, repository=name, digest=digest)
                done = registry.purge.run(
                    name, digest, actor=f"operator:{who['name']}", unknown=unknown, everywhere=everywhere
                )
                registry.fold_waiting()
        seconds = settings.storage.redirect_expiry if settings.storage.redirect != "off" else 0
        output.document(done.document(signed_urls=seconds), _lines(done, seconds, dry=dry_run))
        if done.unfinished:
            raise typer.Exit(ExitCode.UNFINISHED)
        raise typer.Exit(ExitCode.PROBLEMS if done.kept or done.unreachable else ExitCode.DONE)


def _lines(done: Purged, signed_urls: int, *, dry: bool) -> Iterator[str]:
    for tag in done.tags:
        yield f"{'would remove' if dry else 'removed'} the tag {tag}"
    for digest in done.manifests:
        yield f"{'would purge' if dry else 'purged'} {digest}"
    for key in done.objects:
        yield f"{'would delete' if dry else 'deleted'} {key}"
    would = "would be removed" if dry else "removed"
    yield f"{would} from storage: {len(done.removed)} blobs, {done.bytes} bytes"
    for each in done.kept:
        named = ", ".join([*each["repositories"], *each["manifests"]])
        yield f"{'would keep' if dry else 'kept'} {each['digest']}: {each['because']} ({named})"
    for line in done.unreachable:
        yield f"not reached: {line}"
    for line in done.unfinished:
        yield f"run it again: {line}"
    if signed_urls and done.kept:
        yield f"signed addresses of what was kept are good for {signed_urls} seconds"
