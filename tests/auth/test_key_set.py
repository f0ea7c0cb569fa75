"""What of the keys that a party publishes, or an operator keeps in a file, is used."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from registry.auth import key_set
from registry.auth.key_set import KeySetInvalid
from tests.auth.signing import ec, ed25519, jwks, rsa


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_set_has_the_keys_that_verify_signatures_and_leaves_out_the_rest() -> None:
    others: list[dict[str, Any]] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {**rsa(1).as_dict(private=False), "use": "enc"},
        {**rsa(2).as_dict(private=False), "alg": "RSA-OAEP"},
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "later"},
        {"kty": "RSA", "kid": "half"},
        {"kty": ["RSA"]},
        {**RSAKey.generate_key(1024).as_dict(private=False), "kid": "short"},
        {**ECKey.generate_key("secp256k1").as_dict(private=False), "kid": "coin"},
    ]
    found = key_set.of_jwks(orjson.dumps({"keys": [*others, rsa().as_dict(private=False), "text", None]}))
    assert found.find("rsa-0", "RS256") is not None
    assert found.find(None, "PS512") is not None, "the only one that fits"
    for kid, algorithm in [("secret", "HS256"), ("rsa-1", "RS256"), ("rsa-2", "RS256"), ("short", "RS256")]:
        assert found.find(kid, algorithm) is None


def test_a_key_that_names_its_algorithm_is_for_no_other() -> None:
    found = key_set.of_jwks(orjson.dumps({"keys": [{**rsa().as_dict(private=False), "alg": "RS256"}]}))
    assert found.find("rsa-0", "RS256") is not None
    assert found.find("rsa-0", "PS256") is None


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[],"keys":[]}', orjson.dumps({"keys": [{}] * 101})],
)
def test_a_document_without_a_usable_key_is_an_error(document: bytes) -> None:
    with pytest.raises(KeySetInvalid):
        key_set.of_jwks(document)


def test_a_private_key_in_a_set_that_is_published_verifies_as_its_public_half() -> None:
    found = key_set.of_jwks(orjson.dumps({"keys": [rsa().as_dict(private=True)]})).find("rsa-0", "RS256")
    assert found is not None
    assert not found.is_private


def test_a_pem_file_may_have_several_public_keys() -> None:
    document = b"".join(key.as_pem(private=False) for key in (rsa(), ec(), ed25519()))
    found = key_set.of_pem(document)
    for key, algorithm in ((rsa(), "RS256"), (ec(), "ES256"), (ed25519(), "Ed25519")):
        assert found.find(key.thumbprint(), algorithm) is not None
        assert found.find(None, algorithm) is not None


@pytest.mark.parametrize(
    "document", [b"", b"text", rsa().as_pem(private=True), b"-----BEGIN X-----\nAA\n-----END X-----"]
)
def test_a_pem_file_without_public_keys_alone_is_an_error(document: bytes) -> None:
    with pytest.raises(KeySetInvalid):
        key_set.of_pem(document)


def test_signing_keys_are_private() -> None:
    first, second = key_set.of_private_pem(ec().as_pem(private=True) + ed25519().as_pem(private=True))
    assert first.algorithms == ("ES256",)
    assert "Ed25519" in second.algorithms
    for document in (ec().as_pem(private=False), rsa().as_pem(private=True), b"x" * 40, jwks(ec())):
        with pytest.raises(KeySetInvalid):
            key_set.of_private_pem(document)


def test_a_secret_that_protects_nothing_is_an_error() -> None:
    for secret in (b"", b"s" * 31, rsa().as_pem(private=False)):
        with pytest.raises(KeySetInvalid):
            key_set.of_secret("own", secret)


def test_a_secret_is_for_hs256_alone() -> None:
    made = key_set.of_secret("own", b"s" * 32)
    assert made.algorithms == ("HS256",)
    assert isinstance(made.key, OctKey)
