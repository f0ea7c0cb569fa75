"""*Upstream sections* of the settings: how a mirror speaks to a server of another organisation.

Tests: ``tests/upstream/test_client.py``, ``tests/upstream/credentials/test_credentials.py``.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, FilePath, Tag, model_validator

from registry.config.durations import Seconds  # noqa: TC001 - pydantic reads it
from registry.config.mistakes import CHOICE, NO_CHOICE
from registry.config.sections import Section, split_commas
from registry.config.urls import check_address

_HOST = re.compile(r"[a-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9a-f:.]+\](?::[0-9]{1,5})?")


class BasicCredentials(Section):
    """A user with a password."""

    kind: Literal["basic"]
    """Which credentials these are."""
    username: str = Field(min_length=1, pattern=r"^[^:\x00-\x1f\x7f]+$")
    """User at the upstream."""
    password_file: FilePath | None = None
    """File with the password, of which a newline at the end is left out; a changed file takes effect at once."""
    password_variable: str | None = Field(default=None, min_length=1)
    """Name of the variable of the environment with the password."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.password_file is None) == (self.password_variable is None):
            raise ValueError("needs password_file or password_variable, and not both")
        return self


class DockerConfigCredentials(Section):
    """The entry of a host in a file that ``docker login`` has written."""

    kind: Literal["docker_config"]
    """Which credentials these are."""
    file: FilePath
    """A config.json with auths; programs that it names (credsStore, credHelpers) are not run."""


class EcrCredentials(Section):
    """A token of Amazon ECR, for the credentials that the environment or the role of the machine gives."""

    kind: Literal["ecr"]
    """Which credentials these are."""
    region: str | None = Field(default=None, min_length=1)
    """Region of the registry; null takes that of the environment."""


class GoogleCredentials(Section):
    """An access token of Google Cloud."""

    kind: Literal["google"]
    """Which credentials these are."""
    credentials_file: FilePath | None = None
    """JSON key of a service account; null takes what the platform offers (GOOGLE_APPLICATION_CREDENTIALS, its role)."""


_KINDS = ("basic", "docker_config", "ecr", "google")


def _choose_kind(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"{CHOICE}{kind}" if kind in _KINDS else None


CredentialsSettings = Annotated[
    Annotated[BasicCredentials, Tag(f"{CHOICE}basic")]
    | Annotated[DockerConfigCredentials, Tag(f"{CHOICE}docker_config")]
    | Annotated[EcrCredentials, Tag(f"{CHOICE}ecr")]
    | Annotated[GoogleCredentials, Tag(f"{CHOICE}google")],
    Discriminator(_choose_kind, custom_error_type=NO_CHOICE, custom_error_message=f"needs a kind: {', '.join(_KINDS)}"),
]


def check_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    """Hosts, each perhaps with a port, in lower case. Raises ValueError."""
    lower = tuple(host.lower() for host in value)
    if not all(map(_HOST.fullmatch, lower)):
        raise ValueError("is no list of hosts such as auth.example.org or auth.example.org:5001")
    return lower


class UpstreamSettings(Section):
    """A server of another organisation; mirrors and remotes have these keys alike."""

    url: Annotated[
        tuple[Annotated[str, AfterValidator(check_address)], ...], BeforeValidator(split_commas), Field(min_length=1)
    ]
    """Addresses of the upstream; the next one is asked when one does not answer."""
    credentials: CredentialsSettings | None = None
    """What the upstream is shown; null: nothing."""
    token_hosts: Annotated[tuple[str, ...], BeforeValidator(split_commas), AfterValidator(check_hosts)] = ()
    """Hosts whose token services get the credentials too, besides the upstream's own host and parent domain."""
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = ()
    """Names (*.example.org: all below) and networks that redirects may lead to although they are not public."""
    ca: FilePath | None = None
    """PEM file with authorities that are believed besides those of the system, at hosts that these settings name."""
    client_certificate: FilePath | None = None
    """PEM file with the certificate that is shown to the upstream itself."""
    client_key: FilePath | None = None
    """PEM file with the private key of client_certificate; null: it is in the same file."""
    proxy: (
        Annotated[str, AfterValidator(lambda value: value if value == "environment" else check_address(value))] | None
    ) = "environment"
    """Address of an HTTP proxy; environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY decide; null: none."""
    connect_timeout: Seconds = 5
    """Seconds for finding the address, connecting and TLS."""
    read_timeout: Seconds = 30
    """Seconds for the head of an answer, and between two pieces of its body."""
    connections: int = Field(default=16, ge=1)
    """Connections of each worker to one server at a time."""

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key has no client_certificate")
        return self
