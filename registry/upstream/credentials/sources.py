"""*Sources*: the kind of credentials that the settings of a mirror choose.

Tests: ``tests/upstream/credentials/test_credentials.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.config.upstream_sections import BasicCredentials, DockerConfigCredentials, EcrCredentials
from registry.upstream.credentials.basic import BasicSource
from registry.upstream.credentials.docker_config import DockerConfigSource

if TYPE_CHECKING:
    from registry.config.upstream_sections import CredentialsSettings
    from registry.upstream.credentials.credential import Credential, Credentials
    from registry.upstream.url import Origin


class NoCredentials:
    """See Credentials."""

    def get(self, origin: Origin) -> None:  # noqa: ARG002 - the interface
        """None."""
        return

    def reject(self, credential: Credential) -> bool:  # noqa: ARG002 - the interface
        """None is ever given."""
        return False


def source_of(settings: CredentialsSettings | None) -> Credentials:
    """The source of a mirror's credentials; no cloud is asked yet. Raises ValueError, OSError for a file."""
    if settings is None:
        return NoCredentials()
    if isinstance(settings, BasicCredentials):
        return BasicSource(settings)
    if isinstance(settings, DockerConfigCredentials):
        return DockerConfigSource(settings)
    from registry.upstream.credentials import cloud  # noqa: PLC0415 - the libraries of clouds take half a second

    return cloud.ecr(settings) if isinstance(settings, EcrCredentials) else cloud.google_cloud(settings)
