"""What operators read: logs that nobody can forge, and one id from the WebSocket to the trace of the media."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from livekit.protocol import rtc as protocol

from attack import RawSignaling
from peer import Peer, access_token
from server import OUT, Server, free_port
from waiting import until

FORGERY = "x\n2026-11-26T00:00:00.000000Z  INFO sluice: FORGED\r\x1b[2J\u2028"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ")


class Collector:
    """Takes what OpenTelemetry's collectors take: OTLP over HTTP with JSON."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/traces"
                for resource in document["resourceSpans"]:
                    collector.spans += (span for scope in resource["scopeSpans"] for span in scope["spans"])
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def names(self) -> set[str]:
        return {span["name"] for span in self.spans}

    def attributes(self, name: str) -> set[str]:
        """What all spans say under this name."""
        return {attribute["value"]["stringValue"] for span in self.spans for attribute in span["attributes"] if attribute["key"] == name}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


async def test_one_id_leads_from_the_web_socket_to_the_media_in_logs_and_traces(collector, room):
    server = Server.start("traces", log__format="json", telemetry__otlp=collector.url)
    try:
        alice = Peer(server, room, "alice")
        await alice.join()
        sid = alice.room.local_participant.sid
        await until("the join is traced", lambda: {"signal", "media", "join"} <= collector.names())
        await alice.leave()
        await until("the stay is traced", lambda: "stay" in collector.names())
    finally:
        server.stop()
    assert collector.attributes("participant") == {sid} and collector.attributes("reason") == {"client-left"}
    assert len({span["traceId"] for span in collector.spans}) == 1
    spans = {span["name"]: span for span in collector.spans}
    assert spans["media"]["parentSpanId"] == spans["signal"]["parentSpanId"] == spans["join"]["spanId"]
    assert spans["join"]["parentSpanId"] == spans["stay"]["spanId"] and "parentSpanId" not in spans["stay"]
    lines = [json.loads(line) for line in log_of("traces").splitlines()]
    told = [line["message"] for line in lines if line.get("participant") == sid]
    assert told == ["participant joined", "participant left"], told
    assert "alice" not in json.dumps(collector.spans), "names are nobody's business"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_what_clients_say_forges_no_line_of_the_log(form):
    server = Server.start(f"forgery-{form}", log__format=form, log__level="trace")
    try:
        token = access_token(FORGERY, FORGERY)
        async with RawSignaling(server, token, sdk=FORGERY) as mallory:
            await mallory.receive("join")
            sdp = f"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:{FORGERY}\r\na=sendrecv\r\n"
            await mallory.send(protocol.SignalRequest(offer=protocol.SessionDescription(type="offer", sdp=sdp)))
            await mallory.send(protocol.SignalRequest(trickle=protocol.TrickleRequest(candidateInit=FORGERY)))
            await mallory.send(protocol.SignalRequest(add_track=protocol.AddTrackRequest(cid=FORGERY, name=FORGERY)))
            await mallory.send(FORGERY)
            await until("the log has something of it", lambda: "FORGED" in (OUT / f"forgery-{form}.log").read_text())
    finally:
        server.stop()
    log = log_of(f"forgery-{form}")
    assert "FORGED" in log, "nothing was said that could be forged"
    for line in log.split("\n")[:-1]:
        if form == "json":
            json.loads(line)
        else:
            assert LINE.match(line), line
        assert not CONTROL.search(line), repr(line)
    assert not re.search("^2026-11-26T00:00:00", log, re.M)


def log_of(name: str) -> str:
    """Without what `sluice dev` says to the person who started it, on standard output."""
    return re.sub(r"^(https?://\S+|API key devkey, secret secret|media on .*)\n", "", (OUT / f"{name}.log").read_text(), flags=re.M)


def test_the_first_lines_say_what_clients_are_told_and_why():
    server = Server.start("boot", log__format="json", media__advertise="192.168.77.1")
    server.stop()
    lines = [json.loads(line) for line in log_of("boot").splitlines()]
    told = {(line["address"].rsplit(":", 1)[0], line["why"]) for line in lines if line["message"] == "clients are told"}
    assert told == {("192.168.77.1", "media.advertise")}, lines
    checks = {line["check"] for line in lines if "check" in line}
    assert {"files", "buffers", "disk"} <= checks and all(line["remedy"] for line in lines if "cause" in line), lines


async def test_a_server_that_is_asked_to_go_lets_calls_end_and_its_successor_takes_over(room):
    """SIGTERM with a drain: calls go on, nobody new comes, who is left at the deadline joins the successor."""
    port = free_port()
    options = {"server__listen": f"127.0.0.1:{port}", "server__drain_timeout": "3s"}
    first = Server.start("restart-1", **options)
    alice, bob = Peer(first, room, "alice"), Peer(first, room, "bob")
    try:
        await asyncio.gather(alice.join(), bob.join())
        await alice.publish_tone(440)
        await bob.hears("alice", 440)
        assert first.process
        first.process.terminate()
        await until("it is not ready", lambda: first.get("/readyz")[0] == 503)
        assert first.get("/livez")[0] == 200 and first.get("/rtc/validate?access_token=" + access_token(f"{room}-new", "carol"))[0] == 503
        await bob.hears("alice", 440)
        await until("it has gone", lambda: first.process.poll() is not None, within_s=20)
        assert first.process.returncode == 0
        bob.sound.clear()
        second = Server.start("restart-2", **options)
        try:
            await until("both are back", lambda: second.metrics().get("signaling_participants") == 2, within_s=30, poll_s=0.5)
            await bob.hears("alice", 440)
        finally:
            await asyncio.gather(alice.leave(), bob.leave())
            second.stop()
    finally:
        first.stop()
