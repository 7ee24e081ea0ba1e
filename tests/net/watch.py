"""The real Prometheus beside a server, with the rules that operators get and a clock that runs faster.

Windows and `for` of the rules are divided by a factor, so that a test does not wait as long as an operator would; everything
else, the thresholds above all, is as in `deploy/prometheus/alerts.yml`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from namespaces import Namespace
from node import HTTP_PORT, OUT
from server import ROOT
from waiting import until

ALERTS = ROOT / "deploy/prometheus/alerts.yml"
CONFIGURATION = ROOT / "deploy/compose/prometheus.yml"
PORT = 9090
FASTER = 20
"""A window of five minutes is one of 15 s."""
SCRAPE_INTERVAL = "1s"
"""Metrics of media change once a second."""
START_LIMIT_S = 20

EXPLAINING = [
    *(f'sum(rate(sfu_rtp_{what}packets_total{{direction="{way}"}}[15s]))' for way in ("in", "out") for what in ("", "lost_", "residual_lost_")),
    *(f'histogram_quantile({rank}, sum by (le) (rate({name}_bucket{{direction="{way}"}}[15s])))' for way in ("in", "out") for rank, name in ((0.9, "sfu_jitter_seconds"), (0.1, "sfu_mos"))),
    "histogram_quantile(0.99, sum by (le) (rate(sfu_forward_latency_seconds_bucket[15s])))",
]
"""What a failure shows."""

Alert = tuple[str, str]
"""Name, and direction if it has one."""


def hurried(rules: str, factor: int = FASTER) -> str:
    """The rules with every window and every `for` divided by the factor; nothing else differs."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * {"s": 1, "m": 60}[found[3]]
        assert seconds % factor == 0, found[0]
        return f"{found[1]}{seconds // factor}s"

    return re.sub(r"(\[|\bfor: )(\d+)([sm])", shorter, rules)


def rid_of_times(rules: str) -> str:
    """What must be the same in both: everything but windows and `for`."""
    return re.sub(r"(\[|\bfor: )\d+[sm]", r"\1", rules)


class Prometheus:
    """Scrapes the server of a namespace from within, as one on the same machine does."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        rules = ALERTS.read_text()
        assert rid_of_times(hurried(rules)) == rid_of_times(rules)
        (folder / "alerts.yml").write_text(hurried(rules))
        configuration = yaml.safe_load(CONFIGURATION.read_text())
        (job,) = configuration["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{HTTP_PORT}"]}]
        configuration["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
        configuration["rule_files"] = [str(folder / "alerts.yml")]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        assert shutil.which("prometheus"), "the package prometheus is missing: tools/setup.sh test"
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT}"]
        with (OUT / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(namespace.command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def is_scraping(self) -> None:
        """Waits until it has read the server's metrics."""
        await until("Prometheus scrapes", lambda: self.value('up{job="sluice"}') == 1, within_s=START_LIMIT_S, poll_s=0.2)

    def value(self, query: str) -> float | None:
        """The first sample of an instant query."""
        answer = self._ask(f"query?query={urllib.parse.quote(query)}")
        found = answer["result"] if answer else []
        return float(found[0]["value"][1]) if found else None

    def alerts(self, *states: str) -> set[Alert]:
        """Alerts that are in one of these states (default: firing)."""
        answer = self._ask("alerts")
        listed = answer["alerts"] if answer else []
        return {(each["labels"]["alertname"], each["labels"].get("direction", "")) for each in listed if each["state"] in (states or ("firing",))}

    def fired(self, seconds: int) -> set[Alert]:
        """Alerts that fired at any time within the last seconds: no look between two others is missed."""
        query = f'max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])'
        answer = self._ask(f"query?query={urllib.parse.quote(query)}")
        assert answer is not None, "Prometheus does not answer"
        return {(each["metric"]["alertname"], each["metric"].get("direction", "")) for each in answer["result"]}

    async def fires(self, wanted: set[Alert], within_s: float) -> None:
        """Waits until exactly these alerts fire and no other is about to."""
        states: dict[str, set[Alert]] = {}

        def is_so() -> bool:
            states.update({state: self.alerts(state) for state in ("firing", "pending")})
            return states["firing"] == wanted and not states["pending"]

        try:
            await until(f"{wanted} fire", is_so, within_s=within_s, poll_s=0.5)
        except AssertionError as error:
            seen = {query: self.value(query) for query in EXPLAINING}
            raise AssertionError(f"{wanted or 'none'} should fire, but: {states}; {seen}") from error

    def _ask(self, what: str) -> dict | None:
        def ask() -> dict | None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/v1/{what}", timeout=5) as response:
                    return json.load(response)["data"]
            except OSError:
                return None

        return self._namespace.call(ask)
