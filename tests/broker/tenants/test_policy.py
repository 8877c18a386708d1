import pytest

from furiosa.broker.containers import UNKNOWN
from furiosa.broker.tenants.policy import MOST_PRIORITY, Tenant, TenantPolicy, Tenants
from furiosa.broker.tenants.principal import Match, Principal
from furiosa.broker.tenants.tokens import new_token
from furiosa.common.errors import NotAllowed
from furiosa.common.views import Container

DOCKER = Container("docker", "ab" * 32)
VISION = TenantPolicy("vision", weight=2.0, max_cores=4)
NIGHT = TenantPolicy("night", priority=-5, max_priority=-5)


def tenants(*more: Tenant, strangers: TenantPolicy | None = None, own_uid: int = 0) -> Tenants:
    first = Tenant(VISION, (Match(uid=1000), Match(gid=50)))
    return Tenants((first, Tenant(NIGHT, (Match(gid=60),)), *more), strangers, own_uid=own_uid)


def test_the_first_tenant_in_the_file_that_matches_is_it() -> None:
    here = tenants()
    assert here.policy_for(Principal(1000, 60)) == VISION
    assert here.policy_for(Principal(7, 60)) == NIGHT
    assert here.policy_for(Principal(7, 60, groups=frozenset({50}))) == VISION


@pytest.mark.parametrize(
    "who", [Principal(7, 7), Principal(1000, 7, DOCKER), Principal(subject="CN=a")]
)
def test_strangers_are_refused_by_name_where_the_file_says_so(who: Principal) -> None:
    with pytest.raises(NotAllowed) as caught:
        tenants().policy_for(who)
    assert caught.value.tenant == str(who)
    assert str(caught.value).endswith(
        "may not use this broker: no tenant of its tenants file matches"
    )


def test_strangers_are_tenants_of_their_own_with_the_defaults_where_the_file_says_so() -> None:
    here = tenants(strangers=TenantPolicy("", max_cores=1))
    assert here.policy_for(Principal(7, 7)) == TenantPolicy("uid:7", max_cores=1)
    assert here.policy_for(Principal(8, 7)).name == "uid:8"
    assert here.policy_for(Principal(subject="CN=a")).name == "subject:CN=a"


@pytest.mark.parametrize("uid", [0, 900])
def test_root_and_the_brokers_user_administer_whatever_the_file_says(uid: int) -> None:
    named = Tenant(TenantPolicy("system", max_cores=1), (Match(uid=uid),))
    policy = tenants(named, own_uid=900).policy_for(Principal(uid, uid))
    assert policy == TenantPolicy("system", max_cores=1, admin=True)
    assert tenants(own_uid=900).policy_for(Principal(uid, uid)) == TenantPolicy(
        f"uid:{uid}", max_priority=MOST_PRIORITY, may_preempt=True, admin=True
    )


@pytest.mark.parametrize("container", [DOCKER, UNKNOWN, Container("rootless-podman", "ab" * 32)])
def test_root_in_a_container_is_nobody_special(container: Container) -> None:
    who = Principal(0, 0, container)
    assert not Tenants().policy_for(who).admin
    with pytest.raises(NotAllowed):
        tenants().policy_for(who)


def test_a_tenant_may_be_made_an_administrator() -> None:
    operators = Tenant(TenantPolicy("operators", admin=True), (Match(gid=70),))
    assert tenants(operators).policy_for(Principal(7, 70)).admin
    assert not tenants(operators).policy_for(Principal(7, 60)).admin


def test_without_a_file_each_user_is_a_tenant_that_may_use_everything() -> None:
    policy = Tenants().policy_for(Principal(7, 7))
    assert policy == TenantPolicy("uid:7")
    assert (policy.cards, policy.max_cores, policy.acquires_per_second) == (None, None, None)
    assert (policy.admin, policy.may_preempt, policy.max_priority) == (False, False, 0)


def test_a_token_is_its_tenant_as_long_as_the_file_says_so() -> None:
    (token, digest), (other, _) = new_token(), new_token()
    remote = TenantPolicy("remote")
    here = tenants(Tenant(remote, tokens=(digest,)), strangers=TenantPolicy(""))
    assert here.token_name(token) == "remote"
    assert here.token_name(other) is None
    assert here.token_name(digest) is None
    assert here.policy_for(Principal(token="remote")) == remote
    with pytest.raises(NotAllowed, match="token:remote may not"):
        tenants(strangers=TenantPolicy("")).policy_for(Principal(token="remote"))
    with pytest.raises(NotAllowed, match="token:vision may not"):  # has no token any more
        here.policy_for(Principal(token="vision"))


def test_a_remote_client_never_has_a_local_users_policy() -> None:
    assert (
        tenants(strangers=TenantPolicy("")).policy_for(Principal(subject="CN=root")).admin is False
    )
    assert Tenants(own_uid=0).policy_for(Principal(subject="CN=root")).admin is False
