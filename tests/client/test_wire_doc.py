"""The example of docs/wire.md does what the page says."""

import re
import subprocess
import sys
from pathlib import Path

from furiosa.proto.broker.v1 import devices_pb2, types_pb2
from support.fake_broker import fake_broker

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"


def test_example_attaches_and_lists_devices() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    answer = devices_pb2.ListDevicesResponse(devices=[types_pb2.Device(index=3)])
    with fake_broker(Devices_List=lambda peer, request, fds: peer.reply(answer)) as broker:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"FURIOSA_BROKER": broker.path},
            capture_output=True,
            text=True,
            check=True,
        )
    assert re.fullmatch(r"\d+ bytes of devices\n", done.stdout)
    assert broker.hellos == ["by hand"]
