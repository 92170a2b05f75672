"""A network of three machines that can be split: the kernels' own, and a namespace for each of two servers.

Each two of them have a cable of their own. A cut one loses every packet and says nothing, as a switch that
fails; that is done by a wrong address of the neighbour, for which no kernel module is needed.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from attrs import field, frozen

NOBODY = "02:00:00:00:00:99"


@frozen
class End:
    """One end of a cable: the namespace ("" is this process's own), the device, and its address."""

    namespace: str
    device: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """The words that run a command in the namespace."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def ip(self, *words: str) -> None:
        """Run a command of `ip` in the namespace."""
        _run([*self.prefix, "ip", *words])


@frozen
class Cable:
    """A cable between two namespaces."""

    ends: tuple[End, End]

    def cut(self, *, both_ways: bool = True) -> None:
        """Lose all packets; or only those of the second end, so that its answers are missing."""
        first, second = self.ends
        second.ip(
            "neigh", "replace", first.address, "lladdr", NOBODY, "dev", second.device, "nud", "permanent"
        )
        if both_ways:
            first.ip(
                "neigh", "replace", second.address, "lladdr", NOBODY, "dev", first.device, "nud", "permanent"
            )

    def mend(self) -> None:
        """Let packets through again."""
        for own, other in (self.ends, self.ends[::-1]):
            with suppress(RuntimeError):
                own.ip("neigh", "del", other.address, "dev", own.device)


@frozen
class Network:
    """The cables: from here to one, from here to two, and between one and two."""

    to_one: Cable
    to_two: Cable
    between: Cable
    namespaces: Sequence[str] = field(factory=list)


def why_not() -> str | None:
    """Why this machine cannot have namespaces; None if it can."""
    name = f"cg-try-{os.getpid()}"
    try:
        _run(["ip", "netns", "add", name])
        _run(["ip", "netns", "del", name])
    except (RuntimeError, OSError) as refused:
        return f"network namespaces ({refused})"
    return None


@contextmanager
def a_network() -> Iterator[Network]:
    """Make the namespaces and cables; remove them at the end."""
    mark = secrets.randbelow(60_000)  # a new one each time: a network's devices outlive it for a moment
    one, two = f"cg-one-{mark}", f"cg-two-{mark}"
    net = f"10.{64 + mark // 256 % 64}.{mark % 256}"
    try:
        for name in (one, two):
            _run(["ip", "netns", "add", name])
            _run(["ip", "-n", name, "link", "set", "lo", "up"])
        yield Network(
            _cable(f"cg{mark}a", ("", one), net, 0),
            _cable(f"cg{mark}b", ("", two), net, 4),
            _cable(f"cg{mark}c", (two, one), net, 8),
            [one, two],
        )
    finally:
        for name in (one, two):
            with suppress(RuntimeError):
                _run(["ip", "netns", "del", name])


def _cable(name: str, namespaces: tuple[str, str], net: str, first: int) -> Cable:
    devices = (f"{name}0", f"{name}1")
    _run(["ip", "link", "add", devices[0], "type", "veth", "peer", "name", devices[1]])
    ends = []
    for place, (namespace, device) in enumerate(zip(namespaces, devices, strict=True), 1):
        if namespace:
            _run(["ip", "link", "set", device, "netns", namespace])
        end = End(namespace, device, f"{net}.{first + place}")
        end.ip("addr", "add", f"{end.address}/30", "dev", device)
        end.ip("link", "set", device, "up")
        ends.append(end)
    return Cable((ends[0], ends[1]))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
