"""examples/deploy/kubernetes: Kubernetes' and KEDA's schemas accept it, and its parts agree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

from tests.deploy.test_monitoring import PROMTOOL, needs_promtool
from tests.pages import ROOT
from tests.warm import warm_folder

FOLDER = ROOT / "examples" / "deploy" / "kubernetes"
KEDA: dict[str, Any] = {"ScaledObject": keda.ScaledObject, "ScaledJob": keda.ScaledJob}


def _objects() -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


OBJECTS = list(_objects())


def _of(kind: str) -> list[dict[str, Any]]:
    found = [each for each in OBJECTS if each["kind"] == kind]
    assert found, kind
    return found


def _named(each: dict[str, Any]) -> str:
    return f"{each['kind']} {each.get('metadata', {}).get('name', '')}"


def _pod_specs() -> list[dict[str, Any]]:
    return [
        *(each["spec"]["template"]["spec"] for each in _of("Deployment")),
        *(each["spec"]["jobTargetRef"]["template"]["spec"] for each in _of("ScaledJob")),
    ]


@pytest.mark.parametrize(
    "each",
    [each for each in OBJECTS if each["apiVersion"].split("/")[0] in ("v1", "apps", "policy")],
    ids=_named,
)
def test_kubernetes_accepts_each_object(each: dict[str, Any]) -> None:
    """Strictly: a key that it does not know is an error."""
    kubernetes_validate.validate(each, "1.32", strict=True)


@pytest.mark.parametrize("each", [each for each in OBJECTS if each["kind"] in KEDA], ids=_named)
def test_keda_accepts_each_object(each: dict[str, Any]) -> None:
    """By the schema of its custom resources, as models of a package have it; unknown keys are errors here."""
    schema = KEDA[each["kind"]].model_json_schema(by_alias=True)
    for part in [schema, *schema["$defs"].values()]:
        if "properties" in part:
            part.setdefault("additionalProperties", False)
    jsonschema.validate(each, schema)
    # The pods of a ScaledJob are Kubernetes' own.
    if each["kind"] == "ScaledJob":
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, "spec": each["spec"]["jobTargetRef"]}
        kubernetes_validate.validate(job, "1.32", strict=True)


def test_the_objects_name_each_other_rightly() -> None:
    """The scaled Deployment, the pods of a Service and of a budget, and the ports of probes exist."""
    deployments = {each["metadata"]["name"]: each["spec"] for each in _of("Deployment")}
    labels = [spec["template"]["metadata"]["labels"] for spec in deployments.values()]
    assert all(each["spec"]["scaleTargetRef"]["name"] in deployments for each in _of("ScaledObject"))
    assert all(each["spec"]["selector"] in labels for each in _of("Service"))
    assert all(each["spec"]["selector"]["matchLabels"] in labels for each in _of("PodDisruptionBudget"))
    assert all(
        spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        for spec in deployments.values()
    )
    (kustomization,) = _of("Kustomization")
    assert {*kustomization["resources"], "kustomization.yaml", "worker-jobs.yaml"} == {
        path.name for path in FOLDER.glob("*.yaml")
    }


def test_no_pod_runs_as_root_or_writes_into_its_image() -> None:
    """And each has the time to end that its worker needs."""
    for pod in _pod_specs():
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            if container["args"][0] == "worker":
                assert pod["terminationGracePeriodSeconds"] >= 40


def test_cg_knows_each_command_of_a_container() -> None:
    """Its flags exist: the command line is parsed as in the container, but for `--help` at its end."""
    for pod in _pod_specs():
        for container in pod["containers"]:
            arguments = container["args"]
            if "--command" in arguments:
                arguments = arguments[: arguments.index("--command")]
            command = [f"{warm_folder()}/cg", *arguments, "--help"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def _queries() -> list[str]:
    scaled = [*_of("ScaledObject"), *_of("ScaledJob")]
    return [each["spec"]["triggers"][0]["metadata"]["query"] for each in scaled]


@needs_promtool
def test_the_scaling_query_counts_ready_and_running_turns_once(tmp_path: Path) -> None:
    """Two kernels report the same turns; no turns are 0; without a database there is no answer, not 0."""

    def at(up: int, *turns: str) -> list[dict[str, str]]:
        series = [f'cg_database_up{{instance="{kernel}"}}' for kernel in "ab"]
        return [{"series": name, "values": f"{up}"} for name in series] + [
            {"series": f'cg_agent_turns{{instance="{kernel}", project="acme", {labels}}}', "values": "3"}
            for labels in turns
            for kernel in "ab"
        ]

    desk = ['agent="desk", state="ready"', 'agent="desk", state="running"']
    cases = [(at(1, *desk, 'agent="shop", state="ready"'), [6]), (at(1), [0]), (at(0), [])]
    (query,) = set(_queries())
    tests = [
        {
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": query,
                    "eval_time": "0s",
                    "exp_samples": [{"labels": "{}", "value": n} for n in expected],
                }
            ],
        }
        for series, expected in cases
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"tests": tests}))
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
