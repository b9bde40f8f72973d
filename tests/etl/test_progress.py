"""Progress as people read it: counts of things without decimals, bytes and large numbers short."""

from __future__ import annotations

import io

import pytest

import etl.progress
from etl.progress import Progress


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have even the shortest work shown."""
    monkeypatch.setattr(etl.progress, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(etl.progress, "_LOG_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("done", "total", "unit", "shown"),
    [
        (39, 274, " entities", " 39/274 "),
        (39, 99_999, " entities", " 39/99999 "),
        (1_500_000, 118_000_000, " entities", " 1.50M/118M "),
        (1500, 3000, "B", " 1.50k/3.00k "),
    ],
)
def test_counts_are_shown_as_they_are(
    at_once: None, done: int, total: int, unit: str, shown: str
) -> None:
    stream = io.StringIO()
    with Progress("asking", total, unit=unit, stream=stream) as progress:
        progress.add(done)
    assert shown in stream.getvalue()


def test_a_total_may_change_on_the_way(at_once: None) -> None:
    stream = io.StringIO()
    with Progress("asking", 10, unit=" entities", stream=stream) as progress:
        progress.add(1)
        progress.total = 2
        progress.add(1)
    first, *_, last = stream.getvalue().splitlines()
    assert " 1/10 " in first
    assert " 2/2 " in last
