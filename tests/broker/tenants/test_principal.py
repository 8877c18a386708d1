import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.broker.containers import UNKNOWN
from furiosa.broker.tenants.principal import Match, Principal, is_container_id, is_subject_pattern
from furiosa.common.views import Container

ID, POD = "ab" * 32, "6d1a2b3c-0f0e-4111-8222-333344445555"
DOCKER = Container("docker", ID)
IN_POD = Container("containerd", ID, POD)
PAUSED = Container("unknown", "", POD)
ROOTLESS = Container("rootless-podman", ID)

ALICE = Principal(1000, 100, groups=frozenset({4, 5}))


@pytest.mark.parametrize(
    ("match", "who", "admitted"),
    [
        (Match(uid=1000), ALICE, True),
        (Match(uid=1001), ALICE, False),
        (Match(uid=0), Principal(0, 0), True),
        (Match(gid=100), ALICE, True),
        (Match(gid=5), ALICE, True),
        (Match(gid=6), ALICE, False),
        (Match(uid=1000, gid=6), ALICE, False),
        (Match(pod_uid=POD), Principal(0, 0, IN_POD), True),
        (Match(pod_uid=POD), Principal(0, 0, PAUSED), True),
        (Match(pod_uid="other"), Principal(0, 0, IN_POD), False),
        (Match(pod_uid="*"), Principal(0, 0, IN_POD), True),
        (Match(pod_uid="*"), Principal(0, 0, DOCKER), False),
        (Match(pod_uid="*"), ALICE, False),
        (Match(container=ID), Principal(0, 0, DOCKER), True),
        (Match(container=ID[:12]), Principal(0, 0, DOCKER), True),
        (Match(container="*"), Principal(0, 0, DOCKER), True),
        (Match(container="*"), Principal(0, 0, PAUSED), True),
        (Match(container="*"), ALICE, False),
        (Match(container="cd" * 6), Principal(0, 0, DOCKER), False),
        (Match(uid=7, container="*"), Principal(7, 7, DOCKER), True),
        (Match(uid=8, container="*"), Principal(7, 7, DOCKER), False),
        (Match(subject="CN=a"), Principal(subject="CN=a"), True),
        (Match(subject="*"), Principal(subject="CN=a"), True),
        (Match(subject="*"), ALICE, False),
        (Match(subject="*"), Principal(token="t"), False),
    ],
)
def test_a_match_admits_whom_all_it_says_is_true_of(
    match: Match, who: Principal, admitted: bool
) -> None:
    assert match.admits(who) is admitted


@pytest.mark.parametrize("container", [DOCKER, IN_POD, PAUSED, UNKNOWN])
def test_a_uid_that_an_image_chose_is_not_the_user_of_that_number(container: Container) -> None:
    assert not Match(uid=1000).admits(Principal(1000, 100, container))
    assert not Match(gid=100).admits(Principal(1000, 100, container))


def test_a_user_is_himself_in_a_container_without_root_and_only_that() -> None:
    who = Principal(1000, 100, ROOTLESS)
    assert Match(uid=1000).admits(who)
    assert not Match(container="*").admits(who)
    assert not Match(container=ID).admits(who)
    assert not Match(uid=1000, container=ID).admits(who)


def test_a_process_that_cannot_be_told_is_in_no_container_by_name() -> None:
    who = Principal(0, 0, UNKNOWN)
    assert not any(m.admits(who) for m in (Match(container="*"), Match(pod_uid="*"), Match(uid=0)))


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("CN=client,O=x", "CN=client,O=x", True),
        ("CN=client, O=x", "CN=client,O=x", True),
        ("CN=client,O=x", "O=x,CN=client", False),
        ("CN=*,O=x", "CN=client,O=x", True),
        ("CN=gpu-*-eu,O=x", "CN=gpu-7-eu,O=x", True),
        ("CN=gpu-*-eu,O=x", "CN=gpu-7-us,O=x", False),
        ("CN=*,O=x", "CN=client,O=y", False),
        ("CN=*,O=x", "CN=client,OU=z,O=x", False),
        ("CN=*,O=x", r"CN=evil\,O=x", False),
        ("CN=*,O=x", r"CN=evil\,O=x,O=y", False),
        ("CN=*,O=x", r"CN=a\\,O=x", True),
        ("CN=*", "CN=a+UID=root", False),
        ("CN=*+UID=*", r"CN=a\+UID=root", False),
        ("CN=*+UID=7", "CN=a+UID=7", True),
        ("CN=a.b", "CN=axb", False),
        ("CN=client", "CN=Client", False),
        (r"CN=a\,b", r"CN=a\,b", True),
    ],
)
def test_a_star_in_a_subject_stays_in_its_attribute(pattern: str, subject: str, fits: bool) -> None:
    assert Match(subject=pattern).admits(Principal(subject=subject)) is fits


@pytest.mark.parametrize("text", ["", "client", "=x", "C*=x", "CN=a,b", "*,O=x", "CN=a+b", ","])
def test_what_is_no_subject_is_no_pattern(text: str) -> None:
    assert not is_subject_pattern(text)


def test_an_id_is_at_least_as_long_as_runtimes_show_it() -> None:
    assert is_container_id(ID)
    assert is_container_id(ID[:12])
    assert not is_container_id(ID[:11])
    assert not is_container_id("web-server-01")


@pytest.mark.parametrize(
    ("who", "name"),
    [
        (ALICE, "uid:1000"),
        (Principal(1000, 100, ROOTLESS), "uid:1000"),
        (Principal(0, 0, IN_POD), f"pod:{POD}"),
        (Principal(0, 0, DOCKER), f"container:{ID}"),
        (Principal(0, 0, UNKNOWN), "container:unknown"),
        (Principal(subject="CN=a"), "subject:CN=a"),
        (Principal(token="vision"), "token:vision"),
    ],
)
def test_a_stranger_is_named_after_what_tells_it_apart(who: Principal, name: str) -> None:
    assert str(who) == name


ids = st.sampled_from([None, 1, 2])
containers = st.sampled_from(["", "*", ID[:12], ID, "cd" * 32])
pods = st.sampled_from(["", "*", POD, "0" * 32])
subjects = st.sampled_from(["*", "CN=a", "CN=*", "CN=a,O=x"])
matches = st.one_of(
    st.builds(Match, ids, ids, pods, containers).filter(lambda match: match != Match()),
    st.builds(Match, subject=subjects),
)
principals = st.one_of(
    st.builds(
        Principal,
        st.sampled_from([1, 2, 3]),
        st.sampled_from([1, 2, 3]),
        st.sampled_from([None, DOCKER, IN_POD, PAUSED, ROOTLESS, UNKNOWN]),
    ),
    st.builds(Principal, subject=st.sampled_from(["CN=a", "CN=b", "CN=a,O=x"])),
)


@given(matches, matches, principals)
def test_nobody_gets_to_a_match_that_an_earlier_one_covers(
    earlier: Match, later: Match, who: Principal
) -> None:
    assert earlier.covers(earlier)
    if earlier.covers(later) and later.admits(who):
        assert earlier.admits(who)
