"""*Entrances*: the ways on which clients reach mirrors, each mapped to the name of a repository before anything else.

By the prefix of the mirror, by ``?ns=``, by ``Host`` and by ``/mirror/{name}/v2/``. Rules, memory, log and routes know
the mapped name alone. Nothing here is an address to connect to: each look-up is among the mirrors of the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from registry.config.namespaces import normal_namespace
from registry.oci.errors import NameUnknown, RegistryError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.config.mirror_sections import MirrorSettings
    from registry.mirror.names import MirrorNames

    RawHeaders = Iterable[tuple[bytes, bytes]]

_API: Final = "/v2/"
_PATH: Final = "/mirror/"
_NAMESPACE: Final = b"ns"
_LITERALS: Final = ("/manifests/", "/blobs/", "/referrers/")
"""What stands between a name and the last segment of a path."""
_TAGS: Final = "/tags/list"


class Entered(NamedTuple):
    """A request as everything behind the entrances sees it."""

    path: str
    query: bytes
    refusal: RegistryError | None = None
    """What it is answered with in place of what is at its path."""


class Entrances:
    """Immutable. Asked for each request, also those that memory answers."""

    def __init__(self, names: MirrorNames, own_host: str | None = None) -> None:
        """``own_host`` is that of ``http.external_url``: a client that names it with ``?ns=`` means this registry."""
        self._names = names
        self._own = normal_namespace(own_host or "")
        self._hub = tuple(f"{_API}{prefix}/" for prefix in names.hub_prefixes)

    def enter(self, method: str, path: str, query: bytes, headers: RawHeaders) -> Entered | None:
        """The request by the name of its repository; None where it is taken as it is.

        ``path`` is decoded; ``headers`` have names in lower case.
        """
        try:
            return self._enter(method, path, query, headers)
        except RegistryError as error:
            return Entered(path, query, error)

    def key(self, method: str, path: str, query: bytes, headers: RawHeaders) -> tuple[str, bytes]:
        """Path and query under which memory has the answer to a request; a path that is none where it is refused."""
        entered = self.enter(method, path, query, headers)
        if entered is None:
            return path, query
        return (entered.path, entered.query) if entered.refusal is None else ("", b"")

    def _enter(self, method: str, path: str, query: bytes, headers: RawHeaders) -> Entered | None:
        if path.startswith(_PATH):
            return self._by_path(method, path, query)
        if not path.startswith(_API):
            return None
        host = _host_of(headers) if self._names.has_hosts or b"ns=" in query else ""
        mirror = self._names.of_host(host) if self._names.has_hosts else None
        namespace, rest = _split(query) if b"ns=" in query else (None, query)
        if namespace is None:
            if mirror is not None:
                return self._below(mirror, method, path, rest)
            return self._completed(path, query) if path.startswith(self._hub) else None
        meant = self._names.of_namespace(namespace)
        if meant is None and namespace and normal_namespace(namespace) in {self._own, normal_namespace(host)}:
            return Entered(path, rest) if mirror is None else self._below(mirror, method, path, rest)
        if meant is None or mirror not in {None, meant}:
            raise NameUnknown(f"no mirror here stands for {namespace[:256]} (mirrors.namespaces)")
        return self._below(meant, method, _without(meant.prefix, path), rest)

    def _by_path(self, method: str, path: str, query: bytes) -> Entered:
        name, _, rest = path.removeprefix(_PATH).partition("/")
        mirror = self._names.of_name(name)
        if mirror is None or not f"/{rest}/".startswith(_API):
            raise NameUnknown("no mirror has this address, which would be /mirror/NAME/v2/")
        return self._below(mirror, method, f"/{rest}", query)

    def _below(self, mirror: MirrorSettings, method: str, path: str, query: bytes) -> Entered:
        """The path with the name that a repository of the upstream has here. Raises RegistryError."""
        if path.rstrip("/") == "/v2":
            return Entered(_API, query)
        if method not in {"GET", "HEAD"}:
            raise Unsupported(f"the mirror {mirror.name} can only be pulled from", headers={"Allow": "GET, HEAD"})
        cut = _cut(path)
        if cut is None:
            raise NameUnknown(f"the mirror {mirror.name} has nothing at this address")
        name, rest = cut
        return Entered(f"{_API}{self._names.below(mirror, name).repository}{rest}", query)

    def _completed(self, path: str, query: bytes) -> Entered | None:
        """A name of one segment below the prefix of Docker Hub, with ``library`` before it."""
        cut = _cut(path)
        found = None if cut is None else self._names.find(cut[0])
        return None if cut is None or found is None else Entered(f"{_API}{found.repository}{cut[1]}", query)


def _host_of(headers: RawHeaders) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"host"), "")


def _split(query: bytes) -> tuple[str | None, bytes]:
    """The namespace of a query, None if it has none, and the rest. Raises NameUnknown where it has several."""
    found: set[bytes] = set()
    rest = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == _NAMESPACE:
            found.add(unquote_to_bytes(value))
        else:
            rest.append(part)
    if len(found) > 1:
        raise NameUnknown("the query names several registries (ns); name one")
    return (found.pop().decode("latin-1") if found else None), b"&".join(rest)


def _without(prefix: str, path: str) -> str:
    """The path of a client that was given an address with the prefix in it, and sends the namespace as well."""
    return path.replace(f"{_API}{prefix}/", _API, 1) if path.startswith(f"{_API}{prefix}/") else path


def _cut(path: str) -> tuple[str, str] | None:
    """The name of a repository in a path, and what follows; None where no route for reading has this path."""
    if path.endswith(_TAGS):
        return path[len(_API) : -len(_TAGS)], _TAGS
    for literal in _LITERALS:
        head, found, last = path.rpartition(literal)
        if found and last and "/" not in last and head.startswith(_API):
            return head[len(_API) :], f"{literal}{last}"
    return None
