"""Usage by name: what is asked for, and what is not there."""

from __future__ import annotations

import pytest

from registry.images.registry import Registry
from registry.maintenance.usage.range_usage import ALL, below
from registry.maintenance.usage.usage import Usage
from registry.oci.errors import NameUnknown
from tests.support.registry_world import NAME, push_image


def test_a_repository_is_asked_for_by_its_name(registry: Registry) -> None:
    push_image(registry, "one", "v1")
    usage = Usage(registry)
    found = usage.repository(NAME)
    assert list(usage.repositories(usage.names(ALL))) == [(NAME, found)]
    assert list(usage.repositories([NAME, "gone/app"])) == [(NAME, found)]
    assert usage.total(ALL) == usage.total(below("team")) == found
    with pytest.raises(NameUnknown):
        usage.repository("gone/app")
