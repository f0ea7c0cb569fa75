"""Logs of ours and of libraries come out in one form, one event per line."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from io import StringIO

import pytest

from registry.observability.logs import only_warnings

SCRIPT = """
import logging, warnings, structlog, sys
from registry.observability.logs import configure_logging, open_request_log
configure_logging(sys.argv[1], sys.argv[2])
log = structlog.get_logger("registry.test")
log.debug("hidden")
log.info("hello", repository="team/app", agent="a\\nb\\x1b[1m")
logging.getLogger("uvicorn.error").warning("from %s", "uvicorn", extra={"color_message": "colour"})
logging.getLogger("uvicorn.access").error("never")
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
logging.getLogger("sqlalchemy.engine").info("never")
warnings.warn("careful")
try:
    raise ValueError("bad\\nvalue")
except ValueError:
    log.exception("failed")
requests = open_request_log(sys.argv[1], sys.argv[2])
if requests is not None:
    requests.add("id", "GET", "/v2/", 200, None, None, 0, 2, 0.1, None, None, None)
    requests.flush()
"""


LONG = """
import logging, structlog, sys
from registry.observability.logs import configure_logging
configure_logging(sys.argv[1], "info")
long = "begin " + "x" * 5_000_000 + " end"
log = structlog.get_logger("registry.test")
log.info(long, text=long, listed=[long] * 3, deep={"key": {long: long}}, number=7 ** 1_000_000, **{long: 1})
logging.getLogger("library").warning("it says %s", long, extra={"more": long})
try:
    raise ValueError(long)
except ValueError:
    log.exception("failed", short=[1, {"a": "b"}])
"""


def logged(form: str, level: str = "info") -> str:
    command = [sys.executable, "-W", "default", "-c", SCRIPT, form, level]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done.stderr


def test_json_is_one_object_per_line_with_utc_times() -> None:
    events = [json.loads(line) for line in logged("json").splitlines()]
    assert [event["level"] for event in events] == ["info", "warning", "warning", "error", "info"]
    assert events[0]["event"] == "hello"
    assert events[0]["agent"] == "a\nb\x1b[1m"
    assert all(event["timestamp"].endswith("Z") for event in events)
    assert events[1]["event"] == "from uvicorn"
    assert "color_message" not in events[1]
    assert "careful" in events[2]["event"]
    assert "ValueError: bad\nvalue" in events[3]["exception"]
    assert events[4]["event"] == "request"


def test_every_line_of_json_begins_with_the_same_fields() -> None:
    events = [json.loads(line) for line in logged("json").splitlines()]
    assert [list(event)[:3] for event in events] == [["timestamp", "level", "event"]] * 5
    named = [event["logger"] for event in events[:4]]
    assert named == ["registry.test", "uvicorn.error", "py.warnings", "registry.test"]
    assert all(list(event)[3] == "logger" for event in events[:4])


def test_a_client_that_speaks_tls_to_a_plain_port_is_worth_no_warning() -> None:
    assert "Invalid HTTP" not in logged("json")
    (event,) = [json.loads(line) for line in logged("json", "debug").splitlines() if "Invalid HTTP" in line]
    assert event["level"] == "debug"


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_field_of_a_line_is_bounded_and_says_so(form: str) -> None:
    command = [sys.executable, "-c", LONG, form]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    events = [line for line in done.stderr.splitlines() if " [" in line or line.startswith("{")]
    assert len(done.stderr) < 150_000
    assert all("characters ..." in event for event in (events if form == "json" else events[:2]))
    assert "ValueError: begin xxx" in done.stderr
    if form == "json":
        info, warning, error = map(json.loads, events)
        assert info["text"].startswith("begin xxx")
        assert info["text"].endswith("xxx end")
        assert warning["event"].startswith("it says begin")
        assert (error["event"], error["short"]) == ("failed", [1, {"a": "b"}])
        assert error["exception"].startswith("Traceback")


def test_not_a_terminal_means_json() -> None:
    assert json.loads(logged("auto").splitlines()[0])["event"] == "hello"


def test_text_escapes_characters_that_would_begin_a_line() -> None:
    first, second, *_rest = logged("text").splitlines()
    assert first.endswith(r"[info] hello agent=a\nb\x1b[1m repository=team/app")
    assert second.endswith("[warning] from uvicorn [uvicorn.error]")


def test_a_level_hides_lower_levels_and_the_requests() -> None:
    events = [json.loads(line) for line in logged("json", "error").splitlines()]
    assert [event["event"] for event in events] == ["failed"]


def on_terminal(**environment: str) -> list[str]:
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, "auto", "info"]
    with subprocess.Popen(command, stderr=terminal, env=os.environ | environment) as process:
        os.close(terminal)
        output = b""
        try:
            while data := os.read(master, 4096):
                output += data
        except OSError:  # how a pseudo terminal says that its other end is closed
            pass
        assert process.wait(60) == 0
    os.close(master)
    return output.decode().splitlines()


def test_a_terminal_means_short_text_with_colors() -> None:
    lines = on_terminal(NO_COLOR="")
    assert re.match(r"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \[.*info.*\].*hello", lines[0])
    assert re.fullmatch(r"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[32m200\x1b\[0m GET /v2/ 100\.0 ms out 2 B", lines[-1])


def test_a_terminal_without_colors_has_none() -> None:
    lines = on_terminal(NO_COLOR="1")
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info\] hello agent=a\\nb\\x1b\[1m repository=team/app", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d 200 GET /v2/ 100\.0 ms out 2 B", lines[-1])


def test_under_a_progress_bar_there_are_warnings_alone_and_where_the_bar_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, above_bar = StringIO(), StringIO()
    handler = logging.StreamHandler(usual)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    log = logging.getLogger("registry.test")
    with only_warnings(above_bar):
        log.info("hidden")
        log.warning("shown")
    log.info("again")
    assert (above_bar.getvalue(), usual.getvalue()) == ("shown\n", "again\n")
