"""A process of its own that has a hub, and clients that wait in it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from registry.database.engine import Database
from registry.images.backends import Backends
from registry.images.registry import Registry
from registry.mirror.remote_blob import RemoteBlob
from registry.oci.digest import Digest
from tests.images.fetching.scripted import Cut, hub_of, in_threads
from tests.storage.drivers import case_named
from tests.upstream.hostile import upstream_of

LEASE = 2.0
"""Seconds."""


def open_registry(case: str, root: Path, database_url: str) -> Registry:
    return Registry(Backends(case_named(case).open(root), Database(database_url)))


def fetch(
    case: str, root: Path, database_url: str, server_url: str, path: str, digest: str, clients: int, report: Path
) -> None:
    """Let so many clients wait, and report what each has at its end."""
    registry = open_registry(case, root, database_url)
    with (
        upstream_of(server_url) as upstream,
        hub_of(registry, flush=0.0, lease=LEASE, renewal=LEASE / 4, poll=0.05) as hub,
    ):
        blob = RemoteBlob(upstream, path, "")
        outcomes = in_threads([hub.join("hub", "hub/team/app", Digest(digest), blob) for _ in range(clients)])
    found = [outcome.failure.reason if isinstance(outcome, Cut) else Digest.of(outcome) for outcome in outcomes]
    registry.close()
    report.write_text(json.dumps(found))


def reported(report: Path) -> list[str]:
    """What was reported, if it was."""
    with suppress(FileNotFoundError):
        return list(json.loads(report.read_text()))
    return []
