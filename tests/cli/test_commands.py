"""What callers of the command may rely on: exit codes, one JSON document on stdout, mistakes that name their key."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.cli import examples
from registry.cli.main import run
from registry.cli.output import ExitCode, command
from registry.config.settings import Settings
from registry.database.errors import DatabaseUnavailable, SchemaTooNew
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageUnavailable


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def untouched_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands configure the logging of their process; here it is that of all tests."""
    monkeypatch.setattr("registry.observability.logs.configure_logging", lambda *_arguments: None)


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_check_finds_nothing_wrong_with_the_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP__PORT", "0")  # something may listen on the default
    assert run(["config", "check"]) == ExitCode.DONE
    assert capsys.readouterr().out == "The configuration is valid.\n"


def test_check_names_settings_without_effect_and_a_port_in_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("REGISTRY_HTTP__PORT", str(other.getsockname()[1]))
        assert run(["config", "check"]) == ExitCode.DONE
        valid, in_use, ignored = capsys.readouterr().out.splitlines()
        assert run(["config", "check", "--json"]) == ExitCode.DONE
    assert valid == "The configuration is valid."
    assert document(capsys)["notes"] == [in_use, ignored]
    assert "REGISTRY_STORAGE__DELETE" in ignored


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"]], ids=" ".join)
def test_passwords_of_another_registry_refuse_the_start(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd")
    assert run(arguments) == ExitCode.USAGE
    assert "REGISTRY_AUTH_HTPASSWD_PATH" in capsys.readouterr().err


def test_check_names_a_database_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.json").write_text('{"database": {"url": "postgresql://nobody:secret@127.0.0.1:9/registry"}}')
    assert run(["config", "check", "--config", "config.json"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert said.startswith("registry: database.url (config.json): the database does not answer: ")
    assert "127.0.0.1" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "check"],
        ["config", "show"],
        ["serve"],
        ["rebuild"],
        ["migrate-s3-storage", "--dry-run"],
        ["db", "upgrade"],
    ],
    ids=" ".join,
)
def test_a_configuration_mistake_names_its_key_in_every_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.json").write_text('{"storage": {"fsynk": true}}')
    assert run([*arguments, "--config", "config.json"]) == ExitCode.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "registry: storage.fsynk (config.json): there is no such key; did you mean storage.fsync?\n"

    assert run([*arguments, "--config", "config.json", "--json"]) == ExitCode.USAGE
    printed = capsys.readouterr()
    assert printed.err == ""
    (problem,) = json.loads(printed.out)["problems"]
    assert (problem["key"], problem["source"]) == ("storage.fsynk", "config.json")


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"]], ids=" ".join)
def test_mistakes_that_depend_on_this_machine_are_found_by_check_and_before_serving(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setenv("REGISTRY_STORAGE__ROOT_DIRECTORY", "file")
    assert run(arguments) == ExitCode.USAGE
    assert "storage.root_directory (REGISTRY_STORAGE__ROOT_DIRECTORY): " in capsys.readouterr().err


def test_show_prints_every_value_and_no_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_DATABASE__URL", "postgresql+psycopg://user:hunter2@host/db")
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        assert run(arguments) == ExitCode.DONE
        printed = capsys.readouterr().out
        assert "hunter2" not in printed
        assert json.loads(printed).keys() == Settings.model_fields.keys()


@pytest.mark.parametrize(
    "command", [["config", "check"], ["config", "show"], ["serve"], ["db", "upgrade"], ["rebuild"]]
)
@pytest.mark.parametrize(
    "url", ["postgresql://user:hunter2@host:port/db", "postgresql://u:hunter2@[x/db", "postgresql://u:hun@ter2@host/db"]
)
def test_a_database_whose_url_cannot_be_read_is_named_by_its_key(
    command: list[str], url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_DATABASE__URL", url)
    assert run([*command, "--json"]) == ExitCode.USAGE
    printed = capsys.readouterr()
    assert json.loads(printed.out)["problems"][0]["key"] == "database.url"
    assert "ter2" not in printed.out + printed.err


@pytest.mark.parametrize("command", [["config", "check"], ["db", "upgrade"], ["rebuild"]])
def test_a_parameter_that_a_database_does_not_know_is_named_and_not_its_value(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_DATABASE__URL", "postgresql+psycopg://user:hunter2@127.0.0.1:9/db?passwd=hunter2")
    monkeypatch.setenv("REGISTRY_HTTP__PORT", "0")
    assert run([*command, "--json"]) == ExitCode.USAGE
    printed = capsys.readouterr()
    (problem,) = json.loads(printed.out)["problems"]
    assert problem["key"] == "database.url"
    assert "passwd" in problem["message"]
    assert "hunter2" not in printed.out + printed.err


@pytest.mark.parametrize("command", [["config", "check"], ["db", "upgrade"], ["rebuild"]])
def test_a_database_that_refuses_tells_no_password(
    command: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_DATABASE__URL", "postgresql+psycopg://user:hunter2@127.0.0.1:9/db?password=hunter3")
    monkeypatch.setenv("REGISTRY_LOG__LEVEL", "debug")
    monkeypatch.setenv("REGISTRY_HTTP__PORT", "0")
    assert run([*command, "--json"]) in {ExitCode.USAGE, ExitCode.UNFINISHED}
    printed = capfd.readouterr()
    assert "127.0.0.1" in printed.out
    assert "hunter" not in printed.out + printed.err


def test_schema_is_a_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema", "--json"]) == ExitCode.DONE
    assert document(capsys)["properties"].keys() == Settings.model_fields.keys()


def test_upgrade_brings_the_schema_up_and_says_from_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "upgrade", "--json"]) == ExitCode.DONE
    first = document(capsys)
    assert first["before"] is None
    assert Path("registry-data/.database/registry.db").is_file()
    assert run(["db", "upgrade", "--json"]) == ExitCode.DONE
    assert document(capsys) == {"before": first["after"], "after": first["after"]}
    assert run(["db", "upgrade"]) == ExitCode.DONE
    assert "already up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["config", "bogus"], ["config", "check", "--bogus"], ["serve", "more"]]
)
def test_bad_usage_is_told_apart(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("registry: ")
    assert run([*arguments, "--json"]) == ExitCode.USAGE
    assert document(capsys)["error"] == "usage"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("Usage: registry")


def test_every_command_has_a_help_text_and_both_options(capsys: pytest.CaptureFixture[str]) -> None:
    commands = (
        ["serve"],
        ["config", "check"],
        ["config", "show"],
        ["config", "schema"],
        ["rebuild"],
        ["migrate-s3-storage"],
        ["db", "upgrade"],
        *(["user", name] for name in ("add", "passwd", "remove", "list")),
        *(["key", name] for name in ("create", "list", "revoke")),
        ["access", "check"],
    )
    for arguments in commands:
        assert run([*arguments, "--help"]) == ExitCode.DONE
        text = capsys.readouterr().out
        assert "--config FILE" in text
        assert "--json" in text
        assert "REGISTRY_<SECTION>__<KEY>" in " ".join(text.split())
        assert "Examples:\n  " in text
        assert "`" not in text
        assert "range>" not in text
        assert len(text.splitlines()[2]) > 20, text


@pytest.mark.parametrize(
    "arguments", [["-h"], ["config", "-h"], ["db", "-h"], ["user", "-h"], ["key", "-h"], ["access", "-h"]], ids=" ".join
)
def test_summaries_of_commands_are_not_cut(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.DONE
    _, _, listed = capsys.readouterr().out.partition("Commands:\n")
    assert listed
    assert "..." not in listed


def test_help_explains_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "config", "check"]) == run(["config", "check", "--help"]) == ExitCode.DONE
    first, second = capsys.readouterr().out.split("Usage: ")[1:]
    assert first == second
    assert run(["help"]) == ExitCode.DONE
    assert "Commands:" in capsys.readouterr().out
    assert run(["help", "bogus"]) == ExitCode.USAGE


def test_each_example_of_a_help_text_is_a_command_that_exists() -> None:
    for name, text in vars(examples).items():
        if not name.isupper():
            continue
        for line in text.splitlines()[2:]:
            words = line.split()
            arguments = words[words.index("registry") + 1 :]
            known = [word for word in arguments if not re.search(r"[./>]|^\d+$", word)]
            assert (
                run([*known[: 1 + (known[0] in {"config", "db", "user", "key", "access"})], "--help"]) == ExitCode.DONE
            )


def test_the_version_is_that_of_the_package() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "registry", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert re.fullmatch(r"registry \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (SchemaTooNew("later"), ExitCode.REFUSED, "refused"),
        (DatabaseUnavailable("gone"), ExitCode.UNFINISHED, "unfinished"),
        (StorageUnavailable("key", "gone"), ExitCode.UNFINISHED, "unfinished"),
        (Unavailable(), ExitCode.UNFINISHED, "unfinished"),
        (OSError(28, "No space left on device"), ExitCode.UNFINISHED, "unfinished"),
        (KeyboardInterrupt(), ExitCode.UNFINISHED, "unfinished"),
        (ZeroDivisionError("a defect"), ExitCode.UNFINISHED, "unfinished"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_a_lower_layer_becomes_an_exit_code(
    error: BaseException, code: ExitCode, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    with pytest.raises(typer.Exit) as ended, command(as_json=True):
        raise error
    assert ended.value.exit_code == code
    assert document(capsys)["error"] == word
    with pytest.raises(typer.Exit), command(as_json=False):
        raise error
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--help"], ["pydantic", "structlog"]),
        (["config", "check"], ["fastapi", "sqlalchemy", "uvicorn", "prometheus_client"]),
    ],
    ids=["--help", "config check"],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], unneeded: list[str]) -> None:
    code = (
        f"import sys; from registry.cli.main import run; run({arguments});"
        f"print([name for name in {unneeded} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
