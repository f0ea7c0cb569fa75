"""*Errors* of accounts: what an operator asked and cannot have, and a password that is not looked at.

Tests: ``tests/cli/test_user.py``, ``tests/cli/test_key.py``, ``tests/admin/test_keys.py``, ``tests/api/test_audit.py``.
"""

from __future__ import annotations

from registry.oci.errors import Unauthorized


class AccountError(Exception):
    """The message says why, without a secret; nothing was changed."""


class TooManyKeys(AccountError):
    """The user has as many API keys as it may have."""


class Throttled(Unauthorized):
    """The password was not looked at: too many of its user from its address were wrong. The client is not told."""
