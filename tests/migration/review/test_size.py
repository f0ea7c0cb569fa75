"""A bucket of twenty thousand blobs, at full length of a hundred thousand, reviewed in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.budget import FULL, budget
from tests.support.synthetic_bucket import MAKERS

ROOT = Path(__file__).parents[3]
REPOSITORIES, LAYERS = budget(sample=400, full=2000), 50
MOST_MIB = 300


@(pytest.mark.soak if FULL else pytest.mark.stores)
@pytest.mark.timeout(930)
@pytest.mark.parametrize("kind", MAKERS)
def test_any_number_of_blobs_is_reviewed_below_300_mib(kind: str) -> None:
    command = [sys.executable, "-m", "tests.support.synthetic_bucket", kind, str(REPOSITORIES), str(LAYERS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == 0
    assert (found["repositories"], found["blobs"]) == (REPOSITORIES, REPOSITORIES * LAYERS + 1)
    assert found["mib"] < MOST_MIB, found
