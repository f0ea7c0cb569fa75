"""Scenarios over S3: the work that each server does, and the figures measured."""

from __future__ import annotations

from benchmarks.large_blobs import eight_blobs, one_blob, peak
from benchmarks.s3.images import far_image, far_images, image_calls, near_images
from benchmarks.s3.redirects import redirects
from benchmarks.s3.servers import EVERY_PEER, PEERS, THREE_WORKERS, TWO_WORKERS
from benchmarks.scale import CLIENTS
from benchmarks.scenarios import Scenario, Setting
from benchmarks.servers import OURS
from benchmarks.small_reads import small_reads

_ALL = (OURS, *PEERS)
_READERS = (OURS, *EVERY_PEER)
_FAR = Setting(delay_seconds=0.03)

S3_SCENARIOS = (
    Scenario(
        small_reads,
        frozenset({"manifest by tag", "manifest by digest", "head blob", "head blob us", "get blob", "tags list"}),
        _READERS,
    ),
    Scenario(one_blob, frozenset({"push one", "pull one"}), _ALL, blobs=1),
    Scenario(eight_blobs, frozenset({"push eight", "pull eight"}), (TWO_WORKERS, *_ALL), blobs=CLIENTS),
    Scenario(redirects, frozenset({"redirect pull", "redirect blob"}), _ALL, blobs=1, setting=Setting(redirect=True)),
    Scenario(near_images, frozenset({"images"}), (TWO_WORKERS, THREE_WORKERS, *_ALL)),
    Scenario(far_images, frozenset({"far images"}), (TWO_WORKERS, *_ALL), setting=_FAR),
    Scenario(image_calls, frozenset({"image ms", "image calls"}), _ALL, once=True),
    Scenario(far_image, frozenset({"far image ms"}), _ALL, once=True, setting=_FAR),
    Scenario(peak, frozenset({"peak"}), (OURS,), once=True, blobs=2 * CLIENTS),
)
