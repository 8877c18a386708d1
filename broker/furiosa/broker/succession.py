"""One broker process in the place of another, while the clients stay connected.

What is handed over: the listeners, every session with its connection, its kernel identity and what is
under way on it. What is not: workers and their queues, the data plane and remote sessions, which end and
are told. Leases stand in the journal.
"""

import itertools
import logging
import os
import socket
from collections.abc import Iterable

from furiosa.broker.handover import Handover, collect
from furiosa.broker.log import event
from furiosa.broker.owners import ProcessMark, restored
from furiosa.broker.rpc.handoff import HandoffServer
from furiosa.broker.rpc.left import Left, Parcel, Pending
from furiosa.broker.saved import BrokerState, SavedCall, SavedFrame, SavedSession
from furiosa.broker.sessions import Session

log = logging.getLogger(__name__)


def pack(handoff: HandoffServer, others: dict[str, int]) -> Handover:
    """Everything that a suspended server has, and `others`: listeners, the lock. The server is done.

    Raises: ValueError.
    """
    descriptors = dict(others)
    saved: list[SavedSession] = []
    for session, owner, left, armed in handoff.give_away():
        name = f"s{session.id}"
        descriptors.update({name: left.socket.fileno(), f"{name}.pidfd": owner.pidfd})
        memory, thread_id = ("", 0)
        if armed is not None:
            memory, thread_id = f"{name}.memory", armed[1]
            descriptors[memory] = armed[0]
        frames = _Frames(name, descriptors)
        saved.append(
            SavedSession(
                id=session.id,
                token=session.token,
                client=session.client,
                pid=owner.pid,
                uid=owner.uid,
                gid=owner.gid,
                start_time_ticks=owner.start_time_ticks,
                key=owner.key,
                socket=name,
                pidfd=f"{name}.pidfd",
                memory=memory,
                thread_id=thread_id,
                pending=tuple(
                    SavedCall(each.since, frames.add(each.frame, each.descriptors))
                    for each in left.pending
                ),
                received=frames.add(*left.received),
                unsent=tuple(frames.add(*parcel) for parcel in left.unsent),
            )
        )
    return collect(descriptors, BrokerState(tuple(saved), handoff.sessions.next_id))


def unpack(left: Handover, state: BrokerState, handoff: HandoffServer) -> None:
    """Hand what a broker before left to the server that goes on with it."""
    handoff.sessions.next_id = state.next_session
    for saved in state.sessions:
        mark = ProcessMark(saved.pid, saved.uid, saved.gid, saved.start_time_ticks, saved.key)
        owner = restored(mark, _taken(left, saved.pidfd))
        if owner is None:
            event(
                log, "session.not_restored", session=saved.id, pid=saved.pid, cause="it has ended"
            )
            for name in saved.descriptors:
                if name != saved.pidfd:
                    os.close(_taken(left, name))
            continue
        armed = None
        if saved.memory:
            armed = (_taken(left, saved.memory), saved.thread_id)
        connection = Left(
            socket.socket(fileno=_taken(left, saved.socket)),
            [Pending(call.since, *_parcel(left, call.frame)) for call in saved.pending],
            _parcel(left, saved.received),
            [_parcel(left, frame) for frame in saved.unsent],
        )
        session = Session(saved.id, owner, saved.client, lambda _: None, saved.token)
        handoff.restore(session, owner, connection, armed)


class _Frames:
    """Names the descriptors of a session's frames, and collects them in `descriptors`."""

    def __init__(self, session: str, descriptors: dict[str, int]) -> None:
        self._session = session
        self._descriptors = descriptors
        self._numbers = itertools.count()

    def add(self, data: bytes, descriptors: Iterable[int]) -> SavedFrame:
        named = {f"{self._session}.{next(self._numbers)}": fd for fd in descriptors}
        self._descriptors.update(named)
        return SavedFrame(data, tuple(named))


def _parcel(left: Handover, frame: SavedFrame) -> Parcel:
    return frame.data, [_taken(left, name) for name in frame.descriptors]


def _taken(left: Handover, name: str) -> int:
    descriptor = left.take(name)
    assert descriptor is not None, "Handover.usable gives whole sessions only"
    return descriptor
