"""What machines of operators ask; ``tests/server/test_start.py`` has the probes of a server that runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from structlog.testing import capture_logs

from tests.api.service import serving
from tests.auth.signing import jwks, rsa

if TYPE_CHECKING:
    from tests.api.service import Service


def uploads_open(service: Service) -> float:
    """What a scrape says."""
    text = service.call("GET", "/metrics").body.decode()
    return float(next(line for line in text.splitlines() if line.startswith("registry_uploads_open ")).split()[1])


def test_upload_sessions_are_counted_once_in_some_seconds_however_often_they_are_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        process = cast("Any", service.observation)._application.state.metrics
        service.begin("app")
        process.uploads_due = 0
        assert uploads_open(service) == 1
        service.begin("app")
        assert uploads_open(service) == 1
        process.uploads_due = 0
        assert uploads_open(service) == 2


def test_a_file_of_users_that_is_wrong_is_named_and_stops_nothing(tmp_path: Path) -> None:
    path, good = tmp_path / "htpasswd", "alice:$2b$04$" + "a" * 53 + "\n"
    path.write_text(good)
    with serving(tmp_path, {"auth": {"htpasswd": {"file": path}}}) as service:
        authentication = service.context.authentication
        assert authentication is not None
        for document, problems in (("alice:secret\n", ["auth.htpasswd"]), (good + "# repaired\n", [])):
            path.write_text(document)
            authentication.look()
            reply = service.call("GET", "/readyz")
            assert (reply.status, reply.json) == (200, {"status": "ok", "problems": problems})


def test_each_file_of_keys_that_is_wrong_is_named_and_logged_as_an_error(tmp_path: Path) -> None:
    own, external, provider = (tmp_path / name for name in ("own", "external", "provider"))
    good = {own: b"s" * 32, external: jwks(rsa(1)), provider: jwks(rsa(2))}
    for path, document in good.items():
        path.write_bytes(document)
    external_settings = {"realm": "https://auth.example.org", "issuer": "auth", "service": "x", "keys_file": external}
    sso = {"name": "sso", "issuer": "https://sso.example.org", "audiences": ["x"], "jwks_file": provider}
    auth = {"token": {"key_file": own, "external": external_settings}, "oidc": [sso, {**sso, "name": "ci"}]}
    with serving(tmp_path, {"auth": auth}) as service:
        authentication = service.context.authentication
        assert authentication is not None

        def problems() -> list[str]:
            authentication.look()
            reply = service.call("GET", "/readyz")
            assert reply.status == 200
            return list(reply.json["problems"])

        assert problems() == []
        for path in good:
            path.write_bytes(b"wrong")
        with capture_logs() as logs:
            assert problems() == ["auth.token.key_file", "auth.token.external.keys_file", "auth.oidc.jwks_file"]
        wrong = [Path(line["path"]) for line in logs if line["log_level"] == "error"]
        assert wrong == [own, external, provider, provider]
        for path, document in good.items():
            path.write_bytes(document + b"\n")
        assert problems() == []
