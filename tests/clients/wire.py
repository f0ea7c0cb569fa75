"""The registry over bare HTTP: what a test looks at beside the client it is about."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.clients.layouts import MANIFESTS, Descriptor, content, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Answer:
    """A response with its whole body; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the document in the body."""
        return json.loads(self.body)


class Wire:
    """Requests to one registry at ``host:port``, each on a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read the answer."""
        connection = http.client.HTTPConnection(self.address, timeout=120)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def manifest(self, repository: str, reference: str) -> Answer:
        """GET a manifest with the media types that clients accept; it must be there."""
        answer = self.request(
            "GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ", ".join(MANIFESTS)}
        )
        assert answer.status == http.client.OK, f"{repository}:{reference}: {answer.status} {answer.body[:500]!r}"
        return answer

    def has(self, repository: str, reference: str) -> bool:
        """Tell whether HEAD finds the manifest; any answer but 200 and 404 is an error."""
        status = self.request("HEAD", f"/v2/{repository}/manifests/{reference}").status
        assert status in (http.client.OK, http.client.NOT_FOUND), status
        return status == http.client.OK

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository."""
        answer = self.request("GET", f"/v2/{repository}/tags/list")
        assert answer.status == http.client.OK, answer
        return list(answer.json()["tags"])

    def referrers(self, repository: str, digest: str) -> list[Descriptor]:
        """Return what the referrers API lists for a digest."""
        answer = self.request("GET", f"/v2/{repository}/referrers/{digest}")
        assert answer.status == http.client.OK, answer
        return list(answer.json()["manifests"])

    def content(self, repository: str, reference: str) -> dict[str, int]:
        """Return digest and size of everything that a reference reaches, downloaded and verified."""
        top = self.manifest(repository, reference)

        def fetch(child: Descriptor) -> bytes:
            if child["mediaType"] in MANIFESTS:
                answer = self.manifest(repository, child["digest"])
                assert answer.headers["content-type"] == child["mediaType"]
                return answer.body
            answer = self.request("GET", f"/v2/{repository}/blobs/{child['digest']}")
            assert answer.status == http.client.OK, f"{child['digest']}: {answer.status} {answer.body[:500]!r}"
            return answer.body

        root = {"mediaType": top.headers["content-type"], "digest": top.headers["docker-content-digest"]}
        return content(fetch, root)

    def push_blob(self, repository: str, data: bytes, media_type: str, algorithm: str = "sha256") -> Descriptor:
        """Push a blob with POST and PUT and return its descriptor."""
        digest = digest_of(data, algorithm)
        opened = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert opened.status == http.client.ACCEPTED, opened
        location = opened.headers["location"].removeprefix(f"http://{self.address}")
        location += ("&" if "?" in location else "?") + f"digest={quote(digest)}"
        done = self.request("PUT", location, data, {"Content-Type": "application/octet-stream"})
        assert done.status == http.client.CREATED, done
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def push_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Answer:
        """PUT a manifest, which must be accepted."""
        answer = self.request("PUT", f"/v2/{repository}/manifests/{reference}", data, {"Content-Type": media_type})
        assert answer.status == http.client.CREATED, answer
        return answer


def until(condition: Callable[[], bool], what: str, timeout: float = 120.0) -> None:
    """Wait until the condition holds; an AssertionError that names ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)
