"""How many events share a transaction."""

from interlock.events.pace import Pace


def grown(pace: Pace, batches: int, seconds: float = 0.0001) -> list[int]:
    """Have batches go well, each as large as the pace allows; return their sizes."""
    sizes = []
    for _ in range(batches):
        sizes.append(pace.size)
        pace.went_well(pace.size, seconds)
    return sizes


def test_it_doubles_while_all_goes_well() -> None:
    """From one to the most there may be."""
    assert grown(Pace(32), 7) == [1, 2, 4, 8, 16, 32, 32]
    assert grown(Pace(1), 3) == [1, 1, 1]


def test_slow_events_share_with_few_or_none() -> None:
    """No more than fit into the time for which the first may be held."""
    assert grown(Pace(32, hold=0.05), 5, seconds=0.02) == [1, 2, 2, 2, 2]
    assert grown(Pace(32, hold=0.05), 3, seconds=0.06) == [1, 1, 1]
    slowed = Pace(32, size=32, hold=0.05)
    slowed.went_well(32, 0.025)
    assert slowed.size == 2


def test_events_run_alone_for_a_while_when_a_batch_was_undone() -> None:
    """And for longer each time it happens again soon."""
    pace = Pace(8, size=8)
    pace.went_wrong()
    assert grown(pace, 6) == [1, 1, 1, 1, 1, 2]
    pace.went_wrong()
    assert grown(pace, 10) == [1] * 9 + [2]


def test_it_forgets_after_many_that_went_well() -> None:
    """A batch undone now and then keeps nothing small for long."""
    pace = Pace(8, size=8)
    for _ in range(5):
        pace.went_wrong()
        grown(pace, 200)
        assert pace.size == 8
    pace.went_wrong()
    assert grown(pace, 6) == [1, 1, 1, 1, 1, 2]
