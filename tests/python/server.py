"""The server under test: started on free loopback ports, or already running at SLUICE_URL."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = Path(__file__).resolve().parent / "out"
START_LIMIT_S = 20
STOP_LIMIT_S = 15


class Server:
    """A running server; `stop` ends only what `start` began."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None = None) -> None:
        base = url.rstrip("/")
        self.http_url = re.sub(r"^ws", "http", base)
        self.ws_url = re.sub(r"^http", "ws", base)
        self.process = process
        # a certificate of the test's own is as good as none for finding out who answers
        self._tls = ssl._create_unverified_context() if self.http_url.startswith("https:") else None

    @classmethod
    def start(cls, log_name: str = "server", **options: str) -> Server:
        """Starts `sluice dev` (SLUICE_BIN, default target/debug/sluice) and waits until it answers.

        With options such as `log__format="json"` it is a server of its own, whatever runs already.
        """
        running = os.environ.get("SLUICE_URL")
        if running and not options:
            return cls(running)
        port = free_port()
        overrides = {"SLUICE_SERVER__LISTEN": f"127.0.0.1:{port}", "SLUICE_MEDIA__UDP_PORT": "0", "SLUICE_MEDIA__TCP_PORT": "0", "SLUICE_TURN__UDP_PORT": "0", "SLUICE_TURN__TCP_PORT": "0"}
        overrides |= {f"SLUICE_{name.upper()}": value for name, value in options.items()}
        OUT.mkdir(exist_ok=True)
        with (OUT / f"{log_name}.log").open("wb") as log:
            process = subprocess.Popen([binary(), "dev"], env={**os.environ, **overrides}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        server = cls(f"http://{overrides['SLUICE_SERVER__LISTEN']}", process)
        deadline = time.monotonic() + START_LIMIT_S
        while not server.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                server.stop()
                raise RuntimeError(f"{binary()} does not answer (exit code {process.returncode}); see {OUT / log_name}.log")
            time.sleep(0.1)
        return server

    def stop(self) -> None:
        """Ends the process, gently first."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def answers(self) -> bool:
        """True when HTTP works."""
        return self.get("/")[0] < 500

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and body; status 599 when nobody listens."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.http_url + path, headers=headers or {}), timeout=5, context=self._tls) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 599, ""

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its full name with labels; empty when there is no such page."""
        status, text = self.get("/metrics")
        if status != 200:
            return {}
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def rss_bytes(self) -> int | None:
        """Resident memory; None for a server that was running before."""
        if self.process is None:
            return None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else None


def binary() -> str:
    """The program under test."""
    return os.environ.get("SLUICE_BIN", str(ROOT / "target/debug/sluice"))


def free_port() -> int:
    """A port that nobody uses at the moment, for TCP and UDP, on any address.

    The system gives none of its own choice out of this range, so nobody gets it by chance until it is bound here. Where there is no
    such range, or nothing free in it, the system chooses.
    """
    below = range(FIRST_PORT, _first_ephemeral())
    for port in itertools.chain(random.sample(below, min(TRIES, len(below))), (_of_the_system() for _ in range(TRIES))):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError("no port is free")


def _first_ephemeral() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def _of_the_system() -> int:
    with socket.socket() as stream:
        stream.bind(("", 0))
        return int(stream.getsockname()[1])


def _is_free(port: int) -> bool:
    try:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind(("", port))
            datagrams.bind(("", port))
    except OSError:
        return False
    return True


FIRST_PORT = 10_000
TRIES = 100
_given: set[int] = set()
