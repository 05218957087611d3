"""A cluster of Redis, with the URL of a node that does not hold the stream."""

import datetime as dt
import itertools
import json
import socket
import subprocess
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace

import pytest
import redis
from backend import PREFIX, make_event, make_settings, produce
from program import run
from waiting import until

from otel_analytics.embedded.process import HOST, first_usable, free_port
from otel_analytics.embedded.redis import _OLDEST, _programs
from otel_analytics.errors import StreamUnavailable
from otel_analytics.stream import DeadLetters, Producer
from otel_analytics.stream.connection import Refused
from otel_analytics.worker import Worker

IN_BRACES = f"{{{PREFIX}}}"
SLOTS = 16_384
OPTIONS = {
    "--bind": HOST,
    "--save": "",
    "--appendonly": "yes",
    "--cluster-enabled": "yes",
    "--cluster-node-timeout": "500",
}


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Three nodes that share the slots, and a fourth that is a replica of the one with the stream."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(node(tmp_path_factory.mktemp("node"))) for _ in range(4)]
        primaries, replica = nodes[:3], nodes[3]
        bounds = [SLOTS * part // 3 for part in range(4)]
        for primary, (first, end) in zip(primaries, itertools.pairwise(bounds), strict=True):
            primary.client.execute_command("CLUSTER ADDSLOTS", *range(first, end))
        for each in nodes:
            each.client.execute_command("CLUSTER MEET", HOST, nodes[0].port)
        slot = nodes[0].client.execute_command("CLUSTER KEYSLOT", f"{IN_BRACES}:stream")
        owner = next(each for each, end in zip(primaries, bounds[1:], strict=True) if slot < end)
        name = owner.client.execute_command("CLUSTER MYID").decode()
        until(lambda: is_told(replica.client.execute_command, "CLUSTER REPLICATE", name))
        until(
            lambda: all(
                each.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for each in nodes
            )
        )
        until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        other = next(each for each in primaries if each is not owner)
        yield SimpleNamespace(owner=owner, replica=replica, other=other, url=other.url, slot=slot)


@pytest.fixture
def cluster(started):
    """With nothing in it."""
    started.owner.client.flushall()
    return started


@contextmanager
def node(directory):
    port = free_port_of_a_node()
    program = first_usable(_programs(packaged_only=False), _OLDEST)
    arguments = [word for option in OPTIONS.items() for word in option]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--port", str(port), *arguments], cwd=directory, stdout=log, stderr=log
        )
    with closing(redis.Redis(host=HOST, port=port)) as client:
        try:
            until(lambda: is_told(client.ping))
            yield SimpleNamespace(port=port, url=f"redis://{HOST}:{port}/0", client=client, process=process)
        finally:
            process.kill()
            process.wait()


def free_port_of_a_node():
    """The nodes of a cluster talk to each other on a port that is 10,000 higher."""
    return next(port for port in iter(free_port, None) if port < 55_536 and is_free(port + 10_000))


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_told(command, *arguments):
    try:
        command(*arguments)
    except redis.RedisError:
        return False
    return True


def settings_of(cluster, dsn):
    return make_settings(cluster.url, dsn, key_prefix=IN_BRACES)


def now():
    return dt.datetime.now(dt.UTC)


def producer_of(cluster):
    return Producer(cluster.url, key_prefix=IN_BRACES, max_entries=1_000)


def produce_in_cluster(cluster, *batches):
    with closing(producer_of(cluster)) as producer:
        for batch in batches:
            producer.add(batch, {})


def environ(cluster):
    return {"OTEL_ANALYTICS_REDIS_URL": cluster.url, "OTEL_ANALYTICS_KEY_PREFIX": IN_BRACES}


def audited(cluster, dsn):
    return json.loads(run(dsn, "audit", "--format", "json", **environ(cluster))[0])


def can_add(producer):
    try:
        producer.add([make_event(now())], {})
    except StreamUnavailable:
        return False
    return True


def test_any_node_will_do(cluster, migrated_dsn):
    bad = make_event(now(), status_code=999)
    produce_in_cluster(cluster, [make_event(now()), bad], [make_event(now())])
    settings = settings_of(cluster, migrated_dsn)
    with Worker(settings) as worker:
        done = worker.run_once().events
    assert (done.stored, done.dead) == (2, 1)
    with closing(DeadLetters(cluster.url, key_prefix=IN_BRACES)) as letters:
        assert letters.replay(letters.ids()) == 1
    books = audited(cluster, migrated_dsn)
    assert (books["balanced"], books["accepted"], books["pending"]) == (True, 3, 1)
    found = json.loads(run(migrated_dsn, "doctor", "--format", "json", **environ(cluster))[0])
    assert not [each for each in found if each["level"] == "problem"]


def test_without_braces_nothing_is_accepted_and_the_reason_is_told(cluster):
    with pytest.raises(Refused, match="set key_prefix to a name in braces"):
        produce(cluster.url, [make_event()])


def move_slot(slot, source, target, meanwhile):
    """As `redis-cli --cluster reshard` does it."""
    old, new = (each.client.execute_command("CLUSTER MYID").decode() for each in (source, target))
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old)
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new)
    for key in source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
        source.client.migrate(HOST, target.port, key, 0, 5_000)
        meanwhile()
    for each in (target, source):
        each.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new)


def test_the_stream_moves_to_another_node(cluster):
    with closing(producer_of(cluster)) as producer:

        def refused():
            with pytest.raises(Refused, match="unless they are being moved"):
                producer.add([make_event(now())], {})

        nodes = (cluster.owner, cluster.other)
        for number, (source, target) in enumerate([nodes, nodes[::-1]], 1):
            producer.add([make_event(now())], {})
            move_slot(cluster.slot, source, target, refused)
            producer.add([make_event(now())], {})
            assert target.client.xlen(f"{IN_BRACES}:stream") == 2 * number


def test_another_node_takes_over(cluster, migrated_dsn):
    with Worker(settings_of(cluster, migrated_dsn)) as worker, closing(producer_of(cluster)) as producer:
        producer.add([make_event(now())], {})
        cluster.replica.client.execute_command("CLUSTER FAILOVER")
        until(lambda: cluster.replica.client.info("replication")["role"] == "master")
        until(lambda: cluster.owner.client.info("replication")["role"] == "slave")
        producer.add([make_event(now())], {})  # the node it knew names the new one
        until(lambda: cluster.replica.client.wait(1, 1_000))
        cluster.replica.process.kill()
        with pytest.raises(StreamUnavailable):
            producer.add([make_event(now())], {})
        until(lambda: can_add(producer))
        assert worker.run_once().events.stored == 3
    assert audited(cluster, migrated_dsn)["balanced"]
