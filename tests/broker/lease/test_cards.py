"""Cores as bits, and the index of cards by free cores."""

import random

from furiosa.broker.lease.cards import Cards
from furiosa.common.names import DeviceFile
from support.lease_tables import card


def file(name: str) -> DeviceFile:
    return DeviceFile.parse(name)


def test_a_file_is_its_cores() -> None:
    four = card(0, 4)
    assert [four.bits(file(name)) for name in ("npu0", "npu0pe2", "npu0pe2-3")] == [15, 4, 12]


def test_cards_are_in_index_order_however_they_are_given() -> None:
    cards = Cards([card(7), card(2), card(300)])
    assert [slot.card.npu for slot in cards.slots] == [2, 7, 300]
    assert [slot.card.npu for slot in cards.at(cards.places(frozenset({300, 2})))] == [2, 300]


def test_no_cards_is_a_node_too() -> None:
    cards = Cards()
    assert (cards.free_cores, cards.everywhere, cards.with_free) == (0, 0, [0])


def test_what_is_taken_comes_back_whole() -> None:
    cards = Cards([card(0), card(1, 4)])
    before = (cards.free_cores, list(cards.with_free))
    for name in ("npu0", "npu1pe2-3", "npu1pe0"):
        cards.take(file(name), "l")
    assert (cards.free_cores, cards.by_npu[1].free) == (1, 0b0010)
    for name in ("npu1pe0", "npu0", "npu1pe2-3"):
        cards.give_back(file(name))
    assert (cards.free_cores, list(cards.with_free)) == before


def test_a_core_that_is_taken_and_foreign_is_free_only_when_it_is_neither() -> None:
    cards = Cards([card(0)])
    slot = cards.by_npu[0]
    cards.take(file("npu0pe0"), "l")
    cards.set_foreign(slot, 0b01)
    cards.give_back(file("npu0pe0"))
    assert slot.free == 0b10
    cards.set_foreign(slot, 0)
    assert slot.free == 0b11


def test_a_card_that_has_gone_is_left_out() -> None:
    cards = Cards([card(0)])
    cards.take(file("npu9"), "l")
    cards.give_back(file("npu9"))
    assert cards.free_cores == 2


def test_the_index_agrees_with_a_count_whatever_happens() -> None:
    choose = random.Random(3)
    cards = Cards([card(0), card(1, 4), card(2, 8)])
    held: list[DeviceFile] = []
    for _ in range(3000):
        slot = choose.choice(cards.slots)
        wanted = choose.choice(slot.card.files)
        match choose.randrange(4):
            case 0 if not any(wanted.overlaps(other) for other in held):
                cards.take(wanted, "l")
                held.append(wanted)
            case 1 if held:
                cards.give_back(held.pop(choose.randrange(len(held))))
            case 2:
                cards.set_foreign(slot, choose.randrange(1 << slot.card.cores))
            case 3:
                cards.close(slot, choose.choice("ab"), choose.choice([None, "why"]))
        free = []
        for each in cards.slots:
            cores = set(range(each.card.cores))
            cores -= {
                c for c in cores if any(f.npu == each.card.npu and c in f.cores for f in held)
            }
            cores -= {c for c in cores if each.foreign >> c & 1}
            free.append(set() if each.closed else cores)
            assert each.free == sum(1 << core for core in free[-1])
        assert cards.free_cores == sum(map(len, free))
        for level, places in enumerate(cards.with_free):
            expected = [n for n, cores in enumerate(free) if len(cores) == level]
            assert [slot.place for slot in cards.at(places)] == expected


def test_a_card_that_is_the_same_goes_on_as_it_is_at_another_place() -> None:
    before = Cards([card(1), card(2), card(3, 4)])
    for name in ("npu1pe0", "npu2pe0", "npu3pe0"):
        before.take(file(name), "l")
    before.close(before.by_npu[2], "cordon", "why")
    after = Cards([card(0), card(1), card(2), card(3, 2)], before.by_npu)
    assert [after.by_npu[npu] is before.by_npu[npu] for npu in (1, 2, 3)] == [True, True, False]
    assert [(slot.place, slot.free) for slot in after.slots] == [(0, 3), (1, 2), (2, 0), (3, 3)]
    assert after.free_cores == 5
    assert after.with_free == [0b0100, 0b0010, 0b1001]
