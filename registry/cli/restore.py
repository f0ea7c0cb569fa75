"""Restore: the command ``registry restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.output import ConfigOption, JsonOption, command
from registry.cli.store_check import probe_store


def restore(
    reference: Annotated[str, typer.Argument(metavar="REPO[:TAG][@CHANGE] | REPO@DIGEST", show_default=False)],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back what was deleted or overwritten, also beside a running server.

    REPO brings back what was deleted last, with its tags. REPO@DIGEST brings back one manifest without a tag. REPO:TAG
    makes a tag what it was before its last change, REPO:TAG@CHANGE what it was after that change; `registry history`
    shows their numbers.
    """
    with command(as_json=as_json) as output:
        settings = output.usable_settings(config)
        from registry.images.registry import Registry
        from registry.maintenance.single_replica import writing
        from registry.observability.audit import operator
        from registry.oci.change_reference import ChangeReference

        wanted = ChangeReference.parse(reference)
        with writing(settings, conditional_writes=probe_store(settings)):
            registry = Registry.open(settings)
            try:
                restored = registry.restoration.restore(wanted, actor=f"operator:{operator()['name']}")
                registry.fold_waiting()
            finally:
                registry.close()
        documents = [{"digest": each.digest, "tags": list(each.tags)} for each in restored]
        lines = [f"restored {each.digest} {' '.join(each.tags)}".rstrip() for each in restored]
        output.document({"repository": wanted.repository, "restored": documents}, lines or ["it is there already"])
