"""The README's code runs and prints what stands below it; its commands name what exists."""

import contextlib
import io
import pathlib
import re

import jax

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
BLOCKS = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", README, flags=re.DOTALL)


def test_the_code_prints_what_is_printed():
    assert len(BLOCKS) == README.count("```python") >= 5
    names: dict = {}
    for code, wanted in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
            exec(compile(code, "README.md", "exec"), names)
        assert printed.getvalue() == wanted


def test_every_file_is_described_and_every_description_has_its_file():
    table = README[README.index("## The files") : README.index("## Limits")]
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", table))
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "jsbert" / name).exists()
    for path in (ROOT / "jsbert").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            assert path.name in table
        if path.is_dir() and path.name != "__pycache__":
            assert f"jsbert/{path.name}/" in table


def test_the_commands_install_what_pyproject_offers():
    commands = re.findall(r"<!-- \w+ command -->\n```sh\n(.*)\n```", README)
    assert len(commands) == 2
    project = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    for command in commands:
        assert command.startswith("python3 -m venv .venv && ")
        for extra in re.search(r"'\.\[(.*?)\]'", command)[1].split(","):
            assert f"\n{extra} = [" in project
