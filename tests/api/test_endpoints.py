"""The endpoints of the distribution specification as a table: a request, and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.api.service import Headers, Service, serving
from tests.support.payloads import INDEX, MANIFEST, Blob, digest_of, image

if TYPE_CHECKING:
    from pathlib import Path

REPO = "table/manifests/blobs-and-uploads"
CONFIG = Blob(b'{"table": 1}')
LAYER = Blob(b"0123456789" * 30)
LOOSE = Blob(b"nothing names it")
LONG = Blob(b"hashed with the longer algorithm", "sha512")
IMAGE = image(CONFIG, [LAYER])
REFERRER = image(CONFIG, [], subject=IMAGE, artifact_type="application/vnd.test.one")
ABSENT = "sha256:" + "0" * 64
UNKNOWN_SESSION = "11111111-2222-4333-8444-555555555555"
V2 = f"/v2/{REPO}"
JSON = "application/json"
NONE: Headers = {}
OWN = {"docker-distribution-api-version": "registry/2.0"}


class Case(NamedTuple):
    """A request and its answer."""

    what: str
    method: str
    target: str
    status: int
    code: str | None = None
    """Of the error; None: there is none, or it is a HEAD."""
    answer: Headers = NONE
    """Headers that the answer has."""
    headers: Headers = NONE
    body: bytes = b""
    absent: tuple[str, ...] = ()
    """Headers that the answer must not have."""


BLOB = {
    "content-length": str(len(LAYER.data)),
    "content-type": "application/octet-stream",
    "docker-content-digest": LAYER.digest,
    "etag": f'"{LAYER.digest}"',
    "accept-ranges": "bytes",
}
MANIFEST_HEADERS = {
    "content-length": str(len(IMAGE.data)),
    "content-type": MANIFEST,
    "docker-content-digest": IMAGE.digest,
    "etag": f'"{IMAGE.digest}"',
}
PUT_IMAGE = {"Content-Type": MANIFEST}

CASES = [
    # ---- base, catalog, what is no endpoint
    Case("this is a registry", "GET", "/v2/", 200, answer={"content-type": JSON}),
    Case("without the last slash too", "GET", "/v2", 200),
    Case("and to HEAD", "HEAD", "/v2/", 200),
    Case("nothing else is done there", "POST", "/v2/", 405, "UNSUPPORTED", {"allow": "GET, HEAD"}),
    Case("the catalog", "GET", "/v2/_catalog", 200, answer={"content-type": JSON}),
    Case("a path that is none", "GET", "/v2/nothing", 404, "NOT_FOUND", {"content-type": JSON}),
    Case("a path outside the API", "GET", "/nothing", 404, "NOT_FOUND", {"content-type": JSON}),
    Case("the process is up", "GET", "/livez", 200, answer={"content-type": JSON}),
    Case("to HEAD too", "HEAD", "/livez", 200, answer={"content-type": JSON}),
    Case("it works", "HEAD", "/readyz", 200, answer={"content-type": JSON}),
    Case("it counts", "HEAD", "/metrics", 200),
    Case("a probe takes nothing", "POST", "/livez", 405, "UNSUPPORTED", {"allow": "GET, HEAD"}),
    Case("nor does the other", "PUT", "/readyz", 405, "UNSUPPORTED", {"allow": "GET, HEAD"}),
    Case("metrics are not deleted", "DELETE", "/metrics", 405, "UNSUPPORTED", {"allow": "GET, HEAD"}),
    Case("nor asked for their options", "OPTIONS", "/metrics", 405, "UNSUPPORTED", {"allow": "GET, HEAD"}),
    Case("a document of the API has no other methods", "POST", "/api/openapi.json", 405, "UNSUPPORTED"),
    Case("a segment that is none", "GET", f"{V2}/tags/lists", 404, "NOT_FOUND"),
    Case("a slash too many", "GET", f"{V2}/tags/list/", 404, "NOT_FOUND"),
    # ---- methods
    Case(
        "a method that manifests have not",
        "POST",
        f"{V2}/manifests/one",
        405,
        "UNSUPPORTED",
        {"allow": "DELETE, GET, HEAD, PUT"},
    ),
    Case(
        "a method that blobs have not",
        "PUT",
        f"{V2}/blobs/{LAYER.digest}",
        405,
        "UNSUPPORTED",
        {"allow": "DELETE, GET, HEAD"},
    ),
    Case("a method that tags have not", "DELETE", f"{V2}/tags/list", 405, "UNSUPPORTED", {"allow": "GET, HEAD"}),
    Case("a method that referrers have not", "PUT", f"{V2}/referrers/{ABSENT}", 405, "UNSUPPORTED"),
    Case(
        "a method that sessions have not",
        "POST",
        f"{V2}/blobs/uploads/{UNKNOWN_SESSION}",
        405,
        "UNSUPPORTED",
    ),
    Case("an unknown method", "BREW", f"{V2}/manifests/one", 405, "UNSUPPORTED"),
    # ---- names
    Case("a name of capitals", "GET", "/v2/Table/tags/list", 400, "NAME_INVALID"),
    Case("a name of ours", "GET", "/v2/storage/tags/list", 400, "NAME_INVALID"),
    Case("a name that the layout needs", "GET", "/v2/a/blobs/b/tags/list", 400, "NAME_INVALID"),
    Case("a name that is too long", "GET", f"/v2/{'a' * 256}/tags/list", 400, "NAME_INVALID"),
    Case("an unknown repository has no tags", "GET", "/v2/table/none/tags/list", 404, "NAME_UNKNOWN"),
    Case("nor manifests", "GET", "/v2/table/none/manifests/one", 404, "NAME_UNKNOWN"),
    Case("nor blobs", "GET", f"/v2/table/none/blobs/{LAYER.digest}", 404, "NAME_UNKNOWN"),
    Case("but an empty list of referrers", "GET", f"/v2/table/none/referrers/{ABSENT}", 200),
    # ---- pulling
    Case("a blob", "GET", f"{V2}/blobs/{LAYER.digest}", 200, answer=BLOB),
    Case("HEAD of it", "HEAD", f"{V2}/blobs/{LAYER.digest}", 200, answer=BLOB),
    Case("a blob of another algorithm", "GET", f"{V2}/blobs/{LONG.digest}", 200),
    Case("a blob that is not here", "GET", f"{V2}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
    Case("HEAD of that", "HEAD", f"{V2}/blobs/{ABSENT}", 404),
    Case("a blob whose digest is none", "GET", f"{V2}/blobs/sha256:beef", 400, "DIGEST_INVALID"),
    Case("a blob of an unknown algorithm", "GET", f"{V2}/blobs/md5:{'0' * 32}", 400, "DIGEST_INVALID"),
    Case("a manifest by tag", "GET", f"{V2}/manifests/one", 200, answer=MANIFEST_HEADERS),
    Case("a manifest by digest", "GET", f"{V2}/manifests/{IMAGE.digest}", 200, answer=MANIFEST_HEADERS),
    Case("HEAD by tag", "HEAD", f"{V2}/manifests/one", 200, answer=MANIFEST_HEADERS),
    Case("HEAD by digest", "HEAD", f"{V2}/manifests/{IMAGE.digest}", 200, answer=MANIFEST_HEADERS),
    Case("whatever is accepted", "GET", f"{V2}/manifests/one", 200, headers={"Accept": "text/html"}),
    Case("an unknown tag", "GET", f"{V2}/manifests/none", 404, "MANIFEST_UNKNOWN"),
    Case("HEAD of that", "HEAD", f"{V2}/manifests/none", 404),
    Case("an unknown digest", "GET", f"{V2}/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN"),
    Case("a blob is no manifest", "GET", f"{V2}/manifests/{LAYER.digest}", 404, "MANIFEST_UNKNOWN"),
    Case("a digest that is none", "GET", f"{V2}/manifests/sha256:beef", 400, "DIGEST_INVALID"),
    Case("a tag that is none", "GET", f"{V2}/manifests/.one", 400, "TAG_INVALID"),
    Case(
        "a manifest that the client has",
        "GET",
        f"{V2}/manifests/one",
        304,
        headers={"If-None-Match": f'W/"{IMAGE.digest}"'},
        answer={"etag": f'"{IMAGE.digest}"', "docker-content-digest": IMAGE.digest},
        absent=("content-type", "content-length"),
    ),
    Case(
        "a blob that the client has",
        "GET",
        f"{V2}/blobs/{LAYER.digest}",
        304,
        headers={"If-None-Match": f'"{LAYER.digest}"'},
        absent=("content-type", "content-length"),
    ),
    Case("one that it has not", "GET", f"{V2}/manifests/one", 200, headers={"If-None-Match": '"other"'}),
    Case("a namespace of a mirror is ignored", "GET", f"{V2}/manifests/one?ns=docker.io", 200),
    # ---- pushing manifests
    Case("what is no manifest", "PUT", f"{V2}/manifests/x", 400, "MANIFEST_INVALID", body=b"{", headers=PUT_IMAGE),
    Case("nothing", "PUT", f"{V2}/manifests/x", 400, "MANIFEST_INVALID", headers=PUT_IMAGE),
    Case(
        "under a digest that is not its own",
        "PUT",
        f"{V2}/manifests/{ABSENT}",
        400,
        "DIGEST_INVALID",
        body=IMAGE.data,
        headers=PUT_IMAGE,
    ),
    Case(
        "with references that are not here",
        "PUT",
        f"{V2}/manifests/x",
        400,
        "MANIFEST_BLOB_UNKNOWN",
        body=image(CONFIG, [Blob(b"never pushed")]).data,
        headers=PUT_IMAGE,
    ),
    Case(
        "tags with a tag",
        "PUT",
        f"{V2}/manifests/x?tag=y",
        400,
        "TAG_INVALID",
        body=IMAGE.data,
        headers=PUT_IMAGE,
    ),
    Case(
        "a tag parameter that is none",
        "PUT",
        f"{V2}/manifests/{IMAGE.digest}?tag=-",
        400,
        "TAG_INVALID",
        body=IMAGE.data,
        headers=PUT_IMAGE,
    ),
    Case(
        "a media type with parameters",
        "PUT",
        f"{V2}/manifests/one",
        201,
        body=IMAGE.data,
        headers={"Content-Type": f"{MANIFEST}; charset=utf-8"},
        answer={"location": f"{V2}/manifests/{IMAGE.digest}", "docker-content-digest": IMAGE.digest},
        absent=("oci-subject", "oci-tag"),
    ),
    Case(
        "a manifest with a subject",
        "PUT",
        f"{V2}/manifests/{REFERRER.digest}",
        201,
        body=REFERRER.data,
        headers=PUT_IMAGE,
        answer={"oci-subject": IMAGE.digest, "docker-content-digest": REFERRER.digest},
    ),
    Case(
        "a manifest with tags",
        "PUT",
        f"{V2}/manifests/{IMAGE.digest}?tag=one&tag=two",
        201,
        body=IMAGE.data,
        headers=PUT_IMAGE,
        answer={"oci-tag": "one, two"},
    ),
    # ---- uploads that fail; those that work are in test_uploads
    Case("an algorithm that is none", "POST", f"{V2}/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID"),
    Case("a digest that is none", "POST", f"{V2}/blobs/uploads/?digest=sha256:x", 400, "DIGEST_INVALID", body=b"x"),
    Case("a digest of other bytes", "POST", f"{V2}/blobs/uploads/?digest={ABSENT}", 400, "DIGEST_INVALID", body=b"x"),
    *(
        Case(f"{method} of an unknown session", method, f"{V2}/blobs/uploads/{session}{query}", 404, code)
        for session in (UNKNOWN_SESSION, "none")
        for method, query in (("GET", ""), ("PATCH", ""), ("PUT", f"?digest={ABSENT}"), ("DELETE", ""))
        for code in ("BLOB_UPLOAD_UNKNOWN",)
    ),
    # ---- listing
    Case("tags", "GET", f"{V2}/tags/list", 200, answer={"content-type": JSON}),
    Case("a number that is none", "GET", f"{V2}/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"),
    Case("a negative number", "GET", f"{V2}/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    Case("a number that is none", "GET", "/v2/_catalog?n=x", 400, "PAGINATION_NUMBER_INVALID"),
    Case("referrers", "GET", f"{V2}/referrers/{IMAGE.digest}", 200, answer={"content-type": INDEX}),
    Case("referrers of nothing", "GET", f"{V2}/referrers/{ABSENT}", 200, answer={"content-type": INDEX}),
    Case("referrers of no digest", "GET", f"{V2}/referrers/one", 400, "DIGEST_INVALID"),
    # ---- deleting
    Case("a manifest that is not here", "DELETE", f"{V2}/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN"),
    Case("a tag that is not here", "DELETE", f"{V2}/manifests/none", 404, "MANIFEST_UNKNOWN"),
    Case("a blob that is not here", "DELETE", f"{V2}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
    Case("a manifest of nowhere", "DELETE", f"/v2/table/none/manifests/{ABSENT}", 404, "NAME_UNKNOWN"),
    Case("a blob that a manifest names", "DELETE", f"{V2}/blobs/{LAYER.digest}", 405, "UNSUPPORTED"),
    Case(
        "a blob as a manifest, although one names it",
        "DELETE",
        f"{V2}/manifests/{LAYER.digest}",
        404,
        "MANIFEST_UNKNOWN",
    ),
    Case("a manifest as a blob", "DELETE", f"{V2}/blobs/{IMAGE.digest}", 405, "UNSUPPORTED"),
    # ---- beside the API
    Case("alive", "GET", "/livez", 200),
    Case("ready", "GET", "/readyz", 200),
    Case("the description of what is not OCI", "GET", "/api/openapi.json", 200, answer={"content-type": JSON}),
]


@pytest.fixture(scope="module")
def seeded(service: Service) -> Service:
    for blob in (CONFIG, LAYER, LOOSE, LONG):
        service.push_blob(REPO, blob)
    service.push(REPO, "one", IMAGE)
    return service


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.what}: {case.method} {case.target[:60]}")
def test_endpoint(seeded: Service, case: Case) -> None:
    reply = seeded.call(case.method, case.target, case.body, case.headers)
    assert (reply.status, reply.code if reply.status >= 400 else None) == (case.status, case.code), reply.body
    for name, value in {**OWN, **case.answer}.items():
        assert reply.headers.get(name) == value, name
    assert reply.headers["x-request-id"]
    for name in case.absent:
        assert name not in reply.headers
    if case.status >= 400:
        assert reply.headers["content-type"] == JSON
        if reply.body:
            (error,) = reply.json["errors"]
            assert error["message"]
            assert error.keys() <= {"code", "message", "detail"}


def test_the_bytes_of_a_manifest_come_back_as_they_were_pushed(seeded: Service) -> None:
    for reference in ("one", IMAGE.digest):
        assert seeded.call("GET", f"{V2}/manifests/{reference}").body == IMAGE.data
        assert seeded.call("HEAD", f"{V2}/manifests/{reference}").body == b""


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in chunks"])
def test_a_manifest_at_the_limit_is_taken_and_one_byte_more_is_too_large(
    seeded: Service, repository: str, declared: bool
) -> None:
    limit = seeded.context.settings.manifests.max_bytes
    seeded.push_blob(repository, CONFIG)
    small = image(CONFIG, [], annotations={"filling": ""})
    fitting = small.data + b" " * (limit - len(small.data))
    for body, status, code in ((fitting, 201, None), (fitting + b" ", 413, "MANIFEST_INVALID")):
        sent = body if declared else [body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20)]
        reply = seeded.call("PUT", f"/v2/{repository}/manifests/large", sent, PUT_IMAGE)
        assert (reply.status, reply.code) == (status, code)
    assert seeded.call("GET", f"/v2/{repository}/manifests/large").body == fitting


def test_a_manifest_pushed_by_sha512_is_named_by_it_also_by_tag(seeded: Service, repository: str) -> None:
    seeded.push_blob(repository, CONFIG)
    wide = image(CONFIG, [], algorithm="sha512")
    target = f"/v2/{repository}/manifests/{wide.digest}?" + "&".join(f"tag=t{number}" for number in range(20))
    reply = seeded.call("PUT", target, wide.data, PUT_IMAGE)
    assert reply.status == 201
    assert reply.headers["oci-tag"].split(", ") == [f"t{number}" for number in range(20)]
    assert seeded.call("HEAD", f"/v2/{repository}/manifests/t7").headers["docker-content-digest"] == wide.digest
    assert seeded.call("HEAD", f"/v2/{repository}/manifests/{digest_of(wide.data)}").status == 404


def test_what_is_deleted_is_gone_with_every_name_of_it(seeded: Service, repository: str) -> None:
    for blob in (CONFIG, LOOSE):
        seeded.push_blob(repository, blob)
    manifest = image(CONFIG, [])
    for tag in ("one", "two", "three"):
        seeded.push(repository, tag, manifest)
    v2 = f"/v2/{repository}"
    assert seeded.call("DELETE", f"{v2}/manifests/one").status == 202
    assert seeded.call("GET", f"{v2}/manifests/one").code == "MANIFEST_UNKNOWN"
    assert seeded.call("GET", f"{v2}/manifests/{manifest.digest}").status == 200
    assert seeded.call("DELETE", f"{v2}/manifests/{manifest.digest}").status == 202
    for reference in ("two", "three", manifest.digest):
        assert seeded.call("GET", f"{v2}/manifests/{reference}").code == "MANIFEST_UNKNOWN"
    assert seeded.call("GET", f"{v2}/tags/list").json == {"name": repository, "tags": []}
    for blob in (CONFIG, LOOSE):
        assert seeded.call("DELETE", f"{v2}/blobs/{blob.digest}").status == 202
        assert seeded.call("HEAD", f"{v2}/blobs/{blob.digest}").status == 404
        assert seeded.call("HEAD", f"{V2}/blobs/{blob.digest}").status == 200, "another repository has it still"


def test_metrics_that_are_left_out_are_no_path(tmp_path: Path) -> None:
    with serving(tmp_path, {"metrics": {"enabled": False}}) as service:
        assert [service.call(method, "/metrics").status for method in ("GET", "HEAD", "POST")] == [404] * 3
        assert service.call("HEAD", "/livez").status == 200
