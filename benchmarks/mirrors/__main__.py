"""Pull through mirrors with empty caches, one server after the other, and print a table.

``python -m benchmarks.mirrors --layer 1024 --clients 20 --rounds 3``
"""

from __future__ import annotations

import argparse
import functools
import http.client
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.content import CONFIG, LAYER, MANIFEST, sha256
from benchmarks.load import together
from benchmarks.mirrors.pull import Pull
from benchmarks.mirrors.servers import MIRRORS, REPOSITORY
from benchmarks.processes import MEBIBYTE, Peak, processor_seconds
from benchmarks.servers import Running, Server, ServerError

if TYPE_CHECKING:
    from benchmarks.mirrors.servers import MirrorServer

LAYERS = 5
DIRECT = "upstream"
"""The row of pulls without a mirror."""


def _put_image(directory: Path, tag: str, layers: int, size: int) -> None:
    """Write an image, whose layers are noise with a beginning of their own."""
    noise = os.urandom(MEBIBYTE)
    described = []
    for number in range(layers):
        data = f"{tag} {number}".encode().ljust(64) + noise[64:]
        data = data * (size // MEBIBYTE)
        described.append({"mediaType": LAYER, "digest": sha256(data), "size": len(data)})
        _put(directory, sha256(data), data)
    config = json.dumps({"os": "linux", "tag": tag}).encode()
    _put(directory, sha256(config), config)
    named = {"mediaType": CONFIG, "digest": sha256(config), "size": len(config)}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": named, "layers": described}
    manifest = json.dumps(document).encode()
    for name in (tag, sha256(manifest)):
        _put(directory, name, manifest)


def _put(directory: Path, name: str, data: bytes) -> None:
    (directory / name.replace(":", "-")).write_bytes(data)


def _counts(port: int) -> dict[str, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/counts")
    found: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def _pull_and_fail(port: int, repository: str, tag: str) -> int:
    pull = Pull(port, repository, tag).run()
    return len(pull.failures)


def _one(port: int, repository: str, tag: str) -> dict[str, Any]:
    pull = Pull(port, repository, tag).run()
    return {"first ms": pull.first * 1e3, "seconds": pull.seconds, "failed": len(pull.failures)}


def _measure(upstream: int, running: Running, repository: str, clients: int, sizes: dict[str, int]) -> dict[str, Any]:
    """All of one round for one server whose cache is empty."""
    port, pid = running.port, running.pid
    row: dict[str, Any] = {}
    for tag in ("layer", "image"):
        _counts(upstream)
        found = _one(port, repository, tag)
        counts = _counts(upstream)
        row |= {f"{tag} {key}": value for key, value in found.items()}
        row[f"{tag} bytes"] = counts.get("bytes", 0) / sizes[tag]
    before, peak = processor_seconds(pid), Peak(pid)
    peak.sample()
    begun = peak.bytes
    span = together([functools.partial(_pull_and_fail, port, repository, "crowd")] * clients, peak.sample)
    counts = _counts(upstream)
    row |= {
        "crowd seconds": span.seconds,
        "crowd failed": span.count,
        "crowd requests": counts.get("blobs", 0),
        "crowd bytes": counts.get("bytes", 0) / sizes["crowd"],
        "crowd memory": (peak.bytes - begun) / MEBIBYTE,
        "crowd processor": processor_seconds(pid) - before,
    }
    warm = _one(port, repository, "layer")
    return row | {"warm seconds": warm["seconds"], "warm first ms": warm["first ms"]}


def _upstream(directory: Path) -> Server:
    return Server(
        DIRECT, Path(sys.executable), ("-m", "benchmarks.mirrors.upstream", "$port", str(directory)), "config", ""
    )


def _round(mirror: MirrorServer | None, content: Path, clients: int, sizes: dict[str, int]) -> dict[str, Any]:
    with Running(_upstream(content), content.parent) as upstream:
        if mirror is None:
            return _measure(upstream.port, upstream, REPOSITORY, clients, sizes)
        server = mirror.of(f"http://127.0.0.1:{upstream.port}")
        with Running(server, content.parent) as running:
            return _measure(upstream.port, running, mirror.repository, clients, sizes)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mirrors", description=__doc__)
    parser.add_argument("--layer", type=int, default=1024, help="MiB of the large layer")
    parser.add_argument("--clients", type=int, default=20, help="clients that want one image at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", default=",".join([DIRECT, *MIRRORS]))
    arguments = parser.parse_args()
    names = [name for name in arguments.servers.split(",") if name == DIRECT or MIRRORS[name].server.present]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-mirrors-") as directory:
        content = Path(directory) / "content"
        content.mkdir()
        large = arguments.layer * MEBIBYTE
        sizes = {"layer": large, "image": large // 8 // MEBIBYTE * MEBIBYTE * LAYERS, "crowd": large // 4}
        for tag, layers in (("layer", 1), ("image", LAYERS), ("crowd", 1)):
            _put_image(content, tag, layers, sizes[tag] // layers)
        for number in range(arguments.rounds):
            for name in names:
                try:
                    found = _round(MIRRORS.get(name), content, arguments.clients, sizes)
                except ServerError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                print(f"round {number + 1} {name}: {json.dumps(found)}", file=sys.stderr, flush=True)
                rows[name].append(found)
    _print(rows)
    return 0


def _print(rows: dict[str, list[dict[str, Any]]]) -> None:
    keys = list(dict.fromkeys(key for found in rows.values() for row in found for key in row))
    print("| what |", " | ".join(rows), "|")
    print("|---|" + "---|" * len(rows))
    for key in keys:
        medians = [statistics.median(row[key] for row in found) if found else None for found in rows.values()]
        print(f"| {key} |", " | ".join("-" if value is None else f"{value:.4g}" for value in medians), "|")


if __name__ == "__main__":
    sys.exit(main())
