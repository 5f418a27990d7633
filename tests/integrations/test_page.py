"""The snippets of docs/integrations.md run and print what the page shows below them."""

import contextlib
import io
import pathlib
import re
import shutil

import jax
import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs/integrations.md"


def sections() -> dict[str, list[tuple[str, str]]]:
    """Return the page's pieces of code, each with what it prints, under their headings."""
    parts = re.split(r"^##+ ", PAGE.read_text(encoding="utf8"), flags=re.MULTILINE)
    blocks = r"```py\n(.*?)```(?:\n```text\n(.*?)```)?"
    found = {part.split("\n")[0]: re.findall(blocks, part, flags=re.DOTALL) for part in parts}
    return {heading: pieces for heading, pieces in found.items() if pieces}


SECTIONS = sections()
FIRST = next(iter(SECTIONS))


@pytest.fixture(scope="module")
def names(tiny_cross_folder, tmp_path_factory):
    """What the page's first piece of code defines, in a folder where the hub name of its reranker is
    a folder."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(tiny_cross_folder, folder / "ms-marco-MiniLM-L6-v2")
    defined = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        exec(SECTIONS[FIRST][0][0], defined)
        yield defined


@pytest.mark.parametrize("heading", list(SECTIONS)[1:])
def test_the_code_prints_what_is_printed(names, heading):
    own = dict(names)
    for code, wanted in SECTIONS[heading]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
            try:
                exec(compile(code, f"integrations.md: {heading}", "exec"), own)
            except ImportError as error:
                if error.name is None or error.name.startswith("jsbert"):
                    raise
                pytest.skip(f"needs {error.name}, which is not installed")
        assert printed.getvalue() == wanted


@pytest.fixture(autouse=True, scope="module")
def _same_start_method():
    multiprocess = pytest.importorskip("multiprocess", reason="needs datasets")
    before = multiprocess.get_start_method(allow_none=True)
    yield
    multiprocess.set_start_method(before, force=True)
