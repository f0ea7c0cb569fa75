"""*Prefix claims*: an object on storage for each mirror, which says that the repositories below a prefix are its own.

It is written where there was no repository yet. Without it a mirror would serve as content of its upstream what clients
have pushed here under the same names, and replace it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import structlog

from registry.oci import strict_json
from registry.oci.name import is_name
from registry.storage.errors import AlreadyExists, PathNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry

CLAIMS: Final = ".mirrors"
"""The prefix of their keys."""
MAX_BYTES: Final = 4 << 10

log = structlog.get_logger(__name__)


class PrefixTaken(Exception):
    """What is below the prefix of a mirror did not come from it."""


def claim_prefixes(registry: Registry, mirrors: Sequence[MirrorSettings]) -> None:
    """Before the port opens: see that each mirror has its prefix for itself, also among replicas that start at once.

    A storage that does not answer is asked at the next start: until then what is here is served, and nothing is pushed.
    Raises PrefixTaken, which names a repository.
    """
    for mirror in mirrors:
        try:
            _claim(registry, mirror)
        except StorageError as error:
            log.warning(
                "whether a mirror has its prefix for itself could not be seen", mirror=mirror.name, reason=str(error)
            )


def _claim(registry: Registry, mirror: MirrorSettings) -> None:
    driver, key = registry.backends.driver, f"{CLAIMS}/{mirror.prefix}.json"
    owner = _owner(registry, key)
    if owner is None:
        taken = _repository_below(registry, mirror.prefix)
        if taken is not None:
            message = f"the prefix {mirror.prefix} of the mirror {mirror.name} has the repository {taken} already"
            raise PrefixTaken(f"{message}, which clients have pushed; give the mirror another prefix")
        try:
            driver.write(key, json.dumps({"mirror": mirror.name}).encode() + b"\n", if_absent=True)
        except AlreadyExists:
            owner = _owner(registry, key)
    if owner not in {None, mirror.name}:
        message = f"what is below {mirror.prefix} came from the mirror {owner} ({key})"
        raise PrefixTaken(f"{message}; give {mirror.name} another prefix, or that name if its upstream is the same")


def _owner(registry: Registry, key: str) -> str | None:
    """The name of the mirror that has claimed a prefix; None if none has. Raises PrefixTaken, StorageError."""
    try:
        data, _stat = registry.backends.driver.read(key, max_bytes=MAX_BYTES)
    except PathNotFound:
        return None
    try:
        return str(strict_json.loads(data)["mirror"])
    except (ValueError, TypeError, KeyError) as error:
        raise PrefixTaken(f"{key} is not understood ({error}); a later release may have written it") from error


def _repository_below(registry: Registry, prefix: str) -> str | None:
    """A repository below a prefix, by the rows, or by storage where these are new; None if there is none."""
    known = next(iter(registry.repositories.page(last=f"{prefix}/", count=1)), "")
    if known.startswith(f"{prefix}/"):
        return known
    found = (f"{prefix}/{child.name}" for child in registry.backends.driver.children(prefix) if child.is_prefix)
    return next((name for name in found if is_name(name)), None)
