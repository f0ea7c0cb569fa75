"""The driver of Google Cloud Storage: credentials, signed addresses, settings, and what it asks the store for."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from registry.config.sections import GcsSettings, StorageSettings
from registry.config.settings import Settings
from registry.storage.errors import PathNotFound, StorageUnavailable, StoreMisconfigured, UnsupportedOperation
from registry.storage.factory import open_driver
from registry.storage.gcs.driver import GcsDriver
from tests.storage.gcs import store as gcs_store
from tests.storage.gcs.faults import Fault, Faults, Handler, Rule, reset, status

pytestmark = [pytest.mark.stores, pytest.mark.tools(gcs_store.PROGRAM)]

KEY = "team/app/index.json"


@pytest.fixture
def faults() -> Iterator[Faults]:
    with Faults(gcs_store.endpoint()) as server:
        yield server


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def key_file(tmp_path: Path, faults: Faults, private_key: str) -> Path:
    """The key of a service account, whose tokens come from the same server."""
    path = tmp_path / "key.json"
    document = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": private_key,
        "client_email": "registry@project.iam.gserviceaccount.com",
        "token_uri": f"{faults.address}/token",
    }
    path.write_text(json.dumps(document))
    return path


def gives_tokens(seconds: int = 3600) -> Fault:
    """The token server; each of its tokens has a number."""
    given = iter(range(1, 1000))

    def fault(handler: Handler) -> None:
        token = {"access_token": f"token-{next(given)}", "expires_in": seconds, "token_type": "Bearer"}
        handler.answer(200, {"content-type": "application/json"}, json.dumps(token).encode())

    return fault


@pytest.fixture
def open_with(faults: Faults) -> Iterator[Callable[..., GcsDriver]]:
    opened: list[GcsDriver] = []

    def do(**changes: Any) -> GcsDriver:
        bucket = gcs_store.new_bucket().bucket
        settings = GcsSettings(bucket=bucket, endpoint_url=faults.address, attempts=2, **changes)
        opened.append(GcsDriver(settings, gcs_store.ROOT))
        return opened[-1]

    yield do
    for driver in opened:
        driver.close()


def tokens_of(faults: Faults) -> list[str | None]:
    return [seen.headers.get("authorization") for seen in faults.seen if seen.target != "/token"]


# ---- credentials


def test_one_token_serves_many_requests_of_many_threads(
    faults: Faults, key_file: Path, open_with: Callable[..., GcsDriver]
) -> None:
    faults.rules.append(Rule(gives_tokens(), part="/token"))
    driver = open_with(credentials_file=key_file)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(driver.write, f"a/{number}", b"x") for number in range(40)]:
            done.result()
    assert faults.count(part="/token") == 1
    assert set(tokens_of(faults)) == {"Bearer token-1"}


def test_a_token_that_is_not_accepted_any_more_is_renewed_once(
    faults: Faults, key_file: Path, open_with: Callable[..., GcsDriver]
) -> None:
    faults.rules.append(Rule(gives_tokens(), part="/token"))
    driver = open_with(credentials_file=key_file)
    driver.write(KEY, b"x")
    faults.rules.append(Rule(status(401), times=1))
    driver.stat(KEY)
    assert tokens_of(faults) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    faults.rules.append(Rule(status(401)))
    with pytest.raises(StoreMisconfigured, match=r"storage\.gcs\.credentials_file"):
        driver.stat(KEY)


def test_a_token_that_ends_is_renewed_before(
    faults: Faults, key_file: Path, open_with: Callable[..., GcsDriver]
) -> None:
    faults.rules.append(Rule(gives_tokens(60), part="/token"))
    driver = open_with(credentials_file=key_file)
    driver.write(KEY, b"x")
    driver.stat(KEY)
    assert tokens_of(faults) == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (status(400), StoreMisconfigured),
        (status(401), StoreMisconfigured),
        (reset, StorageUnavailable),
        (lambda handler: handler.answer(200, {}, b"{}"), StoreMisconfigured),
    ],
)
def test_a_token_that_is_not_given_is_told_in_our_words(
    faults: Faults,
    key_file: Path,
    open_with: Callable[..., GcsDriver],
    fault: Fault,
    error: type[Exception],
) -> None:
    faults.rules.append(Rule(fault, part="/token"))
    driver = open_with(credentials_file=key_file)
    with pytest.raises(error):
        driver.check()


@pytest.mark.parametrize("content", ["", "{}", '{"type": "authorized_user"}', '{"type": "service_account"}', "\xff"])
def test_a_file_that_is_no_key_is_refused_at_once(
    tmp_path: Path, open_with: Callable[..., GcsDriver], content: str
) -> None:
    path = tmp_path / "key.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(StoreMisconfigured, match=r"storage\.gcs\.credentials_file"):
        open_with(credentials_file=path)


def test_without_credentials_the_start_is_refused(
    monkeypatch: pytest.MonkeyPatch, open_with: Callable[..., GcsDriver]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(StoreMisconfigured, match=r"storage\.gcs\.credentials_file"):
        open_with()


def test_credentials_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, faults: Faults, key_file: Path, open_with: Callable[..., GcsDriver]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    faults.rules.append(Rule(gives_tokens(), part="/token"))
    driver = open_with()
    driver.write(KEY, b"x")
    assert tokens_of(faults) == ["Bearer token-1"]
    assert driver.capabilities.presigned


def test_the_project_that_pays_is_named_in_each_request(faults: Faults, open_with: Callable[..., GcsDriver]) -> None:
    driver = open_with(anonymous=True, project="payer")
    driver.write(KEY, b"x")
    driver.delete([KEY, "another"])
    assert [seen.headers.get("x-goog-user-project") for seen in faults.seen] == ["payer", "payer"]


# ---- signed addresses


@pytest.mark.parametrize("key", [KEY, "a/ü b+c%d~e&f=g?h#i"])
def test_a_signed_address_is_made_without_asking_and_leads_to_the_object(
    faults: Faults, key_file: Path, open_with: Callable[..., GcsDriver], key: str
) -> None:
    faults.rules.append(Rule(gives_tokens(), part="/token"))
    driver = open_with(credentials_file=key_file)
    driver.write(key, b"content")
    faults.seen.clear()
    signed = driver.presign(key, seconds=300)
    assert faults.seen == []
    query = parse_qs(urlsplit(signed).query)
    assert query["X-Goog-Expires"] == ["300"]
    assert signed.startswith(f"{faults.address}/{driver._bucket.name}/")
    with urllib.request.urlopen(signed, timeout=10) as answer:  # noqa: S310 - our own server
        assert answer.read() == b"content"


def test_without_a_key_there_are_no_signed_addresses(open_with: Callable[..., GcsDriver]) -> None:
    driver = open_with(anonymous=True)
    assert not driver.capabilities.presigned
    with pytest.raises(UnsupportedOperation):
        driver.presign(KEY, seconds=1)


# ---- requests


def test_what_each_method_asks_for(faults: Faults) -> None:
    heard: list[tuple[str, str, bool]] = []

    def observe(name: str, operation: str, _kind: str | None, _seconds: float, failed: bool) -> None:
        heard.append((name, operation, failed))

    settings = gcs_store.new_bucket().model_copy(update={"endpoint_url": faults.address})
    driver = GcsDriver(settings, "", observe=observe)

    def asked(work: Callable[[], object]) -> list[str]:
        heard.clear()
        work()
        assert all(name == "gcs" and not failed for name, _, failed in heard)
        return [operation for _, operation, _ in heard]

    assert asked(lambda: driver.write(KEY, b"x")) == ["objects.insert"]
    assert asked(lambda: driver.write("new", b"x", if_absent=True)) == ["objects.insert"]
    assert asked(lambda: driver.stat(KEY)) == ["objects.get"]
    assert asked(lambda: driver.read(KEY, max_bytes=1)) == ["objects.get"]
    assert asked(lambda: driver.open(KEY).close()) == ["objects.get"]
    assert asked(lambda: list(driver.list(""))) == ["objects.list"]
    assert asked(lambda: list(driver.children(""))) == ["objects.list"]
    there = driver.stat(KEY)
    copy = partial(driver.copy, KEY, "copy", size=1, if_etag=there.etag)
    assert asked(copy) == ["objects.rewrite"]
    assert asked(lambda: driver.delete([])) == []
    assert asked(lambda: driver.delete([KEY])) == ["objects.delete"]
    assert asked(lambda: driver.delete([KEY, "new"])) == ["batch"]
    assert asked(driver.check) == ["objects.list"]
    faults.rules.append(Rule(status(503), times=1))
    heard.clear()
    with pytest.raises(PathNotFound):
        driver.stat("missing")
    assert heard == [("gcs", "objects.get", True), ("gcs", "objects.get", False)]
    driver.close()


def test_a_listing_of_several_pages_is_whole(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.storage.object_store.objects.PAGE", 7)
    driver = GcsDriver(gcs_store.new_bucket().model_copy(update={"endpoint_url": faults.address}), "")
    keys = [f"a/{number:02}" for number in range(30)]
    for key in keys:
        driver.write(key, b"")
    faults.seen.clear()
    assert [key for key, _ in driver.list("")] == keys
    assert len(faults.seen) == 5
    assert [key for key, _ in driver.list("a", after="a/20")] == keys[21:]
    assert [child.name for child in driver.children("a")] == [key[2:] for key in keys]
    driver.close()


def test_connections_are_used_again(faults: Faults) -> None:
    driver = GcsDriver(gcs_store.new_bucket().model_copy(update={"endpoint_url": faults.address}), "")
    for _ in range(5):
        driver.write(KEY, b"x" * 3000)
        driver.read(KEY, max_bytes=3000)
        driver.stat(KEY)
        with pytest.raises(PathNotFound):
            driver.open("missing")
    (pool,) = [driver._bucket._pool.connection_from_url(faults.address)]
    assert pool.num_connections == 1
    driver.close()


def test_a_store_is_asked_for_no_longer_than_the_timeouts_allow(faults: Faults) -> None:
    changed = {"endpoint_url": faults.address, "attempts": 2, "read_timeout": 0.2}
    driver = GcsDriver(gcs_store.new_bucket().model_copy(update=changed), "")
    told = threading.Event()

    def wait(_: Handler) -> None:
        told.wait(90)

    faults.rules.append(Rule(wait))
    begin = time.monotonic()
    with pytest.raises(StorageUnavailable):
        driver.stat(KEY)
    assert time.monotonic() - begin < 60
    told.set()
    driver.close()


# ---- settings


def test_the_driver_is_opened_as_configured(tmp_path: Path) -> None:
    settings = gcs_store.new_bucket()
    driver = open_driver(
        Settings(storage=StorageSettings(driver="gcs", gcs=settings, root_directory=Path("deep/root")))
    )
    driver.write(KEY, b"x")
    whole = GcsDriver(settings, "")
    assert [key for key, _ in whole.list("")] == [f"deep/root/{KEY}"]
    assert driver.capabilities.part_bytes == settings.part_size
    driver.close()
    whole.close()


def test_a_configuration_without_a_bucket_says_so() -> None:
    with pytest.raises(StoreMisconfigured, match=r"storage\.gcs"):
        open_driver(Settings(storage=StorageSettings(driver="gcs")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "Upper"}, {"bucket": "a/b"}, {"bucket": ""}, {"endpoint_url": "storage.example"},
        {"part_size": 1000}, {"credentials_file": "/nowhere/key.json"}, {"attempts": 0}, {"read_timeout": 0},
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GcsSettings(**{"bucket": "bucket", **wrong})
