"""A run that was killed or interrupted continues, and ends in the same bits."""

import contextlib
import dataclasses
import gc
import multiprocessing
import os
import random
import signal
import threading
import time

import jax
import numpy as np
import pytest

from jsbert.train import Source, fit
from tests import train_process
from tests.test_train_loop import RECIPE, lines, pairs, weights


def test_a_run_killed_ten_times_ends_in_the_same_bits(tiny_folder, tmp_path):
    processes = multiprocessing.get_context(
        "forkserver"
    )  # it imports once, and JAX has not started there
    processes.set_forkserver_preload(["tests.train_process"])

    def start(out):
        process = processes.Process(target=train_process.run, args=(out, tiny_folder))
        process.start()
        return process

    whole = start(tmp_path / "whole")
    whole.join(300)
    assert whole.exitcode == 0
    generator, kills, in_a_checkpoint, process = random.Random(0), 0, 0, None
    checkpoints = tmp_path / "killed" / "checkpoints"
    for _ in range(60):
        process = start(tmp_path / "killed")
        steps = newest(checkpoints)
        while (
            process.is_alive() and newest(checkpoints) <= steps
        ):  # wait for some progress, or the test would never end
            time.sleep(0.005)
        if kills >= 10 and in_a_checkpoint:
            break
        time.sleep(generator.random() * 0.3)
        while kills % 2 and process.is_alive() and not unfinished(checkpoints):
            time.sleep(0.0005)  # every other kill waits for a checkpoint to be half-written
        if not process.is_alive():
            break
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        in_a_checkpoint += bool(unfinished(checkpoints))
    process.join(300)
    assert process.exitcode == 0
    assert kills >= 10
    assert in_a_checkpoint
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert [entry["step"] for entry in lines(tmp_path / "killed")] == [
        entry["step"] for entry in lines(tmp_path / "whole")
    ]


def newest(folder):
    return max((int(path.name) for path in folder.glob("*") if path.name.isdecimal()), default=0)


def unfinished(folder):
    return [path for path in folder.glob("*") if "tmp" in path.name]


def test_ctrl_c_ends_with_a_checkpoint_and_the_run_goes_on(tiny, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=30, checkpoint_steps=1000)
    whole = fit(tiny, Source(pairs(), "cosine"), tmp_path / "whole", recipe)

    def interrupt():
        file = tmp_path / "out" / "metrics.jsonl"
        while not file.is_file() or len(file.read_text().splitlines()) < 5:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(
        KeyboardInterrupt,
        match=r"stopped after update \d+ of 330; the same call goes on from there",
    ):
        fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", recipe)
    thread.join()
    resumed = fit(tiny, Source(pairs(), "cosine"), tmp_path / "out", recipe)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")
    assert np.array_equal(resumed.encode("a cat"), whole.encode("a cat"))


def test_a_run_that_goes_on_holds_no_more_than_an_unbroken_one(tiny, tmp_path):
    def train(out, stops_at=None):
        """Train, and return the bytes of all arrays at each evaluation, without the arrays from
        before the run."""
        gc.collect()
        held, before = [], sum(array.nbytes for array in jax.live_arrays())

        def evaluator(model):
            if len(held) == stops_at:
                raise InterruptedError
            gc.collect()
            held.append(sum(array.nbytes for array in jax.live_arrays()) - before)
            return {"score": 0.0}

        with contextlib.suppress(InterruptedError):
            fit(tiny, Source(pairs(), "cosine"), tmp_path / out, RECIPE, evaluator=evaluator)
        return held

    unbroken = train("unbroken")
    assert len(train("broken", stops_at=2)) == 2  # at update 10, after the checkpoint of 9
    assert train("broken")[-1] <= unbroken[-1]
