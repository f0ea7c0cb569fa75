"""Names, tags, digests and paths that must not be understood as anything but themselves."""

from __future__ import annotations

import pytest

from tests.hostile.place import ABSENT, CODES, IMAGE, LAYER, OTHER, OTHER_IMAGE, OTHER_LAYER, REPO, Place
from tests.hostile.wire import Request, request, try_send
from tests.support.payloads import digest_of

# Written as it goes over the wire: percent signs are sent, bytes above 127 as they are.
BAD_NAMES = [
    b"UPPER",
    b"a//b",
    b"/etc",
    b"-a",
    b"a-",
    b"a..b",
    b"..",
    b".",
    b"a/..",
    b"a/../hostile/a",
    b"hostile/../../..",
    b"../../../../../../etc",
    b"a/./b",
    b".uploads",
    b".database",
    b"hostile/a/.journal",
    b"_x",
    b"a/_b",
    b"storage",
    b"storage/x",
    b"hostile/a/blobs",
    b"hostile/a/blobs/sha256",
    b"hostile/a/index.json",
    b"hostile/a/oci-layout",
    b"a" * 256,
    b"a" * 300,
    b"/".join([b"a"] * 200),
    b"a/" * 3000 + b"a",
    b"%00",
    b"hostile/a%00",
    b"hostile%00/../a",
    b"hostile\\a",
    b"hostile%5c..%5ca",
    b"%2e%2e",
    b"%2e%2e/%2e%2e/hostile",
    b"..%2f..%2fsecret",
    b"%2e%2e%2f%2e%2e%2fsecret",
    b"%252e%252e%252fsecret",
    b"%252e%252e",
    b"%c0%ae%c0%ae",
    b"%e9",
    b"%ff%fe",
    "é".encode(),
    b"%20",
    b"hostile/a%20",
    b"hostile/a%0a",
    b"hostile/a%0d%0aX-Injected:%20yes",
    b"hostile:a",
    b"hostile@a",
    b"hostile*",
    b"hostile%23a",
    b"hostile%3fa",
    b"hostile;a",
    b"~root",
    b"$HOME",
    b"%24%7bjndi:ldap%7d",
    b"hostile/a'--",
    b"hostile/a%27%20OR%20%271%27=%271",
    b"%",
    b"%zz",
    b"hostile/a/",
]

BAD_TAGS = [
    b".hidden",
    b"-x",
    b"..",
    b"%2e%2e",
    b"%2e%2e%2findex.json",
    b"..%2f..%2f..%2fsecret",
    b"x" * 129,
    b"x" * 70_000,
    b"a%20b",
    b"a%00",
    b"one%00",
    b"one%0a",
    b"a%0d%0aX-Injected:%20yes",
    b"%c3%a9",
    b"%ff",
    b"a\\b",
    b"a+b",
    b"a*",
    b"%27;--",
]

BAD_DIGESTS = [
    b":",
    b"sha256:",
    b"sha256:abc",
    b"sha256:" + b"0" * 63,
    b"sha256:" + b"0" * 65,
    b"sha256:" + b"A" * 64,
    b"sha256:" + b"g" * 64,
    b"SHA256:" + b"0" * 64,
    b"sha512:" + b"0" * 64,
    b"sha384:" + b"0" * 96,
    b"sha1:" + b"0" * 40,
    b"md5:" + b"0" * 32,
    b"blake3:" + b"0" * 64,
    b"sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
    b"sha256:" + b"0" * 64 + b":" + b"0" * 64,
    b"sha256:" + b"0" * 64 + b"%00",
    b"sha256:" + b"0" * 64 + b"%0a",
    b"sha256:" + b"0" * 32 + b"%2f" + b"0" * 31,
    b"sha256:%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret",
    b"sha256:../../../../secret",
    b"..:secret",
    b"%2e%2e%2f%2e%2e:secret",
    b"shake128:" + b"0" * 64,
    b"sha256:" + b"0" * 60_000,
    b"sha256:" + "０".encode() * 64,
]


def label(value: object) -> str:
    """A test id that says what is sent, cut to be readable."""
    return repr(value)[2:50] if isinstance(value, bytes) else str(value)


def refused(place: Place, message: Request, *codes: str) -> None:
    """The answer is a 4xx with an OCI error body of one of the codes; HTTP itself may refuse what is no HTTP."""
    reply = try_send(place.address, message)
    if reply is None:
        # Only for a request line that no HTTP parser accepts: closing is an answer then.
        assert not message.target.isascii() or len(message.target) > 8000, message
        return
    place.inspect(message, reply)
    assert 400 <= reply.status < 500, (message.target[:200], reply)
    if not message.target.isascii() or len(message.target) > 8000 or message.method == "HEAD":
        return
    assert set(reply.codes()) <= {*codes}, (message.target[:200], reply)


OPERATIONS = [
    ("GET", b"/v2/%s/tags/list"),
    ("GET", b"/v2/%s/manifests/one"),
    ("GET", b"/v2/%s/blobs/" + LAYER.digest.encode()),
    ("HEAD", b"/v2/%s/manifests/one"),
    ("GET", b"/v2/%s/referrers/" + IMAGE.digest.encode()),
    ("POST", b"/v2/%s/blobs/uploads/"),
    ("POST", b"/v2/%s/blobs/uploads/?digest=" + LAYER.digest.encode()),
    ("PUT", b"/v2/%s/manifests/one"),
    ("DELETE", b"/v2/%s/manifests/one"),
    ("DELETE", b"/v2/%s/blobs/" + LAYER.digest.encode()),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=label)
def test_a_bad_name_is_refused_in_every_operation(place: Place, name: bytes) -> None:
    for method, path in OPERATIONS:
        body = {"PUT": IMAGE.data, "POST": LAYER.data}.get(method)
        message = request(method, path.replace(b"%s", name), headers={"Content-Type": IMAGE.media_type}, body=body)
        refused(place, message, "NAME_INVALID", "NOT_FOUND")


@pytest.mark.parametrize("tag", BAD_TAGS, ids=label)
def test_a_bad_tag_is_refused(place: Place, tag: bytes) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        body = IMAGE.data if method == "PUT" else None
        target = b"/v2/" + REPO.encode() + b"/manifests/" + tag
        codes = ["TAG_INVALID", "NOT_FOUND", "NAME_INVALID", "DIGEST_INVALID"]
        if method != "PUT":
            codes.append("MANIFEST_UNKNOWN")
        refused(place, request(method, target, headers={"Content-Type": IMAGE.media_type}, body=body), *codes)


@pytest.mark.parametrize("tag", BAD_TAGS, ids=label)
def test_a_bad_tag_parameter_is_refused_and_no_other_tag_is_set(place: Place, tag: bytes) -> None:
    target = f"/v2/{REPO}/manifests/{IMAGE.digest}?tag=before&tag=".encode() + tag + b"&tag=after"
    refused(place, request("PUT", target, headers={"Content-Type": IMAGE.media_type}, body=IMAGE.data), "TAG_INVALID")
    for other in ("before", "after"):
        assert place.send(request("GET", f"/v2/{REPO}/manifests/{other}")).status == 404


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=label)
@pytest.mark.parametrize("kind", [b"blobs", b"manifests"], ids=label)
def test_a_bad_digest_is_refused(place: Place, kind: bytes, digest: bytes) -> None:
    target = b"/v2/" + REPO.encode() + b"/" + kind + b"/" + digest
    codes = ("DIGEST_INVALID", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NOT_FOUND", "NAME_INVALID", "TAG_INVALID")
    for method in ("GET", "HEAD", "DELETE"):
        refused(place, request(method, target), *codes)


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=label)
def test_a_manifest_cannot_be_put_under_a_bad_digest(place: Place, digest: bytes) -> None:
    target = b"/v2/" + REPO.encode() + b"/manifests/" + digest
    message = request("PUT", target, headers={"Content-Type": IMAGE.media_type}, body=IMAGE.data)
    refused(place, message, "DIGEST_INVALID", "NOT_FOUND", "NAME_INVALID", "TAG_INVALID")


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=label)
def test_referrers_of_a_bad_digest_are_a_400(place: Place, digest: bytes) -> None:
    target = b"/v2/" + REPO.encode() + b"/referrers/" + digest
    refused(place, request("GET", target), "DIGEST_INVALID", "NOT_FOUND", "NAME_INVALID")


@pytest.mark.parametrize("digest", [digest for digest in BAD_DIGESTS if len(digest) < 1000], ids=label)
def test_an_upload_cannot_be_closed_with_a_bad_digest(place: Place, session: str, digest: bytes) -> None:
    assert place.send(request("PATCH", session, body=LAYER.data)).status == 202
    joint = b"&" if "?" in session else b"?"
    refused(place, request("PUT", session.encode() + joint + b"digest=" + digest, body=b""), "DIGEST_INVALID")
    assert place.offset(session) == len(LAYER.data), "the session is still there, with its bytes"


@pytest.mark.parametrize("digest", [digest for digest in BAD_DIGESTS if len(digest) < 1000], ids=label)
def test_a_single_post_with_a_bad_digest_stores_nothing(place: Place, digest: bytes) -> None:
    target, data = f"/v2/{REPO}/blobs/uploads/?digest=".encode() + digest, b"under no digest"
    refused(place, request("POST", target, body=data), "DIGEST_INVALID")
    assert place.send(request("HEAD", f"/v2/{REPO}/blobs/{digest_of(data)}")).status == 404


@pytest.mark.parametrize(
    ("claimed", "sent"),
    [
        (digest_of(b"x"), b"y"),
        (digest_of(b"x", "sha512"), b"y"),
        ("sha512:" + digest_of(b"x").split(":")[1] * 2, b"x"),
        ("sha256:" + digest_of(b"x", "sha512").split(":")[1][:64], b"x"),
        (digest_of(b"x"), b""),
        (digest_of(b""), b"x"),
    ],
)
def test_content_under_a_digest_that_is_not_its_own_is_refused(place: Place, claimed: str, sent: bytes) -> None:
    refused(place, request("POST", f"/v2/{REPO}/blobs/uploads/?digest={claimed}", body=sent), "DIGEST_INVALID")
    assert place.send(request("HEAD", f"/v2/{REPO}/blobs/{claimed}")).status == 404


def test_an_algorithm_is_part_of_the_name_of_content(place: Place) -> None:
    hexadecimal = LAYER.digest.split(":")[1]
    for digest in (f"sha512:{hexadecimal * 2}", f"sha512:{hexadecimal}", f"sha1:{hexadecimal[:40]}"):
        assert place.send(request("HEAD", f"/v2/{REPO}/blobs/{digest}")).status in {400, 404}


@pytest.mark.parametrize(
    "path",
    [
        f"/v2/{REPO}/blobs/{OTHER_LAYER.digest}",
        f"/v2/{REPO}/manifests/{OTHER_IMAGE.digest}",
        f"/v2/{OTHER}/blobs/{LAYER.digest}",
        f"/v2/{OTHER}/manifests/{IMAGE.digest}",
        f"/v2/hostile/c/blobs/{LAYER.digest}",
        f"/v2/hostile/blobs/{LAYER.digest}",
        f"/v2/hostile/a/b/blobs/{LAYER.digest}",
        f"/v2/hostile/b%2f..%2fa/blobs/{LAYER.digest}",
        f"/v2/hostile/b/../a/blobs/{LAYER.digest}",
        f"/v2/{REPO}/../{OTHER}/manifests/{OTHER_IMAGE.digest}",
    ],
)
def test_content_of_another_repository_is_not_there(place: Place, path: str) -> None:
    codes = {"BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NAME_INVALID", "NOT_FOUND"}
    for method in ("GET", "HEAD", "DELETE"):
        reply = place.send(request(method, path))
        assert reply.status in {400, 404}, (method, reply)
        if method != "HEAD":
            assert set(reply.codes()) <= codes, method


def test_referrers_show_nothing_of_another_repository(place: Place) -> None:
    reply = place.send(request("GET", f"/v2/{OTHER}/referrers/{IMAGE.digest}"))
    assert reply.status == 200
    assert b'"manifests":[]' in reply.body.replace(b" ", b"")


@pytest.mark.parametrize(
    ("source", "digest"),
    [
        ("hostile/none", LAYER.digest),
        ("hostile/none", ABSENT),
        (REPO, ABSENT),
        (REPO, OTHER_LAYER.digest),
        ("..", LAYER.digest),
        ("../../secret", LAYER.digest),
        ("hostile/a/..", LAYER.digest),
        ("UPPER", LAYER.digest),
        ("%00", LAYER.digest),
        (".uploads", LAYER.digest),
        ("", ABSENT),
        (REPO, "sha256:zz"),
        (REPO, "../../index.json"),
        (REPO, ""),
    ],
)
def test_a_mount_that_cannot_be_done_opens_a_session(place: Place, source: str, digest: str) -> None:
    reply = place.send(request("POST", f"/v2/hostile/c/blobs/uploads/?mount={digest}&from={source}", body=b""))
    assert reply.status == 202, reply
    place.cancel(place.path_of(reply))


UNKNOWN_PATHS = [
    "/v2/x",
    "/v2/hostile/a",
    "/v2/hostile/a/",
    "/v2/hostile/a/manifests",
    "/v2/hostile/a/manifests/",
    "/v2/hostile/a/blobs",
    "/v2/hostile/a/blobs/",
    "/v2/hostile/a/tags",
    "/v2/hostile/a/tags/",
    "/v2/hostile/a/tags/list/more",
    "/v2/hostile/a/referrers",
    "/v2/hostile/a/referrers/",
    "/v2/_oci/ext/other",
    "/v2/_catalog/more",
    "/v2/hostile/a/_x/y",
    "/v2//",
    "/v2/manifests/one",
    "/v2/tags/list",
    "/v2/blobs/uploads/",
    "/v2/%2e%2e",
    "/v2/..",
    "/v2/../../../../etc/passwd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2/..%2f..%2fetc%2fpasswd",
    "/v2/....//....//etc/passwd",
]


@pytest.mark.parametrize("path", UNKNOWN_PATHS)
def test_an_unknown_path_below_v2_is_an_oci_error(place: Place, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        body = b"" if method in {"POST", "PUT", "PATCH"} else None
        reply = place.send(request(method, path, body=body))
        assert reply.status in {400, 404, 405}, (method, reply)
        assert set(reply.codes()) <= CODES, method


OUTSIDE = ["/../../etc/passwd", "/%2e%2e/secret", "/..%2fsecret", "//etc/passwd", "/static/../../secret", "/index.json"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_is_served_from_the_disk_outside_of_v2(place: Place, path: str) -> None:
    assert place.send(request("GET", path)).status in {400, 404}
