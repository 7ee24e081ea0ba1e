"""The usual network of these tests: one router with the server behind one port and each client behind another."""

from __future__ import annotations

from dataclasses import dataclass, field

from link import Link
from namespaces import Lab, Namespace

SERVER_PORT = "server0"
"""The router's interface to the server."""
IPV4, IPV6 = "ipv4", "ipv6"
BOTH = (IPV4, IPV6)
IPV6_LEAST_MTU = 1280
"""RFC 8200 section 5."""


def forwarding(rule: str) -> str:
    """A firewall of one nft rule for what the router forwards."""
    return f"""
        table inet firewall {{
            chain forward {{ type filter hook forward priority 0
                {rule}
            }}
        }}"""


@dataclass
class Network:
    """Server at 10.0.0.2 and fd00::2; client number n at 10.n.0.2 and fd00:n::2; the router at .1 everywhere."""

    lab: Lab
    server: Namespace
    router: Namespace
    clients: dict[str, Namespace] = field(default_factory=dict)
    families: tuple[str, ...] = BOTH
    mtu: int = 1500

    @classmethod
    def make(cls, lab: Lab, families: tuple[str, ...] = BOTH, mtu: int = 1500) -> Network:
        """Server and router; clients are added."""
        network = cls(lab, lab.host("server"), lab.host("router", forwards=True), families=families, mtu=mtu)
        network._connect(network.server, SERVER_PORT, 0, families)
        return network

    def client(self, name: str, families: tuple[str, ...] | None = None) -> Namespace:
        """Adds a client behind the router's interface `NAME0`."""
        host = self.lab.host(name)
        self._connect(host, f"{name}0", len(self.clients) + 1, families or self.families)
        self.clients[name] = host
        return host

    def far_client(self, name: str) -> tuple[Namespace, Link]:
        """Adds a client behind a link whose forward direction leads to it."""
        host = self.lab.host(name)
        number = len(self.clients) + 1
        near, far = f"10.{number}.0.1", f"10.{number}.0.2"
        link = self.lab.link(self.router, f"{name}0", (f"{near}/24",), host, "eth0", (f"{far}/24",))
        host.ip("-4", "route", "add", "default", "via", near)
        self.clients[name] = host
        return host, link

    def address(self, family: str = IPV4) -> str:
        """The server's address as it stands in a URL."""
        return "10.0.0.2" if family == IPV4 else "[fd00::2]"

    def _connect(self, host: Namespace, port: str, number: int, families: tuple[str, ...]) -> None:
        ends = {IPV4: (f"10.{number}.0.2/24", f"10.{number}.0.1/24"), IPV6: (f"fd00:{number:x}::2/64", f"fd00:{number:x}::1/64")}
        near, far = zip(*(ends[family] for family in families))
        self.lab.cable(host, "eth0", near, self.router, port, far, self.mtu)
        if IPV4 in families:
            host.ip("-4", "route", "add", "default", "via", f"10.{number}.0.1")
        if IPV6 in families:
            host.ip("-6", "route", "add", "default", "via", f"fd00:{number:x}::1")
