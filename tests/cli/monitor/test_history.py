"""What is kept of former samples."""

from furiosa.cli.monitor.history import SAMPLES, History
from support.shown_samples import a_card, a_sample, a_use


def test_use_is_of_cores_and_cards() -> None:
    history = History()
    history.record(a_sample(a_card(0), uses=(a_use("npu0pe0", 0.5), a_use("npu1pe1", 1.0))))
    history.record(a_sample(a_card(0), uses=(a_use("npu0pe0-1", 1.0),)))
    history.record(a_sample(a_card(0)))
    assert history.core_use(0, 0) == (0.5, 1.0, 0.0)
    assert history.core_use(0, 1) == (0.0, 1.0, 0.0)
    assert history.card_use(0) == (0.25, 1.0, 0.0)


def test_a_temperature_that_a_card_did_not_give_leaves_a_gap() -> None:
    history = History()
    for celsius in (54_000, None, 60_500):
        history.record(a_sample(a_card(3, temperature_millicelsius=celsius)))
    assert history.celsius(3) == (54.0, None, 60.5)


def test_a_card_that_went_takes_its_history_with_it() -> None:
    history = History()
    history.record(a_sample(a_card(0), a_card(1)))
    history.record(a_sample(a_card(0)))
    history.record(a_sample(a_card(0), a_card(1)))
    assert (len(history.celsius(0)), len(history.celsius(1)), len(history.core_use(1, 0))) == (
        3,
        1,
        1,
    )


def test_it_is_bounded() -> None:
    history = History()
    for number in range(SAMPLES + 5):
        history.record(a_sample(a_card(0, temperature_millicelsius=number * 1000)))
    assert len(history.celsius(0)) == SAMPLES
    assert history.celsius(0)[-1] == SAMPLES + 4
