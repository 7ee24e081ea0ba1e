"""Networks made of namespaces: hosts, cables, NATs and firewalls, all gone when the lab closes.

A cable is a veth pair whose ends are made inside the namespaces, so nothing of a lab is visible outside of them. Namespaces
are called `sluice-PID-NUMBER-NAME`; those of processes that no longer exist are removed before a new lab is made.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from link import Link

T = TypeVar("T")

PREFIX = "sluice"
NAMES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
CABLE_LIMIT_S = 5
_numbers = itertools.count(1)


class LabError(RuntimeError):
    """The machine can't make such a network."""


class Namespace:
    """One host of a lab: its own interfaces, routes, firewall and processes."""

    def __init__(self, name: str) -> None:
        self.name = name
        _ip("netns", "add", name)
        # A host has no addresses of its own but loopback, and finds no duplicates of an address that it was just given.
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.all.accept_dad", 0)
        self.ip("link", "set", "lo", "up")

    def command(self, *args: str) -> list[str]:
        """A command line that runs in here."""
        return ["ip", "netns", "exec", self.name, *args]

    def run(self, *args: str, text: str | None = None) -> str:
        """Runs to the end; an error is the test's error."""
        return _checked(self.command(*args), text)

    def ip(self, *args: str) -> str:
        """`ip` of iproute2."""
        return _ip("-n", self.name, *args)

    def sysctl(self, key: str, value: int) -> None:
        """Sets a kernel parameter of this namespace."""
        path = f"/proc/sys/{key.replace('.', '/')}"
        self.call(lambda: Path(path).write_text(f"{value}\n"))

    def rules(self, ruleset: str) -> None:
        """Replaces the whole firewall and NAT by this nft ruleset; an empty one lets everything through."""
        self.run("nft", "-f", "-", text=f"flush ruleset\n{ruleset}\n")

    def call(self, function: Callable[[], T]) -> T:
        """Calls `function` in a thread that sees this namespace's network."""

        def enter_and_call() -> T:
            with (NAMES / self.name).open("rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")
            return function()

        # The thread ends with the pool, so no other call runs in the wrong network.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(enter_and_call).result()


class Lab:
    """Makes hosts and cables; `close` removes them with everything in them."""

    def __init__(self) -> None:
        require()
        _remove_leftovers()
        self._number = next(_numbers)
        self._hosts: list[Namespace] = []
        self._links: list[Link] = []

    def host(self, name: str, *, forwards: bool = False) -> Namespace:
        """A host; one that forwards is a router."""
        host = Namespace(f"{PREFIX}-{os.getpid()}-{self._number}-{name}")
        self._hosts.append(host)
        if forwards:
            host.sysctl("net.ipv4.ip_forward", 1)
            host.sysctl("net.ipv6.conf.all.forwarding", 1)
        return host

    def cable(self, one: Namespace, one_interface: str, one_addresses: Sequence[str], other: Namespace, other_interface: str, other_addresses: Sequence[str], mtu: int = 1500) -> None:
        """Connects two hosts. Addresses have their prefix length: `10.0.0.1/24`, `fd00::1/64`."""
        _ip("link", "add", one_interface, "mtu", str(mtu), "netns", one.name, "type", "veth", "peer", "name", other_interface, "mtu", str(mtu), "netns", other.name)
        for host, interface, addresses in ((one, one_interface, one_addresses), (other, other_interface, other_addresses)):
            _address(host, interface, addresses)
        # The kernel says a moment later that the cable is in, and until then an interface counts as unused.
        deadline = time.monotonic() + CABLE_LIMIT_S
        while not all("state UP" in host.ip("link", "show", "dev", interface) for host, interface in ((one, one_interface), (other, other_interface))):
            if time.monotonic() > deadline:
                raise LabError(f"{one_interface} and {other_interface} do not come up")
            time.sleep(0.01)

    def link(self, one: Namespace, one_interface: str, one_addresses: Sequence[str], other: Namespace, other_interface: str, other_addresses: Sequence[str]) -> Link:
        """Connects two hosts by a link with a rate and so on, perfect at first; forward is from one to the other."""
        link = Link((one.name, one_interface), (other.name, other_interface))
        self._links.append(link)
        for host, interface, addresses in ((one, one_interface, one_addresses), (other, other_interface, other_addresses)):
            _address(host, interface, addresses)
        return link

    def close(self) -> None:
        """Ends the processes in all hosts and removes the hosts; the cables go with them."""
        for link in self._links:
            link.stop()
        self._links.clear()
        for host in self._hosts:
            _remove(host.name)
        self._hosts.clear()


def require() -> None:
    """Fails, saying why, where namespaces can't be made: a test that passes without its network would prove nothing."""
    missing = [tool for tool in ("ip", "nft") if not shutil.which(tool)]
    if missing:
        raise LabError(f"the tests in namespaces need {' and '.join(missing)} (packages iproute2 and nftables)")
    if os.geteuid() != 0:
        raise LabError("the tests in namespaces need root: they make network namespaces, links and firewall rules of their own")


def _address(host: Namespace, interface: str, addresses: Sequence[str]) -> None:
    for address in addresses:
        host.ip("address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))
    host.ip("link", "set", interface, "up")


def _remove_leftovers() -> None:
    for path in NAMES.glob(f"{PREFIX}-*") if NAMES.is_dir() else ():
        owner = re.fullmatch(rf"{PREFIX}-(\d+)-\d+-\w+", path.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _remove(path.name)


def _remove(name: str) -> None:
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    for pid in listed.stdout.split():
        subprocess.run(["kill", "-KILL", pid], capture_output=True)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*args: str) -> str:
    return _checked(["ip", *args], None)


def _checked(command: list[str], text: str | None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
