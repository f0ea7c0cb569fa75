"""Check 23: a table of rules and tags, with what stays by which rule; and that what is not known keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.config.retention_sections import RetentionRule
from registry.maintenance.retention.decision import KEEP, REMOVE, Moment, Tagged, shown
from registry.maintenance.retention.judge import Judge
from registry.maintenance.retention.rules import Rules
from tests.maintenance.retention.cases import ALWAYS_COUNTED, DAY, NOW, decide, rule, tagged

HEX = "a" * 64
PREVIEWS = rule({"any": {"newest": 2, "pushed_within": "30d", "pulled_within": "14d"}}, "pr-*", "previews")
NIGHTLY = rule({"all": {"newest": 2, "pulled_within": "60d"}}, "nightly-*", "nightly", but="nightly-*-hold")
RELEASES = rule("always", "v*,latest", "releases")
NEWEST_1 = rule({"any": {"newest": 1}})
NEWEST_2 = rule({"any": {"newest": 2}})
PUSHED_10 = rule({"any": {"pushed_within": "10d"}})
PULLED_10 = rule({"any": {"pulled_within": "10d"}})
BOTH = rule({"all": {"pushed_within": "10d", "pulled_within": "10d"}})


class Case(NamedTuple):
    """The tags of a repository ``team/app``, and which of them stay by which rule."""

    name: str
    rules: Sequence[RetentionRule]
    tags: Sequence[Tagged]
    kept: dict[str, str | None]
    """Every tag that stays, with the rule that decides it."""
    removed: dict[str, str] = {}  # noqa: RUF012 - never changed
    moment: Moment = ALWAYS_COUNTED
    immutable: str = ""


CASES = [
    Case("no rules", [], [tagged("a", "1", 999)], {"a": None}),
    Case("no tags", [NEWEST_1], [], {}),
    Case("matched by none", [RELEASES, PREVIEWS], [tagged("main", "1", 999)], {"main": None}),
    Case(
        "always",
        [RELEASES],
        [tagged("v1", "1", 999), tagged("latest", "2", 999)],
        dict.fromkeys(["v1", "latest"], "releases"),
    ),
    Case("newest of two", [NEWEST_1], [tagged("a", "1", 2), tagged("b", "2", 1)], {"b": "rule"}, {"a": "rule"}),
    Case("newest of none too many", [NEWEST_2], [tagged("a", "1", 2), tagged("b", "2", 1)], {"a": "rule", "b": "rule"}),
    Case(
        "two tags of one digest count once",
        [NEWEST_2],
        [tagged("a", "1", 1), tagged("b", "1", 2), tagged("c", "2", 3)],
        dict.fromkeys("abc", "rule"),
    ),
    Case(
        "all tags of a counted digest stay",
        [NEWEST_1],
        [tagged("a", "1", 1), tagged("b", "1", 900), tagged("c", "2", 2)],
        {"a": "rule", "b": "rule"},
        {"c": "rule"},
    ),
    Case(
        "all tags of a digest too many go",
        [NEWEST_1],
        [tagged("a", "1", 1), tagged("b", "2", 2), tagged("c", "2", 3)],
        {"a": "rule"},
        {"b": "rule", "c": "rule"},
    ),
    Case(
        "a digest is as new as its newest tag",
        [NEWEST_1],
        [tagged("a", "1", 5), tagged("b", "1", 1), tagged("c", "2", 2)],
        {"a": "rule", "b": "rule"},
        {"c": "rule"},
    ),
    Case(
        "promoted by another tag",
        [NEWEST_1],
        [tagged("old", "1", 90), tagged("promoted", "1", 0), tagged("x", "2", 1)],
        {"old": "rule", "promoted": "rule"},
        {"x": "rule"},
    ),
    Case(
        "another rule's tag of the digest does not count",
        [rule({"any": {"newest": 1}}, "a*", "first"), rule({"any": {"newest": 1}}, "*", "second")],
        [tagged("a1", "1", 9), tagged("b1", "1", 1), tagged("a2", "2", 3)],
        {"a2": "first", "b1": "second"},
        {"a1": "first"},
    ),
    Case(
        "a tie keeps both",
        [NEWEST_1],
        [tagged("a", "1", 3), tagged("b", "2", 3), tagged("c", "3", 4)],
        {"a": "rule", "b": "rule"},
        {"c": "rule"},
    ),
    Case(
        "first rule wins over a harsher one",
        [RELEASES, PUSHED_10],
        [tagged("v1", "1", 99), tagged("x", "2", 99)],
        {"v1": "releases"},
        {"x": "rule"},
    ),
    Case(
        "first rule wins over a kinder one",
        [rule({"any": {"pushed_within": "10d"}}, "v*", "harsh"), RELEASES],
        [tagged("v1", "1", 99), tagged("latest", "1", 99)],
        {"latest": "releases"},
        {"v1": "harsh"},
    ),
    Case(
        "a rule of another repository",
        [rule({"any": {"newest": 1}}, "*", "other", "other/**"), PUSHED_10],
        [tagged("a", "1", 99)],
        {},
        {"a": "rule"},
    ),
    Case(
        "one segment is no more",
        [rule({"any": {"pushed_within": 0}}, "*", "one", "*")],
        [tagged("a", "1", 99)],
        {"a": None},
    ),
    Case(
        "below a name",
        [rule({"any": {"pushed_within": 0}}, "*", "below", "team/*")],
        [tagged("a", "1", 99)],
        {},
        {"a": "below"},
    ),
    Case(
        "a name is not below itself",
        [rule({"any": {"pushed_within": 0}}, "*", "below", "team/app/**")],
        [tagged("a", "1", 99)],
        {"a": None},
    ),
    Case(
        "no part of a segment",
        [rule({"any": {"pushed_within": 0}}, "*", "part", "team/a")],
        [tagged("a", "1", 99)],
        {"a": None},
    ),
    Case(
        "a star within a segment",
        [rule({"any": {"pushed_within": 0}}, "*", "part", "t*/a*p")],
        [tagged("a", "1", 99)],
        {},
        {"a": "part"},
    ),
    Case(
        "upper and lower case",
        [rule({"any": {"pushed_within": 0}}, "V*")],
        [tagged("v1", "1", 99), tagged("V1", "1", 99)],
        {"v1": None},
        {"V1": "rule"},
    ),
    Case(
        "a star is any text with dots",
        [rule({"any": {"pushed_within": 0}}, "v1.*")],
        [tagged("v1.2.3", "1", 99), tagged("v1", "1", 99), tagged("v1x2", "1", 99)],
        {"v1": None, "v1x2": None},
        {"v1.2.3": "rule"},
    ),
    Case(
        "a dot is a dot",
        [rule({"any": {"pushed_within": 0}}, "1.0")],
        [tagged("1.0", "1", 99), tagged("1x0", "1", 99)],
        {"1x0": None},
        {"1.0": "rule"},
    ),
    Case(
        "the whole name",
        [rule({"any": {"pushed_within": 0}}, "pr")],
        [tagged("pr", "1", 99), tagged("pr-1", "1", 99), tagged("xpr", "1", 99)],
        {"pr-1": None, "xpr": None},
        {"pr": "rule"},
    ),
    Case(
        "a star in the middle",
        [rule({"any": {"pushed_within": 0}}, "a*z")],
        [tagged("az", "1", 99), tagged("a-b-z", "1", 99), tagged("azb", "1", 99)],
        {"azb": None},
        {"az": "rule", "a-b-z": "rule"},
    ),
    Case(
        "except",
        [NIGHTLY],
        [tagged("nightly-1-hold", "1", 999), tagged("nightly-1", "1", 999)],
        {"nightly-1-hold": None},
        {"nightly-1": "nightly"},
    ),
    Case(
        "an excepted tag is for the next rule",
        [NIGHTLY, rule({"any": {"pushed_within": "1d"}}, "*-hold", "holds")],
        [tagged("nightly-1-hold", "1", 2)],
        {},
        {"nightly-1-hold": "holds"},
    ),
    Case("pushed within", [PUSHED_10], [tagged("a", "1", 10), tagged("b", "2", 10.1)], {"a": "rule"}, {"b": "rule"}),
    Case(
        "a tag set again is young, whatever its manifest",
        [PUSHED_10],
        [tagged("a", "1", 1), tagged("b", "1", 99)],
        {"a": "rule"},
        {"b": "rule"},
    ),
    Case(
        "pulled within", [PULLED_10], [tagged("a", "1", 99, 9), tagged("b", "2", 99, 11)], {"a": "rule"}, {"b": "rule"}
    ),
    Case(
        "never pulled counts as pulled when it was pushed",
        [PULLED_10],
        [tagged("a", "1", 9), tagged("b", "2", 11)],
        {"a": "rule"},
        {"b": "rule"},
    ),
    Case("set again after the last pull", [PULLED_10], [tagged("a", "1", 9, 50)], {"a": "rule"}),
    Case(
        "pulled by another tag of the digest",
        [PULLED_10],
        [tagged("a", "1", 99, 1), tagged("b", "1", 98, 1)],
        {"a": "rule", "b": "rule"},
    ),
    Case(
        "any: one is enough",
        [PREVIEWS],
        [tagged("pr-1", "1", 99, 1), tagged("pr-2", "2", 29), tagged("pr-3", "3", 98, 97), tagged("pr-4", "4", 97, 96)],
        {"pr-1": "previews", "pr-2": "previews", "pr-4": "previews"},
        {"pr-3": "previews"},
    ),
    Case(
        "all: each has to hold",
        [NIGHTLY],
        [tagged("nightly-1", "1", 70, 50), tagged("nightly-2", "2", 69, 68), tagged("nightly-3", "3", 99, 1)],
        {"nightly-1": "nightly"},
        {"nightly-2": "nightly", "nightly-3": "nightly"},
    ),
    Case(
        "all: pushed and pulled", [BOTH], [tagged("a", "1", 5), tagged("b", "2", 50, 5)], {"a": "rule"}, {"b": "rule"}
    ),
    Case("unknown push time is never too old", [PUSHED_10], [tagged("a", "1")], {"a": "rule"}),
    Case("unknown push time is never pulled too long ago", [PULLED_10], [tagged("a", "1", None, 99)], {"a": "rule"}),
    Case(
        "unknown push time ranks as the newest",
        [NEWEST_1],
        [tagged("a", "1"), tagged("b", "2", 1)],
        {"a": "rule"},
        {"b": "rule"},
    ),
    Case(
        "unknown push times are all the newest",
        [NEWEST_1],
        [tagged("a", "1"), tagged("b", "2")],
        {"a": "rule", "b": "rule"},
    ),
    Case("unknown beside all conditions", [BOTH], [tagged("a", "1")], {"a": "rule"}),
    Case("pulls are not counted yet", [PULLED_10], [tagged("a", "1", 99, 98)], {"a": "rule"}, moment=Moment(NOW, None)),
    Case(
        "pulls are counted for less than asked",
        [PULLED_10],
        [tagged("a", "1", 99, 98)],
        {"a": "rule"},
        moment=Moment(NOW, NOW - 10 * DAY),
    ),
    Case(
        "pulls are counted for as long as asked",
        [PULLED_10],
        [tagged("a", "1", 99, 98)],
        {},
        {"a": "rule"},
        moment=Moment(NOW, NOW - 10.1 * DAY),
    ),
    Case(
        "pulls that are not counted yet keep nothing from other conditions",
        [NIGHTLY],
        [tagged("nightly-1", "1", 99), tagged("nightly-2", "2", 98), tagged("nightly-3", "3", 97)],
        {"nightly-2": "nightly", "nightly-3": "nightly"},
        {"nightly-1": "nightly"},
        moment=Moment(NOW, None),
    ),
    Case(
        "a pull is written down once in a while",
        [PULLED_10],
        [tagged("a", "1", 99, 10.9), tagged("b", "2", 99, 11.1), tagged("c", "3", 10.5)],
        {"a": "rule"},
        {"b": "rule", "c": "rule"},
        moment=Moment(NOW, 0.0, DAY),
    ),
    Case(
        "immutable",
        [PUSHED_10],
        [tagged("v1", "1", 99), tagged("x", "1", 99)],
        {"v1": None},
        {"x": "rule"},
        immutable="v1",
    ),
    Case(
        "immutable is not counted",
        [NEWEST_1],
        [tagged("v1", "1", 1), tagged("x", "2", 2), tagged("y", "3", 3)],
        {"v1": None, "x": "rule"},
        {"y": "rule"},
        immutable="v1",
    ),
    Case(
        "referrers of a digest",
        [PUSHED_10],
        [tagged(f"sha256-{HEX}", "1", 99), tagged(f"sha512-{HEX}", "1", 99)],
        dict.fromkeys([f"sha256-{HEX}", f"sha512-{HEX}"]),
    ),
    Case(
        "signatures and the like",
        [PUSHED_10],
        [tagged(f"sha256-{HEX}.{each}", "1", 99) for each in ("sig", "att", "sbom", "other")],
        {f"sha256-{HEX}.{each}": None for each in ("sig", "att", "sbom", "other")},
    ),
    Case(
        "signatures are not counted",
        [NEWEST_1],
        [tagged(f"sha256-{HEX}.sig", "1", 1), tagged("a", "2", 2)],
        {f"sha256-{HEX}.sig": None, "a": "rule"},
    ),
    Case(
        "what only looks like a digest",
        [PUSHED_10],
        [tagged("sha256-abc", "1", 99), tagged(f"sha256-{HEX[1:]}", "2", 99), tagged(f"SHA256-{HEX}", "3", 99)],
        {},
        {"sha256-abc": "rule", f"sha256-{HEX[1:]}": "rule", f"SHA256-{HEX}": "rule"},
    ),
    Case(
        "set after the run began",
        [rule({"any": {"pushed_within": 0}})],
        [tagged("a", "1", -0.1), tagged("b", "2", 0.1)],
        {"a": None},
        {"b": "rule"},
    ),
    Case(
        "set after the run began is not counted",
        [NEWEST_1],
        [tagged("a", "1", -1), tagged("b", "2", 1)],
        {"a": None, "b": "rule"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_stays_and_which_rule_decides(case: Case) -> None:
    found = decide(case.tags, Rules(case.rules).of("team/app"), case.moment, lambda tag: tag == case.immutable)
    assert [each.tagged for each in found] == list(case.tags)
    assert {each.tagged.tag: each.rule for each in found if each.action == KEEP} == case.kept
    assert {each.tagged.tag: each.rule for each in found if each.action == REMOVE} == case.removed
    assert all(each.because for each in found)


def test_the_table_is_as_long_as_the_contract_asks() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("keep", "each", "because"),
    [
        ("always", tagged("a", "1", 1), "the rule keeps always"),
        ({"any": {"newest": 1}}, tagged("a", "1", 0), "it is among the newest 1"),
        ({"any": {"newest": 1}}, tagged("a", "1", 3), "1 are newer, of which 1 stay"),
        ({"any": {"newest": 1}}, tagged("a", "1"), "when it was set is not known, so it ranks as the newest"),
        ({"any": {"pushed_within": "2d"}}, tagged("a", "1", 2.5), "it was set 2.5 d ago, longer than 2 d"),
        ({"any": {"pushed_within": "2d"}}, tagged("a", "1", 1), "it was set 1 d ago"),
        ({"any": {"pulled_within": "2d"}}, tagged("a", "1", 9, 3), "it was pulled 3 d ago, longer than 2 d"),
        ({"any": {"pulled_within": "2d"}}, tagged("a", "1", 9, 0.5), "it was pulled 12 h ago"),
        (
            {"any": {"pulled_within": "2d"}},
            tagged("a", "1", 9),
            "it was not pulled since it was set 9 d ago, longer than 2 d",
        ),
        (
            {"any": {"newest": 1, "pushed_within": "2d"}},
            tagged("a", "1", 9),
            "1 are newer, of which 1 stay; it was set 9 d ago, longer than 2 d",
        ),
        (
            {"all": {"newest": 1, "pushed_within": "2d"}},
            tagged("a", "1", 0),
            "it is among the newest 1; it was set 0 s ago",
        ),
        ({"all": {"newest": 9, "pushed_within": "2d"}}, tagged("a", "1", 9), "it was set 9 d ago, longer than 2 d"),
    ],
)
def test_a_decision_says_why(keep: Any, each: Tagged, because: str) -> None:
    found = decide([each, tagged("b", "2", 1)], Rules([rule(keep)]).of("a"), ALWAYS_COUNTED, lambda _: False)
    assert found[0].because == because


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (59.4, "59 s"), (60, "1 min"), (5400, "1.5 h"), (86_400 * 400, "400 d")]
)
def test_a_span_is_shown_in_one_unit(seconds: float, text: str) -> None:
    assert shown(seconds) == text


# ---- against a model that is written from the contract alone

DAYS = st.one_of(st.none(), st.integers(0, 40).map(float))
TAGS = st.lists(
    st.builds(tagged, st.sampled_from(["a1", "a2", "b1", "b2", "v1", "c"]), st.sampled_from("123456"), DAYS, DAYS),
    max_size=6,
    unique_by=lambda each: each.tag,
)
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "newest": st.integers(1, 4),
        "pushed_within": st.integers(0, 30).map(lambda days: f"{days}d"),
        "pulled_within": st.integers(0, 30).map(lambda days: f"{days}d"),
    },
).filter(bool)
KEEPS: st.SearchStrategy[Any] = st.one_of(
    st.just("always"), st.builds(lambda word, each: {word: each}, st.sampled_from(["any", "all"]), CONDITIONS)
)
RULES = st.lists(st.tuples(st.sampled_from(["*", "a*", "b*", "v*", "*1"]), KEEPS), max_size=4).map(
    lambda made: [rule(keep, tags, f"rule {number}") for number, (tags, keep) in enumerate(made)]
)
SINCE = st.one_of(st.none(), st.integers(0, 40).map(lambda days: NOW - days * DAY))


def reference(each: Tagged, tags: Sequence[Tagged], rules: Sequence[RetentionRule], moment: Moment) -> bool:
    """Whether a tag stays, as lifecycle.md has it, in as few words as possible."""

    def deciding(tag: str) -> RetentionRule | None:
        for candidate in rules:
            pattern = candidate.tags[0]
            if pattern == "*" or tag.startswith(pattern.strip("*") or "?") or (pattern == "*1" and tag[-1] == "1"):
                return candidate
        return None

    own = deciding(each.tag)
    if own is None or own.keep == "always":
        return True
    conditions = own.keep.any or own.keep.all
    assert conditions is not None

    def time_of(digest: str) -> float:
        of_rule = [other for other in tags if other.digest == digest and deciding(other.tag) is own]
        return max(NOW + 1 if other.pushed_at is None else other.pushed_at for other in of_rule)

    holds = []
    if conditions.newest is not None:
        digests = {other.digest for other in tags if deciding(other.tag) is own}
        unknown = any(
            other.pushed_at is None for other in tags if other.digest == each.digest and deciding(other.tag) is own
        )
        newer = sum(time_of(digest) > time_of(each.digest) for digest in digests)
        holds.append(unknown or newer < conditions.newest)
    if conditions.pushed_within is not None:
        holds.append(each.pushed_at is None or NOW - each.pushed_at <= conditions.pushed_within)
    if conditions.pulled_within is not None:
        span = conditions.pulled_within
        last = None if each.pushed_at is None else max(each.pushed_at, each.pulled_at or 0.0)
        is_counted = moment.pulls_since is not None and NOW - moment.pulls_since > span
        holds.append(last is None or NOW - last <= span or not is_counted)
    return all(holds) if own.keep.all else any(holds)


@settings(max_examples=200, deadline=None)
@given(TAGS, RULES, SINCE)
def test_nothing_goes_that_the_contract_keeps(
    tags: list[Tagged], rules: list[RetentionRule], since: float | None
) -> None:
    moment = Moment(NOW, since)
    for found in decide(tags, Rules(rules).of("team/app"), moment, lambda _: False):
        assert (found.action == KEEP) == reference(found.tagged, tags, rules, moment), found


@settings(max_examples=100, deadline=None)
@given(TAGS, RULES, SINCE, st.randoms(use_true_random=False))
def test_an_unknown_time_keeps_and_the_order_of_tags_means_nothing(
    tags: list[Tagged], rules: list[RetentionRule], since: float | None, random: Any
) -> None:
    moment, of = Moment(NOW, since), Rules(rules).of("team/app")
    before = {each.tagged.tag: each for each in decide(tags, of, moment, lambda _: False)}
    mixed = random.sample(tags, len(tags))
    assert {each.tagged.tag: each for each in decide(mixed, of, moment, lambda _: False)} == before
    for number, each in enumerate(tags):
        if each.pushed_at is None:
            assert before[each.tag].action == KEEP
        others = [*tags[:number], each._replace(pushed_at=None), *tags[number + 1 :]]
        assert decide(others, of, moment, lambda _: False)[number].action == KEEP
        if before[each.tag].action == KEEP:
            others[number] = each._replace(pulled_at=NOW)
            assert decide(others, of, moment, lambda _: False)[number].action == KEEP, "a pull takes nothing away"


@settings(max_examples=100, deadline=None)
@given(TAGS, RULES, st.integers(0, 4), SINCE)
def test_a_rule_that_keeps_always_only_ever_saves(
    tags: list[Tagged], rules: list[RetentionRule], place: int, since: float | None
) -> None:
    """Wherever it is put in, no tag goes that it matches and no earlier rule does."""
    moment, saving = Moment(NOW, since), rule("always", "*", "saving")
    more = [*rules[:place], saving, *rules[place:]]
    before = {each.tagged.tag: each for each in decide(tags, Rules(rules[:place]).of("a"), moment, lambda _: False)}
    for each in decide(tags, Rules(more).of("a"), moment, lambda _: False):
        assert each.action == before[each.tagged.tag].action


def test_a_tag_that_no_look_has_seen_stays() -> None:
    """It was set while the repository was looked at, with a manifest that was new, or that had an old tag."""
    judge = Judge(Rules([NEWEST_1]).of("a"), ALWAYS_COUNTED, lambda _: False)
    for manifest, each in enumerate([tagged("old", "0", 9), tagged("older", "1", 10), tagged("new", "2", 1)]):
        judge.see(manifest, each)
    assert judge.close() == (3, 3, 2)
    late = tagged("late", "3", 0)
    assert [judge.decide(manifest, late).action for manifest in (3, 1)] == [KEEP, KEEP]
    assert judge.decide(1, tagged("older", "1", 10)).action == REMOVE
