"""Digests: what is one, what is none, and that the two complaints differ."""

from __future__ import annotations

import hashlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.digest import SUPPORTED_ALGORITHMS, Digest, looks_like_digest, new_hasher
from registry.oci.errors import DigestInvalid

HEX64 = "0123456789abcdef" * 4
HEX128 = HEX64 * 2


@pytest.mark.parametrize(("algorithm", "encoded"), [("sha256", HEX64), ("sha512", HEX128)])
def test_a_supported_digest_is_taken_apart_and_is_its_text(algorithm: str, encoded: str) -> None:
    digest = Digest.parse(f"{algorithm}:{encoded}")
    assert isinstance(digest, Digest)
    assert (digest.algorithm, digest.encoded) == (algorithm, encoded)
    assert digest == f"{algorithm}:{encoded}"
    assert {digest: 1}[f"{algorithm}:{encoded}"] == 1  # type: ignore[index]
    assert orjson.loads(orjson.dumps([digest])) == json.loads(json.dumps([digest])) == [digest]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        f":{HEX64}",
        HEX64,
        "sha256:baddigeststring",
        f"sha256:{HEX64[:-1]}",
        f"sha256:{HEX64}0",
        f"sha256:{HEX128}",
        f"sha512:{HEX64}",
        f"sha256:{HEX64.upper()}",
        f"SHA256:{HEX64}",
        f"sha256:{HEX64}\n",
        f"\nsha256:{HEX64}",
        f" sha256:{HEX64}",
        f"sha256:sha256:{HEX64}",
        f"sha256:{HEX64[:-1]}\uff11",
        f"sha256:{HEX64[:-3]}/..",
        "sha256:" + "../" * 21 + "a",
        f"sha256+:{HEX64}",
        f"sha256:{HEX64[:-1]}\x00",
        "sha256:\ud800",
    ],
)
def test_a_malformed_digest_is_refused_as_malformed(text: str) -> None:
    with pytest.raises(DigestInvalid, match="is malformed") as raised:
        Digest.parse(text)
    assert raised.value.message.isascii()
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    "text", [f"blake3:{HEX64}", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256+b64:abc=", "x:y", f"sha384:{HEX64}"]
)
def test_a_well_formed_digest_of_another_algorithm_is_refused_as_unsupported(text: str) -> None:
    with pytest.raises(DigestInvalid, match="is not supported; use sha256 or sha512"):
        Digest.parse(text)


def test_a_message_repeats_only_the_beginning_of_what_was_sent() -> None:
    with pytest.raises(DigestInvalid) as raised:
        Digest.parse("sha256:" + "g" * 1_000_000)
    assert len(raised.value.message) < 300


@pytest.mark.parametrize("text", ["a" * 1_000_000, "a.a" * 300_000 + ":!", "a:" + "=" * 1_000_000 + "!"])
@pytest.mark.timeout(30)
def test_a_long_text_is_refused_in_linear_time(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@given(data=st.binary(), algorithm=st.sampled_from(SUPPORTED_ALGORITHMS))
def test_the_digest_of_data_is_that_of_hashlib_and_parses_to_itself(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert Digest.parse(str(digest)) == digest


@given(parts=st.lists(st.binary()), algorithm=st.sampled_from(SUPPORTED_ALGORITHMS))
def test_a_hasher_fed_in_parts_gives_the_digest_of_the_whole(parts: list[bytes], algorithm: str) -> None:
    hasher = new_hasher(algorithm)
    for part in parts:
        hasher.update(part)
    assert Digest.from_hasher(hasher) == Digest.of(b"".join(parts), algorithm)


@given(text=st.text())
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except DigestInvalid:
        return
    assert digest.algorithm in SUPPORTED_ALGORITHMS


@pytest.mark.parametrize("algorithm", ["md5", "SHA256", "", "blake3", "sha256 "])
def test_there_is_no_hasher_for_another_algorithm(algorithm: str) -> None:
    with pytest.raises(DigestInvalid, match="is not supported"):
        new_hasher(algorithm)


def test_a_reference_with_a_colon_is_meant_as_a_digest() -> None:
    assert looks_like_digest("sha256:nonsense")
    assert not looks_like_digest("sha256-nonsense.sig")
