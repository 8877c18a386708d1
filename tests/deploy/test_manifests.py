"""The manifests and the chart: valid, of one mind, and giving no pod more than it needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from furiosa.broker.settings import BrokerSettings
from furiosa.deviceplugin.settings import from_mapping
from support import charts
from support.charts import CHART, DEPLOY, NotRendered, Object, by_name, name_of, objects, pod_of

MANIFESTS = DEPLOY / "kubernetes"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
SINCE_1_34 = {"DeviceClass/npu.furiosa.ai"}
DRA: Mapping[str, Any] = {"devicePlugin": {"enabled": False}, "draDriver": {"enabled": True}}
CAPABILITIES = {
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "KILL",
    "SYS_PTRACE",
    "DAC_READ_SEARCH",
}

VALUES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "dra": DRA,
    "both": {"draDriver": {"enabled": True}},
    "emulated": {"emulate": 2},
    "nothing": {
        part: {"enabled": False}
        for part in ("broker", "devicePlugin", "featureDiscovery", "metricsExporter")
    },
    "own broker": {"broker": {"enabled": False}},
    "registry": {
        "image": {"repository": "registry.example/npu", "tag": "7", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "mine"}],
    },
    "placement": {
        "requireCards": False,
        "nodeSelector": {"pool": "npu"},
        "tolerations": [{"key": "npu", "operator": "Exists"}],
        "priorityClassName": "",
    },
    "settings": {
        "broker": {
            "arguments": ["--log-format=json"],
            "updateStrategy": "RollingUpdate",
            "metricsPort": 9465,
            "resources": {},
        },
        "devicePlugin": {"config": {"defaultPe": None, "resourcePolicy": "pair"}},
        "metricsExporter": {"port": 6255, "podLabels": False, "arguments": ["--log-level=debug"]},
        "featureDiscovery": {"arguments": ["--interval=60"]},
    },
    "other folders": {**DRA, "paths": {"kubelet": "/var/snap/kubelet", "cdi": "/etc/cdi"}},
}


def plain() -> list[Object]:
    """All manifests."""
    files = sorted(MANIFESTS.glob("*.yaml"))
    found = [
        each
        for path in files
        if path.name != "kustomization.yaml"
        for each in objects(path.read_text())
    ]
    assert len(found) > 10
    return found


def workloads() -> list[Object]:
    return [each for each in plain() if each["kind"] == "DaemonSet"]


def container(name: str) -> Object:
    (found,) = pod_of(by_name(plain())[f"DaemonSet/{name}"])["containers"]
    assert isinstance(found, dict)
    return found


def validate(things: list[Object]) -> None:
    for each in things:
        for version in (NEWEST,) if name_of(each) in SINCE_1_34 else (OLDEST, NEWEST):
            kubernetes_validate.validate(each, version, strict=True)


def test_the_manifests_are_valid() -> None:
    validate(plain())


def test_a_misspelt_field_would_be_found() -> None:
    daemon = workloads()[0]
    pod_of(daemon)["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        validate([daemon])


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_is_valid(name: str, tmp_path: Path) -> None:
    things = charts.of_chart(VALUES[name], tmp_path)
    validate(things)
    assert bool(things) == (name != "nothing")
    by_name(things)


@pytest.mark.parametrize("values", [{}, DRA])
def test_the_chart_says_what_the_manifests_say(values: Mapping[str, Any], tmp_path: Path) -> None:
    other = "device-plugin" if values else "dra-driver"
    ours = {
        name: each
        for name, each in by_name(plain()).items()
        if each["metadata"]["labels"]["app.kubernetes.io/name"] != f"furiosa-{other}"
    }
    found = by_name(charts.of_chart(values, tmp_path))
    for things in (ours, found):
        config = things.get("ConfigMap/npu-device-plugin", {"data": {}})
        config["data"] = {key: yaml.safe_load(text) for key, text in config["data"].items()}
    assert found == ours


def test_values_are_checked() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, schema)
    assert set(values) == set(schema["properties"]) - {"global"}
    for key, value in values.items():
        if isinstance(value, dict) and "properties" in schema["properties"][key]:
            assert set(value) == set(schema["properties"][key]["properties"]), key
    wrong: Mapping[str, Any]
    for wrong in (
        {"emulate": "2"},
        {"broker": {"containers": "none"}},
        {"brokers": {}},
        {"paths": {"kubelet": "relative"}},
        {"metricsExporter": {"port": 0}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("name", VALUES)
def test_values_of_these_tests_are_allowed(name: str) -> None:
    jsonschema.validate(VALUES[name], json.loads((CHART / "values.schema.json").read_text()))


def test_a_chart_that_cannot_be_rendered_is_found(tmp_path: Path) -> None:
    with pytest.raises(NotRendered, match="enabled"):
        charts.rendered({"broker": None}, tmp_path)


def test_notes_say_where_to_look(tmp_path: Path) -> None:
    notes = charts.rendered({"emulate": 2}, tmp_path)["NOTES.txt"]
    assert "2 virtual card(s)" in notes
    assert "beta.furiosa.ai/npu: 1" in notes
    assert "OnDelete" not in notes
    assert "resourceslices" in charts.rendered(DRA, tmp_path)["NOTES.txt"]


def test_kustomize_takes_all_but_dra() -> None:
    found = by_name(charts.of_folder(MANIFESTS))
    wanted = by_name(plain())
    assert {n: t for n, t in wanted.items() if n in found} == found
    left = {wanted[name]["metadata"]["name"] for name in wanted.keys() - found.keys()}
    assert left == {"furiosa-dra-driver", "npu.furiosa.ai"}


def test_emulated_is_the_same_on_every_node_and_with_virtual_cards(tmp_path: Path) -> None:
    found = by_name(charts.of_folder(DEPLOY / "kubernetes-emulated"))
    of_chart = by_name(charts.of_chart({"emulate": 2}, tmp_path))
    for things in (found, of_chart):
        del things["ConfigMap/npu-device-plugin"]
    assert found == of_chart
    assert not any("nodeSelector" in pod_of(t) for t in found.values() if t["kind"] == "DaemonSet")


def test_the_broker_is_given_settings_that_exist() -> None:
    settings = BrokerSettings.load(container("furiosa-broker")["args"], {})
    assert (settings.containers, settings.root) == ("granted", Path("/host"))
    assert settings.socket_mode == 0o666
    assert settings.emulate == 0
    (port,) = container("furiosa-broker")["ports"]
    assert settings.metrics_listen == f"0.0.0.0:{port['containerPort']}"
    mounts = {m["name"]: m["mountPath"] for m in container("furiosa-broker")["volumeMounts"]}
    assert mounts["state"] == str(settings.state)
    assert mounts["sockets"] == str(settings.socket.parent)


def test_what_the_broker_tells_others_of_is_where_it_is_on_the_node() -> None:
    daemon = by_name(plain())["DaemonSet/furiosa-broker"]
    folders = {v["name"]: v["hostPath"]["path"] for v in pod_of(daemon)["volumes"]}
    for mount in container("furiosa-broker")["volumeMounts"]:
        if mount["name"] in ("sockets", "state"):
            assert folders[mount["name"]] == mount["mountPath"]


def test_the_device_plugin_is_given_settings_that_exist() -> None:
    config = by_name(plain())["ConfigMap/npu-device-plugin"]["data"]["config.yaml"]
    settings = from_mapping(yaml.safe_load(config))
    mounts = {m["mountPath"] for m in container("furiosa-device-plugin")["volumeMounts"]}
    assert str(settings.plugin_dir) in mounts
    assert str(settings.pod_resources.parent) in mounts
    assert container("furiosa-device-plugin")["args"] == [
        "--config-file",
        "/etc/furiosa/config.yaml",
    ]
    assert "/etc/furiosa" in mounts


def test_only_the_broker_has_capabilities_and_nobody_is_privileged() -> None:
    for daemon in workloads():
        name = daemon["metadata"]["name"]
        (only,) = pod_of(daemon)["containers"]
        context = only["securityContext"]
        added = set(context["capabilities"].get("add", ()))
        assert added == (CAPABILITIES if name == "furiosa-broker" else set())
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in context
        assert context["readOnlyRootFilesystem"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod_of(daemon).get("hostPID", False) == (name == "furiosa-broker")
        assert not {"hostNetwork", "hostIPC"} & pod_of(daemon).keys()
        if not added:
            assert context["allowPrivilegeEscalation"] is False


def test_the_brokers_capabilities_are_those_of_its_unit_but_for_a_group_that_no_image_has() -> None:
    unit = (DEPLOY / "systemd" / "furiosa-brokerd.service").read_text()
    lines = [line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")]
    wanted = {name.removeprefix("CAP_") for line in lines for name in line.split("=")[1].split()}
    assert wanted == CAPABILITIES | {"CHOWN"}


def test_who_may_reserve_has_the_grant_of_managers_and_no_other_of_the_folder() -> None:
    for daemon in workloads():
        name = daemon["metadata"]["name"]
        paths = [v["hostPath"]["path"] for v in pod_of(daemon)["volumes"] if "hostPath" in v]
        state = [path for path in paths if path.startswith("/var/lib/furiosa")]
        if name == "furiosa-broker":
            assert state == ["/var/lib/furiosa"]
        elif name in ("furiosa-device-plugin", "furiosa-dra-driver"):
            assert state == ["/var/lib/furiosa/grants/manager"]
        else:
            assert state == []


def test_folders_are_writable_only_where_something_is_written() -> None:
    writable = {
        f"{daemon['metadata']['name']}:{mount['mountPath']}"
        for daemon in workloads()
        for each in pod_of(daemon)["containers"]
        for mount in each["volumeMounts"]
        if not mount.get("readOnly")
    }
    assert writable == {
        "furiosa-broker:/run/furiosa",
        "furiosa-broker:/var/lib/furiosa",
        "furiosa-device-plugin:/var/lib/kubelet/device-plugins",
        "furiosa-dra-driver:/var/lib/kubelet/plugins",
        "furiosa-dra-driver:/var/lib/kubelet/plugins_registry",
        "furiosa-dra-driver:/var/run/cdi",
        "furiosa-npu-feature-discovery:/etc/kubernetes/node-feature-discovery/features.d",
    }


def test_only_the_dra_driver_may_talk_to_the_api_server() -> None:
    for each in plain():
        if each["kind"] == "ServiceAccount" and each["metadata"]["name"] != "furiosa-dra-driver":
            assert each["automountServiceAccountToken"] is False
    roles = [each for each in plain() if each["kind"].endswith("Role")]
    (role,) = roles
    rights = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rights == {
        ("resource.k8s.io", "resourceslices"): {"list", "create", "update", "delete"},
        ("resource.k8s.io", "resourceclaims"): {"get"},
        ("", "nodes"): {"get"},
    }


def test_the_kubelet_is_told_paths_of_the_node(tmp_path: Path) -> None:
    things = by_name(charts.of_chart(VALUES["other folders"], tmp_path))
    daemon = pod_of(things["DaemonSet/furiosa-dra-driver"])
    (only,) = daemon["containers"]
    assert only["args"] == ["--plugins-dir=/var/snap/kubelet/plugins"]
    mounts = {mount["name"]: mount["mountPath"] for mount in only["volumeMounts"]}
    folders = {v["name"]: v["hostPath"]["path"] for v in daemon["volumes"]}
    assert mounts["plugins"] == folders["plugins"] == "/var/snap/kubelet/plugins"
    assert folders["cdi"] == "/etc/cdi"


def test_a_new_broker_is_not_put_in_place_by_itself() -> None:
    broker = by_name(plain())["DaemonSet/furiosa-broker"]
    assert broker["spec"]["updateStrategy"] == {"type": "OnDelete"}
