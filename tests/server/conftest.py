"""What several tests of servers need."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import HOST

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of this address, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    pem, key = directory / "server.pem", directory / "server.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *names, "-keyout", str(key), "-out", str(pem)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return pem, key
