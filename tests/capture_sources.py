"""The application of `capture_app` on real servers, one a span source, and what comes out of them."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from otel_analytics.record import Event, decode_events, parse_event

ALL_SOURCES = (
    "fastapi",
    "fastapi-ratio",
    "fastapi-late",
    "fastapi-lifespan",
    "fastapi-telemetry",
    "contrib-before",
    "contrib-after",
    "contrib-global",
    "starlette",
    "starlette-middleware",
    "wrapped",
)
WITHOUT_PROVIDER = ("fastapi", "starlette")
"""Their applications set no tracer provider, so their spans are in no trace that anybody could find."""
_NEW_NAMES = {"contrib-after": "http", "contrib-global": "http/dup"}
_MEASURED = ("event_id", "timestamp_us", "duration_ms", "ttfb_ms", "trace_id", "span_id", "response_hash")
_CONTROL_TRACE = "c0" * 16
_EVENT_DEADLINE = 10.0
_fences = itertools.count(1)


@dataclass
class Answer:
    """What the client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    event: Event = field(repr=False, default=None)  # type: ignore[assignment]

    @property
    def facts(self):
        """What the event says, without what differs from run to run and what is as usual."""
        return facts(self.event)


def facts(event):
    usual = {"method": "GET", "status_code": 200, "db_query_count": 0, "request_size_bytes": 0}
    found = {
        name: value
        for name, value in event._asdict().items()
        if name not in _MEASURED and name != "response_size_bytes"
        if value not in (None, {}) and usual.get(name, ...) != value
    }
    if found.get("route_full") == event.route:
        del found["route_full"]
    # Where queries are not counted is no usual thing.
    return found if event.db_query_count is not None else {**found, "db_query_count": None}


def read_answer(connection, method="GET"):
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


class Server:
    """One process that serves the application; its events are on a stream of its own."""

    def __init__(self, source, redis_url, folder, *, environ=None, **settings):
        self.source = source
        self.prefix = f"capture-{folder.name}"
        self._redis = redis.Redis.from_url(redis_url)
        self._last = "0"
        self._events: list[Event] = []
        self._seen: set[str] = set()
        self.log = folder / "log"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        settings = {
            "redis_url": redis_url,
            "key_prefix": self.prefix,
            "export_interval_seconds": 0.001,
            **settings,
        }
        settings = {} if source.startswith("bare:") else settings
        names = _NEW_NAMES.get(source.removeprefix("bare:"))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    Path(__file__).with_name("capture_app.py"),
                    source,
                    str(self._listening.fileno()),
                    json.dumps(settings),
                ],
                env={
                    **os.environ,
                    **({"OTEL_SEMCONV_STABILITY_OPT_IN": names} if names else {}),
                    **(environ or {}),
                },
                pass_fds=[self._listening.fileno()],
                stdout=log,
                stderr=log,
            )

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._listening.close()
            self._redis.close()
        assert code in (0, -signal.SIGTERM), self.log.read_text()

    # --- over HTTP ---

    def connect(self):
        return contextlib.closing(socket.create_connection(self.address, timeout=20))

    def send(self, connection, target, *, method="GET", headers=(), body=b"", length=True):
        target = target if isinstance(target, bytes) else target.encode()
        head = [method.encode() + b" " + target + b" HTTP/1.1", b"host: service", b"connection: close"]
        head += [each if isinstance(each, bytes) else each.encode() for each in headers]
        if body and length:
            head.append(f"content-length: {len(body)}".encode())
        connection.sendall(b"\r\n".join([*head, b"", body]))

    def get(self, target, *, method="GET", **options):
        """Answer a request that leaves no event, or whose event does not matter yet."""
        with self.connect() as connection:
            self.send(connection, target, method=method, **options)
            return read_answer(connection, method)

    def ask(self, target, *, method="GET", body=b"", **options):
        """Answer a request, with its event."""
        began = time.time()
        answer = self.get(target, method=method, body=body, **options)
        answer.event = self.next_event()
        self._check(answer, method, began, body)
        return answer

    def ask_untraced(self, target, **options):
        """The same for a request that no instrumentation could open a span for."""
        answer = self.get(target, **options)
        answer.event = self.next_event()
        assert answer.event.trace_id is None
        assert answer.event.span_id is None
        return answer

    def get_event(self, target, **options):
        self.get(target, **options)
        return self.next_event()

    def control(self, what):
        headers = [f"traceparent: 00-{_CONTROL_TRACE}-00f067aa0ba902b7-00"]
        return json.loads(self.get(f"/_control/{what}", headers=headers).body)

    def wait_until(self, condition):
        deadline = time.monotonic() + 10
        while not condition(self.control("state")):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def spans(self):
        """What the user's exporter got since the last time, but for what the control routes left."""
        spans = self.control("spans")
        return [span for span in spans if span["context"]["trace_id"] != f"0x{_CONTROL_TRACE}"]

    def capture_errors(self):
        page = self.get("/metrics").body.decode()
        return next(
            float(line.split()[-1])
            for line in page.splitlines()
            if line.startswith("otel_analytics_capture_errors_total")
        )

    # --- off the stream ---

    def next_event(self):
        deadline = time.monotonic() + _EVENT_DEADLINE
        while not self._events:
            assert time.monotonic() < deadline, f"no event came: {self.log.read_text()[-4000:]}"
            self._read(block_ms=500)
        event = self._events.pop(0)
        assert event.event_id not in self._seen, "an event came twice"
        self._seen.add(event.event_id)
        return event

    def drain(self):
        """All events there are; they arrive in order, so none can come after that of a request made now."""
        target = f"/ping?fence={next(_fences)}"
        self.get(target)
        found = []
        while (event := self.next_event()).route_full != target:
            found.append(event)
        return found

    def _read(self, block_ms):
        found: Any = self._redis.xread({f"{self.prefix}:stream": self._last}, block=block_ms)
        entries = found.items() if isinstance(found, dict) else found or ()
        for _, batches in entries:
            for entry_id, fields in batches[0] if isinstance(found, dict) else batches:
                self._last = entry_id
                events = [parse_event(item) for item in decode_events(fields[b"events"])]
                self._events += [each for each in events if not each.route.startswith("/_control")]

    def _check(self, answer, method, began, body):
        """What holds for the event of every request that was answered in full."""
        event = answer.event
        now = time.time()
        assert began - 0.001 <= event.timestamp_us / 1e6 <= now
        assert 0 <= event.ttfb_ms <= event.duration_ms <= (now - began) * 1_000
        assert event.status_code == answer.status
        assert event.response_size_bytes == len(answer.body)
        hashed = method in ("GET", "HEAD") and 200 <= answer.status < 300
        assert (event.response_hash is not None) == hashed
        in_trace = self.source not in WITHOUT_PROVIDER
        assert (event.trace_id is not None) == in_trace
        assert (event.span_id is not None) == in_trace
