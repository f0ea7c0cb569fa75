"""``registry serve``: one process or several on one port, drained on SIGTERM.

Tests: ``tests/server/test_workers.py``, ``tests/cli/test_serve.py``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn

from registry.auth.passwords.hashing_slots import HashingSlots, slots_for
from registry.config.check import short_times, without_effect
from registry.config.sections import AUTO
from registry.cores import cores
from registry.images.registry import Registry
from registry.maintenance.collection.survey.gc_state import announce, meet
from registry.maintenance.single_replica import writing
from registry.mirror.prefix_claims import claim_prefixes
from registry.observability.audit import open_audit_log
from registry.observability.logs import configure_logging, open_outlet, open_request_log, resolve_form
from registry.observability.metrics.metrics import Metrics, forget_worker
from registry.observability.outlet import LAST_SECONDS
from registry.server import hangup
from registry.server.acceptor import raise_descriptor_limit
from registry.server.application import create_application
from registry.server.balance import Balance
from registry.server.broadcast import Broadcast
from registry.server.observability import ProcessMetrics
from registry.server.protocol import RegistryProtocol
from registry.server.reload import Reload, Rules
from registry.server.serving_configuration import ServingConfiguration
from registry.server.start_line import is_open_to_everybody, start_line
from registry.server.tls_files import TlsFiles
from registry.server.worker_count import usable_cores, worker_count
from registry.server.workers import Workers
from registry.storage.factory import open_driver

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from registry.api.context import ApiContext
    from registry.config.settings import Settings
    from registry.observability.audit import AuditLog
    from registry.observability.outlet import Outlet
    from registry.server.hangup import Load
    from registry.server.start_line import StartLine

BACKLOG = 2048
LEAVE_SECONDS = 5.0
"""How long a drained process may take to end."""
END_SECONDS = 30.0
"""How long a worker may take to end once its requests have: background work, threads and connections have bounds."""

log = structlog.get_logger(__name__)


def run(settings: Settings, *, conditional_writes: bool = True, config: Path | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code of the process. Raises AnotherReplica, PrefixTaken.

    ``conditional_writes``: whether the store honours them. ``config`` is the file that the settings came from.
    """
    configure_logging(settings.log.format, settings.log.level, _outlet())
    raise_descriptor_limit()
    with contextlib.closing(Registry.open(settings)) as registry:  # problems show here, before the port opens
        meet(registry)
        claim_prefixes(registry, settings.mirrors)
        if settings.gc.interval == AUTO:
            announce(registry)
    reload = Reload(settings, config, audit_log_of(settings, _outlet()))
    if reload.is_wanted:
        hangup.hold()
    with writing(settings, conditional_writes=conditional_writes):
        _serve(reload, config, worker_count(settings.http, conditional_writes=conditional_writes))
    log.info("stopped")
    return 0


def _serve(reload: Reload, config: Path | None, workers: int) -> None:
    settings = reload.settings
    broadcast = Broadcast() if workers > 1 else None
    load: Load = reload.load if broadcast is None else partial(_read_rules, broadcast)
    count = slots_for(usable_cores())
    slots = HashingSlots(count) if workers > count else None
    configuration = _uvicorn(settings, partial(create_worker, reload, load if reload.is_wanted else None, slots))
    listener = configuration.bind_socket()
    listener.listen(BACKLOG)  # from here on no client is refused, while the workers still load
    host, port = listener.getsockname()[:2]
    _announce(settings, start_line(settings, host, port, config, workers=workers))
    if settings.access is not None:
        reload.announce()
    if broadcast is None:
        _Server(configuration).run(sockets=[listener])
    else:
        configuration.balance = Balance(workers)
        work = partial(_work, configuration, listener, settings, workers)
        # The port is closed before the workers drain: a new client is refused and does not hang.
        patience = settings.http.drain_timeout + END_SECONDS
        on_hangup = partial(_load_for_workers, reload, broadcast) if reload.is_wanted else None
        Workers(work, workers, patience, on_loss=forget_worker, on_stop=listener.close, on_hangup=on_hangup).run()


def _load_for_workers(reload: Reload, broadcast: Broadcast) -> None:
    """In the parent: read the file once, for all of them; one that begins later gets the rules with the fork."""
    broadcast.write(reload.load().to_json())


def _read_rules(broadcast: Broadcast) -> Rules | None:
    """In a worker."""
    document = broadcast.read()
    return None if document is None else Rules.parse(document)


def _work(
    configuration: ServingConfiguration, listener: socket.socket, settings: Settings, workers: int, place: int
) -> None:
    """Serve in a process of its own, until it has drained."""
    cores.share(place, workers)
    if configuration.balance is not None:
        configuration.balance.take_place(place)
    _outlet.cache_clear()  # that of the parent has its thread there, if it has one
    configure_logging(settings.log.format, settings.log.level, _outlet())
    try:
        _Server(configuration).run(sockets=[listener])
    finally:
        _outlet().drain(LAST_SECONDS)


def _announce(settings: Settings, line: StartLine) -> None:
    """Say what serves where, and what an operator may not expect of it."""
    if resolve_form(settings.log.format, sys.stderr) == "text":
        log.info(str(line))
    else:
        log.info("listening", **line.fields())
    if settings.auth is None and settings.access is None and is_open_to_everybody(settings, line.host):
        log.warning("there is no authentication: all who reach this address may push, pull and delete", url=line.url)
    for problem in without_effect(settings):
        log.warning("a setting has no effect", setting=problem.source or problem.key, reason=problem.message)
    for problem in short_times(settings):
        log.warning("a time is short", setting=problem.key, reason=problem.message)


def create_worker(reload: Reload, load: Load | None, slots: HashingSlots | None, tls: TlsFiles | None) -> ASGIApp:
    """The application of one worker; uvicorn calls this in the process that serves.

    ``load`` finds the rules that are in use after a SIGHUP; None leaves that signal alone. ``slots`` are those for
    passwords where workers have to share them.
    """
    if tls is not None:
        tls.refresh()  # a worker that replaces another is forked from a process that does not look
    settings, outlet = reload.settings, _outlet()
    request_log = open_request_log(settings.log.format, settings.log.level, outlet)
    metrics = ProcessMetrics(Metrics(), request_log, outlet, audit_log_of(settings, outlet))
    driver = open_driver(settings, metrics.storage_tally.add, metrics.metrics.cache)

    def listen(context: ApiContext) -> None:
        if slots is not None and context.authentication is not None:
            context.authentication.share_hashing(slots)
        take = partial(_take, context)
        take(reload.rules)
        if load is not None:
            hangup.listen(load, take)

    return create_application(Registry.open(settings, driver), settings, metrics, _leave_soon, tls, listen)


def _take(context: ApiContext, rules: Rules) -> None:
    context.take_access(rules.access, is_stale=rules.is_stale)


def audit_log_of(settings: Settings, outlet: Outlet) -> AuditLog | None:
    """The audit log of this process; None if there is none. Raises OSError."""
    with_access = settings.auth is not None or settings.access is not None
    return open_audit_log(settings.log.audit.file, with_access=with_access, stderr=outlet)


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


def _uvicorn(settings: Settings, create: Callable[[TlsFiles | None], ASGIApp]) -> ServingConfiguration:
    http = settings.http
    tls = None if http.tls is None else TlsFiles(http.tls)
    return ServingConfiguration(
        partial(create, tls),
        http,
        tls,
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
    )
