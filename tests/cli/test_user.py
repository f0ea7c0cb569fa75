"""``registry user``: where the password comes from, where it goes, and where not."""

from __future__ import annotations

import io
import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.cli.main import run
from registry.cli.output import ExitCode

PRIVATE = 0o600


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("registry.observability.logs.configure_logging", lambda *_arguments: None)


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def verifies(user: str, password: str) -> bool:
    return parse_htpasswd(Path("users").read_bytes())[user].verify(password)


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("scheme", ["argon2id", "bcrypt"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_password_is_a_line_of_standard_input(monkeypatch: pytest.MonkeyPatch, scheme: str, end: bytes) -> None:
    typed(monkeypatch, "s é cret ".encode() + end)
    assert run(["user", "add", "alice", "--file", "users", "--scheme", scheme]) == ExitCode.DONE
    assert verifies("alice", "s é cret ")
    assert f"{'$2b$' if scheme == 'bcrypt' else '$argon2id$'}" in Path("users").read_text()


def test_a_user_is_added_changed_listed_and_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, b"first\n")
    run(["user", "add", "alice", "--file", "users", "--scheme", "bcrypt"])
    Path("config.json").write_text(json.dumps({"auth": {"htpasswd": {"file": "users"}}}))
    typed(monkeypatch, b"second\n")
    capsys.readouterr()
    assert run(["user", "passwd", "alice", "--config", "config.json", "--scheme", "bcrypt", "--json"]) == ExitCode.DONE
    assert document(capsys) == {"user": "alice", "done": "changed"}
    assert verifies("alice", "second")
    assert not verifies("alice", "first")
    assert run(["user", "list", "--config", "config.json", "--json"]) == ExitCode.DONE
    assert document(capsys) == {"users": ["alice"]}
    assert run(["user", "remove", "alice", "--config", "config.json"]) == ExitCode.DONE
    assert parse_htpasswd(Path("users").read_bytes()) == {}


def test_the_file_that_the_settings_name_is_made_with_its_first_user(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.json").write_text(json.dumps({"auth": {"htpasswd": {"file": "users"}}}))
    assert run(["user", "list", "--config", "config.json"]) == ExitCode.DONE
    typed(monkeypatch, b"absent\n")
    assert run(["user", "passwd", "alice", "--config", "config.json"]) == ExitCode.USAGE
    assert run(["user", "remove", "alice", "--config", "config.json"]) == ExitCode.USAGE
    assert not Path("users").exists(), "only add makes it"
    typed(monkeypatch, b"secret\n")
    assert run(["user", "add", "alice", "--config", "config.json", "--scheme", "bcrypt"]) == ExitCode.DONE
    assert verifies("alice", "secret")
    assert stat.S_IMODE(Path("users").stat().st_mode) == PRIVATE


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["absent", "directory"])
def test_nothing_starts_without_the_file_of_users(
    kind: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP__PORT", "0")
    if kind == "directory":
        Path("users").mkdir()
    Path("config.json").write_text(json.dumps({"auth": {"htpasswd": {"file": "users"}}}))
    assert run([*arguments, "--config", "config.json"]) == ExitCode.USAGE
    printed = capsys.readouterr().err
    assert "auth.htpasswd.file" in printed
    assert "config.json" in printed
    assert "registry user add" in printed


@pytest.mark.parametrize(
    ("arguments", "password"),
    [
        (["add", "bob", "--file", "users"], b""),
        (["add", "bob", "--file", "users"], b"\n"),
        (["add", "bob", "--file", "users"], b"\xff\n"),
        (["add", "bob", "--file", "users", "--scheme", "bcrypt"], b"x" * 73),
        (["add", "a:b", "--file", "users"], b"x"),
        (["add", "bob"], b"x"),
        (["passwd", "bob", "--file", "users"], b"x"),
        (["remove", "bob", "--file", "users"], b""),
        (["add", "bob", "--file", "users", "--password", "secret"], b""),
        (["add", "bob", "secret", "--file", "users"], b""),
    ],
)
def test_what_cannot_be_done_changes_nothing_and_is_bad_usage(
    arguments: list[str], password: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, password)
    assert run(["user", *arguments]) == ExitCode.USAGE
    assert run(["user", *arguments, "--json"]) == ExitCode.USAGE
    assert not Path("users").exists()


def test_a_terminal_is_asked_twice_and_shows_nothing() -> None:
    command = [
        str(Path(sys.executable).parent / "registry"),
        "user",
        "add",
        "alice",
        "--file",
        "users",
        "--scheme",
        "bcrypt",
    ]
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True, close_fds=True
    ) as process:
        os.close(follower)
        shown = b""
        for _ in range(2):
            while not shown.endswith(b": "):
                shown += os.read(leader, 1024)
            os.write(leader, b"secret\n")
            shown += b"|"
        try:
            while data := os.read(leader, 1024):
                shown += data
        except OSError:  # the other end is closed
            pass
        assert process.wait(60) == 0
    os.close(leader)
    assert b"secret" not in shown
    assert verifies("alice", "secret")


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"]], ids=" ".join)
def test_a_file_that_is_wrong_is_told_before_anything_starts(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP__PORT", "0")
    Path("users").write_text("# one\nalice:secret\n")
    Path("config.json").write_text(json.dumps({"auth": {"htpasswd": {"file": "users"}}}))
    assert run([*arguments, "--config", "config.json"]) == ExitCode.USAGE
    printed = capsys.readouterr().err
    assert "auth.htpasswd.file" in printed
    assert "line 2" in printed
    assert "secret" not in printed
