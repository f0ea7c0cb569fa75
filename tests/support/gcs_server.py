"""A GCS store of the tests' own: fake-gcs-server over a directory. It honours generations; anybody may do anything."""

from __future__ import annotations

import http.client
import json
import re
import uuid
from typing import TYPE_CHECKING, ClassVar

from tests.support.access_log import AccessLog, Call
from tests.support.dialect import GCS
from tests.support.program import Program
from tests.support.servers import HOST
from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r'\\"(?P<method>[A-Z]+) (?P<target>/\S*) HTTP/1\.[01]\\" (?P<status>\d{3}) ')
_OWN = "/_internal/"


def _parse(line: str) -> Call | None:
    found = _LINE.search(line)
    if found is None or found["target"].startswith(_OWN):
        return None
    method, target = found["method"], found["target"]
    return Call(method, GCS.kind(method, target, {}), target, int(found["status"]))


class GcsServer(Program):
    """One fake-gcs-server. Buckets are directories of ``data``."""

    name: ClassVar[str] = "fake-gcs-server"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory.resolve())
        self.data = self.directory / "data"
        self._log = AccessLog(self.log_path, _parse)

    @property
    def endpoint(self) -> str:
        """What a client takes as ``api_endpoint``."""
        return self.url

    def command(self) -> list[str]:
        """Return the command; without a port in the public host, any port in front of it is as good as its own."""
        options = {
            "-scheme": "http",
            "-host": HOST,
            "-port": str(self.port),
            "-filesystem-root": str(self.data),
            "-public-host": HOST,
            "-external-url": self.url,
        }
        return [str(tool(self.name)), *(part for option in options.items() for part in option)]

    def ready(self) -> bool:
        """Whether it answers now."""
        return self.answers("/_internal/healthcheck")

    def announce(self, url: str) -> None:
        """Let the links in answers (``mediaLink``, which downloads follow) lead to a proxy; until the next start."""
        self._send("PUT", "/_internal/config", {"externalUrl": url})

    def new_bucket(self, name: str | None = None) -> str:
        """Make an empty bucket, with a name of its own unless one is given; its name."""
        bucket = name or f"bucket-{uuid.uuid4().hex[:12]}"
        self._send("POST", "/storage/v1/b?project=test", {"name": bucket})
        return bucket

    def storage(self, bucket: str, endpoint: str | None = None) -> dict[str, object]:
        """The section ``storage`` of a registry that keeps its content in ``bucket``."""
        return {
            "driver": "gcs",
            "root_directory": "stowage",
            "gcs": {"bucket": bucket, "endpoint_url": endpoint or self.endpoint, "anonymous": True},
        }

    def calls(self) -> list[Call]:
        """Return what the store itself says it answered since ``reset_calls``, oldest first."""
        return self._log.calls()

    def reset_calls(self) -> None:
        """Forget the calls until now."""
        self._log.reset()

    def _send(self, method: str, path: str, document: dict[str, str]) -> None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(document), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == http.client.OK, answer.read().decode()
        finally:
            connection.close()
