"""What a scrub compares beside bytes: objects against rows, and counters of quotas against what they count."""

from __future__ import annotations

import pytest

from registry.config.access_sections import QuotaSettings
from registry.database.quotas import usage
from registry.images.registry import Registry
from registry.maintenance.scrub.report import CounterDifference
from registry.oci.digest import Digest
from registry.oci.quotas import Quotas
from tests.maintenance.scrub.place import key_of, scrub
from tests.support.registry_world import NAME, World, pull, push_blob, push_image

OTHER = "other/app"


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_objects_without_rows_are_told_and_left(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("registry.maintenance.scrub.unknown_objects.PAGE", page)
    image = push_image(registry, "a", "v1")
    push_image(registry, "a", "v1", name=OTHER)
    unknown = sorted(key_of(registry, Digest.of(text)) for text in (b"x", b"yy"))
    for key, text in ((key_of(registry, Digest.of(text)), text) for text in (b"x", b"yy")):
        world.driver().write(key, text)
    assert scrub(registry).unknown_objects == 0, "a publisher may be about to write their rows"
    world.clock.now += 7200
    report = scrub(registry)
    assert (report.unknown_objects, report.unknown_bytes, report.unknown_keys) == (2, 3, unknown)
    assert report.is_clean
    assert {key for key, _ in world.driver().list("")} >= set(unknown)
    assert pull(registry, "v1") == image.digest


@pytest.fixture
def limited(world: World) -> Registry:
    quota = QuotaSettings(repositories=("team/**",), bytes=1 << 20)
    return world.registry(quotas=Quotas([quota]))


def note(registry: Registry, used: int) -> None:
    (quota,) = registry.backends.policy.quotas.all()
    with registry.backends.database.transaction() as connection:
        row = usage.find(connection, quota.key).get()
        usage.note(connection, quota.key, used=used, added=row.added if row else 0, due_at=2e10)


def noted(registry: Registry) -> int:
    (quota,) = registry.backends.policy.quotas.all()
    with registry.backends.database.autocommit() as connection:
        row = usage.find(connection, quota.key).get()
    assert row is not None
    return row.used


def test_a_counter_that_is_right_is_not_told(limited: Registry) -> None:
    push_blob(limited, b"12345")
    limited.blob_publication.quota_usage.require(NAME, None, 1)
    assert scrub(limited).counters == []


@pytest.mark.parametrize(("used", "is_clean"), [(3, False), (7, True)])
def test_a_counter_that_differs_is_told_and_repaired(limited: Registry, used: int, is_clean: bool) -> None:
    push_blob(limited, b"12345")
    note(limited, used)
    report = scrub(limited)
    assert report.counters == [CounterDifference("the quota of team/**", used, 5, repaired=False)]
    assert report.is_clean is is_clean
    assert noted(limited) == used
    report = scrub(limited, repairs=True)
    assert report.counters == [CounterDifference("the quota of team/**", used, 5, repaired=True)]
    assert report.is_clean
    assert noted(limited) == 5
    assert scrub(limited).counters == []
