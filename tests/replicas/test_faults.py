"""A store that fails once, in every operation and in every way: what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.service import Service, serving
from tests.replicas.conftest import Config
from tests.replicas.story import PART, Story, index_tags, tags
from tests.support.fault_proxy import FaultProxy

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

KINDS = [
    "PutObject",
    "GetObject",
    "ListObjectsV2",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "CopyObject",
    "DeleteObject",
    "DeleteObjects",
    "AbortMultipartUpload",
]
Strike = Callable[[FaultProxy, str, int], Any]
WAYS: dict[str, Strike] = {
    "500": lambda proxy, kind, skip: proxy.fail(kind, status=500, skip=skip),
    "503": lambda proxy, kind, skip: proxy.fail(kind, status=503, skip=skip),
    "reset": lambda proxy, kind, skip: proxy.fail(kind, status=None, skip=skip),
    "answer lost": lambda proxy, kind, skip: proxy.fail(kind, after=True, skip=skip),
    "timeout": lambda proxy, kind, skip: proxy.hang(kind, skip=skip),
    "request cut": lambda proxy, kind, skip: proxy.cut(kind, request=30, skip=skip),
    "response cut": lambda proxy, kind, skip: proxy.cut(kind, response=20, skip=skip),
}


@pytest.fixture
def service(config: Config, proxy: FaultProxy, tmp_path: Path) -> Iterator[Service]:
    s3 = config["storage"]["s3"]
    s3 |= {
        "endpoint_url": proxy.url,
        "part_size": PART,
        "read_timeout": 0.5,
        "connect_timeout": 0.5,
        "timeout": 3,
        "attempts": 3,
    }
    with serving(tmp_path, config) as served:
        yield served


def test_every_operation_of_the_list_is_asked_for(service: Service, proxy: FaultProxy) -> None:
    Story(service).tell()
    asked = set(proxy.kinds()) - {"HeadObject"}
    assert asked <= set(KINDS)
    assert len(set(KINDS) - asked) <= 2, set(KINDS) - asked  # which deletes there are depends on what there is


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_failure_in_every_operation_harms_nothing(service: Service, proxy: FaultProxy, kind: str, way: str) -> None:
    for skip in (0, 1, 3):
        WAYS[way](proxy, kind, skip)
    story = Story(service)
    story.tell()
    proxy.clear()
    story.check()
    assert tags(service) == ["v1"]
    service.registry.fold_waiting()
    assert index_tags(service) == {"v1"}


@pytest.mark.parametrize("kind", ["PutObject", "UploadPart", "CompleteMultipartUpload", "CopyObject", "GetObject"])
def test_a_store_that_fails_for_long_gives_a_clean_error_and_works_again(
    service: Service, proxy: FaultProxy, kind: str
) -> None:
    rule = proxy.fail(kind, status=503, times=None)
    story = Story(service)
    with pytest.raises(AssertionError, match="it never worked"):
        story.tell()
    assert set(story.failures) == {503}
    assert rule.hits
    proxy.clear()
    story.tell()
    assert tags(service) == ["v1"]


def test_a_slow_store_is_only_slow(service: Service, proxy: FaultProxy) -> None:
    proxy.delay = 0.05
    story = Story(service)
    story.tell()
    assert story.failures == []
