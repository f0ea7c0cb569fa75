"""What ``registry access check`` says of rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.cli.main import run
from registry.cli.output import ExitCode
from tests.api.service import serving
from tests.support.payloads import Blob

CONFIG: dict[str, Any] = {
    "auth": {
        "groups": {"team-a": ["alice", "key:0f3a"]},
        "oidc": [{"name": "ci", "issuer": "https://ci.example.org", "audiences": ["registry"]}],
    },
    "access": {
        "rules": [
            {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
            {"who": ["group:team-a"], "repositories": ["team-a/**"], "actions": ["push"]},
            {"who": ["oidc:ci"], "repositories": ["{project}"], "claims": {"ref": "v*"}, "actions": ["push"]},
        ]
    },
}


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return ["--config", str(path)]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["anonymous", "public/a", "pull"], 1),
        (["anonymous", "public/a", "push"], None),
        (["alice", "team-a/x", "pull"], 2),
        (["bob", "team-a/x", "pull"], None),
        (["bob", "team-a/x", "pull", "--group", "team-a"], 2),
        (["key:0f3a", "team-a/x", "push"], 2),
        (["oidc:ci/x", "team/app", "push", "--claim", "project=team/app", "--claim", "ref=v1"], 3),
        (["oidc:ci/x", "team/app", "push", "--claim", "project=team/app"], None),
    ],
)
def test_the_rule_that_allows_it_is_named(
    config: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], rule: int | None
) -> None:
    code = run(["access", "check", *arguments, *config, "--json"])
    assert code == (ExitCode.PROBLEMS if rule is None else ExitCode.DONE)
    said = json.loads(capsys.readouterr().out)
    assert (said["allowed"], said["rule"]) == (rule is not None, rule)
    run(["access", "check", *arguments, *config])
    assert ("no rule allows it" if rule is None else f"rule {rule}:") in capsys.readouterr().out


def test_a_push_is_told_how_full_its_quotas_are_and_no_database_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, path = tmp_path / "root", tmp_path / "config.json"
    quotas = [{"repositories": ["team/**"], "bytes": "1MiB"}, {"repositories": ["other/**"], "bytes": 1}]
    access: dict[str, object] = {"rules": [{"who": ["anonymous"], "repositories": ["**"], "actions": ["push"]}]}
    access["quotas"] = quotas
    path.write_text(json.dumps({"storage": {"root_directory": str(root)}, "access": access}))
    check = ["access", "check", "anonymous", "team/app", "push", "--config", str(path)]
    assert run(check) == ExitCode.DONE
    assert "the quota of team/**: an unknown part of 1.0 MiB (1048576 bytes) used" in capsys.readouterr().out
    assert not root.exists()
    with serving(tmp_path, {"access": access}) as service:
        for name in ("team/app", "team/other"):
            service.push_blob(name, Blob(b"x" * 1000))
    assert run([*check, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["quotas"] == [
        {"repositories": ["team/**"], "used": 1000, "limit": 1 << 20}
    ]
    assert run([*check[:4], "pull", *check[5:]]) == ExitCode.DONE
    assert "quota" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["user:a", "a", "pull"], ["alice", "A", "pull"], ["alice", "a", "read"]])
def test_what_makes_no_sense_is_a_mistake_of_usage(config: list[str], arguments: list[str]) -> None:
    assert run(["access", "check", *arguments, *config]) == ExitCode.USAGE


def test_without_rules_everything_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["access", "check", "anonymous", "a", "delete"]) == ExitCode.DONE
    assert "there are no rules" in capsys.readouterr().out


def test_the_check_of_the_configuration_names_what_no_caller_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("users").write_text("alice:$2b$04$" + "a" * 53 + "\n")
    sso = {"name": "sso", "issuer": "https://sso.example.org", "audiences": ["registry"], "groups": "groups"}
    who = ["alice", "bob", "anonymous", "authenticated", "group:team", "group:other", "group:sso/dev", "external:x"]
    rules = [
        {"who": who, "repositories": ["**"], "actions": ["pull"]},
        {"who": ["key:0f3a", "cert:x"], "repositories": ["**"], "actions": ["delete"]},
    ]
    auth = {"htpasswd": {"file": "users"}, "groups": {"team": ["alice"]}, "oidc": [sso]}
    Path("config.json").write_text(json.dumps({"auth": auth, "access": {"rules": rules}, "http": {"port": 0}}))
    assert run(["config", "check", "--config", "config.json", "--json"]) == ExitCode.DONE
    notes = json.loads(capsys.readouterr().out)["notes"]
    named = [note.split(" has ")[1].split(",")[0] for note in notes if ".who has " in note]
    assert named == ["bob", "group:other", "external:x", "cert:x"]
    auth["certificates"] = {"header": "Client-Cert"}
    Path("config.json").write_text(json.dumps({"auth": auth, "access": {"rules": rules}, "http": {"port": 0}}))
    assert run(["config", "check", "--config", "config.json", "--json"]) == ExitCode.DONE
    assert not any("cert:x" in note for note in json.loads(capsys.readouterr().out)["notes"])
    assert [note for note in notes if "access.rules.1.actions has delete without pull" in note]


@pytest.mark.parametrize(
    ("http", "is_noted"),
    [
        ({"host": "0.0.0.0", "external_url": "https://registry.example.org"}, True),
        ({"host": "0.0.0.0", "external_url": "https://registry.example.org", "trusted_proxies": []}, True),
        ({"host": "0.0.0.0", "external_url": "https://registry.example.org", "trusted_proxies": ["10.0.0.0/8"]}, False),
        ({"host": "127.0.0.1", "external_url": "https://registry.example.org"}, False),
        ({}, False),
    ],
)
def test_the_check_of_the_configuration_names_a_proxy_whose_clients_would_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], http: dict[str, Any], is_noted: bool
) -> None:
    (tmp_path / "users").write_text("alice:$2b$04$" + "a" * 53 + "\n")
    path = tmp_path / "config.json"
    storage = {"root_directory": str(tmp_path / "root")}
    path.write_text(
        json.dumps({"http": http, "storage": storage, "auth": {"htpasswd": {"file": str(tmp_path / "users")}}})
    )
    run(["config", "check", "--config", str(path)])
    assert ("all clients count as one address" in capsys.readouterr().out) == is_noted


def test_the_check_of_the_configuration_names_patterns_that_nothing_can_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    access = {
        "rules": [{"who": ["anonymous"], "repositories": ["ok/**", "storage/**"], "actions": ["pull"]}],
        "immutable": [{"repositories": ["ok/blobs/*"], "tags": ["v*", "a/b"], "except": [".x"]}],
        "quotas": [
            {"repositories": ["ok/**"], "bytes": "1GiB"},
            {"repositories": ["ok/**", "team-/**"], "bytes": 1},
        ],
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"storage": {"root_directory": str(tmp_path)}, "auth": {}, "access": access}))
    assert run(["config", "check", "--config", str(path), "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["notes"] == [
        "access.rules.0.repositories has storage/**, which no repository can be called",
        "access.immutable.0.repositories has ok/blobs/*, which no repository can be called",
        "access.quotas.1.repositories has team-/**, which no repository can be called",
        "access.immutable.0 has the tag a/b, which no tag can be called",
        "access.immutable.0 has the tag .x, which no tag can be called",
    ]


def test_a_quota_without_a_size_is_a_mistake_that_says_how_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"access": {"quotas": [{"repositories": ["a"], "bytes": "10 gigabytes"}]}}))
    assert run(["config", "check", "--config", str(path)]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert "access.quotas.0.bytes" in said.out + said.err
    assert '"10GiB"' in said.out + said.err
