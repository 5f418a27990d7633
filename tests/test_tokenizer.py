"""Texts are turned into ids; parity/ compares the vectors of whole tokenizers."""

import json
import warnings

import numpy as np
import pytest
import tokenizers

from jsbert.tokenizer import Ragged, Tokenizer
from tests import models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

NASTY = [
    "",
    "  ",
    "The CAT, sat!",
    "naïve Ünder",
    "a\x00b\tc\u200b",
    "中文 cat",
    "x" * 300,
    "[SEP] cat [MASK]",
    "🙂 dog",
    "ﬀ ﬁ",
]


def ids(ragged: Ragged) -> list[list[int]]:
    return [
        ragged.ids[a:b].tolist() for a, b in zip(ragged.starts, ragged.starts[1:], strict=False)
    ]


@pytest.mark.parametrize(
    "settings",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}],
    ids=str,
)
def test_vocab_txt_alone_gives_transformers_ids(tmp_path, settings):
    models.write_vocabulary(tmp_path, **settings)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ids(Tokenizer.from_folder(tmp_path)(NASTY)) == reference(NASTY)["input_ids"]
    pairs = list(zip(NASTY, reversed(NASTY), strict=True))
    ours, theirs = (
        Tokenizer.from_folder(tmp_path, max_length=9)(pairs),
        reference(*zip(*pairs, strict=True), truncation=True, max_length=9),
    )
    assert ids(ours) == theirs["input_ids"]
    assert ids(ours._replace(ids=ours.token_types)) == theirs["token_type_ids"]


def test_truncation_and_padding_baked_into_tokenizer_json_are_switched_off(tmp_path):
    # all-MiniLM-L6-v2's file cuts at 128 and pads to 128
    baked = models.tokenizer(tmp_path / "v").backend
    baked.enable_truncation(5)
    baked.enable_padding(length=11)
    (tmp_path / "tokenizer.json").write_text(baked.to_str())
    tokens = Tokenizer.from_folder(tmp_path, max_length=20)(["a cat", "the " * 15])
    assert tokens.lengths.tolist() == [4, 17]
    assert not tokens.truncated


def test_truncated_texts_are_counted(tmp_path):
    tokens = models.tokenizer(tmp_path, max_length=6)(
        ["a cat", "the " * 4, "the " * 5, "the " * 50]
    )
    assert tokens.lengths.tolist() == [4, 6, 6, 6]
    assert tokens.truncated == [2, 3]
    assert tokens.ids[tokens.starts[1:] - 1].tolist() == [models.VOCABULARY.index("[SEP]")] * 4


def test_truncation_from_the_left(tmp_path):
    models.write_vocabulary(tmp_path, truncation_side="left")
    kept = Tokenizer.from_folder(tmp_path, max_length=4)(["the red cat sat"])
    assert kept.ids[1:3].tolist() == [models.VOCABULARY.index(word) for word in ("cat", "sat")]


def test_the_limit_is_the_objects_own(tmp_path):
    first = models.tokenizer(tmp_path, max_length=6)
    second = first.with_max_length(9)
    assert first(["the " * 50]).lengths.tolist() == [6]
    assert second(["the " * 50]).lengths.tolist() == [9]


def test_lone_surrogates_are_refused_by_position(tmp_path):
    with pytest.raises(
        ValueError,
        match="text 2 is no valid Unicode: surrogates not allowed at character 1; clean it with",
    ):
        models.tokenizer(tmp_path)(["fine", "🙂", "x\udc00"])


def test_the_special_ids_cannot_be_changed(tmp_path):
    special_ids = models.tokenizer(tmp_path).special_ids
    assert special_ids["sep"] == models.VOCABULARY.index("[SEP]")
    with pytest.raises(TypeError):
        special_ids["sep"] = 0


def test_prompt_length_leaves_the_closing_token_out(tmp_path):
    assert models.tokenizer(tmp_path).prompt_length("query : ") == 3


def test_tokenizers_of_other_kinds_come_through_transformers(tmp_path):
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
                                             show_progress=False)  # fmt: skip
    backend.train_from_iterator(models.sentences(200), trainer)
    backend.model.save(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "RobertaTokenizer", "model_max_length": 30})
    )
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.max_length == 30
    assert ids(ours(NASTY[:4])) == reference(NASTY[:4])["input_ids"]
    (tmp_path / "out").mkdir()
    ours.save(tmp_path / "out")
    assert (
        ids(Tokenizer.from_folder(tmp_path / "out")(NASTY[:4])) == reference(NASTY[:4])["input_ids"]
    )


def test_a_tokenizer_that_runs_in_python(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "ByT5Tokenizer"})
    )
    ours = Tokenizer.from_folder(tmp_path, max_length=8)
    reference = transformers.ByT5Tokenizer()
    tokens = ours(["cat", "a long sentence"])
    assert (
        ids(tokens)
        == reference(["cat", "a long sentence"], truncation=True, max_length=8)["input_ids"]
    )
    assert tokens.truncated == [1]
    assert ours.largest_id == len(reference) - 1
    assert ours.prompt_length("cat") == 3
    pairs = ours([("cat", "a long dog")])
    assert ids(pairs) == [
        reference("cat", "a long dog", truncation=True, max_length=8)["input_ids"]
    ]
    assert (
        ids(Tokenizer.from_folder(tmp_path, lower_case=True)(["CAT"]))
        == reference(["cat"])["input_ids"]
    )
    with pytest.raises(ValueError, match="text 1 is no valid Unicode"):
        ours(["fine", "\ud800"])


@pytest.mark.parametrize("place", ["added_tokens.json", "tokenizer_config.json"])
def test_added_tokens_of_a_vocab_txt_folder(tmp_path, place):
    size = len(models.VOCABULARY)
    if place == "added_tokens.json":
        models.write_vocabulary(tmp_path)
        (tmp_path / place).write_text(json.dumps({"[X1]": size}))
    else:
        models.write_vocabulary(
            tmp_path, added_tokens_decoder={str(size): {"content": "[X1]", "special": True}}
        )
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_folder(tmp_path)
    assert ids(ours(["the [X1] cat"])) == reference(["the [X1] cat"])["input_ids"]
    assert size in ours(["the [X1] cat"]).ids


def test_a_prompt_is_put_in_front_and_positions_count_from_the_first(tmp_path):
    tokenizer = models.tokenizer(tmp_path)
    assert ids(tokenizer(["cat"], prompt="the ")) == ids(tokenizer(["the cat"]))
    with pytest.raises(
        ValueError, match="text 41 is no valid Unicode: surrogates not allowed at character 0"
    ):
        tokenizer(["fine", "\ud800"], prompt="the ", first=40)


def test_files_that_are_no_tokenizer(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no tokenizer files; expected tokenizer.json, vocab.txt"
    ):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.txt").write_text("only\nwords\n")
    with pytest.raises(
        ValueError, match=r"vocab.txt: lacks the special tokens \['\[UNK\]', '\[SEP\]', '\[CLS\]'\]"
    ):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json: not a tokenizer file"):
        Tokenizer.from_folder(tmp_path)


def test_the_files_are_written_back_as_they_were(tmp_path):
    tokenizer = models.tokenizer(tmp_path / "in")
    (tmp_path / "out").mkdir()
    tokenizer.save(tmp_path / "out")
    assert (tmp_path / "out/vocab.txt").read_bytes() == (tmp_path / "in/vocab.txt").read_bytes()
    written = json.loads((tmp_path / "out/tokenizer.json").read_text())
    assert (written["truncation"], written["padding"]) == (None, None)


def test_a_class_that_config_json_names_survives_saving(tmp_path):
    bert, (here, there) = (
        models.tokenizer(tmp_path / "bert"),
        (tmp_path / "here", tmp_path / "there"),
    )
    split_at_blanks = tokenizers.Tokenizer.from_str(bert.backend.to_str())
    split_at_blanks.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    here.mkdir()
    there.mkdir()
    split_at_blanks.save(str(here / "tokenizer.json"))
    (here / "config.json").write_text(
        '{"model_type": "bert", "tokenizer_class": "PreTrainedTokenizerFast"}'
    )
    opened = Tokenizer.from_folder(here)
    assert (
        ids(opened(["cat, dog"]))
        == transformers.AutoTokenizer.from_pretrained(here)(["cat, dog"])["input_ids"]
    )
    assert ids(opened(["cat, dog"])) != ids(bert(["cat, dog"]))
    opened.save(there)
    (there / "config.json").write_text('{"model_type": "bert"}')
    assert ids(Tokenizer.from_folder(there)(["cat, dog"])) == ids(opened(["cat, dog"]))


def test_a_limit_is_written_into_tokenizer_json_where_it_stands_alone(tmp_path):
    models.tokenizer(tmp_path / "bert", max_length=7).save(tmp_path, with_limit=True)
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert again.max_length == 7


def test_tokenizers_that_make_other_ids_have_other_descriptions(tmp_path):
    models.write_vocabulary(tmp_path / "lower")
    models.write_vocabulary(tmp_path / "cased", do_lower_case=False)
    models.write_vocabulary(tmp_path / "untyped", model_input_names=["input_ids"])
    (tmp_path / "python").mkdir()
    (tmp_path / "python/tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "ByT5Tokenizer"})
    )
    options = [dict(max_length=9), dict(max_length=8), dict(max_length=9, lower_case=True)]
    folders = [tmp_path / name for name in ("lower", "cased", "untyped", "python")]
    one, again = ([Tokenizer.from_folder(folder, **kwargs).description for folder in folders for kwargs in options]
                  for _ in range(2))  # fmt: skip
    assert one == again
    assert len(set(one)) == len(one)
    opened = Tokenizer.from_folder(tmp_path / "lower", max_length=8)
    assert opened.with_max_length(9).description == one[0]


def test_ragged_keeps_empty_rows():
    ragged = Ragged.from_lists([[1, 2], [], [3]])
    assert ragged.lengths.tolist() == [2, 0, 1]
    assert ragged.ids.dtype == np.int32
    assert Ragged.from_lists([]).lengths.tolist() == []
