"""The ASGI layer around the application: watches what passes, and changes nothing of it."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Token
from typing import Any, Final, Protocol

from opentelemetry import context
from opentelemetry.context import Context

from otel_analytics.capture import cache_status
from otel_analytics.capture.body_hash import BodyHash
from otel_analytics.capture.observed import ObservedRequest, current_request, qualified_name
from otel_analytics.capture.tracing import leave_ended_trace
from otel_analytics.record import SAFE_METHODS

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OBSERVED: Final = "otel_analytics"
"""Key in the scope of a request that is being observed, so that an application within one leaves it alone."""
_SUCCESS: Final = range(200, 300)
_WITHOUT_BODY: Final = (204, 304)
"""RFC 9112, section 6.3: the response ends with its headers."""
_FIRST_SERVER_ERROR: Final = 500
_LONGEST_LENGTH: Final = 19
"""Digits of a body's length; Python refuses to read some thousand of them."""


class Observer(Protocol):
    """Who wants to know of requests. Nothing here may raise."""

    def begin(self, scope: Scope) -> ObservedRequest | None:
        """A request comes in; None where it is not to be observed."""

    def open_span(self, request: ObservedRequest) -> Token[Context] | None:
        """Open a span for the request, where nobody else does; for `context.detach`."""

    def new_hash(self) -> BodyHash | None:
        """What the body of a response is hashed with; None for not at all."""

    def end(self, request: ObservedRequest, body_hash: BodyHash | None) -> None:
        """The request is over."""

    def failed(self, error: Exception) -> None:
        """Something here went wrong; the request goes on."""


async def observe(app: App, observer: Observer, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one HTTP request and tell the observer when it is over.

    That is when the last body byte is handed to the server. A server error is told when the application has
    returned, as only then it is known whether there was an exception; so is a response that never became
    complete.
    """
    request = None if OBSERVED in scope else observer.begin(scope)
    if request is None:
        await app(scope, receive, send)
        return
    scope[OBSERVED] = True
    exchange = Exchange(request, observer, receive, send)
    trace_token = leave_ended_trace(current_request.get())
    token = current_request.set(request)
    span_token = observer.open_span(request)
    try:
        await app(scope, exchange.receive, exchange.send)
    except Exception as error:
        request.error_type = qualified_name(error)
        raise
    except asyncio.CancelledError:
        # Servers that cancel do so when the client is gone.
        exchange.client_is_gone()
        raise
    finally:
        exchange.end()
        if span_token is not None:
            context.detach(span_token)
        current_request.reset(token)
        if trace_token is not None:
            context.detach(trace_token)


class Exchange:
    """The messages of one request, in both directions."""

    __slots__ = (
        "_body_complete", "_body_hash", "_ended", "_head_sent", "_held", "_is_head", "_observer", "_receive",
        "_receiving", "_request", "_response_length", "_send", "_trailers",
    )  # fmt: skip

    def __init__(self, request: ObservedRequest, observer: Observer, receive: Receive, send: Send) -> None:
        """Nothing has passed yet.

        Args:
            request: Where it is noted down.
            observer: Who is told at the end.
            receive: The server's.
            send: The server's.
        """
        self._request = request
        self._observer = observer
        self._receive = receive
        self._send = send
        self._body_hash: BodyHash | None = None
        self._is_head = request.scope["method"] == "HEAD"
        self._body_complete = False
        self._receiving = 0
        self._held: Message | None = None
        self._head_sent = False
        self._response_length: int | None = None
        self._trailers = False
        self._ended = False

    async def receive(self) -> Message:
        """Pass on what the client sends."""
        message = self._held
        if message is not None:
            self._held = None
        else:
            self._receiving += 1
            try:
                message = await self._receive()
            finally:
                self._receiving -= 1
        kind = message["type"]
        if kind == "http.request":
            self._request.request_bytes += len(message.get("body", b""))
            self._body_complete = not message.get("more_body", False)
        elif kind == "http.disconnect":
            self.client_is_gone()
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application answers."""
        kind = message["type"]
        body, is_last = b"", False
        if kind == "http.response.body":
            body = message.get("body", b"")
            is_last = not message.get("more_body", False) and not self._trailers
            if is_last or self._completes(body):
                self._look_for_disconnect()
        elif kind == "http.response.start":
            self._begin_response(message)
        try:
            await self._send(message)
        except OSError:
            # From version 2.4 on, ASGI servers say so when the client is gone.
            self.client_is_gone()
            raise
        if kind == "http.response.body":
            self._take_in(body)
        elif kind == "http.response.start":
            self._head_sent = True
        elif kind == "http.response.pathsend":
            is_last = True
            self._request.response_bytes += self._response_length or 0
        elif kind == "http.response.trailers":
            is_last = not message.get("more_trailers", False)
        if is_last:
            self._complete()

    def end(self) -> None:
        """The application has returned; tell the observer, if that is still to be done."""
        if self._ended:
            return
        self._ended = True
        if not self._request.ended_ns:
            self._request.ended_ns = time.perf_counter_ns()
        # Whatever is sent from now on is no part of it.
        body_hash, self._body_hash = self._body_hash, None
        self._observer.end(self._request, body_hash)

    def client_is_gone(self) -> None:
        """Note that it left; unless it has all it expects, since then it may well go first."""
        request = self._request
        if not request.ended_ns and not self._client_has_all():
            request.disconnected = True

    def _client_has_all(self) -> bool:
        length = self._response_length
        return self._head_sent and (
            not self._expects_a_body() or (length is not None and self._request.response_bytes >= length)
        )

    def _completes(self, body: bytes) -> bool:
        length = self._response_length
        return length is not None and self._request.response_bytes + len(body) >= length

    def _expects_a_body(self) -> bool:
        return not (self._is_head or self._request.status_code in _WITHOUT_BODY or self._response_length == 0)

    def _begin_response(self, message: Message) -> None:
        request = self._request
        request.response_started_ns = time.perf_counter_ns()
        request.status_code = message["status"]
        self._trailers = bool(message.get("trailers", False))
        try:
            headers = message.get("headers", ())
            if not isinstance(headers, (list, tuple)):  # any iterable will do, and some pass only once
                headers = message["headers"] = list(headers)
            self._read_headers(headers)
        except Exception as error:  # noqa: BLE001
            self._observer.failed(error)
        if not self._expects_a_body():
            self._look_for_disconnect()  # afterwards the client has all

    def _read_headers(self, headers: Any) -> None:
        request = self._request
        tells_of_a_cache = False
        for name, value in headers:
            if name == b"content-length":
                readable = value.isdigit() and len(value) <= _LONGEST_LENGTH
                self._response_length = int(value) if readable else None
            elif name in cache_status.NAMES:
                tells_of_a_cache = True
        if tells_of_a_cache and request.cache_status is None:
            request.cache_status = cache_status.read(headers)
        if request.status_code in _SUCCESS and request.scope["method"] in SAFE_METHODS:
            self._body_hash = self._observer.new_hash()

    def _take_in(self, body: bytes) -> None:
        if not body:
            return
        try:
            if not self._is_head:  # the server does not send it
                self._request.response_bytes += len(body)
            if self._body_hash is not None:
                self._body_hash.update(body)
        except Exception as error:  # noqa: BLE001 - the response has passed; it is no business of the application's
            self._observer.failed(error)

    def _complete(self) -> None:
        self._request.ended_ns = time.perf_counter_ns()
        if self._request.status_code < _FIRST_SERVER_ERROR:
            self.end()

    def _look_for_disconnect(self) -> None:
        """Find out whether the client is still there when it is about to get the last of the response.

        Servers say so only to somebody who asks for the next message, and most applications do not. So it is
        asked for, without waiting: where none is there, the question is taken back. One that is there and is
        no disconnect is kept for the application. Nobody is asked while a request body may be unread, since
        asking would make the server fetch it, nor of a client that has all it expects.
        """
        request = self._request
        if (
            request.disconnected
            or self._receiving
            or self._held is not None
            or (not self._body_complete and _has_body(request.scope))
            or self._client_has_all()
        ):
            return
        receive = self._receive
        try:
            if hasattr(receive, "__wrapped__"):
                # Of the server itself: an instrumentation around the application would open a span for it.
                receive = inspect.unwrap(receive)
            question = receive().__await__()
            try:
                next(question)
            except StopIteration as answer:
                self._held = answer.value
                request.disconnected = answer.value["type"] == "http.disconnect"
            else:
                question.close()
        except Exception as error:  # noqa: BLE001
            self._observer.failed(error)


def _has_body(scope: Scope) -> bool:
    for name, value in scope.get("headers", ()):
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False
