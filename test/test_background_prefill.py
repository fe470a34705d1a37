"""Background prefill of the prefix cache: chunks, lag behind the memory, and the budget of device time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from caching_prefillers import EAGER, ON_DEMAND, Bench, model, shown_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_engine import SECOND

from flash_vstream_ros.engine.answering.background_budget import BURST_WINDOW_S, BackgroundBudget
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

__all__ = ["model"]  # a fixture


def test_an_answer_lags_at_most_as_allowed_and_reports_its_lag(model: Qwen2VL) -> None:
    bench = Bench(model, replace(ON_DEMAND, max_lag_s=5.0))
    old, tokens = bench.asked()
    assert old is not None
    assert old.lag_slots == 0
    bench.see(2)  # 4 s
    late, late_tokens = bench.asked()
    assert late is not None
    assert (late.lag_slots, late.snapshot.last_ns) == (2, old.snapshot.last_ns)
    assert late_tokens == tokens
    bench.see(1)
    fresh, fresh_tokens = bench.asked()
    assert fresh is not None
    assert (fresh.lag_slots, fresh.snapshot.last_ns) == (0, old.snapshot.last_ns + 6 * SECOND)
    assert fresh_tokens == bench.asked_uncached()[1]


@pytest.mark.parametrize(("tail", "recent"), [(1, 1), (2, 2), (8, 3)])
def test_the_newest_slots_are_appended_to_a_lagging_cache(model: Qwen2VL, tail: int, recent: int) -> None:
    limits = replace(ON_DEMAND, max_lag_s=10.0, tail_slots=tail)
    bench = Bench(model, limits, recent_slots=recent)
    old, _ = bench.asked()
    bench.see(3)
    reading, tokens = bench.asked()
    assert old is not None
    assert reading is not None
    shown = min(tail, recent)
    assert reading.snapshot.last_ns == bench.memory.last_ns
    newer = reading.snapshot.entries[len(old.snapshot.entries) :]
    assert [entry.last_ns for entry in newer] == [2 * k * SECOND for k in range(11 - shown, 11)]
    assert reading.lag_slots == 3 - shown
    assert reading.memory_tokens == old.memory_tokens + shown * bench.features[0][1].shape[0]
    assert len(reading.generation.attention) == len(reading.snapshot.entries)
    assert reading.cached_tokens == len(model._prompt.before) + old.memory_tokens
    assert len(tokens) == 4
    again, tokens_again = bench.asked()
    assert again is not None
    assert (shown_of(again), tokens_again) == (shown_of(reading), tokens)


def test_a_memory_that_changes_faster_than_prefill_is_not_prefilled_until_it_stops(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, max_chunk_tokens=50))
    bench.prefix.read_s = 0.5  # about two seconds for the whole memory
    for _ in range(20):
        for _ in range(2):
            bench.prefiller.background_prefill()
        bench.prefix.now += 0.2
        bench.see(1)
    begun = bench.prefix.shown
    assert begun < 10
    wait_s = bench.prefiller.background_prefill()
    assert wait_s is not None
    assert 0 < wait_s < 10
    bench.prefix.now += wait_s
    bench.warm_up()
    assert bench.prefix.shown == begun + 1
    assert bench.prefiller.status.until_ns == bench.memory.last_ns


def test_background_chunks_take_about_the_configured_duration(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, chunk_s=0.1))
    sizes: list[int] = []
    read = bench.prefix.prefill

    def at_2000_tokens_a_second(tokens: int) -> None:
        before = bench.prefix.cached_tokens
        read(tokens)
        sizes.append(bench.prefix.cached_tokens - before)
        bench.prefix.now += sizes[-1] / 2000

    bench.prefix.prefill = at_2000_tokens_a_second  # type: ignore[method-assign]
    bench.warm_up()
    assert sizes[0] == 64
    assert set(sizes[1:-1]) <= {199, 200}
    assert sum(sizes) == bench.prefiller.status.tokens


def test_a_cache_that_may_lag_is_refilled_only_once_it_lags_half_of_the_limit(model: Qwen2VL) -> None:
    bench = Bench(model, replace(EAGER, max_chunk_tokens=50, max_lag_s=20.0))
    bench.prefiller.background_prefill(), bench.prefiller.background_prefill()
    bench.see(1)
    bench.warm_up()
    assert bench.prefix.shown == 1
    bench.see(4)  # 10 s behind: half of what is allowed
    bench.warm_up()
    assert bench.prefix.shown == 1
    bench.see(1)
    bench.warm_up()
    assert bench.prefix.shown == 2
    assert bench.prefiller.status.until_ns == bench.memory.last_ns


@settings(max_examples=50, deadline=None)
@given(
    share=st.sampled_from([0.01, 0.2, 0.5, 1.0]),
    units=st.lists(st.tuples(st.floats(0.001, 3.0), st.floats(0.0, 20.0)), min_size=1, max_size=60),
)
def test_background_prefill_stays_within_its_budget(share: float, units: list[tuple[float, float]]) -> None:
    now = 0.0
    budget = BackgroundBudget(lambda: now)
    worked, longest = 0.0, 0.0
    for unit_s, idle_s in units:
        now += idle_s
        now += budget.wait_s(share)
        assert budget.wait_s(share) == pytest.approx(0.0, abs=1e-6)
        now += unit_s
        budget.spend(unit_s)
        worked, longest = worked + unit_s, max(longest, unit_s)
        assert worked <= share * (now + BURST_WINDOW_S) + longest + 1e-6
