"""Configuration check: mistakes in well-formed settings that only this machine shows; nothing stays changed."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry.config.access_check import check_access
from registry.config.cache_check import cache_without_effect, check_cache
from registry.config.file import ConfigProblem
from registry.config.foreign import foreign_variables
from registry.config.mistakes import dotted_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.sections import HttpSettings, TlsSettings
    from registry.config.settings import Settings

_SQLITE = "sqlite:///"
_SHORTEST = 3600
"""Seconds: a push may take as long."""
_DAY = 86400


def check_settings(settings: Settings) -> list[ConfigProblem]:
    """Settings with which the registry could not start here, and what would be right."""
    tls = settings.http.tls
    passwords = [problem for problem in _foreign(settings) if problem.key]
    found = passwords + check_stores(settings) + (list(_check_tls(tls)) if tls is not None else [])
    found += check_access(settings) + check_audit(settings) + check_cache(settings)
    return found + list(_check_mirrors(settings))


def check_audit(settings: Settings) -> list[ConfigProblem]:
    """Check that the audit log can be written; no file is made."""
    file = settings.log.audit.file
    if file is None:
        return []
    looked = file if file.exists() else file.absolute().parent
    if file.is_dir() or not os.access(looked, os.W_OK):
        message = f"{file} cannot be written by this user; its directory must be there"
        return [ConfigProblem("log.audit.file", message, "")]
    return []


def without_effect(settings: Settings) -> list[ConfigProblem]:
    """Settings without effect: variables with foreign names, with our names for them, and unused buckets."""
    storage = settings.storage
    unused = [name for name in ("s3", "gcs") if getattr(storage, name) is not None and storage.driver == "local"]
    return [
        *(ConfigProblem(f"storage.{name}", "has no effect while storage.driver is local", "") for name in unused),
        *cache_without_effect(settings),
        *(problem for problem in _foreign(settings) if not problem.key),
    ]


def short_times(settings: Settings) -> list[ConfigProblem]:
    """Times that are allowed, and with which content could be collected while a push still needs it."""
    gc, expiry = settings.gc, settings.storage.upload_expiry
    times = {"gc.lease": gc.lease, "gc.grace": gc.grace, "storage.upload_expiry": expiry}
    lost = "is less than an hour: a push that takes longer may lose what it has sent, or what it was told is there"
    found = [ConfigProblem(key, lost, "") for key, seconds in times.items() if seconds < _SHORTEST]
    if gc.undelete_window < _SHORTEST:
        found.append(
            ConfigProblem("gc.undelete_window", "is less than an hour: what is deleted by mistake is lost", "")
        )
    if gc.untagged_after is not None and gc.untagged_after < _DAY:
        message = "is less than a day: a build that pushes images first, and their index later, may lose them"
        found.append(ConfigProblem("gc.untagged_after", message, ""))
    if gc.lease < gc.grace:
        found.append(
            ConfigProblem("gc.lease", "is less than gc.grace: what clients just checked goes before the rest", "")
        )
    return found


def _foreign(settings: Settings) -> Iterator[ConfigProblem]:
    return foreign_variables(os.environ, dotted_keys(type(settings)))


def check_stores(settings: Settings) -> list[ConfigProblem]:
    """Mistakes with which a command cannot use storage and database."""
    storage = settings.storage
    on_disk = storage.driver == "local" or settings.database.url is None
    problems = list(_check_root(storage.root_directory)) if on_disk else []
    if storage.driver != "local" and getattr(storage, storage.driver) is None:
        message = f'the driver {storage.driver} needs this section; the least is {{"bucket": "NAME"}}'
        problems.append(ConfigProblem(f"storage.{storage.driver}", message, ""))
    if settings.database.url is not None:
        problems += _check_database(settings.database.url)
    return problems


def check_port(http: HttpSettings) -> list[ConfigProblem]:
    """Check that ``serve`` could listen now; a running registry prevents it."""
    return _cannot_listen(http)[0]


def check_address(http: HttpSettings) -> tuple[list[ConfigProblem], list[str]]:
    """Check that ``serve`` could listen at all, and return what prevents it now, in a line for a person."""
    problems, in_use = _cannot_listen(http)
    if in_use:
        return [], [f"Something listens on {http.host} port {http.port} already, perhaps this registry."]
    return problems, []


def _cannot_listen(http: HttpSettings) -> tuple[list[ConfigProblem], bool]:
    """The reason why not, and whether it is that the port is in use."""
    if not http.host:  # the system would take it for every network
        return [ConfigProblem("http.host", "is empty; 0.0.0.0 or :: is for every network", "")], False
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((http.host, http.port))
        except (socket.gaierror, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is no name of a host"
            return [ConfigProblem("http.host", f"{http.host} is not an address of this machine: {why}", "")], False
        except OSError as error:
            key = "http.host" if error.errno == errno.EADDRNOTAVAIL else "http.port"
            message = f"cannot listen on {http.host} port {http.port}: {error.strerror}; choose another"
            return [ConfigProblem(key, message, "")], error.errno == errno.EADDRINUSE
    return [], False


def _check_root(root: Path) -> Iterator[ConfigProblem]:
    existing = next(path for path in (root, *root.absolute().parents) if os.path.exists(path))  # noqa: PTH110 - Path.exists raises where a parent may not be entered
    if not existing.is_dir():
        yield ConfigProblem("storage.root_directory", f"{existing} is not a directory", "")
    elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        yield ConfigProblem(
            "storage.root_directory", f"{existing} cannot be written by this user; change its owner", ""
        )
    elif existing != root:
        yield from _check_room_for(root, existing)


def _check_room_for(root: Path, existing: Path) -> Iterator[ConfigProblem]:
    """Whether a directory can be made there: below /proc, say, rights alone do not tell."""
    longest = os.pathconf(existing, "PC_NAME_MAX")
    long = [part for part in root.absolute().relative_to(existing.absolute()).parts if len(os.fsencode(part)) > longest]
    if long:
        yield ConfigProblem(
            "storage.root_directory", f"{long[0]} is longer than {longest} bytes, the most of a name", ""
        )
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".stowage-", dir=existing):
            pass
    except OSError as error:
        yield ConfigProblem("storage.root_directory", f"{root} cannot be made: {existing}: {error.strerror}", "")


def _check_database(url: str) -> Iterator[ConfigProblem]:
    if url.startswith(_SQLITE):
        yield from _check_database_file(Path(url.removeprefix(_SQLITE).partition("?")[0]))
    if url.startswith("postgresql") and importlib.util.find_spec("psycopg") is None:
        yield ConfigProblem("database.url", "PostgreSQL needs another package: pip install 'psycopg[binary]'", "")


def _check_database_file(path: Path) -> Iterator[ConfigProblem]:
    if path.name in {"", ":memory:"}:
        yield ConfigProblem("database.url", "names no file, and every connection would have a database of its own", "")
        return
    existing = next(place for place in path.absolute().parents if os.path.exists(place))  # noqa: PTH110 - as above
    if path.is_dir():
        message = f"{path} is a directory; add the name of a file, such as registry.db"
    elif existing not in path.absolute().parents[:2]:
        message = f"{path.parent} is not there, and neither is the directory around it; make it, or correct the path"
    elif not os.access(existing, os.W_OK | os.X_OK):
        message = f"{existing} cannot be written by this user; change its owner"
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        message = f"{path} cannot be written by this user; change its owner"
    else:
        return
    yield ConfigProblem("database.url", message, "")


def _check_mirrors(settings: Settings) -> Iterator[ConfigProblem]:
    """Hosts of mirrors under which clients reach the registry itself: they would reach the mirror alone."""
    own = urlsplit(settings.http.external_url or "")
    for number, mirror in enumerate(settings.mirrors):
        taken = next((host for host in mirror.hosts if host in {own.netloc, own.hostname}), None)
        if taken is not None:
            message = f"{taken} is the host of http.external_url; give the mirror {mirror.name} a host of its own"
            yield ConfigProblem(f"mirrors.{number}.hosts", message, "")


def _check_tls(tls: TlsSettings) -> Iterator[ConfigProblem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        message = f"{tls.certificate} and {tls.key} are not a PEM certificate and its key: {error}"
        yield ConfigProblem("http.tls.certificate", message, "")
    if tls.client_ca is None:
        for key, is_set in (("client_auth", tls.client_auth == "optional"), ("client_crl", tls.client_crl is not None)):
            if is_set:
                yield ConfigProblem(f"http.tls.{key}", "needs http.tls.client_ca: no certificate is asked for", "")
        return
    try:
        context.load_verify_locations(tls.client_ca)
    except (OSError, ssl.SSLError) as error:
        yield ConfigProblem("http.tls.client_ca", f"{tls.client_ca} holds no PEM certificate: {error}", "")
    if tls.client_crl is not None:
        yield from _check_revocations(tls.client_crl)


def _check_revocations(path: Path) -> Iterator[ConfigProblem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
        reason = "" if context.cert_store_stats()["crl"] else "it has certificates alone"
    except (OSError, ssl.SSLError) as error:
        reason = str(error)
    if reason:
        yield ConfigProblem("http.tls.client_crl", f"{path} holds no PEM revocation list: {reason}", "")
