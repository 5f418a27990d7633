"""Order, batches without duplicates, mixing, reading ahead and masking."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsbert.train.masking import masked
from jsbert.train.order import epoch_batches, mixed_batches
from jsbert.train.prefetch import prefetched


def as_lists(batches):
    return [batch.tolist() for batch in batches]


def test_each_example_comes_once_and_only_the_last_batch_is_smaller():
    batches = epoch_batches(23, 5, seed=1, epoch=0)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert sorted(np.concatenate(batches)) == list(range(23))
    assert epoch_batches(0, 5, seed=1, epoch=0) == []
    with pytest.raises(ValueError, match="batch_size is 0"):
        epoch_batches(3, 0, seed=0, epoch=0)


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = [
        as_lists(epoch_batches(40, 7, seed=seed, epoch=epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    assert orders[3] == as_lists(epoch_batches(40, 7, seed=1, epoch=1))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda towers: st.lists(
            st.lists(st.sampled_from("abcdefgh"), min_size=towers, max_size=towers), max_size=40
        )
    ),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_no_text_occurs_in_two_examples_of_a_batch(rows, batch_size, seed):
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]]
    batches = epoch_batches(len(rows), batch_size, seed=seed, epoch=0, texts=columns)
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        texts = [text for index in batch for text in set(rows[index])]
        assert len(texts) == len(set(texts))
        assert 1 <= len(batch) <= batch_size


def test_without_duplicates_the_batches_are_the_plain_ones():
    texts = [[f"a{n}" for n in range(30)], [f"b{n}" for n in range(30)]]
    texts[1][4] = texts[0][4]  # within an example a text may occur twice
    plain = as_lists(epoch_batches(30, 4, seed=3, epoch=2))
    assert as_lists(epoch_batches(30, 4, seed=3, epoch=2, texts=texts)) == plain


def test_a_frequent_text_makes_small_batches_at_the_end_and_nothing_is_lost():
    texts = [["same"] * 6 + [f"t{n}" for n in range(6)]]
    batches = epoch_batches(12, 4, seed=0, epoch=0, texts=texts)
    assert len(batches) == 6
    assert sorted(np.concatenate(batches)) == list(range(12))


def test_classes_come_in_pairs_and_nothing_is_lost():
    classes = np.array([0] * 8 + [5] * 7 + [-2] * 3 + [9])
    batches = epoch_batches(19, 4, seed=0, epoch=0, classes=classes)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 3]
    assert sorted(np.concatenate(batches)) == list(range(19))
    order = np.concatenate(batches)[:16].reshape(8, 2)
    assert (classes[order[:, 0]] == classes[order[:, 1]]).all()
    assert sorted(classes[np.concatenate(batches)[16:]]) == [-2, 5, 9]
    again, other = (epoch_batches(19, 4, seed=0, epoch=e, classes=classes) for e in (0, 1))
    assert as_lists(again) == as_lists(batches) != as_lists(other)
    assert epoch_batches(0, 4, seed=0, epoch=0, classes=np.zeros(0, int)) == []
    assert len(epoch_batches(5, 4, seed=0, epoch=0, classes=np.arange(5))) == 2


def test_classes_of_one_size_are_in_every_batch():
    classes = np.arange(120) % 3
    batches = epoch_batches(120, 6, seed=0, epoch=0, classes=classes)
    assert all(sorted(classes[batch]) == [0, 0, 1, 1, 2, 2] for batch in batches)
    rare = (np.arange(120) < 16).astype(int)  # 8 of 60 pairs, and 10 batches of 6 pairs
    found = [rare[batch].sum() for batch in epoch_batches(120, 12, seed=0, epoch=0, classes=rare)]
    assert max(found) <= 4


@pytest.mark.parametrize("batch_size", [2, 5])
def test_pairs_need_an_even_batch(batch_size):
    with pytest.raises(
        ValueError, match=f"batch_size is {batch_size}; .* even number, at least 4: change"
    ):
        epoch_batches(9, batch_size, seed=0, epoch=0, classes=np.zeros(9, int))


def test_proportional_mixing_uses_all_batches_in_each_source_s_order():
    sources = [list(range(20)), list("abcdefgh"), []]
    mixed = mixed_batches(sources, seed=0, epoch=0)
    assert [
        [batch for source, batch in mixed if source == number] for number in range(3)
    ] == sources
    assert mixed == mixed_batches(sources, how="proportional", seed=0, epoch=0)
    assert mixed != mixed_batches(sources, seed=0, epoch=1)
    assert {source for source, _ in mixed[:14]} == {0, 1}  # mixed, not one after the other


def test_round_robin_stops_with_the_shortest_source():
    mixed = mixed_batches([[1, 2, 3], [4, 5]], how="round-robin", seed=0, epoch=0)
    assert mixed == [(0, 1), (1, 4), (0, 2), (1, 5)]
    with pytest.raises(
        ValueError, match="unknown way to mix 'random'; choose 'proportional' or 'round-robin'"
    ):
        mixed_batches([[1]], how="random", seed=0, epoch=0)


class TestPrefetched:
    grain = pytest.importorskip("grain")

    @pytest.mark.parametrize("num_threads", [0, 1, 3])
    def test_items_come_in_order_from_the_start_given(self, num_threads):
        def make(item):
            time.sleep(0.002 * (item % 3))
            return None if item == 5 else item * item

        made = list(prefetched(range(10), make, start=3, num_threads=num_threads))
        assert made == [9, 16, None, 36, 49, 64, 81]
        assert list(prefetched([1, 2], make, start=2, num_threads=num_threads)) == []
        with pytest.raises(ValueError, match="start is 3; the plan has 2 items"):
            prefetched([1, 2], make, start=3)

    def test_items_are_made_ahead_in_other_threads(self):
        threads, second = set(), threading.Event()

        def make(item):
            threads.add(threading.current_thread())
            if item == 1:
                second.set()
            return item

        made = prefetched(range(9), make)
        assert next(made) == 0
        assert second.wait(5)
        made.close()
        assert threading.current_thread() not in threads

    @pytest.mark.parametrize("num_threads", [0, 2])
    def test_an_exception_comes_at_its_place(self, num_threads):
        def make(item):
            if item == 2:
                raise KeyError("item two")
            return item

        made = prefetched(range(5), make, num_threads=num_threads)
        assert [next(made), next(made)] == [0, 1]
        with pytest.raises(KeyError, match="item two"):
            next(made)

    def test_closing_stops_the_threads(self):
        count, threads = [], set()

        def make(item):
            threads.add(threading.current_thread())
            count.append(item)
            return item

        made = prefetched(range(1000), make, num_threads=2)
        next(made)
        made.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert len(count) < 10


IDS = np.random.default_rng(0).integers(10, 90, (7, 41)).astype(np.int32)
LENGTHS = np.array([41, 30, 17, 5, 3, 2, 0])
IDS[:, 0] = 2
IDS[np.arange(7), LENGTHS - 1] = 3
IDS[5] = 2
OPTIONS = dict(mask_id=4, vocab_size=100, special_ids=(0, 2, 3, 4))


def mask(ids=IDS, lengths=LENGTHS, *, seed=0, epoch=0, indices=range(7), **options):
    return masked(ids, lengths, seed=seed, epoch=epoch, indices=indices, **OPTIONS | options)


def test_masking_chooses_a_share_of_the_words_and_tells_what_they_were():
    result = mask()
    shape = (7, 7)  # 7 is ceil(0.15 * 41).
    assert result.positions.shape == result.targets.shape == result.weights.shape == shape
    chosen = [6, 4, 2, 1, 1, 0, 0]  # of 39, 28, 15, 3, 1, 0, 0 words
    assert result.weights.sum(axis=1).tolist() == chosen
    changed = IDS.copy()
    for row in range(7):
        chosen = result.positions[row][result.weights[row] > 0]
        assert len(set(chosen)) == len(chosen)
        assert (result.targets[row, : len(chosen)] == IDS[row, chosen]).all()
        assert not np.isin(IDS[row, chosen], OPTIONS["special_ids"]).any()
        assert (chosen < LENGTHS[row]).all()
        changed[row, chosen] = result.ids[row, chosen]
    assert (changed == result.ids).all()  # nothing else has changed


def test_masking_depends_on_seed_epoch_and_index_not_on_the_batch():
    result = mask()
    picked = mask(IDS[[3, 1]], LENGTHS[[3, 1]], indices=[3, 1])
    for a, b in zip(result, picked, strict=True):
        assert (a[[3, 1]] == b).all()
    longer = mask(np.pad(IDS, ((0, 0), (0, 20))), LENGTHS)
    assert (longer.ids[:, :41] == result.ids).all()
    assert any((mask(seed=1).ids != result.ids).ravel())
    assert any((mask(epoch=1).ids != result.ids).ravel())


def test_eighty_percent_are_hidden_ten_random_ten_stay():
    ids = np.full((200, 100), 50, np.int32)
    result = mask(ids, np.full(200, 100), indices=range(200), share=0.5)
    chosen = np.take_along_axis(result.ids, result.positions, axis=1)
    assert result.weights.all()
    # 10,000 draws: three standard deviations are 0.012 and 0.009
    assert np.mean(chosen == 4) == pytest.approx(0.8 + 0.1 / 100, abs=0.012)
    assert np.mean(chosen == 50) == pytest.approx(0.1 + 0.1 / 100, abs=0.009)
    assert len(np.unique(chosen)) == 100


def test_a_share_outside_of_0_to_1_is_refused():
    with pytest.raises(ValueError, match="share is 1.5"):
        mask(share=1.5)
