"""History and restore over HTTP: which callers may read and undo, and what either says."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from registry.admin import history
from registry.parallel import AT_ONCE
from tests.admin.place import Headers, Place, basic
from tests.support.payloads import Blob, Manifest, image
from tests.support.registry_world import NAME, World, push_image

REPO = "team/app"
BASE = f"/api/v1/repositories/{REPO}"


def push(place: Place, text: str, tag: str, caller: Headers) -> Manifest:
    config, layer = Blob(f"config {text}".encode()), Blob(f"layer {text}".encode())
    manifest = image(config, [layer])
    for blob in (config, layer):
        target = f"/v2/{REPO}/blobs/uploads/?digest={blob.digest}"
        assert place.service.call("POST", target, blob.data, caller).status == 201
    headers = {**caller, "Content-Type": manifest.media_type}
    assert place.service.call("PUT", f"/v2/{REPO}/manifests/{tag}", manifest.data, headers).status == 201
    return manifest


def restore(place: Place, caller: Headers, **wanted: Any) -> Any:
    reply = place.call("POST", f"{BASE}/restore", caller, wanted)
    assert reply.status == 200, reply
    return reply.json["restored"]


def current(place: Place, tag: str) -> str | None:
    reply = place.call("HEAD", f"/v2/{REPO}/manifests/{tag}", basic("admin"))
    return reply.headers["docker-content-digest"] if reply.status == 200 else None


def test_what_was_overwritten_or_deleted_comes_back(place: Place) -> None:
    admin = basic("admin")
    first, second = push(place, "one", "latest", admin), push(place, "two", "latest", admin)
    assert restore(place, admin, tag="latest") == [{"digest": first.digest, "tags": ["latest"]}]
    assert current(place, "latest") == first.digest
    assert place.call("DELETE", f"/v2/{REPO}/manifests/{first.digest}", admin).status == 202
    assert current(place, "latest") is None
    assert restore(place, admin) == [{"digest": first.digest, "tags": ["latest"]}]
    assert restore(place, admin, tag="latest", change=2) == [{"digest": second.digest, "tags": ["latest"]}]
    assert restore(place, admin, digest=second.digest) == []
    reply = place.call("GET", f"{BASE}/history?tag=latest", admin)
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json["repository"] == REPO
    changes = reply.json["changes"]
    assert [change["change"] for change in changes] == [6, 5, 4, 3, 2, 1]
    assert [change["operation"] for change in changes] == ["put", "put", "delete", "put", "put", "put"]
    assert {change["actor"] for change in changes} == {"user:admin"}
    assert changes[0]["before"] == {"latest": first.digest}
    assert reply.json["next"] is None
    page = place.call("GET", f"{BASE}/history?before=3&n=1", admin)
    assert [change["change"] for change in page.json["changes"]] == [2]
    assert page.json["next"] == 2
    assert f"{BASE}/history?n=1&before=2>" in page.headers["link"]
    assert place.call("GET", f"{BASE}/history?before=2", admin).json["next"] is None
    assert place.call("GET", f"{BASE}/history?n=0", admin).json["changes"] == []


def test_a_tag_that_changed_long_ago_is_found_in_pages_that_end_in_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that asks for a tag that never was has not every record of the repository read at once."""
    monkeypatch.setattr(history, "SECONDS", 0.0)
    admin = basic("admin")
    push(place, "one", "old", admin)
    for number in range(3):
        push(place, f"{number}", "latest", admin)
    pages = [place.call("GET", f"{BASE}/history?tag=old", admin).json]
    while (before := pages[-1]["next"]) is not None:
        pages.append(place.call("GET", f"{BASE}/history?tag=old&before={before}", admin).json)
    assert [[change["change"] for change in page["changes"]] for page in pages] == [[], [], [], [1]]


def test_a_page_ends_with_a_change_of_many_tags(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = basic("admin")
    for number in range(40):
        made = push(place, "one", f"v{number}", admin)
    assert place.call("DELETE", f"/v2/{REPO}/manifests/{made.digest}", admin).status == 202
    push(place, "one", "new", admin)
    whole = place.call("GET", f"{BASE}/history", admin).json["changes"]
    assert len(whole[1]["tags"]) == 40
    monkeypatch.setattr(history, "MOST_BYTES", 3000)
    found: list[Any] = []
    sizes: list[int] = []
    before: int | None = None
    while not sizes or before is not None:
        page = place.call("GET", f"{BASE}/history" + (f"?before={before}" if before else ""), admin).json
        found += page["changes"]
        sizes.append(len(page["changes"]))
        before = page["next"]
    assert (found, sizes[0]) == (whole, 2)
    assert max(sizes) <= 10
    assert len(place.call("GET", f"{BASE}/history?tag=v7", admin).json["changes"]) == 2, "it is of that tag alone"


def test_records_are_read_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may ask for all changes of a repository that has a million."""
    world = World(tmp_path, "memory")
    registry = world.registry()
    for number in range(50):
        push_image(registry, "one", f"v{number}")
    registry.fold_waiting()
    driver, read = registry.backends.driver, list[str]()

    def reading(key: str, **more: Any) -> Any:
        read.append(key)
        return type(driver).read(driver, key, **more)

    monkeypatch.setattr(driver, "read", reading)
    records = registry.change_history.records(NAME)
    assert [record.tags for record in islice(records, 2)] == [("v49",), ("v48",)]
    assert len(read) <= AT_ONCE
    assert len(list(records)) == 48
    world.close()


def test_rights_decide(place: Place) -> None:
    admin, bob, carol = basic("admin"), basic("bob"), basic("carol")
    push(place, "one", "v1", admin)
    for caller, reads, undoes in ((admin, 200, 200), (bob, 200, 200), ({}, 401, 401)):
        assert place.call("GET", f"{BASE}/history", caller).status == reads
        assert place.call("POST", f"{BASE}/restore", caller, {"tag": "v1", "change": 1}).status == undoes
    other = "/api/v1/repositories/private/app"
    for path in (f"{other}/history", "/api/v1/repositories/none/at-all/history"):
        assert place.call("GET", path, bob).status == place.call("GET", path, carol).status
    push_only_reads = place.token("bob", f"repository:{REPO}:pull")
    assert place.call("GET", f"{BASE}/history", push_only_reads).status == 200
    assert place.call("POST", f"{BASE}/restore", push_only_reads, {}).status in {401, 403}


@pytest.mark.parametrize(
    "wanted",
    [
        {"tag": 1},
        {"tag": ".bad"},
        {"change": 1},
        {"tag": "v1", "change": "1"},
        {"tag": "v1", "change": True},
        {"tag": "v1", "change": -1},
        {"tag": "v1", "digest": "sha256:" + "a" * 64},
        {"digest": "sha256:x"},
        {"other": 1},
    ],
)
def test_a_wrong_request_is_told_so(place: Place, wanted: dict[str, object]) -> None:
    reply = place.call("POST", f"{BASE}/restore", basic("admin"), wanted)
    assert reply.status == 400
    assert reply.json["errors"][0]["message"]


@pytest.mark.parametrize("query", ["tag=.bad", "before=x", "before=-1", "n=x"])
def test_a_wrong_question_is_told_so(place: Place, query: str) -> None:
    push(place, "one", "v1", basic("admin"))
    assert place.call("GET", f"{BASE}/history?{query}", basic("admin")).status == 400


def test_what_is_not_there_is_unknown(place: Place) -> None:
    admin = basic("admin")
    assert place.call("GET", "/api/v1/repositories/none/history", admin).json["errors"][0]["code"] == "NAME_UNKNOWN"
    push(place, "one", "v1", admin)
    for wanted in ({}, {"tag": "v2"}, {"tag": "v1"}, {"digest": "sha256:" + "a" * 64}):
        reply = place.call("POST", f"{BASE}/restore", admin, wanted)
        assert (reply.status, reply.json["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN"), wanted
