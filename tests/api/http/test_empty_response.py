"""An answer without a body has the head that Starlette would give it."""

from __future__ import annotations

import pytest
from starlette.responses import Response

from registry.api.http.empty_response import EmptyResponse


@pytest.mark.parametrize("status", [201, 202, 204])
def test_the_head_is_that_of_starlette(status: int) -> None:
    headers = {"Location": "/v2/a/blobs/é", "Docker-Content-Digest": "sha256:abc"}
    ours, theirs = EmptyResponse(status, headers), Response(status_code=status, headers=headers)
    assert ours.raw_headers == theirs.raw_headers
    assert (ours.status_code, ours.body, ours.background) == (theirs.status_code, theirs.body, theirs.background)
