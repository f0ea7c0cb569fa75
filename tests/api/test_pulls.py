"""Which requests are pulls: GET and HEAD of a manifest, by tag and by digest, from memory as from the routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.api.access import allow
from registry.oci.errors import Denied
from tests.api.service import Service, serving
from tests.support.payloads import Blob, image

REPO = "team/app"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
PULL = (REPO, IMAGE.digest)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, {"retention": {"pull_interval": 0}}) as found:
        found.push_blob(REPO, CONFIG)
        found.push(REPO, "one", IMAGE)
        yield found


def taken(service: Service) -> set[tuple[str, str]]:
    """The pulls since the last time."""
    found = set(service.registry.pulls._waiting)
    service.registry.pulls._waiting.clear()
    return found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reference", ["one", IMAGE.digest])
def test_each_read_of_a_manifest_is_a_pull(service: Service, method: str, reference: str) -> None:
    for _ in range(3):  # from the routes first, and then from memory
        assert service.call(method, f"/v2/{REPO}/manifests/{reference}").status == 200
        assert taken(service) == {PULL}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_that_the_client_has_already_is_pulled_too(service: Service, method: str) -> None:
    for _ in range(3):
        reply = service.call(method, f"/v2/{REPO}/manifests/one", headers={"If-None-Match": f'"{IMAGE.digest}"'})
        assert reply.status == 304
        assert taken(service) == {PULL}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{REPO}/tags/list"),
        ("GET", f"{REPO}/referrers/{IMAGE.digest}"),
        ("GET", f"{REPO}/blobs/{CONFIG.digest}"),
        ("HEAD", f"{REPO}/blobs/{CONFIG.digest}"),
        ("HEAD", f"{REPO}/manifests/two"),
        ("GET", f"other/{REPO}/manifests/{IMAGE.digest}"),
    ],
)
def test_other_reads_are_none(service: Service, method: str, path: str) -> None:
    for _ in range(3):
        service.call(method, f"/v2/{path}")
        assert taken(service) == set()


def test_a_push_is_none_and_neither_is_what_was_refused(service: Service) -> None:
    service.push(REPO, "two", IMAGE)
    refuse: Any = lambda *_: Denied()  # noqa: E731 - a decision
    for decide, pulled in ((refuse, set()), (allow, {PULL}), (refuse, set())):
        service.context.access.decide = decide
        service.call("GET", f"/v2/{REPO}/manifests/one")
        assert taken(service) == pulled


def test_a_manifest_is_noted_once_in_the_interval_whatever_answers(tmp_path: Path) -> None:
    with serving(tmp_path, {"retention": {"pull_interval": "1h"}}) as service:
        service.push_blob(REPO, CONFIG)
        service.push(REPO, "one", IMAGE)
        for method in ("HEAD", "GET", "GET"):
            service.call(method, f"/v2/{REPO}/manifests/one")
        assert taken(service) == {PULL}
        for reference in ("one", "two", IMAGE.digest):
            service.push(REPO, "two", IMAGE)  # what memory has is old then
            service.call("GET", f"/v2/{REPO}/manifests/{reference}")
            assert taken(service) == set()
