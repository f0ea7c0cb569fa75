"""Upload bodies that lie about themselves: lengths, ranges, chunks; and sessions that are not the client's own."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import pytest

from tests.hostile.place import OTHER, REPO, Place, closing, settles
from tests.hostile.wire import Request, chunk, read_reply, request, try_send
from tests.support.payloads import Blob

WHOLE = Blob(b"0123456789" * 1000)
UPLOAD_CODES = {"RANGE_INVALID", "BLOB_UPLOAD_INVALID", "SIZE_INVALID", "DIGEST_INVALID"}


def assert_usable(place: Place, session: str, sent: bytes) -> None:
    """The session tells an offset inside of what was sent, and takes the rest of ``WHOLE`` from there.

    It is closed under the digest of other bytes, so that nothing stays in storage: 400 after all bytes arrived.
    """
    # A writer whose connection has just broken may still be ending.
    assert settles(lambda: place.send(request("GET", session)).status == 204)
    end = len(WHOLE.data) - 1
    for _ in range(50):  # the broken writer may still hold the upload (409), or commit after we asked (416)
        offset = place.offset(session)
        assert offset <= len(sent), (offset, len(sent))
        assert WHOLE.data[:offset] == sent[:offset]
        headers = {"Content-Range": f"{offset}-{end}", "Content-Type": "application/octet-stream"}
        reply = place.send(request("PATCH", session, headers=headers, body=WHOLE.data[offset:]))
        if reply.status not in {409, 416}:
            break
        time.sleep(0.1)
    assert reply.status == 202, reply
    assert reply.header("range") == f"0-{end}"
    wrong = Blob(WHOLE.data + b"x").digest
    reply = place.send(request("PUT", closing(place.path_of(reply), wrong), body=b""))
    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])


LYING_LENGTHS = [
    ([(b"Content-Length", b"abc")], b"0123"),
    ([(b"Content-Length", b"-1")], b"0123"),
    ([(b"Content-Length", b"+4")], b"0123"),
    ([(b"Content-Length", b"4, 4")], b"0123"),
    ([(b"Content-Length", b"0x4")], b"0123"),
    ([(b"Content-Length", b"4 4")], b"0123"),
    ([(b"Content-Length", b"1e1")], b"0123456789"),
    ([(b"Content-Length", b"")], b"0123"),
    ([(b"Content-Length", b"9" * 40)], b"0123"),
    ([(b"Content-Length", b"18446744073709551616")], b"0123"),
    ([(b"Content-Length", b"4"), (b"Content-Length", b"5")], b"01234"),
    ([(b"Content-Length", b"4"), (b"Transfer-Encoding", b"chunked")], chunk(b"0123") + b"0\r\n\r\n"),
    ([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"0")], chunk(b"0123") + b"0\r\n\r\n"),
    ([(b"Transfer-Encoding", b"chunked, chunked")], chunk(b"0123") + b"0\r\n\r\n"),
    ([(b"Transfer-Encoding", b"xchunked")], chunk(b"0123") + b"0\r\n\r\n"),
    ([(b"Transfer-Encoding", b"identity")], b"0123"),
    ([(b"Transfer-Encoding ", b"chunked")], chunk(b"0123") + b"0\r\n\r\n"),
    ([(b"Transfer-Encoding", b"\x0bchunked")], chunk(b"0123") + b"0\r\n\r\n"),
]


@pytest.mark.parametrize(("fields", "body"), LYING_LENGTHS, ids=repr)
def test_a_body_with_impossible_framing_is_refused_or_read_one_way(
    place: Place, session: str, fields: list[tuple[bytes, bytes]], body: bytes
) -> None:
    message = Request("PATCH", session.encode(), tuple(fields), body, half_close=True)
    reply = try_send(place.address, message)
    if reply is not None:
        place.inspect(message, reply)
        assert reply.status in {202, 400, 411, 413, 416}, reply
    assert_usable(place, session, WHOLE.data[:10])


BROKEN_CHUNKS = {
    "size is no number": b"zz\r\n0123\r\n0\r\n\r\n",
    "size is negative": b"-4\r\n0123\r\n0\r\n\r\n",
    "size has a prefix": b"0x4\r\n0123\r\n0\r\n\r\n",
    "size is beyond 64 bits": b"f" * 20 + b"\r\n0123\r\n0\r\n\r\n",
    "size is 2^63": b"8000000000000000\r\n0123",
    "size line without an end": b"4" * 100_000,
    "size line with a bare line feed": b"4\n0123\n0\n\n",
    "chunk longer than its size": b"2\r\n0123\r\n0\r\n\r\n",
    "chunk shorter than its size": b"8\r\n0123\r\n0\r\n\r\n",
    "no line end after the chunk": b"4\r\n01230\r\n\r\n",
    "cut in the size": b"4",
    "cut in the chunk": b"ff\r\n0123",
    "cut before the last chunk": chunk(b"0123"),
    "cut in the last chunk": chunk(b"0123") + b"0\r\n",
    "a long extension": b"4;" + b"x" * 100_000 + b"\r\n0123\r\n0\r\n\r\n",
    "extensions": b'4;a=b;c="d\\"e"\r\n0123\r\n0;z\r\n\r\n',
    "trailers": chunk(b"0123") + b"0\r\nX-Injected: yes\r\nContent-Length: 9\r\n\r\n",
    "endless trailers": chunk(b"0123") + b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "garbage after the end": chunk(b"0123") + b"0\r\n\r\nGARBAGE\r\n\r\n",
    "nothing at all": b"",
    "many tiny chunks": b"".join(chunk(WHOLE.data[at : at + 1]) for at in range(5000)) + b"0\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_a_broken_chunked_body_leaves_a_session_that_can_go_on(place: Place, session: str, body: bytes) -> None:
    fields = ((b"Transfer-Encoding", b"chunked"), (b"Content-Type", b"application/octet-stream"))
    message = Request("PATCH", session.encode(), fields, body, half_close=True)
    reply = try_send(place.address, message)
    if reply is not None:
        place.inspect(message, reply)
        assert reply.status in {202, 400, 413, 431}, reply
    assert_usable(place, session, WHOLE.data[:5000])


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_a_broken_chunked_closing_request_publishes_nothing_wrong(place: Place, session: str, body: bytes) -> None:
    target = closing(session, WHOLE.digest).encode()
    message = Request("PUT", target, ((b"Transfer-Encoding", b"chunked"),), body, half_close=True)
    reply = try_send(place.address, message)
    if reply is not None:
        place.inspect(message, reply)
        assert 400 <= reply.status < 500, reply
    assert place.send(request("HEAD", f"/v2/{REPO}/blobs/{WHOLE.digest}")).status == 404


@pytest.mark.parametrize("sent", [0, 1, 5000, 9999])
@pytest.mark.parametrize("half_close", [True, False], ids=["half close", "reset"])
def test_a_body_that_ends_early_keeps_the_received_bytes(
    place: Place, session: str, sent: int, half_close: bool
) -> None:
    fields = ((b"Content-Length", b"10000"), (b"Content-Type", b"application/octet-stream"))
    message = Request("PATCH", session.encode(), fields, WHOLE.data[:sent], half_close=half_close)
    with socket.create_connection((place.address.host, place.address.port), timeout=60) as connection:
        connection.sendall(message.encode())
        if half_close:
            connection.shutdown(socket.SHUT_WR)
            reply = read_reply(connection)
            if reply is not None:
                place.inspect(message, reply)
                assert 400 <= reply.status < 500, reply
    if sent > 1:
        assert settles(lambda: place.offset(session) == sent), "the bytes that arrived are kept"
    assert_usable(place, session, WHOLE.data[:sent])


@pytest.mark.parametrize("sent", [0, 5000])
def test_a_closing_body_that_ends_early_can_be_sent_again(place: Place, session: str, sent: int) -> None:
    fields = ((b"Content-Length", b"10000"), (b"Content-Type", b"application/octet-stream"))
    target = closing(session, WHOLE.digest).encode()
    message = Request("PUT", target, fields, WHOLE.data[:sent], half_close=True)
    reply = try_send(place.address, message)
    assert reply is None or 400 <= reply.status < 500, reply
    assert place.send(request("HEAD", f"/v2/{REPO}/blobs/{WHOLE.digest}")).status == 404
    assert_usable(place, session, WHOLE.data[:sent])


def test_a_single_post_that_ends_early_stores_nothing(place: Place) -> None:
    target = f"/v2/{REPO}/blobs/uploads/?digest={WHOLE.digest}".encode()
    message = Request("POST", target, ((b"Content-Length", b"10000"),), WHOLE.data[:5000], half_close=True)
    reply = try_send(place.address, message)
    assert reply is None or 400 <= reply.status < 500, reply
    assert place.send(request("HEAD", f"/v2/{REPO}/blobs/{WHOLE.digest}")).status == 404


CONTENT_RANGES = [
    "abc",
    "-",
    "0-",
    "-5",
    "9-0",
    "1-10",
    "5-14",
    "0-0-9",
    "bytes",
    "bytes=5-14",
    "bytes 5-14/15",
    "bytes */*",
    "items 0-9",
    "0x0-0x9",
    "+0-+9",
    " 1 - 10 ",
    "99999999999999999999-99999999999999999999",
    "0-99999999999999999999999999",
    "9223372036854775807-9223372036854775817",
    "0-8",
    "0-10",
    "0-10000",
    "٠-٩".encode().decode("latin-1"),
    "0-9, 10-19",
    "NaN-9",
]


@pytest.mark.parametrize("content_range", CONTENT_RANGES)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_wrong_content_range_is_refused_and_changes_nothing(
    place: Place, session: str, method: str, content_range: str
) -> None:
    target = session if method == "PATCH" else closing(session, Blob(WHOLE.data[:10]).digest)
    reply = place.send(request(method, target, headers={"Content-Range": content_range}, body=WHOLE.data[:10]))
    assert reply.status in {400, 416}, reply
    assert set(reply.codes()) <= UPLOAD_CODES, reply
    assert_usable(place, session, WHOLE.data[:10])


def test_an_out_of_order_chunk_is_a_416_that_tells_where_to_go_on(place: Place, session: str) -> None:
    assert place.send(request("PATCH", session, headers={"Content-Range": "0-9"}, body=WHOLE.data[:10])).status == 202
    for content_range in ("0-9", "5-14", "11-20", "100-109"):
        reply = place.send(request("PATCH", session, headers={"Content-Range": content_range}, body=b"abcdefghij"))
        assert (reply.status, reply.codes()) == (416, ["RANGE_INVALID"]), content_range
        assert reply.header("range") in {None, "0-9"}
    assert place.offset(session) == 10
    assert_usable(place, session, WHOLE.data[:10])


SESSIONS = [
    "00000000-0000-4000-8000-000000000000",
    "not-a-uuid",
    "..",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fsecret",
    "..%2findex.json",
    "%00",
    "x" * 300,
    "x" * 5000,
    "%ff",
    "00000000-0000-4000-8000-000000000000%00",
    "00000000-0000-4000-8000-000000000000/",
    "00000000-0000-4000-8000-000000000000/data",
    "*",
    "%20",
]


@pytest.mark.parametrize("identifier", SESSIONS)
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_a_session_that_never_was_is_unknown(place: Place, method: str, identifier: str) -> None:
    body = b"x" if method in {"PATCH", "PUT"} else None
    query = f"?digest={WHOLE.digest}" if method == "PUT" else ""
    reply = place.send(request(method, f"/v2/{REPO}/blobs/uploads/{identifier}{query}", body=body))
    assert reply.status in {400, 404, 405}, reply
    codes = {"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "NAME_INVALID", "NOT_FOUND", "UNSUPPORTED"}
    assert set(reply.codes()) <= codes


@pytest.mark.parametrize("repository", [OTHER, "hostile", "hostile/a/b", "hostile/none"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_a_session_belongs_to_its_repository(place: Place, session: str, method: str, repository: str) -> None:
    foreign = session.replace(f"/v2/{REPO}/", f"/v2/{repository}/")
    body = WHOLE.data if method in {"PATCH", "PUT"} else None
    target = closing(foreign, WHOLE.digest) if method == "PUT" else foreign
    reply = place.send(request(method, target, body=body))
    assert (reply.status, reply.codes()) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert place.offset(session) == 0
    assert place.send(request("HEAD", f"/v2/{repository}/blobs/{WHOLE.digest}")).status in {400, 404}


def test_a_cancelled_session_is_gone(place: Place, session: str) -> None:
    assert place.send(request("PATCH", session, body=WHOLE.data)).status == 202
    assert place.send(request("DELETE", session)).status == 204
    for method, body in (("GET", None), ("PATCH", b"x"), ("DELETE", None)):
        reply = place.send(request(method, session, body=body))
        assert (reply.status, reply.codes()) == (404, ["BLOB_UPLOAD_UNKNOWN"]), method


def test_writers_at_once_do_not_mix_their_bytes(place: Place, session: str) -> None:
    """Eight PATCHes of one session, each of a letter of its own: what is stored is whole bodies in some order."""
    letters = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    statuses: list[int] = []
    barrier = threading.Barrier(len(letters))

    def patch(body: bytes) -> None:
        barrier.wait()
        statuses.append(place.send(request("PATCH", session, body=body)).status)

    threads = [threading.Thread(target=patch, args=(body,)) for body in letters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {202, 400, 409, 416}, statuses
    accepted = statuses.count(202)
    assert accepted >= 1
    assert place.offset(session) == accepted * 200_000
    stored = _largest_upload(place)
    parts = [stored[at : at + 200_000] for at in range(0, len(stored), 200_000)]
    assert len(parts) == len(set(parts)) == accepted
    assert set(parts) <= set(letters)


def _largest_upload(place: Place) -> bytes:
    """The bytes of the one upload that is open."""
    return max((file.read_bytes() for file in (place.root / ".uploads").rglob("*") if file.is_file()), key=len)


def test_writers_at_one_offset_have_one_winner(place: Place, session: str) -> None:
    statuses: list[int] = []
    barrier = threading.Barrier(8)
    message = request("PATCH", session, headers={"Content-Range": "0-9999"}, body=WHOLE.data)

    def patch() -> None:
        barrier.wait()
        statuses.append(place.send(message).status)

    threads = [threading.Thread(target=patch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(202) == 1, statuses
    assert set(statuses) <= {202, 409, 416}, statuses
    assert place.offset(session) == 10_000


def test_a_hanging_patch_does_not_block_the_status_of_its_session(place: Place, session: str) -> None:
    hanging = replace(request("PATCH", session, body=WHOLE.data), body=WHOLE.data[:100])
    with socket.create_connection((place.address.host, place.address.port), timeout=60) as connection:
        connection.sendall(hanging.encode())
        assert place.send(request("GET", session)).status == 204
        busy = place.send(request("PATCH", session, headers={"Content-Range": "0-9"}, body=WHOLE.data[:10]))
        assert busy.status in {202, 409, 416}, busy


def test_an_unexpected_body_is_drained_or_cut(place: Place) -> None:
    for method, path in (
        ("GET", f"/v2/{REPO}/manifests/one"),
        ("HEAD", f"/v2/{REPO}/manifests/one"),
        ("DELETE", f"/v2/{REPO}/manifests/none"),
        ("PUT", f"/v2/{REPO}/blobs/{WHOLE.digest}"),
    ):
        message = request(method, path, body=b"x" * 300_000)
        reply = try_send(place.address, message)
        if reply is not None:
            place.inspect(message, reply)
            assert reply.status in {200, 400, 404, 405, 413}, reply


def test_a_second_request_hidden_in_a_body_is_not_answered(place: Place, session: str) -> None:
    hidden = f"DELETE {session} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for fields, body in (
        (((b"Content-Length", str(len(hidden)).encode()),), hidden),
        (((b"Transfer-Encoding", b"chunked"),), chunk(hidden) + b"0\r\n\r\n"),
    ):
        place.send(Request("PUT", f"/v2/{REPO}/manifests/%2e".encode(), fields, body))
        place.send(Request("PATCH", f"/v2/{REPO}/blobs/uploads/none".encode(), fields, body))
    assert place.send(request("GET", session)).status == 204
