"""Embed a corpus in processes that are killed at random moments, until `kills` have been.

python -m tests.embed_killer INPUT FOLDER KILLS

Each run that comes to its end is compared with the first, and the next begins in a new folder. The
processes are forked from this one, which has imported everything but JAX: each starts in no time.
"""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import traceback

# What a run imports is imported once, before the forks.
import filelock  # noqa: F401
import pyarrow.parquet
import tqdm.auto  # noqa: F401

from jsbert.embed.run import embed_corpus
from tests.stand_in import StandIn

pyarrow.array([0])  # imports pandas, if it is there


def run(corpus, folder):
    embed_corpus(corpus, folder, StandIn(), id_column="id", keep_text=True, shard_rows=25)


def forked(corpus, folder):
    """Start a process that runs to its end, and return its id."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            run(corpus, folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


def content(folder):
    """The sha256 of each file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != ".lock"
    }


def main(corpus, folder, kills):
    generator, folder = random.Random(0), pathlib.Path(folder)
    begin = time.monotonic()
    assert os.waitpid(forked(corpus, folder), 0)[1] == 0
    whole, wanted = time.monotonic() - begin, content(folder)
    shutil.rmtree(folder)
    done = finished = 0
    while done < kills or finished == 0 or (folder / "run.json").exists():
        process = forked(corpus, folder)
        if done < kills:
            time.sleep(generator.uniform(0, whole))
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if os.WIFSIGNALED(status):
            done += 1
            continue
        assert status == 0
        assert content(folder) == wanted
        finished += 1
        shutil.rmtree(folder)
    print(f"killed {done} times, finished {finished} times with the same bytes")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
