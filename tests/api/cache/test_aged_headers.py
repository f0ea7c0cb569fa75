"""Headers of an answer from memory whose age grows."""

from __future__ import annotations

from registry.api.cache.response_cache import ResponseHeaders


def test_the_age_is_that_of_the_moment() -> None:
    headers = ResponseHeaders({"Content-Type": "text/plain", "X-Artifact-Source": "cache"})
    assert headers.aged(0.9).headers[-1] == (b"age", b"0")
    assert headers.aged(61.2).headers == [*headers.headers, (b"age", b"61")]
    assert headers.aged(61.7) is headers.aged(61.3)
    assert headers.aged(61.7).unmodified().headers == [(b"x-artifact-source", b"cache"), (b"age", b"61")]
