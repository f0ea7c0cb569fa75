"""``registry serve``: one process or several on one port, drained on SIGTERM.

Tests: ``tests/server/test_workers.py``, ``tests/cli/test_serve.py``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from registry.config.check import without_effect
from registry.images.registry import Registry
from registry.maintenance.single_replica import writing
from registry.observability.logs import configure_logging, open_outlet, open_request_log, resolve_form
from registry.observability.metrics import Metrics, forget_worker
from registry.observability.outlet import LAST_SECONDS
from registry.server.acceptor import raise_descriptor_limit
from registry.server.application import create_application
from registry.server.observability import ProcessMetrics
from registry.server.protocol import RegistryProtocol
from registry.server.serving_configuration import ServingConfiguration
from registry.server.start_line import is_open_to_everybody, start_line
from registry.server.workers import Workers
from registry.storage.factory import open_driver

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from registry.config.settings import Settings
    from registry.observability.outlet import Outlet

BACKLOG = 2048
LEAVE_SECONDS = 5.0
"""How long a drained process may take to end."""
END_SECONDS = 30.0
"""How long a worker may take to end once its requests have: background work, threads and connections have bounds."""

log = structlog.get_logger(__name__)


def run(settings: Settings, *, conditional_writes: bool = True, config: Path | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code of the process. Raises AnotherReplica.

    ``conditional_writes``: whether the store honours them. ``config`` is the file that the settings came from.
    """
    configure_logging(settings.log.format, settings.log.level, _outlet())
    raise_descriptor_limit()
    Registry.open(settings).close()  # problems show here, before the port opens; the schema is then up to date
    with writing(settings, conditional_writes=conditional_writes):
        _serve(settings, config)
    log.info("stopped")
    return 0


def _serve(settings: Settings, config: Path | None) -> None:
    configuration = _uvicorn(settings)
    listener = configuration.bind_socket()
    listener.listen(BACKLOG)  # from here on no client is refused, while the workers still load
    _announce(settings, listener, config)
    if settings.http.workers == 1:
        _Server(configuration).run(sockets=[listener])
    else:
        work = functools.partial(_work, configuration, listener, settings)
        # The port is closed before the workers drain: a new client is refused and does not hang.
        patience = settings.http.drain_timeout + END_SECONDS
        Workers(work, settings.http.workers, patience, on_loss=forget_worker, on_stop=listener.close).run()


def _work(configuration: ServingConfiguration, listener: socket.socket, settings: Settings) -> None:
    """Serve in a process of its own, until it has drained."""
    _outlet.cache_clear()  # that of the parent has its thread there, if it has one
    configure_logging(settings.log.format, settings.log.level, _outlet())
    try:
        _Server(configuration).run(sockets=[listener])
    finally:
        _outlet().drain(LAST_SECONDS)


def _announce(settings: Settings, listener: socket.socket, config: Path | None) -> None:
    """Say what serves where, and what an operator may not expect of it."""
    host, port = listener.getsockname()[:2]
    line = start_line(settings, host, port, config)
    if resolve_form(settings.log.format, sys.stderr) == "text":
        log.info(str(line))
    else:
        log.info("listening", **line.fields())
    if settings.auth is None and settings.access is None and is_open_to_everybody(settings, host):
        log.warning("there is no authentication: all who reach this address may push, pull and delete", url=line.url)
    for problem in without_effect(settings):
        log.warning("a setting has no effect", setting=problem.source or problem.key, reason=problem.message)


def create_worker(settings: Settings) -> ASGIApp:
    """The application of one worker; uvicorn calls this in the process that serves."""
    outlet = _outlet()
    metrics = ProcessMetrics(Metrics(), open_request_log(settings.log.format, settings.log.level, outlet), outlet)
    driver = open_driver(settings, metrics.storage_tally.add)
    return create_application(Registry.open(settings, driver), settings, metrics, _leave_soon)


@functools.cache
def _outlet() -> Outlet:
    """That of this process: lines of its log stay in their order."""
    return open_outlet()


class _Server(uvicorn.Server):
    """uvicorn's server, which ends a drained process with the signal that asked for it; ours ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def _leave_soon() -> None:
    """End the process also where a thread of it hangs, for which Python would wait; the next start goes on (I8)."""
    leaving = threading.Timer(LEAVE_SECONDS, os._exit, (0,))
    leaving.daemon = True
    leaving.start()


def _uvicorn(settings: Settings) -> ServingConfiguration:
    http = settings.http
    tls: dict[str, Any] = {}
    if http.tls is not None:
        tls = {"ssl_certfile": str(http.tls.certificate), "ssl_keyfile": str(http.tls.key)}
        if http.tls.client_ca is not None:
            tls |= {"ssl_ca_certs": str(http.tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return ServingConfiguration(
        functools.partial(create_worker, settings),
        http,
        factory=True,
        host=http.host,
        port=http.port,
        http=RegistryProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(http.drain_timeout) or 1,
        **tls,
    )
