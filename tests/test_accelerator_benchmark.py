"""`benchmarks.accelerator` on a CPU, with small sizes: parts run, fail and are killed apart."""

import json
import os
import sys
import time

import pytest

from benchmarks import accelerator
from benchmarks.lib import device_job
from benchmarks.lib.processes import run_limited

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("quick_benchmarks")]
CPU = ["--device", "cpu", "--small", "--no-torch"]


def test_parts_run_each_by_itself_and_are_written(tmp_path, monkeypatch, capsys):
    file = tmp_path / "found.json"
    monkeypatch.setattr(accelerator, "LEAST_SECONDS", 0)
    limits = dict.fromkeys(accelerator.PARTS, (None, 45)) | {"mixed": (None, 0.5)}
    monkeypatch.setattr(accelerator, "PARTS", limits)
    parts = ["mixed", "batches", "search"]
    values = accelerator.main([*CPU, "--output", str(file), "--parts", *parts])
    assert json.loads(file.read_text()) == values
    assert {"card", "command", "commit", "date", "device", "machine", "versions"} <= set(values)
    assert list(values["parts"]) == parts
    # The part that takes too long is killed, and the others go on.
    assert values["parts"]["mixed"]["status"] == "killed after 0 s"
    for name in parts[1:]:
        assert values["parts"][name]["status"] == "done", values["parts"][name]
    batches, search = (values["parts"][name]["results"] for name in parts[1:])
    assert batches["sentence-transformers"]["skipped"] == "left out by --no-torch"
    for rows, length in device_job.SMALL.shapes:
        found = batches[f"{rows} x {length}"]["ms"]
        assert list(found) == ["packed", "padded"]
        assert all(len(taken) == 3 and min(taken) > 0 for taken in found.values())
    assert search["torch"]["skipped"] == "left out by --no-torch"
    assert search["first_seconds"] > min(search["seconds"]["jsbert"]) > 0
    assert "killed after 0 s" in capsys.readouterr().out


def test_without_an_accelerator_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    file = tmp_path / "found.json"
    with pytest.raises(SystemExit, match="no accelerator: JAX sees cpu cpu. Install jsbert"):
        accelerator.main(["--output", str(file)])
    assert not file.exists()
    with pytest.raises(SystemExit, match="2"):
        accelerator.main(["--device", "cpu"])
    assert "--device cpu goes with --small" in capsys.readouterr().err


def test_mixed_texts_are_short_and_long_and_all_differ():
    short, mixed = device_job._texts(device_job.Sizes(mixed=50, short=100))
    assert len(set(short)) == 100
    assert len(set(mixed)) == 50
    assert sum(len(text.split()) >= min(device_job.WORDS) for text in mixed) == 10


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path):
    file = tmp_path / "child"
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    started = time.perf_counter()
    status, said = run_limited([sys.executable, "-c", code], 2, os.environ)
    assert time.perf_counter() - started < 20
    assert (status, said) == ("killed after 2 s", "begun")
    number = int(file.read_text())
    for _ in range(100):  # the system takes a moment to end it
        if not _runs(number):
            break
        time.sleep(0.1)
    assert not _runs(number)


def test_a_command_that_fails_says_why():
    code = "import sys; print('one'); sys.exit('no memory')"
    status, said = run_limited([sys.executable, "-c", code], 20, os.environ)
    assert status == "failed (exit code 1)"
    assert "no memory" in said


def _runs(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
