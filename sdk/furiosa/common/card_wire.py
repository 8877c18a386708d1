"""What a card's files say, to protobuf messages and back. As `wire`, of which it is a part."""

from collections.abc import Mapping
from typing import Final

from furiosa.common.errors import BadArgument
from furiosa.common.views import CardPart, CardTexts
from furiosa.proto.broker.v1 import devices_pb2 as pb

_PARTS: Final[Mapping[CardPart, "pb.CardPart.ValueType"]] = {
    CardPart.CARD: pb.CARD_PART_CARD,
    CardPart.SENSORS: pb.CARD_PART_SENSORS,
    CardPart.COUNTERS: pb.CARD_PART_COUNTERS,
}


def inspection_to_wire(npu: int, part: CardPart) -> pb.InspectRequest:
    return pb.InspectRequest(npu=npu, part=_PARTS[part])


def inspection_from_wire(message: pb.InspectRequest) -> tuple[int, CardPart]:
    """Raises: BadArgument for a part that this version does not know."""
    for part, number in _PARTS.items():
        if number == message.part:
            return message.npu, part
    raise BadArgument("part", str(message.part), "1..3, see CardPart")


def texts_to_wire(texts: CardTexts) -> pb.InspectResponse:
    return pb.InspectResponse(at_ns=texts.at_ns, files=texts.files, failures=texts.failures)


def texts_from_wire(message: pb.InspectResponse) -> CardTexts:
    return CardTexts(message.at_ns, dict(message.files), dict(message.failures))
