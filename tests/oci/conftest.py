"""Examples of hypothesis have no deadline of their own here: on a busy machine it would measure the neighbours."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("oci", deadline=None)
settings.load_profile("oci")
