"""A server behind HTTPS."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    import ssl


class TlsProcess(RegistryProcess):
    """A server that is asked over TLS, with a certificate of our own to trust and to show."""

    context: ssl.SSLContext

    def answers(self, path: str) -> bool:
        """See RegistryProcess."""
        try:
            return self.status(path, self.context) == 200
        except OSError:
            return False

    def status(self, path: str, context: ssl.SSLContext) -> int:
        """Of one request over TLS. Raises OSError."""
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=10, context=context)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()
