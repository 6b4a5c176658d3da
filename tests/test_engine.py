"""The cut of an exposure and the threads that work on it."""

import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.engine import BlockPlan, Footprint, parse_size, plan_blocks, run_blocks
from tso3.errors import ParameterError


def footprint(ny=32, nx=2048, used=None, fixed=0):
    return Footprint(
        ny=ny,
        nx=nx,
        used_rows=ny if used is None else used,
        read_bytes=50,
        halo_bytes=25,
        kept_bytes=17,
        result_bytes=400_000,
        fixed_bytes=fixed,
    )


def halo(start, stop):
    return 24


@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    memory=st.integers(220, 4000),
    workers=st.integers(1, 4),
    block=st.one_of(st.none(), st.integers(1, 100)),
)
def test_cut_covers_everything_once_and_never_crosses_a_segment(lengths, memory, workers, block):
    bounds, first = [], 0
    for n in lengths:
        bounds.append((first, first + n))
        first += n
    plan = plan_blocks(bounds, footprint(), halo, max_memory=memory * 2**20, workers=workers, block_size=block)
    assert [i for a, b in sorted(plan.blocks) for i in range(a, b)] == list(range(first))
    for a, b in plan.blocks:
        assert any(lo <= a < b <= hi for lo, hi in bounds)
        assert block is None or b - a <= block
    assert [r for t in plan.tiles for r in range(t.start, t.stop)] == list(range(32))
    assert plan.memory <= memory * 2**20
    assert 1 <= plan.workers <= workers


def test_memory_of_the_cut_does_not_depend_on_the_number_of_integrations():
    few = plan_blocks([(0, 300)], footprint(), halo, max_memory=2**30, workers=2)
    many = plan_blocks([(0, 300), (300, 50_000)], footprint(), halo, max_memory=2**30, workers=2)
    assert few.memory <= 2**30
    assert many.memory <= 2**30


def test_without_neighbours_blocks_are_small_and_whole():
    soss = Footprint(
        256, 2048, used_rows=256, read_bytes=24, halo_bytes=12, kept_bytes=25, result_bytes=0, fixed_bytes=0
    )
    alone = plan_blocks([(0, 50), (50, 100)], soss, lambda start, stop: 0, max_memory=2**30, workers=2)
    assert alone.tiles == (slice(0, 256),)
    assert {stop - start for start, stop in alone.blocks} == {5}
    asked = plan_blocks([(0, 50), (50, 100)], soss, lambda start, stop: 0, max_memory=2**30, workers=2, block_size=50)
    assert asked.blocks == ((0, 50), (50, 100))


def test_too_little_memory_says_what_would_do():
    with pytest.raises(ParameterError, match=r"allow at least \d+ MiB"):
        plan_blocks([(0, 300)], footprint(), halo, max_memory=2**20, workers=2)


@pytest.mark.parametrize(("text", "size"), [("1GiB", 2**30), ("1.5 kB", 1500), (77, 77), ("200mib", 200 * 2**20)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["much", "-1GiB", "0", "3 XB", ""])
def test_wrong_sizes_are_named(text):
    with pytest.raises(ParameterError, match="max_memory"):
        parse_size(text)


def test_two_threads_begin_with_different_segments():
    plan = plan_blocks([(0, 40), (40, 50), (50, 70)], footprint(), halo, max_memory=2**30, workers=2, block_size=10)
    assert [start for start, _ in plan.blocks] == [0, 40, 10, 50, 20, 60, 30]
    alone = plan_blocks([(0, 50)], footprint(), halo, max_memory=2**30, workers=2, block_size=10)
    assert list(alone.blocks) == sorted(alone.blocks)


def test_two_threads_work_on_tiles_of_two_blocks():
    plan = BlockPlan(((0, 5), (5, 10)), tuple(slice(i, i + 1) for i in range(6)), workers=2, memory=0, in_flight=2)
    lock, running, together = threading.Lock(), [], []
    both = threading.Barrier(2)

    def run_tile(state, rows):
        with lock:
            running.append(state)
        both.wait(10)
        with lock:
            together.append(tuple(sorted(running)))
        both.wait(10)
        with lock:
            running.remove(state)

    run_blocks(plan, lambda start, stop: start, run_tile, lambda state: None)
    assert together.count((0, 5)) >= 8  # the first two may begin before the second block is open


@pytest.mark.parametrize("workers", [1, 3])
def test_a_block_is_closed_once_after_all_its_tiles(workers):
    plan = plan_blocks([(0, 50), (50, 90)], footprint(), halo, max_memory=2**30, workers=workers, block_size=7)
    lock, seen, closed = threading.Lock(), {}, []

    def open_block(start, stop):
        seen[start] = []
        return start

    def run_tile(state, rows):
        with lock:
            seen[state].append(rows)

    def close_block(state):
        with lock:
            assert sorted(r.start for r in seen[state]) == [t.start for t in plan.tiles]
            closed.append(state)

    run_blocks(plan, open_block, run_tile, close_block)
    assert sorted(closed) == sorted(a for a, _ in plan.blocks)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_stops_the_run_and_is_raised(workers):
    plan = plan_blocks([(0, 500)], footprint(), halo, max_memory=2**30, workers=workers, block_size=5)
    opened = []

    def run_tile(state, rows):
        if state == 10:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run_blocks(plan, lambda a, b: opened.append(a) or a, run_tile, lambda state: None)
    assert len(opened) < 20


def tall() -> Footprint:
    return Footprint(
        256,
        2048,
        used_rows=59,
        read_bytes=24,
        halo_bytes=12,
        kept_bytes=17,
        result_bytes=0,
        fixed_bytes=0,
        judge_bytes=12,
    )


def test_blocks_of_several_tiles_are_copied_in_whole_frames_afterwards():
    plan = plan_blocks([(0, 75), (75, 150)], tall(), halo, max_memory=2**30, workers=2)
    assert len(plan.tiles) > 1
    assert [k for piece in plan.pieces(75, 150) for k in range(*piece)] == list(range(75, 150))
    contiguous = plan.piece * 256 * 2048 * 4
    assert contiguous >= 2**22  # large enough to go past the memory of files
    finished = replace(tall(), judge_bytes=0)
    assert plan.memory < plan_blocks([(0, 75), (75, 150)], finished, halo, max_memory=2**30, workers=2).memory


@pytest.mark.parametrize("memory", [150, 250, 400, 1024])
def test_the_cut_of_tall_frames_fits_the_memory_allowed(memory):
    plan = plan_blocks([(0, 75), (75, 150)], tall(), halo, max_memory=memory * 2**20, workers=2)
    assert plan.memory <= memory * 2**20
    assert [r for t in plan.tiles for r in range(t.start, t.stop)] == list(range(256))


def test_whole_frames_leave_no_pieces():
    assert plan_blocks([(0, 300)], footprint(), halo, max_memory=2**30, workers=2).pieces(0, 75) == []


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_pieces_begin_when_all_tiles_of_their_block_are_done(workers):
    tiles = tuple(slice(i, i + 1) for i in range(5))
    blocks = ((0, 7), (7, 14), (14, 19))
    plan = BlockPlan(blocks, tiles, workers=workers, memory=0, in_flight=2, piece=3)
    lock, seen, copied, closed = threading.Lock(), {a: [] for a, _ in blocks}, {a: [] for a, _ in blocks}, []

    def run_tile(state, rows):
        time.sleep(0.001)
        with lock:
            seen[state].append(rows.start)

    def run_piece(state, start, stop):
        with lock:
            assert sorted(seen[state]) == [0, 1, 2, 3, 4]
            copied[state] += range(start, stop)

    def close_block(state):
        with lock:
            closed.append(state)
            assert sorted(copied[state]) == list(range(*dict(zip((a for a, _ in blocks), blocks, strict=True))[state]))

    run_blocks(plan, lambda start, stop: start, run_tile, close_block, run_piece)
    assert sorted(closed) == [0, 7, 14]


def test_an_error_frees_threads_that_wait_for_pieces():
    plan = BlockPlan(((0, 4),), (slice(0, 1),), workers=3, memory=0, in_flight=1, piece=1)

    def run_tile(state, rows):
        time.sleep(0.05)  # the other threads wait by now
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run_blocks(plan, lambda a, b: a, run_tile, lambda state: None, lambda state, a, b: None)
