"""*Failures*: what a client is told where an upstream gave nothing and nothing is here. Each names the mirror.

Tests: ``tests/mirror/test_manifests.py``, ``tests/mirror/test_hostile_upstream.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from registry.images.fetching.content import Reason
from registry.mirror.patient_upstream import UpstreamGivenUp
from registry.oci.errors import (
    BadGateway,
    BlobUnknown,
    GatewayTimeout,
    ManifestUnknown,
    RegistryError,
    TooManyRequests,
    Unavailable,
)
from registry.upstream.errors import (
    TokenUnavailable,
    UpstreamDenied,
    UpstreamError,
    UpstreamSilent,
    UpstreamStatus,
    UpstreamThrottled,
)

if TYPE_CHECKING:
    from registry.images.fetching.content import FetchFailed
    from registry.mirror.names import MirroredName
    from registry.oci.digest import Digest

_RETRY: Final = 60.0
"""Seconds, where an upstream does not say how long it wants no request."""
_SOON: Final = 5.0
_ABSENT: Final = frozenset({404, 410})


def is_absence(error: UpstreamError) -> bool:
    """Whether the upstream says that it does not have it."""
    return isinstance(error, UpstreamStatus) and error.status in _ABSENT


def failure(name: MirroredName, what: str, error: UpstreamError, *, is_known: bool = False) -> RegistryError:
    """What a client is told that asked for ``what``, a tag or digest of a repository.

    ``is_known``: content of the repository came from there before, so that a refusal is no absence.
    """
    message = f"mirror {name.mirror.name}: {error}"
    if is_absence(error):
        return absence(name, what)
    if isinstance(error, UpstreamDenied) and not is_known:
        return ManifestUnknown(f"{message}; the upstream denied {name.upstream}, or it is not there")
    if isinstance(error, UpstreamThrottled) or (isinstance(error, TokenUnavailable) and error.seconds is not None):
        return TooManyRequests(message, headers=_retry(error.seconds))
    if isinstance(error, UpstreamGivenUp):
        return Unavailable(message, headers=_retry(error.seconds))
    if isinstance(error, UpstreamSilent):
        return GatewayTimeout(message)
    return BadGateway(message)


def fetch_failure(name: MirroredName, digest: Digest, error: FetchFailed, *, is_named: bool = False) -> RegistryError:
    """What a client is told where a fetch has ended before its first byte; ``is_named``: by a manifest that is here."""
    message, retry = f"mirror {name.mirror.name}: {digest}: {error}", _retry(error.seconds)
    if error.reason in {Reason.ABSENT, Reason.WRONG} or (error.reason is Reason.DENIED and not is_named):
        return BlobUnknown(message)
    match error.reason:
        case Reason.THROTTLED:
            return TooManyRequests(message, headers=retry)
        case Reason.STORAGE | Reason.STOPPED:
            return Unavailable(message, headers={"Retry-After": "1"})
        case Reason.UNAVAILABLE if is_named or isinstance(error.__cause__, UpstreamGivenUp):
            return Unavailable(message, headers=_retry(error.seconds or _SOON))
        case Reason.UNAVAILABLE if isinstance(error.__cause__, UpstreamSilent):
            return GatewayTimeout(message)
    return BadGateway(message, headers=retry if error.seconds is not None else {})


def absence(name: MirroredName, what: str) -> ManifestUnknown:
    """What a client is told where the upstream has no such thing."""
    return ManifestUnknown(f"mirror {name.mirror.name}: the upstream has no manifest {what} in {name.upstream}")


def _retry(seconds: float | None) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(_RETRY if seconds is None else seconds)))}
