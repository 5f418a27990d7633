"""`benchmarks.scale`: the tables of docs/scale.md are what it prints, and the simulation is right
where the answer is known."""

import math
import pathlib

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.encode import matmul_flops
from jsbert.encoders import bert

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "scale.md"


def test_the_tables_of_the_page_are_those_that_the_command_prints():
    page = PAGE.read_text(encoding="utf8")
    for table in scale.tables(scale.PRICES).split("\n\n"):
        assert f"\n{table}\n" in page


@pytest.mark.parametrize("workers, shards", [(1, 3), (4, 8), (4, 9), (7, 3)])
def test_equal_workers_without_deaths_take_whole_rounds(workers, shards):
    found = scale.simulate(workers, shards, 2.0, speeds=[1.0] * workers)
    assert found == (math.ceil(shards / workers) * 2.0, 0.0, 0)


def test_a_death_costs_about_half_a_shard():
    # A shard of 1 h, a life of 20 h: exp(1/20) - 1 - 1/20 of 20 lives an hour, near half of 1/20.
    found = scale.simulate(
        50, 20_000, 1.0, speeds=[1.0] * 50, life_hours=20.0, restart_hours=0.1, seed=1
    )
    exact = 20 * (math.exp(1 / 20) - 1) - 1
    assert found.lost_hours / 20_000 == pytest.approx(exact, rel=0.1)  # 1,000 deaths: 3 % noise
    assert found.lost_hours / found.deaths == pytest.approx(0.5, rel=0.1)


def test_the_slowest_worker_ends_the_run():
    found = scale.simulate(2, 3, 1.0, speeds=[1.0, 0.25])
    assert found.hours == 4.0


def test_the_arithmetic_is_that_of_the_speed_benchmark():
    expected = matmul_flops(bert.Config(), np.array([250]))
    assert scale.matmul_flops("BERT base", 250) == expected


def test_a_price_changes_the_money_and_a_wrong_one_is_refused(capsys):
    scale.main(["--price", "CPU=1"])
    assert "| CPU | sentences | jsbert-mini-en | 228 | 228 | 228 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scale.main(["--price", "abacus=1"])
    assert "one of CPU, H200, v5e" in capsys.readouterr().err
