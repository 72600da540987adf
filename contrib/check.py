#!/usr/bin/python3
"""Holds contrib/ and docs/operate.md to what rateway really has: metrics, settings, and what Kubernetes asks of a manifest.

    contrib/check.py        prints what is wrong, and ends with status 1 if anything is

Metrics are those in the table of docs/metrics.md, settings those in the tables of README.md; both tables are printed from
the code. Needs python3-yaml.
"""

import json
import os
import re
import sys

try:
    import yaml
except ImportError:
    sys.exit("check: python3-yaml is missing: contrib/install.sh yaml")

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
problems = []
MANIFESTS = "contrib/kubernetes"
UNITS = ["contrib/rateway.service", "contrib/rateway-queue.service"]


def problem(place, what):
    problems.append(f"{place}: {what}")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        problem(path, error.strerror)
        return ""


# What there is.


def known_metrics():
    """Names of series in docs/metrics.md, with those that a histogram has; None without the file."""
    if not os.path.exists("docs/metrics.md"):
        problem("docs/metrics.md", "is missing, so no name of a metric can be checked")
        return None
    names = set()
    for name, kind in re.findall(r"^\| `(rateway_\w+)` \| (\w+) \|", read("docs/metrics.md"), re.M):
        names.update(f"{name}_{part}" for part in ("bucket", "sum", "count")) if kind == "histogram" else names.add(name)
    if not names:
        problem("docs/metrics.md", "has no table of metrics")
    return names


def known_settings():
    """Settings in README.md's tables, with the variables that name files; and their defaults."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| `[\w.]+` \| (.*?) \| .* \|$", read("README.md"), re.M)
    names = {name for name, _ in rows} | set(re.findall(r"`([A-Z_]+_FILE)` \(`[\w.]+`\)", read("README.md")))
    if not rows:
        problem("README.md", "has no table of settings")
    return names, {name: default.strip("`") for name, default in rows}


METRICS = known_metrics()
SETTINGS, DEFAULTS = known_settings()


def check_metrics(place, text, is_prose=False):
    for name in sorted(set(re.findall(r"\brateway_[a-z_]+", text))) if METRICS else []:
        # A histogram has a name only where people read it.
        if name not in METRICS and not (is_prose and f"{name}_bucket" in METRICS):
            problem(place, f"{name} is no metric in docs/metrics.md")


def check_setting(place, name):
    if name not in SETTINGS:
        problem(place, f"{name} is no setting in README.md")


def size(text):
    """Bytes of `64MiB`, as rateway writes it, or `64Mi`, as Kubernetes does."""
    number, unit = re.fullmatch(r"(\d+) ?(\w*)", text).groups()
    steps = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return int(number) * steps[unit]


# The dashboard and the rules.


def check_dashboard(path):
    try:
        board = json.loads(read(path))
    except ValueError as error:
        return problem(path, f"no JSON: {error}")
    variables = {variable["name"] for variable in board["templating"]["list"]}
    panels = board["panels"] + [inner for panel in board["panels"] for inner in panel.get("panels", [])]
    numbers = [panel["id"] for panel in panels]
    if len(set(numbers)) != len(numbers):
        problem(path, "two panels have the same id")
    for panel in panels:
        place = f"{path}: {panel['title']!r}"
        if panel["type"] == "row":
            continue
        if not panel.get("targets"):
            problem(place, "asks for nothing")
        for target in panel.get("targets", []):
            check_expression(place, target["expr"])
            if target["datasource"]["uid"] != "${datasource}":
                problem(place, "has a data source of its own")
            for used in re.findall(r"\$(\w+)", target["expr"]):
                if used not in variables and not used.startswith("__"):
                    problem(place, f"${used} is no variable of the dashboard")
    for variable in board["templating"]["list"]:
        query = json.dumps(variable["query"])
        check_metrics(path, query)
        for used in set(re.findall(r"\$(\w+)", query)) - variables:
            problem(path, f"${used} is no variable of the dashboard")


def check_expression(place, text):
    check_metrics(place, text)
    for opening, closing in ("()", "[]", "{}"):
        if text.count(opening) != text.count(closing):
            problem(place, f"{opening} and {closing} are not as many in {text}")
    if not re.search(r"rateway_|\bup\b", text):
        problem(place, f"asks for no metric: {text}")


def documents(path):
    try:
        return [document for document in yaml.safe_load_all(read(path)) if document]
    except yaml.YAMLError as error:
        problem(path, f"no YAML: {error}")
        return []


def check_rules(path):
    seen = set()
    for document in documents(path):
        for rule in [rule for group in document["groups"] for rule in group["rules"]]:
            place = f"{path}: {rule['alert']}"
            check_expression(place, rule["expr"])
            if rule["alert"] in seen:
                problem(place, "is there twice")
            seen.add(rule["alert"])
            for key in ("summary", "description"):
                if not rule.get("annotations", {}).get(key):
                    problem(place, f"has no {key}")
            if not rule.get("labels", {}).get("severity"):
                problem(place, "has no severity")


# Kubernetes.


def lacks(place, thing, *paths):
    """Says which of the dotted paths `thing` has nothing at."""
    for path in paths:
        at = thing
        for key in path.split("."):
            at = at.get(key) if isinstance(at, dict) else None
        if at is None or at in ("", [], {}):
            problem(place, f"has no {path}")


def environment(container):
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}


def check_container(place, container, pod, claims):
    probes = ["livenessProbe.httpGet", "readinessProbe.httpGet"]
    lacks(place, container, "name", "image", "resources.requests", "resources.limits.memory", *probes)
    variables = environment(container)
    helpers = {name for value in variables.values() for name in re.findall(r"\$\((\w+)\)", value or "")}
    for name in variables:
        if name not in helpers:
            check_setting(place, name)
    order = list(variables)
    for name, value in variables.items():
        for helper in re.findall(r"\$\((\w+)\)", value or ""):
            if helper not in order[: order.index(name)]:
                problem(place, f"{name} uses {helper}, which is not set before it")
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for probe in ("livenessProbe", "readinessProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        if port not in ports:
            problem(place, f"{probe} asks at {port}, which is no port of the container")
    listens = variables.get("ADMIN_PORT" if container.get("args") == ["queue"] else "HTTP_ADDR") or "nowhere"
    if not any(listens == f"0.0.0.0:{port}" for port in ports.values()):
        problem(place, f"probes come from outside, and it listens on {listens}")
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("readOnlyRootFilesystem") is not True:
        problem(place, "may do more than it has to")
    volumes = {volume["name"] for volume in pod.get("volumes", [])} | set(claims)
    mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
    for name in mounts.values():
        if name not in volumes:
            problem(place, f"mounts {name}, which is no volume")
    if variables.get("STATE_DIR") not in mounts:
        problem(place, "STATE_DIR is on no volume")
    for name, value in variables.items():
        if name.endswith("_FILE") and os.path.dirname(value or "") not in mounts:
            problem(place, f"{name} is on no volume")


def check_gateway(place, spec, services):
    """What has to fit together in the gateway's StatefulSet."""
    container = spec["template"]["spec"]["containers"][0]
    variables = environment(container)
    value = lambda name: variables.get(name) or DEFAULTS.get(name, "")
    shards, per_cluster = int(value("SHARD_COUNT")), int(value("SHARDS_PER_CLUSTER"))
    if spec["replicas"] != -(-shards // per_cluster):
        problem(place, f"{shards} shards by {per_cluster} are not {spec['replicas']} clusters")
    if spec.get("ordinals", {}).get("start") != 1:
        problem(place, "clusters are counted from 1, and its pods are not")
    if "DISCORD_TOKEN" in variables or "AMQP_URI" in variables:
        problem(place, "a secret is in the environment")
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in spec.get("volumeClaimTemplates", [])}
    for claim in claims.values():
        disk = size(claim["resources"]["requests"]["storage"])
        if disk < size(value("CACHE_MEMORY")) + size(value("SPOOL_SIZE")):
            problem(place, "CACHE_MEMORY and SPOOL_SIZE do not fit on its volume")
    memory = size(container["resources"]["limits"]["memory"])
    if memory < size(value("CACHE_MEMORY")) + size(value("OUTBOX_MEMORY")) * 5 // 4:
        problem(place, "CACHE_MEMORY and OUTBOX_MEMORY do not fit in its memory")
    host, port = re.match(r"http://([\w-]+):(\d+)/", value("QUEUE_URL")).groups()
    ports = [entry["port"] for entry in services.get(host, {}).get("ports", [])]
    if int(port) not in ports:
        problem(place, f"QUEUE_URL names {host}:{port}, which no Service has")
    if services.get(spec["serviceName"], {}).get("clusterIP") != "None":
        problem(place, f"serviceName {spec['serviceName']} is no Service without a clusterIP")


def check_manifests(folder):
    things = []
    names = sorted(name for name in os.listdir(folder) if name.endswith(".yaml"))
    for name in names:
        path = f"{folder}/{name}"
        found = documents(path)
        if name == "kustomization.yaml":
            for resource in found[0]["resources"] if found else []:
                if resource not in names or resource == "secret.yaml":
                    problem(path, f"{resource} does not belong there")
            continue
        things += [(f"{path}: {thing.get('kind')}", thing) for thing in found]
    services = {thing["metadata"]["name"]: thing["spec"] for _, thing in things if thing.get("kind") == "Service"}
    pods, secrets = [], {}
    for place, thing in things:
        lacks(place, thing, "apiVersion", "kind", "metadata.name")
        if "namespace" in thing.get("metadata", {}):
            problem(place, "names a namespace")
        if thing["kind"] == "Secret":
            secrets[thing["metadata"]["name"]] = set(thing["stringData"])
        if thing["kind"] not in ("Deployment", "StatefulSet"):
            continue
        spec = thing["spec"]
        lacks(place, spec, "replicas", "selector.matchLabels", "template.metadata.labels", "template.spec.containers")
        labels, pod = spec["template"]["metadata"]["labels"], spec["template"]["spec"]
        pods.append(labels)
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            problem(place, "its selector does not fit its pods")
        lacks(place, pod, "terminationGracePeriodSeconds", "securityContext.runAsUser", "securityContext.fsGroup")
        if pod.get("securityContext", {}).get("runAsNonRoot") is not True:
            problem(place, "may run as root")
        if pod["terminationGracePeriodSeconds"] * 1000 <= int(DEFAULTS.get("STOP_TIMEOUT_MS", 0)):
            problem(place, "is killed before STOP_TIMEOUT_MS is over")
        claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
        for container in pod["containers"]:
            check_container(f"{place} {container.get('name')}", container, pod, claims)
        if thing["kind"] == "StatefulSet":
            lacks(place, spec, "serviceName", "podManagementPolicy", "volumeClaimTemplates")
            check_gateway(place, spec, services)
        elif spec["replicas"] != 1 or spec.get("strategy", {}).get("type") != "Recreate":
            problem(place, "there must never be two queues")
    for place, thing in things:
        selector = thing.get("spec", {}).get("selector", {})
        selector = selector.get("matchLabels", {}) if thing["kind"] != "Service" else selector
        if thing["kind"] in ("Service", "PodDisruptionBudget") and not any(
            selector and selector.items() <= labels.items() for labels in pods
        ):
            problem(place, "selects no pod")
        for volume in thing.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", []):
            if "secret" in volume and volume["secret"]["secretName"] not in secrets:
                problem(place, f"the Secret {volume['secret']['secretName']} is nowhere shown")
    for wanted in ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "Secret"):
        if not any(thing["kind"] == wanted for _, thing in things):
            problem(folder, f"has no {wanted}")


# systemd, the image, the guide.


def check_unit(path):
    text = read(path)
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    for name in re.findall(r"^#?Environment=([A-Z_]+)=", text, re.M):
        check_setting(path, name)
    credentials = set(re.findall(r"^#?LoadCredential=(\w+):", text, re.M))
    for name in re.findall(r"=%d/(\w+)$", text, re.M):
        if name not in credentials:
            problem(path, f"%d/{name} is no credential of the unit")
    for name in ("ExecStart", "StateDirectory", "DynamicUser", "LimitNOFILE", "RestartSec", "RestartPreventExitStatus"):
        if name not in settings:
            problem(path, f"has no {name}")
    stop = re.fullmatch(r"(\d+)s", settings.get("TimeoutStopSec", ""))
    if not stop or int(stop[1]) * 1000 <= int(DEFAULTS.get("STOP_TIMEOUT_MS", 0)):
        problem(path, "TimeoutStopSec is not longer than STOP_TIMEOUT_MS")


def check_image(path):
    text = read(path)
    for name in re.findall(r"^ENV (\w+)=", text, re.M) + re.findall(r"-e ([A-Z_]+)=", text):
        check_setting(path, name)
    for line in ("FROM scratch", "STOPSIGNAL SIGTERM"):
        if not re.search(f"^{line}$", text, re.M):
            problem(path, f"has no {line}")
    user = re.search(r"^USER (\d+)", text, re.M)
    if not user or int(user[1]) == 0:
        problem(path, "does not name a user by number")


def check_guide(path):
    text = read(path)
    check_metrics(path, text, is_prose=True)
    intents = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", read("src/gateway/intents.rs")))
    # A setting is written as `NAME` or `NAME=value`, and in shell lines as NAME=value.
    written = re.findall(r"`([A-Z][A-Z_]+_[A-Z_]+)(?:=[^`]*)?`", text)
    for name in sorted(set(written + re.findall(r"(?:^|\s)([A-Z][A-Z_]{3,})=", text))):
        if not name.startswith("RATEWAY_") and name not in intents:
            check_setting(path, name)
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        if not os.path.exists(os.path.join(os.path.dirname(path), link)):
            problem(path, f"{link} is not there")
    anchors = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
    for anchor in re.findall(r"\]\(#([^)]*)\)", text):
        if anchor not in anchors:
            problem(path, f"#{anchor} is no heading")


check_dashboard("contrib/grafana.json")
check_rules("contrib/alerts.yaml")
check_manifests(MANIFESTS)
for unit in UNITS:
    check_unit(unit)
check_image("contrib/Dockerfile")
check_guide("docs/operate.md")

for line in problems:
    print(f"check: {line}", file=sys.stderr)
sys.exit(1 if problems else 0)
