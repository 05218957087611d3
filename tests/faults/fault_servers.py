"""Real servers that can be killed, stopped and brought back on the port and data they had."""

import os
import signal
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

from backend import raw_postgres, raw_redis

from otel_analytics.embedded import postgres_server, process, redis_server


class _Server:
    """A server in a directory; `url` stays the same over its lives."""

    def __init__(self, directory):
        self.directory = directory
        self.url = ""
        self.port = process.free_port()
        self._stack = ExitStack()

    def start(self):
        """Bring it up, with the data it left behind."""
        module = f"otel_analytics.embedded.{self._module}.free_port"
        with mock.patch(module, return_value=self.port):
            self.url = self._stack.enter_context(self._run())
        return self

    def stop(self):
        """Shut it down in order; nothing happens where it is down."""
        self._stack.close()

    def send_signal(self, number):
        """Send a signal to the server's first process."""
        os.kill(self.pid, number)

    def kill(self):
        """End it as a crash would."""
        pids = self.pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._stack.close()

    def restart(self):
        """Kill it and bring it back."""
        self.kill()
        self.start()

    @contextmanager
    def paused(self):
        """Hold all its processes, so that connections stay open and nothing answers."""
        pids = self.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


class RedisServer(_Server):
    """Redis; `configure` sets what a restart keeps, too."""

    _module = "redis"

    def __init__(self, directory, *, append_only=True, **options):
        super().__init__(directory)
        self._append_only = append_only
        self._options = options

    def start(self):
        super().start()
        self.configure(**self._options)
        return self

    def configure(self, **options):
        """CONFIG SET, names with `_` for `-`."""
        self._options |= options
        with raw_redis(self.url) as client:
            for name, value in options.items():
                client.config_set(name.replace("_", "-"), value)

    def lose_power(self, unwritten_seconds):
        """End it as if the last seconds had been in the memory of the machine and not on its disk."""
        file = max(self.directory.rglob("*.aof"), key=lambda file: file.stat().st_mtime)
        written = file.stat().st_size
        time.sleep(unwritten_seconds)
        self.kill()
        os.truncate(file, written)

    @property
    def pid(self):
        return self.pids[0]

    @property
    def pids(self):
        with raw_redis(self.url) as client:
            return [client.info()["process_id"]]

    def _run(self):
        return redis_server(self.directory, append_only=self._append_only)


class PostgresServer(_Server):
    """PostgreSQL; durable, as the promise is about what a commit is worth."""

    _module = "postgres"

    @property
    def pid(self):
        return int((self.directory / "data" / "postmaster.pid").read_text().split("\n", 1)[0])

    @property
    def pids(self):
        """The postmaster and the processes below it."""
        parent = self.pid
        return [parent, *_children(parent)]

    def stop_immediately(self):
        """What `pg_ctl stop -m immediate` does: every process ends at once, without a word to anybody."""
        self.send_signal(signal.SIGQUIT)
        self._stack.close()

    def set(self, **options):
        """ALTER SYSTEM and reload."""
        with raw_postgres(self.url) as connection:
            for name, value in options.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")

    def _run(self):
        return postgres_server(self.directory)


def _children(parent):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == parent:
                    found.append(int(entry.name))
    return found
