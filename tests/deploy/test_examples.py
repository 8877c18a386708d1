"""The examples for a cluster: valid, and as confined as what they stand for should be."""

from pathlib import Path

import kubernetes_validate
import pytest

from support.charts import DEPLOY, Object, by_name, objects, pod_of

EXAMPLES = DEPLOY.parent / "examples" / "kubernetes"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def of(file: str) -> dict[str, Object]:
    return by_name(objects((EXAMPLES / file).read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid(path: Path) -> None:
    found = objects(path.read_text())
    assert found
    for each in found:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    "workload",
    [of("model-server.yaml")["Deployment/digits"], of("inference.yaml")["Job/inference"]],
)
def test_it_asks_for_a_card_and_for_no_rights(workload: Object) -> None:
    (only,) = pod_of(workload)["containers"]
    assert only["resources"]["limits"]["beta.furiosa.ai/npu"] == 1
    context = only["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not any("hostPath" in volume for volume in pod_of(workload)["volumes"])
    assert "hostPID" not in pod_of(workload)


def test_all_that_belongs_to_the_server_selects_it() -> None:
    found = of("model-server.yaml")
    label = {"app.kubernetes.io/name": "digits"}
    deployment = found["Deployment/digits"]["spec"]
    assert deployment["template"]["metadata"]["labels"] == label
    assert deployment["selector"]["matchLabels"] == label
    assert found["Service/digits"]["spec"]["selector"] == label
    assert found["PodDisruptionBudget/digits"]["spec"]["selector"]["matchLabels"] == label
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == label
    scaled = found["HorizontalPodAutoscaler/digits"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "digits"
    assert "replicas" not in deployment, "each apply would undo what the autoscaler did"
