"""Lists in pages: tags, catalog and referrers, each followed by its Links to the end."""

from __future__ import annotations

import re
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from registry.api.http.pagination import PAGE_BYTES
from registry.database.manifests import MOST_ANNOTATIONS
from registry.database.statement import Statement
from tests.api.service import Reply, Service, serving
from tests.support.payloads import INDEX, MANIFEST, Blob, Manifest, image, index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
REPO = "pages/of"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
TAGS = ["0", "10", "2", "A", "B-1", "_x", "a", "a.b", "b", "zz"]
"""In byte order."""
KINDS = ("application/vnd.test.one", "application/vnd.test.two+json")


@pytest.fixture(scope="module")
def referrers() -> list[Manifest]:
    found = [
        image(CONFIG, [], subject=IMAGE, artifact_type=KINDS[number % 2], annotations={"number": str(number)})
        for number in range(7)
    ]
    found.append(index([IMAGE], subject=IMAGE, artifact_type=KINDS[0]))
    found.append(index([], subject=IMAGE))
    found.append(image(CONFIG, [], subject=IMAGE))
    return sorted(found, key=lambda manifest: manifest.digest)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, referrers: list[Manifest]) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("pages"), {"limits": {"page_size": 4}}) as service:
        service.push_blob(REPO, CONFIG)
        target = f"/v2/{REPO}/manifests/{IMAGE.digest}?" + "&".join(f"tag={tag}" for tag in reversed(TAGS))
        assert service.call("PUT", target, IMAGE.data, {"Content-Type": MANIFEST}).status == 201
        for manifest in referrers:
            service.push(REPO, manifest.digest, manifest)
        for name in ("a", "a-b", "a/b", "zz/y"):
            service.push_blob(name, CONFIG)
        yield service


def pages(service: Service, target: str) -> list[Reply]:
    """A page and all that follow it."""
    found = []
    following: str | None = target
    while following is not None:
        reply = service.call("GET", following)
        assert reply.status == 200
        found.append(reply)
        following = next_of(reply)
    return found


def next_of(reply: Reply) -> str | None:
    """Where the Link of a page leads."""
    link = reply.headers.get("link")
    if link is None:
        return None
    match = re.fullmatch(r'<(/v2/[^>]+)>; rel="next"', link)
    assert match, link
    return match[1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 10, 999])
def test_all_tags_come_in_byte_order_whatever_the_size_of_a_page(filled: Service, size: int) -> None:
    found = pages(filled, f"/v2/{REPO}/tags/list?n={size}")
    assert [tag for page in found for tag in page.json["tags"]] == TAGS
    assert {len(page.json["tags"]) for page in found[:-1]} <= {min(size, 4)}
    assert all(page.json["tags"] and page.json["name"] == REPO for page in found)


def test_without_a_number_a_page_has_as_many_as_the_limit_says(filled: Service) -> None:
    assert [len(page.json["tags"]) for page in pages(filled, f"/v2/{REPO}/tags/list")] == [4, 4, 2]


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("?n=0", []),
        ("?n=0&last=a", []),
        ("?last=a", ["a.b", "b", "zz"]),
        ("?last=a.a", ["a.b", "b", "zz"]),
        ("?last=zz", []),
        ("?last=~", []),
        ("?n=2&last=b", ["zz"]),
    ],
)
def test_a_page_begins_after_a_value_that_need_not_exist(filled: Service, query: str, tags: list[str]) -> None:
    reply = filled.call("GET", f"/v2/{REPO}/tags/list{query}")
    assert (reply.json["tags"], next_of(reply)) == (tags, None)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 100])
def test_the_catalog_in_byte_order(filled: Service, size: int) -> None:
    found = [name for page in pages(filled, f"/v2/_catalog?n={size}") for name in page.json["repositories"]]
    assert found == ["a", "a-b", "a/b", REPO, "zz/y"]


def descriptor(manifest: Manifest) -> dict[str, Any]:
    """What the list of referrers says of a manifest."""
    expected: dict[str, Any] = manifest.descriptor()
    if manifest.artifact_type is not None:
        expected["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        expected["annotations"] = manifest.annotations
    return expected


@pytest.mark.parametrize("size", [1, 3, 4, 50])
@pytest.mark.parametrize("kind", [None, *KINDS, "application/vnd.test.none"])
def test_all_referrers_come_filtered_and_described(
    filled: Service, referrers: list[Manifest], size: int, kind: str | None
) -> None:
    wanted = f"&artifactType={kind.replace('+', '%2B')}" if kind else ""
    found = pages(filled, f"/v2/{REPO}/referrers/{IMAGE.digest}?n={size}{wanted}")
    listed = [one for page in found for one in page.json["manifests"]]
    assert listed == [descriptor(one) for one in referrers if kind in {None, one.artifact_type}]
    for page in found:
        assert (page.json["schemaVersion"], page.json["mediaType"]) == (2, INDEX)
        assert page.headers["content-type"] == INDEX
        assert page.headers.get("oci-filters-applied") == ("artifactType" if kind else None)


LONG = "x" * 1000
"""An annotation's value."""


def attached(service: Service, repository: str, count: int, annotations: dict[str, str]) -> list[Manifest]:
    """Manifests that refer to IMAGE, by digest."""
    service.push_blob(repository, CONFIG)
    found = [image(CONFIG, [], subject=IMAGE, annotations={"n": str(n), **annotations}) for n in range(count)]
    for manifest in found:
        service.push(repository, manifest.digest, manifest)
    return sorted(found, key=lambda manifest: manifest.digest)


def test_a_page_of_referrers_ends_at_a_number_of_bytes_and_its_link_leads_to_the_rest(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        pushed = attached(service, REPO, 40, {str(number): LONG for number in range(60)})
        found = pages(service, f"/v2/{REPO}/referrers/{IMAGE.digest}")
        assert [one for page in found for one in page.json["manifests"]] == [descriptor(one) for one in pushed]
        assert len(found) == 3
        assert all(len(page.body) < PAGE_BYTES + 1000 for page in found)
        assert all(len(page.body) > PAGE_BYTES - 70_000 for page in found[:-1])


def test_annotations_that_do_not_fit_into_a_list_of_referrers_are_in_the_manifest_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        [pushed] = attached(service, REPO, 1, {"long": "x" * MOST_ANNOTATIONS, "created": "2026-01-01T00:00:00Z"})
        [listed] = service.call("GET", f"/v2/{REPO}/referrers/{IMAGE.digest}").json["manifests"]
        assert listed["annotations"] == {"n": "0", "created": "2026-01-01T00:00:00Z"}
        assert service.call("GET", f"/v2/{REPO}/manifests/{pushed.digest}").body == pushed.data


def test_referrers_with_annotations_without_bound_take_no_memory_without_bound(tmp_path: Path) -> None:
    """As rows are that an earlier release wrote: their list was as large as all of their annotations."""
    with serving(tmp_path) as service:
        pushed = attached(service, REPO, 30, {})
        with service.registry.backends.database.transaction() as connection:
            connection.execute(Statement("UPDATE manifest SET annotations = :text"), {"text": f'{{"a":"{"x" * MIB}"}}'})
        tracemalloc.start()
        try:
            reply = service.call("GET", f"/v2/{REPO}/referrers/{IMAGE.digest}")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [one["digest"] for one in reply.json["manifests"]] == [one.digest for one in pushed]
        assert peak < 8 * MIB


@pytest.mark.parametrize(("path", "key"), [("/v2/_catalog", "repositories"), (f"/v2/{REPO}/tags/list", "tags")])
def test_a_page_of_names_ends_at_a_number_of_bytes(
    filled: Service, monkeypatch: pytest.MonkeyPatch, path: str, key: str
) -> None:
    whole = [name for page in pages(filled, path) for name in page.json[key]]
    monkeypatch.setattr("registry.api.http.pagination.PAGE_BYTES", 14)
    found = pages(filled, f"{path}?n=4")
    assert [name for page in found for name in page.json[key]] == whole
    assert max(sum(len(name) + 3 for name in page.json[key]) for page in found) <= 14
    assert len(found) > len(whole) // 4 + 1


def test_a_page_has_a_number_of_names_whatever_the_configuration_says(
    filled: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.api.http.pagination.MOST_ENTRIES", 3)
    found = pages(filled, f"/v2/{REPO}/tags/list?n=4")
    assert [len(page.json["tags"]) for page in found] == [3, 3, 3, 1]
    assert [tag for page in found for tag in page.json["tags"]] == TAGS


def test_referrers_without_a_filter_that_says_anything(filled: Service, referrers: list[Manifest]) -> None:
    reply = filled.call("GET", f"/v2/{REPO}/referrers/{IMAGE.digest}?artifactType=")
    assert "oci-filters-applied" not in reply.headers
    assert len(reply.json["manifests"]) == 4


def test_a_repository_of_one_page_has_no_link(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.push_blob(REPO, CONFIG)
        for tag in TAGS:
            service.push(REPO, tag, IMAGE)
        for query in ("", f"?n={len(TAGS)}", "?n=1000000"):
            reply = service.call("GET", f"/v2/{REPO}/tags/list{query}")
            assert (reply.json["tags"], next_of(reply)) == (TAGS, None)
