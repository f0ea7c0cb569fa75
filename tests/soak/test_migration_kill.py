"""Real SIGKILLs of a migration, in every phase: the same command again ends as without a kill."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from registry.config.settings import Settings
from registry.images.layout import COLLECTION_STATE
from registry.images.registry import Registry
from tests.soak.budget import FULL, SEED, announce, budget
from tests.support.buckets import place
from tests.support.commands import Command, finish
from tests.support.fault_proxy import FaultProxy
from tests.support.migrated_bucket import MAKE, check_served
from tests.support.payloads import Blob, image
from tests.support.registry_world import push_blob, push_manifest
from tests.support.s3_server import S3Server
from tests.support.servers import program
from tests.support.source_world import AMD, ON_AMD, SHARED, Repository, repositories

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600), pytest.mark.tools("versitygw")]

DEATHS = budget(sample=1, full=25)
"""Of each phase, in each way to the end, over each layout."""
LAYOUTS = list(MAKE) if FULL else ["zot-without-prefix", "distribution"]
LAYER = Blob(b"pushed since")
PUSHED = image(AMD, [SHARED, LAYER])
HUNG = 600.0
"""Seconds after which a command hangs."""
ENDS = {"rollback": "rolled-back", "finalize": "finalized"}
TIMES = re.compile(rb'("io\.stowage\.(?:pushed|tagged)":)"[^"]*"')
"""When something was pushed, in an index of ours."""
OF_A_RUN = {"revision", "passes", "writer", "began", "changed"}
"""What the state tells of commands and times, and not of the bucket."""


@dataclass
class Migration:
    """A bucket that is migrated by commands over a proxy, with a database of its own."""

    directory: Path
    layout: str
    store: S3Server
    proxy: FaultProxy
    bucket: str = field(init=False)
    databases: int = 0
    deaths: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.bucket = self.store.new_bucket()
        root = "zot/" if self.layout == "zot" else ""
        place(self.store, self.bucket, [{root + key: data for key, data in MAKE[self.layout](repositories()).items()}])
        self.lose_database()

    def lose_database(self) -> None:
        """From now on there is a new one."""
        self.databases += 1
        self._write("config.json", self.proxy.url)
        self._write("direct.json", self.store.endpoint)

    def _write(self, name: str, endpoint: str) -> None:
        root = "zot" if self.layout == "zot" else "/"
        config = {
            "storage": self.store.storage(self.bucket, endpoint) | {"root_directory": root},
            "database": {"url": f"sqlite:///{self.directory / f'cache-{self.databases}.db'}"},
            "migration": {"parallel": 4},
        }
        (self.directory / name).write_text(json.dumps(config))

    def started(self, *options: str) -> Command:
        """The command, running."""
        command = [*program(), "migrate-s3-storage", "--json", "--config", str(self.directory / "config.json")]
        return Command([*command, *options], directory=self.directory)

    def run(self, *options: str) -> dict[str, Any]:
        """What the command says, which ends well."""
        return ended(self.started(*options))

    def rebuild(self) -> None:
        """``registry rebuild``."""
        command = [*program(), "rebuild", "--config", str(self.directory / "config.json")]
        assert finish(command, directory=self.directory, timeout=HUNG).returncode == 0

    def killed_after(self, request: int, *options: str) -> None:
        """The command, killed when the store has answered so many requests, unless it has ended before."""
        self.proxy.reset_calls()
        process = self.started(*options)

        def kill(count: int) -> None:
            if count == request:
                process.kill()

        self.proxy.notice(kill)
        try:
            self._died(process.ended(HUNG))
        finally:
            self.proxy.notice(None)

    def killed_at(self, seconds: float, *options: str) -> None:
        """The command, killed after so many seconds, unless it has ended before."""
        process = self.started(*options)
        try:
            self._died(process.ended(seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            self._died(process.ended())

    def _died(self, process: subprocess.CompletedProcess[bytes]) -> None:
        assert process.returncode in {0, -signal.SIGKILL}
        self.deaths += process.returncode != 0

    def change(self) -> None:
        """What clients do: they push to what was there, and to what was not, and delete."""
        with self.registry() as registry:
            for name in ("app", "brand/new"):
                for blob in (AMD, SHARED, LAYER):
                    push_blob(registry, blob.data, name)
                push_manifest(registry, PUSHED, "since", name=name)
            registry.manifests.untag("team/web", "stable", actor="client")
            registry.fold_waiting()

    def registry(self) -> _Opened:
        """A registry on it, for a block, past the proxy."""
        return _Opened(Settings(**json.loads((self.directory / "direct.json").read_text())))

    def objects(self) -> dict[str, Any]:
        """The bucket, but for times, and what tells how often the command was run."""
        top = self.store.data / self.bucket
        found: dict[str, Any] = {}
        for path in top.rglob("*"):
            key = str(path.relative_to(top))
            if not path.is_file() or "/.journal/" in key or key.rpartition("/")[0].endswith(".probe"):
                continue
            if key.endswith(COLLECTION_STATE):  # of the database that was rebuilt
                continue
            found[key] = TIMES.sub(rb"\1", path.read_bytes())
            if key.endswith("/state.json"):
                state = {name: value for name, value in json.loads(found[key]).items() if name not in OF_A_RUN}
                found[key] = state | {"read_only": state["read_only"] and state["read_only"]["reason"]}
            elif key.endswith("/.original.json"):  # without a fingerprint the next migration reads the repository again
                found[key] = json.loads(found[key]) | {"fingerprint": None}
        return found


class _Opened:
    def __init__(self, settings: Settings) -> None:
        self._registry = Registry.open(settings)

    def __enter__(self) -> Registry:
        return self._registry

    def __exit__(self, *exc: object) -> None:
        self._registry.close()


def unhashed(objects: dict[str, Any]) -> dict[str, Any]:
    """But for which source objects were hashed.

    What clients pushed is ours without a look at a source object of the same bytes. A new database does not know that
    it was hashed, so it is copied once more, and its source object is hashed for that.
    """
    found = dict(objects)
    for key, data in objects.items():
        if key.endswith(".jsonl") and "/blobs/" in key:
            lines = [json.loads(line) for line in data.splitlines()]
            places = [[place | {"verified": None} for place in line["at"]] for line in lines]
            found[key] = [line | {"at": at} for line, at in zip(lines, places, strict=True)]
    return found


def ended(process: Command) -> dict[str, Any]:
    """What the command says, which ends well."""
    done = process.ended(HUNG)
    assert done.returncode == 0, (done.stdout.decode(), done.stderr.decode()[-2000:])
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def content() -> list[Repository]:
    """What is there in the end."""
    found = repositories()
    found[0].tags["since"] = PUSHED
    found[0].blobs.append(LAYER)
    del found[1].tags["stable"]
    found.append(Repository("brand/new", {"since": PUSHED}, [], [AMD, SHARED, LAYER]))
    assert found[0].tags["amd"] is ON_AMD
    return found


@pytest.fixture
def proxy(store: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(store.port, secret=store.secret) as between:
        yield between


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_at_any_instant_it_ends_as_without_a_kill(
    layout: str, end: str, store: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    announce()
    chance = random.Random(f"{SEED} {layout} {end}")
    phases = ("--adopt-only",), (), (f"--{end}",)
    whole = Migration(tmp_path / "whole", layout, store, proxy)
    requests, seconds = {}, {}
    for phase in phases:
        proxy.reset_calls()
        began = time.monotonic()
        state = whole.run(*phase)["state"]
        requests[phase], seconds[phase] = len(proxy.calls()), time.monotonic() - began
        if phase == ("--adopt-only",):
            whole.change()
    assert state == ENDS[end]
    expected, killed = whole.objects(), 0
    for death in range(DEATHS):
        one = Migration(tmp_path / f"killed-{death}", layout, store, proxy)
        for phase in phases:
            if (death + (end == "finalize")) % 2:  # a sample of one death has both over each layout
                one.killed_at(chance.uniform(0.1, 0.8 * seconds[phase]), *phase)
            else:
                one.killed_after(chance.randrange(1, requests[phase]), *phase)
            if lost := chance.random() < 0.4:
                one.lose_database()
                if chance.random() < 0.5:
                    one.rebuild()
            print(f"death {death} in {phase}, database lost: {lost}")  # noqa: T201 - shown with a failure
            assert one.run(*phase)["problems"] == []
            if phase == ("--adopt-only",):
                one.change()
        found = unhashed(one.objects()) if one.databases > 1 else one.objects()
        assert found == (unhashed(expected) if one.databases > 1 else expected)
        with one.registry() as registry:
            check_served(registry, content())
        killed += one.deaths
    assert killed >= DEATHS * len(phases) // 4, "those after a time may come too late"


def test_a_second_instance_is_refused_while_one_runs(store: S3Server, proxy: FaultProxy, tmp_path: Path) -> None:
    one = Migration(tmp_path / "bucket", "distribution", store, proxy)
    proxy.delay = 0.4
    first = one.started("--adopt-only")
    while len(proxy.calls()) < 3:
        assert first.poll() is None
        time.sleep(0.02)
    second = one.started("--adopt-only")
    refused = second.ended(HUNG)
    assert first.poll() is None, "it has ended too early to be in the way"
    assert refused.returncode == 3, refused
    assert json.loads(refused.stdout)["error"]
    proxy.clear()
    assert ended(first)["state"] == "adopted"
    assert one.run()["state"] == "consolidated"
