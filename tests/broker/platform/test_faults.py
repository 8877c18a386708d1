from furiosa.broker.platform import Faults
from furiosa.common.faults import Dead, DmaError, FaultView, Hot, Hung
from furiosa.common.names import DeviceFile

CARD, PE0, PE1, FUSED, OTHER = map(
    DeviceFile.parse, ("npu0", "npu0pe0", "npu0pe1", "npu0pe0-1", "npu1")
)


def test_there_is_one_of_a_kind_on_a_file() -> None:
    faults = Faults().with_(FaultView(CARD, Hot(98))).with_(FaultView(OTHER, Hot()))
    faults = faults.with_(FaultView(CARD, Dead())).with_(FaultView(CARD, Hot(97)))
    assert faults.standing == (
        FaultView(CARD, Dead()),
        FaultView(CARD, Hot(97)),
        FaultView(OTHER, Hot()),
    )
    assert [faults.celsius(npu) for npu in (0, 1, 2)] == [97, 99, None]
    assert [faults.is_alive(npu) for npu in (0, 1)] == [False, True]


def test_a_fault_concerns_every_file_with_one_of_its_cores() -> None:
    view = FaultView(PE1, Hung())
    faults = Faults((view,))
    found = {file: list(faults.on(file)) for file in (CARD, PE0, PE1, FUSED, OTHER)}
    assert found == {CARD: [view], PE0: [], PE1: [view], FUSED: [view], OTHER: []}


def test_a_card_is_cleared_without_the_others() -> None:
    mine, others = FaultView(PE0, DmaError(2, 3)), FaultView(OTHER, Hung())
    faults = Faults((mine, others))
    assert faults.of_card(0) == (mine,)
    assert faults.of_card(None) == (mine, others)
    assert faults.without(*faults.of_card(0)) == Faults((others,))
