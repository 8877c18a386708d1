"""A child that inherits its parent's connection is not the owner: the session ends with the parent."""

import subprocess
import sys

import pytest

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from support.daemon import Daemon

# The child keeps the connection of its dead parent and says what it is told to on it.
CHILD = """
import os, socket, sys
from furiosa.common.channel import Decoder, encode, receive
from furiosa.proto.broker.v1 import handoff_pb2 as pb, leases_pb2

def say(frame):
    sock.sendall(encode(frame.SerializeToString()))

def heard():
    # a busy broker may see the connection only when its owner is dead, and then says why it refuses it
    decoder = Decoder(1 << 20)
    try:
        decoder.feed(*receive(sock))
    except ConnectionError:
        return False
    frames = [pb.Frame.FromString(message.payload) for message in decoder.messages()]
    return any(frame.WhichOneof("body") != "failure" for frame in frames)

HELLO = pb.Frame(hello=pb.Hello(protocol_version=1, client="orphan"))
acquire = leases_pb2.AcquireRequest(device_spec="npu:0:0").SerializeToString()
ACQUIRE = pb.Frame(id=1, call=pb.Call(method="Leases/Acquire", request=acquire))

sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
if sys.argv[2] == "after":
    say(HELLO)
    assert heard()
parent = os.pidfd_open(os.getpid())
if os.fork() == 0:
    import select
    select.select([parent], [], [])
    if sys.argv[2] == "before":
        select.select([sock], [], [], 1)  # a broker may hang up; this one must not welcome
    try:
        say(HELLO if sys.argv[2] == "before" else ACQUIRE)
        said = heard()
    except ConnectionError:
        said = False
    print("answered" if said else "hung up", flush=True)
    os._exit(0)
os._exit(0)
"""


@pytest.mark.parametrize("parent_dies", ["before", "after"])
def test_an_orphan_gets_nothing_on_its_parent_s_connection(
    daemon: Daemon, parent_dies: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(daemon.handoff), parent_dies],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "hung up\n", done.stderr
    with Connection.open(client="test") as connection:
        assert connection.acquire(DeviceSpec.parse("npu:0:0-1"))


def test_a_call_on_its_way_when_the_owner_dies_leaves_no_lease(daemon: Daemon) -> None:
    """Its death is seen first or its last call is; either way the core is free again."""
    code = CHILD.split("sock = ")[0] + (
        "sock = socket.socket(socket.AF_UNIX)\n"
        "sock.connect(sys.argv[1])\n"
        "say(HELLO)\n"
        "assert heard()\n"
        "say(ACQUIRE)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    for _ in range(10):
        command = [sys.executable, "-W", "ignore", "-c", code, str(daemon.handoff)]
        subprocess.run(command, timeout=60, check=False)
    with Connection.open(client="test") as connection:
        assert connection.acquire(DeviceSpec.parse("npu:0:0-1"), wait_limit=30)
