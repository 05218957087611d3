"""The topology of deploy/compose.yaml without Docker: its services as processes, from its own words.

Commands, environments, health checks and mounted files are those of the compose file. What the test changes
is where things are: addresses and paths. Grafana cannot run here; what it would connect with is tried
instead.
"""

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import yaml
from backend import raw_postgres, scalar
from deployment import DEPLOY, Redis, path_with_redis, process
from prometheus_tools import Server, program
from waiting import until

from otel_analytics.demo import traffic
from otel_analytics.embedded import postgres_server
from otel_analytics.embedded.process import HOST, free_port

SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([?-])([^}]*))?\})")
LIVE_SECONDS = 5
# Who may know what; the administrator's password stays with the server.
SECRETS = {
    "app": {"OTEL_ANALYTICS_REDIS_APP_PASSWORD", "OTEL_ANALYTICS_HASH_KEY", "SHOP_PASSWORD"},
    "worker": {"OTEL_ANALYTICS_REDIS_WORKER_PASSWORD", "OTEL_ANALYTICS_INGEST_PASSWORD"},
    "migrate": {"OTEL_ANALYTICS_OWNER_PASSWORD"},
    "ask": {"OTEL_ANALYTICS_REDIS_READER_PASSWORD", "OTEL_ANALYTICS_READER_PASSWORD"},
    "redis": {f"OTEL_ANALYTICS_REDIS_{user}_PASSWORD" for user in ("APP", "WORKER", "READER")},
    "postgres": {
        "POSTGRES_PASSWORD",
        "SHOP_PASSWORD",
        *(f"OTEL_ANALYTICS_{role}_PASSWORD" for role in ("OWNER", "INGEST", "READER")),
    },
    "prometheus": set(),
    "grafana": {"GRAFANA_ADMIN_PASSWORD", "OTEL_ANALYTICS_READER_PASSWORD"},
}
# Each with traffic of a few seconds behind it.
QUESTIONS = [
    ["rank"],
    ["rank", "--relative", "--format", "json"],
    ["rank", "--by", "savings"],
    ["rank", "--explain", "/api/v1/items"],
    ["plan"],
    ["advise"],
    ["simulate"],
    ["report", "--output", "report.html"],
    ["peaks"],
    ["patterns", "/api/v1/items"],
    ["trends", "/api/v1/items"],
    ["errors"],
    ["slow"],
    ["users"],
    ["audit"],
    ["live", "--once"],
    ["dlq", "list"],
    ["doctor"],
]


def interpolated(value, secrets):
    """As Docker Compose puts variables in; a missing one is an error where the file says so."""

    def found(match):
        dollar, name, mode, other = match.groups()
        if dollar:
            return "$"
        if not secrets.get(name):
            assert mode == "-", f"{name} is missing: {other}"
            return other
        return secrets[name]

    if isinstance(value, dict):
        return {key: interpolated(each, secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, secrets) for each in value]
    return VARIABLE.sub(found, value) if isinstance(value, str) else value


class Stack:
    """What the services of the compose file are on this machine."""

    def __init__(self, directory, secrets):
        self.directory = directory
        self.secrets = secrets
        self.services = interpolated(SERVICES, secrets)
        self.ports = {name: free_port() for name in ("app", "worker", "redis", "prometheus")}
        found = path_with_redis(directory).split(os.pathsep)
        self.path = os.pathsep.join([*found[:2], str(Path(sys.executable).parent), *found[2:]])
        cli = shutil.which("redis-cli", path=self.path)
        # The health check means the port that Redis has in its container.
        wrapper = directory / "redis-cli"
        wrapper.write_text(f'#!/bin/sh\nexec {cli} -p {self.ports["redis"]} "$@"\n')
        wrapper.chmod(0o755)
        self.processes = {}
        self.dsn = ""
        self.server = Server(f"http://{HOST}:{self.ports['prometheus']}")

    def here(self, text):
        """Names and ports of containers become addresses of this machine."""
        ports = self.ports
        for there, port in [
            ("redis:6379", ports["redis"]),
            ("app:8000", ports["app"]),
            ("127.0.0.1:8000", ports["app"]),
            ("127.0.0.1:9464", ports["worker"]),
            ("prometheus:9090", ports["prometheus"]),
            *([("postgres:5432", ports["postgres"])] if "postgres" in ports else []),
        ]:
            text = text.replace(there, f"{HOST}:{port}")
        return text.replace("--host=0.0.0.0", f"--host={HOST}").replace(
            "--port=8000", f"--port={ports['app']}"
        )

    def command(self, name):
        """Entry point and command; what the compose file leaves out is that of the image."""
        service = self.services[name]
        image = dockerfile("ENTRYPOINT") if service["command"][0] != "uvicorn" else []
        return [self.here(word) for word in image + service["command"]]

    def environ(self, name):
        """What a service finds in its environment, and nothing of ours but where programs are."""
        own = {
            key: self.here(str(value)) for key, value in self.services[name].get("environment", {}).items()
        }
        image = {"OTEL_ANALYTICS_WORKER_METRICS_PORT": str(self.ports["worker"])} if name == "worker" else {}
        return {"PATH": self.path, "HOME": str(self.directory), **image, **own}

    def mounted(self, name, target):
        """The file or folder that a service finds under a path."""
        for volume in self.services[name]["volumes"]:
            source, place, *_ = volume.split(":")
            if source.startswith(".") and Path(target).is_relative_to(place):
                return (DEPLOY / source / Path(target).relative_to(place)).resolve()
        raise AssertionError(f"{name} has no {target}")

    def is_healthy(self, name):
        """Whether the health check that Docker would run is content."""
        check = self.services[name].get("healthcheck", {}).get("test") or [
            "CMD",
            *dockerfile("CMD", "HEALTHCHECK"),
        ]
        kind, *words = check
        words = [self.here(word) for word in words]
        if words == ["promtool", "check", "healthy"]:  # Debian's promtool does not have it yet
            return self.server.is_ready()
        more = {"PGPORT": str(self.ports.get("postgres", ""))}
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        done = subprocess.run(
            command, env=self.environ(name) | more, cwd=self.directory, capture_output=True, check=False
        )
        return done.returncode == 0

    @contextmanager
    def running(self, name, command):
        """A service, from when it is healthy."""
        with process(command, environ=self.environ(name), directory=self.directory, name=name) as (
            started,
            log,
        ):
            until(lambda: self.is_healthy(name) or started.poll() is not None, seconds=60)
            assert started.poll() is None, log.read_text()
            self.processes[name] = started
            yield

    def run(self, name, *arguments, code=0, **environ):
        """A service that ends by itself, or the program in its environment; returns all that it printed."""
        command = [*dockerfile("ENTRYPOINT"), *(arguments or self.services[name]["command"])]
        done = subprocess.run(
            command,
            env=self.environ(name) | environ,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def dockerfile(instruction, after=""):
    """The words of the last such instruction."""
    *_, found = re.findall(rf"^{after}[^\n]*?(?:\\\n\s*)?\b{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return json.loads(found)


@contextmanager
def postgres(stack):
    """The server of the image: it asks everybody for a password, and has run the scripts that are mounted."""
    directory = stack.directory / "postgres"
    directory.mkdir()
    service = stack.environ("postgres")
    with postgres_server(directory, durable=False) as dsn:
        stack.ports["postgres"] = int(dsn.rpartition(":")[2].partition("/")[0])
        with raw_postgres(dsn) as superuser:
            password = psycopg.sql.Literal(service["POSTGRES_PASSWORD"])
            superuser.execute(psycopg.sql.SQL("ALTER ROLE postgres PASSWORD {}").format(password))
            database = psycopg.sql.Identifier(service["POSTGRES_DB"])
            superuser.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(database))
            superuser.execute("ALTER SYSTEM SET log_statement = 'all'")
            (directory / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            superuser.execute("SELECT pg_reload_conf()")
        stack.dsn = f"postgresql://postgres:{service['POSTGRES_PASSWORD']}@{HOST}:{stack.ports['postgres']}"
        until(lambda: is_refused(dsn))
        initialise(stack, service)
        until(lambda: stack.is_healthy("postgres"))
        yield


def is_refused(dsn):
    """Whether the server wants a password by now."""
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return True
    return False


def initialise(stack, service):
    """Run what lies in the folder that the image looks into, as it does: by name, and only what can run."""
    folder = stack.directory / "docker-entrypoint-initdb.d"
    for volume in stack.services["postgres"]["volumes"]:
        source, target, *_ = volume.split(":")
        if target.startswith("/docker-entrypoint-initdb.d/"):
            place = folder / Path(target).relative_to("/docker-entrypoint-initdb.d")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DEPLOY / source, place)
    # The image's scripts connect over its socket, without a password.
    socket = {
        "PGHOST": HOST,
        "PGPORT": str(stack.ports["postgres"]),
        "PGPASSWORD": service["POSTGRES_PASSWORD"],
    }
    for script in sorted(each for each in folder.iterdir() if each.is_file()):
        assert os.access(script, os.X_OK), script
        done = subprocess.run(
            [script],
            env=service | socket,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def prometheus_command(stack):
    """The server with the configuration that is mounted; a container is found by name there."""
    folder = stack.directory / "etc-prometheus"
    shutil.copytree(stack.mounted("prometheus", "/etc/prometheus"), folder)
    config = folder / "prometheus.yml"
    content = yaml.safe_load(stack.here(config.read_text()).replace("interval: 15s", "interval: 1s"))
    for job in content["scrape_configs"]:
        for found in job.pop("dns_sd_configs", []):
            assert (found["names"], found["type"]) == (["worker"], "A")
            targets = [stack.here(f"{HOST}:{found['port']}")]
            job.setdefault("static_configs", []).append({"targets": targets})
    config.write_text(yaml.safe_dump(content))
    words = [word.replace("/etc/prometheus", str(folder)) for word in stack.services["prometheus"]["command"]]
    words = [word.replace("path=/prometheus", f"path={stack.directory / 'prometheus'}") for word in words]
    return [program("prometheus"), *words, f"--web.listen-address={HOST}:{stack.ports['prometheus']}"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """Those that make-env writes."""
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("make-env", ".env.example"):
        shutil.copy(DEPLOY / name, folder)
    subprocess.run([folder / "make-env"], check=True, capture_output=True)
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory, secrets):
    """Everything, in the order in which one service waits for another."""
    made = Stack(tmp_path_factory.mktemp("topology"), secrets)
    redis_place = ["--bind", HOST, "--port", str(made.ports["redis"])]
    with ExitStack() as running:
        shell, script = made.services["redis"]["entrypoint"]
        redis_command = [shell, str(made.mounted("redis", script)), *redis_place]
        running.enter_context(made.running("redis", redis_command))
        running.enter_context(postgres(made))
        assert "applied" in made.run("migrate")
        running.enter_context(made.running("worker", made.command("worker")))
        running.enter_context(made.running("app", made.command("app")))
        running.enter_context(made.running("prometheus", prometheus_command(made)))
        made.redis = Redis(made.ports["redis"], made.directory, made.path, made.processes["redis"].pid)
        running.callback(made.redis.tester.close)
        made.answers = asyncio.run(
            traffic.visit(
                f"http://{HOST}:{made.ports['app']}",
                seconds=LIVE_SECONDS,
                requests_a_second=25,
                chance=random.Random(5),
                progress=lambda done: None,
            )
        )
        with raw_postgres(f"{made.dsn}/otel_analytics") as connection:
            until(lambda: scalar(connection, "SELECT count(*) FROM route_analytics") == made.answers)
        made.run("worker", "rollup")
        assert "kept the rankings" in made.run("worker", "keep")
        yield made


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("topology")]


def test_everything_that_was_sent_is_stored_and_accounted_for(stack):
    assert stack.answers > 50
    books = json.loads(stack.run("ask", "audit", "--format", "json"))
    assert (books["balanced"], books["stored"], books["pending"]) == (True, stack.answers, 0)
    for name in ("worker", "app"):
        log = (stack.directory / f"{name}.log").read_text()
        assert "WARNING" not in log, log


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_who_only_asks_gets_an_answer_to_every_question(stack, question):
    said = stack.run("ask", *question)
    assert "denied" not in said
    assert "refused" not in said


def test_prometheus_sees_the_application_and_the_worker(stack):
    until(lambda: stack.server.query("sum(up) == 2"), seconds=30)
    assert stack.server.query("otel_analytics_ledger_stored_total")


def test_nobody_was_refused_what_he_needs_and_nobody_is_more_than_he_should_be(stack):
    assert stack.redis.refused() == []
    users = {client["user"] for client in stack.redis.tester.client_list()}
    assert users == {"app", "worker", "tester"}
    with raw_postgres(f"{stack.dsn}/otel_analytics") as connection:
        sessions = connection.execute(
            "SELECT DISTINCT usename, datname FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchall()
        assert set(sessions) == {("otel_analytics_ingest", "otel_analytics"), ("shop", "shop")}
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND (rolsuper OR rolcreatedb OR rolcreaterole"
            " OR rolreplication OR rolbypassrls)"
        ).fetchall()
        assert roles == [("postgres",)]
        memberships = (
            "SELECT count(*) FROM pg_auth_members JOIN pg_roles ON oid = member WHERE rolname !~ '^pg_'"
        )
        assert scalar(connection, memberships) == 0
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(owners).fetchall() == [("otel_analytics_owner",)]


def test_every_service_knows_its_own_secrets_and_no_others(stack, secrets):
    assert SECRETS.keys() == SERVICES.keys()
    hidden = {name: value for name, value in secrets.items() if len(value) > 20}
    for name, service in stack.services.items():
        text = json.dumps(service)
        assert {each for each, value in hidden.items() if value in text} == SECRETS[name], name
    for started in stack.processes.values():
        seen = Path(f"/proc/{started.pid}/cmdline").read_text()
        assert not any(value in seen for value in hidden.values())


def test_no_password_of_a_role_stands_in_the_log_of_postgresql(stack, secrets):
    log = (stack.directory / "postgres" / "postgres.log").read_text()
    assert "GRANT" in log
    for role in ("OWNER", "INGEST", "READER"):
        assert secrets[f"OTEL_ANALYTICS_{role}_PASSWORD"] not in log


def test_a_role_does_not_get_into_the_database_of_another(stack, secrets):
    place = f"{HOST}:{stack.ports['postgres']}"
    for user, password, database in [
        ("shop", secrets["SHOP_PASSWORD"], "otel_analytics"),
        ("otel_analytics_ingest", secrets["OTEL_ANALYTICS_INGEST_PASSWORD"], "shop"),
        ("otel_analytics_ingest", secrets["OTEL_ANALYTICS_READER_PASSWORD"], "otel_analytics"),
    ]:
        with pytest.raises(psycopg.OperationalError, match=r"permission denied|authentication failed"):
            psycopg.connect(f"postgresql://{user}:{password}@{place}/{database}")


def test_grafana_connects_as_the_reader(stack):
    """With what provisioning gives it; the server itself is not here."""
    folder = stack.mounted("grafana", "/etc/grafana/provisioning/datasources")
    (file,) = folder.iterdir()
    environ = stack.environ("grafana")
    text = re.sub(r"\$([A-Z_]+)\b", lambda match: environ.get(match[1], ""), file.read_text())
    sources = {each["type"]: each for each in yaml.safe_load(text)["datasources"]}
    source = sources["grafana-postgresql-datasource"]
    assert source["user"] == "otel_analytics_reader"
    place, settings = source["url"], source["jsonData"]
    dsn = (
        f"postgresql://{source['user']}:{source['secureJsonData']['password']}@{place}/{settings['database']}"
    )
    with psycopg.connect(f"{dsn}?sslmode={settings['sslmode']}", autocommit=True) as connection:
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == stack.answers
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM route_analytics_hourly")
    assert Server(sources["prometheus"]["url"]).is_ready()


@pytest.mark.parametrize(
    ("name", "variable", "said"),
    [
        ("migrate", "OTEL_ANALYTICS_POSTGRES_DSN", "no password supplied"),
        ("worker", "OTEL_ANALYTICS_POSTGRES_DSN", "no password supplied"),
        ("worker", "OTEL_ANALYTICS_REDIS_URL", "Authentication required"),
    ],
)
def test_a_service_without_its_secret_does_not_start(stack, name, variable, said):
    with_secret = stack.environ(name)[variable]
    without = re.sub(r"://(\w+):[^@]+@", r"://\1@" if "DSN" in variable else "://", with_secret)
    printed = stack.run(name, code=1, **{variable: without, "OTEL_ANALYTICS_WORKER_METRICS_PORT": "0"})
    assert said in printed.splitlines()[-1]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_compose_refuses_a_service_without_each_of_its_secrets(name, secrets):
    for missing in SECRETS[name]:
        with pytest.raises(AssertionError, match=f"{missing} is missing: run deploy/make-env"):
            interpolated(SERVICES[name], secrets | {missing: ""})
