"""Addresses of blobs in the bucket, told from memory: to clients that the rules send there, while they are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database import migration_queries
from registry.images.blobs import Blobs, HeldBlob
from registry.images.registry import Registry
from registry.images.verification import WrongBytes
from registry.oci.digest import Digest
from tests.api.service import Service, serving
from tests.replicas.conftest import Config
from tests.replicas.test_redirect import BLOB, REPO, fetch
from tests.support import adopted_bucket
from tests.support.registry_world import NAME, make_image

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

RULES = [{"user_agents": ["docker/*"]}]
DOCKER, CURL = {"User-Agent": "docker/27.1"}, {"User-Agent": "curl/8"}
TARGET = f"/v2/{REPO}/blobs/{BLOB.digest}"
MADE = make_image("one")
LAYER = Digest.of(MADE.layer.data)
ADOPTED = f"/v2/{NAME}/blobs/{LAYER}"
KEY = adopted_bucket.source_key(LAYER)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blobs that the core was asked for."""
    asked: list[str] = []
    whole = Blobs.open

    def noting(blobs: Blobs, name: str, digest: Digest) -> HeldBlob:
        asked.append(digest)
        return whole(blobs, name, digest)

    monkeypatch.setattr(Blobs, "open", noting)
    return asked


def test_the_same_address_is_told_from_memory_until_its_time_is_over(
    config: Config, tmp_path: Path, opened: list[str]
) -> None:
    config["storage"]["redirect"] = "on"
    with serving(tmp_path, config) as service:
        service.push_blob(REPO, BLOB)
        first = service.call("GET", TARGET)
        again = service.call("GET", TARGET, headers={"If-None-Match": f'"{BLOB.digest}"'})
        assert (first.status, again.status, opened) == (307, 307, [BLOB.digest])
        volatile = {"x-request-id"}
        assert first.headers.keys() == again.headers.keys()
        assert all(again.headers[name] == value for name, value in first.headers.items() if name not in volatile)
        assert fetch(again.location) == (200, BLOB.data)
        assert service.call("HEAD", TARGET).headers["content-length"] == str(len(BLOB.data))
        assert service.call("GET", TARGET, headers={"Range": "bytes=0-1"}).status == 307
        assert len(opened) == 2
        service.context.redirects.again_seconds = 0
        service.call("GET", TARGET, headers={"Range": "bytes=0-1"})
        assert service.call("GET", TARGET).status == 307
        assert len(opened) == 4


def test_what_is_remembered_for_one_client_is_not_told_to_one_who_is_not_sent_away(
    config: Config, tmp_path: Path, opened: list[str]
) -> None:
    config["storage"]["redirect"] = RULES
    with serving(tmp_path, config) as service:
        service.push_blob(REPO, BLOB)
        for _ in range(2):
            assert service.call("GET", TARGET, headers=DOCKER).status == 307
            assert service.call("GET", TARGET, headers=CURL).body == BLOB.data
        assert len(opened) == 2, "one for each, then both are remembered"


def test_a_blob_that_was_deleted_is_not_told_from_memory(config: Config, tmp_path: Path) -> None:
    config["storage"]["redirect"] = "on"
    with serving(tmp_path, config) as service:
        service.push_blob(REPO, BLOB)
        assert service.call("GET", TARGET).status == 307
        assert service.call("DELETE", TARGET).status == 202
        assert service.call("GET", TARGET).status == 404


def test_the_rules_decide_whoever_has_read_it_first(config: Config, tmp_path: Path) -> None:
    config["storage"]["redirect"] = RULES
    two = [("User-Agent", "curl/8"), ("User-Agent", "docker/27.1")]
    with serving(tmp_path, config) as service:
        service.push_blob(REPO, BLOB)
        assert service.call("GET", TARGET, headers=CURL).status == 200
        assert service.call("GET", TARGET, headers=DOCKER).status == 307
        for headers, status in ((two, 200), (two[::-1], 307)):
            assert service.call("GET", TARGET, headers=headers).status == status


def test_an_address_is_told_for_two_minutes_at_most(config: Config, tmp_path: Path) -> None:
    """Credentials that were borrowed are renewed ten minutes before they end, and addresses end with them."""
    config["storage"] |= {"redirect": "on", "redirect_expiry": 86400}
    with serving(tmp_path, config) as service:
        assert service.context.redirects.again_seconds == 120


# ---- where the bytes are read changes


def adopted(service: Service) -> Registry:
    """The image is another registry's, and its layer was hashed there."""
    registry = service.registry
    adopted_bucket.adopt_image(registry.backends.driver, MADE)
    with registry.blobs.read(registry.blobs.open(NAME, LAYER)) as reader:
        reader.read(1 << 20)
    return registry


def note_source_object(registry: Registry, key: str, data: bytes, *, verified: bool) -> None:
    """A pass of a migration has found these bytes for the layer."""
    driver = registry.backends.driver
    line = migration_queries.SourceObject(LAYER, len(data), key, driver.write(key, data).etag, verified)
    with registry.backends.database.transaction() as connection:
        migration_queries.put(connection, "0001", [line], store=driver.name, now=registry.backends.clock())


def test_an_address_of_a_location_that_is_known_to_be_lost_is_not_told(config: Config, tmp_path: Path) -> None:
    config["storage"]["redirect"] = RULES
    with serving(tmp_path, config) as service:
        registry = adopted(service)
        note_source_object(registry, "zot/other", MADE.layer.data, verified=True)
        first = service.call("GET", ADOPTED, headers=DOCKER)
        assert fetch(first.location) == (200, MADE.layer.data)
        registry.backends.driver.delete(["zot/other", KEY])
        note_source_object(registry, "zot/third", MADE.layer.data, verified=True)
        assert service.call("GET", ADOPTED, headers=CURL).body == MADE.layer.data
        assert fetch(service.call("GET", ADOPTED, headers=DOCKER).location) == (200, MADE.layer.data)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_to_a_source_object_that_was_replaced_no_client_is_sent_before_it_is_hashed(
    config: Config, tmp_path: Path, method: str
) -> None:
    config["storage"]["redirect"] = "on"
    with serving(tmp_path, config) as service:
        registry = adopted(service)
        assert service.call("GET", ADOPTED).status == 307
        note_source_object(registry, KEY, MADE.layer.data[::-1], verified=False)
        if method == "HEAD":
            assert service.call("HEAD", ADOPTED).status == 200
        assert service.call("GET", ADOPTED).status != 307


def test_an_address_is_not_told_for_what_was_pushed_since(config: Config, tmp_path: Path) -> None:
    config["storage"]["redirect"] = "on"
    with serving(tmp_path, config) as service:
        registry = adopted(service)
        assert fetch(service.call("GET", ADOPTED).location) == (200, MADE.layer.data)
        registry.backends.driver.write(KEY, MADE.layer.data[::-1])
        with registry.blobs.read(registry.blobs.open(NAME, LAYER)) as reader, pytest.raises(WrongBytes):
            reader.read(1 << 20)
        assert service.call("GET", ADOPTED).status == 404
        service.push_blob(NAME, MADE.layer)
        assert service.call("HEAD", ADOPTED).status == 200
        assert fetch(service.call("GET", ADOPTED).location) == (200, MADE.layer.data)
