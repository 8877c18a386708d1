"""A web server of several worker processes, each with a runner of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from support import digits
from support.daemon import Daemon
from support.waiting import block_until

APP = """
import os
import numpy
from furiosa.runtime import create_runner

async def app(scope, receive, send):
    global runner
    if scope["type"] == "lifespan":
        await receive()
        runner = await create_runner(os.environ["ENF"], device="warboy(1)*1")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        assert await runner.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    (logits,) = await runner.run(numpy.zeros((1, 1, 28, 28), numpy.float32))
    headers = [(b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d %d" % (os.getpid(), logits.argmax())})
"""


def test_each_worker_process_has_a_core_until_the_server_ends(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(APP)
    enf = tmp_path / "digits.enf"
    enf.write_bytes(digits.program())
    socket = tmp_path / "s"
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "service:app", "--workers", "2", "--uds", str(socket)],
        cwd=tmp_path,
        env={**daemon.environ, "ENF": str(enf), "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        block_until(lambda: daemon.log.count("lease.granted") == 2 or server.poll() is not None)
        transport = httpx.HTTPTransport(uds=str(socket), retries=10)
        answers: dict[str, str] = {}
        with httpx.Client(transport=transport, base_url="http://service") as http:
            while len(answers) < 2:
                pid, answer = http.get("/").text.split()
                answers[pid] = answer
        assert len(set(answers.values())) == 1
        shown = daemon.furiosactl("ps").stdout
        assert all(f"| {pid} " in shown for pid in answers)
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
    assert "Traceback" not in said, said
    assert "0 (available), 1 (available)" in daemon.furiosactl("list").stdout
