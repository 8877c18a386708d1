"""The examples that are one script each, started as their docstrings say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from support import digits
from support.daemon import Daemon

Run = Callable[..., str]


def test_quickstart_is_as_good_on_the_npu_as_on_the_cpu(run: Run) -> None:
    printed = run("quickstart.py")
    shares = re.findall(r"accuracy, .* (\d+\.\d+)% of 1000", printed)
    assert len(shares) == 3
    assert all(float(share) >= 98 for share in shares)
    assert printed.rstrip().splitlines()[-2].count("available") == 2


def test_the_blocking_quick_start_classifies_an_image(run: Run) -> None:
    printed = run("quickstart_sync.py")
    assert 'TensorDesc(name="image", shape=(1, 1, 28, 28), dtype=FLOAT32' in printed
    label = digits.held_out_labels()[0]
    assert printed.endswith(f"The NPU says {label}, the label says {label}.\n")


def test_the_asynchronous_quick_start_classifies_ten_images(run: Run) -> None:
    npu, labels = (line.split()[3:] for line in run("quickstart_async.py").splitlines()[-2:])
    assert npu == labels == [str(label) for label in digits.held_out_labels()[:10]]


def test_batch_scoring_scores_all_images(run: Run) -> None:
    found = re.search(r"(\d+) of 1000 right; \d+ images/s", run("batch_scoring.py"))
    assert found is not None
    assert int(found[1]) >= 980


def test_profiling_prints_tables_and_writes_a_trace(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    printed = run("profiling.py", str(trace))
    assert "LowLevelConv2d" in printed
    assert re.search(r"Inference counts +: 10\n", printed)
    events = json.loads(trace.read_text())
    assert [event["name"] for event in events].count("Inference") == 10
    assert "ten images" in {event["name"] for event in events}


def test_two_tenants_share_a_card_and_a_third_is_told_who_has_it(run: Run, daemon: Daemon) -> None:
    printed = run("two_tenants.py")
    rows = re.findall(r"^\| (npu0pe\d) \| (\d+) +\| (.*?) +\|$", printed, re.MULTILINE)
    assert [core for core, _, _ in rows] == ["npu0pe0", "npu0pe1"]
    assert [f"two_tenants.py {core} " in command for core, _, command in rows] == [True, True]
    assert rows[0][1] != rows[1][1]
    (refusal,) = re.findall(r"^DeviceBusy: .*", printed, re.MULTILINE)
    assert "npu0pe0" in refusal
    assert rows[0][1] in refusal  # the holder's pid
    right = re.findall(r"^npu0pe\d: (\d+) of 1000 right", printed, re.MULTILINE)
    assert [int(count) >= 980 for count in right] == [True, True]
    assert printed.endswith("npu0pe0 is free again\n")
