"""Which files a request gets."""

import pytest

from furiosa.broker.lease import placement
from furiosa.broker.lease.cards import Card, Cards
from furiosa.broker.lease.placement import Ordered, Policy, Reserved
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from support.lease_tables import card

PACK, SPREAD = Policy.PACK, Policy.SPREAD


def place(
    cards: Cards, spec: str, policy: Policy = PACK, *, allowed: int | None = None
) -> list[str] | None:
    places = cards.everywhere if allowed is None else allowed
    files = placement.place(
        cards, Ordered.of(DeviceSpec.parse(spec)), places, Reserved(cards), policy
    )
    return None if files is None else list(map(str, files))


def used(*names: str, cards: tuple[Card, ...] | None = None) -> Cards:
    """Two cards of two cores if not said otherwise, with some files taken."""
    made = Cards(cards or (card(0), card(1)))
    for number, name in enumerate(names):
        made.take(DeviceFile.parse(name), f"l{number}")
    return made


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ("warboy(1)*4", ["npu0pe0", "npu0pe1", "npu1pe0", "npu1pe1"]),
        ("warboy(2)*2", ["npu0pe0-1", "npu1pe0-1"]),
        ("warboy(1)*1,npu:0:0", ["npu0pe0", "npu0pe1"]),
        ("warboy(2)*1,npu:0:0", ["npu0pe0", "npu1pe0-1"]),
        ("warboy(1)*1,npu:0:0-1", ["npu0pe0-1", "npu1pe0"]),
        ("npu:0:0,npu:0:0", None),
        ("warboy(1)*5", None),
        ("warboy(2)*3", None),
        ("npu:2:0", None),
    ],
)
def test_the_published_examples(spec: str, files: list[str] | None) -> None:
    """Source: devices reference 5.3, two idle cards."""
    assert place(used(), spec, PACK) == files


def test_choice_is_greedy_and_may_fail_where_another_choice_would_do() -> None:
    """The single core is chosen first and breaks the card that the fused one needs.

    Source: devices reference 5.3 (implicit specifications are greedy).
    """
    assert place(used(cards=(card(0),)), "warboy(1)*1,warboy(2)*1") is None
    cards = used(cards=(card(0, 4),))
    cards.take(DeviceFile.parse("npu0pe2"), "l")
    assert place(cards, "warboy(1)*1,warboy(2)*1") is None, "npu0pe3 and npu0pe0-1 would do"
    assert place(cards, "warboy(2)*1,warboy(1)*1") == ["npu0pe0-1", "npu0pe3"]


def test_pack_does_not_break_a_whole_card_while_a_used_one_will_do() -> None:
    assert place(used("npu1pe1"), "warboy*1") == ["npu1pe0"]
    assert place(used("npu1pe1"), "warboy*2") == ["npu0pe0", "npu1pe0"]


def test_spread_takes_the_emptiest_card() -> None:
    assert place(used("npu0pe1"), "warboy*1", SPREAD) == ["npu1pe0"]
    assert place(used(), "warboy*2", SPREAD) == ["npu0pe0", "npu1pe0"]
    assert place(used(), "warboy*3", SPREAD) == ["npu0pe0", "npu0pe1", "npu1pe0"]


@pytest.mark.parametrize(
    ("policy", "single", "fused"),
    [(PACK, ["npu1pe2"], ["npu1pe2-3"]), (SPREAD, ["npu0pe0"], ["npu0pe0-1"])],
)
def test_bigger_cards_are_packed_and_spread_by_the_cores_they_have_left(
    policy: Policy, single: list[str], fused: list[str]
) -> None:
    cards = used("npu1pe0-1", "npu2pe0", cards=(card(0, 8), card(1, 4), card(2, 8)))
    assert place(cards, "warboy*1", policy) == single
    assert place(cards, "warboy(2)*1", policy) == fused


def test_the_narrowest_fused_file_is_enough() -> None:
    assert place(used(cards=(card(0, 8),)), "warboy(4)*3") == [
        "npu0pe0-1",
        "npu0pe2-3",
        "npu0pe4-5",
    ]


def test_a_fused_file_needs_all_of_its_cores() -> None:
    cards = used("npu0pe1", "npu0pe2", cards=(card(0, 4),))
    assert place(cards, "warboy(2)*1") is None
    assert place(cards, "warboy*2") == ["npu0pe0", "npu0pe3"]


@pytest.mark.parametrize("name", ["npu:0", "npu:0:1", "npu:0:0-1", "warboy*1", "warboy(2)*1"])
def test_nothing_of_a_card_is_left_when_the_whole_card_is_taken(name: str) -> None:
    assert place(used("npu0", cards=(card(0),)), name) is None


@pytest.mark.parametrize("held", ["npu0pe0", "npu0pe1", "npu0pe0-1", "npu0"])
def test_the_whole_card_is_not_given_while_anything_on_it_is_taken(held: str) -> None:
    assert place(used(held), "npu:0") is None
    assert place(used(held), "npu:1") == ["npu1"]


def test_a_counted_request_never_gets_the_whole_card_file() -> None:
    whole = Card(0, 2, (DeviceFile.parse("npu0"),))
    assert place(used(cards=(whole,)), "warboy(2)*1") is None
    assert place(used(cards=(whole,)), "warboy*1") is None


@pytest.mark.parametrize("spec", ["warboy*4", "npu:0:0", "npu:0", "warboy(2)*2"])
def test_foreign_cores_are_never_chosen(spec: str) -> None:
    cards = used()
    cards.set_foreign(cards.by_npu[0], 0b01)
    assert place(cards, spec) is None
    assert place(cards, "warboy*3") == ["npu0pe1", "npu1pe0", "npu1pe1"]


@pytest.mark.parametrize("spec", ["warboy*3", "npu:0:0", "npu:0", "npu:1:0,npu:0:0"])
def test_closed_cards_are_never_chosen_until_every_reason_is_gone(spec: str) -> None:
    cards = used()
    before = place(cards, spec)
    for role in ("cordon", "health"):
        cards.close(cards.by_npu[0], role, "why")
    assert place(cards, spec) is None
    cards.close(cards.by_npu[0], "cordon", None)
    assert place(cards, spec) is None
    cards.close(cards.by_npu[0], "health", None)
    assert place(cards, spec) == before is not None


def test_only_allowed_cards_are_chosen() -> None:
    cards = used(cards=(card(0), card(3), card(5)))
    only_three = cards.places(frozenset({3, 77}))
    assert place(cards, "warboy*2", allowed=only_three) == ["npu3pe0", "npu3pe1"]
    assert place(cards, "warboy*3", allowed=only_three) is None
    assert place(cards, "npu:5:0", allowed=only_three) is None
    assert place(cards, "npu:3:0,npu:5:0", allowed=only_three) is None


@pytest.mark.parametrize("policy", Policy)
def test_reserved_cores_are_left_alone_and_the_reservation_is_not_changed(policy: Policy) -> None:
    cards = used()
    reserved = Reserved(cards)
    reserved.add(cards.by_npu[0], 0b01)
    spec = Ordered.of(DeviceSpec.parse("warboy*3"))
    files = placement.place(cards, spec, cards.everywhere, reserved, policy)
    assert files is not None
    assert set(map(str, files)) == {"npu0pe1", "npu1pe0", "npu1pe1"}
    assert reserved.levels == [0, 0b01, 0b10]
    assert reserved.of(cards.by_npu[1]) == 0


def test_several_files_of_a_card_may_leave_together() -> None:
    cards = used(cards=(card(0, 4), card(1)))
    reserved = Reserved(cards)
    files = [DeviceFile.parse(name) for name in ("npu0pe0", "npu0pe2", "npu1pe1")]
    reserved.leave(files)
    for file in files:
        cards.take(file, "l")
    assert reserved.levels == cards.with_free == [0, 0b10, 0b01, 0, 0]


def hold(cards: Cards, spec: str, reserved: Reserved) -> bool:
    return placement.hold(cards, Ordered.of(DeviceSpec.parse(spec)), cards.everywhere, reserved)


def test_holding_takes_a_card_that_has_something_free_already() -> None:
    cards = used("npu0", "npu1pe1", cards=(card(0), card(1), card(2, 4)))
    cards.take(DeviceFile.parse("npu2"), "l")
    reserved = Reserved(cards)
    assert hold(cards, "warboy(2)*1", reserved)
    assert [reserved.of(slot) for slot in cards.slots] == [0, 0b11, 0]


def test_holding_says_whether_a_free_core_was_held() -> None:
    cards = used("npu0", "npu1pe0")
    reserved = Reserved(cards)
    assert not hold(cards, "npu:0:0-1", reserved), "nothing of it is free"
    assert not hold(cards, "npu:7", reserved), "no such card"
    assert hold(cards, "warboy(2)*1", reserved)
    assert reserved.places == 0
    assert not hold(cards, "warboy*1", reserved), "it is held already"


def test_nothing_is_held_on_a_closed_card() -> None:
    cards = used()
    cards.close(cards.by_npu[0], "cordon", "why")
    reserved = Reserved(cards)
    assert not hold(cards, "npu:0", reserved)
    assert reserved.of(cards.by_npu[0]) == 0
