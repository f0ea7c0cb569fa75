"""``registry key``: a secret that is shown once, and bounds that the settings have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.auth.groups import Groups
from registry.auth.identity import Identity, Kind
from registry.auth.keys.api_keys import ApiKeys
from registry.auth.keys.key_record import DAY
from registry.auth.keys.key_store import KeyStore
from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.database.engine import Database
from registry.observability.audit import operator
from registry.oci import moment
from registry.oci.errors import Unauthorized
from registry.storage.local.driver import LocalDriver

CONFIG = ["--config", "config.json"]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("registry.observability.logs.configure_logging", lambda *_arguments: None)
    Path("users").write_text("alice:$2b$04$" + "a" * 53 + "\n")
    configure({"htpasswd": {"file": "users"}, "keys": {"max_days": 90}})


def configure(auth: dict[str, Any] | None) -> None:
    Path("config.json").write_text(json.dumps({} if auth is None else {"auth": auth}))


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def identify(secret: str) -> Identity:
    """As a server over this storage does it."""
    driver, database = LocalDriver(Path("registry-data")), Database("sqlite:///registry-data/.database/registry.db")
    try:
        keys = ApiKeys(KeyStore(driver, database), database, Groups({}), lambda name: Identity(Kind.USER, name))
        keys.look()
        identity = keys.identify(secret).identity
        keys.write_uses()
        return identity
    finally:
        database.close()
        driver.close()


def test_a_key_is_made_used_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--repository", "team/**", "--action", "pull", "--days", "30", "--description", "for CI"]
    assert run(["key", "create", "--owner", "alice", *bounds, *CONFIG, "--json"]) == ExitCode.DONE
    made = document(capsys)
    secret = made.pop("secret")
    identity = identify(secret)
    assert (identity.name, identity.subject.name) == (made["id"], "alice")
    assert identity.scope is not None
    assert identity.scope.allows("pull", "team/app")
    assert not identity.scope.allows("push", "team/app")

    assert run(["key", "list", *CONFIG, "--json"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert secret not in printed
    (listed,) = json.loads(printed)["keys"]
    assert listed.pop("last_used") is not None
    assert made.pop("last_used") is None
    assert listed == made

    assert run(["rebuild", *CONFIG]) == ExitCode.DONE
    assert identify(secret).name == made["id"]

    assert run(["key", "revoke", made["id"], *CONFIG]) == ExitCode.DONE
    with pytest.raises(Unauthorized):
        identify(secret)
    assert run(["key", "revoke", made["id"], *CONFIG]) == ExitCode.PROBLEMS
    capsys.readouterr()
    assert run(["key", "list", *CONFIG, "--json"]) == ExitCode.DONE
    assert document(capsys) == {"keys": []}


def test_the_secret_is_the_last_line_and_nowhere_on_storage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "create", *CONFIG]) == ExitCode.DONE
    secret = capsys.readouterr().out.splitlines()[-1]
    assert identify(secret).subject.kind is Kind.KEY
    files = [path for path in Path("registry-data").rglob("*") if path.is_file()]
    assert any(path.parent.name == "keys" for path in files)
    assert not any(secret.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--owner", "mallory"],
        ["create", "--days", "91"],
        ["create", "--days", "0"],
        ["create", "--days", "-1"],
        ["create", "--repository", "Team"],
        ["create", "--repository", "{project}"],
        ["create", "--action", "everything"],
        ["revoke", "../../x"],
        ["revoke", "alice"],
    ],
    ids=" ".join,
)
def test_what_means_nothing_is_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", *arguments, *CONFIG]) == ExitCode.USAGE
    assert not Path("registry-data/.auth").exists()


@pytest.mark.parametrize("auth", [None, {"keys": {"enabled": False}}])
def test_no_key_is_made_where_keys_are_not_in_use(
    auth: dict[str, Any] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(auth)
    assert run(["key", "create", *CONFIG]) == ExitCode.USAGE
    assert "not in use" in capsys.readouterr().err


def test_the_list_has_the_end_that_the_settings_allow_by_now(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "create", "--owner", "alice", "--days", "80", *CONFIG, "--json"]) == ExitCode.DONE
    made = document(capsys)
    configure({"htpasswd": {"file": "users"}, "keys": {"max_days": 10}})
    assert run(["key", "list", *CONFIG, "--json"]) == ExitCode.DONE
    (shown,) = document(capsys)["keys"]
    created, before, now = (moment.to_seconds(text) for text in (made["created"], made["expires"], shown["expires"]))
    assert created is not None
    assert (before, now) == (created + 80 * DAY, created + 10 * DAY)


def test_the_account_that_made_and_revoked_a_key_is_in_the_audit_log(capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads(Path("config.json").read_text())
    Path("config.json").write_text(json.dumps({**settings, "log": {"audit": {"file": "audit"}}}))
    assert run(["key", "create", "--owner", "alice", *CONFIG, "--json"]) == ExitCode.DONE
    made = document(capsys)
    assert run(["key", "revoke", made["id"], *CONFIG]) == ExitCode.DONE
    assert run(["key", "revoke", made["id"], *CONFIG]) == ExitCode.PROBLEMS
    text = Path("audit").read_text()
    created, revoked = (json.loads(line) for line in text.splitlines())
    assert (created["event"], revoked["event"]) == ("key-created", "key-revoked")
    assert created["key"] == revoked["key"] == made["id"]
    assert created["who"] == revoked["who"] == operator()
    assert (created["owner"], created["expires"]) == ("alice", made["expires"])
    assert made["secret"] not in text


def test_a_key_is_in_the_audit_log_on_stderr_where_no_file_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "create", "--owner", "alice", *CONFIG, "--json"]) == ExitCode.DONE
    printed = capfd.readouterr()
    assert json.loads(printed.err.splitlines()[-1])["key"] == json.loads(printed.out)["id"]


def test_no_key_is_made_where_its_line_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads(Path("config.json").read_text())
    Path("config.json").write_text(json.dumps({**settings, "log": {"audit": {"file": "nowhere/audit"}}}))
    assert run(["key", "create", "--owner", "alice", *CONFIG]) == ExitCode.UNFINISHED
    assert not Path("registry-data/.auth").exists()
