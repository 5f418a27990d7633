"""`jsbert eval` and `jsbert train`: what they read and refuse, and that every option reaches the
recipe."""

import dataclasses
import inspect
import json

import pytest

pytest.importorskip("optax")
pytest.importorskip("orbax.checkpoint")

import jsbert
from jsbert import evaluate
from jsbert.cli.train import train
from jsbert.train import Recipe
from tests import command_line, models
from tests.command_line import is_one_line

FIRST, SECOND, THIRD = (models.sentences(30, seed=seed, longest=8) for seed in (1, 2, 3))
SCORES = [(7 * i % 11) / 2 for i in range(30)]
CLASSES = [("no", "yes", "maybe")[i % 3] for i in range(30)]


@pytest.fixture
def run(capfd):
    """Run the command line, and return (exit code, stdout, stderr)."""
    return lambda *argv, **stdin: command_line.run(capfd, argv, **stdin)


@pytest.fixture
def data(tmp_path):
    """A folder with a file for each task."""
    folder = tmp_path / "data"
    (folder / "beir" / "qrels").mkdir(parents=True)

    def write(name, **columns):
        rows = [
            "\t".join(columns),
            *("\t".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
        ]
        (folder / name).write_text("\n".join(rows) + "\n")

    write("sts.tsv", sentence1=FIRST, sentence2=SECOND, score=SCORES)
    write("nli.tsv", label=CLASSES, premise=FIRST, hypothesis=SECOND)
    write("binary.tsv", label=[i % 2 for i in range(30)], premise=FIRST, hypothesis=SECOND)
    write("triplet.tsv", anchor=FIRST, positive=SECOND, negative=THIRD)
    samples = [
        {"query": a, "positive": [b, "a"], "negative": [c]}
        for a, b, c in zip(FIRST, SECOND, THIRD, strict=True)
    ]
    (folder / "rerank.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    for name, texts in (("corpus", FIRST), ("queries", SECOND[:5])):
        rows = [
            json.dumps({"_id": f"{name[0]}{i}", "title": "", "text": text})
            for i, text in enumerate(texts)
        ]
        (folder / "beir" / f"{name}.jsonl").write_text("\n".join(rows))
    judged = [f"q{i}\tc{3 * i}\t1" for i in range(5)]
    (folder / "beir" / "qrels" / "dev.tsv").write_text(
        "\n".join(["query-id\tcorpus-id\tscore", *judged])
    )
    return folder


# eval


SWAPPED = ["--columns", "sentence2,sentence1", "--label", "score"]


@pytest.mark.parametrize(
    "argv, evaluator",
    [
        (["sts", "sts.tsv"], evaluate.EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)),
        (
            ["sts", "sts.tsv", "--similarity-fns", "dot,manhattan", *SWAPPED],
            evaluate.EmbeddingSimilarityEvaluator(
                SECOND, FIRST, SCORES, similarity_fn_names=["dot", "manhattan"]
            ),
        ),
        (
            ["binary", "binary.tsv"],
            evaluate.BinaryClassificationEvaluator(FIRST, SECOND, [i % 2 for i in range(30)]),
        ),
        (["triplet", "triplet.tsv"], evaluate.TripletEvaluator(FIRST, SECOND, THIRD)),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_eval_prints_what_the_evaluator_finds(run, tiny, tiny_folder, data, argv, evaluator):
    wanted = evaluator(tiny)
    code, out, err = run("eval", argv[0], data / argv[1], *argv[2:], "-m", tiny_folder, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found.pop("primary_metric") == evaluator.primary_metric
    assert found == pytest.approx(wanted, abs=1e-6)
    _, table, _ = run("eval", argv[0], data / argv[1], *argv[2:], "-m", tiny_folder)
    assert {
        line.split()[0]: float(line.split()[1]) for line in table.splitlines()
    } == pytest.approx(wanted, abs=1e-4)
    assert table.count("(primary)") == 1


def test_eval_of_retrieval_and_reranking(run, tiny, tiny_folder, tiny_cross_folder, data, tmp_path):
    beir = evaluate.read_beir(data / "beir", "dev")
    wanted = evaluate.InformationRetrievalEvaluator(*beir)(tiny)
    code, out, err = run(
        "eval", "retrieval", data / "beir", "--split", "dev", "-m", tiny_folder, "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found.pop("primary_metric") in wanted
    assert found == pytest.approx(wanted, abs=1e-6)
    for folder in (tiny_folder, tiny_cross_folder):
        code, out, err = run(
            *f"eval reranking {data / 'rerank.jsonl'} -m {folder} --csv {tmp_path / 'csv'} --json".split()
        )
        assert (code, err) == (0, "")
        assert {"map", "mrr@10", "ndcg@10"} <= set(json.loads(out))
    assert len(list((tmp_path / "csv").iterdir())) == 2


def test_eval_of_a_cross_encoder(run, tiny_cross_folder, data):
    model = jsbert.CrossEncoder(tiny_cross_folder)
    pairs = list(zip(FIRST, SECOND, strict=True))
    wanted = evaluate.CrossEncoderCorrelationEvaluator(pairs, SCORES)(model)
    found = json.loads(run("eval", "sts", data / "sts.tsv", "-m", tiny_cross_folder, "--json")[1])
    assert found == pytest.approx(wanted | {"primary_metric": "spearman"}, abs=1e-6)
    wanted = evaluate.CrossEncoderClassificationEvaluator(pairs, [i % 2 for i in range(30)])(model)
    found = json.loads(
        run("eval", "binary", data / "binary.tsv", "-m", tiny_cross_folder, "--json")[1]
    )
    assert found == pytest.approx(wanted | {"primary_metric": "average_precision"}, abs=1e-6)


def test_a_number_that_is_none_is_null_in_json(run, tiny_folder, tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\tscore\na\tb\t1\nc\td\t1\n")
    code, out, _ = run("eval", "sts", tmp_path / "x.tsv", "-m", tiny_folder, "--json")
    assert code == 0
    assert json.loads(out)["pearson_cosine"] is None


@pytest.mark.parametrize(
    "argv, words",
    [
        (["sts", "nowhere.tsv"], ["nowhere.tsv", "No such file"]),
        (["sts", "triplet.tsv"], ["needs 2 columns of texts and a label", "found 3"]),
        (["triplet", "sts.tsv"], ["needs 3 columns of texts", "found 2"]),
        (["sts", "bad.tsv"], ["bad.tsv, line 3"]),
        (["sts", "sts.tsv", "--columns", "x,y"], ["sts.tsv", "no column 'x'"]),
        (["sts", "sts.tsv", "--label", "x"], ["sts.tsv", "no column 'x'"]),
        (["sts", "sts.tsv", "--similarity-fns", "l2"], ["'l2'", "manhattan"]),
        (["binary", "nli.tsv", "--label-names", "yes,no"], ["nli.tsv, line", "maybe"]),
        (["binary", "sts.tsv"], ["0"]),
        (["retrieval", "beir"], ["test.tsv", "No such file"]),
        (["retrieval", "nowhere"], ["nowhere", "No such file"]),
        (["reranking", "sts.tsv"], ["sts.tsv, line 1", "broken json"]),
        (["reranking", "bad.jsonl"], ["bad.jsonl, line 1", '"positive"']),
        (["reranking", "empty.jsonl"], ["empty.jsonl holds no samples"]),
        (["sts", "sts.tsv", "--csv", "sts.tsv"], ["sts.tsv", "is a file"]),
    ],
    ids=" ".join,
)
def test_eval_refuses_bad_data_in_one_line(run, tiny_folder, data, argv, words, monkeypatch):
    (data / "bad.tsv").write_text("a\tb\tscore\na\tb\t1\nc\td\n")
    (data / "bad.jsonl").write_text('{"query": "a", "positive": "b", "negative": []}\n')
    (data / "empty.jsonl").write_text("")
    monkeypatch.chdir(data)
    code, out, err = run("eval", *argv, "-m", tiny_folder)
    assert (code, out) == (1, "")
    assert is_one_line(err, *words), err


def test_eval_refuses_what_a_cross_encoder_cannot_do(run, tiny_cross_folder, data):
    for argv in (["triplet", "triplet.tsv"], ["retrieval", "beir"]):
        code, _, err = run("eval", argv[0], data / argv[1], "-m", tiny_cross_folder)
        assert code == 1
        assert is_one_line(err, "need a bi-encoder")
    code, _, err = run("eval", "sts", data / "sts.tsv", "-m", tiny_cross_folder, "--pooling", "cls")
    assert code == 2
    assert is_one_line(err, "makes no vectors")


def test_rows_left_out_are_counted(run, tiny_folder, data):
    with open(data / "sts.tsv", "a") as file:
        file.write("only one field\n")
    code, _, err = run("eval", "sts", data / "sts.tsv", "--skip-bad-rows", "-m", tiny_folder)
    assert code == 0
    assert is_one_line(err, "warning", "sts.tsv: 1 malformed rows left out")


# train


def test_the_options_are_the_recipes_with_its_defaults():
    options = {
        name: parameter.default for name, parameter in inspect.signature(train).parameters.items()
    }
    wanted = {field.name: field.default for field in dataclasses.fields(Recipe)}
    for name, default in wanted.items():
        if name == "dropout":
            assert (default, options["no_dropout"]) == (None, False)
        else:
            assert options[name] == (None if name == "frozen" else default), name


@pytest.fixture
def fitted(monkeypatch):
    """The calls of `fit`. A stand-in keeps the arguments and trains nothing."""
    calls = []
    monkeypatch.setattr(
        "jsbert.train.fit", lambda *arguments, **options: calls.append((*arguments, options))
    )
    return calls


def test_train_hands_everything_to_fit(run, tiny_folder, data, tmp_path, fitted):
    options = (
        "--epochs 2 --batch-size 8 --learning-rate 1e-3 --warmup 0 --schedule constant --weight-decay 0 "
        "--max-grad-norm 0 --accumulate 2 --chunk-size 4 --dtype bfloat16 --remat --no-packing --frozen encoder/embeddings "
        "--frozen layers/0 --no-dropout --seed 3 --mix round-robin --duplicates --no-group-by-label --max-steps 9 --eval-steps 5 --keep-last "
        "--checkpoint-steps 6 --log-steps 1 --num-workers 2"
    )
    sources = (
        f"--data {data / 'sts.tsv'} --data softmax:{data / 'nli.tsv'} --objective cosine".split()
    )
    scores = [
        "--eval-data",
        f"sts:{data / 'sts.tsv'}",
        "--eval-data",
        f"triplet:{data / 'triplet.tsv'}",
    ]
    more = ["--label-range", "0,5", "--device", "cpu:1", "-m", tiny_folder, "-o", tmp_path / "out"]
    code, out, err = run("train", *sources, *scores, *more, *options.split())
    assert (code, out) == (0, f"{tmp_path / 'out'}\n")
    model, found, folder, recipe, rest = fitted[0]
    assert (model.devices[0].id, model.dtype, folder) == (1, "float32", tmp_path / "out")
    assert recipe == Recipe(
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        warmup=0,
        schedule="constant",
        weight_decay=0,
        max_grad_norm=None,
        accumulate=2,
        chunk_size=4,
        dtype="bfloat16",
        remat=True,
        packing=False,
        frozen=("encoder/embeddings", "layers/0"),
        dropout=False,
        seed=3,
        mix="round-robin",
        no_duplicates=False,
        group_by_label=False,
        max_steps=9,
        eval_steps=5,
        keep_best=False,
        checkpoint_steps=6,
        log_steps=1,
        num_workers=2,
    )
    assert [source.name for source in found] == ["sts", "nli"]
    assert found[0].examples.labels == pytest.approx([score / 5 for score in SCORES])
    assert found[1].examples.label_names == ("maybe", "no", "yes")
    built = [source.objective(model.config, name=source.name) for source in found]
    assert [objective.kind for objective in built] == ["cosine", "softmax"]
    assert built[1].num_classes == 3
    assert set(rest["evaluator"](model)) >= {"sts_spearman_cosine", "triplet_cosine_accuracy"}
    assert json.loads(err)["frozen"] == ["encoder/embeddings", "layers/0"]


def test_the_plain_command_takes_the_papers_recipe(run, tiny_folder, data, tmp_path, fitted):
    code, _, err = run(
        *f"train --data triplet:{data / 'triplet.tsv'} -m {tiny_folder} -o {tmp_path / 'out'}".split()
    )
    assert code == 0
    assert fitted[0][3] == Recipe()
    assert fitted[0][-1]["evaluator"] is None
    assert {
        name: value for name, value in json.loads(err).items() if name in Recipe().to_json()
    } == Recipe().to_json()


def test_options_of_objectives_are_given_on(
    run, tiny_folder, tiny_cross_folder, data, tmp_path, fitted
):
    argv = ["train", "-o", tmp_path / "out", "--objective-option"]
    more = f"--data triplet:{data / 'triplet.tsv'} -m {tiny_folder} --objective-option margin=5".split()
    assert run(*argv, "distance=cosine", *more)[0] == 0
    more = (
        f"--data cross-entropy:{data / 'nli.tsv'} -m {tiny_cross_folder} --label-names yes,no,maybe"
    ).split()
    assert run(*argv, "num-labels=3", *more)[0] == 0
    assert fitted[1][1][0].examples.label_names == ("yes", "no", "maybe")
    code, _, err = run(
        *argv, "width=3", "--data", f"triplet:{data / 'triplet.tsv'}", "-m", tiny_folder
    )
    assert code == 1
    assert is_one_line(err, "'triplet' has no option width", "margin")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--data", "sts.tsv"], ["'sts.tsv' names no objective", "softmax"]),
        (["--data", "sts.tsv", "--objective", "guess"], ["'guess'", "softmax"]),
        (["--data", "guess:sts.tsv"], ["'guess' is no objective", "softmax"]),
        (["--data", "cosine:nowhere.tsv"], ["nowhere.tsv", "No such file"]),
        (["--data", "mse:sts.tsv"], ["not for a bi-encoder", "cosine"]),
        (["--data", "softmax:triplet.tsv"], ["triplet.tsv", "needs labels"]),
        (["--data", "cosine:bad.tsv"], ["bad.tsv, line 3"]),
        (
            ["--data", "cosine:sts.tsv", "--label-range", "0,4"],
            ["sts.tsv, line", "column 'score'", "outside 0.0 to 4.0"],
        ),
        (["--data", "cosine:sts.tsv", "--label-range", "five"], ["--label-range 'five'", "0,5"]),
        (["--data", "cosine:sts.tsv", "--label-range", "5,0"], ["label_range"]),
        (
            ["--data", "cosine:sts.tsv", "--objective-option", "scale"],
            ["--objective-option 'scale'", "NAME=VALUE"],
        ),
        (["--data", "cosine:sts.tsv", "--eval-data", "sts.tsv"], ["names no task", "TASK:FILE"]),
        (["--data", "cosine:sts.tsv", "--eval-data", "sts:nowhere"], ["nowhere"]),
        (["--data", "cosine:sts.tsv", "--eval-data", "guess:sts.tsv"], ["'guess' is no task"]),
        (["--data", "cosine:sts.tsv", "--learning-rate", "0"], ["learning_rate is 0.0"]),
        (["--data", "cosine:sts.tsv", "--learning-rate", "nan"], ["learning_rate is nan"]),
    ],
    ids=" ".join,
)
def test_train_refuses_bad_input_before_it_begins(
    run, tiny_folder, data, argv, words, monkeypatch, fitted
):
    (data / "bad.tsv").write_text("a\tb\tscore\na\tb\t1\nc\td\n")
    monkeypatch.chdir(data)
    code, out, err = run("train", *argv, "-m", tiny_folder, "-o", "out")
    assert (code, out) == (1, "")
    assert is_one_line(err, *words), err
    assert not fitted
    assert not (data / "out").exists()


def test_train_makes_a_folder_that_opens_and_finds_it_done_the_second_time(
    run, tiny_folder, data, tmp_path
):
    argv = f"train --data cosine:{data / 'sts.tsv'} --label-range 0,5 -m {tiny_folder}".split()
    argv += ["-o", tmp_path / "out", "--max-steps", 2, "--eval-data", f"sts:{data / 'sts.tsv'}"]
    code, out, err = run(*argv)
    assert (code, out) == (0, f"{tmp_path / 'out'}\n"), err
    assert {"recipe.json", "metrics.jsonl", "README.md", "modules.json"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    before = jsbert.SentenceTransformer(tiny_folder).encode("a cat")
    after = jsbert.SentenceTransformer(tmp_path / "out").encode("a cat")
    assert abs(before - after).max() > 0
    assert run(*argv)[0] == 0
    code, out, err = run(*argv, "--seed", 1)
    assert (code, out) == (1, "")
    assert is_one_line(err[err.index("\njsbert") + 1 :], "another run", "recipe.seed"), err


def test_train_refuses_a_folder_with_something_else(run, tiny_folder, data, tmp_path):
    argv = f"train --data cosine:{data / 'sts.tsv'} --label-range 0,5 -m {tiny_folder} -o".split()
    for out, words in (
        (data / "sts.tsv", "is a file"),
        (models.write_folder(tmp_path / "other"), "no run's of jsbert"),
    ):
        code, _, err = run(*argv, out)
        assert code == 1
        assert is_one_line(err[err.index("\njsbert") + 1 :], words), err


def test_a_cross_encoder_is_made_of_an_encoder(run, tiny_folder, tmp_path):
    file = tmp_path / "pairs.tsv"
    rows = [
        f"{i % 2}\tthe cat {word}\ta dog" for i, word in enumerate(["sat", "ran", "is", "was"] * 3)
    ]
    file.write_text("label\tquery\tdocument\n" + "\n".join(rows) + "\n")
    out = tmp_path / "cross"
    argv = f"train --data {file} -o {out} -m {tiny_folder} --num-labels 1 --batch-size 4".split()
    code, printed, _ = run(*argv, "--objective", "binary-cross-entropy", "--log-steps", "1")
    assert (code, printed) == (0, f"{out}\n")
    assert jsbert.CrossEncoder(out).predict(("the cat", "a dog")).shape == ()
