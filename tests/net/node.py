"""A server in a namespace, and what its metrics say about the paths that media takes."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request

from namespaces import Namespace
from server import OUT as PYTHON_OUT
from server import ROOT, START_LIMIT_S, Server

OUT = PYTHON_OUT.parents[1] / "net" / "out"
HTTP_PORT, UDP_PORT, TCP_PORT = 7880, 7882, 7881
KEY, SECRET = "netkey", "a secret for networks that end with their test"


class Node(Server):
    """`sluice serve` with its usual ports: a namespace has all ports for itself. Without TURN, which would be one more path."""

    def __init__(self, namespace: Namespace, process: subprocess.Popen[bytes], base: str) -> None:
        super().__init__(base, process)
        self._namespace = namespace

    @classmethod
    def start_in(cls, namespace: Namespace, log_name: str, urgent: bool = False, **options: str) -> Node:
        """Starts with options such as `media__advertise="192.0.2.1"` and waits until it answers.

        `urgent`: goes before the clients of the test where the machine has too few cores for all of them.
        """
        binary = os.environ.get("SLUICE_BIN", str(ROOT / "target/debug/sluice"))
        settings = {"server__listen": f"[::]:{HTTP_PORT}", "auth__keys": f"{KEY}: {SECRET}", "media__shards": "1", "log__level": "info,sfu_core=debug", "turn__enabled": "false", **options}
        OUT.mkdir(exist_ok=True)
        with (OUT / f"{log_name}.log").open("wb") as log:
            environment = {**os.environ, **{f"SLUICE_{name.upper()}": value for name, value in settings.items()}}
            command = namespace.command(*(["chrt", "--fifo", "1"] if urgent else []), binary, "serve")
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        port = settings["server__listen"].rsplit(":", 1)[1]
        node = cls(namespace, process, f"{'https' if 'server__one_port' in settings and 'tls__certificate' in settings else 'http'}://localhost:{port}")
        deadline = time.monotonic() + START_LIMIT_S
        while not node.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                node.stop()
                raise RuntimeError(f"{binary} does not answer (exit code {process.returncode}); see {OUT / log_name}.log")
            time.sleep(0.1)
        return node

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """As from the server's own machine, whatever the network around it does."""
        return self._namespace.call(lambda: super(Node, self).get(path, headers))

    def post(self, path: str, token: str, body: object) -> int:
        """Posts JSON with an access token, likewise; the status."""

        def ask() -> int:
            request = urllib.request.Request(self.http_url + path, json.dumps(body).encode(), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    return response.status
            except urllib.error.HTTPError as error:
                return error.code

        return self._namespace.call(ask)

    def packets(self, transport: str, direction: str = "in") -> float:
        """Packets of all protocols that came or went by UDP or TCP."""
        return self.metrics()[f'sfu_packets_total{{direction="{direction}",transport="{transport}"}}']

    def paths(self) -> dict[tuple[str, str], float]:
        """Connected transports by (protocol, family) of the path that media takes; those without any are left out."""
        found = {}
        for name, value in self.metrics().items():
            if name.startswith("sfu_transport_paths{") and value:
                labels = dict(each.split("=") for each in name[name.index("{") + 1 : -1].replace('"', "").split(","))
                found[labels["transport"], labels["family"]] = value
        return found

    def kinds(self, participants: int = 2) -> set[tuple[str, str]]:
        """The kinds of paths in use, once there are as many transports as participants: clients have one or two each."""
        paths = self.paths()
        return set(paths) if sum(paths.values()) >= participants else set()

    def allocations(self, transport: str) -> float:
        """Relayed addresses of clients that reach the TURN server so."""
        return sum(value for name, value in self.metrics().items() if name.startswith(f'turn_allocations{{transport="{transport}"'))

    def relayed_bytes(self) -> float:
        """Payload that the TURN server has passed on, both ways."""
        return sum(value for name, value in self.metrics().items() if name.startswith("turn_relayed_bytes_total{"))

    def path_changes(self) -> float:
        """How often a connected transport went on by another path."""
        return self.metrics()["sfu_transport_path_changes_total"]

    def media_packets(self) -> float:
        """RTP packets forwarded so far."""
        return sum(value for name, value in self.metrics().items() if name.startswith('sfu_rtp_packets_total{direction="out"'))

    def tcp_connections(self) -> float:
        """Open ICE-TCP connections."""
        return self.metrics()["sfu_tcp_connections"]

    def oversized_packets(self) -> float:
        """Packets that the smallest MTU of IPv6 can't carry."""
        return self.metrics()["sfu_oversized_packets_total"]

    def dtls_transports(self, version: str) -> float:
        """Transports that are up with this version of DTLS."""
        return self.metrics()[f'sfu_dtls_transports{{version="{version}"}}']
