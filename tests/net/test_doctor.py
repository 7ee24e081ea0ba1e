"""`sluice doctor` in broken set-ups: it names the cause, and nothing else; and in a sound one it finds nothing."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from namespaces import Namespace
from node import HTTP_PORT, KEY, OUT, SECRET, UDP_PORT
from server import ROOT, START_LIMIT_S

BINARY = os.environ.get("SLUICE_BIN", str(ROOT / "target/debug/sluice"))
DOCTOR_LIMIT_S = 60
NO_UDP_IN = f"""
    table inet firewall {{
        chain input {{ type filter hook input priority 0
            udp dport {UDP_PORT} drop
        }}
    }}"""
NTP_EPOCH_S = 2_208_988_800


class Diagnosis:
    """What a run of the doctor found."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.exit_code = done.returncode
        self.checks = json.loads(done.stdout)["checks"]
        self.ok = json.loads(done.stdout)["ok"]

    def causes(self, *statuses: str) -> set[str]:
        """Causes of findings of these kinds (default: failures)."""
        return {check["cause"] for check in self.checks if check["status"] in (statuses or ("failed",))}

    def one(self, cause: str) -> dict[str, str]:
        """The finding with this cause; it says what to do."""
        found = [check for check in self.checks if check.get("cause") == cause]
        assert found and all(check["remedy"] and check["detail"] for check in found), self.checks
        return found[0]


def doctor(namespace: Namespace, *args: str, shell: str = "", **options: str) -> Diagnosis:
    """Runs it as an operator of the server in the namespace would; `shell` prepares the machine."""
    settings = {"server__listen": f"[::]:{HTTP_PORT}", "auth__keys": f"{KEY}: {SECRET}", "media__shards": "1", **options}
    environment = {**os.environ, **{f"SLUICE_{name.upper()}": value for name, value in settings.items()}}
    command = namespace.command("sh", "-c", f'set -e; {shell}\nexec "$0" doctor --json "$@"', BINARY, *args)
    return Diagnosis(subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DOCTOR_LIMIT_S))


@pytest.fixture
def host(lab) -> Namespace:
    """A machine with an address and nobody else."""
    server, neighbour = lab.host("server"), lab.host("neighbour")
    lab.cable(server, "eth0", ["10.0.0.2/24"], neighbour, "eth0", ["10.0.0.1/24"])
    server.ip("route", "add", "default", "via", "10.0.0.1")
    server.neighbour = neighbour
    return server


def test_a_sound_server_has_nothing_that_fails(host, serve):
    serve(host)
    found = doctor(host)
    assert found.ok and found.exit_code == 0 and not found.causes(), found.checks
    assert {"join", "udp", "tcp", "call"} <= {check["check"] for check in found.checks if check["status"] == "ok"}


def test_a_sound_machine_without_a_server_is_tried_out_too(host):
    found = doctor(host)
    assert found.exit_code == 0 and not found.causes(), found.checks
    assert {"port", "udp", "tcp", "call"} <= {check["check"] for check in found.checks if check["status"] == "ok"}


def test_a_client_connects_through_the_embedded_relay_over_every_transport(host, serve, tmp_path):
    certificate = _certificate(tmp_path, "localhost", None)
    options = {"turn__enabled": "true", "turn__domain": "localhost", "tls__certificate": str(certificate), "tls__key": str(certificate)}
    serve(host, **options)
    found = doctor(host, shell=f"export SSL_CERT_FILE={tmp_path}/ca.pem", **options)
    assert found.ok and not found.causes(), found.checks
    relayed = [check["detail"] for check in found.checks if check["check"] == "turn" and check["status"] == "ok"]
    assert [detail.split()[0] for detail in relayed] == ["turn:localhost:3478?transport=udp", "turn:localhost:3478?transport=tcp", "turns:localhost:5349?transport=tcp"], found.checks
    assert all("a WebRTC client connected through it" in detail for detail in relayed), relayed


RELAY = "10.0.0.1"
ELSEWHERE = {"turn__enabled": "false", "turn__servers": f'["turn:{RELAY}:3478?transport=udp", "turn:{RELAY}:3478?transport=tcp"]', "turn__secret": "north"}


@pytest.fixture
def coturn(host, tmp_path):
    """Starts coturn on the neighbour."""
    neighbour = host.neighbour
    started: list[subprocess.Popen[bytes]] = []

    def start(secret: str, *options: str) -> None:
        command = ["turnserver", "-n", f"--listening-ip={RELAY}", f"--relay-ip={RELAY}", "--use-auth-secret", f"--static-auth-secret={secret}", "--realm=test", "--no-cli", "--no-tls", "--no-dtls", f"--pidfile={tmp_path}/pid", f"--userdb={tmp_path}/db", "--log-file=stdout", *options]
        with (OUT / "coturn.log").open("wb") as log:
            started.append(subprocess.Popen(neighbour.command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        deadline = time.monotonic() + START_LIMIT_S
        while neighbour.call(lambda: socket.socket().connect_ex((RELAY, 3478))) != 0:
            assert time.monotonic() < deadline and started[-1].poll() is None, f"coturn does not start: {OUT}/coturn.log"
            time.sleep(0.05)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("runs", [True, False], ids=["server", "no-server"])
def test_a_relay_elsewhere_that_works(host, serve, coturn, runs):
    coturn("north")
    if runs:
        serve(host, **ELSEWHERE)
    found = doctor(host, **ELSEWHERE)
    assert found.ok and not found.causes(), found.checks
    relayed = [check["detail"] for check in found.checks if check["check"] == "turn"]
    assert len(relayed) == 2 and all("a WebRTC client connected through it" in detail for detail in relayed), found.checks


def test_a_relay_with_another_secret(host, serve, coturn):
    coturn("south")
    serve(host, **ELSEWHERE)
    found = doctor(host, **ELSEWHERE)
    assert found.causes() == {"turn-wrong-secret"} and found.exit_code == 1, found.checks
    assert "turn.secret_file" in found.one("turn-wrong-secret")["remedy"]


def test_a_relay_that_does_not_let_media_in(host, serve, coturn):
    coturn("north", "--denied-peer-ip=10.0.0.2")
    serve(host, **ELSEWHERE)
    found = doctor(host, **ELSEWHERE)
    assert found.causes() == {"turn-peer-denied"}, found.checks
    assert "10.0.0.2" in found.one("turn-peer-denied")["detail"]


def test_a_relay_from_which_nothing_comes_back(host, serve, coturn):
    coturn("north")
    host.neighbour.rules(f"table inet firewall {{\n chain output {{\n type filter hook output priority 0\n udp dport {UDP_PORT} drop\n }}\n }}")
    serve(host, **ELSEWHERE)
    found = doctor(host, **ELSEWHERE)
    assert found.causes() == {"turn-no-path"}, found.checks
    assert f"10.0.0.2:{UDP_PORT}" in found.one("turn-no-path")["detail"]


def test_a_relay_that_is_not_there(host, serve):
    serve(host, **ELSEWHERE)
    found = doctor(host, **ELSEWHERE)
    assert found.causes() == {"turn-unreachable"}, found.checks


def test_a_server_with_https_on_its_one_port_is_tried_out(host, serve, tmp_path):
    certificate = _certificate(tmp_path, "localhost", None)
    options = {"server__one_port": "true", "turn__enabled": "true", "turn__domain": "localhost", "tls__certificate": str(certificate), "tls__key": str(certificate)}
    serve(host, **options)
    found = doctor(host, shell=f"export SSL_CERT_FILE={tmp_path}/ca.pem", **options)
    assert found.ok and not found.causes(), found.checks
    assert {"join", "call", "turn"} <= {check["check"] for check in found.checks if check["status"] == "ok"}, found.checks


def test_the_servers_own_certificate_has_expired(host, tmp_path):
    certificate = _certificate(tmp_path, "localhost", "2020-01-01 00:00:00")
    found = doctor(host, turn__enabled="true", tls__certificate=str(certificate), tls__key=str(certificate))
    assert found.causes() == {"certificate-expired"}, found.checks


def test_a_turn_port_that_somebody_has(host):
    def occupy() -> socket.socket:
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taken.bind(("0.0.0.0", 3478))
        return taken

    with host.call(occupy):
        found = doctor(host)
    assert found.causes() == {"port-in-use"} and "turn.udp_port" in found.one("port-in-use")["remedy"], found.checks


def test_udp_that_a_firewall_drops(host, serve):
    serve(host)
    host.rules(NO_UDP_IN)
    found = doctor(host)
    assert found.causes() == {"udp-blocked"} and found.exit_code == 1, found.checks
    assert f"{UDP_PORT}" in found.one("udp-blocked")["remedy"]


def test_an_advertised_address_that_leads_nowhere(host, serve):
    options = {"media__advertise": "203.0.113.9"}
    serve(host, **options)
    found = doctor(host, **options)
    assert found.causes() == {"wrong-advertised-address", "ice-no-path"}, found.checks
    assert "media.advertise" in found.one("wrong-advertised-address")["remedy"]


def test_a_port_that_somebody_has(host):
    def occupy() -> socket.socket:
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taken.bind(("0.0.0.0", UDP_PORT))
        return taken

    with host.call(occupy):
        found = doctor(host)
    assert found.causes() == {"port-in-use"}, found.checks
    assert f"process {os.getpid()}" in found.one("port-in-use")["detail"]


def test_a_clock_that_is_wrong(host):
    with host.call(lambda: _TimeServer(ahead_s=600)) as server:
        found = doctor(host, "--ntp", f"127.0.0.1:{server.port}")
    assert found.causes() == {"clock-skew"}, found.checks
    assert "behind" in found.one("clock-skew")["detail"]


def test_socket_buffers_that_are_too_small(host, tmp_path):
    limit = tmp_path / "rmem_max"
    limit.write_text("16384\n")
    found = doctor(host, shell=f"mount --bind {limit} /proc/sys/net/core/rmem_max")
    assert not found.causes() and "small-socket-buffers" in found.causes("warning"), found.checks
    assert "net.core.rmem_max" in found.one("small-socket-buffers")["remedy"]


def test_a_disk_that_is_full(host, tmp_path):
    found = doctor(host, shell=f"mount -t tmpfs -o size=64k none {tmp_path}; cd {tmp_path}; cat /dev/zero >full 2>/dev/null || true")
    assert found.causes() == {"disk-full"}, found.checks
    assert str(tmp_path) in found.one("disk-full")["detail"]


def test_too_few_file_descriptors(host):
    found = doctor(host, shell="ulimit -n 256")
    assert not found.causes() and "few-descriptors" in found.causes("warning"), found.checks


@pytest.mark.parametrize("fault", ["expired", "other-name", "untrusted"])
def test_certificates(host, tmp_path, fault):
    certificate = _certificate(tmp_path, "wrong.example.org" if fault == "other-name" else "localhost", "2020-01-01 00:00:00" if fault == "expired" else None)
    roots = {} if fault == "untrusted" else {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    with host.call(lambda: _TlsServer(certificate)) as server:
        shell = "; ".join(f"export {name}={value}" for name, value in roots.items())
        found = doctor(host, "--url", f"wss://localhost:{server.port}", shell=shell)
    assert found.causes() == {f"certificate-{fault}"}, found.checks


def test_a_server_that_nobody_reaches(host):
    assert doctor(host, "--url", "ws://10.0.0.2:7999").causes() == {"http-unreachable"}


def test_keys_of_another_server(host, serve):
    serve(host)
    found = doctor(host, auth__keys=f"{KEY}: another secret that is long enough for it")
    assert found.causes() == {"token-invalid"}, found.checks


def test_a_configuration_that_is_wrong(host):
    found = doctor(host, media__udp_port="65535", media__shards="4")
    assert found.causes() == {"configuration-invalid"} and "media.udp_port" in found.checks[0]["detail"], found.checks


class _Service:
    """Answers in a thread until the test ends; made in the namespace."""

    def __init__(self, kind: socket.SocketKind) -> None:
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> _Service:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                self._answer()
            except ssl.SSLError:
                continue
            except OSError:
                return

    def _answer(self) -> None:
        raise NotImplementedError


class _TimeServer(_Service):
    """SNTP (RFC 5905) with a clock that is ahead."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__(socket.SOCK_DGRAM)
        self._ahead_s = ahead_s

    def _answer(self) -> None:
        _, client = self._socket.recvfrom(64)
        now = time.time() + self._ahead_s + NTP_EPOCH_S
        stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
        self._socket.sendto(struct.pack("!BBbb12x", 0x24, 2, 6, -20) + stamp * 4, client)


class _TlsServer(_Service):
    """Does handshakes."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(socket.SOCK_STREAM)
        self._socket.listen()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    def _answer(self) -> None:
        client, _ = self._socket.accept()
        with client, self._context.wrap_socket(client, server_side=True) as tls:
            tls.recv(1)


def _certificate(folder: Path, host: str, made_at: str | None) -> Path:
    """A certificate for one day with its key, by an authority whose certificate is `ca.pem`."""
    faked = ["faketime", made_at] if made_at else []
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca, leaf = folder / "ca.pem", folder / "leaf.pem"
    openssl = [*faked, "openssl", "req", "-x509", *key, "-days", "1"]
    subprocess.run([*openssl, "-subj", "/CN=test authority", "-keyout", folder / "ca.key", "-out", ca], check=True, capture_output=True)
    extensions = ["-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*openssl, "-subj", f"/CN={host}", *extensions, "-CA", ca, "-CAkey", folder / "ca.key", "-keyout", folder / "leaf.key", "-out", leaf], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(leaf.read_text() + (folder / "leaf.key").read_text())
    return both


