"""*Life*: push, mount, tag, delete, pull, restart and rebuild over two repositories, against the model.

Tests: ``tests/model/test_life.py``.
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from tests.model.ages import Ages, Removed
from tests.model.caller import Reply
from tests.model.expectation import Repository
from tests.model.layout import read_layout
from tests.model.service import Service
from tests.support.payloads import INDEX, Blob, Manifest, digest_of, image, index

NAMES = ("model/one", "model/one/blobs-of/two")
BLOBS = (
    Blob(b"{}"),
    Blob(b"a"),
    Blob(b"b" * 100),
    Blob(b""),
    Blob(b"counted in another way", "sha512"),
    Blob(b"a", "sha512"),
)
TAGS = ("latest", "v1", "V1", "_x.y-z")
TYPES = (None, "application/vnd.example.signature", "application/vnd.example.sbom")

names = st.sampled_from(NAMES)
blobs = st.sampled_from(BLOBS)
tags = st.sampled_from(TAGS)


class Life(RuleBasedStateMachine):
    """Each rule does one thing to the registry and to the model and compares the answers."""

    service_class: ClassVar[type[Service]]

    manifests = Bundle("manifests")
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.service = self.service_class()
        self.model = {name: Repository() for name in NAMES}
        self.ages = Ages()
        self.content = {blob.digest: blob for blob in BLOBS}
        """What can be pushed as a blob, by digest."""
        self.made: dict[str, Manifest] = {}
        """Every manifest that was made, by digest."""
        self.walked = True
        """Storage was walked for repositories since the database was lost."""
        self.lost = False
        """The database was lost, and not rebuilt since."""
        self.was_lost = False
        """The database was lost at some time."""

    def teardown(self) -> None:
        """The whole state is compared once more, also as storage alone has it."""
        try:
            self.everything_is_as_modelled()
            self.the_layouts_are_valid()
        finally:
            self.service.end()

    # ---- blobs

    @rule(name=names, blob=blobs)
    def push_in_one_request(self, name: str, blob: Blob) -> None:
        reply = self.service.call("POST", f"/v2/{name}/blobs/uploads/?digest={blob.digest}", blob.data)
        assert reply.status == 201, reply
        self._pushed(name, blob.digest)

    @rule(name=names, blob=blobs, cut=st.integers(0, 100))
    def push_in_chunks(self, name: str, blob: Blob, cut: int) -> None:
        location = self._open(name)
        for part in (blob.data[:cut], blob.data[cut:]):
            reply = self.service.call("PATCH", location, part)
            assert reply.status == 202, reply
            location = reply.headers["location"]
        self._close_session(name, location, blob)

    @rule(name=names, blob=blobs)
    def push_other_bytes_than_the_digest_says(self, name: str, blob: Blob) -> None:
        target = f"/v2/{name}/blobs/uploads/?digest={blob.digest}"
        reply = self.service.call("POST", target, blob.data + b"x")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    @rule(target=sessions, name=names, blob=blobs)
    def begin_an_upload(self, name: str, blob: Blob) -> tuple[str, str, Blob]:
        location = self._open(name)
        self.ages.sessions[location] = name, self.service.now()
        reply = self.service.call("PATCH", location, blob.data[:1])
        assert reply.status == 202, reply
        return name, location, blob

    @rule(session=consumes(sessions), finish=st.booleans())
    def end_an_upload(self, session: tuple[str, str, Blob], finish: bool) -> None:
        name, location, blob = session
        if location not in self.ages.sessions:
            self._end_a_session_without_its_row(name, location, blob)
        elif finish:
            del self.ages.sessions[location]
            reply = self.service.call("PATCH", location, blob.data[1:])
            assert reply.status == 202, reply
            self._close_session(name, location, blob)
        else:
            del self.ages.sessions[location]
            assert self.service.call("DELETE", location).status == 204
            assert self.service.call("GET", location).status == 404

    def _end_a_session_without_its_row(self, name: str, location: str, blob: Blob) -> None:
        """A store that knows its uploads keeps a session whose row is lost, and none of its bytes count."""
        reply = self.service.call("GET", location)
        if reply.status != 404:
            assert reply.status == 204, reply
            assert self.service.call("PATCH", location, blob.data).status == 202
            self._close_session(name, location, blob)

    @rule(name=names, blob=blobs, source=st.sampled_from([*NAMES, "model/none", None]))
    def mount(self, name: str, blob: Blob, source: str | None) -> None:
        target = f"/v2/{name}/blobs/uploads/?mount={blob.digest}" + (f"&from={source}" if source else "")
        reply = self.service.call("POST", target)
        holders = [other for other in self.model.values() if blob.digest in other.blobs | other.doubtful]
        if source in self.model and blob.digest in self.model[source].blobs:
            assert reply.status == 201, reply
        if reply.status == 201:
            assert holders, "mounted what no repository has"
            self._pushed(name, blob.digest)
        else:
            assert reply.status == 202, reply
            assert self.service.call("DELETE", reply.headers["location"]).status == 204

    @rule(name=names, blob=blobs)
    def delete_a_blob(self, name: str, blob: Blob) -> None:
        repository = self.model[name]
        reply = self.service.call("DELETE", f"/v2/{name}/blobs/{blob.digest}")
        if repository.needs(blob.digest):
            assert (reply.status, reply.code) == (405, "UNSUPPORTED"), reply
        elif blob.digest in repository.blobs:
            assert reply.status == 202, reply
        elif blob.digest not in repository.doubtful:
            assert reply.status == 404, reply
        if reply.status == 202:
            repository.blobs.discard(blob.digest)
            repository.doubtful.discard(blob.digest)

    @rule(name=names, manifest=manifests)
    def push_the_bytes_of_a_manifest_as_a_blob(self, name: str, manifest: Manifest) -> None:
        target = f"/v2/{name}/blobs/uploads/?digest={manifest.digest}"
        reply = self.service.call("POST", target, manifest.data)
        assert reply.status == 201, reply
        self._pushed(name, manifest.digest)

    # ---- manifests

    @rule(
        target=manifests,
        config=blobs,
        layers=st.lists(blobs, max_size=3),
        kind=st.sampled_from(TYPES),
        algorithm=st.sampled_from(["sha256", "sha256", "sha512"]),
    )
    def make_an_image(self, config: Blob, layers: list[Blob], kind: str | None, algorithm: str) -> Manifest:
        annotations = {"kind": kind} if kind else None
        return self._made(image(config, layers, artifact_type=kind, annotations=annotations, algorithm=algorithm))

    @rule(target=manifests, config=blobs, subject=manifests, kind=st.sampled_from(TYPES))
    def make_a_referrer(self, config: Blob, subject: Manifest, kind: str | None) -> Manifest:
        return self._made(image(config, [], subject=subject, artifact_type=kind, annotations={"refers": "yes"}))

    @rule(target=manifests, config=blobs, content=manifests)
    def make_an_image_of_a_manifest(self, config: Blob, content: Manifest) -> Manifest:
        return self._made(image(config, [Blob(content.data, content.algorithm)]))

    @rule(target=manifests, children=st.lists(manifests, max_size=3), kind=st.sampled_from(TYPES))
    def make_an_index(self, children: list[Manifest], kind: str | None) -> Manifest:
        return self._made(index(children, artifact_type=kind))

    @rule(name=names, manifest=manifests, tag=tags)
    def push_by_tag(self, name: str, manifest: Manifest, tag: str) -> None:
        # A registry names what is pushed by tag with sha256; the model does the same.
        known = Manifest(**{**vars(manifest), "algorithm": "sha256"})
        self._put(name, known, tag, [tag])

    @rule(name=names, manifest=manifests, tag=tags)
    def push_whole_by_tag(self, name: str, manifest: Manifest, tag: str) -> None:
        self._push_what_it_needs(name, manifest)
        self.push_by_tag(name, manifest, tag)

    @rule(name=names, manifest=manifests)
    def push_whole_by_digest(self, name: str, manifest: Manifest) -> None:
        self._push_what_it_needs(name, manifest)
        self.push_by_digest(name, manifest, [])

    @rule(name=names, manifest=manifests, wanted=st.lists(tags, max_size=2, unique=True))
    def push_by_digest(self, name: str, manifest: Manifest, wanted: list[str]) -> None:
        query = "&".join(f"tag={tag}" for tag in wanted)
        reply = self._put(name, manifest, manifest.digest + (f"?{query}" if query else ""), wanted)
        if reply.status == 201 and wanted:
            listed = {tag.strip() for tag in reply.headers["oci-tag"].split(",")}
            assert listed == set(wanted)

    @rule(name=names, manifest=manifests)
    def push_under_a_wrong_digest(self, name: str, manifest: Manifest) -> None:
        headers = {"Content-Type": manifest.media_type}
        target = f"/v2/{name}/manifests/{digest_of(manifest.data + b' ')}"
        reply = self.service.call("PUT", target, manifest.data, headers)
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    @rule(name=names, tag=tags, other=tags)
    def tag_what_is_tagged(self, name: str, tag: str, other: str) -> None:
        digest = self.model[name].tags.get(tag)
        if digest is not None:
            manifest = self.model[name].manifests[digest]
            self._put(name, manifest, f"{digest}?tag={other}", [other])

    @rule(name=names, tag=tags)
    def delete_a_tag(self, name: str, tag: str) -> None:
        reply = self.service.call("DELETE", f"/v2/{name}/manifests/{tag}")
        assert reply.status == (202 if tag in self.model[name].tags else 404), reply
        self._leaves_use(name)
        self.model[name].tags.pop(tag, None)

    @rule(name=names, manifest=manifests)
    def delete_a_manifest(self, name: str, manifest: Manifest) -> None:
        repository = self.model[name]
        reply = self.service.call("DELETE", f"/v2/{name}/manifests/{manifest.digest}")
        if manifest.digest not in repository.manifests:
            assert reply.status == 404, reply
        elif repository.lists(manifest.digest):
            assert (reply.status, reply.code) == (405, "UNSUPPORTED"), reply
        elif repository.is_layer(manifest.digest) and reply.status == 405:
            assert reply.code == "UNSUPPORTED", reply
        else:
            assert reply.status == 202, reply
            self._leaves_use(name)
            self._went(name, repository.remove(manifest.digest))

    @rule(name=names, manifest=manifests)
    def delete_a_manifest_and_push_it_again(self, name: str, manifest: Manifest) -> None:
        self.delete_a_manifest(name, manifest)
        self.push_whole_by_digest(name, manifest)

    # ---- reads

    @rule(name=names, tag=tags)
    def pull_by_tag(self, name: str, tag: str) -> None:
        self._pull(name, tag, self.model[name].tags.get(tag))

    @rule(name=names, manifest=manifests)
    def pull_by_digest(self, name: str, manifest: Manifest) -> None:
        here = manifest.digest in self.model[name].manifests
        self._pull(name, manifest.digest, manifest.digest if here else None)

    @rule(name=names, blob=blobs)
    def pull_a_blob(self, name: str, blob: Blob) -> None:
        repository = self.model[name]
        if blob.digest in repository.doubtful:
            return
        path = f"/v2/{name}/blobs/{blob.digest}"
        reply, head = self.service.call("GET", path), self.service.call("HEAD", path)
        assert reply.status == head.status == (200 if blob.digest in repository.blobs else 404)
        if reply.status == 200:
            self.ages.touched[blob.digest] = self.service.now()
            assert reply.body == blob.data
            assert head.headers["content-length"] == str(len(blob.data))
            assert head.headers["docker-content-digest"] == blob.digest

    @rule(name=names, count=st.integers(0, 5), last=st.sampled_from(["", *TAGS, "m", "~"]))
    def list_tags(self, name: str, count: int, last: str) -> None:
        wanted = sorted(tag for tag in self.model[name].tags if tag > last)[:count]
        reply = self.service.call("GET", f"/v2/{name}/tags/list?n={count}&last={last}")
        if reply.status == 404:
            assert not self.model[name].manifests
            return
        assert reply.json["tags"] == wanted
        more = bool(count) and len([tag for tag in self.model[name].tags if tag > last]) > count
        assert ("link" in reply.headers) == more

    @rule(name=names, subject=manifests, kind=st.sampled_from(TYPES))
    def list_referrers(self, name: str, subject: Manifest, kind: str | None) -> None:
        query = f"?artifactType={kind}" if kind else ""
        reply = self.service.call("GET", f"/v2/{name}/referrers/{subject.digest}{query}")
        assert (reply.status, reply.headers["content-type"]) == (200, INDEX)
        found = {entry["digest"]: entry for entry in reply.json["manifests"]}
        assert found.keys() == self.model[name].referrers(subject.digest, kind)
        for digest, entry in found.items():
            manifest = self.model[name].manifests[digest]
            assert entry["size"] == len(manifest.data)
            assert entry["mediaType"] == manifest.media_type
            assert entry.get("artifactType") == manifest.artifact_type
            assert entry.get("annotations", {}) == manifest.annotations

    @rule()
    def list_repositories(self) -> None:
        listed = self.service.call("GET", "/v2/_catalog").json["repositories"]
        assert listed == sorted(listed)
        assert set(listed) <= set(NAMES)
        if self.walked:
            assert {name for name, repository in self.model.items() if repository.manifests} <= set(listed)

    # ---- what must not matter

    @rule()
    def fold(self) -> None:
        self.service.fold()

    @rule()
    def restart(self) -> None:
        self.service.restart()

    @rule()
    def settle(self) -> None:
        self.service.settle()
        self.walked = True

    @rule()
    def rebuild(self) -> None:
        self.service.rebuild()
        self.walked, self.lost = True, False

    @rule(rescan=st.booleans())
    def lose_the_database(self, rescan: bool) -> None:
        self.service.lose_database()
        self.walked = rescan
        if rescan:
            self.service.rescan()
        self.ages.sessions.clear()
        self.lost = self.was_lost = True
        for repository in self.model.values():
            if self.service.registry.backends.layout.per_repository:
                # A manifest's file cannot be told from a blob with the same bytes.
                repository.doubtful |= repository.manifests.keys() - repository.blobs
            else:
                repository.forget_unreferenced()

    @rule()
    def everything_is_as_modelled(self) -> None:
        for name, repository in self.model.items():
            for tag in TAGS:
                self._pull(name, tag, repository.tags.get(tag))
            for digest in repository.manifests:
                self._pull(name, digest, digest)
            for blob in BLOBS:
                self.pull_a_blob(name, blob)

    @rule()
    def the_layouts_are_valid(self) -> None:
        self.settle()
        for name, repository in self.model.items():
            if not repository.manifests:
                continue
            found_tags, found_manifests = read_layout(self.service.driver, name)
            assert found_tags == repository.tags
            assert found_manifests == repository.manifests.keys()

    # ----

    def _open(self, name: str) -> str:
        reply = self.service.call("POST", f"/v2/{name}/blobs/uploads/")
        assert reply.status == 202, reply
        return reply.headers["location"]

    def _close_session(self, name: str, location: str, blob: Blob) -> None:
        joint = "&" if "?" in location else "?"
        reply = self.service.call("PUT", f"{location}{joint}digest={blob.digest}")
        assert reply.status == 201, reply
        self._pushed(name, blob.digest)

    def _push_what_it_needs(self, name: str, manifest: Manifest) -> None:
        for digest in manifest.blobs:
            if digest not in self.model[name].blobs:
                self.push_in_one_request(name, self.content[digest])
        for digest in manifest.children:
            if digest not in self.model[name].manifests:
                child = self.made[digest]
                self._push_what_it_needs(name, child)
                self._put(name, child, child.digest, [])

    def _made(self, manifest: Manifest) -> Manifest:
        self.made[manifest.digest] = manifest
        self.content[manifest.digest] = Blob(manifest.data, manifest.algorithm)
        return manifest

    def _pushed(self, name: str, digest: str) -> None:
        self.model[name].blobs.add(digest)
        self.model[name].doubtful.discard(digest)
        self.ages.touched[digest] = self.service.now()

    def _put(self, name: str, manifest: Manifest, reference: str, wanted: list[str]) -> Reply:
        repository = self.model[name]
        headers = {"Content-Type": manifest.media_type}
        reply = self.service.call("PUT", f"/v2/{name}/manifests/{reference}", manifest.data, headers)
        missing = repository.missing(manifest)
        # The bytes of a manifest may count as a blob of the repository; only what is nowhere must be refused.
        if missing - repository.doubtful - repository.manifests.keys():
            assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN"), reply
        elif not missing:
            assert reply.status == 201, reply
        if reply.status == 201:
            assert reply.headers["docker-content-digest"] == manifest.digest
            assert reply.headers.get("oci-subject") == manifest.subject
            self._came(name, manifest, wanted)
        return reply

    def _came(self, name: str, manifest: Manifest, wanted: list[str]) -> None:
        """A repository has a manifest from now, with these tags too."""
        repository, now = self.model[name], self.service.now()
        self._leaves_use(name)
        for tag in wanted:
            if repository.tags.get(tag) != manifest.digest:
                self.ages.tag_changed[name, tag] = now
            self.ages.tag_set[name, tag] = now
        repository.put(manifest, wanted)
        self.ages.touched[manifest.digest] = now
        self.ages.removed.pop((name, manifest.digest), None)

    def _went(self, name: str, gone: set[str]) -> None:
        """These manifests are in the trash from now."""
        for digest in gone:
            self.ages.removed[name, digest] = Removed(self.service.now(), frozenset(gone))

    def _leaves_use(self, name: str) -> None:
        """What is in use may be so no more after this."""
        now, repository = self.service.now(), self.model[name]
        for digest in (*repository.named(), *repository.in_use()):
            self.ages.used[name, digest] = now

    def _pull(self, name: str, reference: str, digest: str | None) -> None:
        path = f"/v2/{name}/manifests/{reference}"
        reply, head = self.service.call("GET", path), self.service.call("HEAD", path)
        assert reply.status == head.status == (200 if digest else 404), (reference, reply, head)
        if digest is None:
            assert reply.code in {"MANIFEST_UNKNOWN", "NAME_UNKNOWN"}
            return
        manifest = self.model[name].manifests[digest]
        self.ages.touched[digest] = self.service.now()
        assert reply.body == manifest.data
        for answer in (reply, head):
            assert answer.headers["docker-content-digest"] == digest
            assert answer.headers["content-type"] == manifest.media_type
            assert answer.headers["content-length"] == str(len(manifest.data))
