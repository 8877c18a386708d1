import hmac

import pytest

from furiosa.broker.tenants.tokens import digest_of, find, new_token


def test_each_token_is_new_and_its_digest_finds_its_tenant() -> None:
    made = [new_token() for _ in range(50)]
    assert len({token for token, _ in made}) == 50
    assert all(len(token) == len(digest) == 64 and token != digest for token, digest in made)
    tokens = {digest: f"tenant {number}" for number, (_, digest) in enumerate(made)}
    for number, (token, _) in enumerate(made):
        assert find(tokens, token) == f"tenant {number}"


def test_a_digest_is_the_one_that_sha256sum_prints() -> None:
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("presented", ["", "x", "ü", "\udcff", "a" * 100_000])
def test_whatever_is_presented_is_looked_up(presented: str) -> None:
    token, digest = new_token()
    assert find({digest: "a"}, presented) is None
    assert find({}, presented) is None
    assert find({digest_of(presented): "b"}, presented) == "b"
    assert find({digest: "a"}, token + presented) is (
        None if presented else find({digest: "a"}, token)
    )


def test_every_digest_is_compared_wherever_the_right_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare, compared = hmac.compare_digest, []

    def noting(known: str, digest: str) -> bool:
        compared.append(known)
        return compare(known, digest)

    token, digest = new_token()
    others = [new_token()[1] for _ in range(3)]
    monkeypatch.setattr(hmac, "compare_digest", noting)
    assert find(dict.fromkeys([digest, *others], "a"), token) == "a"
    assert compared == [digest, *others]
