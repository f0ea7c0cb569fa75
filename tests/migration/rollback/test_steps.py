"""What a rollback does to a source: whole from nothing, nothing where nothing changed, right wherever it stops."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from registry.migration.rollback.steps import Copy, Delete, SourceIndex, Step, Write
from registry.migration.source.distribution import Distribution
from registry.migration.source.layout import SourceLayout
from registry.migration.source.objects import RepositoryPath
from registry.migration.source.zot import ZotLayout
from registry.oci.digest import Digest
from registry.oci.index import FOLDED
from registry.storage.memory import MemoryDriver
from tests.support.payloads import Blob, image
from tests.support.rollback import apply, listed, put_ours, tree_of, wanted, whole
from tests.support.served_tags import distribution_tags, zot_tags
from tests.support.source_world import (
    AMD,
    ARM,
    ATTACHED,
    BOTH,
    EMPTY_JSON,
    FIRST,
    NOTHING,
    ON_AMD,
    ON_ARM,
    SBOM,
    SECOND,
    SHARED,
    TREE,
    Repository,
    Tree,
    data_key,
    distribution,
    earlier_layout,
    fill,
    path,
    per_repository,
    repositories,
)

NEW_LAYER = Blob(b"pushed since " * 300)
PUSHED = image(AMD, [SHARED, NEW_LAYER])
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
LINKS = f"{TREE}/repositories/app"


def app() -> Repository:
    return repositories()[0]


def changed() -> Repository:
    """A push with a tag of its own, one tag moved to it, one removed, and with that a manifest and a blob."""
    blobs = [AMD, ARM, SHARED, SECOND, EMPTY_JSON, FIRST, NEW_LAYER]
    return Repository("app", {"v1": PUSHED, "v2": PUSHED, "next": BOTH}, [ON_AMD, ON_ARM], blobs)


def at(prefix: str, name: str = "app") -> RepositoryPath:
    return RepositoryPath(name, f"{prefix}{name}", prefix.rstrip("/"))


IN_TREE = RepositoryPath("app", "app", TREE)


def document_of(driver: MemoryDriver, key: str, original: bytes | None = None) -> SourceIndex:
    data, stat = driver.read(key, max_bytes=1 << 20)
    return SourceIndex(key, data if original is None else original, data, stat.etag, sequence=9)


def in_no_order(index: bytes) -> list[str]:
    """The entries of an index.json, whatever the spaces in them."""
    return sorted(json.dumps(entry) for entry in json.loads(index)["manifests"])


# ---- from nothing


@pytest.mark.parametrize("prefix", ["", "zot/"], ids=["root once", "root twice"])
def test_a_tree_of_zot_is_made_of_nothing(prefix: str) -> None:
    driver = MemoryDriver()
    whole(ZotLayout(("zot",)), repositories(), [at(prefix, made.name) for made in repositories()], driver)
    made, expected = tree_of(driver), per_repository(repositories(), prefix=prefix, stubs=False)
    for repository in repositories():
        key = f"{prefix}{repository.name}/index.json"
        assert in_no_order(made.pop(key)) == in_no_order(expected.pop(key))
    assert made == expected


def test_a_tree_of_distribution_is_made_of_nothing() -> None:
    driver = MemoryDriver()
    places = [RepositoryPath(made.name, made.name, TREE) for made in repositories()]
    whole(Distribution(), repositories(), places, driver)
    assert tree_of(driver) == distribution(repositories())


# ---- nothing changed


def test_an_index_that_is_ours_becomes_the_saved_one_byte_for_byte_and_nothing_else_is_done() -> None:
    tree = per_repository([app()])
    saved = json.dumps(
        {"manifests": json.loads(tree["app/index.json"])["manifests"], "x": {"z": 1, "a": 2.50}}
    ).encode()
    driver = MemoryDriver()
    fill(driver, tree | {"app/index.json": b'{"manifests":[],"annotations":{"io.stowage.folded":"0"}}'})
    with listed(driver) as inventory:
        document = document_of(driver, "app/index.json", saved)
        asked = wanted(app(), at(""), inventory, before=app(), document=document)
        steps = list(ZotLayout(()).steps(asked, inventory))
    assert steps == [Write("app/index.json", saved, document.etag)]
    apply(driver, steps[0])
    with listed(driver) as inventory:
        asked = wanted(app(), at(""), inventory, before=app(), document=document_of(driver, "app/index.json"))
        assert list(ZotLayout(()).steps(asked, inventory)) == []


@pytest.mark.parametrize(
    ("layout", "tree", "located"),
    [
        (ZotLayout(("zot",)), per_repository(repositories(), prefix="zot/"), at("zot/")),
        (Distribution(), distribution(repositories()), IN_TREE),
    ],
    ids=["zot", "distribution"],
)
def test_where_nothing_changed_there_are_no_steps(layout: SourceLayout, tree: Tree, located: RepositoryPath) -> None:
    driver = MemoryDriver()
    fill(driver, tree)
    put_ours(driver, [app()])
    with listed(driver) as inventory:
        assert list(layout.steps(wanted(app(), located, inventory, before=app()), inventory)) == []


def test_children_that_an_index_json_leaves_out_are_not_added_to_it() -> None:
    tree = per_repository([Repository("app", {"v1": BOTH}, [], app().blobs)])
    tree |= {f"app/blobs/{path(made.digest)}": made.data for made in (ON_AMD, ON_ARM)}
    driver = MemoryDriver()
    fill(driver, tree)
    with listed(driver) as inventory:
        repository = Repository("app", {"v1": BOTH}, [ON_AMD, ON_ARM], app().blobs)
        asked = wanted(repository, at(""), inventory, document=document_of(driver, "app/index.json"))
        assert list(ZotLayout(()).steps(asked, inventory)) == []
        alone = Repository("app", {}, [ON_AMD, ON_ARM], app().blobs)
        asked = wanted(alone, at(""), inventory, before=repository, document=document_of(driver, "app/index.json"))
        (step,) = ZotLayout(()).steps(asked, inventory)
    assert isinstance(step, Write)
    listed_now = [entry["digest"] for entry in json.loads(step.data)["manifests"]]
    assert sorted(listed_now) == sorted([ON_AMD.digest, ON_ARM.digest])


# ---- changes


@pytest.mark.parametrize("prefix", ["", "zot/"], ids=["root once", "root twice"])
def test_changes_are_made_in_the_index_that_zot_had_and_blobs_are_copied_whole(prefix: str) -> None:
    driver = MemoryDriver()
    tree = per_repository([*repositories()[1:], app()], prefix=prefix)  # SHARED is a stub in app
    key = f"{prefix}app/index.json"
    tree[key] = json.dumps({"x": 1, "annotations": {"a": "b"}, **json.loads(tree[key])}).encode()
    fill(driver, tree)
    put_ours(driver, [changed()])
    with listed(driver) as inventory:
        asked = wanted(changed(), at(prefix), inventory, before=app(), document=document_of(driver, key))
        steps = list(ZotLayout(("zot",)).steps(asked, inventory))
    assert [type(step) for step in steps] == [Copy, Copy, Write]
    assert {step.digest for step in steps if isinstance(step, Copy)} == {NEW_LAYER.digest, PUSHED.digest}
    for step in steps:
        apply(driver, step)
    after = tree_of(driver)
    document = json.loads(after.pop(key))
    assert {at: data for at, data in after.items() if at in tree} == {
        at: data for at, data in tree.items() if at != key
    }
    assert list(document) == ["x", "annotations", "schemaVersion", "manifests"]
    tags = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in document["manifests"]
        if "annotations" in entry
    }
    assert tags == {"v1": PUSHED.digest, "v2": PUSHED.digest, "next": BOTH.digest}
    assert {entry["digest"] for entry in document["manifests"]} == {
        PUSHED.digest, BOTH.digest, ON_AMD.digest, ON_ARM.digest,
    }  # fmt: skip


def test_changes_are_links_in_a_tree_of_distribution_and_bytes_that_went_stay() -> None:
    driver = MemoryDriver()
    before = distribution(repositories())
    fill(driver, before)
    put_ours(driver, [changed()])
    with listed(driver) as inventory:
        asked = wanted(changed(), IN_TREE, inventory, before=app(), gone=[SBOM])
        for step in Distribution().steps(asked, inventory):
            apply(driver, step)
    after = tree_of(driver)
    expected = distribution([changed(), *repositories()[1:]])
    left = {
        data_key(ATTACHED.digest),
        data_key(SBOM.digest),
        f"{LINKS}/_manifests/tags/v1/index/{path(BOTH.digest)}/link",
    }
    assert {key: after[key] for key in after if key not in left} == expected
    assert {key: after[key] for key in left} == {key: before[key] for key in left}


def test_a_moved_tag_is_written_whatever_the_listing_shows_because_it_does_not_show_what_it_says() -> None:
    driver = MemoryDriver()
    fill(driver, distribution([app()]))
    moved = Repository("app", {"v1": BOTH, "amd": ON_ARM}, [ON_AMD, ATTACHED], app().blobs)
    with listed(driver) as inventory:
        steps = list(Distribution().steps(wanted(moved, IN_TREE, inventory, before=app()), inventory))
    keys = [step.key for step in steps if isinstance(step, Write)]
    tag = f"{LINKS}/_manifests/tags/amd"
    assert keys == [f"{tag}/index/{path(ON_ARM.digest)}/link", f"{tag}/current/link"]
    assert isinstance(steps[1], Write)
    assert steps[1].if_etag == driver.stat(f"{tag}/current/link").etag
    assert steps[1].data == ON_ARM.digest.encode()


def test_what_a_tag_says_goes_last_of_it() -> None:
    driver = MemoryDriver()
    fill(driver, distribution([app()]))
    driver.write(f"{LINKS}/_manifests/tags/amd/index/{path(ON_ARM.digest)}/link", ON_ARM.digest.encode())
    without = Repository("app", {"v1": BOTH}, [ON_AMD, ON_ARM, ATTACHED], app().blobs)
    with listed(driver) as inventory:
        (step,) = Distribution().steps(wanted(without, IN_TREE, inventory, before=app()), inventory)
    assert isinstance(step, Delete)
    assert len(step.keys) == 3
    assert step.keys[-1] == f"{LINKS}/_manifests/tags/amd/current/link"


def test_what_could_not_be_taken_is_kept() -> None:
    bad = image(Blob(b"no config"), [Blob(b"no layer")])
    repository = app()
    repository.tags["bad"] = bad
    for layout, tree, located in (
        (ZotLayout(()), per_repository([repository]), at("")),
        (Distribution(), distribution([repository]), IN_TREE),
    ):
        driver = MemoryDriver()
        fill(driver, tree)
        with listed(driver) as inventory:
            document = document_of(driver, "app/index.json") if layout.has_stubs else None
            asked = wanted(app(), located, inventory, before=app(), document=document)
            assert list(layout.steps(asked, inventory)) == []


def test_an_object_with_other_bytes_is_mended_and_a_stub_without_bytes_filled() -> None:
    driver = MemoryDriver()
    tree = per_repository([app()]) | {
        f"app/blobs/{path(FIRST.digest)}": b"",
        f"app/blobs/{path(SECOND.digest)}": b"cut",
    }
    fill(driver, tree)
    put_ours(driver, [app()])
    bad = f"app/blobs/{path(SHARED.digest)}"
    with listed(driver) as inventory:
        steps = list(ZotLayout(()).steps(wanted(app(), at(""), inventory, before=app(), lost=[bad]), inventory))
    assert sorted(step.digest for step in steps if isinstance(step, Copy)) == sorted(
        [FIRST.digest, SECOND.digest, SHARED.digest]
    )
    fill(driver, distribution([app()]))
    bad = data_key(SHARED.digest)
    with listed(driver) as inventory:
        (step,) = Distribution().steps(wanted(app(), IN_TREE, inventory, before=app(), lost=[bad]), inventory)
    assert isinstance(step, Copy)
    assert (step.target, step.source) == (bad, f"storage/blobs/{path(SHARED.digest)}")


def test_a_blob_of_no_bytes_is_copied_where_it_is_missing_and_let_alone_where_it_is() -> None:
    web = repositories()[1]
    for without, expected in ((True, [NOTHING.digest]), (False, [])):
        driver = MemoryDriver()
        tree = per_repository([web])
        if without:
            del tree[f"team/web/blobs/{path(NOTHING.digest)}"]
        fill(driver, tree)
        put_ours(driver, [web])
        with listed(driver) as inventory:
            steps = ZotLayout(()).steps(wanted(web, at("", "team/web"), inventory, before=web), inventory)
            assert [step.digest for step in steps if isinstance(step, Copy)] == expected


def test_an_earlier_layout_of_ours_does_not_make_changes_again_that_its_index_has() -> None:
    driver = MemoryDriver()
    tree = earlier_layout([app()])
    fill(driver, tree)
    repository = app()
    with listed(driver) as inventory:
        document = document_of(driver, "app/index.json")
        (step,) = ZotLayout(()).steps(wanted(repository, at(""), inventory, document=document), inventory)
    assert isinstance(step, Write)
    assert json.loads(step.data)["annotations"] == {FOLDED: "9"}


# ---- wherever it stops


def _run(layout: SourceLayout, located: RepositoryPath, driver: MemoryDriver, limit: int) -> list[Step]:
    with listed(driver) as inventory:
        key = f"{located.path}/index.json"
        document = document_of(driver, key) if layout.has_stubs else None
        asked = wanted(changed(), located, inventory, before=app(), gone=[SBOM], document=document)
        steps = list(layout.steps(asked, inventory))
    for step in steps[:limit]:
        apply(driver, step)
    return steps


@pytest.mark.parametrize("kind", ["zot", "distribution"])
def test_killed_between_any_two_steps_every_tag_is_whole_and_going_on_ends_alike(kind: str) -> None:
    layout: SourceLayout = ZotLayout(("zot",)) if kind == "zot" else Distribution()
    located = at("zot/") if kind == "zot" else IN_TREE
    trees = (
        per_repository([*repositories()[1:], app()], prefix="zot/") if kind == "zot" else distribution(repositories())
    )

    def filled() -> MemoryDriver:
        driver = MemoryDriver()
        fill(driver, trees)
        put_ours(driver, [changed()])
        return driver

    def served(driver: MemoryDriver) -> dict[str, str]:
        tree = tree_of(driver)
        return (zot_tags(tree, "zot/") if kind == "zot" else distribution_tags(tree))["app"]

    whole_run = filled()
    steps = _run(layout, located, whole_run, 1000)
    expected = tree_of(whole_run)
    assert served(whole_run) == {"v1": PUSHED.digest, "v2": PUSHED.digest, "next": BOTH.digest}
    assert len(steps) >= 3
    for count in range(len(steps)):
        driver = filled()
        _run(layout, located, driver, count)
        tags = served(driver)
        for tag, digests in {"v1": {BOTH.digest, PUSHED.digest}, "amd": {ON_AMD.digest}, "v2": {PUSHED.digest}}.items():
            assert tags.get(tag, next(iter(digests))) in digests
        assert "v1" in tags
        _run(layout, located, driver, 1000)
        assert tree_of(driver) == expected


# ---- losses


def test_sha512_and_a_type_that_distribution_would_guess_otherwise_are_losses_with_all_that_name_them() -> None:
    driver = MemoryDriver()
    fill(driver, distribution(repositories()))
    strange = Blob(b"a layer by another name", "sha512")
    names_it, other = image(AMD, [strange]), image(AMD, [SHARED], annotations={"a": "b"})
    repository = Repository(
        "app", app().tags | {"odd": names_it, "docker": other}, app().untagged, [*app().blobs, strange]
    )
    put_ours(driver, [repository])
    with listed(driver) as inventory:
        asked = wanted(repository, IN_TREE, inventory, before=app())
        untyped = replace(asked.manifests[Digest(other.digest)], media_type=DOCKER)
        asked = replace(asked, manifests={**asked.manifests, Digest(other.digest): untyped})
        losses = list(Distribution().losses(asked, inventory))
        steps = list(Distribution().steps(asked, inventory))
        assert list(ZotLayout(()).losses(asked, inventory)) == []
    assert [loss.digest for loss in losses] == [strange.digest, names_it.digest, other.digest]
    assert "sha512" in losses[0].detail
    assert strange.digest in losses[1].detail
    assert other.media_type in losses[2].detail
    assert steps == []


def test_what_is_missing_everywhere_is_a_loss_only_where_the_source_did_not_lack_it_before() -> None:
    repository = app()
    repository.tags["since"] = PUSHED
    repository.blobs.append(NEW_LAYER)
    for layout, tree, located in (
        (ZotLayout(()), per_repository([app()]), at("")),
        (Distribution(), distribution([app()]), IN_TREE),
    ):
        tree.pop(f"app/blobs/{path(FIRST.digest)}", None)
        tree.pop(data_key(FIRST.digest), None)
        driver = MemoryDriver()
        fill(driver, tree)
        with listed(driver) as inventory:
            asked = wanted(repository, located, inventory, before=app())
            losses = [loss.digest for loss in layout.losses(asked, inventory)]
        assert losses == [NEW_LAYER.digest, PUSHED.digest]


# ---- waste


def test_what_is_of_no_use_without_the_source_is_told_but_never_a_key_of_ours() -> None:
    driver = MemoryDriver()
    fill(driver, distribution(repositories()))
    with listed(driver) as inventory:
        keys = list(Distribution().removable_keys(IN_TREE, inventory))
    assert keys == sorted(key for key in distribution([app()]) if key.startswith(f"{TREE}/repositories/app/"))
    driver = MemoryDriver()
    fill(driver, per_repository(repositories(), prefix="zot/"))
    with listed(driver) as inventory:
        layout = ZotLayout(("zot",))
        assert list(layout.removable_keys(at("zot/"), inventory)) == ["zot/app/index.json", "zot/app/oci-layout"]
        assert list(layout.removable_keys(at(""), inventory)) == []
