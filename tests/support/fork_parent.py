"""*Fork parent*: a process that has loaded what ``registry serve`` loads, and forks one server for each line it reads.

Imports are four fifths of the processor time of a start, and tests start some hundred servers. What a fork does from
then on is what the command does. ``tests/support/forks.py`` starts it and speaks to it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from typing import Any

LOADED = (
    "registry.admin.keys", "registry.api.blobs", "registry.api.cache.response_cache", "registry.api.manifests",
    "registry.api.token", "registry.api.uploads", "registry.cli.main", "registry.cli.serve", "registry.config.check",
    "registry.database.schema", "registry.images.registry", "registry.server.framed_protocol",
    "registry.storage.local.driver", "registry.web.login", "rich.traceback", "starlette.middleware", "uvicorn",
    "uvloop",
)  # fmt: skip
"""All but what imports the Prometheus library, which is told at its import where the processes of a server meet."""


def main() -> None:
    """Answer each request with the pid of a server, until the end of the input."""
    for name in LOADED:
        importlib.import_module(name)
    sys.path[0] = os.path.dirname(sys.executable)  # noqa: PTH120 - where the program is, as for the command
    for line in sys.stdin.buffer:
        if (pid := _forked(json.loads(line))) == 0:
            return
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _forked(request: dict[str, Any]) -> int:
    """The pid of a server that is a child of the one that asked, which takes in orphans; 0 in the server."""
    assert threading.active_count() == 1
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            _become(request)
            return 0
        os.setpgid(pid, pid)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    return pid


def _become(request: dict[str, Any]) -> None:
    """Be as a process that was started with this command: its descriptors, directory, environment and arguments."""
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, log + 1)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = request["command"]


if __name__ == "__main__":
    main()
    if sys.argv[0] != __file__:  # in a fork
        from registry.cli.main import main as program

        program()
