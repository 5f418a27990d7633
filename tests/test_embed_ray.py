"""`embed_corpus(engine="ray")` on a cluster on this machine, of which a part dies. In processes of
their own: Ray forks, and JAX does not like that."""

import os
import pathlib
import subprocess
import sys

import pytest

from jsbert.embed import embed_corpus
from tests.embed_killer import content
from tests.stand_in import StandIn

pytest.importorskip("ray", reason="needs ray: pip install 'jsbert[ray]'")
pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def on_ray(tmp_path):
    """A function that embeds ten shards while a part of the cluster dies."""
    (tmp_path / "a.txt").write_text("".join(f"text {number}\n" for number in range(200)))

    def run(case):
        paths = [tmp_path / name for name in ("a.txt", "out", "note")]
        return subprocess.run(
            [sys.executable, "-m", "tests.embed_on_ray", *paths, case],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.parametrize("case", ["worker", "node"])
def test_a_worker_or_a_node_that_dies_costs_its_shard_alone(on_ray, tmp_path, case):
    done = on_ray(case)
    assert "200 True" in done.stdout, done.stderr
    embed_corpus(tmp_path / "a.txt", tmp_path / "here", StandIn(), shard_rows=20)
    assert content(tmp_path / "out") == content(tmp_path / "here")


def test_a_shard_that_kills_each_worker_is_named_and_the_others_are_kept(on_ray, tmp_path):
    done = on_ray("always")
    assert "workers died 4 times with shard 3" in done.stderr
    model = StandIn()
    embed_corpus(tmp_path / "a.txt", tmp_path / "out", model, shard_rows=20)
    assert "text 77" in model.calls[0] or "text 77" in model.calls[1]
    assert len(model.calls) < 10
