"""The code in the README and in docs/ runs and prints what the page shows below the code. Commands,
options, files and links that the pages name exist."""

import contextlib
import dataclasses
import inspect
import io
import pathlib
import re

import jax
import pytest

from jsbert import SentenceTransformer, encoders, evaluate, train
from jsbert.cli.app import COMMANDS
from jsbert.pooling import POOLINGS

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
PAGES = {
    page.name: page.read_text(encoding="utf8")
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
}
WITHOUT_CODE = {"index.md", "measured.md", "integrations.md", "scale.md", "serving.md"}
"""Pages without code that runs here; tests/integrations runs that of integrations.md."""

each_page = pytest.mark.parametrize("name", PAGES)


@each_page
def test_the_code_prints_what_is_printed(name):
    blocks = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", PAGES[name], flags=re.DOTALL)
    assert len(blocks) == PAGES[name].count("```python")
    assert bool(blocks) != (name in WITHOUT_CODE)
    names: dict = {}
    for code, wanted in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
            exec(compile(code, name, "exec"), names)
        assert printed.getvalue() == wanted


@each_page
def test_the_code_that_needs_data_is_python_at_least(name):
    for code in re.findall(r"```py\n(.*?)```", PAGES[name], flags=re.DOTALL):
        compile(code, name, "exec")


def test_every_file_is_described_and_every_description_has_its_file():
    page = PAGES["architecture.md"]
    table = page[page.index("## The files") : page.index("## How to change it")]
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


def test_every_extra_is_described():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    section = project[
        project.index("[project.optional-dependencies]") : project.index("[project.scripts]")
    ]
    for extra in re.findall(r"^(\w+) = \[", section, flags=re.MULTILINE):
        assert f"`{extra}`" in PAGES["index.md"]


def test_every_option_of_a_recipe_has_its_default():
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", PAGES["training.md"], flags=re.MULTILINE)
    stated = {}
    for names, defaults in rows:
        names = re.findall(r"`(\w+)`", names)
        stated |= dict(
            zip(names, [defaults] if len(names) == 1 else defaults.split(", "), strict=False)
        )
    for field in dataclasses.fields(train.Recipe):
        assert stated[field.name].strip("`").replace('"', "'") == repr(field.default).replace(
            "2e-05", "2e-5"
        )


@pytest.mark.parametrize(
    "page, names",
    [
        (
            "encoding.md",
            set(inspect.signature(SentenceTransformer.encode).parameters) - {"self", "inputs"},
        ),
        ("training.md", set(train.OBJECTIVES)),
        (
            "evaluation.md",
            {name for name in evaluate.__all__ if name.endswith("Evaluator")} - {"Evaluator"},
        ),
        ("models.md", {*encoders.FAMILIES, *POOLINGS} - {"static-embedding"}),
        ("command-line.md", {command.__name__ for command in COMMANDS}),
    ],
)
def test_a_page_names_all_there_is(page, names):
    for name in names:
        assert re.search(rf"`(jsbert )?{re.escape(name)}\b", PAGES[page]), name


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "weights/README.md"]
)
def test_links_lead_somewhere(file):
    for target, anchor in re.findall(
        r"\]\(((?!https?:)[^)#]*)#?([^)]*)\)", (ROOT / file).read_text(encoding="utf8")
    ):
        page = (ROOT / file).parent / target if target else ROOT / file
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf8"), flags=re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }


def test_every_page_is_in_the_navigation():
    named = re.findall(
        r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf8"), flags=re.MULTILINE
    )
    assert sorted(named) == sorted(
        str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")
    )


def test_the_layers_are_those_of_the_layer_test():
    from tests.test_layers import ROWS

    rows = re.findall(r"^\| (\d) \| (.*?) \|", PAGES["architecture.md"], flags=re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in reversed(rows)] == ROWS
