"""When instances are due. Needs no clock."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.planning.schedule import DueQueue, Spread, next_slot, phase, retry_delay


@pytest.mark.parametrize("interval", [60, 300, 3600])
@pytest.mark.parametrize("count", [20, 200, 1000])
def test_equal_intervals_start_at_most_5_percent_per_second(count: int, interval: int) -> None:
    starts = [interval * phase(position) for position in range(count)]
    assert all(0 < start <= interval for start in starts)
    windows = Counter(int(start * 4) for start in starts)
    most = max(sum(windows[quarter + one] for one in range(4)) for quarter in range(interval * 4))
    assert most <= max(count * 0.05, 1)


def test_an_instance_is_due_one_interval_after_its_startup() -> None:
    assert phase(0) == 1.0


def test_slots_lie_on_the_grid_whatever_happened_between() -> None:
    assert [next_slot(10.0, 5.0, now) for now in (0.0, 10.0, 12.0, 15.0)] == [10.0, 15.0, 15.0, 20.0]


@given(st.floats(0, 1e6), st.floats(0.5, 1e5), st.floats(0, 1e7))
def test_the_next_slot_is_within_one_interval_from_now(first: float, interval: float, now: float) -> None:
    slot = next_slot(first, interval, now)
    assert slot > now or slot == first
    assert slot - max(now, first) <= interval * 1.001


def test_a_pause_of_10_minutes_is_one_catch_up() -> None:
    queue, ran, slot = DueQueue(), [], 60.0
    queue.put("a", slot)
    for now in (660.0, 660.1, 660.2):  # the process was stopped for 10 minutes
        while queue.pop_due(now):
            ran.append(now)
            slot = next_slot(60.0, 60.0, now)
            queue.put("a", slot)
    assert (ran, slot) == ([660.0], 720.0)


def test_retries_wait_1_second_to_5_minutes_with_jitter() -> None:
    assert [retry_delay(count, 0.0) for count in (1, 2, 3, 4, 8, 9, 20, 10_000)] == [1, 2, 4, 8, 128, 150, 150, 150]
    assert [round(retry_delay(count, 0.999), 1) for count in (1, 2, 8, 20)] == [2.0, 4.0, 255.9, 299.9]


def test_the_queue_returns_the_longest_due_once() -> None:
    queue = DueQueue()
    for name, due in (("late", 9.0), ("b", 2.0), ("a", 1.0), ("b", 3.0), ("gone", 0.0)):
        queue.put(name, due)
    queue.remove("gone")
    assert (len(queue), queue.next_due(), queue.waiting(5.0)) == (3, 1.0, 2)
    assert [queue.pop_due(5.0) for _ in range(3)] == ["a", "b", None]
    assert (len(queue), queue.next_due()) == (1, 9.0)


def test_the_queue_holds_no_more_than_its_instances() -> None:
    queue = DueQueue()
    for turn in range(10_000):
        queue.put(f"i{turn % 10}", float(turn))
        queue.next_due()
    while queue.pop_due(1e9):
        pass
    assert (len(queue), queue.next_due(), queue._heap) == (0, None, [])


@pytest.mark.parametrize("seed", range(20))
def test_slots_stay_even_whatever_comes_and_goes(seed: int) -> None:
    """At most 5% of equal intervals fall into the same second, even if just the instances in between are removed."""
    chance, spread, here = random.Random(seed), Spread(), dict[str, int]()

    def remove(name: str) -> None:
        del here[name]
        moved = spread.remove(name)
        if moved is not None:
            here[moved[0]] = moved[1]

    for number in range(1500):
        here[f"i{number}"] = spread.add(f"i{number}", 60.0)
        if chance.random() < 0.4:
            remove(chance.choice(sorted(here)))
    for name in sorted(here, key=lambda name: phase(here[name]))[: len(here) // 2]:
        remove(name)
    assert sorted(here.values()) == list(range(len(here)))
    seconds = Counter(int(60 * phase(position)) for position in here.values())
    assert max(seconds.values()) <= 0.05 * len(here)
