"""nginx as an operator puts it in front of replicas: it deals requests in turn and keeps nothing of them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, ClassVar

from tests.support.program import Program
from tests.support.servers import HOST
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.authority import Issued

ASKED = "X-Asked"
"""A header of each answer: the servers that got the request, in their order, with commas between."""
_READY = "/.nginx"
"""Answered by nginx itself; a path that no registry has."""

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 1024; }}

http {{
    log_format dealt '$upstream_addr $status $request_method $request_uri $request_length $bytes_sent $request_time';
    access_log {directory}/access.log dealt;
    {temporary}

    upstream registry {{
        {servers}
        keepalive 32;
        keepalive_timeout 2s;  # below the registry's own, so that no request meets a connection that is being closed
    }}

    server {{
        listen {address}{tls};
        client_max_body_size 0;
        client_body_timeout 300s;
        send_timeout 300s;

        location = {ready} {{ access_log off; return 200; }}

        location / {{
            proxy_pass http://registry;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Client-Cert $ssl_client_escaped_cert;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout 300s;
            proxy_send_timeout 300s;
            proxy_next_upstream {next_upstream};
            add_header {asked} $upstream_addr always;
        }}
    }}
}}
"""


class Nginx(Program):
    """One nginx in front of servers at loopback ports.

    With ``next_upstream`` a request that a server cannot take goes to the next one, and the server is left out for a
    while. Without it the client gets 502, and each server keeps its turn: a test sees every failure.

    With ``tls`` it serves HTTPS; with ``client_ca`` it passes certificates of that authority on in X-Client-Cert.
    """

    name: ClassVar[str] = "nginx"

    def __init__(
        self,
        directory: Path,
        ports: Sequence[int],
        *,
        next_upstream: bool = False,
        tls: Issued | None = None,
        client_ca: Path | None = None,
    ) -> None:
        super().__init__(directory.resolve())
        self._tls = "" if tls is None else f" ssl; ssl_certificate {tls.pem}; ssl_certificate_key {tls.key}"
        if client_ca is not None:
            self._tls += f"; ssl_client_certificate {client_ca}; ssl_verify_client optional"
        self._ports = ports
        self._next_upstream = next_upstream
        self.access_log = self.directory / "access.log"
        """The log of requests: one line for each, with the server's address first."""

    def command(self) -> list[str]:
        """Write the configuration; return the command."""
        path = self.directory / "nginx.conf"
        path.write_text(self._configuration(), encoding="utf-8")
        return [str(tool(self.name)), "-p", str(self.directory), "-c", str(path), "-e", "stderr"]

    def ready(self) -> bool:
        """Whether it answers now; says nothing about the servers behind it."""
        if not self._tls:
            return self.answers(_READY)
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def _configuration(self) -> str:
        rest = "" if self._next_upstream else " max_fails=0"
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        return _CONFIGURATION.format(
            directory=self.directory,
            address=self.address,
            tls=self._tls,
            ready=_READY,
            asked=ASKED,
            servers="\n        ".join(f"server {HOST}:{port}{rest};" for port in self._ports),
            # The workers of a master that is root would be another user, without access to the directory.
            user="user root;" if os.geteuid() == 0 else "",
            temporary="\n    ".join(f"{kind}_temp_path {self.directory}/temporary-{kind};" for kind in temporary),
            next_upstream="error timeout" if self._next_upstream else "off",
        )
