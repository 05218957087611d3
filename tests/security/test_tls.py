"""TLS with real certificates: what is right gets in, and everything else is one line that says why."""

import datetime as dt
from contextlib import closing, contextmanager
from urllib.parse import quote

import pytest
from backend import PREFIX, make_event, make_settings, raw_postgres
from program import run
from tls_servers import CLIENT, OTHER_NAME, Certificates, postgres_with_tls, redis_with_tls

from otel_analytics.embedded.process import HOST
from otel_analytics.errors import SettingsError, StoreUnavailable, StreamUnavailable
from otel_analytics.store.connection import connect
from otel_analytics.store.migrations import migrate
from otel_analytics.stream import Inspector
from otel_analytics.stream.connection import Connection
from otel_analytics_exporters.postgres import PostgresSpanExporter
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

pytestmark = pytest.mark.xdist_group("tls")  # one start of the servers is enough


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory, certificates):
    with redis_with_tls(tmp_path_factory.mktemp("redis"), certificates) as port:
        yield port


@pytest.fixture(scope="module")
def postgres_port(tmp_path_factory, certificates):
    with postgres_with_tls(tmp_path_factory.mktemp("postgres"), certificates) as port:
        yield port


@pytest.fixture
def redis_url(redis_port, certificates):
    """Makes URLs; options with `_` as redis-py has them."""

    def make(host=HOST, scheme="rediss", **options):
        given = {"ssl_ca_certs": certificates.authority, **options} if scheme == "rediss" else {}
        query = "&".join(f"{name}={quote(str(value))}" for name, value in given.items())
        return f"{scheme}://{host}:{redis_port}/0?{query}"

    return make


@pytest.fixture
def dsn(postgres_port, certificates):
    """Makes DSNs; options as libpq has them."""

    def make(host=HOST, user="postgres", **options):
        given = {"sslmode": "verify-full", "sslrootcert": certificates.authority, **options}
        query = "&".join(f"{name}={quote(str(value))}" for name, value in given.items())
        return f"postgresql://{user}@{host}:{postgres_port}/postgres?{query}"

    return make


@pytest.fixture
def asks_for_certificates(redis_url):
    with closing(Connection(redis_url())) as connection:
        connection.call("CONFIG SET", "tls-auth-clients", "yes")
        yield
        connection.call("CONFIG SET", "tls-auth-clients", "no")


def test_events_travel_from_the_application_to_the_answers_under_tls(redis_url, dsn):
    url, database = redis_url(), dsn()
    settings = make_settings(url, database)
    migrate(database)
    exporters = RedisStreamSpanExporter(settings), PostgresSpanExporter(settings)
    for exporter in exporters:
        exporter.send([make_event(dt.datetime.now(dt.UTC))], {})
        exporter.disconnect()
    environ = {"OTEL_ANALYTICS_REDIS_URL": url}
    run(database, "worker", "--once", **environ)
    assert "accepted by Redis 1" in " ".join(run(database, "audit", **environ)[0].split())
    run(database, "doctor", **environ)
    run(database, "rank", **environ)
    with raw_postgres(database) as connection:
        (stored,) = connection.execute("SELECT count(*) FROM route_analytics").fetchone()
    assert stored == 2


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        (HOST, {"ssl_ca_certs": "stranger"}, "certificate verify failed"),
        (OTHER_NAME, {}, f"certificate is not valid for '{OTHER_NAME}'"),
        (HOST, {"scheme": "redis"}, "Connection"),
    ],
    ids=["unknown authority", "another name", "no TLS"],
)
def test_a_redis_that_cannot_be_trusted_is_not_talked_to(certificates, redis_url, host, options, words):
    options = {name: getattr(certificates, value, value) for name, value in options.items()}
    message = refused_by_redis(redis_url(host, **options))
    assert words in message


@pytest.mark.usefixtures("asks_for_certificates")
def test_a_redis_that_asks_for_a_certificate_gets_the_right_one(certificates, redis_url):
    # Its reason comes late, so that whoever is quick reads no more than that the connection is closed.
    refused_by_redis(redis_url())
    refused_by_redis(redis_url(**of_client(certificates.forged)))
    with closing(Inspector(redis_url(**of_client(certificates.client)), key_prefix=PREFIX)) as inspector:
        assert inspector.server_info().version


@pytest.mark.parametrize(
    "options", [{"ssl_ca_cert": "x"}, {"ssl_cert_reqs": "perhaps"}, {"ssl_ca_certs": "/nowhere.pem"}]
)
def test_a_wrong_option_is_told_before_anything_is_sent(redis_url, options):
    with pytest.raises(SettingsError, match=r"setting redis_url: .* option") as refused:
        RedisStreamSpanExporter(make_settings(redis_url(**options)))
    assert not any(value in str(refused.value) for value in options.values())


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        (HOST, {"sslrootcert": "stranger"}, "certificate verify failed"),
        (HOST, {"sslrootcert": "/nowhere.pem"}, 'root certificate file "/nowhere.pem" does not exist'),
        (OTHER_NAME, {}, f'does not match host name "{OTHER_NAME}"'),
        (HOST, {"sslmode": "disable"}, "no encryption"),
    ],
    ids=["unknown authority", "no authority", "another name", "no TLS"],
)
def test_a_postgresql_that_cannot_be_trusted_is_not_talked_to(certificates, dsn, host, options, words):
    options = {name: getattr(certificates, value, value) for name, value in options.items()}
    message = refused_by_postgresql(dsn(host, **options))
    assert words in message


def test_a_postgresql_that_asks_for_a_certificate_gets_the_right_one(certificates, dsn):
    client = {
        name: {"sslcert": certificate, "sslkey": key}
        for name, (certificate, key) in {"right": certificates.client, "forged": certificates.forged}.items()
    }
    assert "requires a valid client certificate" in refused_by_postgresql(dsn(user=CLIENT))
    assert "unknown ca" in refused_by_postgresql(dsn(user=CLIENT, **client["forged"]))
    with connect(dsn(user=CLIENT, **client["right"])) as connection:
        assert connection.pgconn.ssl_in_use


def test_the_command_says_in_one_line_whom_it_does_not_trust(certificates, redis_url, dsn):
    for database, environ in (
        ("", {"OTEL_ANALYTICS_REDIS_URL": redis_url(ssl_ca_certs=certificates.stranger)}),
        (dsn(sslrootcert=certificates.stranger), {"OTEL_ANALYTICS_REDIS_URL": redis_url()}),
    ):
        *log, last = run(database, "worker", "--once", code=1, **environ)[1].splitlines()
        assert all(" INFO connected to " in line for line in log)
        assert last.startswith("otel-analytics: ")
        assert "certificate verify failed" in last


def refused_by_redis(url):
    """What an application's exporter is told."""
    with (
        disconnecting(RedisStreamSpanExporter(make_settings(url))) as exporter,
        pytest.raises(StreamUnavailable) as refused,
    ):
        exporter.send([make_event()], {})
    return str(refused.value)


def refused_by_postgresql(dsn):
    """What an application's exporter is told."""
    with (
        disconnecting(PostgresSpanExporter(make_settings(dsn=dsn))) as exporter,
        pytest.raises(StoreUnavailable) as refused,
    ):
        exporter.send([make_event()], {})
    return str(refused.value)


@contextmanager
def disconnecting(exporter):
    yield exporter
    exporter.disconnect()


def of_client(pair):
    certificate, key = pair
    return {"ssl_certfile": certificate, "ssl_keyfile": key}
