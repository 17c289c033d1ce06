"""deploy/kubernetes/ is valid by Kubernetes's own schemas, and says the same thing everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.node import ROOT

DIRECTORY = ROOT / "deploy/kubernetes"
KUSTOMIZATION = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())
SETTINGS = dict(setting.split("=") for setting in KUSTOMIZATION["configMapGenerator"][0]["literals"])
VERSIONS = ("1.32", "1.37")
WITHOUT_SCHEMA = "ServiceMonitor"  # of the Prometheus operator
GRACEFUL_SECONDS = int(
    re.findall(r"^graceful_timeout = (\d+)", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)[0]
)
Object = dict[str, Any]


def objects(text: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(text) if found]


def written() -> list[Object]:
    return [found for file in DIRECTORY.glob("*.yaml") for found in objects(file.read_text())]


def one(kind: str) -> Object:
    [found] = [found for found in written() if found["kind"] == kind]
    return found


def container(kind: str) -> Object:
    [found] = one(kind)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def assert_valid(found: Object, version: str) -> None:
    if found["kind"] not in (WITHOUT_SCHEMA, "Kustomization"):
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    for found in written():
        assert_valid(found, version)


def test_a_wrong_field_is_noticed() -> None:
    wrong = one("PodDisruptionBudget")
    wrong["spec"]["maxUnavailible"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        assert_valid(wrong, VERSIONS[-1])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_valid_objects_of_it() -> None:
    built = subprocess.run(["kubectl", "kustomize", DIRECTORY], capture_output=True, text=True, check=True).stdout
    made = objects(built)
    assert sorted(found["kind"] for found in made if found["kind"] != "ConfigMap") == sorted(
        found["kind"] for found in written() if found["kind"] not in ("Secret", "Kustomization")
    )
    for found in made:
        assert found["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
        assert_valid(found, VERSIONS[-1])


def test_every_file_takes_part() -> None:
    files = {file.name for file in DIRECTORY.iterdir()} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files


def test_settings_exist_and_their_secrets_are_brought() -> None:
    known = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert {name.removesuffix("_FILE") for name in SETTINGS} <= known
    brought = {found["metadata"]["name"]: found["stringData"] for found in written() if found["kind"] == "Secret"}
    files = [(value, "Deployment") for name, value in SETTINGS.items() if name.endswith("_FILE")]
    files += [(variable["value"], "Job") for variable in container("Job")["env"]]
    for path, kind in files:
        [mount] = [mount["mountPath"] for mount in container(kind)["volumeMounts"] if mount["name"] == "secrets"]
        [volume] = [v for v in one(kind)["spec"]["template"]["spec"]["volumes"] if v["name"] == "secrets"]
        directory, _, key = path.rpartition("/")
        assert directory == mount
        assert key in brought[volume["secret"]["secretName"]]


def test_the_local_share_allows_for_as_many_nodes_as_there_may_be() -> None:
    assert int(SETTINGS["NODES"]) == one("HorizontalPodAutoscaler")["spec"]["maxReplicas"]


def test_a_pod_has_more_time_to_stop_than_it_takes() -> None:
    sleep = container("Deployment")["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > sleep + float(SETTINGS["DRAIN_SECONDS"]) + GRACEFUL_SECONDS


def test_pods_may_do_nothing_that_they_need_not() -> None:
    for kind in ("Deployment", "Job"):
        pod, inside = one(kind)["spec"]["template"]["spec"], container(kind)["securityContext"]
        assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)
        assert inside == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_whatever_selects_finds() -> None:
    pods = one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    service = one("Service")
    labels = service["metadata"]["labels"] | KUSTOMIZATION["labels"][0]["pairs"]
    assert one("Deployment")["spec"]["selector"]["matchLabels"].items() <= pods
    assert service["spec"]["selector"].items() <= pods
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= pods
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= pods
    assert one("ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    [port] = service["spec"]["ports"]
    assert {port["name"]} == {endpoint["port"] for endpoint in one("ServiceMonitor")["spec"]["endpoints"]}
    assert one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == one("Deployment")["metadata"]["name"]
