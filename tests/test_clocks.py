"""Clocks of this machine."""

from __future__ import annotations

import subprocess
import sys
import time

from registry.clocks import Clocks, boot_id, boot_seconds


def test_the_time_since_the_start_goes_on_and_is_the_same_in_another_process() -> None:
    first = boot_seconds()
    code = "from registry.clocks import boot_id, boot_seconds; print(boot_id(), boot_seconds())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told[0] == boot_id()
    assert first < float(told[1]) < boot_seconds()


def test_the_clocks_are_those_of_the_machine_unless_others_are_given() -> None:
    clocks = Clocks()
    assert abs(clocks.wall() - time.time()) < 60
    assert clocks.boot() <= boot_seconds()
    assert Clocks(boot_id="another").boot_id == "another" != clocks.boot_id
