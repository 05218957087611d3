"""A TCP proxy between a worker and its server, which can lose what passes at an exact moment."""

import socket
import threading
from contextlib import suppress

from otel_analytics.embedded.process import HOST, free_port


class Proxy:
    """Passes bytes on until told otherwise; a `with` block long.

    Attributes:
        port: Where to connect to.
        on_request: Called with each piece a client sends, before it is passed on; may kill, wait, or return
            False so that the piece and everything after it on this connection is lost, without a reset.
        on_answer: The same for what the server sends.
    """

    def __init__(self, port):
        self.port = free_port()
        self.on_request = self.on_answer = lambda piece: True
        self._target = port
        self._listener = socket.create_server((HOST, self.port))
        self._sockets = []
        self._open = threading.Event()
        self._open.set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._acceptor.start()
        return self

    def __exit__(self, *_):
        # To close a socket does not wake who waits for it to accept, and who would still accept one more.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._open.set()
        self._acceptor.join()
        self.break_connections()

    def blackhole(self):
        """From now on nothing passes, in open connections and in new ones, and nobody is told."""
        self._open.clear()

    def pass_again(self):
        """End of the black hole; what was held goes through."""
        self._open.set()

    def turn_to(self, port):
        """Lead to another server from now on; who is connected has to connect again."""
        self._target = port
        self.break_connections()

    def break_connections(self):
        """Close all that are open."""
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._open.wait()
            try:
                server = socket.create_connection((HOST, self._target))
            except OSError:
                client.close()
                continue
            self._sockets.append(server)
            for source, target, hook in ((client, server, "on_request"), (server, client, "on_answer")):
                threading.Thread(target=self._copy, args=(source, target, hook), daemon=True).start()

    def _copy(self, source, target, hook):
        lost = False
        with suppress(OSError):
            while piece := source.recv(65_536):
                self._open.wait()
                lost = lost or getattr(self, hook)(piece) is False
                if not lost:
                    target.sendall(piece)
            self._open.wait()
            target.shutdown(socket.SHUT_WR)
