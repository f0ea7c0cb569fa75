"""Logs of ours and of libraries come out in one form, one event per line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

SCRIPT = """
import logging, warnings, structlog, sys
from registry.observability.logs import configure_logging, open_request_log
configure_logging(sys.argv[1], sys.argv[2])
log = structlog.get_logger("registry.test")
log.debug("hidden")
log.info("hello", repository="team/app", agent="a\\nb\\x1b[1m")
logging.getLogger("uvicorn.error").warning("from %s", "uvicorn", extra={"color_message": "colour"})
logging.getLogger("uvicorn.access").error("never")
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


def test_not_a_terminal_means_json() -> None:
    assert json.loads(logged("auto").splitlines()[0])["event"] == "hello"


def test_text_escapes_what_would_begin_a_line() -> None:
    first, second, *_rest = logged("text").splitlines()
    assert first.endswith(r"[info] hello agent=a\nb\x1b[1m repository=team/app")
    assert second.endswith("[warning] from uvicorn")


def test_a_level_hides_what_is_below_it_and_the_requests() -> None:
    events = [json.loads(line) for line in logged("json", "error").splitlines()]
    assert [event["event"] for event in events] == ["failed"]


def test_a_terminal_means_text() -> None:
    master, terminal = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT, "auto", "info"], stderr=terminal) as process:
        os.close(terminal)
        output = b""
        try:
            while data := os.read(master, 4096):
                output += data
        except OSError:  # how a pseudo terminal says that its other end is closed
            pass
        assert process.wait(60) == 0
    os.close(master)
    assert b"hello" in output.splitlines()[0]
    assert b"{" not in output.splitlines()[0]
