"""The servers that are compared as mirrors: each with a cache that is empty when it starts."""

from __future__ import annotations

import dataclasses

from benchmarks.servers import ANGOS, DISTRIBUTION, OURS, SERVERS, TOOLS, ZOT, Server

_OURS = """\
{"http": {"host": "127.0.0.1", "port": $port},
 "storage": {"driver": "local", "root_directory": "$root"},
 "mirrors": [{"name": "up", "prefix": "up", "url": ["$upstream"], "proxy": null}]}
"""
_DISTRIBUTION = """\
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: $root}
http: {addr: 127.0.0.1:$port}
proxy: {remoteurl: $upstream}
"""
_ZOT = """\
{"distSpecVersion": "1.1.1", "log": {"level": "info"},
 "storage": {"rootDirectory": "$root", "dedupe": true, "gc": false},
 "http": {"address": "127.0.0.1", "port": "$port"},
 "extensions": {"sync": {"enable": true, "registries": [
   {"urls": ["$upstream"], "onDemand": true, "tlsVerify": false}]}}}
"""
_ANGOS = """\
[server]
bind_address = "127.0.0.1"
port = $port
[blob_store.fs]
root_dir = "$root"
[global.access_policy]
default = "allow"
[repository."library"]
[[repository."library".upstream]]
url = "$upstream"
"""


@dataclasses.dataclass(frozen=True, slots=True)
class MirrorServer:
    """A server with the name under which it has the repository of the upstream."""

    server: Server
    repository: str

    def of(self, upstream: str) -> Server:
        """The server as a mirror of an upstream."""
        settings = (*self.server.settings, ("upstream", upstream))
        return dataclasses.replace(self.server, settings=settings)


REPOSITORY = "library/bench"


def _peer(name: str, config: str, program: str | None = None) -> MirrorServer:
    server = dataclasses.replace(SERVERS[name], config=config)
    if program is not None:
        server = dataclasses.replace(server, program=TOOLS / program)
    return MirrorServer(server, REPOSITORY)


MIRRORS = {
    OURS: MirrorServer(dataclasses.replace(SERVERS[OURS], config=_OURS), f"up/{REPOSITORY}"),
    DISTRIBUTION: _peer(DISTRIBUTION, _DISTRIBUTION),
    ZOT: _peer(ZOT, _ZOT, "zot-sync"),
    ANGOS: _peer(ANGOS, _ANGOS),
}
