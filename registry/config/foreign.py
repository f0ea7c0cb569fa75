"""Foreign variables: those of the environment for another registry, or for us under a wrong name.

Without ``__`` a variable is not ours, and Kubernetes sets ``REGISTRY_PORT`` and its like by itself. One that configures
the registry of docker distribution is said to be without effect; one of its authentication refuses the start, since
its operator believes that there are passwords.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.config.file import DELIMITER, ENVIRONMENT_PREFIX, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

OURS: Mapping[str, tuple[str, ...]] = {
    "CATALOG_MAXENTRIES": ("limits.page_size",),
    "HTTP_ADDR": ("http.host", "http.port"),
    "HTTP_DEBUG_PROMETHEUS_ENABLED": ("metrics.enabled",),
    "HTTP_DRAINTIMEOUT": ("http.drain_timeout",),
    "HTTP_HOST": ("http.external_url", "http.host"),
    "HTTP_RELATIVEURLS": ("http.relative_locations",),
    "HTTP_TLS_CERTIFICATE": ("http.tls.certificate",),
    "HTTP_TLS_CLIENTCAS": ("http.tls.client_ca",),
    "HTTP_TLS_KEY": ("http.tls.key",),
    "LOG_FORMATTER": ("log.format",),
    "LOG_LEVEL": ("log.level",),
    "LOGLEVEL": ("log.level",),
    "STORAGE": ("storage.driver",),
    "STORAGE_DELETE_ENABLED": ("storage.delete",),
    "STORAGE_FILESYSTEM_MAXTHREADS": ("limits.threads",),
    "STORAGE_FILESYSTEM_ROOTDIRECTORY": ("storage.root_directory",),
    "STORAGE_GCS_BUCKET": ("storage.gcs.bucket",),
    "STORAGE_GCS_CHUNKSIZE": ("storage.gcs.part_size",),
    "STORAGE_GCS_KEYFILE": ("storage.gcs.credentials_file",),
    "STORAGE_GCS_ROOTDIRECTORY": ("storage.root_directory",),
    "STORAGE_MAINTENANCE_UPLOADPURGING_AGE": ("storage.upload_expiry",),
    "STORAGE_REDIRECT_DISABLE": ("storage.redirect",),
    "STORAGE_S3_ACCESSKEY": ("storage.s3.access_key_id",),
    "STORAGE_S3_BUCKET": ("storage.s3.bucket",),
    "STORAGE_S3_CHUNKSIZE": ("storage.s3.part_size",),
    "STORAGE_S3_FORCEPATHSTYLE": ("storage.s3.addressing_style",),
    "STORAGE_S3_REGION": ("storage.s3.region",),
    "STORAGE_S3_REGIONENDPOINT": ("storage.s3.endpoint_url",),
    "STORAGE_S3_ROOTDIRECTORY": ("storage.root_directory",),
    "STORAGE_S3_SECRETKEY": ("storage.s3.secret_access_key",),
}
"""Names of distribution's settings, without their common prefix, and our keys with the same meaning."""
NEITHER = (
    "HEALTH", "HTTP", "LOG", "MIDDLEWARE", "NOTIFICATIONS", "POLICY", "PROXY", "REDIS", "STORAGE", "VALIDATION",
)  # fmt: skip
"""Sections of distribution's configuration, whose other settings have no counterpart."""
AUTHENTICATION = re.compile(r"AUTH(_(HTPASSWD|TOKEN|SILLY)(_\w+)?)?")
_KUBERNETES = re.compile(r"\w*(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""Variables that Kubernetes sets for a service whose name begins with "registry"; ``_PORT`` is known by its value."""
_LINK = re.compile(r"(tcp|udp|sctp)://")


def foreign_variables(environment: Mapping[str, str], keys: Iterable[str]) -> Iterator[ConfigProblem]:
    """Variables without effect, each with the one that would have it. ``keys`` are all known keys, dotted.

    The key of a problem is empty, but for authentication.
    """
    single = {key.replace(".", "_").upper(): key for key in keys if "." in key}
    for variable, value in sorted(environment.items()):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if not variable.startswith(ENVIRONMENT_PREFIX) or DELIMITER in name or not value:
            continue
        if _LINK.match(value) or _KUBERNETES.fullmatch(f"_{name}"):
            continue
        message = _message(name, single)
        if message is not None:
            yield ConfigProblem("auth" if AUTHENTICATION.fullmatch(name) else "", message, variable)


def _message(name: str, single: Mapping[str, str]) -> str | None:
    if AUTHENTICATION.fullmatch(name):
        return (
            "is of another registry, and nothing here asks for passwords yet: remove it, and let a proxy ask for them"
        )
    if name in OURS:
        return f"is of another registry and has no effect; ours is {' or '.join(map(_variable, OURS[name]))}"
    if name in single:
        return f"has no effect; did you mean {_variable(single[name])}?"
    if name.partition("_")[0] in NEITHER and "_" in name:
        return "is of another registry and has no effect; there is nothing like it here"
    return None


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.upper().replace(".", DELIMITER)
