"""The tags of an upstream, which pages them as it likes, or does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from registry.mirror.remote_pages import Bounds
from registry.mirror.remote_tags import RemoteTags, TagList
from registry.upstream.errors import (
    AddressRefused,
    AnswerInvalid,
    UpstreamError,
    UpstreamSilent,
    UpstreamStatus,
    UpstreamUnavailable,
)
from tests.mirror.hostile_mirror import APP
from tests.upstream.hostile import Handler, HostileServer, hostile_server, upstream_of, whole

PATH = f"/v2/{APP}/tags/list"
SMALL = Bounds(4096, 5, 30.0)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def tags_of(server: HostileServer, *, bounds: Bounds = SMALL, most: int = 100, **keys: Any) -> list[str]:
    with upstream_of(server.url(), **keys) as upstream:
        return RemoteTags(upstream, bounds=bounds, most=most).list(APP).after("", 1000)


def page(tags: Sequence[str] | None, **more: object) -> bytes:
    return json.dumps({"name": APP, "tags": tags, **more}).encode()


def give_pages(server: HostileServer, tags: Sequence[str], size: int, *, link: str = "{}", path: str = PATH) -> None:
    """Pages of ``size`` whatever is asked for; ``link`` has the path of the next one in it."""

    def reply(handler: Handler) -> None:
        after = parse_qs(urlsplit(handler.path).query).get("last", [""])[0]
        start = tags.index(after) + 1 if after else 0
        shown = tags[start : start + size]
        more = start + size < len(tags)
        headers = {"Link": f'<{link.format(f"{path}?last={shown[-1]}&n={size}")}>; rel="next"'} if more else {}
        handler.answer(200, page(shown), **headers)

    server.replies[path] = reply


@pytest.mark.parametrize("link", ["{}", "http://127.0.0.1:{{}}{}"])
def test_pages_in_any_order_are_one_sorted_list(server: HostileServer, link: str) -> None:
    link = link.replace("{{}}", str(server.port))
    give_pages(server, ["b", "a", "Z", "1.10", "1.9", "latest"], 2, link=link)
    assert tags_of(server) == ["1.10", "1.9", "Z", "a", "b", "latest"]
    assert len(server.seen) == 3
    assert server.paths()[0] == f"{PATH}?n=1000"


def test_a_page_that_is_the_whole_list_is_taken_as_it_is(server: HostileServer) -> None:
    server.replies[PATH] = whole(200, page(["b", "a", "b"], manifest={"sha256:x": {"tag": ["a"]}}, child=[]))
    assert tags_of(server) == ["a", "b"]


@pytest.mark.parametrize("body", [b'{"name": "x", "tags": null}', b'{"name": "x", "tags": []}', b'{"name": "x"}'])
def test_a_repository_may_have_no_tag(server: HostileServer, body: bytes) -> None:
    server.replies[PATH] = whole(200, body)
    assert tags_of(server) == []


def test_what_is_no_tag_is_left_out(server: HostileServer) -> None:
    server.replies[PATH] = whole(200, b'{"tags": ["v1", 1, null, "", "-x", "a/b", "..", "' + b"x" * 129 + b'"]}')
    assert tags_of(server) == ["v1"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'["v1"]', b'"v1"', b'{"tags": "v1"}', b'{"tags": {}}'])
def test_what_is_no_list_is_an_error(server: HostileServer, body: bytes) -> None:
    server.replies[PATH] = whole(200, body)
    with pytest.raises(AnswerInvalid, match=r"127\.0\.0\.1: a page of tags is no list"):
        tags_of(server)


@pytest.mark.parametrize("status", [204, 400, 404, 405, 410])
def test_a_list_that_is_not_there_is_told_by_its_status(server: HostileServer, status: int) -> None:
    server.replies[PATH] = whole(status)
    with pytest.raises(UpstreamStatus) as raised:
        tags_of(server)
    assert raised.value.status == status


@pytest.mark.parametrize("status", [404, 410, 500])
def test_a_further_page_that_is_not_there_is_no_absence(server: HostileServer, status: int) -> None:
    give_pages(server, ["a", "b"], 1)
    server.replies[f"{PATH}?last=a&n=1"] = whole(status)
    with pytest.raises(UpstreamError) as raised:
        tags_of(server)
    assert isinstance(raised.value, AnswerInvalid | UpstreamUnavailable)


@pytest.mark.parametrize("target", [f"{PATH}?n=1000", f"{PATH}?n=1", PATH])
def test_pages_that_go_in_a_circle_are_left(server: HostileServer, target: str) -> None:
    server.replies[PATH] = whole(200, page(["a"]), Link=f'<{target}>; rel="next"')
    with pytest.raises(AnswerInvalid, match="in a circle"):
        tags_of(server)
    assert len(server.seen) <= 2


def test_pages_without_an_end_are_bounded(server: HostileServer) -> None:
    def reply(handler: Handler) -> None:
        number = int(parse_qs(urlsplit(handler.path).query).get("page", ["0"])[0])
        handler.answer(200, page([]), Link=f'<{PATH}?page={number + 1}>; rel="next"')

    server.replies[PATH] = reply
    with pytest.raises(AnswerInvalid, match="more than 5 pages"):
        tags_of(server)
    assert len(server.seen) == 5


def test_more_tags_than_a_list_may_have_are_an_error(server: HostileServer) -> None:
    give_pages(server, [f"v{number}" for number in range(12)], 4)
    with pytest.raises(AnswerInvalid, match="more than 10 tags"):
        tags_of(server, most=10)
    assert len(tags_of(server, most=12)) == 12


def test_more_bytes_than_all_pages_may_have_are_an_error(server: HostileServer) -> None:
    give_pages(server, [f"v{number}" + "x" * 90 for number in range(10)], 2)
    with pytest.raises(AnswerInvalid, match=r"more than \d+ bytes"):
        tags_of(server, bounds=SMALL._replace(size=600))


def test_a_page_of_more_values_than_memory_should_hold_is_not_decoded(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.mirror.remote_tags._VALUES", 10)
    server.replies[PATH] = whole(200, b'{"tags": [' + b"[]," * 20 + b"[]]}")
    with pytest.raises(AnswerInvalid, match="more than 10 values"):
        tags_of(server)


def test_pages_that_take_too_long_are_left(server: HostileServer) -> None:
    def hang(handler: Handler) -> None:
        handler.hostile.ended.wait(60)

    give_pages(server, ["a", "b"], 1)
    server.replies[f"{PATH}?last=a&n=1"] = hang
    with pytest.raises(UpstreamSilent):
        tags_of(server, bounds=SMALL._replace(seconds=0.5))


def test_a_page_elsewhere_is_asked_for_as_the_guard_allows_and_without_credentials(
    server: HostileServer, tmp_path: Any
) -> None:
    (tmp_path / "password").write_text("secret")
    credentials = {"kind": "basic", "username": "u", "password_file": tmp_path / "password"}

    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization", "").startswith("Basic"):
            handler.answer(200, page(["a"]), Link=f'<{other.url("cdn.example.org")}{PATH}>; rel="next"')
        else:
            handler.answer(401, WWW_Authenticate='Basic realm="x"')

    with hostile_server() as other:
        server.replies[PATH] = guarded
        other.replies[PATH] = whole(200, page(["b"]))
        with pytest.raises(AddressRefused):
            tags_of(server, credentials=credentials)
        assert other.seen == []
        assert tags_of(server, credentials=credentials, allowed_hosts=["cdn.example.org"]) == ["a", "b"]
        assert ["authorization" in seen.headers for seen in other.seen] == [False]


def test_a_list_gives_every_page_of_its_tags() -> None:
    tags = sorted({f"{number % 7}.{number}" for number in range(500)} | {"a", "Z", "_"})
    made = TagList(reversed(tags))
    assert len(made) == len(tags)
    for size in (1, 7, 1000):
        found: list[str] = []
        while shown := made.after(found[-1] if found else "", size):
            found += shown
        assert found == tags
    assert made.after("1.x", 1) == [next(tag for tag in tags if tag > "1.x")]
    assert TagList([]).after("", 5) == []


def test_the_largest_list_is_small_in_memory() -> None:
    assert TagList(f"{number:0128}" for number in range(100_000)).size < 14 << 20
