"""A line of the audit log: its form, its bounds, and where it goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registry.observability.audit import AuditLog, Event, open_audit_log, operator


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_moment_the_event_and_what_is_known(tmp_path: Path) -> None:
    log = open_audit_log(tmp_path / "audit", with_access=False)
    assert log is not None
    before = datetime.now(UTC)
    log.add(Event.TAG_MOVED, who={"kind": "user", "name": "alice"}, tags=["v1"], rule=None)
    (line,) = lines(tmp_path / "audit")
    assert before <= datetime.fromisoformat(line.pop("time")) <= datetime.now(UTC)
    assert line == {
        "logger": "audit",
        "event": "tag-moved",
        "who": {"kind": "user", "name": "alice"},
        "tags": ["v1"],
    }


def test_text_of_a_client_begins_no_line_and_is_bounded() -> None:
    written: list[bytes] = []
    AuditLog(written.append).add(Event.DENIED, repository="a\nb\udc80", reason="x" * 100_000)
    (line,) = written
    assert line.count(b"\n") == 1
    assert len(line) < 4096
    assert json.loads(line)["repository"].startswith("a\nb")


def test_text_of_a_client_neither_commands_a_terminal_nor_turns_a_line_around() -> None:
    written: list[bytes] = []
    said = "\x9b2J\x1b]0;x\x07\u202eeslaf\u2028new line\x85"
    AuditLog(written.append).add(Event.DENIED, who={"kind": "oidc", "sub": said}, reason=said)
    (line,) = written
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert not set(line[:-1]) & {*range(0x20)}
    assert json.loads(line)["who"]["sub"] == json.loads(line)["reason"] == said


def test_without_a_file_it_goes_to_stderr_where_there_are_rules_and_nowhere_where_there_are_none(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert open_audit_log(None, with_access=False) is None
    log = open_audit_log(None, with_access=True)
    assert log is not None
    log.add(Event.PUT)
    assert json.loads(capfd.readouterr().err)["event"] == "put"
    assert log.dropped == 0


def test_lines_that_a_file_does_not_take_are_counted(tmp_path: Path) -> None:
    (tmp_path / "audit").symlink_to("/dev/full")
    log = open_audit_log(tmp_path / "audit", with_access=False)
    assert log is not None
    log.add(Event.PUT)
    assert log.dropped == 1


def test_a_command_is_run_by_an_account_of_the_machine() -> None:
    assert operator().keys() == {"kind", "name"}
