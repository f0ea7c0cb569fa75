"""The benchmark of mirrors runs, with little work."""

from __future__ import annotations

import re
import subprocess
import sys


def test_it_pulls_through_ours_and_counts_what_the_upstream_was_asked() -> None:
    command = [sys.executable, "-m", "benchmarks.mirrors", "--layer", "8", "--clients", "3", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--servers", "upstream,ours"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    table = dict(re.findall(r"^\| ([a-z ]+?) \| (.+) \|$", done.stdout, re.MULTILINE))
    assert table["crowd requests"] == "3 | 1"
    for what in ("layer", "image", "crowd"):
        assert table[f"{what} failed"] == "0 | 0", done.stderr
        assert table[f"{what} bytes"].split(" | ")[1] == "1", done.stdout
