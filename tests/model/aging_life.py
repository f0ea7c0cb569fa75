"""*Aging life*: time passes over what Life does, and collections, retention and restores go on.

A collection is judged by what it took: what a tag keeps, what was in use until lately, and what a client was told of
must be there, and everything that is left must be whole. Where so much time has passed that all has to be gone, it is.

Tests: ``tests/model/test_life.py``.
"""

from __future__ import annotations

import json

from hypothesis import strategies as st
from hypothesis.stateful import rule

from registry.config.retention_sections import RetentionRule
from registry.maintenance.collection.survey.gc_state import CollectionRefused
from tests.model.ages import DAY, PASSING, PUSHED_WITHIN, SLACK, UNTAGGED, UPLOAD_EXPIRY, WINDOW
from tests.model.life import NAMES, TAGS, Life, names
from tests.support.payloads import Manifest

RUNS = 15
"""Collections after which nothing may be left to collect, each long after the one before."""
RULED = "v1"
"""The tag that a rule of retention is about."""
RULE = RetentionRule.model_validate(
    {
        "name": "short",
        "repositories": ["**"],
        "tags": [RULED],
        "keep": {"any": {"pushed_within": PUSHED_WITHIN}},
    }
)


class AgingLife(Life):
    """See the module."""

    @rule(seconds=st.sampled_from(PASSING))
    def time_passes(self, seconds: float) -> None:
        for name in NAMES:
            self._leaves_use(name)
        self.service.pass_time(seconds)

    @rule(untagged=st.booleans())
    def collect(self, untagged: bool) -> None:
        self.settle()
        for name in NAMES:
            self._leaves_use(name)
        began = self.service.now()
        try:
            ledger = self.service.collect(untagged_after=UNTAGGED if untagged else None)
        except CollectionRefused:
            assert self.lost, "refused, although the database was never lost"
            return
        assert ledger.problems == []
        self._forget_uploads(began)
        for name in NAMES:
            self._see_what_went(name, began, untagged=untagged)

    @rule()
    def collect_until_nothing_is_left(self) -> None:
        self.settle()
        if self.lost:
            self.rebuild()
        idle = 0
        for _ in range(RUNS):
            self.service.pass_time(3 * DAY)
            ledger = self.service.collect(untagged_after=UNTAGGED, with_found=True)
            assert ledger.problems == []
            self.settle()
            idle = 0 if ledger.removed or ledger.waiting else idle + 1
            if idle > 1:
                break
        else:
            raise AssertionError("there is always more to collect")
        self._forget_uploads(self.service.now())
        for repository in self.model.values():
            repository.discard(repository.manifests.keys() - repository.in_use())
            repository.blobs = repository.named() - repository.manifests.keys() | {
                digest for digest in repository.manifests if repository.is_layer(digest)
            }
            repository.doubtful = set(repository.manifests) - repository.blobs
        self._only_this_is_stored()

    @rule()
    def retain(self) -> None:
        self.settle()
        for name in NAMES:
            self._leaves_use(name)
        now = self.service.now()
        self.service.retain(RULE)
        for name, repository in self.model.items():
            if RULED not in repository.tags:
                continue
            here = self.service.call("HEAD", f"/v2/{name}/manifests/{RULED}").status == 200
            if now - self.ages.tag_changed[name, RULED] < PUSHED_WITHIN - SLACK:
                assert here, "a tag went that its rule keeps"
            if now - self.ages.tag_set[name, RULED] > PUSHED_WITHIN + SLACK and not self.lost:
                assert not here, "a tag stayed that its rule does not keep"
            if not here:
                del repository.tags[RULED]

    @rule(name=names, manifest=Life.manifests)
    def restore(self, name: str, manifest: Manifest) -> None:
        body = json.dumps({"digest": manifest.digest}).encode()
        headers = {"Content-Type": "application/json"}
        reply = self.service.call("POST", f"/api/v1/repositories/{name}/restore", body, headers)
        repository, now = self.model[name], self.service.now()
        removed = self.ages.removed.get((name, manifest.digest))
        age = now - removed.at if removed is not None else WINDOW * 2
        if manifest.digest in repository.manifests:
            assert (reply.status, reply.json["restored"]) == (200, []), reply
            return
        if age < WINDOW - SLACK:
            assert reply.status == 200, ("it cannot be restored", reply)
        elif age > WINDOW + SLACK:
            assert reply.status == 404, ("it was never here, or is gone", reply)
        if reply.status != 200:
            assert reply.status == 404, reply
            return
        restored = {each["digest"]: each["tags"] for each in reply.json["restored"]}
        assert removed is not None
        for digest, tags in restored.items():
            assert (name, digest) in self.ages.removed, f"{digest} came back, and was not deleted"
            assert tags == []
        missing = removed.batch - restored.keys() - repository.manifests.keys()
        assert not missing, "what went with it does not come back with it"
        for digest in restored:
            repository.blobs.update(self.made[digest].blobs)
        for digest in restored:
            self._came(name, self.made[digest], [])
        for digest in restored:
            assert not repository.missing(self.made[digest])

    # ----

    def _forget_uploads(self, now: float) -> None:
        """What has expired by then."""
        gone = [location for location, (_, at) in self.ages.sessions.items() if now - at > UPLOAD_EXPIRY]
        for location in gone:
            del self.ages.sessions[location]

    def _see_what_went(self, name: str, began: float, *, untagged: bool) -> None:
        """Compare a repository with the model after a collection, and take over what it may have taken."""
        repository, ages = self.model[name], self.ages
        in_use = repository.in_use()
        gone = {digest for digest in repository.manifests if not self.service.has(name, digest, as_manifest=True)}
        for digest in gone:
            assert untagged, "a manifest went, and untagged ones stay"
            assert digest not in in_use, "a manifest went that is in use"
            assert began - max(ages.touched[digest], 0.0) > UNTAGGED - SLACK, "a manifest went before its time"
            assert not ages.is_uploading(name, began), "a manifest went during an upload"
        self._went_alone(name, gone)
        needed = repository.named()
        for digest in list(repository.blobs):
            here = self.service.has(name, digest)
            if digest in needed:
                assert here, "what a manifest names has gone"
            elif not here:
                assert not ages.is_leased(digest, began), "a client was told that it is here, and it went"
                assert not ages.is_in_grace(name, digest, began), "it was in use until lately, and it went"
                assert not ages.is_uploading(name, began), "it went during an upload"
                repository.blobs.discard(digest)

    def _went_alone(self, name: str, gone: set[str]) -> None:
        repository = self.model[name]
        assert not gone & set(repository.tags.values())
        repository.discard(gone)
        for digest in gone:
            self._went(name, {digest})

    def _only_this_is_stored(self) -> None:
        stored = self.service.stored()
        expected = {name: repository.named() for name, repository in self.model.items()}
        if "" in stored:
            expected = {"": set().union(*expected.values())}
        for name, digests in expected.items():
            assert not digests - stored.get(name, set()), f"missing in {name}"
        left = {name: found - expected.get(name, set()) for name, found in stored.items()}
        assert not any(left.values()), f"left over: {left}"


assert RULED in TAGS
