"""Examples from files of every kind, from lists and from datasets; malformed rows."""

import csv
import gzip
import json

import numpy as np
import pytest

from jsbert.data import Examples, read_examples

PAIRS = {
    "sentence1": ["a cat", "", 'say "hi", twice'],
    "sentence2": ["a\rdog", "Über", "日本"],
    "score": [5, 2.5, 0],
}


def tsv(columns):
    return (
        "\n".join(
            "\t".join(map(str, row)) for row in [columns, *zip(*columns.values(), strict=True)]
        )
        + "\n"
    )


def quoted(columns):
    cells = [
        [f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in row]
        for row in zip(*columns.values(), strict=True)
    ]
    return "\r\n".join(",".join(row) for row in [[*columns], *cells]) + "\r\n"


def jsonl(columns):
    return "\n".join(
        json.dumps(dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    )


def write(file, content):
    content = content if isinstance(content, bytes) else content.encode("utf8")
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def columns_of(examples):
    return dict(zip(examples.names, map(list, examples.texts), strict=True))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("kind, form", [("tsv", tsv), ("csv", quoted), ("jsonl", jsonl)])
def test_every_kind_of_file_gives_the_same_examples(tmp_path, kind, form, end):
    examples = read_examples(write(tmp_path / f"pairs.{kind}{end}", form(PAIRS)))
    assert columns_of(examples) == {name: PAIRS[name] for name in ("sentence1", "sentence2")}
    assert (examples.labels.dtype, examples.labels.tolist()) == (np.float32, [5, 2.5, 0])
    assert (len(examples), examples.label_name, examples.label_names, examples.num_bad_rows) == (
        3,
        "score",
        None,
        0,
    )


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(PAIRS), tmp_path / "pairs.parquet")
    assert columns_of(read_examples(tmp_path / "pairs.parquet"))["sentence2"] == PAIRS["sentence2"]
    broken = pyarrow.Array.from_buffers(
        pyarrow.string(),
        3,
        [None, pyarrow.py_buffer(np.int32([0, 1, 2, 3])), pyarrow.py_buffer(b"a\xffc")],
    )
    parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match=r"broken.parquet, row 2, column 'text': is not UTF-8"):
        read_examples(tmp_path / "broken.parquet")
    assert list(read_examples(tmp_path / "broken.parquet", skip_bad_rows=True).texts[0]) == [
        "a",
        "c",
    ]
    write(tmp_path / "none.parquet", "PAR1, but no more")
    with pytest.raises(ValueError, match=r"none.parquet: broken parquet after row 0"):
        read_examples(tmp_path / "none.parquet")


def test_a_tsv_has_no_quoting_and_a_csv_field_may_hold_line_ends(tmp_path):
    assert read_examples(write(tmp_path / "a.tsv", 'text\n"a\nb"\n')).texts[0] == ['"a', 'b"']
    assert read_examples(write(tmp_path / "a.csv", 'text\n"a\nb"\n')).texts[0] == ["a\nb"]


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_no_content(tmp_path):
    examples = read_examples(
        write(tmp_path / "a.tsv", b"\xef\xbb\xbftext\tlabel\r\na\t1\r\n\r\nb\t0\r\n\n")
    )
    assert (examples.names, examples.texts, examples.labels.tolist()) == (
        ("text",),
        (["a", "b"],),
        [1, 0],
    )


def test_columns_and_label_are_chosen_by_name(tmp_path):
    file = write(
        tmp_path / "a.tsv",
        tsv({"label": ["x", "y"], "id": [7, 8], "c": ["p", "q"], "d": ["r", "s"]}),
    )
    assert read_examples(file).names == ("id", "c", "d")
    chosen = read_examples(file, columns=["d", "c"], label="id")
    assert (columns_of(chosen), chosen.labels.tolist()) == (
        {"d": ["r", "s"], "c": ["p", "q"]},
        [7, 8],
    )
    for options, message in [
        ({"columns": ["e"]}, "no column 'e'; there are 'label', 'id', 'c', 'd'"),
        ({"label": "e"}, "no column 'e'"),
        ({"columns": ["c"], "label": "c"}, "'c' cannot be both"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_examples(file, **options)
    with pytest.raises(ValueError, match="'label' and 'score' may both be the label; choose"):
        Examples.from_columns({"label": [1], "score": [0.5], "text": ["a"]})
    with pytest.raises(ValueError, match="label_names or label_range, but no label among 'text'"):
        read_examples(write(tmp_path / "b.tsv", "text\na\n"), label_range=(0, 5))
    with pytest.raises(ValueError, match="no column of texts"):
        Examples.from_columns({"label": [1]})


@pytest.mark.parametrize(
    "values, options, wanted, names",
    [
        (["1", "0", "12"], {}, np.int32([1, 0, 12]), None),
        (["1", "0.5", "-1e1"], {}, np.float32([1, 0.5, -10]), None),
        ([True, False], {}, np.int32([1, 0]), None),
        (["b", "a", "b"], {}, np.int32([1, 0, 1]), ("a", "b")),
        (["b", "a", "b"], {"label_names": ["b", "c", "a"]}, np.int32([0, 2, 0]), ("b", "c", "a")),
        (["1", "0"], {"label_names": ["1", "0"]}, np.int32([0, 1]), ("1", "0")),
        (["-1", "3", "1"], {"label_range": (-1, 3)}, np.float32([0, 1, 0.5]), None),
        ([[1, 2, 3], [4, 5, 6.5]], {}, np.float32([[1, 2, 3], [4, 5, 6.5]]), None),
        (np.arange(6).reshape(2, 3), {}, np.float32([[0, 1, 2], [3, 4, 5]]), None),
        ([[1, 5], [0, 3]], {"label_range": (0, 5)}, np.float32([[0.2, 1], [0, 0.6]]), None),
        ([2**40, 1], {}, np.float32([2**40, 1]), None),
    ],
)
def test_labels(values, options, wanted, names):
    examples = Examples.from_columns({"text": ["x"] * len(values), "label": values}, **options)
    np.testing.assert_array_equal(examples.labels, wanted, strict=True)
    assert examples.label_names == names
    assert examples.rows([1])[1].tolist() == wanted[[1]].tolist()


def test_scores_are_float_even_if_whole():
    assert Examples.from_columns({"text": ["x"], "score": [1]}).labels.dtype == np.float32


MALFORMED = {
    "too few fields": (
        "tsv",
        "a\tlabel\nx\t1\ny\n",
        "line 3, column 'label': 1 fields, where the header has 2",
    ),
    "too many fields": ("tsv", "a\tlabel\nx\t1\ny\t1\tz\n", "line 3, column 'number 3': 3 fields"),
    "empty label": ("tsv", "a\tlabel\nx\t1\ny\t\n", "line 3, column 'label': is empty"),
    "label no number": (
        "tsv",
        "a\tlabel\nx\t1\ny\tone\n",
        "line 3, column 'label': 'one' is not a number",
    ),
    "label nan": (
        "tsv",
        "a\tlabel\nx\t1\ny\tnan\n",
        "line 3, column 'label': 'nan' is not a number",
    ),
    "label 1_0": (
        "tsv",
        "a\tscore\nx\t1\ny\t1_0\n",
        "line 3, column 'score': '1_0' is not a number",
    ),
    "score a name": (
        "tsv",
        "a\tscore\nx\t1\ny\tlow\n",
        "line 3, column 'score': 'low' is not a number",
    ),
    "text not UTF-8": ("tsv", b"a\tlabel\nx\t1\n\xff\t1\n", "line 3, column 'a': is not UTF-8"),
    "label not UTF-8": (
        "tsv",
        b"a\tlabel\nx\te\nx\t\xfc\n",
        "line 3, column 'label': is not UTF-8",
    ),
    "csv quoting": ("csv", 'a,label\nx,1\n"y"z,1\n', "line 3: broken quoting"),
    "csv open quote": ("csv", 'a,label\n"x\n",1\n"y,1\n', "line 4: broken quoting"),
    "broken json": ("jsonl", '{"a": "x", "label": 1}\n{"a": \n', "line 2: broken json"),
    "json no object": (
        "jsonl",
        '{"a": "x", "label": 1}\n["a"]\n',
        "line 2: a json object is needed",
    ),
    "missing text": (
        "jsonl",
        '{"a": "x", "label": 1}\n{"label": 1}\n',
        "line 2, column 'a': is missing",
    ),
    "missing label": (
        "jsonl",
        '{"a": "x", "label": 1}\n{"a": "y"}\n',
        "line 2, column 'label': is missing",
    ),
    "text a number": (
        "jsonl",
        '{"a": "x", "label": 1}\n{"a": 3, "label": 1}\n',
        "line 2, column 'a': 3 is not a str",
    ),
    "lone surrogate": (
        "jsonl",
        '{"a": "x", "label": 1}\n{"a": "\\ud800", "label": 1}\n',
        "line 2, column 'a': is not",
    ),
    "label null": (
        "jsonl",
        '{"a": "x", "label": 1}\n{"a": "y", "label": null}\n',
        "line 2, column 'label': is empty",
    ),
    "label NaN": (
        "jsonl",
        '{"a": "x", "label": 1}\n{"a": "y", "label": NaN}\n',
        "line 2, column 'label': nan is",
    ),
    "lists of two lengths": (
        "jsonl",
        '{"a": "x", "label": [1]}\n{"a": "y", "label": [1, 2]}\n',
        r"shape \(1,\)",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_row_is_named_or_counted(tmp_path, name):
    kind, content, message = MALFORMED[name]
    file = write(tmp_path / f"bad.{kind}", content)
    with pytest.raises(
        ValueError, match=rf"bad\.{kind}, {message}" if message.startswith("line") else message
    ):
        read_examples(file)
    examples = read_examples(file, skip_bad_rows=True)
    assert (len(examples), len(examples.labels), examples.num_bad_rows) == (1, 1, 1)
    assert examples.texts[0][0].strip() == "x"


def test_unknown_classes_and_scores_outside_the_range_are_malformed(tmp_path):
    file = write(tmp_path / "nli.tsv", "a\tlabel\nx\tyes\ny\t-\nz\tno\n")
    with pytest.raises(
        ValueError, match=r"line 3, column 'label': '-' is none of the classes 'no', 'yes'"
    ):
        read_examples(file, label_names=["no", "yes"])
    examples = read_examples(file, label_names=["no", "yes"], skip_bad_rows=True)
    assert (examples.texts[0], examples.labels.tolist(), examples.num_bad_rows) == (
        ["x", "z"],
        [1, 0],
        1,
    )
    file = write(tmp_path / "sts.tsv", "a\tscore\nx\t5\ny\t5.1\n")
    with pytest.raises(ValueError, match=r"line 3, column 'score': 5.1 is outside 0 to 5"):
        read_examples(file, label_range=(0, 5))


OPEN = {
    "at the end": ('"y,2\nz,3\n', ["x", "z"], 1),
    "before a quoted row": ('"y,2\nz,3\n"w\nw",4\n', ["x", "z", "w\nw"], 1),
    "behind a quoted field": ('"y" y,2\n"z\nz",3\n', ["x", "z\nz"], 1),
    "one behind the other": ('"y,2\n"z,3\n"w,4\nv,5\n', ["x", "v"], 3),
    "before more than a field holds": ('"y,2\n' + "z,3\n" * 299_999, ["x"] + ["z"] * 299_999, 1),
    "a line longer than a field": ("y" * 1_200_000 + ",2\nz,3\n", ["x", "z"], 1),
}


@pytest.mark.parametrize("name", OPEN)
def test_a_stray_quote_costs_its_own_row(tmp_path, name):
    content, texts, num_bad = OPEN[name]
    file = write(tmp_path / "a.csv", "a,label\nx,1\n" + content)
    with pytest.raises(ValueError, match=r"a\.csv, line 3: broken quoting, or too long a field"):
        read_examples(file)
    examples = read_examples(file, skip_bad_rows=True)
    assert (list(examples.texts[0]), examples.num_bad_rows) == (texts, num_bad)


def test_the_limit_of_the_process_stays(tmp_path):
    before = csv.field_size_limit()
    file = write(tmp_path / "a.csv", "a,label\n" + "x" * 900_000 + ",1\n")
    assert len(read_examples(file).texts[0][0]) == 900_000
    assert csv.field_size_limit() == before


def test_lines_are_counted_through_quoted_line_ends(tmp_path):
    for row, message in (
        ('"y,2', "line 6: broken quoting"),
        ("y,2", "line 7, column 'label': 'none'"),
    ):
        file = write(tmp_path / "a.csv", f'a,label\n"x\n\nx",1\n\n{row}\nz,none\n')
        with pytest.raises(ValueError, match=message):
            read_examples(file)


def test_a_broken_gzip_is_always_an_error(tmp_path):
    whole = gzip.compress(tsv({"text": [f"{n * 7919} and more" for n in range(5000)]}).encode())
    for content in (
        whole[:-9],
        whole[: len(whole) // 2],
        whole[:400] + b"\x00" * 50 + whole[450:],
        b"text\nplain\n",
    ):
        (tmp_path / "a.tsv.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tsv\.gz: broken gzip after line \d+"):
            read_examples(tmp_path / "a.tsv.gz", skip_bad_rows=True)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.tsv", "", "a.tsv holds no rows"),
        (
            "a.tsv",
            "x\tx\n1\t2\n",
            "a.tsv, line 1: the columns are \\['x', 'x'\\]; the header must name different",
        ),
        ("a.tsv", "text\n".encode("utf-16"), "line 1: .* in UTF-8"),
        ("a.tsv", "text\n", "a.tsv holds no rows"),
        ("a.jsonl", "{\n[", "a.jsonl holds no rows that are well formed; 2 are not"),
        ("a.txt", "text\n", "unknown kind of file; supported: .tsv, .csv, .jsonl"),
    ],
)
def test_files_that_hold_nothing_to_read(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_examples(write(tmp_path / name, content), skip_bad_rows=True)
    with pytest.raises(FileNotFoundError):
        read_examples(tmp_path / "nowhere.tsv")


def test_lists_are_checked():
    with pytest.raises(TypeError, match="row 1, column 'a': None is not a string"):
        Examples.from_columns({"a": ["x", None]})
    with pytest.raises(ValueError, match="columns of unequal length: 'a' 2, 'score' 1"):
        Examples.from_columns({"a": ["x", "y"], "score": [1]})
    with pytest.raises(ValueError, match="row 1, column 'score': is empty"):
        Examples.from_columns({"a": ["x", "y"], "score": [1, None]})
    with pytest.raises(ValueError, match="label_range is \\(5, 0\\)"):
        Examples.from_columns({"a": ["x"], "score": [1]}, label_range=(5, 0))
    with pytest.raises(ValueError, match="label_names is \\['a', 'a'\\]"):
        Examples.from_columns({"a": ["x"], "label": ["a"]}, label_names=["a", "a"])


def test_labels_need_no_name():
    examples = Examples(("a",), (["x", "y"],), np.array([0.5, 1.0], np.float32))
    assert examples.rows([1])[1].tolist() == [1.0]
    listed = Examples(("a",), (["x", "y"],), _Column([[1.0, 2.0], [3.0, 4.0]]))
    assert listed.rows([1])[1].tolist() == [[3.0, 4.0]]


class _Column:
    """A column on disk, as of datasets: an array of indices gives a list."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, indices):
        return [self.values[index] for index in indices]


def test_rows_are_in_the_order_of_the_indices():
    examples = Examples.from_columns({"a": list("xyz"), "b": list("pqr"), "label": [3, 4, 5]})
    texts, labels = examples.rows(np.array([2, 0]))
    assert (texts, labels.tolist()) == ([["z", "x"], ["r", "p"]], [5, 3])
    assert Examples.from_columns({"a": ["x"]}).rows([0]) == ([["x"]], None)


class TestDatasets:
    datasets = pytest.importorskip("datasets")

    def make(self, **columns):
        return self.datasets.Dataset.from_dict(columns)

    def test_a_dataset_gives_what_its_columns_give(self):
        columns = {"a": list("xyz"), "b": list("pqr"), "label": ["no", "yes", "no"]}
        examples = Examples.from_dataset(self.make(**columns).with_format("numpy"))
        assert columns_of(examples) == {"a": list("xyz"), "b": list("pqr")}
        assert (len(examples), examples.labels.tolist(), examples.label_names) == (
            3,
            [0, 1, 0],
            ("no", "yes"),
        )
        texts, labels = examples.rows(np.array([2, 1]))
        assert (texts, labels.tolist()) == ([["z", "y"], ["r", "q"]], [0, 1])

    def test_texts_and_lists_of_numbers_are_read_when_needed(self):
        examples = Examples.from_dataset(self.make(a=list("xyz"), label=[[1.0, 2], [3, 4], [5, 6]]))
        assert not isinstance(examples.texts[0], (list, np.ndarray))
        assert not isinstance(examples.labels, (list, np.ndarray))
        texts, labels = examples.rows([1, 0])
        assert (texts, labels.tolist(), labels.dtype) == (
            [["y", "x"]],
            [[3, 4], [1, 2]],
            np.float32,
        )

    def test_class_labels_keep_their_names_and_minus_one_is_no_label(self):
        classes = self.datasets.Features(
            {
                "a": self.datasets.Value("string"),
                "label": self.datasets.ClassLabel(names=["z", "y"]),
            }
        )
        make = self.datasets.Dataset.from_dict
        examples = Examples.from_dataset(make({"a": ["p", "q"], "label": [1, 0]}, features=classes))
        assert (examples.labels.tolist(), examples.label_names) == ([1, 0], ("z", "y"))
        with pytest.raises(ValueError, match="row 1, column 'label': is empty"):
            Examples.from_dataset(make({"a": ["p", "q"], "label": [1, -1]}, features=classes))

    def test_what_cannot_be_used_is_refused(self):
        dataset = self.make(a=["x", None], n=[1, 2])
        with pytest.raises(TypeError, match="column 'n' holds int64, not strings"):
            Examples.from_dataset(dataset)
        with pytest.raises(TypeError, match="row 1, column 'a': None is not a string"):
            Examples.from_dataset(dataset, columns=["a"]).rows([0, 1])
        with pytest.raises(TypeError, match="choose one of its splits 'train'"):
            Examples.from_dataset(self.datasets.DatasetDict({"train": dataset}))
        with pytest.raises(TypeError, match="a datasets.Dataset is needed"):
            Examples.from_dataset(dataset.to_iterable_dataset())


def test_every_reader_of_lines_takes_a_byte_order_mark(tmp_path):
    from jsbert.cli.evaluators import read_samples
    from jsbert.cli.inputs import read_columns, read_texts
    from jsbert.evaluate import read_beir

    (tmp_path / "qrels").mkdir()
    files = {
        "corpus.jsonl": '{"_id": "d", "text": "a cat"}',
        "queries.jsonl": '{"_id": "q", "text": "the cat"}',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1",
        "a.csv": "a,b\nx,y",
        "a.jsonl": '{"a": "x", "b": "y"}',
        "a.txt": "x\ny",
        "samples.jsonl": '{"query": "q", "positive": ["a"], "negative": ["b"]}',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(f"\ufeff{content}\n", encoding="utf8")
    assert read_beir(tmp_path).relevant_docs == {"q": {"d"}}
    for name in ("a.csv", "a.jsonl"):
        assert read_examples(tmp_path / name, columns=["a"]).texts == (["x"],)
        assert list(read_columns(str(tmp_path / name), ["a", "b"])) == [("x", "y")]
    assert list(read_texts(str(tmp_path / "a.txt"))) == ["x", "y"]
    assert read_samples(str(tmp_path / "samples.jsonl"))[0]["query"] == "q"
