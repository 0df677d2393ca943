"""Manifests are valid, and do what docs/deployment.md says: no pod is open, unbounded, unreachable or too many."""

import copy
import json
import re
from collections import Counter
from functools import cache

import kubernetes_validate
import pytest
import yaml

from app import __version__
from app.cli import COMMANDS, main
from app.kafka import permissions, topics
from app.kafka.topics import Topic
from app.web.security import exposure
from tests.deploy import crds
from tests.deploy.expressions import RULES
from tests.deploy.manifests import KUBERNETES, TARGETS, Container, containers, kustomize, named, of_kind, rendered
from tests.deploy.named import ROOT

VERSION = "1.37"
SECRETS = {"ANOMALY_KAFKA__SASL_PASSWORD": "made up", "ANOMALY_STORAGE__URL": "postgresql://anomaly@db/anomaly"}
DOCUMENT = (ROOT / "docs" / "deployment.md").read_text("utf-8")
STEP = {"type": "Pods", "value": 1, "periodSeconds": 600}
every_target = pytest.mark.parametrize("target", TARGETS)


def every_container(target):
    return list(containers(rendered(target)))


def main_containers(target):
    """(container, its settings), without the jobs and what runs before others."""
    return [
        (one, one.settings(SECRETS))
        for one in every_container(target)
        if one.workload["kind"] != "Job" and one.spec in one.pod["spec"]["containers"]
    ]


# --- valid


def invalid(resource):
    """What a server would refuse, or drop, in one line each."""
    return _invalid(json.dumps(resource))


@cache  # most resources are the same in several overlays, and each costs a tenth of a second
def _invalid(text):
    resource = json.loads(text)
    if resource["kind"] in crds.KINDS:
        return crds.problems(resource)
    try:
        kubernetes_validate.validate(resource, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


@every_target
def test_every_resource_is_valid(target):
    found = {(one["kind"], one["metadata"]["name"]): why for one in rendered(target) if (why := invalid(one))}
    assert not found


@every_target
def test_every_resource_is_there_once(target):
    ids = Counter((one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered(target))
    assert [one for one, times in ids.items() if times > 1] == []


def test_every_file_is_rendered_somewhere():
    """A component that no target has would not be looked at."""
    used, waiting = set(), [KUBERNETES / name for names in TARGETS.values() for name in names]
    while waiting:
        folder = waiting.pop().resolve()
        made = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
        used.add(folder / "kustomization.yaml")
        patches = [one["path"] for one in made.get("patches", []) if "path" in one]
        for name in [*made.get("resources", []), *made.get("components", []), *patches]:
            path = folder / name
            waiting.append(path) if path.is_dir() else used.add(path.resolve())
        for one in made.get("configMapGenerator", []):
            used |= {(folder / name).resolve() for name in one.get("files", [])}
    assert sorted(path for path in KUBERNETES.rglob("*.yaml") if path.resolve() not in used) == []


WRONG = {
    "a probe misspelt": (
        "small",
        "StatefulSet",
        lambda it: pod(it)["containers"][0].update(livenesProbe=pod(it)["containers"][0]["livenessProbe"]),
    ),
    "a probe without period": (
        "small",
        "StatefulSet",
        lambda it: pod(it)["containers"][0]["livenessProbe"].update(periodSeconds="often"),
    ),
    "an operation that Kafka does not know": (
        "production",
        "KafkaUser",
        lambda it: it["spec"]["authorization"]["acls"][0].update(operations=["Reed"]),
    ),
    "a field of topics that Strimzi does not know": (
        "production",
        "KafkaTopic",
        lambda it: it["spec"].update(partition=3),
    ),
    "no partition": ("production", "KafkaTopic", lambda it: it["spec"].update(partitions=0)),
    "a version before": ("production", "KafkaTopic", lambda it: it.update(apiVersion="kafka.strimzi.io/v1beta2")),
    "a scheme that nobody scrapes by": (
        "production",
        "PodMonitor",
        lambda it: it["spec"]["podMetricsEndpoints"][0].update(scheme="ftp"),
    ),
    "an alert in a rule's place": (
        "production",
        "PrometheusRule",
        lambda it: it["spec"]["groups"][0]["rules"][0].update(alerts="FaustAnomalyDown"),
    ),
    "a trigger without type": ("keda", "ScaledObject", lambda it: it["spec"]["triggers"][0].pop("type")),
    "a fallback that KEDA does not know": (
        "keda",
        "ScaledObject",
        lambda it: it["spec"]["fallback"].update(behavior="hope"),
    ),
    "a certificate of nobody": (
        "small with monitoring and certificate",
        "Certificate",
        lambda it: it["spec"].pop("issuerRef"),
    ),
    "a budget of two kinds": ("small", "PodDisruptionBudget", lambda it: it["spec"].update(maxUnavailabel=1)),
}


def pod(workload):
    return workload["spec"]["template"]["spec"]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_server_would_refuse_is_found(wrong):
    target, kind, change = WRONG[wrong]
    resource = copy.deepcopy(of_kind(rendered(target), kind)[0])
    assert not invalid(resource)
    change(resource)
    assert invalid(resource)


def test_a_component_of_which_a_file_is_missing_is_found(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(ValueError, match=r"missing\.yaml"):
        kustomize(tmp_path)


# --- what a container may, and how much it takes


def too_free(one: Container):
    """What the Pod Security Standard "restricted", or we, do not allow."""
    spec, own = one.pod["spec"], one.spec.get("securityContext", {})
    both = spec.get("securityContext", {}) | own
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += ["a volume of the node" for volume in spec["volumes"] if "hostPath" in volume]
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
              "runAsUser": 65532, "runAsGroup": 65532, "capabilities": {"drop": ["ALL"]},
              "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
    found += [key for key, value in wanted.items() if both.get(key) != value]
    found += ["privileged"] if both.get("privileged") else []
    found += ["a token of the cluster"] if spec.get("automountServiceAccountToken") is not False else []
    found += ["variables of services"] if spec.get("enableServiceLinks") is not False else []
    return found


@every_target
def test_no_container_may_more_than_it_needs(target):
    assert {one.spec["name"]: free for one in every_container(target) if (free := too_free(one))} == {}
    [namespace] = of_kind(rendered(target), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("change", [
    lambda one: one.spec["securityContext"].pop("readOnlyRootFilesystem"),
    lambda one: one.spec["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["NET_RAW"]}),
    lambda one: one.pod["spec"]["securityContext"].update(runAsUser=0),
    lambda one: one.pod["spec"]["securityContext"].pop("seccompProfile"),
    lambda one: one.pod["spec"].update(hostNetwork=True),
    lambda one: one.pod["spec"].pop("enableServiceLinks"),
])  # fmt: skip
def test_a_container_that_may_more_is_found(change):
    one = next(containers(copy.deepcopy(rendered("small"))))
    assert not too_free(one)
    change(one)
    assert too_free(one)


@every_target
def test_every_container_and_every_writable_folder_is_bounded(target):
    for one in every_container(target):
        assert {(of, what) for of, each in one.spec["resources"].items() for what in each} == {
            ("requests", "cpu"), ("requests", "memory"), ("limits", "cpu"), ("limits", "memory")
        }  # fmt: skip
        folders = [volume["emptyDir"] for volume in one.pod["spec"]["volumes"] if "emptyDir" in volume]
        assert folders and all(folder.get("sizeLimit") for folder in folders)


@every_target
def test_every_container_can_write_where_the_program_does(target):
    for one in every_container(target):
        volumes = {volume["name"]: volume for volume in one.pod["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in one.spec["volumeMounts"]}
        needed = {"/tmp", "/var/cache/faust-anomaly"}
        if one.component == "alerter" and "ANOMALY_STORAGE__URL_FILE" not in one.environment():
            needed.add(f"{one.environment()['XDG_STATE_HOME']}/faust-anomaly")
        assert {path for path in needed if "emptyDir" not in mounts.get(path, {})} == set()


# --- what a container is given


@every_target
def test_no_secret_is_in_the_tree(target):
    """Only by the name of a Secret that somebody else makes, and by file."""
    assert of_kind(rendered(target), "Secret") == []
    for one in every_container(target):
        assert SECRETS.keys() & one.environment().keys() == set()
        assert not re.search(
            r"(?m)^\s*(sasl_password|url|token|webhook_url):", one.file("/etc/faust-anomaly/anomaly.yaml")
        )


@every_target
def test_what_pods_refer_to_exists_or_is_made_by_who_deploys(target):
    maps = {one["metadata"]["name"]: one for one in of_kind(rendered(target), "ConfigMap")}
    for one in every_container(target):
        for volume in one.pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            for secret in [
                volume.get("secret"),
                *(each["secret"] for each in volume.get("projected", {}).get("sources", [])),
            ]:
                if secret:
                    name = secret.get("secretName") or secret["name"]
                    assert f"`{name}`" in DOCUMENT, f"docs/deployment.md does not say how the Secret {name} is made"
                    for item in secret["items"]:
                        assert f"`{item['key']}`" in DOCUMENT
        mounted = [mount["mountPath"] for mount in one.spec["volumeMounts"]]
        files = [value for name, value in one.environment().items() if name.endswith(("_FILE", "_CONFIG", "_CAFILE"))]
        assert [path for path in files if not any(path.startswith(f"{folder}/") for folder in mounted)] == []
    # A name that changes with the content: pods start again with what they are to read.
    assert all(re.fullmatch(r".*-[a-z0-9]{10}", name) for name in maps)


@every_target
def test_settings_load_and_nobody_listens_who_should_not(target):
    for one in every_container(target):
        settings = one.settings(SECRETS)
        exposure.check(settings)
        # Of workers only probes and metrics; what people see and decide is the alerter's.
        assert settings.dashboard.enabled == settings.alerting.enabled == (one.component == "alerter")
        assert bool(settings.api.tokens_file) == (one.component == "alerter")
        assert (settings.kafka.group_instance_id is not None) == (one.component == "worker")
        ports = {port["name"]: port["containerPort"] for port in one.spec.get("ports", [])}
        assert ports.get("http", settings.dashboard.port) == settings.dashboard.port


@every_target
def test_commands_are_those_of_the_program(target):
    for one in every_container(target):
        name, *options = one.spec["args"]
        assert name in COMMANDS and "command" not in one.spec, "the image has the entry point"
        command = main.get_command(None, name)
        command.make_parser(command.make_context(name, [], resilient_parsing=True)).parse_args(options)
        assert one.spec["image"].split("/")[-1] == f"faust-anomaly:{__version__}"
        assert one.pod["metadata"]["labels"]["app.kubernetes.io/version"] == __version__


# --- who finds whom


@every_target
def test_selectors_match_pods(target):
    resources = rendered(target)
    pods = [
        one["spec"]["template"]["metadata"]["labels"] for one in of_kind(resources, "StatefulSet", "Deployment", "Job")
    ]

    def matched(selector):
        return [labels for labels in pods if selector.items() <= labels.items()]

    for one in of_kind(resources, "StatefulSet", "Deployment"):
        assert matched(one["spec"]["selector"]["matchLabels"]) == [one["spec"]["template"]["metadata"]["labels"]]
        for spread in one["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"] == one["spec"]["selector"]
    for one in of_kind(resources, "PodDisruptionBudget", "PodMonitor"):
        assert len(matched(one["spec"]["selector"]["matchLabels"])) == 1
    for one in of_kind(resources, "Service"):
        assert len(matched(one["spec"]["selector"])) == 1
    for one in of_kind(resources, "NetworkPolicy"):
        assert matched(one["spec"]["podSelector"].get("matchLabels", {}))


@every_target
def test_ports_are_known_by_their_names(target):
    resources = rendered(target)
    for one, _ in main_containers(target):
        names = {port["name"] for port in one.spec["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert one.spec[probe]["httpGet"]["port"] in names
    assert {port["targetPort"] for one in of_kind(resources, "Service") for port in one["spec"]["ports"]} == {"http"}
    for one in of_kind(resources, "PodMonitor"):
        assert [endpoint["port"] for endpoint in one["spec"]["podMetricsEndpoints"]] == ["http"]
    [workers] = of_kind(resources, "StatefulSet")
    assert named(resources, "Service", workers["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    for ingress in of_kind(resources, "Ingress"):
        [host] = ingress["spec"]["tls"][0]["hosts"]
        assert [rule["host"] for rule in ingress["spec"]["rules"]] == [host]
        assert all(host in settings.dashboard.allowed_hosts for _, settings in main_containers(target))


IN_KUBE, KAFKA, MONITORING = "kube-system", "kafka", "monitoring"
ALL = ("worker", "alerter")
OPEN = {("alerter", "to", "outside", port) for port in (443, 465, 587)}
ALWAYS = {(who, "to", IN_KUBE, 53) for who in ALL} | OPEN
SCRAPED = {(who, "from", MONITORING, 8000) for who in ALL}
FLOWS = {
    "small": ALWAYS | {(who, "to", KAFKA, 9092) for who in ("topics", *ALL)} | {("topics", "to", IN_KUBE, 53)},
    "production": ALWAYS | SCRAPED | {(who, "to", KAFKA, 9093) for who in ALL}
    | {("alerter", "to", "postgresql", 5432), ("alerter", "from", "ingress", 8000)},
}  # fmt: skip
FLOWS["keda"] = FLOWS["hpa"] = FLOWS["production"]
FLOWS["small with hpa"] = FLOWS["small"]
FLOWS["small with monitoring and certificate"] = (
    FLOWS["small"] | SCRAPED | {("topics", "from", MONITORING, 8000), ("alerter", "from", "anywhere", 8000)}
)


def flows(resources):
    """(component, "to" or "from", namespace or "outside" or "anywhere", port) of all that is let through."""
    found = set()
    components = {one.component: one.pod["metadata"]["labels"] for one in containers(resources)}
    for policy in of_kind(resources, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"].get("matchLabels", {})
        for way, key, peers in (("to", "egress", "to"), ("from", "ingress", "from")):
            for rule in policy["spec"].get(key, []):
                others = {_peer(peer) for peer in rule.get(peers, [{}])}
                ports = {8000 if port["port"] == "http" else port["port"] for port in rule["ports"]}
                who = [name for name, labels in components.items() if selector.items() <= labels.items()]
                found |= {(one, way, other, port) for one in who for other in others for port in ports}
    return found


def _peer(peer):
    if "ipBlock" in peer:
        private = ("10.0.0.0/8", "fc00::/7")
        assert any(network in peer["ipBlock"]["except"] for network in private)
        return "outside"
    return peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] if peer else "anywhere"


@every_target
def test_pods_reach_and_are_reached_by_who_is_needed_only(target):
    resources = rendered(target)
    assert flows(resources) == FLOWS[target]
    nothing = named(resources, "NetworkPolicy", "nothing")["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("name, way, rule", [
    ("kafka", "egress", {"to": [{"ipBlock": {"except": ["10.0.0.0/8"]}}], "ports": [{"port": 80}]}),
    ("names", "ingress", {"ports": [{"port": "http"}]}),
])  # fmt: skip
def test_a_way_too_many_is_found(name, way, rule):
    resources = copy.deepcopy(rendered("small"))
    named(resources, "NetworkPolicy", name)["spec"].setdefault(way, []).append(rule)
    assert flows(resources) > FLOWS["small"]


@every_target
def test_kafka_and_the_database_are_asked_at_ports_that_are_let_through(target):
    for one in every_container(target):
        settings = one.settings(SECRETS)
        for server in settings.kafka.bootstrap_servers:
            host, port = server.rsplit(":", 1)
            assert (one.component, "to", host.split(".")[1], int(port)) in FLOWS[target]


@cache
def rules_of_files():
    files = [yaml.load(path.read_text("utf-8"), yaml.CSafeLoader) for path in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@every_target
def test_all_rules_are_there_where_pods_are_scraped(target):
    resources = rendered(target)
    made = [
        rule
        for one in of_kind(resources, "PrometheusRule")
        for group in one["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert made == (rules_of_files() if of_kind(resources, "PodMonitor") else [])
    for one in of_kind(resources, "PodMonitor"):
        [endpoint] = one["spec"]["podMetricsEndpoints"]
        labels = {of["targetLabel"]: of.get("replacement") or of["sourceLabels"] for of in endpoint["relabelings"]}
        component = ["__meta_kubernetes_pod_label_app_kubernetes_io_component"]
        assert labels == {"job": "faust-anomaly", "component": component}


# --- how long, and how many


def seconds(probe):
    return probe["periodSeconds"] * probe["failureThreshold"]


@every_target
def test_probes_wait_as_long_as_what_they_ask_for_takes(target):
    for one, settings in main_containers(target):
        start, live, ready = (one.spec[f"{name}Probe"] for name in ("startup", "liveness", "readiness"))
        tls = "HTTPS" if settings.api.tls_certificate_file else None
        assert {probe["httpGet"].get("scheme") for probe in (start, live, ready)} == {tls}
        assert [probe["httpGet"]["path"] for probe in (start, live, ready)] == ["/livez", "/livez", "/readyz"]
        assert seconds(start) >= 180  # everything compiled anew, on a quarter of a core
        assert seconds(live) >= 60  # a blocked loop: the worker ends itself first (docs/operations.md)
        assert one.pod["spec"]["terminationGracePeriodSeconds"] > settings.kafka.session_timeout_s + 5


@every_target
def test_a_worker_is_back_before_the_group_has_replaced_it(target):
    """A stop and a start, measured by `python -m tests.deploy.kubernetes`, take less than half of it."""
    assert {settings.kafka.session_timeout_s for _, settings in main_containers(target)} == {45.0}


@every_target
def test_there_are_never_more_workers_than_partitions(target):
    resources = rendered(target)
    made = [
        one["spec"]["partitions"] for one in of_kind(resources, "KafkaTopic") if one["metadata"]["name"] == "raw-data"
    ]
    jobs = [one.spec["args"] for one in every_container(target) if one.component == "topics"]
    [partitions] = made + [int(args[args.index("--partitions") + 1]) for args in jobs]
    [workers] = of_kind(resources, "StatefulSet")
    scalers = of_kind(resources, "ScaledObject", "HorizontalPodAutoscaler")
    if not scalers:
        assert partitions % workers["spec"]["replicas"] == 0
        return
    [spec] = [one["spec"] for one in scalers]
    assert "replicas" not in workers["spec"], "every `kubectl apply` would take it back to that"
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": workers["metadata"]["name"],
    }
    lowest = spec.get("minReplicas", spec.get("minReplicaCount"))
    highest = spec.get("maxReplicas", spec.get("maxReplicaCount"))
    assert 1 <= lowest <= highest <= partitions
    behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert [behavior[way]["policies"] for way in ("scaleUp", "scaleDown")] == [[STEP], [STEP]]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


@every_target
def test_one_pod_at_a_time_may_be_taken_away(target):
    budgets = of_kind(rendered(target), "PodDisruptionBudget")
    assert [one["spec"]["maxUnavailable"] for one in budgets] == [1, 1]
    assert {one["spec"]["unhealthyPodEvictionPolicy"] for one in budgets} == {"AlwaysAllow"}


# --- what Kafka must have and allow


@every_target
def test_users_may_what_their_pods_ask_for_and_nothing_more(target):
    users = of_kind(rendered(target), "KafkaUser")
    for one, settings in main_containers(target) if users else ():
        [spec] = [user["spec"] for user in users if user["metadata"]["name"] == settings.kafka.sasl_username]
        allowed = [
            (operation, rule["resource"]["type"], rule["resource"]["name"])
            for rule in spec["authorization"]["acls"]
            for operation in rule["operations"]
        ]
        kafka = settings.kafka
        needed = permissions.of_worker(settings) if one.component == "worker" else permissions.of_alerter(kafka)
        if one.component == "alerter":
            needed = [*needed, *permissions.of_deciders(kafka), *permissions.of_posts(kafka.input_topic)]
        assert Counter(allowed) == Counter({right[:3] for right in needed})
        assert {rule["resource"]["patternType"] for rule in spec["authorization"]["acls"]} == {"literal"}
        assert spec["authentication"]["type"].upper() == kafka.sasl_mechanism


@every_target
def test_topics_are_such_that_a_worker_starts_without_a_doubt(target):
    made = of_kind(rendered(target), "KafkaTopic")
    found = {
        one["spec"].get("topicName", one["metadata"]["name"]): Topic(
            one["spec"]["partitions"],
            {key: str(value) for key, value in one["spec"]["config"].items()},
            copies=one["spec"]["replicas"],
        )
        for one in made
    }
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", one["metadata"]["name"]) for one in made)
    for _, settings in main_containers(target) if made else ():
        assert set(found) == set(topics.names(settings.kafka))
        assert topics.problems(settings.kafka, found, 0) == topics.doubts(settings.kafka, found) == []
