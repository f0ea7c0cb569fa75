"""Metrics are the sum of all workers, cost next to nothing per request, and have bounded labels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from registry.observability.metrics.http_metrics import RequestTally
from registry.observability.metrics.metrics import Metrics
from registry.observability.metrics.metrics_directory import MEMORY
from registry.observability.metrics.storage_metrics import StorageTally
from tests.support.interpreter_steps import steps

ROUTE = "/v2/{name}/manifests/{reference}"
WORKERS = """
import os, sys
from registry.observability.metrics.metrics_directory import metrics_directory
with metrics_directory() as directory:
    from registry.observability.metrics.http_metrics import RequestTally
    from registry.observability.metrics.metrics import Metrics, forget_worker
    metrics = Metrics()
    for worker in range(2):
        process = os.fork()
        if process == 0:
            tally = RequestTally(metrics.http)
            tally.add("/v2/", "GET", 200, 0.01, 3, 5)
            tally.flush()
            metrics.uploads_open.set(worker + 1)
            os._exit(0)
        os.waitpid(process, 0)
        forget_worker(process)
    metrics.uploads_open.set(7)
    sys.stdout.write(metrics.render().decode())
assert not directory.exists()
assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
"""

ABANDONED = """
import os, sys
from registry.observability.metrics.metrics_directory import metrics_directory
with metrics_directory() as directory:
    print(directory, flush=True)
    sys.stdin.read() if sys.argv[1] == "wait" else os._exit(0)
"""


def value(metrics: Metrics, sample: str) -> float:
    lines = dict(line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if not line.startswith("#"))
    return float(lines[sample])


def test_a_tally_reaches_the_metrics_when_it_is_flushed() -> None:
    metrics = Metrics()
    tally = RequestTally(metrics.http)
    tally.add(ROUTE, "GET", 200, 0.0005, 0, 100)
    tally.add(ROUTE, "GET", 200, 0.02, 7, 100)
    tally.add(ROUTE, "GET", 404, 400.0, 0, 50)
    tally.flush()
    tally.flush()
    labels = f'method="GET",route="{ROUTE}"'
    assert value(metrics, f'registry_http_requests_total{{{labels},status="200"}}') == 2
    assert value(metrics, f'registry_http_requests_total{{{labels},status="404"}}') == 1
    assert value(metrics, "registry_http_received_bytes_total") == 7
    assert value(metrics, "registry_http_sent_bytes_total") == 250
    bucket = "registry_http_request_duration_seconds_bucket"
    counts = [value(metrics, f'{bucket}{{le="{le}",{labels}}}') for le in ("0.0005", "0.01", "0.025", "300.0", "+Inf")]
    assert counts == [1, 1, 2, 2, 3]
    assert value(metrics, f"registry_http_request_duration_seconds_sum{{{labels}}}") == 400.0205


def test_a_method_that_a_client_invented_is_no_label() -> None:
    metrics = Metrics()
    tally = RequestTally(metrics.http)
    for number in range(100):
        tally.add("/v2/", f"BREW{number}", 405, 0.1, 0, 0)
    tally.flush()
    assert value(metrics, 'registry_http_requests_total{method="OTHER",route="/v2/",status="405"}') == 100
    assert b"BREW" not in metrics.render()


def test_storage_operations_are_counted_timed_and_their_failures_too() -> None:
    metrics = Metrics()
    tally = StorageTally(metrics.storage)
    tally.add("local", "stat", "head", 0.25, failed=False)
    tally.add("local", "stat", "head", 0.25, failed=True)
    tally.flush()
    labels = '{driver="local",operation="stat"}'
    assert value(metrics, f"storage_requests_total{labels}") == 2
    assert value(metrics, f"storage_errors_total{labels}") == 1
    assert value(metrics, f"storage_request_duration_seconds_sum{labels}") == 0.5


def test_a_request_costs_little() -> None:
    """One microsecond when it was measured: 85 instructions and 5 calls."""
    tally = RequestTally(Metrics().http)
    cost = steps(lambda: tally.add(ROUTE, "GET", 200, 0.0003, 0, 1234))
    assert cost.instructions < 105, cost
    assert cost.calls < 8, cost


def test_a_scrape_is_the_sum_of_all_workers_and_the_gauge_of_the_living() -> None:
    command = [sys.executable, "-W", "error", "-c", WORKERS]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert 'registry_http_requests_total{method="GET",route="/v2/",status="200"} 2.0' in text
    assert "registry_http_received_bytes_total 6.0" in text
    assert "registry_http_sent_bytes_total 10.0" in text
    assert 'duration_seconds_count{method="GET",route="/v2/"} 2.0' in text
    assert "registry_uploads_open 7.0" in text
    assert "registry_build_info{" in text
    assert "pid=" not in text


def test_the_directory_of_a_killed_registry_is_removed_by_the_next_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = [sys.executable, "-c", ABANDONED]
    done = subprocess.run([*run, "die"], env=environment, capture_output=True, text=True, check=True, timeout=60)
    abandoned = Path(done.stdout.strip())
    assert abandoned.is_dir()
    with subprocess.Popen([*run, "wait"], env=environment, stdin=-1, stdout=-1, text=True) as living:
        assert living.stdout is not None
        directory = Path(living.stdout.readline().strip())
        assert not abandoned.exists()
        subprocess.run([*run, "die"], env=environment, capture_output=True, check=True, timeout=60)
        assert directory.is_dir()
        living.communicate("", timeout=60)
    assert not directory.exists()


def test_the_files_of_workers_lie_in_memory_unless_an_operator_names_a_directory(tmp_path: Path) -> None:
    code = """if True:
        from registry.observability.metrics.metrics_directory import metrics_directory
        with metrics_directory() as directory:
            print(directory.parent)
    """
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    for named, expected in (({}, str(MEMORY)), ({"TMPDIR": str(tmp_path)}, str(tmp_path))):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **named},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == f"{expected}\n"


def test_the_directory_must_be_chosen_before_the_library_is_imported() -> None:
    directory = "from registry.observability.metrics.metrics_directory import metrics_directory as m"
    code = f"import prometheus_client\n{directory}\n"
    command = [sys.executable, "-c", f"{code}with m(): pass"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "RuntimeError: prometheus_client was imported" in done.stderr


def test_a_directory_that_is_just_being_made_is_not_taken_for_an_abandoned_one(tmp_path: Path) -> None:
    """Another registry may start between the making of the lock's file and its lock."""
    code = """if True:
        import fcntl
        from registry.observability.metrics import metrics_directory as made
        lock = fcntl.flock
        def late(file, how):
            if how == fcntl.LOCK_EX:
                made._remove_abandoned()
            lock(file, how)
        fcntl.flock = late
        with made.metrics_directory() as directory:
            print(directory.is_dir())
    """
    command, environment = [sys.executable, "-c", code], {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"


def test_the_cache_is_counted_by_its_tier_and_what_came_of_it() -> None:
    metrics = Metrics()
    metrics.cache.add_get("blob", "hit")
    metrics.cache.add_get("metadata", "fault_hit")
    metrics.cache.add_put("blob", "kept")
    metrics.cache.add_bytes("blob", "written", 70)
    metrics.cache.add_error("blob")
    assert value(metrics, 'registry_cache_get_total{result="hit",tier="blob"}') == 1
    assert value(metrics, 'registry_cache_get_total{result="fault_hit",tier="metadata"}') == 1
    assert value(metrics, 'registry_cache_put_total{result="kept",tier="blob"}') == 1
    assert value(metrics, 'registry_cache_bytes_total{direction="written",tier="blob"}') == 70
    assert value(metrics, 'registry_cache_errors_total{tier="blob"}') == 1
