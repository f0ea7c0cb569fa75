"""*Namespaces*: the host of a registry as clients name it, in one form for all that mean the same."""

from __future__ import annotations

from typing import Final

DOCKER_HUB: Final = "docker.io"
"""The namespace of Docker Hub: names of one segment are those of ``library`` there."""
_ALIASES: Final = {"index.docker.io": DOCKER_HUB, "registry-1.docker.io": DOCKER_HUB}
_DEFAULT_PORT: Final = ":443"


def normal_namespace(text: str) -> str:
    """The namespace in lower case, without the port that is the default, and by its one name if it has several.

    It is a key to look up, never an address to connect to, so that any text is one.
    """
    host = text.strip().lower().removesuffix(_DEFAULT_PORT).removesuffix(".")
    return _ALIASES.get(host, host)
