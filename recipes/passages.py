"""Titles, questions and passages for distillation, from documentation, dictionaries and textbooks.

python -m recipes.passages --raw RAW --data DATA

RAW holds what is freely had, each part in a folder of its own; a part that is missing is left out:

    openstax/   the repositories openstax/osbooks-* (CC BY 4.0): modules/*/index.cnxml
    medquad/    the repository abachaa/MedQuAD (CC BY 4.0): */*.xml
    debian/     Debian packages unpacked by `dpkg -x`: dict-gcide, dict-foldoc, dict-jargon, and the
                documentation of programs (*-doc, gimp-help-en, libreoffice-help-en-us, ...)

The command writes DATA/corpus/passages.tsv.gz: source, title, passage. A passage has 20 to
140 words. A title is a heading, a question or a headword; the title may be empty. A passage that
shares a sentence with an evaluation set in DATA is left out.
"""

import argparse
import collections
import gzip
import html.parser
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

from recipes.corpus import evaluation_sentences, long_sentences, normalized, retrieval_sentences

WORDS = range(20, 141)
"""The numbers of words of a passage."""

LONG = 90
"""A passage ends with the paragraph that brings it to so many words."""

MOST = 2_500
"""The number of passages of one manual, so that none outweighs the others."""


TRANSLATED = re.compile(
    r"[-/.](cs|da|de|es|fr|id|it|ja|ko|nl|pl|pt|ru|sv|tr|vi|zh)([-_.][A-Za-z]+)?[-/.]"
)
"""In the path of a page that is not in English."""


class Passage(NamedTuple):
    source: str
    title: str
    text: str


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=pathlib.Path, required=True, help="folder of the originals")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the recipes")
    options = parser.parse_args(argv)
    banned = evaluation_sentences(options.data) | retrieval_sentences(options.data)
    kept: dict[str, Passage] = {}
    dropped: collections.Counter[str] = collections.Counter()
    for found in all_passages(options.raw):
        if banned & set(long_sentences(found.text)):
            dropped[found.source.split("/")[0]] += 1
        else:
            kept.setdefault(normalized(found.text), found)
    file = options.data / "corpus/passages.tsv.gz"
    with gzip.open(file, "wt", encoding="utf8") as out:
        out.write("source\ttitle\tpassage\n")
        out.writelines("\t".join(found) + "\n" for found in kept.values())
    print(len(kept), "passages:", file)
    print(collections.Counter(found.source.split("/")[0] for found in kept.values()).most_common())
    print("with a sentence of an evaluation set:", dict(dropped))


def all_passages(raw: pathlib.Path) -> Iterator[Passage]:
    yield from openstax(raw / "openstax")
    yield from medquad(raw / "medquad")
    dictionaries = raw / "debian/usr/share/dictd"
    for name in ("gcide", "foldoc", "jargon"):
        yield from dictionary(dictionaries / f"{name}.dict.dz", name)
    yield from manuals(raw / "debian/usr/share")


def openstax(folder: pathlib.Path) -> Iterator[Passage]:
    """Sections and glossaries of textbooks."""
    for file in sorted(folder.glob("*/modules/*/index.cnxml")):
        book = "openstax/" + file.parts[-4].partition("osbooks-")[2]
        root = ElementTree.parse(file).getroot()
        for element in root.iter():
            element.tag = element.tag.partition("}")[2] or element.tag
        heading = _plain(root.find("title"))
        for entry in root.iter("definition"):
            term, meaning = _plain(entry.find("term")), _plain(entry.find("meaning"))
            if term and len(meaning.split()) >= 5:
                yield Passage(book, term, meaning)
        sections: list[tuple[str, list[str]]] = []
        content = root.find("content")
        if content is not None:
            _sections(content, heading, sections)
        for title, paragraphs in sections:
            for text in merged(paragraphs):
                yield Passage(book, title, text)


def _sections(element, title, found):
    paragraphs: list[str] = []
    found.append((title, paragraphs))
    for child in element:
        if child.tag == "section":
            own = _plain(child.find("title"))
            _sections(child, own or title, found)
        elif child.tag in ("para", "list", "note"):
            paragraphs.append(_plain(child))


def medquad(folder: pathlib.Path) -> Iterator[Passage]:
    """Questions and answers of the institutes of health."""
    for file in sorted(folder.glob("*/*.xml")):
        root = ElementTree.parse(file).getroot()
        for pair in root.iter("QAPair"):
            question = _plain(pair.find("Question"))
            paragraphs = re.split(r"\n\s*\n|(?<=\.)\s{2,}", pair.findtext("Answer") or "")
            for text in merged([_spaces(part) for part in paragraphs]):
                yield Passage("medquad", question, text)


def dictionary(file: pathlib.Path, name: str) -> Iterator[Passage]:
    """Entries of a dictionary in the format of dictd."""
    if not file.is_file():
        return
    with gzip.open(file, "rt", encoding="utf8", errors="replace") as opened:
        content = opened.read()
    for entry in re.split(r"\n(?=\S)", content):
        head, _, body = entry.partition("\n")
        head = re.sub(r"\s*[\\(,].*", "", head).strip()
        body = re.sub(r"\[[^]]*\]|\(\d{4}-\d\d-\d\d\)|[{}<>]", "", body)
        for text in list(merged([_spaces(body)]))[:1]:
            if 0 < len(head.split()) <= 6:
                yield Passage(name, head, text)


def manuals(share: pathlib.Path) -> Iterator[Passage]:
    """Sections of the HTML pages of programs' documentation."""
    folders = {
        *(page.relative_to(share).parts[:3] for page in share.glob("doc/*/**/*.html")),
        *(("gimp", "2.0", "help"), ("libreoffice", "help", "en-US")),
    }
    for parts in sorted({parts[:2] if parts[0] == "doc" else parts for parts in folders}):
        number = 0
        for page in sorted(share.joinpath(*parts).rglob("*.html")):
            if number >= MOST or not page.is_file() or TRANSLATED.search(str(page)):
                continue
            for title, paragraphs in Sections.of(page):
                for text in merged(paragraphs):
                    number += 1
                    yield Passage("manual/" + parts[1], title, text)


class Sections(html.parser.HTMLParser):
    """The headings of a page, and the paragraphs under each."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.text: list[str] = []
        self.skipped = 0

    @classmethod
    def of(cls, page: pathlib.Path) -> list[tuple[str, list[str]]]:
        parser = cls()
        parser.feed(page.read_text(encoding="utf8", errors="replace"))
        return parser.found

    def handle_starttag(self, tag, attrs):
        if tag in ("pre", "script", "style", "nav", "table", "title", "head"):
            self.skipped += 1
        if tag in ("p", "dd", "li", "h1", "h2", "h3", "h4"):
            self.text = []

    def handle_endtag(self, tag):
        if tag in ("pre", "script", "style", "nav", "table", "title", "head"):
            self.skipped = max(0, self.skipped - 1)
        if tag not in ("p", "dd", "li", "h1", "h2", "h3", "h4"):
            return
        text = _spaces("".join(self.text)).rstrip(" ¶#")
        if tag in ("h1", "h2", "h3", "h4"):
            self.found.append((re.sub(r"^[\d.]+\s+", "", text), []))
        elif self.found and len(text.split()) >= 6:
            self.found[-1][1].append(text)
        self.text = []

    def handle_data(self, data):
        if not self.skipped:
            self.text.append(data)


def merged(paragraphs: list[str]) -> Iterator[str]:
    """Yield passages: neighbouring paragraphs, until they have `LONG` words. A paragraph that is
    too long is cut between words."""
    words: list[str] = []
    for paragraph in paragraphs:
        words += paragraph.split()
        while len(words) >= LONG:
            cut = words[: WORDS.stop - 1] if len(words) < WORDS.stop + LONG // 4 else words[:LONG]
            words = words[len(cut) :]
            yield " ".join(cut)
    if len(words) >= WORDS.start:
        yield " ".join(words)


def _plain(element) -> str:
    return "" if element is None else _spaces(" ".join(element.itertext()))


def _spaces(text: str) -> str:
    return re.sub(r"\s+([.,;:?!)])", r"\1", " ".join(text.split()))


if __name__ == "__main__":
    main()
