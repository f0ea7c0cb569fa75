"""A process that makes or revokes an API key is killed after each of its steps; its database may be lost as well."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.auth.keys.key_administration import KeyAdministration
from registry.auth.keys.key_secret import KeySecret
from registry.auth.keys.key_store import KeyStore
from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.clocks import Clocks
from registry.oci.errors import Unauthorized
from tests.auth.keys.place import Keys
from tests.support.commands import finish
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed

PROGRAM = Path(sys.executable).parent / "registry"
SECRET = KeySecret.make()
OWNER = "alice"


@pytest.fixture(autouse=True)
def known_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test knows the secret, also where the process dies before it tells it."""
    monkeypatch.setattr(KeySecret, "make", classmethod(lambda _cls: SECRET))


def administration(keys: Keys, store: KeyStore | None = None) -> KeyAdministration:
    return KeyAdministration(store or keys.store, keys.database, keys.users.__contains__, 90, lambda: keys.now)


def create(process: KeyAdministration) -> None:
    process.create(owner=OWNER, repositories=[], actions=[], days=None, description="", most=5)


def revoke(process: KeyAdministration) -> None:
    process.revoke(SECRET.key_id)


def killed(keys: Keys, work: Callable[[KeyAdministration], None], at: int | None) -> int:
    """Do it in a process that ends after the step ``at``. Returns how many steps there were."""
    doom = Doom(at)
    database = DyingDatabase(keys.url, doom, Clocks())
    try:
        with contextlib.suppress(Killed):
            work(administration(keys, KeyStore(DyingDriver(keys.driver, doom), database)))
    finally:
        database.close()
    return doom.steps


def steps_of(work: Callable[[KeyAdministration], None], directory: Path, *, is_there: bool) -> int:
    keys = Keys(directory)
    if is_there:
        create(administration(keys))
    steps = killed(keys, work, None)
    keys.database.close()
    assert steps
    return steps


def is_good(keys: Keys) -> bool:
    try:
        keys.process().identify(SECRET.text)
    except Unauthorized:
        return False
    return True


def is_listed(keys: Keys) -> bool:
    process = administration(keys)
    found = [key.record.key_id for key in process.all()]
    assert [key.record.key_id for key in process.page("", 10, owner=OWNER)] == found
    assert (process.find(SECRET.key_id) is not None) is bool(found)
    return bool(found)


@pytest.mark.parametrize("loses_database", [False, True])
def test_a_key_that_works_is_listed_and_can_be_revoked_wherever_its_making_was_killed(
    tmp_path: Path, loses_database: bool
) -> None:
    for at in range(1, steps_of(create, tmp_path / "count", is_there=False) + 1):
        keys = Keys(tmp_path / f"{at}")
        killed(keys, create, at)
        if loses_database:
            keys = Keys(tmp_path / f"{at}-anew", keys.driver)
        assert is_good(keys) is is_listed(keys), at
        if is_listed(keys):
            assert administration(keys).revoke(SECRET.key_id)
            assert not is_good(keys)
        create(administration(keys))  # as the operator does it that saw no secret; the test has no other one
        assert is_good(keys)
        assert is_listed(keys)
        keys.database.close()


@pytest.mark.parametrize("loses_database", [False, True])
def test_a_key_that_is_listed_no_more_is_forgotten_wherever_its_revocation_was_killed(
    tmp_path: Path, loses_database: bool
) -> None:
    for at in range(1, steps_of(revoke, tmp_path / "count", is_there=True) + 1):
        keys = Keys(tmp_path / f"{at}")
        create(administration(keys))
        serving = keys.process()
        serving.look()
        identity, generation = serving.identify(SECRET.text).identity, serving.generation
        killed(keys, revoke, at)
        serving.look()
        remembers = serving.is_current(identity, generation)
        assert not remembers or is_listed(keys), f"{at}: what no list has is taken from memory"
        assert not is_good(keys) or is_listed(keys), at
        if loses_database:
            keys = Keys(tmp_path / f"{at}-anew", keys.driver)
            assert not is_good(keys) or is_listed(keys), at
        was_listed = is_listed(keys)
        assert administration(keys).revoke(SECRET.key_id) is was_listed
        assert not is_good(keys)
        assert not is_listed(keys)
        if not loses_database:
            serving.look()
            assert not serving.is_current(identity, generation)
        keys.database.close()


@pytest.mark.parametrize("command", ["create", "revoke"])
def test_the_command_killed_by_a_signal_leaves_no_key_that_no_list_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("registry.observability.logs.configure_logging", lambda *_arguments: None)
    Path("users").write_text("alice:$2b$04$" + "a" * 53 + "\n")
    Path("config.json").write_text(json.dumps({"auth": {"htpasswd": {"file": "users"}}}))
    known, options = SECRET.key_id, ["--config", "config.json"]
    arguments = ["create", "--owner", OWNER] if command == "create" else ["revoke", known]
    if command == "revoke":
        assert run(["key", "create", *options]) == ExitCode.DONE
    for step in range(1, 20):
        doomed = [str(PROGRAM), str(step), "key", *arguments, *options]
        done = finish(doomed, directory=tmp_path, module="tests.support.killed_command")
        capsys.readouterr()
        assert run(["key", "list", *options, "--json"]) == ExitCode.DONE
        listed = [key["id"] for key in json.loads(capsys.readouterr().out)["keys"]]
        stored = [path.stem for path in Path("registry-data/.auth/keys").glob("*.json")]
        assert sorted(stored) == listed
        if done.returncode != -signal.SIGKILL:
            break
        assert step < 19
    assert done.returncode == ExitCode.DONE or (command == "revoke" and listed == [])
