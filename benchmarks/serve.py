"""Requests a second over HTTP: `jsbert serve` compared with a plain server of FastAPI and
sentence-transformers, and with infinity_emb.

python -m benchmarks.serve [--quick] [--infinity PYTHON]
needs the extras `bench` and `serve`, and `parity` for the plain server.

The model is all-MiniLM-L6-v2. Loads: one sentence a request by 1, 8 and 64 clients; one text of
mixed length (four of five short, one of five long) by 16 clients; 32 sentences a request by 8
clients. Each client sends its next request when it has the last answer. The load comes from a
process of its own (`benchmarks.lib.load`), on the loopback device. The servers take turns, each
with a load that is not counted first.

"encode" is the rate of `SentenceTransformer.encode` in a process of its own, without HTTP, on the
texts of the last load: 1,024 at a time, sorted together.

"overload" sends twice as many requests a second as 64 clients got answers, for a minute, to a
server of jsbert with a short queue. It counts statuses, and the largest memory of the server.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

import numpy as np

from benchmarks.lib import report
from benchmarks.lib.processes import EngineProcess, missing_modules
from benchmarks.lib.sentences import docstring_sentences, documents, shuffled
from jsbert import SentenceTransformer
from jsbert.checkpoint import find_folder

MODEL = "all-MiniLM-L6-v2"
LOADS = {
    "1 client, 1 short text": (1, "short", 1),
    "8 clients, 1 short text": (8, "short", 1),
    "64 clients, 1 short text": (64, "short", 1),
    "16 clients, 1 mixed text": (16, "mixed", 1),
    "8 clients, 32 short texts": (8, "short", 32),
}
"""The number of clients, the kind of texts, and the number of texts of a request."""

LAST, BUSY = "8 clients, 32 short texts", "64 clients, 1 short text"
PLAIN = "FastAPI + sentence-transformers"
QUEUE_TOKENS = 20_000
"""The queue of the overloaded server."""

MOST_OPEN = 1500
"""The number of requests that the overload has open at most."""

PACKAGES = ("fastapi", "uvicorn", "orjson", "aiohttp")


class Server:
    """A server in a process of its own.

    Attributes:
        name: the name in tables.
        url: the address that requests are sent to.
        field: the field of the body that holds the texts.
    """

    def __init__(self, name: str, command: list[str], port: int, path: str, field: str = "inputs"):
        self.name, self.url, self.field = name, f"http://127.0.0.1:{port}{path}", field
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            command,
            cwd=pathlib.Path(__file__).parents[1],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=self._errors,
            stderr=self._errors,
        )
        started = time.perf_counter()
        while not self.answers(f"http://127.0.0.1:{port}/health"):
            if self._process.poll() is not None or time.perf_counter() - started > 1800:
                self._errors.seek(0)
                raise RuntimeError(f"{name} did not start: {self._errors.read()[-2000:]}")
            time.sleep(0.2)
        self.seconds_to_start = time.perf_counter() - started

    @staticmethod
    def answers(url: str) -> bool:
        """Return whether the address answers 200."""
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False

    def memory_mb(self, name: str = "VmRSS") -> float | None:
        """Return the resident memory now, or with "VmHWM" the largest so far."""
        try:
            status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024

    def close(self) -> int:
        """End the server as an administrator does. Return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(90)
        self._errors.close()
        return code


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    values["versions"] |= {name: importlib.metadata.version(name) for name in PACKAGES}
    values["load_average_before"] = os.getloadavg()
    report.print_circumstances(values)
    folder = find_folder(options.model)
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        texts, plans = _plans(folder, options, pathlib.Path(work))
        encode = EngineProcess("jsbert float32", folder, sys.executable)
        stack.callback(encode.close)
        servers = [_jsbert(folder, options)]
        stack.callback(servers[0].close)
        for start in (_plain, _infinity):
            with contextlib.suppress(_Missing):
                servers.append(start(folder, options))
                stack.callback(servers[-1].close)
        rows, rates = _measured(servers, encode, plans, texts, options, pathlib.Path(work))
        values["rows"] = rows
        values["encode_texts_per_second"] = rates
        values["seconds_to_start"] = {one.name: one.seconds_to_start for one in servers}
        values["memory_mb"] = {one.name: one.memory_mb("VmHWM") for one in servers}
        _print_rows(rows, rates)
    if options.overload_seconds:
        busy = next(row for row in rows if row["load"] == BUSY and row["server"] == "jsbert serve")
        values["overload"] = _overload(folder, options, busy["requests_per_second"], plans[BUSY])
        print(json.dumps(values["overload"], indent=1))
    print("written:", report.write_json("serve", values, options.out))
    return values


def _measured(servers, encode, plans, texts, options, work):
    """Return the rows of all loads, and the rates of `encode`."""
    found: dict = {(load, one.name): [] for load in plans for one in servers}
    rates = []
    for round_ in range(options.repeats + 1):
        seconds = options.seconds if round_ else options.seconds / 2
        for load, plan in plans.items():
            for server in servers:
                asked = {"url": server.url, "field": server.field, "seconds": seconds}
                result = _run(plan | asked, work)
                if round_:  # the first round warms up
                    found[load, server.name].append(result)
            if load == LAST:
                rate = len(texts) / encode.ask(texts=work / "texts.json")["seconds"]
                rates += [rate] if round_ else []
    rows = []
    for (load, name), results in found.items():
        row: dict[str, Any] = {"load": load, "server": name}
        row["runs"] = [_summary(result, LOADS[load][2]) for result in results]
        for key in ("requests_per_second", "texts_per_second", "p50_ms", "p95_ms", "p99_ms"):
            row[key] = statistics.median(run[key] for run in row["runs"])
        rows.append(row)
    return rows, rates


def _summary(result, num_texts):
    """Return the rates and percentiles of a run."""
    milliseconds = result.pop("milliseconds")
    rate = len(milliseconds) / result["seconds"]
    p50, p95, p99 = np.percentile(milliseconds or [float("nan")], [50, 95, 99]).tolist()
    rates = {"requests_per_second": rate, "texts_per_second": rate * num_texts}
    return result | rates | {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def _run(plan: dict[str, Any], work: pathlib.Path) -> dict[str, Any]:
    file = work / "plan.json"
    file.write_text(json.dumps(plan), encoding="utf8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lib.load", str(file)],
        cwd=pathlib.Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _overload(folder, options, rate, plan):
    """Send twice the rate to a server with a short queue. Return what came back."""
    server = _jsbert(folder, options, "--max-queue-tokens", str(QUEUE_TOKENS))
    with tempfile.TemporaryDirectory() as work:
        warm = {"url": server.url, "field": "inputs", "seconds": options.seconds}
        _run(plan | warm, pathlib.Path(work))
        before = server.memory_mb()
        bodies = {"url": server.url, "field": "inputs", "bodies": plan["bodies"]}
        open_ = {"rate": 2 * rate, "most_open": MOST_OPEN, "seconds": options.overload_seconds}
        result = _run(bodies | open_, pathlib.Path(work))
    summary = _summary(result, 1)
    summary |= {"rate": 2 * rate, "memory_mb_before": before}
    summary |= {"memory_mb_largest": server.memory_mb("VmHWM")}
    started = time.perf_counter()
    summary["healthy_afterwards"] = Server.answers(server.url.replace("/embed", "/health"))
    summary["health_seconds"] = time.perf_counter() - started
    summary["exit_code"] = server.close()
    return summary


def _plans(folder, options, work):
    """Return the texts of the last load, and {load: what the clients send}."""
    model = SentenceTransformer(folder)
    short = shuffled(docstring_sentences(), 0)

    def num_tokens(text):
        return len(model.tokenizer([text]).ids)

    sentences = iter(short)
    long = documents(sentences, options.num_texts // 5, 200, num_tokens)
    rest = list(sentences)
    mixed = shuffled([*long, *rest[: 4 * len(long)]], 1)
    kinds = {"short": rest[: options.num_texts], "mixed": mixed}
    plans = {}
    for load, (clients, kind, size) in LOADS.items():
        texts = kinds[kind]
        bodies = [texts[i : i + size] for i in range(0, len(texts) - size + 1, size)]
        plans[load] = {"clients": clients, "bodies": bodies}
    (work / "texts.json").write_text(json.dumps(kinds["short"]), encoding="utf8")
    return kinds["short"], plans


class _Missing(Exception):
    """A server's packages are not there."""


def _jsbert(folder, options, *more):
    port = _free_port()
    command = [sys.executable, "-m", "jsbert", "serve", str(folder), "--port", str(port)]
    command += ["--warm-tokens", str(options.warm_tokens), *more]
    return Server("jsbert serve", command, port, "/embed")


def _plain(folder, options):
    if missing := missing_modules("sentence-transformers float32", sys.executable):
        print(f"no plain server: {', '.join(missing)} are missing")
        raise _Missing
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.lib.plain_server", str(folder), str(port)]
    return Server(PLAIN, command, port, "/embed")


def _infinity(folder, options):
    if options.infinity is None:
        raise _Missing
    port = _free_port()
    command = [options.infinity, "-m", "infinity_emb.cli", "v2", "--model-id", str(folder)]
    command += [
        "--port",
        str(port),
        "--device",
        "cpu",
        "--engine",
        "torch",
        "--no-bettertransformer",
    ]
    return Server("infinity_emb", command, port, "/embeddings", "input")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _print_rows(rows, rates):
    """Print the table, with the ratio to the plain server."""
    plain = {row["load"]: row for row in rows if row["server"] == PLAIN}
    table = []
    for row in rows:
        peer = plain.get(row["load"])
        ratio = row["requests_per_second"] / peer["requests_per_second"] if peer else float("nan")
        numbers = [
            f"{row[key]:.1f}" for key in ("requests_per_second", "p50_ms", "p95_ms", "p99_ms")
        ]
        table.append([row["load"], row["server"], *numbers, f"{ratio:.2f}"])
    header = ["load", "server", "requests/s", "p50 ms", "p95 ms", "p99 ms", "ratio"]
    report.print_table(header, table)
    last = next(row for row in rows if row["load"] == LAST and row["server"] == "jsbert serve")
    own = statistics.median(rates)
    share = last["texts_per_second"] / own
    print(
        f"encode alone: {own:.0f} texts/s; over HTTP {last['texts_per_second']:.0f}: {share:.2f}\n"
    )


def _options(argv):
    parser = report.parser(__doc__)
    parser.add_argument("--model", default=MODEL, help="a folder or a name")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each load and server")
    parser.add_argument("--num-texts", type=int, default=1024, help="distinct texts of a load")
    parser.add_argument("--warm-tokens", type=int, default=256, help="as for `jsbert serve`")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="0: no overload")
    parser.add_argument("--infinity", help="an interpreter that has infinity_emb")
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    options = parser.parse_args(argv)
    if options.quick:
        options.seconds, options.repeats, options.overload_seconds = 3.0, 1, 5.0
    return options


if __name__ == "__main__":
    main()
