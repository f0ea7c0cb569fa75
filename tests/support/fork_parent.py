"""*Fork parent*: a process that has loaded what ``registry`` loads, and forks one process for each line it reads.

Imports are four fifths of the processor time of a start, and tests start some hundred servers and commands. What a fork
does from then on is what the command does. ``tests/support/forks.py`` starts it, by its path, and speaks to it. The
interpreter may be that of a former release, which lacks some of what is loaded here: nothing outside of the standard
library is imported at the top.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from typing import Any

LOADED = (
    "registry.admin.history", "registry.admin.keys", "registry.admin.purge", "registry.admin.retention",
    "registry.admin.session", "registry.admin.usage", "registry.api.blobs", "registry.api.cache.lookup",
    "registry.api.cache.response_cache", "registry.api.catalog", "registry.api.http.access_log",
    "registry.api.login_refusal", "registry.api.manifests", "registry.api.referrers", "registry.api.tags",
    "registry.api.token", "registry.api.uploads", "registry.api.version", "registry.cli.main", "registry.cli.serve",
    "registry.config.check", "registry.database.schema", "registry.images.registry",
    "registry.observability.metrics.http_metrics", "registry.observability.metrics.job_metrics",
    "registry.observability.metrics.metrics_directory", "registry.observability.metrics.storage_metrics",
    "registry.server.acceptor", "registry.server.bounded_loop", "registry.server.broadcast",
    "registry.server.direct_io.file_sender", "registry.server.direct_io.readiness", "registry.server.expectation",
    "registry.server.framed_protocol", "registry.server.hangup", "registry.server.jobs", "registry.server.protocol",
    "registry.server.reload", "registry.server.serving_configuration", "registry.server.start_line",
    "registry.server.worker_count", "registry.server.workers", "registry.storage.local.driver", "registry.web.login",
    "registry.web.probe", "registry.web.reference", "gzip", "resource", "rich.traceback", "starlette.middleware",
    "urllib.request", "uvicorn", "uvloop", "wsgiref.simple_server",
)  # fmt: skip
"""All but what imports the Prometheus library, which is told at its import where the processes of a server meet."""
_PROMETHEUS = "prometheus_client"
LOADED_FOR = {
    "s3": ("registry.storage.s3.driver",),
    "gcs": ("registry.storage.gcs.driver",),
    "postgresql": ("psycopg", "sqlalchemy.dialects.postgresql.psycopg"),
}
"""What is loaded in addition for a storage or a database of that name."""


def main(kinds: list[str]) -> str | None:
    """Answer each request with the pid of a process, until the end of the input; in a fork, the module to run."""
    sys.path[0] = os.path.dirname(sys.executable)  # noqa: PTH120 - where the program is, as for the command
    # A former release may import it where this one does not.
    sys.modules[_PROMETHEUS] = None  # type: ignore[assignment]
    for name in (*LOADED, *(name for kind in kinds for name in LOADED_FOR[kind])):
        with suppress(ModuleNotFoundError):  # in a former release
            importlib.import_module(name)
    del sys.modules[_PROMETHEUS]
    if "s3" in kinds:
        _read_what_botocore_knows()
    gc.collect()
    gc.freeze()  # a fork that looks for garbage would copy what it looks at
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if (pid := _forked(request)) == 0:
            return str(request["module"])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    return None


def _read_what_botocore_knows() -> None:
    """Read its description of S3 once: each client would read it again, in a tenth of a second."""
    session: Any = importlib.import_module("botocore.session")
    session.create_loader = cache(session.create_loader)
    session.get_session().create_client(
        "s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
    ).close()


def _forked(request: dict[str, Any]) -> int:
    """The pid of a process that is a child of the one that asked, which takes in orphans; 0 in that process."""
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
    for descriptor, path in ((1, request["output"]), (2, request["errors"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), descriptor)
    os.closerange(3, os.open(os.devnull, os.O_RDONLY) + 1)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = request["command"]
    sys.path += request["path"]


if __name__ == "__main__":
    forked = main(sys.argv[1:])
    if forked is not None:
        importlib.import_module(forked).main()
