"""The queue is fair and bounded."""

import types

import numpy as np
import pytest

from jsbert.serve.jobs import Job, Program
from jsbert.serve.scheduler import BATCHES, Scheduler
from jsbert.tokenizer import Ragged

BUDGET = 40


def program(name="a"):
    placement = types.SimpleNamespace(token_budget=BUDGET)
    engine = types.SimpleNamespace(placement=placement)
    return Program(engine, name, True, (), lambda outputs: outputs)


PROGRAM = program()


def job(lengths, program=PROGRAM):
    return Job(program, Ragged.from_lists([[7] * length for length in lengths]), None)


def taken(found):
    """The jobs of a round with the positions of their texts."""
    return [(piece.job, piece.positions.tolist()) for piece in found.pieces]


def test_one_job_that_waits_alone_is_taken_at_once():
    queue, only = Scheduler(1000), job([3, 5, 4])
    assert queue.add(only)
    assert taken(queue.take()) == [(only, [1, 2, 0])]  # the longest first
    assert only.is_taken


def test_jobs_that_wait_share_a_round_in_their_order():
    queue, jobs = Scheduler(1000), [job([3]) for _ in range(5)]
    for one in jobs:
        queue.add(one)
    assert [one for one, _ in taken(queue.take())] == jobs


def test_a_round_has_at_most_its_tokens_unless_a_text_is_longer():
    queue = Scheduler(10_000)
    for _ in range(200):
        queue.add(job([9, 7, 4]))
    for _ in range(10):
        found = queue.take()
        total = sum(piece.job.tokens.lengths[piece.positions].sum() for piece in found.pieces)
        assert 0 < total <= BATCHES * BUDGET + 9
    queue = Scheduler(10_000)
    queue.add(job([3 * BUDGET, 2]))
    assert taken(queue.take())[0][1][0] == 0


def test_a_large_job_delays_a_small_one_by_one_round():
    queue, large = Scheduler(10**6), [job([10] * 100) for _ in range(3)]
    small = job([5])
    for one in [*large, small]:
        queue.add(one)
    # A round has room for four pieces: one of each large job, and the small job.
    found = queue.take()
    assert [one for one, _ in taken(found)][:4] == [*large, small]
    assert all(len(positions) == BUDGET // 10 for _, positions in taken(found)[:3])


def test_a_large_job_goes_on_while_small_ones_keep_coming():
    queue, large = Scheduler(10**6), job([10] * 100)
    queue.add(large)
    rounds = 0
    while not large.is_taken:
        for _ in range(6):  # three quarters of a round
            queue.add(job([BUDGET // 2]))
        queue.take()
        rounds += 1
        assert rounds < 60


def test_every_text_is_taken_once_and_results_come_in_order():
    generator = np.random.default_rng(0)
    queue = Scheduler(10**6)
    jobs = [job(generator.integers(1, 30, size=count)) for count in (1, 40, 7, 100, 1)]
    for one in jobs:
        queue.add(one)
    done = []
    while len(done) < len(jobs):
        for piece in queue.take().pieces:
            for position in piece.positions.tolist():
                if piece.job.put(position, np.array([position])):
                    done.append(piece.job)
    for one in jobs:
        assert [int(row[0]) for row in one.results] == list(range(len(one.tokens.lengths)))
    assert jobs.index(done[-1]) == 3  # the largest is the last


def test_programs_do_not_mix_and_take_turns():
    queue, other = Scheduler(10**6), program("b")
    first, second, third = job([10] * 50), job([3], other), job([4])
    for one in (first, second, third):
        queue.add(one)
    found = queue.take()
    assert found.program == PROGRAM
    assert {one for one, _ in taken(found)} == {first, third}
    found = queue.take()
    assert found.program == other
    assert taken(found) == [(second, [0])]


def test_the_queue_is_bounded_until_jobs_are_done():
    queue, first = Scheduler(100), job([60])
    assert queue.add(first)
    assert not queue.add(job([50]))
    queue.take()
    assert not queue.add(job([50]))  # it is being computed
    queue.remove(first)
    assert (queue.num_tokens, queue.num_jobs) == (0, 0)
    assert queue.add(job([50]))


def test_a_job_that_is_removed_is_not_taken():
    queue, first, second = Scheduler(1000), job([10] * 50), job([3])
    queue.add(first)
    queue.add(second)
    queue.take()
    queue.remove(first)
    queue.remove(first)
    queue.add(third := job([2]))
    assert taken(queue.take()) == [(third, [0])]
    assert queue.num_tokens == 5


def test_a_closed_queue_takes_nothing_and_gives_nothing():
    queue = Scheduler(1000)
    queue.add(job([3]))
    queue.close()
    assert queue.take() is None
    assert not queue.add(job([3]))


@pytest.mark.parametrize("count", [1, 17, 200])
def test_pieces_hold_neighbours_in_length(count):
    lengths = np.random.default_rng(count).integers(1, 30, size=count)
    one, found = job(lengths), []
    while not one.is_taken:
        positions, num_tokens = one.take(50)
        assert num_tokens == lengths[positions].sum()
        found += positions.tolist()
    assert lengths[found].tolist() == sorted(lengths, reverse=True)
    assert sorted(found) == list(range(count))
