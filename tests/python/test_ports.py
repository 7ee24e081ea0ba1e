"""The ports that tests get."""

from __future__ import annotations

import pytest
import server


def test_where_the_system_leaves_no_range_it_chooses(monkeypatch):
    monkeypatch.setattr(server, "_first_ephemeral", lambda: 1024)
    assert server.free_port() >= 1024


def test_where_nothing_is_free_the_search_ends(monkeypatch):
    monkeypatch.setattr(server, "_is_free", lambda port: False)
    with pytest.raises(RuntimeError):
        server.free_port()
