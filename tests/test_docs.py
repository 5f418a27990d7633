"""The code in the README and in docs/ runs and prints what stands below it; what they name exists."""

import contextlib
import io
import pathlib
import re

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PYTHON = re.compile(r"```python\n(.*?)```\n```text\n(.*?)```", re.DOTALL)
"""A block of code and its output. Code that is not run is in blocks of "py"."""


def blocks(page):
    return PYTHON.findall(page.read_text(encoding="utf8"))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_code_prints_what_is_printed(page):
    assert len(blocks(page)) == page.read_text(encoding="utf8").count("```python")
    names: dict = {}
    for code, wanted in blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
            exec(compile(code, page.name, "exec"), names)
        assert printed.getvalue() == wanted


def test_pages_about_code_have_code_that_runs():
    with_code = {page.stem for page in PAGES if blocks(page)}
    assert {"README", "encoding", "pure-functions", "training", "search", "evaluation"} <= with_code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_that_is_not_run_is_python_and_links_lead_somewhere(page):
    text = page.read_text(encoding="utf8")
    for code in re.findall(r"```py\n(.*?)```", text, re.DOTALL):
        compile(code, page.name, "exec")
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_every_page_is_in_the_navigation():
    named = re.findall(r"^  - ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf8"), re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_file_is_described_and_every_description_has_its_file():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf8")
    table = page[page.index("## The files") : page.index("## Glossary")]
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", table))
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "jsbert" / name).exists(), name
    for path in (ROOT / "jsbert").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            assert path.name in table
        if path.is_dir() and path.name != "__pycache__":
            assert f"jsbert/{path.name}/" in table


def test_the_layers_are_those_of_the_layer_test():
    from tests.test_layers import ROWS

    page = (ROOT / "docs/architecture.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    told = [{name.rstrip("/") for name in re.findall(r"`([\w/]+)`", rooms)} for _, rooms in reversed(rows)]
    assert told == ROWS[:-1]  # without __init__ and __main__


def test_the_commands_install_what_pyproject_offers():
    commands = re.findall(r"<!-- \w+ command -->\n```sh\n(.*)\n```", README)
    assert len(commands) == 2
    project = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    for command in commands:
        assert command.startswith("python3 -m venv .venv && ")
        for extra in re.search(r"'\.\[(.*?)\]'", command)[1].split(","):
            assert f"\n{extra} = [" in project
