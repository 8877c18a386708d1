"""Published keys, and what may be in them."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from furiosa.common.names import DeviceFile
from furiosa.deviceplugin import config_file
from furiosa.deviceplugin.command_line import parse
from furiosa.deviceplugin.settings import (
    BadSettings,
    Disabled,
    Naming,
    Policy,
    Registration,
    Settings,
    from_mapping,
    needs_restart,
    taken_over,
)
from support.waiting import until


def test_the_defaults_are_the_published_ones() -> None:
    assert from_mapping({}) == Settings()
    made = Settings()
    assert (made.policy, made.interval, made.disabled) == (Policy.WHOLE, 10.0, ())
    assert str(made.plugin_dir) == "/var/lib/kubelet/device-plugins"
    assert (made.socket_name, made.resource_name) == ("furiosa-npu", "beta.furiosa.ai/npu")


def test_the_published_file_is_read() -> None:
    found = from_mapping(
        {
            "defaultPe": "Single",
            "disabledDevices": [{"devName": "npu0", "nodeName": "a"}, {"devName": "npu1pe0"}],
            "interval": 5,
            "pluginDir": "/x",
            "socketName": "s",
            "resourceName": "alpha.furiosa.ai/npu",
        }
    )
    assert found == Settings(
        policy=Policy.SINGLE,
        disabled=(Disabled("npu0", "a"), Disabled("npu1pe0")),
        interval=5.0,
        plugin_dir=Path("/x"),
        socket_name="s",
        resource_name="alpha.furiosa.ai/npu",
    )


def test_cards_can_have_policies_of_their_own() -> None:
    found = from_mapping({"cards": {"npu1": "single"}, "resourceNames": "cores"})
    assert (found.policy_of(0), found.policy_of(1)) == (Policy.WHOLE, Policy.SINGLE)
    assert found.naming is Naming.CORES


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"defaultpe": "Fusion"}, "there is no key 'defaultpe'; there are cards, defaultPe"),
        ({"defaultPe": "Fused"}, "defaultPe is 'Fused', expected Fusion or Single"),
        ({"defaultPe": 1}, "defaultPe is 1, expected Fusion or Single"),
        ({"defaultPe": "Single", "resourcePolicy": "pair"}, "say the same"),
        ({"resourcePolicy": "both"}, "expected whole or single or pair or dynamic"),
        ({"resourcePolicy": "dynamic"}, 'resourceNames must be "cores"'),
        ({"cards": {"npu0": "single"}}, "different policies .single, whole.: resourceNames must"),
        ({"cards": {"npu0pe0": "single"}}, "expected a card such as npu0"),
        ({"cards": ["npu0"]}, "expected a mapping such as"),
        ({"cards": {"npu0": "half"}}, "cards.npu0 is 'half'"),
        ({"interval": 0}, "interval is 0, expected seconds, 1 to 3600"),
        ({"interval": True}, "interval is True"),
        ({"interval": "10"}, "interval is '10'"),
        ({"disabledDevices": "npu0"}, "expected a list"),
        ({"disabledDevices": [{"devname": "npu0"}]}, r"disabledDevices\[0\] is"),
        ({"disabledDevices": [{"devName": "gpu0"}]}, "'gpu0', expected a card or device file"),
        ({"disabledDevices": [{"devName": 0}]}, "is 0, expected a card or device file"),
        ({"disabledDevices": [{"devName": "npu0", "nodeName": 1}]}, "expected a node's name"),
        ({"pluginDir": "relative"}, "expected an absolute path"),
        ({"socketName": "a/b"}, "expected a file name"),
        ({"resourceName": "npu"}, "expected a resource name"),
        ({"resourceName": "a b/npu"}, "expected a resource name"),
        ({"registration": "both"}, "expected register or found"),
    ],
)
def test_what_is_wrong_is_named(values: Mapping[str, Any], text: str) -> None:
    with pytest.raises(BadSettings, match=text):
        from_mapping(values)


def test_a_disabled_device_is_not_handed_out_in_any_form_on_its_node() -> None:
    one = Disabled("npu0pe1", "a")
    names = ("npu0pe0", "npu0pe1", "npu0pe0-1", "npu1pe1")
    covered = [name for name in names if one.covers(DeviceFile.parse(name), "a")]
    assert covered == ["npu0pe1", "npu0pe0-1"]
    assert not one.covers(DeviceFile.parse("npu0pe1"), "b")
    assert Disabled("npu0pe1").covers(DeviceFile.parse("npu0pe1"), "b")


def test_arguments_have_the_published_names() -> None:
    line = parse(
        [
            *("--default-pe", "Single", "--interval", "3", "--disabled-devices", "npu0,npu1pe0"),
            *("--plugin-dir", "/x", "--socket-name", "s", "--resource-name", "a.b/c"),
        ],
        {"NODE_NAME": "n"},
    )
    assert from_mapping(line.values) == Settings(
        policy=Policy.SINGLE,
        interval=3.0,
        disabled=(Disabled("npu0"), Disabled("npu1pe0")),
        plugin_dir=Path("/x"),
        socket_name="s",
        resource_name="a.b/c",
    )
    assert (line.file, line.node) == (None, "n")


def test_a_file_excludes_other_arguments() -> None:
    with pytest.raises(BadSettings, match="--config-file and --interval"):
        parse(["--config-file", "/c", "--interval", "3"])
    assert parse(["--config-file", "/c", "--log-level", "debug"]).file == Path("/c")


def test_an_argument_that_makes_no_sense_is_named() -> None:
    with pytest.raises(BadSettings, match="interval is 'soon'"):
        parse(["--interval", "soon"])


def test_only_some_keys_are_taken_over_while_it_runs() -> None:
    before = Settings()
    after = Settings(policy=Policy.SINGLE, interval=5.0, socket_name="s", pod_resources=Path("/p"))
    assert needs_restart(before, after) == ("socketName", "podResourcesSocket")
    assert taken_over(before, after) == Settings(policy=Policy.SINGLE, interval=5.0)
    assert needs_restart(before, Settings(registration=Registration.FOUND)) == ("registration",)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "LOOK_SECONDS", 0.01)


async def test_a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing(
    tmp_path: Path, look: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As a ConfigMap changes: a link is replaced by another."""
    caplog.set_level("INFO")
    file = tmp_path / "config.yaml"

    def write(text: str) -> None:
        (tmp_path / "fresh").write_text(text)
        (tmp_path / "fresh").replace(file)

    write("{}")
    changes = config_file.changes(file, config_file.read(file))
    for seconds, bad in ((5, "interval: often"), (6, "no yaml: ["), (7, "[]")):
        write(bad)
        task = asyncio.ensure_future(anext(changes))
        await until(lambda: bool(caplog.records) and caplog.records[-1].levelname == "ERROR")
        assert not task.done()
        write(f"interval: {seconds}\nsocketName: s")
        assert await task == Settings(interval=seconds)
    await changes.aclose()
    assert "the settings stay as they are" in caplog.text
    assert "to change socketName takes a restart" in caplog.text
    assert "settings changed: policy=whole interval=7 disabled=none" in caplog.text


async def test_a_file_that_is_right_only_after_a_restart_changes_nothing_until_then(
    tmp_path: Path, look: None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{}")
    changes = config_file.changes(file, config_file.read(file))
    file.write_text("resourcePolicy: dynamic\nresourceNames: cores\ninterval: 5")
    assert config_file.read(file).policy is Policy.DYNAMIC
    task = asyncio.ensure_future(anext(changes))
    await until(lambda: task.done() or bool(caplog.records))
    assert not task.done()
    assert "to change resourceNames takes a restart; until then resourcePolicy" in caplog.text
    file.write_text("interval: 7")
    assert await task == Settings(interval=7)
    await changes.aclose()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("- a", "is a list, expected keys and values"),
        ("a: [", "is no YAML"),
        ("interval: 2024-02-30", "is no YAML: day is out of range"),
        ("interval: !!float ''", "is no YAML"),
        pytest.param("[" * 3000, "is no YAML: nested too deep", id="deep"),
        ("b: 1", "no key 'b'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(BadSettings, match=match) as caught:
        config_file.read(file)
    assert str(file) in str(caught.value)
    file.unlink()
    with pytest.raises(BadSettings, match="No such file"):
        config_file.read(file)
