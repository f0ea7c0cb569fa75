"""Servers over S3: registries with a bucket each in one store, with defaults where they are comparable."""

from __future__ import annotations

import dataclasses

from benchmarks.servers import DISTRIBUTION, DOCKER_REGISTRY, OURS, SERVERS, ZOT, Server

TWO_WORKERS = "ours-two-workers"
THREE_WORKERS = "ours-three-workers"
ASKING = "distribution-asking"
"""distribution without its memory of blobs, in which a process finds blobs that another has deleted long ago."""
PEERS = (DOCKER_REGISTRY, DISTRIBUTION, ZOT)
EVERY_PEER = (*PEERS, ASKING)

_OURS = """\
{"http": {"host": "127.0.0.1", "port": $port, "workers": $workers},
 "database": {"url": "$database"},
 "storage": {"driver": "s3", "root_directory": "stowage", "redirect": "$redirect_switch",
  "s3": {"bucket": "$bucket", "region": "$region", "endpoint_url": "$endpoint",
         "access_key_id": "$access", "secret_access_key": "$secret"}}}
"""
_DISTRIBUTION = """\
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage:
  cache: {blobdescriptor: inmemory}
  delete: {enabled: true}
  redirect: {disable: $streamed}
  maintenance: {uploadpurging: {enabled: false}}
  s3: {bucket: $bucket, region: $region, regionendpoint: "$endpoint", forcepathstyle: true, secure: false,
       v4auth: true, accesskey: $access, secretkey: $secret}
http: {addr: 127.0.0.1:$port}
"""
_ZOT = """\
{"distSpecVersion": "1.1.1", "log": {"level": "info"},
 "storage": {"rootDirectory": "$root", "dedupe": true, "remoteCache": false, "gc": false,
  "redirectBlobURL": $redirect,
  "storageDriver": {"name": "s3", "rootdirectory": "/zot", "bucket": "$bucket", "region": "$region",
   "regionendpoint": "$endpoint", "forcepathstyle": true, "secure": false, "skipverify": false,
   "accesskey": "$access", "secretkey": "$secret"}},
 "http": {"address": "127.0.0.1", "port": "$port"}}
"""


_WITH_MEMORY = "  cache: {blobdescriptor: inmemory}\n"


def _over_s3(name: str, config: str) -> Server:
    # The client in docker-registry does not start where the environment names certificates, which nothing here needs.
    environment = (*SERVERS[name].environment, ("AWS_CA_BUNDLE", ""))
    return dataclasses.replace(SERVERS[name], config=config, environment=environment)


def _ours(name: str, workers: int) -> Server:
    return dataclasses.replace(SERVERS[OURS], name=name, config=_OURS, settings=(("workers", str(workers)),))


S3_SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        _ours(OURS, 1),
        _ours(TWO_WORKERS, 2),
        _ours(THREE_WORKERS, 3),
        _over_s3(DOCKER_REGISTRY, _DISTRIBUTION),
        _over_s3(DISTRIBUTION, _DISTRIBUTION),
        dataclasses.replace(_over_s3(DISTRIBUTION, _DISTRIBUTION.replace(_WITH_MEMORY, "")), name=ASKING),
        _over_s3(ZOT, _ZOT),
    )
}
