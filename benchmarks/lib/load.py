"""A load on a server, from a process of its own, for `benchmarks.serve`.

python -m benchmarks.lib.load FILE
sends what the JSON in FILE says, and prints what came back as JSON. With "clients", each client
sends its next request when it has the last answer. With "rate", requests begin at that rate a
second, whether or not answers come, at most "most_open" at a time.
"""

import asyncio
import json
import pathlib
import sys
import time
from typing import Any

import aiohttp


class Load:
    """What was sent and what came back."""

    def __init__(self, plan: dict[str, Any]):
        self.url, self.bodies, self.seconds = plan["url"], plan["bodies"], plan["seconds"]
        self.bodies = [json.dumps({plan["field"]: texts}).encode() for texts in self.bodies]
        self.milliseconds: list[float] = []
        self.statuses: dict[str, int] = {}
        self.num_sent = self.num_held_back = 0

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send the next request, and count its answer."""
        body = self.bodies[self.num_sent % len(self.bodies)]
        self.num_sent += 1
        started = time.perf_counter()
        try:
            async with session.post(self.url, data=body) as answer:
                await answer.read()
                status = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            status = type(error).__name__
        if status == "200":
            self.milliseconds.append(1000 * (time.perf_counter() - started))
        self.statuses[status] = self.statuses.get(status, 0) + 1

    async def closed(self, session: aiohttp.ClientSession, num_clients: int) -> None:
        """Let clients send one request after the other."""
        end = time.perf_counter() + self.seconds

        async def client() -> None:
            while time.perf_counter() < end:
                await self.send(session)

        await asyncio.gather(*(client() for _ in range(num_clients)))

    async def open(self, session: aiohttp.ClientSession, rate: float, most_open: int) -> None:
        """Begin requests at a rate, until the time is over; then wait for all answers."""
        started, begun = time.perf_counter(), 0
        tasks: set[asyncio.Task] = set()
        while (passed := time.perf_counter() - started) < self.seconds:
            while begun < passed * rate:
                begun += 1
                if len(tasks) >= most_open:
                    self.num_held_back += 1
                    continue
                task = asyncio.create_task(self.send(session))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)


async def main(file: str) -> None:
    """Run the load of a file."""
    plan = json.loads(pathlib.Path(file).read_text(encoding="utf8"))
    load = Load(plan)
    timeout = aiohttp.ClientTimeout(total=120)
    headers = {"content-type": "application/json"}
    started = time.perf_counter()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers
    ) as session:
        if "rate" in plan:
            await load.open(session, plan["rate"], plan["most_open"])
        else:
            await load.closed(session, plan["clients"])
    seconds, cpu = time.perf_counter() - started, time.process_time()
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu,
                "num_sent": load.num_sent,
                "num_held_back": load.num_held_back,
                "statuses": load.statuses,
                "milliseconds": load.milliseconds,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
