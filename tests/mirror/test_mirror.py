"""Mirrors of one process are apart: each asks its own upstream, with its own credentials (check 20 of mirrors)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.config.mirror_sections import MirrorSettings, check_mirrors
from registry.images.fetching.content import FetchFailed, Reason
from registry.mirror.mirror import Mirrors
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, TooManyRequests
from tests.images.fetching.scripted import await_head, hub_of
from tests.mirror.hostile_mirror import APP
from tests.support.registry_world import World, make_image
from tests.upstream.hostile import Handler, HostileServer, hostile_server, local

PRIVATE = make_image("private")
LAYER = Digest.parse(PRIVATE.layer.digest)


@pytest.fixture(params=["memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    """Gives its image to one user alone, by tokens."""

    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer private":
            handler.answer(200, PRIVATE.manifest.data, Content_Type=PRIVATE.manifest.media_type)
        else:
            handler.answer(401, WWW_Authenticate=f'Bearer realm="{made.url()}/token",service="s"')

    def token(handler: Handler) -> None:
        is_known = handler.headers.get("Authorization") is not None
        handler.answer(200, b'{"token": "private"}' if is_known else b'{"token": "anonymous"}')

    with hostile_server() as made:
        for path in ("manifests/v1", f"manifests/{PRIVATE.digest}", f"blobs/{PRIVATE.layer.digest}"):
            made.replies[f"/v2/{APP}/{path}"] = guarded
        made.replies["/token"] = token
        yield made


def test_what_one_mirror_may_have_another_one_of_the_same_upstream_may_not(
    world: World, server: HostileServer, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    credentials = {"kind": "basic", "username": "u", "password_file": password}
    common = {"url": [server.url()], "proxy": None}
    settings = check_mirrors(
        (
            MirrorSettings.model_validate(
                {"name": "private", "prefix": "private", "credentials": credentials, **common}
            ),
            MirrorSettings.model_validate({"name": "public", "prefix": "public", **common}),
        )
    )
    registry = world.registry(mirrored=frozenset({"private", "public"}))
    mirrors = Mirrors(settings, registry, resolver=local())
    try:
        for _ in range(2):
            allowed = mirrors.names.find(f"private/{APP}")
            assert allowed is not None
            assert mirrors[allowed.mirror.name].manifests.find(allowed, "v1").found.digest == PRIVATE.digest
            assert mirrors["private"].blob_proofs.require(allowed, LAYER) is not None
            denied = mirrors.names.find(f"public/{APP}")
            assert denied is not None
            for reference in ("v1", PRIVATE.digest):
                with pytest.raises(ManifestUnknown, match=r"mirror public: .* denied"):
                    mirrors[denied.mirror.name].manifests.find(denied, reference)
            with pytest.raises(BlobUnknown, match=r"mirror public: .* denied"):
                mirrors["public"].blob_proofs.require(denied, LAYER)
    finally:
        mirrors.close()


def test_an_upstream_that_limits_blobs_is_asked_for_nothing(world: World) -> None:
    digest = Digest.of(b"layer")
    with hostile_server() as server, hub_of(world.registry()) as hub:
        server.replies[f"/v2/{APP}/blobs/{digest}"] = lambda handler: handler.answer(429, Retry_After="120")
        section = {"name": "hub", "url": [server.url()], "prefix": "hub", "proxy": None}
        settings = check_mirrors((MirrorSettings.model_validate(section),))
        mirrors = Mirrors(settings, world.registry(mirrored=frozenset({"hub"})), resolver=local())
        name = mirrors.names.find(f"hub/{APP}")
        assert name is not None
        with hub.join("hub", name.repository, digest, mirrors["hub"].blob(name, digest)) as reader:
            with pytest.raises(FetchFailed) as failed:
                await_head(reader)
            assert (failed.value.reason, failed.value.seconds) == (Reason.THROTTLED, 120)
        asked = len(server.seen)
        with pytest.raises(TooManyRequests):
            mirrors["hub"].manifests.find(name, "v1")
        assert len(server.seen) == asked
        mirrors.close()
