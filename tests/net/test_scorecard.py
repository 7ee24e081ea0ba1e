"""The scorecard in real time works; what it measures in full is `benches/results/links.md`."""

import os
from pathlib import Path

import pytest

from namespaces import LabError
from scorecard import MBIT, SHORT, Card, Scenario, play, require_all
from link import TCP, UDP
from server import binary


def packets(from_s: float, to_s: float, bps: float, waited_ms: float, flow: int = UDP << 16 | 5000):
    """A thousand bytes at a time."""
    count = int((to_s - from_s) * bps / 8_000)
    return [(from_s + (to_s - from_s) * number / count, flow, 1_000, waited_ms) for number in range(count)]


def test_a_card_says_what_was_used_how_long_it_waited_and_when_it_changed():
    scenario = Scenario("", 20, ((0, 2 * MBIT), (10, MBIT)))
    # Two seconds of nothing, then 90 %; one second too much after the fall, of which half is dropped, then 80 %.
    too_much = packets(10, 11, MBIT, 200) + packets(10, 11, MBIT, -1)
    seen = sorted(packets(2, 10, 1.8 * MBIT, 20) + too_much + packets(11, 20, 0.8 * MBIT, 10) + packets(0, 20, MBIT, 500, TCP << 16 | 1))
    card = Card.of(scenario, [(at + 1_000, *rest) for at, *rest in seen], 1_000)
    assert [round(percent) for percent in card.utilisation] == [90, 80]
    assert (card.queue_p50_ms, card.queue_p95_ms) == (20, 20) and 3.0 < card.dropped < 5.0
    assert card.up_s == pytest.approx(2.5, abs=0.15) and card.down_s == pytest.approx(1.3, abs=0.25)
    assert card.fairness is None and card.share is None


def test_rates_of_viewers_beside_each_other_and_beside_tcp():
    scenario = Scenario("", 20, ((0, 2 * MBIT),), starts_s=(0, 2), tcp_from_s=3)
    seen = sorted(packets(0, 20, 0.9 * MBIT, 5, UDP << 16 | 1) + packets(2, 20, 0.3 * MBIT, 5, UDP << 16 | 2) + packets(3, 20, 0.8 * MBIT, 5, TCP << 16 | 1))
    card = Card.of(scenario, seen, 0)
    assert card.fairness == pytest.approx(1.2**2 / (2 * (0.81 + 0.09)), abs=0.01)
    assert card.share == pytest.approx(60, abs=1)


def test_the_server_follows_a_link_in_real_time():
    """Loose bounds: the machine does other things as well, and in eighteen seconds the beginning, in which nothing is limited, counts for much."""
    binaries = Path(binary()).resolve().parent
    try:
        require_all(binaries)
    except LabError as error:
        pytest.skip(str(error))
    card = play(SHORT, binaries)
    assert min(card.utilisation) > 40, card
    assert card.queue_p50_ms < SHORT.queue_ms and card.dropped < 50, card
