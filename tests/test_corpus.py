"""The rows of a corpus: where shards begin, what is read, and what is said about bad rows."""

import gzip
import itertools
import json
import random

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from jsbert.corpus.rows import Reader, plan_shards
from jsbert.corpus.sources import find_sources


def write_jsonl(path, rows, opened=open):
    with opened(path, "wt", encoding="utf8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def mixed(tmp_path):
    """Files of all kinds, with 38 rows together; ids count them."""

    def rows(letter, first, count):
        return [{"id": first + i, "text": f'{letter} "{i}",\n é'} for i in range(count)]

    write_jsonl(tmp_path / "a.jsonl", rows("a", 0, 10))
    content = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text("\ufeff" + content.replace("\n", "\n\r\n \n", 2), "utf8")
    write_jsonl(tmp_path / "b.jsonl.gz", rows("b", 10, 7), gzip.open)
    texts = [row["text"] for row in rows("c", 17, 9)]
    quoted = [text.replace('"', '""') for text in texts]
    (tmp_path / "b0.jsonl").touch()  # a file without rows is no harm
    csv = "".join(f'{17 + i},"{text}"\r\n\r\n' for i, text in enumerate(quoted))
    (tmp_path / "c.csv").write_text('"id",text\r\n' + csv, "utf8", newline="")
    table = pyarrow.Table.from_pylist([{"other": 0, **row} for row in rows("d", 26, 12)])
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet", row_group_size=5)
    wanted = [*rows("a", 0, 10), *rows("b", 10, 7), *rows("c", 17, 9), *rows("d", 26, 12)]
    return [tmp_path / "[abc]*.*", tmp_path / "d.parquet"], [row["text"] for row in wanted]


@pytest.mark.parametrize("shard_rows", [1, 3, 5, 7, 38, 100])
def test_shards_are_cut_from_all_files_alike_and_read_in_any_order(mixed, shard_rows):
    inputs, wanted = mixed
    sources = find_sources(inputs)
    shards = plan_shards(sources, shard_rows, ["text"])
    sizes = [sum(piece.rows for piece in pieces) for pieces in shards]
    assert sizes[:-1] == [shard_rows] * (len(sizes) - 1)
    assert (sum(sizes), 0 < sizes[-1] <= shard_rows) == (38, True)
    order = list(range(len(shards)))
    for _ in range(2):
        reader = Reader(sources, ["text"])
        found = {number: reader.read(shards[number], int) for number in order}
        reader.close()
        assert [text for number in sorted(order) for text in found[number].texts] == wanted
        assert [id for number in sorted(order) for id in found[number].ids] == list(range(38))
        random.Random(0).shuffle(order)


def test_each_line_of_a_text_file_is_a_row(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n  two \r x\nlast")
    sources = find_sources(tmp_path / "a.txt")
    for shard_rows in (1, 2, 9):
        reader, found = Reader(sources, ["text"]), []
        for pieces in plan_shards(sources, shard_rows, ["text"]):
            found += reader.read(pieces, int).texts
        reader.close()
        assert found == ["one", "", "  two \r x", "last"]


def test_a_line_of_tabs_is_a_row_of_empty_fields(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"id\ttext\n1\ta\n\t\r\n\n\r\n2\t \n")
    sources = find_sources(tmp_path / "a.tsv")
    reader = Reader(sources, ["id", "text"])
    (pieces,) = plan_shards(sources, 9, ["id", "text"])
    rows = reader.read(pieces, str)
    reader.close()
    assert (rows.ids, rows.texts) == (["1", "", "2"], ["a", "", " "])


@pytest.mark.parametrize("name", ["a.json", "a.ndjson.gz", "a.jsonl.zst", "a\udcff.txt"])
def test_names_that_are_refused(tmp_path, name):
    try:
        (tmp_path / name).write_bytes(b"{}")
    except OSError:
        pytest.skip("the file system takes no such name")
    with pytest.raises(ValueError, match=r"is not supported; .*\.jsonl|is not UTF-8; rename"):
        find_sources(tmp_path / name)


def test_addresses_of_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    rows = [{"id": f"x{i}", "text": f"text {i}"} for i in range(9)]
    table = pyarrow.Table.from_pylist(rows[6:])
    with files.open("/corpus/c.parquet", "wb") as file:
        pyarrow.parquet.write_table(table, file)
    for name, part in (("a.jsonl", rows[:3]), ("b.jsonl.gz", rows[3:6])):
        content = "".join(json.dumps(row) + "\n" for row in part).encode()
        files.pipe(f"/corpus/{name}", gzip.compress(content) if name.endswith("gz") else content)
    sources = find_sources("memory://corpus/*")
    assert [source.name for source in sources] == [
        f"memory:///corpus/{name}" for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")
    ]
    reader = Reader(sources, ["id", "text"])
    found = [reader.read(pieces, str) for pieces in plan_shards(sources, 4, ["id", "text"])]
    assert [id for one in found for id in one.ids] == [row["id"] for row in rows]
    assert [text for one in found for text in one.texts] == [row["text"] for row in rows]
    reader.close()
    with pytest.raises(FileNotFoundError, match="no file fits 'memory://nowhere"):
        find_sources("memory://nowhere/*.jsonl")
    with pytest.raises(ValueError, match="nothing://a: .*fsspec"):
        find_sources("nothing://a")


BAD = [
    ("a.jsonl", '{"id": 1, "text": "a"}\n\n{"id": 2', "line 3: broken json"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n[2]', "line 2: a json object is needed"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2}', "line 2, column 'text': is missing"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": null}', "line 2, column 'text': None"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": "2", "text": "b"}', "column 'id': the id '2'"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": true, "text": "b"}', "column 'id': the id True"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 9223372036854775808, "text": "b"}', "64 bits"),
    ("a.jsonl", '{"id": "1", "text": "a"}\n{"id": 2, "text": "b"}', "the id 2 is no string"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "\\ud800"}', "line 2, column 'text': is not"),
    ("a.jsonl", b'{"id": 1, "text": "a"}\n{"id": 2, "text": "\xff"}', "line 2, column 'text': is not UTF-8"),
    ("a.csv", 'id,text\n1,a\n\n2\n', "line 4: 1 fields, where the header has 2"),
    ("a.csv", 'id,text\n1,"a\nb"\n2,b,c\n', "line 4: 3 fields"),
    ("a.tsv", 'id\ttext\n1\ta\n2 b\n', "line 3: 1 fields"),
    ("a.tsv", b'id\ttext\n1\ta\n2\t\xff\n', "line 3, column 'text': is not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize("name, content, words", BAD)
def test_a_bad_row_is_named_or_counted(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sources = find_sources(path)
    columns = ["id", "text"]
    shards = plan_shards(sources, 10, columns)
    strict, lax = Reader(sources, columns), Reader(sources, columns, skip_bad_rows=True)
    id_type = strict.id_type(shards)
    with pytest.raises(ValueError, match="line") as caught:
        strict.read(shards[0], id_type)
    assert str(caught.value).startswith(f"{path}, line ")
    assert words in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    found = lax.read(shards[0], id_type)
    assert (found.texts[0][0], len(found.texts), found.num_bad) == ("a", 1, 1)
    assert words in found.first_bad
    strict.close()
    lax.close()


def test_bad_rows_of_parquet(tmp_path):
    texts = pyarrow.Array.from_buffers(
        pyarrow.string(),
        3,
        [None, pyarrow.py_buffer(np.int32([0, 1, 2, 3])), pyarrow.py_buffer(b"a\xffc")],
    )
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    sources = find_sources(path)
    shards = plan_shards(sources, 2, ["text"])
    reader = Reader(sources, ["text"])
    with pytest.raises(ValueError, match="row 2, column 'text': is not UTF-8"):
        reader.read(shards[0], int)
    assert reader.read(shards[1], int).texts == ["c"]
    reader.close()


def test_the_number_of_a_row_is_its_id_though_rows_before_it_are_bad(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\nno\n{"text": "b"}\n')
    sources = find_sources(tmp_path / "a.jsonl")
    reader = Reader(sources, ["text"], skip_bad_rows=True)
    assert reader.read(plan_shards(sources, 10, ["text"])[0], int).ids == [0, 2]
    reader.close()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", b'text\n"a\n', "line 2: malformed csv"),
        ("a.csv", b"other\na\n", "line 1: no column 'text'; there are other"),
        ("a.tsv", b"", "line 1: no column 'text'"),
        ("a.parquet", b"PAR1", "not readable as parquet"),
        ("a.txt", b"", "no rows in"),
        ("a.jsonl", b" \n\n", "no rows in"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-9], "line 9: broken gzip"),
        ("a.txt.gz", b"plain", "broken gzip"),
    ],
)
def test_a_broken_file_is_an_error_before_anything_is_computed(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        plan_shards(find_sources(tmp_path / name), 10, ["text"])
    assert str(tmp_path / name) in str(caught.value)


def test_inputs_that_are_no_files(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    for name, error, words in (
        (tmp_path / "b.txt", FileNotFoundError, "b.txt"),
        (tmp_path / "*.jsonl", FileNotFoundError, "no file fits"),
        (tmp_path, IsADirectoryError, r"name its files, such as .*/\*.parquet"),
        ("/dev/null", OSError, "no regular file"),
        ("-", ValueError, "stdin cannot be read again"),
        ([], ValueError, "no inputs"),
        ([tmp_path / "a.txt", tmp_path / "*.txt"], ValueError, "named twice"),
    ):
        with pytest.raises(error, match=words):
            find_sources(name)


def test_reading_row_after_row_unpacks_a_file_once(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl.gz", [{"text": f"text {i}"} for i in range(5000)], gzip.open)
    sources = find_sources(tmp_path / "a.jsonl.gz")
    shards = plan_shards(sources, 100, ["text"])
    rewinds = itertools.count()
    rewind = gzip._GzipReader._rewind

    def counted(self):
        next(rewinds)
        rewind(self)

    monkeypatch.setattr(gzip._GzipReader, "_rewind", counted)
    reader = Reader(sources, ["text"])
    for pieces in shards:
        assert len(reader.read(pieces, int).texts) == 100
    reader.close()
    assert next(rewinds) <= 1
