"""Proxies in front of a registry, with any headers, and with TLS where wanted."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from tests.support.program import Program
from tests.support.servers import HOST
from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.authority import Issued

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 128; }}

http {{
    access_log off;
    {temporary}
    server {{
        {listen}
        client_max_body_size 0;
        location /below/ {{
            proxy_pass http://{registry}/;
            proxy_set_header X-Forwarded-Prefix /below/;
        }}
        location / {{
            proxy_pass http://{registry};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            {lines}
        }}
    }}
}}
"""


class Proxy(NamedTuple):
    """What a proxy says."""

    lines: tuple[str, ...]
    tls: bool = False


class HalfSpeakingNginx(Program):
    """nginx with the headers of any proxy."""

    name: ClassVar[str] = "nginx"

    def __init__(self, directory: Path, registry: str, proxy: Proxy, issued: Issued | None = None) -> None:
        """``issued`` is its certificate, where it speaks TLS; without one it signs its own."""
        super().__init__(directory)
        self._registry = registry
        self._proxy = proxy
        self._issued = issued

    def command(self) -> list[str]:
        """Write the configuration, with a certificate of its own; return the command."""
        listen = f"listen {self.address};"
        if self._proxy.tls:
            pem, key = self._make_certificate() if self._issued is None else (self._issued.pem, self._issued.key)
            files = f"ssl_certificate {pem}; ssl_certificate_key {key};"
            listen = f"listen {self.address} ssl; {files}"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        path = self.directory / "nginx.conf"
        path.write_text(
            _CONFIGURATION.format(
                directory=self.directory,
                user="user root;" if os.geteuid() == 0 else "",
                temporary=" ".join(f"{kind}_temp_path {self.directory}/temporary-{kind};" for kind in kinds),
                listen=listen,
                registry=self._registry,
                lines="\n            ".join(f"proxy_set_header {line};" for line in self._proxy.lines),
            ),
            encoding="utf-8",
        )
        return [str(tool(self.name)), "-p", str(self.directory), "-c", str(path), "-e", "stderr"]

    def ready(self) -> bool:
        """Whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def _make_certificate(self) -> tuple[Path, Path]:
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=proxy", "-addext", f"subjectAltName=IP:{HOST}"]
        pem, key = self.directory / "tls.pem", self.directory / "tls.key"
        files = ["-keyout", str(key), "-out", str(pem)]
        subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True, timeout=30)
        return pem, key
