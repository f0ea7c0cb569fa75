"""Which registry filled the bucket: found from its keys, never asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.config_file import ConfigError, ConfigProblem
from registry.images.index_file import MAX_INDEX
from registry.migration.source.distribution import ROOT, Distribution
from registry.migration.source.layout import KeyInfo, ObjectKind
from registry.migration.source.zot import ZotLayout, is_ours
from registry.oci.errors import ManifestInvalid
from registry.storage.errors import PathNotFound
from registry.storage.keys import check_key

if TYPE_CHECKING:
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

_EXAMPLES = 3
_OF_DISTRIBUTION = (ObjectKind.DATA, ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK, ObjectKind.TAG_LINK)


class BothLayouts(Exception):
    """Two registries filled the bucket: whichever were taken, the other one's images would be left behind."""


def classify(key: str) -> KeyInfo | None:
    """What an object is, in whichever layout; None for what is ours and for names that begin with a dot."""
    if key.startswith("."):
        return None
    try:
        check_key(key)
    except ValueError:  # a driver reads no such key
        return KeyInfo(ObjectKind.UNKNOWN)
    return Distribution.classify(key) or ZotLayout.classify(key)


def detect(
    inventory: Inventory, driver: StorageDriver, workers: WorkerPool, *, root: str, single_prefix: bool
) -> SourceLayout | None:
    """The layout of the original; None where there is nothing but ours.

    ``root`` is what our own keys begin with. Raises BothLayouts; ConfigError, which says what is there, where there is
    neither and none of ours; StorageError.
    """
    tree = _keys(inventory, f"kind IN ({', '.join('?' * len(_OF_DISTRIBUTION))})", *_OF_DISTRIBUTION)
    own = _keys(inventory, "kind = ?", ObjectKind.BLOB) or _foreign_indexes(inventory, driver, workers)
    if tree and own:
        raise BothLayouts(
            f"the bucket has the layouts of two registries: blobs in each repository ({', '.join(own)}) and docker "
            f"distribution ({', '.join(tree)}); move one of them below another root first"
        )
    if tree:
        return known_layout(inventory, Distribution.kind, ())
    if own:
        return known_layout(inventory, ZotLayout.kind, (root,) if root and not single_prefix else ())
    if inventory.value("SELECT 1 FROM object WHERE kind IN ('our-blob', 'our-record', 'index') LIMIT 1"):
        return None
    raise ConfigError([ConfigProblem("storage.root_directory", _neither(inventory, root), "")])


def known_layout(inventory: Inventory, kind: str, prefixes: tuple[str, ...]) -> SourceLayout:
    """The layout of that kind, and prefixes, where it was detected before."""
    if kind != Distribution.kind:
        return ZotLayout(prefixes)
    inventory.do("INSERT OR IGNORE INTO ours SELECT repository FROM object WHERE kind IN ('index', 'marker')")
    return Distribution()


def _keys(inventory: Inventory, condition: str, *parameters: object) -> list[str]:
    found = inventory.rows(f"SELECT key FROM object WHERE {condition} LIMIT {_EXAMPLES}", *parameters)
    return [key for (key,) in found]


def _foreign_indexes(inventory: Inventory, driver: StorageDriver, workers: WorkerPool) -> list[str]:
    """The first index that Stowage did not write, of repositories without blobs of their own."""
    keys = (key for (key,) in inventory.each("SELECT key FROM object WHERE kind = ?", ObjectKind.INDEX))
    found = workers.each(partial(_foreign, driver), keys)
    return next(([key] for key in found if key), [])


def _foreign(driver: StorageDriver, key: str) -> str:
    try:
        return "" if is_ours(driver.read(key, max_bytes=MAX_INDEX)[0]) else key
    except PathNotFound:
        return ""
    except ManifestInvalid:
        return key


def _neither(inventory: Inventory, root: str) -> str:
    """What is there, and where the root might be instead."""
    where = f"below {root}/" if root else "in the bucket"
    keys = _keys(inventory, "1 = 1 ORDER BY key")
    if not keys:
        return f"there is nothing {where}: check it, and the name of the bucket"
    message = f"no registry's layout is {where}, which has {', '.join(keys)}"
    nested = inventory.value("SELECT key FROM object WHERE instr(key, ?) > 1 LIMIT 1", f"/{ROOT}/")
    if nested is not None:
        above = nested.partition(f"/{ROOT}/")[0]
        return f"{message}; docker distribution's lies below {above}/: add that to it"
    return f"{message}; it is what stands in front of docker/registry/v2 or of the repositories"
