"""The load of `benchmarks.serve` sends what it should, and counts what comes back."""

import asyncio

import pytest

from tests.models import sentences

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp comes with the extra `bench`")


@pytest.mark.once
@pytest.mark.parametrize(
    "how", [{"clients": 3}, {"rate": 50, "most_open": 100}, {"rate": 2000, "most_open": 1}]
)
def test_a_load(served, how):
    from benchmarks.lib.load import Load
    from benchmarks.serve import _summary

    texts = [[text] for text in sentences(20, seed=2)]
    load = Load({"url": f"{served[1]}/embed", "field": "inputs", "bodies": texts, "seconds": 0.5})

    async def run():
        headers = {"content-type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session:
            await (load.closed(session, 3) if "clients" in how else load.open(session, **how))

    asyncio.run(run())
    assert load.statuses == {"200": load.num_sent}
    assert (load.num_held_back > 0) == (how.get("most_open") == 1)
    summary = _summary({"milliseconds": load.milliseconds, "seconds": 0.5}, 4)
    assert summary["texts_per_second"] == 4 * summary["requests_per_second"] == 8 * load.num_sent
    assert 0 < summary["p50_ms"] <= summary["p95_ms"] <= summary["p99_ms"]
