"""The histogram of latencies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.bench.latencies import Latencies


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_quantile_is_close_and_never_too_low(values: list[float], share: float) -> None:
    """Against the sorted values, by nearest rank: at most 0.5 % above."""
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[-(-int(share * 100) * len(values) // 100) - 1]
    assert exact * (1 - 1e-9) <= latencies.quantile(share) <= exact * 1.0051


def test_nothing_measured_is_nothing() -> None:
    """No latencies, no quantile."""
    assert Latencies().summary() == {"p50": 0, "p90": 0, "p95": 0, "p99": 0, "max": 0}


def test_the_maximum_is_exact_and_what_is_tiny_counts() -> None:
    """The largest is told as it was; zero and less lie in the first place."""
    latencies = Latencies()
    for value in (0.0, -1e-9, 0.123456):
        latencies.add(value)
    assert latencies.count == 3
    assert latencies.summary()["max"] == 0.123456
    assert latencies.quantile(0.5) == pytest.approx(1e-6)
