"""Redis and PostgreSQL that speak TLS only, with certificates made for the test."""

import os
import shutil
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import trustme
from backend import raw_postgres

from otel_analytics.embedded import postgres_server
from otel_analytics.embedded.process import HOST, free_port, running
from otel_analytics.errors import OtelAnalyticsError, StreamUnavailable
from otel_analytics.stream.connection import Connection

OTHER_NAME = "localhost"
"""Leads to the servers, too, and is not in their certificates."""
CLIENT = "otel_analytics_client"
"""The role of PostgreSQL that needs a certificate of its name."""


class Certificates:
    """An authority, what it vouches for, and another authority that has nothing to do with it."""

    def __init__(self, directory):
        self.directory = directory
        authority = trustme.CA()
        self.authority = self._path("authority.pem")
        authority.cert_pem.write_to_path(self.authority)
        self.stranger = self._path("stranger.pem")
        trustme.CA().cert_pem.write_to_path(self.stranger)
        self.server = self._pair("server", authority.issue_cert(HOST))
        self.client = self._pair("client", authority.issue_cert(common_name=CLIENT))
        self.forged = self._pair("forged", trustme.CA().issue_cert(common_name=CLIENT))

    def _pair(self, name, issued):
        certificate, key = self._path(f"{name}.crt"), self._path(f"{name}.key")
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return certificate, key

    def _path(self, name):
        return self.directory / name


@contextmanager
def redis_with_tls(directory, certificates):
    """Gives the port. Clients need no certificate before `CONFIG SET tls-auth-clients yes`."""
    program = _redis_program(directory)
    port = free_port()
    certificate, key = certificates.server
    options = {
        "bind": HOST,
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": certificate,
        "tls-key-file": key,
        "tls-ca-cert-file": certificates.authority,
        "tls-auth-clients": "no",
        "maxmemory-policy": "noeviction",
        "save": "",
        "dir": directory,
    }
    arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    url = f"rediss://{HOST}:{port}/0?ssl_ca_certs={quote(str(certificates.authority))}"
    try:
        server = running(
            [program, *arguments], log=directory / "redis.log", is_ready=lambda pid: _answers(url, pid)
        )
        server.__enter__()
    except OtelAnalyticsError as error:
        _do_without(f"Redis has no TLS: {error}")
    try:
        yield port
    finally:
        server.__exit__(None, None, None)


@contextmanager
def postgres_with_tls(directory, certificates):
    """Gives the port. Nobody gets in without TLS, and the role `CLIENT` not without its certificate."""
    with postgres_server(directory, durable=False) as dsn:
        data = directory / "data"
        for source, name in zip(
            (*certificates.server, certificates.authority), ("tls.crt", "tls.key", "ca.crt"), strict=True
        ):
            shutil.copy(source, data / name)
            os.chown(data / name, data.stat().st_uid, data.stat().st_gid)
        with raw_postgres(dsn) as admin:
            admin.execute(f"CREATE ROLE {CLIENT} LOGIN SUPERUSER")
            names = {"ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key", "ssl_ca_file": "ca.crt"}
            for name, value in names.items():
                admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            try:
                admin.execute("ALTER SYSTEM SET ssl = on")
            except psycopg.Error as error:
                _do_without(f"PostgreSQL has no TLS: {error}")
            (data / "pg_hba.conf").write_text(
                f"hostssl all {CLIENT} {HOST}/32 cert\nhostssl all all {HOST}/32 trust\n"
            )
            admin.execute("SELECT pg_reload_conf()")
        yield int(dsn.rpartition("/")[0].rpartition(":")[2])


def _redis_program(directory):
    found = shutil.which("redis-server")
    if found is not None:
        return found
    # Debian has one program for the server and its tools, which goes by the name it is called; the package
    # with the tools does not start a server of its own.
    tool = shutil.which("redis-check-rdb")
    if tool is None:
        _do_without("no Redis with TLS here")
    program = directory / "redis-server"
    program.symlink_to(Path(tool).resolve())
    return program


def _answers(url, pid):
    with closing(Connection(url)) as connection:
        try:
            return connection.call("INFO")["process_id"] == pid
        except StreamUnavailable:
            return False


def _do_without(message):
    """Skip the test, but fail it where REQUIRE_TLS is set."""
    message = f"{message}; to have it, run: scripts/install-debian-packages"
    if os.environ.get("REQUIRE_TLS"):
        pytest.fail(message)
    pytest.skip(message)
