"""What the wheel contains, and what the extras contain."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project's wheel, built by its own backend without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_the_weights_inside_the_package(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {"jsbert/weights/manifest.json", "jsbert/weights/README.md", "jsbert/py.typed"} <= set(
        names
    )
    assert {name.split("/")[0] for name in names} == {
        "jsbert",
        next(n for n in names if "dist-info" in n).split("/")[0],
    }


def test_an_installed_wheel_finds_its_models(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path)
    code = "import jsbert; from jsbert.checkpoint import bundled_models; print(jsbert.__file__, *bundled_models())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONPATH": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path))
    assert "all-MiniLM-L6-v2" in done.stdout


def test_the_core_needs_no_torch_and_caps_nothing():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    needed = project["dependencies"]
    assert not any(
        name in entry
        for entry in needed
        for name in ("torch", "sentence-transformers", "matplotlib")
    )
    assert all(">=" in entry and "<" not in entry.partition(";")[0] for entry in needed)
    assert not any("torch" in entry for entry in project["optional-dependencies"]["test"])
    assert importlib.util.find_spec("jsbert") is not None
