"""Two replicas are pulled from and pushed to while the command adopts, copies, and gives back or deletes below them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.wire import Wire, until
from tests.replicas.conftest import Config
from tests.replicas.test_migration import command
from tests.soak.budget import SEED, announce
from tests.support.buckets import place
from tests.support.migrated_bucket import MAKE
from tests.support.migration_load import Load
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server
from tests.support.served_tags import Tags, distribution_tags, zot_tags
from tests.support.servers import RegistryProcess
from tests.support.source_world import ARM, BOTH, FIRST, ON_AMD, OTHER, SECOND, SHARED, Repository, Tree, repositories

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

BETWEEN = 1.0
"""Seconds of load between the phases, and after the last."""


def content() -> list[Repository]:
    """The world, and more repositories: each has a tag to be deleted."""
    found = repositories()
    for number in range(12):
        layers = [SHARED, *(Blob(f"layer {layer} of {number} ".encode() * 400) for layer in range(6))]
        own = image(ARM, layers)
        found.append(Repository(f"more/app-{number}", {"v1": own, "gone": OTHER}, [], [ARM, *layers]))
    found[0].tags["gone"] = ON_AMD
    assert found[0].tags["v1"] is BOTH
    assert {FIRST, SECOND} <= set(found[0].blobs)
    return found


ENDS = {
    "rollback": (("--rollback", "rolled-back"),),
    "finalize": (("--finalize", "finalized"),),
    "there-again": (("--rollback", "rolled-back"), ("", "consolidated"), ("--finalize", "finalized")),
}
"""The commands after all was copied, and the states in which they end."""
WAYS = [(layout, "rollback") for layout in MAKE]
WAYS += [("zot", "finalize"), ("zot-without-prefix", "finalize"), ("distribution", "there-again")]
"""Each layout goes both ways; one is finalized after it was given back."""


@pytest.mark.parametrize(("layout", "end"), WAYS)
def test_no_read_fails_and_no_write_but_by_the_cut(
    layout: str,
    end: str,
    store: S3Server,
    shared_config: Config,
    replica: Callable[[Config], RegistryProcess],
    tmp_path: Path,
) -> None:
    announce()
    bucket, root = store.new_bucket(), "zot" if layout == "zot" else ""
    shared_config["storage"] = store.storage(bucket) | {"root_directory": root or "/"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(shared_config))
    original = MAKE[layout](content())
    place(store, bucket, [{f"{root}/{key}".lstrip("/"): data for key, data in original.items()}])
    servers = [replica(shared_config) for _ in range(2)]
    load = Load([server.port for server in servers], content(), SEED)
    try:
        time.sleep(BETWEEN)
        code, document = command(file, "--adopt-only")
        assert (code, document.get("state"), document.get("problems")) == (0, "adopted", []), document
        load.adopted()
        time.sleep(BETWEEN)
        code, document = command(file)
        assert (code, document.get("state"), document.get("problems")) == (0, "consolidated", []), document
        time.sleep(BETWEEN)
        until(lambda: len(load.pushed) > 10, "pushes are taken")
        for option, state in ENDS[end]:
            if option == "--rollback":
                load.cut()
            code, document = command(file, *([option] if option else []))
            assert (code, document.get("state"), document.get("problems")) == (0, state, []), document
            if state == "rolled-back":
                more(lambda: load.refused, "pushes are refused")
            else:
                more(lambda: len(load.pushed), "pushes are taken")
            time.sleep(BETWEEN)
        until(lambda: load.reads > 100, "reads are answered")
    finally:
        load.end()
    print(f"{load.reads} reads, {len(load.pushed)} pushes, {load.refused} refused")  # noqa: T201
    assert load.deleted
    assert bool(load.refused) == (end != "finalize")
    for server in servers:
        assert tags_of(Wire(server.address)) == load.tags
    check_pulled(Wire(servers[0].address), load.tags)
    if end == "rollback":
        assert as_source(layout, store, bucket) == load.tags
    else:
        assert not [key for key in tree_of(store, bucket) if key.startswith(("docker/registry/v2/blobs", "zot/zot/"))]


def more(count: Callable[[], int], what: str) -> None:
    before = count()
    until(lambda: count() > before + 3, what)


def tags_of(wire: Wire) -> Tags:
    names = wire.request("GET", "/v2/_catalog?n=1000").json()["repositories"]
    return {
        name: {tag: wire.manifest(name, tag).headers["docker-content-digest"] for tag in wire.tags(name)}
        for name in names
    }


def check_pulled(wire: Wire, tags: Tags) -> None:
    """Everything, with all that it reaches."""
    for name, found in tags.items():
        for digest in set(found.values()):
            wire.content(name, digest)


def as_source(layout: str, store: S3Server, bucket: str) -> Tags:
    tree = tree_of(store, bucket)
    if layout == "distribution":
        return distribution_tags(tree)
    return zot_tags(tree, "zot/zot/" if layout == "zot" else "")


def tree_of(store: S3Server, bucket: str) -> Tree:
    """Every object."""
    top = store.data / bucket
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
