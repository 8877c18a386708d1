"""The dashboard and the alerts over what the exporter says, judged also by Prometheus' own tool."""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from furiosa.exporter.families import Naming
from furiosa.exporter.sampler import Sampler, What
from furiosa.exporter.sources import Sources, TreeSource
from support.scrapes import get, samples, served

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "furiosa-npu.json"
RULES = DEPLOY / "prometheus" / "rules.yaml"
METRIC = re.compile(r"furiosa_npu_\w+")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on this machine"
)


@pytest.fixture
async def page(root: Path) -> str:
    sampler = Sampler(
        What("node-1", 10.0, Naming.WARBOY, True), Sources(None, TreeSource(root)), None
    )
    for _ in range(2):
        await sampler.once()
    async with served(sampler.pages()) as url:
        return await asyncio.to_thread(get, f"{url}/metrics")


@pytest.fixture
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


@pytest.fixture
def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(panels: list[dict[str, Any]]) -> Iterator[str]:
    return (target["expr"] for panel in panels for target in panel["targets"])


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def run(*command: str | Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_metric_of_the_dashboard_is_exported_and_every_exported_one_is_in_a_panel(
    page: str, panels: list[dict[str, Any]]
) -> None:
    shown = set(METRIC.findall("\n".join(expressions(panels))))
    assert shown == {name for name, _ in samples(page)}


def test_every_label_that_is_asked_for_is_exported(
    page: str, dashboard: dict[str, Any], panels: list[dict[str, Any]]
) -> None:
    exported = {key for _, labels in samples(page) for key, _ in labels}
    of_pods = {"namespace", "pod"}
    for text in (*expressions(panels), *(str(rule["expr"]) for rule in alerts()[1:])):
        by = {
            label.strip()
            for group in re.findall(r"\bby \((.*?)\)", text)
            for label in group.split(",")
        }
        asked = by | set(re.findall(r"(\w+)(?:=~|!=|=)\"", text))
        assert asked <= exported | of_pods


def test_panels_have_their_own_ids_and_places(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
    for a, b in itertools.combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_every_query_goes_to_the_chosen_data_source(
    dashboard: dict[str, Any], panels: list[dict[str, Any]]
) -> None:
    for panel in panels:
        assert panel["datasource"] == SOURCE
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) > 0
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables.pop("datasource")["query"] == "prometheus"
    assert list(variables) == ["node", "device", "namespace", "pod", "sensor"]
    assert all(variable["datasource"] == SOURCE for variable in variables.values())


def test_every_variable_that_is_used_is_there(dashboard: dict[str, Any]) -> None:
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text()))
    assert used - {"__all", "__rate_interval"} == names


@promtool
def test_prometheus_understands_every_query(panels: list[dict[str, Any]], tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, text in enumerate(expressions(panels))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = run("promtool", "check", "rules", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(rules)} rules found" in done.stdout


@promtool
def test_prometheus_understands_the_page(page: str) -> None:
    done = run("promtool", "check", "metrics", given=page)
    # 3: it dislikes the published names; 1: it cannot read the page
    assert done.returncode == 3
    assert "error while linting" not in done.stderr
    assert all(METRIC.match(line) for line in done.stderr.splitlines())


def test_every_alert_is_over_what_is_exported_and_says_what_it_is(page: str) -> None:
    exported = {name for name, _ in samples(page)}
    for rule in alerts():
        assert set(METRIC.findall(rule["expr"])) <= exported
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "{{ $labels." in rule["annotations"]["summary"]


CARD = 'device="npu0",node="n"'
UP = ('furiosa_npu_exporter_broker_up{node="n"}', "1+0x200")
# alert, series, minutes until it is there
FIRING = [
    (
        "NpuExporterDown",
        [('up{job="furiosa-npu-metrics-exporter",instance="n:6254"}', "0+0x200")],
        6,
    ),
    ("NpuDead", [(f"furiosa_npu_alive{{{CARD}}}", "1 1 0+0x200")], 4),
    ("NpuMissing", [(f"furiosa_npu_alive{{{CARD}}}", "1+0x60"), UP], 80),
    ("NpuHot", [(f'furiosa_npu_hw_temperature{{{CARD},label="Peak"}}', "86000+0x200")], 3),
    ("NpuErrors", [(f'furiosa_npu_error{{{CARD},label="device_error"}}', "3 3 3 4+0x200")], 5),
    ("NpuBrokerAway", [('furiosa_npu_exporter_broker_up{node="n"}', "1 1 0+0x200")], 8),
]
SILENT = [
    ("NpuDead", [(f"furiosa_npu_alive{{{CARD}}}", "1+0x200")], 30),
    # nobody knows: the exporter is away
    ("NpuMissing", [(f"furiosa_npu_alive{{{CARD}}}", "1+0x60")], 80),
    # a pod that gets the card changes labels only
    (
        "NpuMissing",
        [
            (f"furiosa_npu_alive{{{CARD}}}", "1+0x60"),
            (f'furiosa_npu_alive{{{CARD},pod="p"}}', f"{'_ ' * 61}1+0x200"),
            UP,
        ],
        80,
    ),
    ("NpuErrors", [(f'furiosa_npu_error{{{CARD},label="pcie_doorbell_done"}}', "0+9x200")], 30),
    ("NpuHot", [(f'furiosa_npu_hw_temperature{{{CARD},label="Peak"}}', "80000+0x200")], 30),
    # a node that never had one
    ("NpuBrokerAway", [('furiosa_npu_exporter_broker_up{node="n"}', "0+0x200")], 30),
]


@promtool
@pytest.mark.parametrize(
    ("alert", "series", "minutes", "fires"),
    [(*case, True) for case in FIRING] + [(*case, False) for case in SILENT],
)
def test_prometheus_raises_each_alert_when_it_should(
    tmp_path: Path, alert: str, series: list[tuple[str, str]], minutes: int, fires: bool
) -> None:
    query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
    )
    assert alert in {rule["alert"] for rule in alerts()}
    done = run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
