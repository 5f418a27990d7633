"""The bi-encoder against sentence_transformers.SentenceTransformer: folders in both directions,
every pooling, Dense and prompt arrangement."""

import json

import numpy as np
import pytest
import sentence_transformers
import torch
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from jsbert.checkpoint import find
from jsbert.modules import Dense, Normalize
from jsbert.pooling import POOLINGS
from tests import models
from tests.parity import reference

TEXTS = [
    *models.sentences(40, seed=3),
    "",
    "   ",
    "a" * 300,
    "query: a cat",
    "Über CAFÉ naïve",
    "\x00\x07 cat\ttree\u200b",
]


def theirs(folder):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def assert_same_vectors(folder, texts=TEXTS, **options):
    ours = jsbert.SentenceTransformer(folder).encode(texts, on_truncate="ignore", **options)
    assert reference.largest_difference(ours, theirs(folder).encode(texts, **options)) <= 1e-5


def write_reference(folder, pooling, *head, trunk=None, include_prompt=True, prompts=None):
    """Let sentence-transformers build a model and write its folder."""
    reference.write_trunk(folder / "trunk", trunk or reference.bert())
    transformer = st.Transformer(str(folder / "trunk"), max_seq_length=20)
    modules = [transformer, st.Pooling(24, pooling, include_prompt=include_prompt), *head]
    model = sentence_transformers.SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts
    )
    model.save_pretrained(str(folder / "saved"), create_model_card=False)
    return folder / "saved"


ARRANGEMENTS = {
    **{mode: (mode, ()) for mode in POOLINGS},
    "concatenated": (("cls", "mean", "lasttoken"), ()),
    "other order": (("mean", "max", "cls"), ()),
    "Normalize": ("mean", (st.Normalize(),)),
    "Dense Tanh": ("mean", (st.Dense(24, 10),)),
    "Dense without bias": ("max", (st.Dense(24, 30, bias=False, activation_function=torch.nn.ReLU()), st.Normalize())),
    "two Dense": ("cls", (st.Dense(24, 17, activation_function=torch.nn.GELU()),
                          st.Dense(17, 9, activation_function=torch.nn.Identity()), st.Normalize())),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_folders_of_sentence_transformers_give_the_same_vectors(tmp_path, name):
    pooling, head = ARRANGEMENTS[name]
    folder = write_reference(
        tmp_path, pooling, *(reference.perturb(module, i) for i, module in enumerate(head))
    )
    assert "pooling_mode" in json.loads(
        (folder / "1_Pooling/config.json").read_text()
    )  # the new keys
    assert_same_vectors(folder)
    # and written back by jsbert, sentence-transformers opens it with the same vectors
    before = theirs(folder).encode(TEXTS)
    jsbert.SentenceTransformer(folder).save_pretrained(tmp_path / "back")
    assert reference.largest_difference(theirs(tmp_path / "back").encode(TEXTS), before) <= 1e-6
    assert theirs(tmp_path / "back").max_seq_length == 20


@pytest.mark.parametrize(
    "flags",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {
            "pooling_mode_cls_token": True,
            "pooling_mode_max_tokens": True,
            "pooling_mode_mean_tokens": True,
        },
        {
            "pooling_mode_mean_sqrt_len_tokens": True,
            "pooling_mode_weightedmean_tokens": True,
            "pooling_mode_lasttoken": True,
        },
        {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False},
    ],
    ids=str,
)
def test_the_older_pooling_keys(tmp_path, flags):
    folder = write_reference(tmp_path, "mean")
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 24} | flags)
    )
    assert_same_vectors(folder)


@pytest.mark.parametrize("pooling", [*POOLINGS])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts(tmp_path, pooling, include_prompt):
    prompts = {"query": "query: the cat ", "document": "", "long": "a dog ran on red tree " * 4}
    folder = write_reference(tmp_path, pooling, include_prompt=include_prompt, prompts=prompts)
    for options in ({"prompt_name": "query"}, {"prompt": "under "}, {"prompt_name": "long"}):
        assert_same_vectors(folder, **options)
    ours, torch_model = jsbert.SentenceTransformer(folder), theirs(folder)
    for name in ("encode_query", "encode_document"):
        got = getattr(ours, name)(TEXTS, on_truncate="ignore")
        assert reference.largest_difference(got, getattr(torch_model, name)(TEXTS)) <= 1e-5


def test_a_plain_huggingface_folder_gets_mean_pooling(tmp_path):
    reference.write_trunk(tmp_path, reference.bert())
    with pytest.warns(UserWarning, match="mean pooling, as sentence-transformers does"):
        model = jsbert.SentenceTransformer(tmp_path)
    got = model.encode(TEXTS, on_truncate="ignore")
    assert reference.largest_difference(got, theirs(tmp_path).encode(TEXTS)) <= 1e-5


@pytest.mark.parametrize(
    "settings",
    [{"do_lower_case": False}, {"do_lower_case": True}, {"strip_accents": False}],
    ids=str,
)
def test_case_and_accents_follow_the_tokenizer_config(tmp_path, settings):
    reference.write_trunk(tmp_path, reference.bert(), **settings)
    got = jsbert.SentenceTransformer(tmp_path, pooling="mean").encode(TEXTS, on_truncate="ignore")
    assert reference.largest_difference(got, theirs(tmp_path).encode(TEXTS)) <= 1e-5


def test_do_lower_case_of_sentence_bert_config(tmp_path):
    folder = write_reference(tmp_path, "mean")
    models.write_vocabulary(folder, do_lower_case=False)
    (folder / "tokenizer.json").unlink()
    texts = ["THE CAT", "The Dog sat", "ÜBER"]
    cased = jsbert.SentenceTransformer(folder).encode(texts)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 20, "do_lower_case": True})
    )
    assert np.abs(cased - jsbert.SentenceTransformer(folder).encode(texts)).max() > 0.01
    assert_same_vectors(folder, texts)
    jsbert.SentenceTransformer(folder).save_pretrained(tmp_path / "back")
    assert_same_vectors(tmp_path / "back", texts)


def test_truncate_dim_and_normalisation(tmp_path):
    folder = write_reference(tmp_path, "mean")
    assert_same_vectors(folder, truncate_dim=7, normalize_embeddings=True)
    assert_same_vectors(folder, normalize_embeddings=True)


def test_token_embeddings_and_all_outputs(tmp_path):
    folder = write_reference(tmp_path, "mean", st.Normalize())
    ours, torch_model = jsbert.SentenceTransformer(folder), theirs(folder)
    texts = [text for text in TEXTS if len(text) < 60]
    got = ours.encode(texts, output_value="token_embeddings")
    for a, b in zip(got, torch_model.encode(texts, output_value="token_embeddings"), strict=True):
        assert reference.largest_difference(a, b) <= 1e-5
    everything, wanted = (
        ours.encode(texts, output_value=None),
        torch_model.encode(texts, output_value=None),
    )
    for a, b in zip(everything, wanted, strict=True):
        length = int(b["attention_mask"].sum())
        assert a["input_ids"].tolist() == b["input_ids"][:length].tolist()
        assert (
            reference.largest_difference(a["token_embeddings"], b["token_embeddings"][:length])
            <= 1e-5
        )
        assert (
            reference.largest_difference(a["sentence_embedding"], b["sentence_embedding"]) <= 1e-5
        )


def test_models_made_here_open_there(tmp_path):
    head = (Dense(48, 20, activation="gelu"), Normalize())
    settings = models.Settings({"query": "query: "}, "query", "dot", 15)
    parts = models.parts(tmp_path / "v", pooling=("cls", "mean"), head=head, settings=settings)
    model = jsbert.SentenceTransformer.from_parts(parts)
    model.save_pretrained(tmp_path / "saved")
    reopened = theirs(tmp_path / "saved")
    assert (reopened.default_prompt_name, reopened.similarity_fn_name, reopened.truncate_dim) == (
        "query",
        "dot",
        15,
    )
    assert reopened.prompts["query"] == "query: "
    assert (
        reference.largest_difference(
            model.encode(TEXTS, on_truncate="ignore"), reopened.encode(TEXTS)
        )
        <= 1e-5
    )


def test_hub_names_without_an_owner_are_the_same_repositories():
    assert {
        *sentence_transformers.util.misc.ORIGINAL_TRANSFORMER_MODELS
    } == find.NAMES_WITHOUT_OWNER
    theirs = sentence_transformers.SentenceTransformer, sentence_transformers.CrossEncoder
    ours = find.DEFAULT_ORGANIZATION, jsbert.cross_encoder.ORGANIZATION
    assert tuple(model.default_huggingface_organization for model in theirs) == ours


def test_vocabularies_left_beside_a_tokenizer_json_are_not_read(tmp_path):
    folder = write_reference(tmp_path, "mean")
    jsbert.SentenceTransformer(folder).save_pretrained(folder)
    wanted = theirs(folder).encode(TEXTS)
    (folder / "vocab.txt").write_text("\n".join(models.VOCABULARY[::-1]))
    (folder / "vocab.json").write_text(json.dumps({"mine": 0}))
    (folder / "merges.txt").write_text("mine")
    (folder / "tokenizer.model").write_text("mine")
    assert np.array_equal(theirs(folder).encode(TEXTS), wanted)
    assert_same_vectors(folder)


def test_a_dense_in_a_pickle(tmp_path):
    folder = write_reference(tmp_path, "mean", reference.perturb(st.Dense(24, 10)))
    from safetensors.torch import load_file

    torch.save(
        load_file(folder / "2_Dense/model.safetensors"), folder / "2_Dense/pytorch_model.bin"
    )
    (folder / "2_Dense/model.safetensors").unlink()
    assert_same_vectors(folder)
