"""Detection: which registry filled the bucket, found from its keys."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from registry.config.file import ConfigError, ConfigProblem
from registry.images.index_file import IndexFile
from registry.migration.source.distribution import ROOT, Distribution
from registry.migration.source.objects import KeyInfo, ObjectKind
from registry.migration.source.zot import ZotLayout
from registry.oci.index import Owner
from registry.storage.keys import check_key

if TYPE_CHECKING:
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

_EXAMPLES = 3
_OF_DISTRIBUTION = (ObjectKind.DATA, ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK, ObjectKind.TAG_LINK)


class BothLayouts(Exception):
    """Two registries filled the bucket: taking one would leave the images of the other behind."""


def classify(key: str) -> KeyInfo | None:
    """What an object is, in either layout; None for what is ours and for names that begin with a dot."""
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
    """The layout of the source registry; None if there is nothing but ours.

    ``root`` is what our own keys begin with. Raises BothLayouts; ConfigError, which says what is there, if there is
    neither a layout nor anything of ours; StorageError.
    """
    tree = _keys(inventory, *_OF_DISTRIBUTION)
    own = _keys(inventory, ObjectKind.BLOB) or _foreign_indexes(inventory, driver, workers)
    if tree and own:
        raise BothLayouts(
            f"the bucket has the layouts of two registries: blobs in each repository ({', '.join(own)}) and docker "
            f"distribution ({', '.join(tree)}); move one of them below another root first"
        )
    if tree:
        return known_layout(inventory, Distribution.kind, ())
    if own:
        return known_layout(inventory, ZotLayout.kind, (root,) if root and not single_prefix else ())
    if any(inventory.keys(ObjectKind.OUR_BLOB, ObjectKind.OUR_RECORD, ObjectKind.INDEX)):
        return None
    raise ConfigError([ConfigProblem("storage.root_directory", _neither(inventory, root), "")])


def known_layout(inventory: Inventory, kind: str, prefixes: tuple[str, ...]) -> SourceLayout:
    """The layout of a kind that was detected before, with its prefixes."""
    if kind != Distribution.kind:
        return ZotLayout(prefixes)
    inventory.add_ours(*inventory.paths(ObjectKind.INDEX, ObjectKind.MARKER))
    return Distribution()


def _keys(inventory: Inventory, *kinds: ObjectKind) -> list[str]:
    return list(islice(inventory.keys(*kinds), _EXAMPLES))


def _foreign_indexes(inventory: Inventory, driver: StorageDriver, workers: WorkerPool) -> list[str]:
    """The first index that Stowage did not write, in a repository without blobs of its own."""
    paths = inventory.paths(ObjectKind.INDEX)
    owners = workers.each(partial(IndexFile(driver).owner), paths)
    foreign = (path for path, owner in zip(paths, owners, strict=True) if owner is Owner.FOREIGN)
    return [f"{path}/index.json" for path in islice(foreign, 1)]


def _neither(inventory: Inventory, root: str) -> str:
    """What is there, and where the root might be instead."""
    where = f"below {root}/" if root else "in the bucket"
    keys = _keys(inventory)
    if not keys:
        return f"there is nothing {where}: check it, and the name of the bucket"
    message = f"no registry's layout is {where}, which has {', '.join(keys)}"
    nested = inventory.key_through(ROOT)
    if nested is not None:
        above = nested.partition(f"/{ROOT}/")[0]
        return f"{message}; docker distribution's lies below {above}/: add that to it"
    return f"{message}; it is what stands in front of docker/registry/v2 or of the repositories"
