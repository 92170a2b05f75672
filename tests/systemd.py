"""The other side of `sd_notify(3)`: a real datagram socket."""

from __future__ import annotations

import socket


class Systemd:
    """A supervisor that listens.

    Args:
        address: a path, or `@` and a name.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(20)

    def hear(self) -> str:
        return self._socket.recv(100).decode()

    def heard(self) -> list[str]:
        """Everything that was said and not yet heard."""
        self._socket.setblocking(False)
        words = []
        while True:
            try:
                words.append(self.hear())
            except BlockingIOError:
                return words

    def close(self) -> None:
        self._socket.close()
