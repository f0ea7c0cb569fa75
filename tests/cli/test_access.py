"""What ``registry access check`` says of rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.cli.main import run
from registry.cli.output import ExitCode

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
    assert [note for note in notes if "access.rules.1.actions has delete without pull" in note]
