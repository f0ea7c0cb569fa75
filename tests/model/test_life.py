"""The life of content against the model, on every driver.

``HYPOTHESIS_SEED`` is pytest's ``--hypothesis-seed``; hypothesis prints the steps of a failure, reduced to the fewest.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.model.aging_life import AgingLife
from tests.model.service import LocalService, MemoryService

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "16"))
STEPS = int(os.environ.get("MODEL_STEPS", "40"))


class LifeOnDisk(AgingLife):
    """Per-repository layouts, hard links, a journal that is appended to."""

    service_class = LocalService


class LifeInMemory(AgingLife):
    """Shared blobs, records as objects, conditional writes: what an object store has."""

    service_class = MemoryService


PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Explaining traces every line of the registry: minutes for what the steps of a failure already show.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    print_blob=True,
)
LifeOnDisk.TestCase.settings = PROFILE
LifeInMemory.TestCase.settings = PROFILE
TestLifeOnDisk = pytest.mark.timeout(600)(LifeOnDisk.TestCase)
TestLifeInMemory = pytest.mark.timeout(600)(LifeInMemory.TestCase)
