"""A PostgreSQL server of the tests' own: a cluster in a temporary directory, reached through a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from tests.tools import require_tools

OWNER = "postgres"
"""PostgreSQL refuses to run as root; Debian makes this user for it."""


class Cluster:
    """One server. ``create`` gives an empty database; ``stop`` and ``start`` are what an operator's restart does."""

    def __init__(self) -> None:
        programs = require_tools("initdb", "pg_ctl", "postgres")
        self._pg_ctl = programs["pg_ctl"]
        self._directory = Path(tempfile.mkdtemp(prefix="stowage-pg-"))
        self._owner = OWNER if os.geteuid() == 0 else None
        if self._owner is not None:
            shutil.chown(self._directory, self._owner)
        self._data = self._directory / "data"
        arguments = ["--auth=trust", f"--username={OWNER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run(programs["initdb"], *arguments, f"--pgdata={self._data}")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self._directory}'\nfsync = off\n"
                "max_connections = 200\nshared_buffers = 16MB\n"
            )
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._run(self._pg_ctl, "start", "--wait", f"--pgdata={self._data}", f"--log={self._directory / 'log'}")

    def stop(self) -> None:
        """Stop the server at once; whoever is connected is cut off."""
        self._run(self._pg_ctl, "stop", "--wait", "--mode=immediate", f"--pgdata={self._data}")

    def create(self) -> str:
        """A new, empty database; its URL."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(f"host={self._directory} user={OWNER} dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{OWNER}@/{name}?host={self._directory}"

    def remove(self) -> None:
        """Stop the server and free what it used."""
        self.stop()
        shutil.rmtree(self._directory)

    def _run(self, program: Path, *arguments: str) -> None:
        # To a file: a server that pg_ctl starts would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [program, *arguments], stdout=output, stderr=output, cwd="/", user=self._owner, check=False, timeout=60
            )
            output.seek(0)
            assert done.returncode == 0, output.read().decode()
