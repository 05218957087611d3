"""The files of deploy/ are what their tools take, say what the program takes, and give nobody a password."""

import os
import re
import shutil
import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prometheus_tools import promtool

from otel_analytics import settings
from otel_analytics._version import __version__

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
INSTALLED = "/opt/otel-analytics/bin/otel-analytics"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SCRIPTS = [
    path
    for folder in (DEPLOY, ROOT / "scripts", ROOT / ".ci")
    for path in sorted(folder.rglob("*"))
    if path.is_file() and re.match(rb"#!.*sh\b", path.read_bytes())
]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:[?-])([^}]*))?\}")
FULL_VERSION = re.compile(r"[\w./-]+:v?\d+\.\d+(?:\.\d+)?(?:-[\w.-]+)?(?:@sha256:[0-9a-f]{64})?")
OURS = ("app", "worker", "migrate", "ask")
RUN_ONCE = ("migrate", "ask")
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE_TEXT)["services"]


def passes(*command, cwd=ROOT):
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def systemd_analyze(*arguments):
    """What it says; without it the test is skipped, but fails where REQUIRE_SYSTEMD is set."""
    program = shutil.which("systemd-analyze")
    if program is None:
        message = "no systemd-analyze here; to have it, run: scripts/install-debian-packages"
        if os.environ.get("REQUIRE_SYSTEMD"):
            pytest.fail(message)
        pytest.skip(message)
    return passes(program, *arguments)


def manifests(folder):
    """The objects of each file of a folder, by the name of the file."""
    return {path.name: list(yaml.safe_load_all(path.read_text())) for path in sorted(folder.glob("*.yaml"))}


def walk(value, path=()):
    """Every leaf of a document with the keys that lead to it."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(each, (*path, key))
    else:
        yield path, value


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """What `make-env` writes: names and values."""
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("make-env", ".env.example"):
        shutil.copy(DEPLOY / name, folder)
    passes(folder / "make-env", cwd=folder)
    file = folder / ".env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    again = subprocess.run([folder / "make-env"], cwd=folder, capture_output=True, text=True, check=False)
    assert (again.returncode, file.read_text()) == (1, text)
    assert "nothing was changed" in again.stderr
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_nothing_that_shellcheck_warns_of(script):
    passes(BIN / "shellcheck", script)
    assert script.stat().st_mode & stat.S_IXUSR


def test_the_dockerfile_passes_hadolint():
    passes(BIN / "hadolint", DEPLOY / "Dockerfile")


def test_the_image_is_built_from_what_the_build_is_given():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()
    }
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == given
    assert all((ROOT / name).exists() for name in copied)
    bases = [base for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE) if ":" in base]
    assert bases
    assert all(FULL_VERSION.fullmatch(base) for base in bases)
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)


def test_the_compose_file_is_one():
    passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_compose_file_refuses_to_start_without_a_secret(secrets):
    used = {(name, mode) for name, mode, _ in VARIABLE.findall(COMPOSE_TEXT)}
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert used == {(name, ":-" if value else ":?") for name, value in example.items()}
    generated = [secrets[name] for name, value in example.items() if not value]
    assert len(set(generated)) == len(generated)
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in generated)


def test_no_file_holds_a_password():
    for path, value in walk(SERVICES):
        text = str(value)
        if re.search(r"PASSWORD|KEY", str(path[-1])):
            assert VARIABLE.fullmatch(text), path
        for password in re.findall(r"\w+://[^:/@\s]+:(.*?)@", text):
            assert VARIABLE.fullmatch(password), path
    for name, objects in manifests(DEPLOY / "kubernetes").items():
        assert "Secret" not in [each["kind"] for each in objects], name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_confined_and_watched(name):
    service = SERVICES[name]
    assert FULL_VERSION.fullmatch(service["image"])
    if "build" in service:
        assert service["image"].rpartition(":")[2] == __version__
    assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    if name in RUN_ONCE:
        assert (service["restart"], service["healthcheck"]) == ("no", {"disable": True})
    else:
        assert service["restart"] == "unless-stopped"
        # That of the worker stands in the Dockerfile.
        assert "test" in service.get("healthcheck", {}) or name == "worker"


def test_only_the_application_and_grafana_are_published_and_to_this_machine_alone():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"app", "grafana"}
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_what_is_mounted_is_there():
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [volume for volume in volumes if volume.startswith(".")]
    assert files
    for source, _, mode in (volume.split(":") for volume in files):
        assert (DEPLOY / source).exists(), source
        assert mode == "ro"


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_settings_that_exist(name, secrets):
    given = {
        variable: VARIABLE.sub(lambda match: secrets[match[1]], value)
        for variable, value in SERVICES[name]["environment"].items()
    }
    loaded = settings.load(environ=given)
    assert loaded.postgres_dsn != settings.Settings().postgres_dsn


def test_services_of_others_are_given_no_settings(secrets):
    for name in SERVICES.keys() - set(OURS):
        ours = {
            variable
            for variable in SERVICES[name].get("environment", {})
            if variable.startswith(settings.ENV_PREFIX)
        }
        assert ours <= secrets.keys(), name


def test_every_command_is_one():
    commands = {
        *(SERVICES[name]["command"][0] for name in OURS if name != "app"),
        *(re.search(rf"^ExecStart={INSTALLED} (\w+)$", unit.read_text(), re.MULTILINE)[1] for unit in UNITS),
        *(container["args"][0] for container in containers()),
    }
    assert commands == {"worker", "migrate", "doctor"}
    for command in commands:
        passes(BIN / "otel-analytics", command, "--help")
    module, _, factory = SERVICES["app"]["command"][1].partition(":")
    assert callable(getattr(import_module(module), factory))


def test_prometheus_is_told_the_same_in_the_containers_as_outside_of_them():
    for path in ("prometheus.yml", "deploy/prometheus/prometheus.yml"):
        promtool("check", "config", path)
    outside = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    inside = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert inside["global"] == outside["global"]
    assert [f"deploy/prometheus/{each}" for each in inside["rule_files"]] == outside["rule_files"]
    jobs = [[job["job_name"] for job in config["scrape_configs"]] for config in (inside, outside)]
    assert jobs[0] == jobs[1]


def test_grafana_is_given_what_its_data_sources_and_dashboards_need():
    grafana = SERVICES["grafana"]
    provisioning = DEPLOY / "grafana/provisioning"
    sources = yaml.safe_load((provisioning / "datasources/otel-analytics.yml").read_text())
    wanted = {name for _, value in walk(sources) for name in re.findall(r"\$([A-Z]\w+)", str(value))}
    assert wanted - grafana["environment"].keys() == {"TRACES_UID"}  # for those who have traces
    dashboards = yaml.safe_load((provisioning / "dashboards/otel-analytics.yml").read_text())
    mounted = [volume.split(":")[1] for volume in grafana["volumes"]]
    assert all(each["options"]["path"] in mounted for each in dashboards["providers"])


@pytest.fixture
def units(tmp_path):
    """The units as they are installed, but for the place of the program."""
    for unit in UNITS:
        name = unit.name.replace("@.", "@9464.")
        text = unit.read_text()
        assert INSTALLED in text
        (tmp_path / name).write_text(text.replace(INSTALLED, str(BIN / "otel-analytics")))
    return sorted(tmp_path.iterdir())


def test_systemd_takes_the_units_and_finds_them_confined(units):
    assert systemd_analyze("verify", *units) == ""
    for unit in units:
        # Tenths of its scale from 0 to 10; what is left is that they talk to servers.
        systemd_analyze("security", "--offline=true", "--threshold=15", unit)


def test_the_units_name_settings_that_exist():
    for unit in UNITS:
        (line,) = re.findall(r"^Environment=(.*)$", unit.read_text(), re.MULTILINE)
        given = dict(each.split("=") for each in line.replace("%i", "9464").split())
        assert given.pop("OTEL_ANALYTICS_CONFIG") == "%d/otel-analytics.toml"
        settings.load(environ=given)


def containers():
    for objects in manifests(DEPLOY / "kubernetes").values():
        for each in objects:
            if each["kind"] in ("Deployment", "Job"):
                yield from each["spec"]["template"]["spec"]["containers"]


def test_kubernetes_takes_the_manifests():
    files = [DEPLOY / "kubernetes" / name for name in kustomization("kubernetes")["resources"]]
    said = passes(BIN / "kubernetes-validate", "--strict", *files)
    objects = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    assert said.count("passed") == len(objects)


def kustomization(folder):
    """That of a folder; it names every other file there."""
    found = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text())
    others = {path.name for path in (DEPLOY / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(found["resources"]) == others
    return found


def test_containers_in_kubernetes_run_our_image_with_settings_and_secrets_that_exist():
    (image,) = kustomization("kubernetes")["images"]
    assert image["newTag"] == __version__
    (config,) = manifests(DEPLOY / "kubernetes")["settings.yaml"]
    settings.load(environ=config["data"])
    page = (ROOT / "docs/deployment.md").read_text()
    for container in containers():
        assert container["image"] == image["name"]
        settings.load(environ={each["name"]: "" for each in container["env"]})
        for each in container["env"]:
            secret = each["valueFrom"]["secretKeyRef"]
            command = rf"create secret generic {secret['name']} [^`]*?--from-literal={secret['key']}="
            assert re.search(command, page), secret


def test_the_monitor_finds_the_metrics_of_the_workers():
    # The operator's kinds have no schema among those of Kubernetes.
    (monitor,) = manifests(DEPLOY / "kubernetes/monitoring")["service-monitor.yaml"]
    _, service = manifests(DEPLOY / "kubernetes")["worker.yaml"]
    outside = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["name"] == outside["scrape_configs"][1]["job_name"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert endpoint["interval"] == outside["global"]["scrape_interval"]


def test_the_operator_is_given_the_rules_of_prometheus(tmp_path):
    folder = DEPLOY / "kubernetes/monitoring"
    assert set(kustomization("kubernetes/monitoring")["resources"]) == {
        "service-monitor.yaml",
        "prometheus-rule.yaml",
    }
    made = passes(folder / "make-rules")
    command = "deploy/kubernetes/monitoring/make-rules > deploy/kubernetes/monitoring/prometheus-rule.yaml"
    assert (folder / "prometheus-rule.yaml").read_text() == made, f"run: {command}"
    rule = yaml.safe_load(made)
    groups = [
        group
        for file in sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == {"groups": groups}
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(rule["spec"]))
    promtool("check", "rules", rules)


def test_the_settings_files_on_the_page_can_be_used(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/deployment.md").read_text(), re.DOTALL)
    assert len(blocks) == len(UNITS)
    for block in blocks:
        file = tmp_path / "otel-analytics.toml"
        file.write_text(block)
        settings.load(environ={}, config_file=file)
