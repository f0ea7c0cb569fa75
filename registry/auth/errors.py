"""*Account error*: what an operator asked about users and keys, and cannot have.

Tests: ``tests/cli/test_user.py``, ``tests/cli/test_key.py``.
"""

from __future__ import annotations


class AccountError(Exception):
    """The message says why, without a secret; nothing was changed."""
