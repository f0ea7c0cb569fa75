"""Keys and tokens that an issuer could make, and some that only an attacker would."""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import cache
from typing import Any

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

AnyKey = RSAKey | ECKey | OctKey | OKPKey


@cache
def rsa(number: int = 0) -> RSAKey:
    """The key of that number, made once for all tests of a process."""
    return RSAKey.generate_key(2048, {"kid": f"rsa-{number}"})


@cache
def ec(curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": f"ec-{curve}"})


@cache
def ed25519() -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": "ed"})


def signed(key: AnyKey, algorithm: str, claims: dict[str, Any], **header: Any) -> str:
    """A token; ``kid`` is the key's unless ``header`` has another one, None for none."""
    head = {"alg": algorithm, "kid": key.kid, **header}
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return jwt.encode(
        {name: value for name, value in head.items() if value is not None}, claims, key, registry=registry
    )


def forged(header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes, secret: bytes | None = None) -> str:
    """A token put together by hand: without a signature, or with the HMAC of any bytes."""
    parts = [part if isinstance(part, bytes) else orjson.dumps(part) for part in (header, claims)]
    text = ".".join(encoded(part) for part in parts)
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256)) if secret is not None else ''}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(*keys: AnyKey) -> bytes:
    return orjson.dumps({"keys": [{**key.as_dict(private=False), "use": "sig"} for key in keys]})
