"""A mirror asks a hostile upstream: every failure is told apart, bounded in time and bytes, and shows no secret."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.observability.metrics.instruments import Instruments
from registry.observability.metrics.upstream_metrics import UpstreamMetrics
from registry.upstream.answer import LARGEST_HEAD
from registry.upstream.errors import (
    AddressRefused,
    AnswerInvalid,
    UpstreamDenied,
    UpstreamError,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from registry.upstream.url import parse_url
from tests.upstream.hostile import LOCAL, Handler, HostileServer, local, redirect, upstream_of, whole

OPEN = ("127.0.0.0/8",)
"""Redirects of a test lead to this machine."""


def test_an_answer_is_read_and_its_connection_used_again(server: HostileServer) -> None:
    server.replies["/v2/a"] = whole(200, b"hello", ETag='"x"')
    with upstream_of(server.url()) as upstream:
        for _ in range(3):
            with upstream.request("GET", "/v2/a", headers={"Accept": "text/plain"}) as answer:
                assert (answer.status, answer.length, answer.headers["etag"]) == (200, 5, '"x"')
                assert answer.document(5, 5) == b"hello"
        with upstream.request("HEAD", "/v2/a") as answer:
            assert (answer.status, answer.length, answer.read(10)) == (200, 5, b"")
        with upstream.request("GET", "/v2/absent") as answer:
            assert answer.status == 404
            assert b"".join(iter(lambda: answer.read(4), b"")) == b"nothing here"
    assert len(server.connections) == 1
    assert [seen.headers["accept-encoding"] for seen in server.seen] == ["identity"] * 5
    assert server.seen[0].headers["accept"] == "text/plain"
    assert all("authorization" not in seen.headers and "cookie" not in seen.headers for seen in server.seen)


def test_nothing_is_asked_before_it_is_wanted(server: HostileServer) -> None:
    with upstream_of(server.url()):
        assert not server.connections


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 405, 410, 416, 451])
def test_a_status_that_says_something_of_the_content_is_the_callers(server: HostileServer, status: int) -> None:
    server.replies["/v2/a"] = whole(status)
    with upstream_of(server.url()) as upstream, upstream.request("HEAD", "/v2/a") as answer:
        assert answer.status == status


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {}, UpstreamDenied),
        (401, {"WWW_Authenticate": "Negotiate"}, UpstreamDenied),
        (401, {"WWW_Authenticate": "Basic realm=x"}, UpstreamDenied),
        (401, {"WWW_Authenticate": "Bearer realm=nowhere"}, AnswerInvalid),
        (403, {}, UpstreamDenied),
        (408, {}, UpstreamUnavailable),
        (429, {}, UpstreamThrottled),
        (500, {}, UpstreamUnavailable),
        (502, {"Retry_After": "5"}, UpstreamUnavailable),
        (503, {}, UpstreamUnavailable),
        (503, {"Retry_After": "5"}, UpstreamThrottled),
        (599, {}, UpstreamUnavailable),
        (302, {}, AnswerInvalid),
        (302, {"Location": "ftp://example.org/"}, AnswerInvalid),
    ],
)
def test_a_status_that_says_nothing_of_the_content_is_an_error(
    server: HostileServer, status: int, headers: dict[str, str], error: type[UpstreamError]
) -> None:
    server.replies["/v2/a"] = whole(status, b"SECRET", **headers)
    with upstream_of(server.url()) as upstream, pytest.raises(UpstreamError, match=LOCAL) as raised:
        upstream.request("GET", "/v2/a?token=SECRET")
    assert type(raised.value) is error
    assert "SECRET" not in str(raised.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize(("value", "seconds"), [("120", 120), ("soon", None)])
def test_the_pause_that_an_upstream_wants_is_told(server: HostileServer, value: str, seconds: float | None) -> None:
    server.replies["/v2/a"] = whole(429, Retry_After=value)
    with upstream_of(server.url()) as upstream, pytest.raises(UpstreamThrottled) as raised:
        upstream.request("GET", "/v2/a")
    assert raised.value.seconds == seconds


def closed_port() -> int:
    with socket.create_server((LOCAL, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_server_that_cannot_be_reached_is_told_with_the_reason(server: HostileServer) -> None:
    for url, words in (
        (f"http://{LOCAL}:{closed_port()}", "does not accept a connection$"),
        ("http://absent.example.org", "name is not known"),
        (f"https://{LOCAL}:{server.port}", "TLS failed"),
    ):
        with upstream_of(url) as upstream, pytest.raises(UpstreamUnavailable, match=words) as raised:
            upstream.request("GET", "/v2/a")
        assert type(raised.value) is UpstreamUnavailable, "that is no silence"


def drip(handler: Handler, head: bytes) -> None:
    handler.close_connection = True
    handler.wfile.write(head)
    while not handler.hostile.ended.wait(0.02):
        handler.wfile.write(b"x")


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\nX: ", b"HTTP/1.1 200 OK\r\nX: y\r\n" * 20]
)
def test_a_head_that_comes_byte_by_byte_is_given_up_in_time(server: HostileServer, head: bytes) -> None:
    server.replies["/v2/a"] = lambda handler: drip(handler, head)
    with upstream_of(server.url()) as upstream:
        began = time.monotonic()
        with pytest.raises(UpstreamUnavailable):
            upstream.request("GET", "/v2/a", seconds=0.5)
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
def test_a_document_that_comes_byte_by_byte_is_given_up_in_time(server: HostileServer, framing: bytes) -> None:
    server.replies["/v2/a"] = lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
    with (
        upstream_of(server.url()) as upstream,
        upstream.request("GET", "/v2/a") as answer,
        pytest.raises(UpstreamUnavailable),
    ):
        answer.document(1 << 20, 0.5)


def test_a_body_whose_trailers_never_end_is_given_up(server: HostileServer) -> None:
    def reply(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
        while not handler.hostile.ended.wait(0.02):
            handler.wfile.write(b"X: y\r\n")

    server.replies["/v2/a"] = reply
    with upstream_of(server.url()) as upstream, upstream.request("GET", "/v2/a") as answer:
        answer._piece_seconds = 0.5
        assert answer.read(100) == b"hello"
        while answer.read(100):  # it ends: the standard library takes the end of a connection for that of trailers
            pass


def test_a_silent_server_is_given_up_in_time(server: HostileServer) -> None:
    def hang(handler: Handler) -> None:
        handler.hostile.ended.wait()

    server.replies["/v2/a"] = hang
    with upstream_of(server.url()) as upstream, pytest.raises(UpstreamUnavailable, match="silent"):
        upstream.request("GET", "/v2/a", seconds=0.3)
    with upstream_of(server.url(), read_timeout=0.3) as upstream, pytest.raises(UpstreamUnavailable, match="silent"):
        upstream.request("GET", "/v2/a")


def test_a_body_that_ends_too_early_is_no_body(server: HostileServer) -> None:
    def cut(handler: Handler) -> None:
        handler.answer(200, b"hello", Content_Length="10")
        handler.cut()

    def cut_chunk(handler: Handler) -> None:
        handler.answer(200, b"a\r\nhello", Transfer_Encoding="chunked")
        handler.cut()

    server.replies.update({"/v2/a": cut, "/v2/b": cut_chunk})
    with upstream_of(server.url()) as upstream:
        for path in ("/v2/a", "/v2/b"):
            with upstream.request("GET", path) as answer, pytest.raises(UpstreamUnavailable, match="body"):
                answer.document(100, 5)


def test_a_document_is_bounded_whatever_it_says_of_its_length(server: HostileServer) -> None:
    def chunked(handler: Handler) -> None:
        handler.answer(200, b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked")

    server.replies.update({"/v2/a": whole(200, b"x" * 100), "/v2/b": chunked})
    with upstream_of(server.url()) as upstream:
        for path in ("/v2/a", "/v2/b"):
            assert upstream.request("GET", path).document(100, 5) == b"x" * 100
            with pytest.raises(AnswerInvalid, match="more than 99 bytes"):
                upstream.request("GET", path).document(99, 5)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Encoding": "gzip"},
        {"Content_Encoding": "zstd"},
        {"Content_Length": "5", "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "gzip, chunked"},
        {"Content_Length": "-1"},
        {"Content_Length": "five"},
        {"Content_Length": "\u0665"},
        {f"X{number}": "x" * 1000 for number in range(LARGEST_HEAD // 1000)},
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_read_as_it_is_is_refused(server: HostileServer, headers: dict[str, str]) -> None:
    server.replies["/v2/a"] = whole(
        200, gzip.compress(b"hello"), **{k: v.encode().decode("latin-1") for k, v in headers.items()}
    )
    with upstream_of(server.url()) as upstream, pytest.raises(AnswerInvalid):
        upstream.request("GET", "/v2/a")


@pytest.mark.parametrize(
    "lines", [[b"X: " + b"x" * 70_000], [b"X: y"] * 1000, [b"Content-Length: 5", b"Content-Length: 6"]]
)
def test_a_head_without_end_or_sense_is_refused(server: HostileServer, lines: list[bytes]) -> None:
    def reply(handler: Handler) -> None:
        handler.wfile.write(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]))
        handler.cut()

    server.replies["/v2/a"] = reply
    with upstream_of(server.url()) as upstream, pytest.raises((AnswerInvalid, UpstreamUnavailable)):
        upstream.request("GET", "/v2/a")


def test_an_idle_connection_that_was_closed_costs_nothing(server: HostileServer) -> None:
    answers = iter([200, None, 200])

    def reply(handler: Handler) -> None:
        status = next(answers)
        handler.cut() if status is None else handler.answer(status, b"hello")

    server.replies["/v2/a"] = reply
    with upstream_of(server.url()) as upstream:
        for _ in range(2):
            assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"


def test_connections_to_a_server_are_bounded(server: HostileServer) -> None:
    server.replies["/v2/a"] = whole(200, b"hello")
    with upstream_of(server.url(), connections=1, connect_timeout=0.2) as upstream:
        first = upstream.request("GET", "/v2/a")
        with pytest.raises(UpstreamUnavailable, match="in use"):
            upstream.request("GET", "/v2/a")
        first.close()
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"


def test_redirects_are_followed_five_times(server: HostileServer) -> None:
    for number in range(6):
        server.replies[f"/{number}"] = redirect(f"/{number + 1}", (301, 302, 303, 307, 308, 307)[number])
    server.replies["/5"] = whole(200, b"hello")
    with upstream_of(server.url()) as upstream:
        answer = upstream.request("GET", "/0")
        assert (answer.document(10, 5), str(answer.url)) == (b"hello", f"{server.url()}/5")
        server.replies["/5"] = redirect("/6")
        server.replies["/6"] = whole(200)
        with pytest.raises(AnswerInvalid, match="more than 5"):
            upstream.request("GET", "/0")
    assert "/6" not in server.paths()


@pytest.mark.parametrize(
    "location", ["http://user:SECRET@127.0.0.1/", "//", "http://[::1", "\x01", "file:///etc/passwd"]
)
def test_a_redirect_to_nowhere_is_told(server: HostileServer, location: str) -> None:
    server.replies["/v2/a"] = redirect(location)
    with (
        upstream_of(server.url(), allowed_hosts=OPEN) as upstream,
        pytest.raises(AnswerInvalid, match="redirect") as raised,
    ):
        upstream.request("GET", "/v2/a")
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    "host",
    [
        LOCAL,
        "localhost",
        "[::1]",
        "169.254.169.254",
        "[::ffff:10.0.0.1]",
        "2130706433",
        "cdn.example.org",
        "mixed.example.org",
    ],
)
def test_a_redirect_into_the_private_network_is_refused_before_a_connection(
    server: HostileServer, other: HostileServer, host: str
) -> None:
    server.replies["/v2/a"] = redirect(f"http://{host}:{other.port}/x?SECRET")
    metrics, names = (
        Instruments(),
        {"mixed.example.org": ["8.8.8.8", LOCAL], "localhost": [LOCAL], "2130706433": [LOCAL]},
    )
    with (
        upstream_of(server.url(), resolver=local(further=names), metrics=UpstreamMetrics(metrics)) as upstream,
        pytest.raises(AddressRefused, match="allowed_hosts") as raised,
    ):
        upstream.request("GET", "/v2/a")
    assert "SECRET" not in str(raised.value)
    assert not other.connections
    assert (
        'registry_upstream_requests_total{method="GET",mirror="hub",result="refused"} 1.0' in metrics.render().decode()
    )


@pytest.mark.parametrize("allowed", ["cdn.example.org", "*.example.org", "127.0.0.1", "127.0.0.0/8"])
def test_the_settings_open_a_private_host(server: HostileServer, other: HostileServer, allowed: str) -> None:
    server.replies["/v2/a"] = redirect(f"{other.url('cdn.example.org')}/x")
    other.replies["/x"] = whole(200, b"hello")
    with upstream_of(server.url(), allowed_hosts=[allowed]) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"
    assert other.seen[0].headers["host"] == f"cdn.example.org:{other.port}"


def test_a_name_is_resolved_once_for_a_connection_which_goes_to_what_was_checked(
    server: HostileServer, other: HostileServer
) -> None:
    asked: list[str] = []
    resolver = local()
    look_up = resolver._look_up

    def count(host: str) -> list[str]:
        asked.append(host)
        return list(look_up(host)) if asked.count(host) == 1 else ["192.0.2.1"]

    resolver._look_up = count
    server.replies["/v2/a"] = redirect(f"{other.url('cdn.example.org')}/x")
    other.replies["/x"] = whole(200, b"hello")
    with upstream_of(server.url(), resolver=resolver, allowed_hosts=OPEN) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"
    assert asked == ["cdn.example.org"]


def test_the_next_address_of_a_name_is_tried(server: HostileServer) -> None:
    server.replies["/v2/a"] = whole(200, b"hello")
    names = {"two.example.org": ["127.9.9.9", LOCAL]}
    with upstream_of(server.url("two.example.org"), resolver=local(further=names)) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"


def test_the_next_url_is_asked_where_one_does_not_answer(server: HostileServer, other: HostileServer) -> None:
    server.replies["/base/v2/a"] = whole(502)
    other.replies["/v2/a"] = whole(200, b"hello")
    with upstream_of(f"{server.url()}/base/", other.url()) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"
        server.replies["/base/v2/a"] = whole(404)
        assert upstream.request("GET", "/v2/a").status == 404
        server.replies["/base/v2/a"] = whole(429)
        with pytest.raises(UpstreamThrottled):
            upstream.request("GET", "/v2/a")
    assert server.paths() == ["/base/v2/a"] * 3
    assert other.paths() == ["/v2/a"]


def test_a_page_elsewhere_is_asked_for_through_the_guard(server: HostileServer, other: HostileServer) -> None:
    other.replies["/next"] = whole(200, b"page")
    with upstream_of(server.url()) as upstream, pytest.raises(AddressRefused):
        upstream.request_at("GET", parse_url(f"{other.url('cdn.example.org')}/next"))
    with upstream_of(server.url(), allowed_hosts=OPEN) as upstream:
        assert upstream.request_at("GET", parse_url(f"{other.url()}/next")).document(10, 5) == b"page"


def test_a_proxy_is_asked_for_the_server(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://registry.example.org:8080"
    server.replies[f"{url}/v2/a"] = whole(200, b"by proxy")
    server.replies["/v2/a"] = whole(200, b"direct")
    proxy = server.url().replace("://", "://user:p%40ss@")
    with upstream_of(url, proxy=proxy.replace("user:p%40ss@", "")) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"by proxy"
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", LOCAL)
    with upstream_of(url, server.url(), proxy="environment") as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"by proxy"
    assert server.seen[-1].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    with upstream_of(server.url(), proxy="environment") as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"direct"


def test_through_a_proxy_a_redirect_to_a_host_without_a_name_in_the_settings_is_refused(server: HostileServer) -> None:
    url = "http://registry.example.org:8080"
    server.replies[f"{url}/v2/a"] = redirect("http://cdn.example.org/x")
    server.replies["http://cdn.example.org/x"] = whole(200, b"hello")
    with upstream_of(url, proxy=server.url()) as upstream, pytest.raises(AddressRefused, match="proxy"):
        upstream.request("GET", "/v2/a")
    with upstream_of(url, proxy=server.url(), allowed_hosts=["cdn.example.org"]) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"


def test_a_proxy_that_refuses_is_told(server: HostileServer) -> None:
    with (
        upstream_of("https://registry.example.org", proxy=server.url()) as upstream,
        pytest.raises(UpstreamUnavailable, match=r"registry\.example\.org"),
    ):
        upstream.request("GET", "/v2/a")
    assert (server.seen[0].method, server.seen[0].path) == ("CONNECT", "registry.example.org:443")


def test_everything_is_counted(server: HostileServer) -> None:
    server.replies["/v2/a"] = whole(200, b"hello", RateLimit_Remaining="76;w=21600")
    server.replies["/v2/b"] = whole(500)
    make = Instruments()
    with upstream_of(server.url(), metrics=UpstreamMetrics(make)) as upstream:
        upstream.request("GET", "/v2/a").document(10, 5)
        with pytest.raises(UpstreamUnavailable):
            upstream.request("HEAD", "/v2/b")
    text = make.render().decode()
    for line in (
        'registry_upstream_requests_total{method="GET",mirror="hub",result="200"} 1.0',
        'registry_upstream_requests_total{method="HEAD",mirror="hub",result="500"} 1.0',
        'registry_upstream_received_bytes_total{mirror="hub"} 5.0',
        'registry_upstream_ratelimit_remaining{mirror="hub"} 76.0',
        'registry_upstream_request_duration_seconds_count{mirror="hub"} 2.0',
    ):
        assert line in text


def test_many_threads_share_the_connections(server: HostileServer) -> None:
    server.replies["/v2/a"] = whole(200, b"hello" * 1000)
    barrier = threading.Barrier(8)

    def ask(_: int) -> bytes:
        barrier.wait()
        return b"".join(upstream.request("GET", "/v2/a").document(5000, 30) for _ in range(10))

    with upstream_of(server.url(), connections=4) as upstream, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"hello" * 10_000}
    assert len(server.connections) <= 4
