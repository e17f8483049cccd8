"""A TCP proxy of the tests' own that can fall silent: connections stay open and nothing comes through any more."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress


class Proxy:
    """Carries bytes between its port on loopback and another one, until it is silent."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._over = threading.Event()
        self._silent = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fall_silent(self) -> None:
        """Carry nothing more, in neither direction, and tell nobody: no FIN, no RST."""
        self._silent.set()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for ends in [self._listening, *self._peers]:
            ends.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(timeout=0.05):
                if self._silent.is_set():
                    self._over.wait()  # what arrives stays in the kernel
                elif key.fileobj is self._listening:
                    self._accept()
                else:
                    self._carry(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, source: socket.socket) -> None:
        if source not in self._peers:
            return
        data = b""
        with suppress(OSError):
            data = source.recv(65536)
        if data:
            self._peers[source].sendall(data)
            return
        for ends in (source, self._peers.pop(source)):
            self._peers.pop(ends, None)
            self._selector.unregister(ends)
            ends.close()
