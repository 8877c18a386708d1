import contextlib
import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.tenants.parse import MATCH, POLICY, BadTenants, parse
from furiosa.broker.tenants.policy import TenantPolicy, Tenants
from furiosa.broker.tenants.principal import Principal
from furiosa.common.errors import NotAllowed
from furiosa.common.views import Container

USERS = {"alice": 1000, "bob": 1001, "prometheus": 990}
GROUPS = {"vision": 2000, "operators": 2001}
POD = "6d1a2b3c-0f0e-4111-8222-333344445555"
DIGEST = "0123456789abcdef" * 4

REFUSE = '[unmatched]\npolicy = "refuse"\n'


def read(text: str, before: str = REFUSE) -> Tenants:
    return parse(before + text, uid_of=USERS.__getitem__, gid_of=GROUPS.__getitem__)


def problems(text: str, before: str = REFUSE) -> list[str]:
    with pytest.raises(BadTenants) as caught:
        read(text, before)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return list(caught.value.problems)


def policy(values: str, defaults: str = "") -> TenantPolicy:
    text = f'[defaults]\n{defaults}\n[[tenant]]\nname = "t"\nmatch = [{{uid = 7}}]\n{values}\n'
    return read(text).policy_for(Principal(7, 7))


def test_every_key_of_a_policy_is_read() -> None:
    assert policy(
        """
        weight = 2
        priority = 5
        max-priority = 10
        cards = [0, 1]
        max-cores = 4
        max-waiting = 16
        max-program-bytes = "512MiB"
        may-preempt = true
        admin = true
        acquires-per-second = 50
        burst = 100
        """
    ) == TenantPolicy("t", 2.0, 5, 10, frozenset({0, 1}), 4, 16, 512 * 2**20, True, True, 50.0, 100)


def test_what_a_tenant_does_not_say_the_defaults_do() -> None:
    defaults = 'weight = 3\nmax-cores = 2\ncards = "0-1"\nmax-priority = 4'
    assert policy("", defaults) == TenantPolicy(
        "t", weight=3.0, max_cores=2, cards=frozenset({0, 1}), max_priority=4
    )
    assert policy('weight = 1\nmax-cores = "unlimited"\ncards = "all"', defaults) == TenantPolicy(
        "t", max_priority=4
    )


def test_without_a_word_a_request_may_have_its_tenants_priority_and_no_higher() -> None:
    assert policy("priority = 5").max_priority == 5
    assert policy("priority = -5").max_priority == -5
    assert policy("").max_priority == 0


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("[]", frozenset()),
        ("[3, 1, 3]", frozenset({1, 3})),
        ('"2"', frozenset({2})),
        ('"0-3, 8,10-11"', frozenset({0, 1, 2, 3, 8, 10, 11})),
        ('"65535"', frozenset({65535})),
        ('"all"', None),
    ],
)
def test_cards_are_a_list_or_ranges(text: str, cards: frozenset[int] | None) -> None:
    assert policy(f"cards = {text}").cards == cards


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ('"64KiB"', 65_536),
        ('"512 MiB"', 512 * 2**20),
        ('"2Gi"', 2 * 2**30),
        ('"1TiB"', 2**40),
        ('"unlimited"', None),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, size: int | None) -> None:
    assert policy(f"max-program-bytes = {text}").max_program_bytes == size


@pytest.mark.parametrize(
    ("match", "who"),
    [
        ("uid = 1000", Principal(1000, 7)),
        ('user = "alice"', Principal(1000, 7)),
        ("gid = 7", Principal(1, 7)),
        ('group = "vision"', Principal(1, 7, groups=frozenset({2000}))),
        (f'pod-uid = "{POD}"', Principal(0, 0, Container("containerd", "ab" * 32, POD))),
        ('pod-uid = "*"', Principal(0, 0, Container("containerd", "ab" * 32, POD))),
        (f'container = "{"ab" * 6}"', Principal(0, 0, Container("docker", "ab" * 32))),
        ('container = "*", user = "bob"', Principal(1001, 0, Container("docker", "ab" * 32))),
        ('subject = "CN=*,O=example"', Principal(subject="CN=a,O=example")),
        (f'token-sha256 = "{DIGEST}"', Principal(token="t")),
    ],
)
def test_every_way_to_say_who_a_tenant_is(match: str, who: Principal) -> None:
    tenants = read(f'[[tenant]]\nname = "t"\nmatch = [{{uid = 1}}, {{{match}}}]\n')
    assert tenants.policy_for(who).name == "t"
    with pytest.raises(NotAllowed):
        tenants.policy_for(Principal(9, 9))


def test_strangers_get_the_defaults_where_they_are_admitted() -> None:
    text = '[defaults]\nmax-cores = 1\npriority = -1\n[unmatched]\npolicy = "own-tenant"\n'
    assert read(text, "").policy_for(Principal(9, 9)) == TenantPolicy(
        "uid:9", priority=-1, max_priority=-1, max_cores=1
    )


def test_names_are_those_of_this_machine_unless_told_otherwise() -> None:
    text = '[[tenant]]\nname = "t"\nmatch = [{user = "root", container = "*"}, {group = "root"}]\n'
    assert parse(REFUSE + text).names == ("t",)


@pytest.mark.parametrize("name", ["nobody-has-this-name", "a\\u0000b", "\\U0010ffff"])
@pytest.mark.parametrize("key", ["user", "group"])
def test_a_name_that_the_machine_does_not_know_is_told(key: str, name: str) -> None:
    with pytest.raises(BadTenants, match=f"{key} is .*, expected one that this machine knows"):
        parse(f'{REFUSE}[[tenant]]\nname = "t"\nmatch = [{{{key} = "{name}"}}]\n')


T = '[[tenant]]\nname = "vision"\nmatch = [{uid = 7}]\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max-cores = -1", 'max-cores is -1, expected a whole number, 0 or more, or "unlimited"'),
        (
            "max-cores = true",
            'max-cores is true, expected a whole number, 0 or more, or "unlimited"',
        ),
        ("max-cores = 1.5", 'max-cores is 1.5, expected a whole number, 0 or more, or "unlimited"'),
        ("max-waiting = 0x" + "f" * 9999, "max-waiting is far too large, expected a whole number"),
        ("max-cores = " + "9" * 40, "max-cores is " + "9" * 40),
        ("weight = 0", "weight is 0, expected a number, 0.001 to 1000"),
        ("weight = nan", "weight is NaN, expected a number, 0.001 to 1000"),
        ("weight = inf", "weight is Infinity, expected a number, 0.001 to 1000"),
        ('weight = "2"', 'weight is "2", expected a number, 0.001 to 1000'),
        ("acquires-per-second = 0", 'expected a number, 0.001 to 1e+06, or "unlimited"'),
        ("burst = 0", "burst is 0, expected a whole number, 1 to 1000000"),
        ("priority = 1001", "priority is 1001, expected a whole number, -1000 to 1000"),
        ("priority = 5\nmax-priority = 4", "max-priority is 4, expected its priority, 5, or more"),
        ('admin = "yes"', 'admin is "yes", expected true or false'),
        ("may-preempt = 1", "may-preempt is 1, expected true or false"),
        ("cards = 3", 'cards is 3, expected card numbers such as [0, 1] or "0-3,8"'),
        ("cards = [true]", "cards is [true], expected card numbers"),
        ("cards = [-1]", "cards is [-1], expected card numbers"),
        ("cards = [65536]", "none above 65535"),
        ('cards = "3-1"', 'cards is "3-1", expected card numbers'),
        ('cards = ""', 'cards is "", expected card numbers'),
        ('cards = "npu0"', 'cards is "npu0", expected card numbers'),
        ('max-program-bytes = "512MB"', 'max-program-bytes is "512MB", expected bytes'),
        ("max-program-bytes = -1", "max-program-bytes is -1, expected bytes"),
        ("max_cores = 1", 'unknown key "max_cores", did you mean max-cores?'),
        ("xyz = 1", 'unknown key "xyz", expected weight, priority'),
        ("weight = 2026-01-02", 'weight is "2026-01-02", expected a number'),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_place(line: str, said: str) -> None:
    (problem,) = problems(T + line)
    assert problem.startswith('tenant[1] "vision": ')
    assert said in problem


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("[]", "match is [], expected who it is, such as [{uid = 1000}]"),
        ("{uid = 1}", 'match is {"uid": 1}, expected who it is'),
        ("[1]", "match[1]: is 1, expected a table"),
        ("[{}]", "match[1]: is empty, expected one or more of uid, user"),
        (
            "[{uid = 1}, {uid = -1}]",
            "match[2]: uid is -1, expected a whole number, 0 to 4294967294",
        ),
        ('[{user = "eve"}]', 'match[1]: user is "eve", expected one that this machine knows'),
        ('[{user = "a\\u0000"}]', "expected one that this machine knows"),
        ('[{group = "eve"}]', 'match[1]: group is "eve", expected one that this machine knows'),
        ('[{user = ""}]', 'user is "", expected the name of a user'),
        ('[{uid = 1000, user = "alice"}]', "match[1]: has user and uid, expected one of them"),
        ('[{pod-uid = "web-1"}]', 'pod-uid is "web-1", expected the uid of a pod, or "*" for any'),
        ('[{container = "web"}]', 'container is "web", expected 12 or more hex digits'),
        ('[{subject = "client"}]', 'subject is "client", expected attributes such as "CN=client'),
        ('[{subject = "CN=a", uid = 1}]', "match[1]: nobody has subject and anything else"),
        ('[{token-sha256 = "abc"}]', 'token-sha256 is "abc", expected the 64 hex digits'),
        ("[{pid = 1}]", 'match[1]: unknown key "pid", did you mean'),
        ("[{uid = 1}, {uid = 1}]", "match[2]: uid 1 gets nobody"),
        ("[{gid = 1}, {uid = 1, gid = 1}]", "match[2]: uid 1, gid 1 gets nobody"),
        (
            f'[{{token-sha256 = "{DIGEST}"}}, {{token-sha256 = "{DIGEST}"}}]',
            "match[2]: this token is in",
        ),
    ],
)
def test_a_match_that_nobody_fits_is_told_with_its_place(match: str, said: str) -> None:
    (problem, *more) = problems(f'[[tenant]]\nname = "vision"\nmatch = {match}\n')
    assert problem.startswith('tenant[1] "vision": ')
    assert said in problem
    assert all(said in each for each in more) or "is empty" in more[0]


@pytest.mark.parametrize(
    ("text", "before", "said"),
    [
        ("", "", '[unmatched]: policy is missing, expected "own-tenant" or "refuse"'),
        ("", '[unmatched]\npolicy = "uid"\n', 'policy is "uid", expected "own-tenant" or "refuse"'),
        ("", "unmatched = 1\n[defaults]\n", "[unmatched]: is 1, expected a table"),
        (
            "[defaults]\nadmin = true",
            REFUSE,
            "[defaults]: admin would make everybody an administrator",
        ),
        ("[defaults]\nname = 'x'", REFUSE, '[defaults]: unknown key "name"'),
        ("[defaults]\npriority = 'x'", REFUSE, '[defaults]: priority is "x"'),
        ("[tenants]", REFUSE, 'unknown key "tenants", did you mean tenant?'),
        ("[tenant]\nname = 'x'", REFUSE, "tenant: is one table, expected [[tenant]]"),
        ("[[tenant]]\nmatch = [{uid = 1}]", REFUSE, "tenant[1]: name is missing"),
        (
            "[[tenant]]\nname = 7\nmatch = [{uid = 1}]",
            REFUSE,
            "tenant[1]: name is 7, expected letters",
        ),
        (
            "[[tenant]]\nname = 'uid:7'\nmatch = [{uid = 1}]",
            REFUSE,
            'name is "uid:7", expected letters',
        ),
        ("[[tenant]]\nname = 'x'", REFUSE, 'tenant[1] "x": match is missing'),
        ("x = ", REFUSE, "not TOML: "),
        ("x = " + "[" * 5000 + "]" * 5000, REFUSE, "not TOML: "),
        ("[[tenant]]\nname = 'x'\nname = 'x'", REFUSE, "not TOML: "),
    ],
)
def test_what_is_wrong_with_the_file_as_a_whole_is_told(text: str, before: str, said: str) -> None:
    assert any(problem.startswith(said) or said in problem for problem in problems(text, before))


def test_names_are_unique_and_a_match_is_in_one_tenant() -> None:
    text = T + '[[tenant]]\nname = "vision"\nmatch = [{user = "alice"}, {uid = 7}]\n'
    assert problems(text) == [
        'tenant[2] "vision": name is that of tenant[1] "vision" too, expected another',
        'tenant[2] "vision": match[2]: uid 7 gets nobody, tenant[1] "vision": match[1] (uid 7) comes first',
    ]


def test_a_user_by_name_is_the_user_by_number() -> None:
    first = T.replace("uid = 7", 'user = "alice"')
    (problem,) = problems(first + '[[tenant]]\nname = "b"\nmatch = [{uid = 1000}]\n')
    assert problem.startswith('tenant[2] "b": match[1]: uid 1000 gets nobody')


def test_all_problems_are_told_at_once() -> None:
    text = """
    [defaults]
    wieght = 1
    [[tenant]]
    name = "a"
    match = [{uid = 1}]
    max-cores = -1
    burst = 0
    [[tenant]]
    name = "b"
    match = [{user = "eve"}, {uid = 1}]
    """
    assert [problem.split(" is ")[0] for problem in problems(text, "")] == [
        '[defaults]: unknown key "wieght", did you mean weight?',
        "[unmatched]: policy",
        'tenant[1] "a": max-cores',
        'tenant[1] "a": burst',
        'tenant[2] "b": match[1]: user',
        'tenant[2] "b": match[2]: uid 1 gets nobody, tenant[1] "a": match[1] (uid 1) comes first',
    ]


def test_a_small_file_made_large_by_ranges_is_read() -> None:
    assert len(policy('cards = "' + ",".join(["0-65535"] * 50) + '"').cards or ()) == 65_536


junk = st.recursive(
    st.one_of(
        st.integers(),
        st.booleans(),
        st.floats(),
        st.text(max_size=9),
        st.just(datetime.date(2026, 1, 2)),
        st.sampled_from(["all", "unlimited", "*", "0-3", "CN=a", DIGEST, "alice"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*MATCH, *POLICY, "name", "match"]), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["defaults", "unmatched", "tenant", "x"]), junk))
def test_whatever_the_file_says_it_is_read_or_its_problems_are_told(values: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda text: values)
        with contextlib.suppress(BadTenants):
            read("")


def test_the_example_of_the_manual_is_sound_and_the_manual_names_every_key() -> None:
    manual = Path(__file__).parents[3].joinpath("docs", "tenants.md").read_text(encoding="utf-8")
    _, example, *_ = manual.split("```toml\n")
    example = example.split("```")[0]
    assert read(example, "").names
    for key in (*POLICY, *MATCH):
        assert f"| `{key}` |" in manual
        assert key in example
