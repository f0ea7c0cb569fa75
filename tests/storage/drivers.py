"""The drivers and decorators that the contract suite runs over: a new driver is a new row."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from registry.config.sections import S3Settings
from registry.storage.driver import Capabilities, StorageDriver
from registry.storage.local.driver import LocalDriver
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import FaultyDriver
from registry.storage.middleware.metrics import MeasuredDriver
from registry.storage.middleware.rate_limit import RateLimitedDriver
from registry.storage.middleware.tiered.directory import CacheDirectory
from registry.storage.middleware.tiered.driver import TieredDriver
from registry.storage.middleware.tiered.observer import CacheObserver
from registry.storage.s3.driver import S3Driver
from registry.storage.s3.requests import S3Request
from tests.storage.gcs import store as gcs_store
from tests.storage.object_store import directory_store
from tests.storage.object_store.directory_store import DirectoryStore
from tests.support.s3_server import S3Server
from tests.support.servers import HOST

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def _ignore(driver: str, operation: str, _kind: str | None, seconds: float, failed: bool) -> None:
    assert driver
    assert operation
    assert seconds >= 0
    assert failed in {True, False}


@dataclass(frozen=True)
class DriverCase:
    """How to open a driver on an empty directory."""

    name: str
    open: Callable[[Path], StorageDriver]
    capabilities: Capabilities
    shared: bool
    """Processes that open it on one directory see one store."""
    concurrent: bool = True
    """False: a mock whose writes are not atomic."""
    copy_conditions: bool = True
    """False: a mock that copies whatever version is there."""
    tools: tuple[str, ...] = ()
    """Programs that it needs."""
    is_slow: bool = False
    """It runs with the real stores, and other rows show in `make test` what it would show there."""


S3 = S3Settings(
    bucket="bucket", region="us-east-1", access_key_id="k", secret_access_key=SecretStr("s"), part_size=5 << 20
)


@cache
def _moto() -> str:
    """The address of Amazon's store as moto plays it, in a thread of this process."""
    from moto.server import ThreadedMotoServer  # slow to load, and other processes open other cases

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


class _MotoDriver(S3Driver):
    """Over a bucket of its own."""

    def __init__(self) -> None:
        bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        super().__init__(S3.model_copy(update={"bucket": bucket, "endpoint_url": _moto()}), "some/root")
        self._bucket.send("", S3Request("put_object", "PUT", of_bucket=True))


@cache
def s3_server() -> S3Server:
    """The store of this process, which ends with it."""
    directory = Path(tempfile.mkdtemp(prefix="stowage-s3-"))
    server = S3Server(directory)
    server.start()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(server.stop)
    return server


@cache
def s3_settings() -> S3Settings:
    """A bucket of that store, for a caller with a root of its own."""
    server = s3_server()
    own = {"bucket": server.new_bucket(), "endpoint_url": server.endpoint, "access_key_id": server.access}
    return S3.model_copy(update={**own, "secret_access_key": SecretStr(server.secret)})


def _s3(root: Path) -> StorageDriver:
    """A bucket for each root; another process finds it by what is noted there."""
    noted = root / "s3.json"
    if noted.exists():
        settings = S3Settings.model_validate_json(noted.read_text())
    else:
        server = s3_server()
        settings = S3.model_copy(
            update={
                "bucket": server.new_bucket(),
                "endpoint_url": server.endpoint,
                "access_key_id": server.access,
                "secret_access_key": SecretStr(server.secret),
            }
        )
        root.mkdir(parents=True, exist_ok=True)
        document = settings.model_dump(mode="json") | {"secret_access_key": server.secret}
        noted.write_text(json.dumps(document))
    return S3Driver(settings, "some/root")


def _tiered(driver: StorageDriver, root: Path) -> StorageDriver:
    """As clients are served, with both directories beside the store; processes that share the store share these."""
    blobs, metadata = (
        CacheDirectory(root.with_name(f"{root.name}-{tier}"), 64 << 20, CacheObserver(tier))
        for tier in ("blob", "metadata")
    )
    return TieredDriver(driver, blobs=blobs, metadata=metadata).serving


S3_CAPABILITIES = replace(
    MemoryDriver.capabilities,
    exclusive_uploads=False,
    presigned=True,
    part_bytes=S3.part_size,
    copy_bytes=256 << 20,
    copy_part_bytes=128 << 20,
    delete_batch=1000,
    late_deletes=True,
)
GCS_CAPABILITIES = replace(
    MemoryDriver.capabilities, exclusive_uploads=False, part_bytes=gcs_store.PART, delete_batch=100, late_deletes=False
)

CASES = (
    DriverCase(
        "s3-moto",
        lambda _: _MotoDriver(),
        S3_CAPABILITIES,
        shared=False,
        concurrent=False,
        copy_conditions=False,
        is_slow=True,
    ),
    DriverCase("s3", _s3, S3_CAPABILITIES, shared=True, tools=("versitygw",)),
    DriverCase(
        "gcs",
        gcs_store.open_store,
        GCS_CAPABILITIES,
        shared=True,
        copy_conditions=False,
        tools=(gcs_store.PROGRAM,),
    ),
    DriverCase("directory", DirectoryStore, directory_store.CAPABILITIES, shared=True),
    DriverCase("memory", lambda _: MemoryDriver(), MemoryDriver.capabilities, shared=False),
    DriverCase("local", LocalDriver, LocalDriver.capabilities, shared=True),
    DriverCase(
        "local-nosync",
        lambda root: LocalDriver(root, fsync=False),
        LocalDriver.capabilities,
        shared=True,
        is_slow=True,
    ),
    DriverCase(
        "measured-memory", lambda _: MeasuredDriver(MemoryDriver(), _ignore), MemoryDriver.capabilities, shared=False
    ),
    DriverCase(
        "paced-memory", lambda _: RateLimitedDriver(MemoryDriver(), 1e6), MemoryDriver.capabilities, shared=False
    ),
    DriverCase("tiered-memory", lambda root: _tiered(MemoryDriver(), root), MemoryDriver.capabilities, shared=False),
    DriverCase(
        "tiered-directory", lambda root: _tiered(DirectoryStore(root), root), directory_store.CAPABILITIES, shared=True
    ),
    DriverCase("tiered-s3", lambda root: _tiered(_s3(root), root), S3_CAPABILITIES, shared=True, tools=("versitygw",)),
    DriverCase("faulty-local", lambda root: FaultyDriver(LocalDriver(root)), LocalDriver.capabilities, shared=True),
)


def cases(where: Callable[[DriverCase], bool] = lambda _: True) -> list[ParameterSet]:
    """Parameters of the ``driver`` and ``case`` fixtures: the rows for which ``where`` holds."""
    import pytest

    def marks(case: DriverCase) -> list[pytest.MarkDecorator]:
        tools = [pytest.mark.tools(*case.tools)] if case.tools else []
        return [pytest.mark.stores, *tools] if case.tools or case.is_slow else []

    return [pytest.param(case, id=case.name, marks=marks(case)) for case in CASES if where(case)]


def case_named(name: str) -> DriverCase:
    """The row of that name, for another process."""
    return next(case for case in CASES if case.name == name)
