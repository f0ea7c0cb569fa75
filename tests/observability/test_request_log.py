"""The log of requests: whole lines, whatever clients send, and cheap enough for every request."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from registry.observability.request_log import BATCH_BYTES, LineWriter, RequestLog

FORMS: list[Literal["text", "json"]] = ["text", "json"]
BUDGET_SECONDS = 2e-6
NOISE = 4
"""What a busy machine may add to the fastest of several rounds."""


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


def written(form: Literal["text", "json"], **changes: Any) -> bytes:
    batches: list[bytes] = []
    log = RequestLog(batches.append, form)
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
def test_no_client_can_forge_a_line(form: Literal["text", "json"], hostile: str) -> None:
    line = written(form, path=hostile, user_agent=hostile, method=hostile, repository=hostile)
    assert line.endswith(b"\n")
    text = line[:-1].decode()
    assert len(text.splitlines()) == 1 or form == "json"  # JSON keeps U+2028 as itself: no line ends there for a parser
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in text if form == "text")
    assert b"\n" not in line[:-1]
    if form == "json":
        assert json.loads(line)["status"] == 200


def test_long_values_are_cut() -> None:
    assert len(written("json", path="/" * 60_000, user_agent="x" * 60_000)) < 2000


def test_lines_wait_for_the_flush_or_for_a_full_batch() -> None:
    batches: list[bytes] = []
    log = RequestLog(batches.append, "json")
    add(log)
    assert batches == []
    log.flush()
    log.flush()
    assert [batch.count(b"\n") for batch in batches] == [1]
    while len(batches) == 1:
        add(log)
    assert BATCH_BYTES <= len(batches[1]) < BATCH_BYTES + 1000


def test_a_line_costs_two_microseconds() -> None:
    log = RequestLog(lambda _data: None, "json")

    def cost() -> float:
        started = time.process_time()
        for _ in range(2000):
            add(log)
        return (time.process_time() - started) / 2000

    assert min(cost() for _ in range(10)) < BUDGET_SECONDS * NOISE


def test_lines_of_several_writers_to_one_pipe_are_never_mixed() -> None:
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 1 << 16):
            received.extend(data)

    def write(letter: bytes) -> None:
        writer = LineWriter(writing)
        for _ in range(20):
            writer(b"".join(letter * length + b"\n" for length in range(1, 900, 7)))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    os.close(writing)
    reader.join()
    os.close(reading)
    lines = bytes(received).splitlines()
    assert len(lines) == 3 * 20 * len(range(1, 900, 7))
    assert all(len(set(line)) == 1 for line in lines)


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    os.close(reading)
    writer(b"line\n")
    os.close(writing)
    with Path("/dev/full").open("wb") as full:
        LineWriter(full.fileno())(b"line\n")


def test_a_file_gets_every_byte(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        LineWriter(file.fileno())(b"line\n" * 100_000)
    assert (tmp_path / "log").read_bytes() == b"line\n" * 100_000
