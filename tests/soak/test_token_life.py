"""Pushes that outlive their tokens, as long as in life: a layer of three minutes, tokens of one (check 10)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.client import Client
from tests.clients.machines import Crane, Oras, Regctl, Skopeo
from tests.clients.slow_line import large_layout, line, push
from tests.soak.budget import FULL
from tests.support.tools import tool

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900), pytest.mark.tools("crane", "oras", "skopeo", "regctl")]

TOKEN, LAYER_SECONDS = (60, 180.0) if FULL else (3, 9.0)
KINDS = (Crane, Oras, Skopeo, Regctl) if FULL else (Crane, Oras)
"""skopeo and regctl take any token for one of a minute at the least."""


def test_a_layer_of_three_minutes_is_pushed_with_tokens_of_one(tmp_path: Path) -> None:
    layout = large_layout(tmp_path / "large")
    with line(tmp_path, token=TOKEN, layer=LAYER_SECONDS) as slow, ThreadPoolExecutor() as pool:
        machines = [kind(Client(tool(kind.tools[0]), tmp_path / kind.tools[0]), slow.address) for kind in KINDS]
        for done in [pool.submit(push, machine, slow, layout) for machine in machines]:
            done.result()
