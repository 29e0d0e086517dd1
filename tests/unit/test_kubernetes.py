"""The manifests, by Kubernetes' own schemas, and what has to fit between them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from benchmarks.scaling.capacity import Assumptions, events_per_worker
from benchmarks.scaling.inputs import load as load_inputs
from stream_app.settings import Settings, load
from tests.harness.documents import ROOT
from tests.harness.monitoring import check_expressions, unknown_in
from tests.unit.test_docker import of, red_s

FOLDER = ROOT / "docker" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
ADAPTER = yaml.safe_load((FOLDER / "adapter-values.yaml").read_text())
OPERATIONS = " ".join((ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split())
WORKER = "interest-stream"
OLDEST = "1.30"
"""The release in which the first retention policies of a stateful set's volumes are on by default
is 1.27; 1.30 is what clouds still sell."""


def settings_in(folder: Path) -> dict[str, str]:
    lines = (folder / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


MANIFESTS: dict[str, dict[str, Any]] = {
    manifest["kind"]: manifest
    for name in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((FOLDER / name).read_text())
}
MANIFESTS["ConfigMap"] = {  # as kustomize makes it
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": WORKER},
    "data": settings_in(FOLDER),
}


def pod_of(kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = MANIFESTS[kind]["spec"]["template"]["spec"]
    return spec


def container_of(kind: str) -> dict[str, Any]:
    (container,) = pod_of(kind)["containers"]
    found: dict[str, Any] = container
    return found


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", MANIFESTS)
def test_kubernetes_knows_every_field(kind: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = {**MANIFESTS["PodDisruptionBudget"], "spec": {"maxUnavailible": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="maxUnavailible"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_every_manifest_is_applied() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")}
    assert files == {*KUSTOMIZATION["resources"], "kustomization.yaml", "adapter-values.yaml"}


COMPONENTS = [path.parent.name for path in sorted(FOLDER.glob("*/kustomization.yaml"))]
_LISTED_BY = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""What Kubernetes merges a list by in a strategic merge; other lists it replaces."""


def merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in patch.items():
        old = result.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            result[name] = merged(old, value)
        elif name in _LISTED_BY and isinstance(old, list):
            key = _LISTED_BY[name]
            patches = {each[key]: each for each in value}
            kept = [merged(each, patches.pop(each[key], {})) for each in old]
            result[name] = [*patches.values(), *kept]
        else:
            result[name] = value
    return result


def with_components(*names: str) -> dict[str, dict[str, Any]]:
    """Return the manifests with these components' patches."""
    found = dict(MANIFESTS)
    for name in names:
        component = yaml.safe_load((FOLDER / name / "kustomization.yaml").read_text())
        assert component["kind"] == "Component"
        if "configMapGenerator" in component:
            settings = {"data": settings_in(FOLDER / name)}
            found["ConfigMap"] = merged(found["ConfigMap"], settings)
        for each in component["patches"]:
            patch = yaml.safe_load((FOLDER / name / each["path"]).read_text())
            base = found[patch["kind"]]
            assert (patch["apiVersion"], patch["metadata"]) == (
                base["apiVersion"],
                {"name": base["metadata"]["name"]},
            )
            found[patch["kind"]] = merged(base, patch)
    return found


def test_the_components_are_offered() -> None:
    text = (FOLDER / "kustomization.yaml").read_text()
    uncommented = re.sub(r"^# (components:|  - \w+$)", r"\1", text, flags=re.MULTILINE)
    found = yaml.safe_load(uncommented)
    assert sorted(found["components"]) == COMPONENTS == ["gpu", "secured"]
    assert found["resources"] == KUSTOMIZATION["resources"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which has kustomize")
@pytest.mark.parametrize("names", [(), ("gpu",), ("secured",), ("gpu", "secured")])
def test_kustomize_makes_what_is_tested_here(names: tuple[str, ...], tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    (copy / "kustomization.yaml").write_text(yaml.safe_dump(KUSTOMIZATION | {"components": names}))
    command = ["kubectl", "kustomize", str(copy)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    (name,) = re.findall(rf"^  name: ({WORKER}-\w{{10}})$", run.stdout, re.MULTILINE)
    assert run.stdout.count(name) == 3, "the config map, its workers and the job"
    made = {each["kind"]: each for each in yaml.safe_load_all(run.stdout.replace(name, WORKER))}
    (labels,) = KUSTOMIZATION["labels"]
    for each in made.values():
        given = each["metadata"]["labels"]
        each["metadata"]["labels"] = dict(given.items() - labels["pairs"].items())
    for each in (expected := with_components(*names)).values():
        each["metadata"].setdefault("labels", {})
    assert made == expected


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field_of_the_components(version: str) -> None:
    for manifest in with_components(*COMPONENTS).values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_secured_workers_have_the_secrets_that_their_settings_name() -> None:
    found = with_components(*COMPONENTS)
    given = found["ConfigMap"]["data"]
    settings = load(environ={"INTEREST_HTTP_PORT": "8080"} | given)  # which the image sets
    assert (settings.security_protocol, settings.partitions) == ("SASL_SSL", 16)
    text = (FOLDER / "secured" / "kustomization.yaml").read_text()
    keys = set(re.findall(r"--from-file=(\S+)", text))
    port = int(given["INTEREST_BOOTSTRAP_SERVERS"].partition(":")[2])
    rules = found["NetworkPolicy"]["spec"]["egress"]
    assert port in [each["port"] for rule in rules for each in rule["ports"]]
    for kind in ("StatefulSet", "Job"):
        pod = found[kind]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == "secret")
        (volume,) = (each for each in pod["volumes"] if each["name"] == "secret")
        files = {value for name, value in given.items() if name.endswith(("_FILE", "_CAFILE"))}
        assert files == {f"{mount['mountPath']}/{key}" for key in keys}
        assert volume["secret"]["secretName"] == WORKER
        group = pod["securityContext"]["fsGroup"]
        assert group == pod["securityContext"]["runAsGroup"], "or it cannot read them"
        assert container["image"], "what was there is there still"


def test_a_worker_with_a_gpu_asks_for_one_and_will_not_do_without() -> None:
    pod = with_components("gpu")["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert load(environ={"INTEREST_DEVICE": given["INTEREST_DEVICE"]}).device == "cuda"
    assert {"POD_NAME", "INTEREST_HTTP_URL"} <= {each["name"] for each in container["env"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"]["cpu"] == "1500m"
    assert container["image"] == f"{container_of('StatefulSet')['image']}-cuda"


@pytest.mark.parametrize("kind", ["StatefulSet", "Job"])
def test_a_pod_is_nobody_and_can_write_to_its_volumes_only(kind: str) -> None:
    pod, container = pod_of(kind), container_of(kind)
    user = int(of("USER")[0].split(":")[0])
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "INTEREST_… of a service is refused as a setting"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == user
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]


def test_the_settings_are_settings_and_leave_every_worker_two_partitions() -> None:
    given = MANIFESTS["ConfigMap"]["data"]
    settings = load(environ=given)  # refuses unknown names and bad values
    most = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["maxReplicas"]
    assert settings.partitions == 2 * most
    assert settings.standby_replicas < MANIFESTS["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    for kind in ("StatefulSet", "Job"):
        (source,) = container_of(kind)["envFrom"]
        assert source["configMapRef"]["name"] == MANIFESTS["ConfigMap"]["metadata"]["name"]


def test_workers_find_each_other_by_the_names_that_the_service_gives_them() -> None:
    stateful = MANIFESTS["StatefulSet"]["spec"]
    name, url = container_of("StatefulSet")["env"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    host = f"$({name['name']}).{stateful['serviceName']}"
    (port,) = (each["containerPort"] for each in container_of("StatefulSet")["ports"])
    assert url == {"name": "INTEREST_HTTP_URL", "value": f"http://{host}:{port}"}
    assert MANIFESTS["Service"]["metadata"]["name"] == stateful["serviceName"]
    example = url["value"].replace("$(POD_NAME)", "interest-stream-0")
    assert load(environ={url["name"]: example}).http_url == example


def test_all_run_the_same_image_by_its_command_line() -> None:
    worker, topics = container_of("StatefulSet"), container_of("Job")
    assert worker["image"] == topics["image"]
    assert (worker["args"], topics["args"]) == (["worker"], ["topics", "create"])
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert worker["image"] == f"interest-stream:{version[1]}"


def test_the_topics_job_is_out_of_the_way_of_the_next_apply() -> None:
    """A job cannot be changed: the apply of another image would be refused."""
    assert MANIFESTS["Job"]["spec"]["ttlSecondsAfterFinished"] <= 60


def test_every_worker_has_a_disk_at_its_datadir() -> None:
    claim = MANIFESTS["StatefulSet"]["spec"]["volumeClaimTemplates"][0]
    mounts = {
        each["name"]: each["mountPath"] for each in container_of("StatefulSet")["volumeMounts"]
    }
    (datadir,) = re.findall(r"INTEREST_DATADIR=(\S+)", " ".join(of("ENV")))
    assert mounts == {claim["metadata"]["name"]: datadir, "tmp": "/tmp"}
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_a_worker_has_longer_to_stop_than_it_takes() -> None:
    assert pod_of("StatefulSet")["terminationGracePeriodSeconds"] > Settings().stop_timeout_s


def test_probes_ask_what_is_there_and_leave_a_hung_encoder_to_the_worker() -> None:
    container = container_of("StatefulSet")
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert [str(port) for port in ports.values()] == of("EXPOSE")
    probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}
    assert all(probe["httpGet"]["port"] in ports for probe in probes.values())
    liveness = probes["liveness"]
    # The first of the failures may be at the first red moment.
    patience_s = liveness["periodSeconds"] * (liveness["failureThreshold"] - 1)
    assert patience_s > red_s(Settings())
    told = re.search(r"at most to the (\d+)th second of a hang, (\d+) seconds", OPERATIONS)
    assert told is not None
    until_s = red_s(Settings()) + Settings().health_encoder_s
    assert (int(told[1]), int(told[2])) == (until_s, red_s(Settings()))


def test_everything_means_the_workers() -> None:
    labels = {"app.kubernetes.io/name": WORKER}
    stateful_set = MANIFESTS["StatefulSet"]
    assert stateful_set["spec"]["template"]["metadata"]["labels"] == labels
    assert stateful_set["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert stateful_set["spec"]["serviceName"] == MANIFESTS["Service"]["metadata"]["name"]
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", stateful_set["metadata"]["name"])
    assert "replicas" not in stateful_set["spec"], "the autoscaler has it"


def test_the_network_lets_through_what_is_needed() -> None:
    policy = MANIFESTS["NetworkPolicy"]["spec"]
    (allowed,) = policy["podSelector"]["matchExpressions"]
    jobs = MANIFESTS["Job"]["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
    assert allowed["values"] == [WORKER, jobs]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = policy["ingress"]
    assert [port["port"] for port in ingress["ports"]] == ["http"]
    bootstrap = MANIFESTS["ConfigMap"]["data"]["INTEREST_BOOTSTRAP_SERVERS"]
    name, _, port = bootstrap.partition(":")
    namespace = name.split(".")[1]
    (kafka,) = [
        rule
        for rule in policy["egress"]
        if rule["to"][0]
        .get("namespaceSelector", {})
        .get("matchLabels", {})
        .get("kubernetes.io/metadata.name")
        == namespace
    ]
    assert int(port) in [each["port"] for each in kafka["ports"]]


def test_it_scales_on_what_the_adapter_gives_and_the_worker_exports(tmp_path: Path) -> None:
    rules = {rule["name"]["as"]: rule for rule in ADAPTER["rules"]["external"]}
    metrics = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert [each["external"]["metric"]["name"] for each in metrics] == list(rules)
    queries = [
        rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="n"')
        for rule in rules.values()
    ]
    check_expressions(queries, tmp_path)
    for rule in rules.values():
        assert not unknown_in(rule["seriesQuery"])
        assert not unknown_in(rule["metricsQuery"].replace("<<.LabelMatchers>>", ""))


def test_a_worker_is_given_no_more_than_one_can_do() -> None:
    """By the sheet of docs/scaling.md, whose figure the manifest names."""
    rate, lag = (
        int(each["external"]["target"]["averageValue"])
        for each in MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    )
    most = events_per_worker(load_inputs(), Assumptions())
    assert rate == most // 1000 * 1000
    assert lag == 60 * rate, "a minute"
    assert f"the {most:,.0f} that docs/scaling.md has" in (FOLDER / "autoscaling.yaml").read_text()
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert f"\n| {most:,.0f} | one event loop, one core |" in page
