"""The log of requests: whole lines, whatever clients send, and cheap enough for every request."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from registry.observability.request_line import render_json, render_terminal, render_text
from registry.observability.request_log import BATCH_BYTES, RequestLog
from tests.support.interpreter_steps import steps

if TYPE_CHECKING:
    from registry.observability.request_line import Render

RENDERERS: dict[str, Render] = {
    "json": render_json,
    "text": render_text,
    "terminal": render_terminal(colors=False),
}
FORMS = list(RENDERERS)


def add(log: RequestLog, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "request_id": "0123456789abcdef",
        "method": "GET",
        "path": "/v2/team/app/manifests/latest",
        "status": 200,
        "repository": "team/app",
        "digest": f"sha256:{'a' * 64}",
        "bytes_in": 0,
        "bytes_out": 1234,
        "duration_seconds": 0.00234,
        "client": "127.0.0.1",
        "user_agent": "docker/24.0.7",
        "error_code": None,
    }
    log.add(**{**fields, **changes})


def written(form: str, **changes: Any) -> bytes:
    batches: list[bytes] = []
    log = RequestLog(batches.append, RENDERERS[form])
    add(log, **changes)
    log.flush()
    return b"".join(batches)


def test_a_json_line_has_the_fields_of_the_request() -> None:
    line = json.loads(written("json", error_code="NAME_UNKNOWN"))
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert datetime.now(UTC) - at < timedelta(minutes=1)
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "0123456789abcdef",
        "method": "GET",
        "path": "/v2/team/app/manifests/latest",
        "status": 200,
        "repository": "team/app",
        "digest": f"sha256:{'a' * 64}",
        "bytes_in": 0,
        "bytes_out": 1234,
        "duration": 0.00234,
        "client": "127.0.0.1",
        "user_agent": "docker/24.0.7",
        "error_code": "NAME_UNKNOWN",
    }


def test_fields_without_a_value_are_left_out() -> None:
    line = json.loads(written("json", repository=None, digest=None, user_agent=None))
    assert not {"repository", "digest", "user_agent", "error_code"} & line.keys()


def test_a_text_line_can_be_read_by_a_person() -> None:
    line = written("text").decode()
    assert " [info] GET /v2/team/app/manifests/latest 200 in=0 out=1234 duration=0.00234 repository='team/app'" in line


MISSING = f"/v2/team/app/blobs/sha256:{'87d4b8658e32'.ljust(64, '0')}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "200 GET team/app manifest latest 2.3 ms out 1.2 KiB docker/24.0.7"),
        (
            {"method": "HEAD", "path": MISSING, "status": 404, "bytes_out": 0, "error_code": "BLOB_UNKNOWN"},
            "404 HEAD team/app blob 87d4b8658e32 2.3 ms docker/24.0.7",
        ),
        (
            {"path": MISSING, "status": 404, "bytes_out": 99, "error_code": "BLOB_UNKNOWN", "client": "10.0.0.7"},
            "404 GET team/app blob 87d4b8658e32 2.3 ms out 99 B BLOB_UNKNOWN 10.0.0.7 docker/24.0.7",
        ),
        (
            {"method": "PATCH", "path": "/v2/a/blobs/uploads/7c", "bytes_in": 5 << 30, "bytes_out": 0, "status": 202},
            "202 PATCH /v2/a/blobs/uploads/7c 2.3 ms in 5.0 GiB docker/24.0.7",
        ),
        (
            {"status": 503, "error_code": "UNAVAILABLE", "bytes_out": 0, "user_agent": "skopeo/1.9.3 (linux)"},
            "503 GET team/app manifest latest 2.3 ms UNAVAILABLE skopeo/1.9.3 request_id=0123456789abcdef",
        ),
        ({"path": "/readyz", "bytes_out": 33, "user_agent": None}, "200 GET /readyz 2.3 ms out 33 B"),
        ({"path": "/v2/blobs/x", "bytes_out": 0, "user_agent": ""}, "200 GET /v2/blobs/x 2.3 ms"),
    ],
)
def test_a_line_on_a_terminal_is_short_and_shows_unusual_values(changes: dict[str, Any], expected: str) -> None:
    time_of_day, _, rest = written("terminal", **changes).decode().partition(" ")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", time_of_day)
    assert rest == expected + "\n"


@pytest.mark.parametrize(("status", "color"), [(201, "32"), (307, "32"), (404, "33"), (503, "31")])
def test_the_status_has_a_color_where_colors_are_wanted(status: int, color: str) -> None:
    batches: list[bytes] = []
    log = RequestLog(batches.append, render_terminal(colors=True))
    add(log, status=status)
    log.flush()
    assert f" \x1b[{color}m{status}\x1b[0m GET ".encode() in batches[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "hostile",
    [
        "a\nb",
        "a\r\n200 GET /forged",
        "\x1b[31mred",
        "\x00",
        "\x7f",
        "\x9b31m",
        "a\u2028b",
        "\u202egnp.exe",
        "\ud800",
        "é",
    ],
)
def test_no_client_can_forge_a_line(form: str, hostile: str) -> None:
    line = written(form, path=hostile, user_agent=hostile, method=hostile, repository=hostile)
    assert line.endswith(b"\n")
    text = line[:-1].decode()
    assert len(text.splitlines()) == 1 or form == "json"  # JSON keeps U+2028 as itself: no line ends there for a parser
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in text if form != "json")
    assert b"\n" not in line[:-1]
    if form == "json":
        assert json.loads(line)["status"] == 200


def test_long_values_are_cut() -> None:
    assert len(written("json", path="/" * 60_000, user_agent="x" * 60_000)) < 2000


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("character", ["a", "\x00", "\\", '"', "é", "\u2028", "\U0001f600", "\ud800"])
def test_a_line_fits_into_one_write_whatever_is_in_its_fields(form: str, character: str) -> None:
    text = character * 100_000
    fields = ("request_id", "method", "path", "repository", "digest", "client", "user_agent")
    each = [written(form, **{name: text}) for name in fields if name != "request_id"]
    together = written(form, **dict.fromkeys(fields[1:], text))
    assert max(map(len, [*each, together])) <= 4096


def test_lines_wait_for_the_flush_or_for_a_full_batch() -> None:
    batches: list[bytes] = []
    log = RequestLog(batches.append, render_json)
    add(log)
    assert batches == []
    log.flush()
    log.flush()
    assert [batch.count(b"\n") for batch in batches] == [1]
    while len(batches) == 1:
        add(log)
    assert BATCH_BYTES <= len(batches[1]) < BATCH_BYTES + 1000


def test_a_line_costs_little() -> None:
    """Two microseconds when it was measured: 160 instructions, most of them of this test, and 13 calls."""
    log = RequestLog(lambda _data: None, render_json)
    cost = steps(lambda: add(log))
    assert cost.instructions < 200, cost
    assert cost.calls < 18, cost
