"""Tokenizers of every kind, under encoders that were trained with them, give the same vectors as
sentence-transformers."""

import json

import pytest
import sentence_transformers
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

import jsbert
from jsbert.tokenizer import Tokenizer
from tests.models import SIZES, sentences
from tests.parity import reference

TEXTS = [
    *sentences(25, seed=8),
    "",
    "  two  blanks ",
    "Über CAFÉ naïve",
    "a" * 200,
    "<s> </s> <pad> <mask>",
    "日本語 \U0001f600",
]


def byte_level_bpe(folder):
    """Return RoBERTa's kind of tokenizer: <s> 0, <pad> 1, </s> 2, <unk> 3, then bytes and a few
    merges, <mask> last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("c", "a"), ("d", "o")]
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *letters,
        *("".join(pair) for pair in merges),
        "<mask>",
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    fast = transformers.RobertaTokenizerFast(tokenizer_object=backend, model_max_length=20)
    fast.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    return len(vocabulary)


def unigram(folder):
    """Return XLM-R's kind of tokenizer: <s> 0, <pad> 1, </s> 2, <unk> 3, then pieces with their
    log-probabilities."""
    words = [
        "▁the",
        "▁cat",
        "▁dog",
        "▁red",
        "▁",
        "▁sat",
        "▁on",
        *"abcdefghijklmnopqrstuvwxyz.,:",
        "ca",
        "ing",
    ]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [
        *((piece, 0.0) for piece in special),
        *((word, -2.0 - i / 7) for i, word in enumerate(words)),
    ]
    backend = tokenizers.Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    backend.add_special_tokens([*special, "<mask>"])
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
    }
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=20,
        **names,
    )
    fast.save_pretrained(folder)
    return len(pieces) + 1


def trunk(kind, vocab_size, **sizes):
    config = getattr(transformers, f"{kind}Config")(**SIZES | {"vocab_size": vocab_size} | sizes)
    return reference.perturb(getattr(transformers, f"{kind}Model")(config))


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<mask>", "<unk>"]


def wordpiece(folder, *, lowercase):
    """Return BERT's kind of tokenizer with MPNet's tokens added, in a tokenizer.json whose steps no
    real model has."""
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéÉüÜïÏ中文-"]
    pieces = [
        *SPECIAL,
        "über",
        "Über",
        "café",
        "cafe",
        "CAFE",
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    backend = tokenizers.Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=not lowercase,
                                                    handle_chinese_chars=lowercase)  # fmt: skip
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[SEP] $A", pair="[SEP] $A $B:1", special_tokens=[("[SEP]", 3)]
    )
    backend.add_special_tokens(SPECIAL)
    backend.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    "model_type, tokenizer_class",
    [
        ("bert", "BertTokenizer"),
        ("nomic_bert", "BertTokenizerFast"),
        ("distilbert", "DistilBertTokenizer"),
        ("electra", "ElectraTokenizerFast"),
        ("mpnet", "MPNetTokenizer"),
        ("bert", "MPNetTokenizerFast"),
        ("bert", None),
        ("distilbert", None),
        ("mpnet", None),
        ("bert", "PreTrainedTokenizerFast"),
        ("mpnet", "TokenizersBackend"),
        ("bert", "NobodysTokenizer"),
        ("modernbert", "BertTokenizer"),
        ("modernbert", None),
    ],
)
def test_the_class_decides_whether_tokenizer_json_s_steps_hold(
    tmp_path, model_type, tokenizer_class
):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    texts = ["Über CAFÉ naïve café", "cat中文-Cat", "<mask> [MASK] a [UNK]"]
    switches = [{}, {"do_lower_case": True}, {"do_lower_case": False}, {"strip_accents": False},
                {"do_lower_case": False, "strip_accents": True}, {"tokenize_chinese_chars": False}]  # fmt: skip
    for lowercase in (True, False):
        wordpiece(tmp_path, lowercase=lowercase)
        for settings in switches:
            if tokenizer_class is not None:
                settings = settings | {"tokenizer_class": tokenizer_class}
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
            wanted = transformers.AutoTokenizer.from_pretrained(tmp_path)
            ours = Tokenizer.from_folder(tmp_path)
            assert rows(ours(texts)) == wanted(texts)["input_ids"], (lowercase, settings)
            pairs, wanted = ours([tuple(texts[:2])]), wanted(*texts[:2])
            types = rows(pairs, pairs.token_types)[0] if pairs.token_types is not None else None
            assert (rows(pairs)[0], types) == (wanted["input_ids"], wanted.get("token_type_ids")), (
                lowercase,
                settings,
            )


@pytest.mark.parametrize("tokenizer_class", ["GemmaTokenizer", "GemmaTokenizerFast", None])
@pytest.mark.parametrize("flags", [{}, {"add_bos_token": False, "add_eos_token": True}])
def test_gemma_s_class_decides_the_steps_and_not_the_ends(tmp_path, tokenizer_class, flags):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3_text"}))
    letters = [*"abcdefghijklmnopqrstuvwxyz", "▁", "<0xC3>", "<0xA9>", "▁c", "ca", "b▁", "b▁c"]
    pieces = [*SPECIAL[5:], "<bos>", "<eos>", *letters]
    merges = [("▁", "c"), ("c", "a"), ("b", "▁"), ("b▁", "c")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B <eos>", special_tokens=[("<bos>", 5), ("<eos>", 6)]
    )
    backend.add_special_tokens(pieces[:7])
    backend.save(str(tmp_path / "tokenizer.json"))
    settings = flags | ({"tokenizer_class": tokenizer_class} if tokenizer_class else {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    wanted = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_folder(tmp_path)
    texts = ["ab cab  ca", "é caf\u00e9 ééx", "Ca 中文 b", "a <mask> b <bos>", "", " c\n\tc"]
    assert rows(ours(texts)) == wanted(texts)["input_ids"]
    pairs = list(zip(texts, texts[::-1], strict=True))
    assert rows(ours(pairs)) == wanted(pairs)["input_ids"]
    assert {kind: ours.special_ids[kind] for kind in ("pad", "bos", "eos", "unk", "mask")} == {
        kind: getattr(wanted, f"{kind}_token_id") for kind in ("pad", "bos", "eos", "unk", "mask")
    }


def test_gemma_s_class_with_another_model_is_refused(tmp_path):
    wordpiece(tmp_path, lowercase=True)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizer"}')
    with pytest.raises(ValueError, match="its model is WordPiece; GemmaTokenizer takes only BPE"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    "place", ["tokenizer_config.json", "special_tokens_map.json", "both", "overruled", None]
)
@pytest.mark.parametrize("kind", ["Bert", "MPNet", "PreTrained"])
def test_special_tokens_are_those_of_transformers(tmp_path, kind, place):
    wordpiece(tmp_path, lowercase=True)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mpnet" if kind == "MPNet" else "bert"})
    )
    names = {
        "cls": "[CLS]",
        "sep": {"content": "</s>"},
        "pad": "[PAD]",
        "mask": {"content": "<mask>"},
        "unk": "[UNK]",
    }
    names = {f"{name}_token": token for name, token in names.items()}
    settings = {"tokenizer_class": f"{kind}TokenizerFast"}
    if place == "tokenizer_config.json":
        settings |= {
            name: token["content"] if isinstance(token, dict) else token
            for name, token in names.items()
        }
    elif place == "both":
        settings |= {"cls_token": "<s>", "mask_token": "[MASK]"}
    elif place == "overruled":
        added = {str(i): {"content": token, "special": True} for i, token in enumerate(SPECIAL)}
        settings |= {
            "cls_token": "<s>",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
            "added_tokens_decoder": added,
        }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if place not in (None, "tokenizer_config.json"):
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    wanted, ours = (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        Tokenizer.from_folder(tmp_path),
    )
    named = {name: getattr(wanted, f"{name}_token_id") for name in ours.special_ids}
    named_ids = {name: number for name, number in named.items() if number is not None}
    assert named_ids.items() <= ours.special_ids.items()
    assert {"cls", "sep", "pad", "mask", "unk"} <= ours.special_ids.keys()
    assert rows(ours(["the cat <mask>"])) == wanted(["the cat <mask>"])["input_ids"]


def rows(tokens, values=None):
    values = tokens.ids if values is None else values
    return [values[a:b].tolist() for a, b in zip(tokens.starts, tokens.starts[1:], strict=False)]


def assert_same_vectors(folder):
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    got = jsbert.SentenceTransformer(folder, pooling="mean").encode(TEXTS, on_truncate="ignore")
    assert reference.largest_difference(got, theirs.encode(TEXTS)) <= 1e-5
    return theirs


@pytest.mark.parametrize("kind", ["Roberta", "MPNet"])
def test_byte_level_bpe(tmp_path, kind):
    # "<pad>" in a text becomes the padding token: the reference gives it the padding's position.
    trunk(kind, byte_level_bpe(tmp_path) + 2, type_vocab_size=1).save_pretrained(tmp_path)
    assert_same_vectors(tmp_path)


@pytest.mark.parametrize("side", ["right", "left"])
def test_roberta_positions_with_padding_on_either_side(tmp_path, side):
    trunk("Roberta", byte_level_bpe(tmp_path), type_vocab_size=1).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"padding_side": side}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    assert assert_same_vectors(tmp_path).tokenizer.padding_side == side


def test_unigram(tmp_path):
    trunk("XLMRoberta", unigram(tmp_path), type_vocab_size=1).save_pretrained(tmp_path)
    assert_same_vectors(tmp_path)


def test_a_bert_with_xlm_r_s_tokenizer_takes_its_mask_not_the_config_s_padding(tmp_path):
    # paraphrase-multilingual-MiniLM-L12-v2: the tokenizer pads with 1, config.json says 0, which is
    # <s>.
    model = trunk("Bert", unigram(tmp_path))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 0
    values = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(values | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    assert_same_vectors(tmp_path)


def test_an_old_folder_without_tokenizer_json(tmp_path):
    trunk("Roberta", byte_level_bpe(tmp_path), type_vocab_size=1).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    values = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 20}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    assert_same_vectors(tmp_path)


@pytest.mark.parametrize("num_labels", [1, 2])
def test_pairs_under_a_byte_level_cross_encoder(tmp_path, num_labels):
    sizes = SIZES | {
        "vocab_size": byte_level_bpe(tmp_path),
        "type_vocab_size": 1,
        "num_labels": num_labels,
    }
    whole = transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**sizes))
    reference.perturb(whole).save_pretrained(tmp_path)
    pairs = [("the cat", "a dog sat"), ("", ""), ("red " * 30, "blue"), ("cat", "the " * 40)]
    wanted = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu").predict(pairs)
    got = jsbert.CrossEncoder(tmp_path).predict(pairs, on_truncate="ignore")
    assert reference.largest_difference(got, wanted) <= 1e-5
