"""A PostgreSQL server of the tests' own: a cluster in a directory, behind a Unix socket or a TCP port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from functools import cached_property
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from registry.database.schema import upgrade
from tests.support.servers import HOST, free_port
from tests.support.tools import require_tools

OWNER = "postgres"
"""PostgreSQL refuses to run as root; Debian makes this user for it."""
_SETTINGS = "stowage.conf"


class Cluster:
    """One server. ``create`` gives an empty database; ``stop`` and ``start`` are what an operator's restart does.

    Without ``directory`` it lives in a temporary one and listens on a Unix socket there. A ``directory`` that holds a
    cluster already is used again, with the databases in it. ``tcp`` listens on a loopback port instead of the socket.
    ``fsync`` makes commits survive a power cut, which costs a test dear and proves nothing to it; without it the server
    does not look through its hundreds of databases for something to vacuum either. Construction starts the server.
    """

    def __init__(self, directory: Path | None = None, *, fsync: bool = False, tcp: bool = False) -> None:
        programs = require_tools("initdb", "pg_ctl", "postgres")
        self._pg_ctl = programs["pg_ctl"]
        self._directory = directory or Path(tempfile.mkdtemp(prefix="stowage-pg-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        self._owner = OWNER if os.geteuid() == 0 else None
        if self._owner is not None:
            shutil.chown(self._directory, self._owner)
        self._data = self._directory / "data"
        self.port = free_port() if tcp else None
        if not (self._data / "PG_VERSION").exists():
            arguments = ["--auth=trust", f"--username={OWNER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            self._run(programs["initdb"], *arguments, f"--pgdata={self._data}")
            with (self._data / "postgresql.conf").open("a") as file:
                file.write(f"include '{_SETTINGS}'\n")
        settings = {
            "listen_addresses": HOST if tcp else "",
            "unix_socket_directories": "" if tcp else str(self._directory),
            "port": str(self.port or 5432),
            "fsync": "on" if fsync else "off",
            "autovacuum": "on" if fsync else "off",
            "max_connections": "200",
            "shared_buffers": "16MB",
        }
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        (self._data / _SETTINGS).write_text("".join(lines))
        self.start()

    @property
    def pid(self) -> int:
        """The server's first process, while it runs."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._run(self._pg_ctl, "start", "--wait", f"--pgdata={self._data}", f"--log={self._directory / 'log'}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server and cut all connections; to the data ``immediate`` is a crash, ``fast`` is not."""
        self._run(self._pg_ctl, "stop", "--wait", f"--mode={mode}", f"--pgdata={self._data}")

    def freeze(self) -> None:
        """Stop every process of the server where it is: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def create(self, name: str | None = None) -> str:
        """A database that is new and empty, unless ``name`` exists already; its URL."""
        return self._created(name or f"test_{uuid.uuid4().hex}", "template1")

    def create_current(self) -> str:
        """A database that is new, with the newest schema and no rows; its URL. It takes half as long as ``upgrade``."""
        template = make_url(self._current).database
        assert template is not None
        return self._created(f"test_{uuid.uuid4().hex}", template)

    def copy(self, url: str) -> str:
        """A copy of a database to which nothing is connected; its URL."""
        template = make_url(url).database
        assert template is not None
        return self._created(f"test_{uuid.uuid4().hex}", template)

    @cached_property
    def _current(self) -> str:
        url = self.create()
        upgrade(url)
        return url

    def _created(self, database: str, template: str) -> str:
        with psycopg.connect(f"{self._reached()} user={OWNER} dbname=postgres", autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
            if found is None:
                # By the log, which PostgreSQL 15 does by default, takes a third more processor time.
                by_file = " STRATEGY file_copy" if connection.info.server_version >= 150000 else ""
                connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"{by_file}'.encode())
        if self.port is not None:
            return f"postgresql+psycopg://{OWNER}@{HOST}:{self.port}/{database}"
        return f"postgresql+psycopg://{OWNER}@/{database}?host={self._directory}"

    def empty(self, url: str) -> None:
        """Lose everything in a database that ``create`` gave, while it is in use."""
        database = make_url(url).database
        with psycopg.connect(f"{self._reached()} user={OWNER} dbname={database}") as connection:
            while True:
                try:
                    connection.execute("DROP SCHEMA public CASCADE")
                except psycopg.errors.DeadlockDetected:  # with a transaction that locks what is being dropped
                    connection.rollback()
                else:
                    break
            connection.execute("CREATE SCHEMA public")

    def remove(self) -> None:
        """Stop the server and free what it used."""
        self.stop()
        shutil.rmtree(self._directory)

    def _signal(self, number: signal.Signals) -> None:
        """Send it to the first process, so that there are no new ones, and then to all of its children."""
        first = self.pid
        os.kill(first, number)
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int((directory / "stat").read_text().rpartition(")")[2].split()[1]) == first:
                    os.kill(int(directory.name), number)

    def _reached(self) -> str:
        return f"host={self._directory}" if self.port is None else f"host={HOST} port={self.port}"

    def _run(self, program: Path, *arguments: str) -> None:
        # To a file: a server that pg_ctl starts would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [program, *arguments],
                stdout=output,
                stderr=output,
                cwd="/",
                user=self._owner,
                # Not in the group of the terminal: its Ctrl-C is for the program that started this.
                process_group=0,
                check=False,
                timeout=200,
            )
            output.seek(0)
            assert done.returncode == 0, output.read().decode()
