"""Applications served in this process, message by message, as no server would."""

import asyncio
import contextlib


@contextlib.asynccontextmanager
async def serving(app):
    """The application between its start and its shutdown; yields what it says about them."""
    to_app, said, spoke = asyncio.Queue(), [], asyncio.Event()

    async def send(message):
        said.append(message)
        spoke.set()

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, to_app.get, send))
    to_app.put_nowait({"type": "lifespan.startup"})
    await spoke.wait()
    yield said
    to_app.put_nowait({"type": "lifespan.shutdown"})
    await task


def scope_of(path, **parts):
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "query_string": b"", "headers": [], **parts,
    }  # fmt: skip


async def call(app, scope, incoming=()):
    """What the application sends, having got the messages."""
    messages = iter([*incoming, {"type": "http.request", "body": b"", "more_body": False}])
    sent = []

    async def receive():
        return next(messages, None) or await asyncio.Event().wait()

    async def send(message):
        if "headers" in message:
            message = {**message, "headers": [tuple(each) for each in message["headers"]]}
        sent.append(message)

    await app(scope, receive, send)
    return sent


def run(app, *scopes):
    async def all_of_them():
        async with serving(app):
            return [await call(app, each) for each in scopes]

    return asyncio.run(all_of_them())
