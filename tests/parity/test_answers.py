"""Causal language models as cross-encoders against sentence-transformers: scores, templates,
instructions, cut pairs, folders both ways."""

import json
import pathlib

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from safetensors.numpy import load_file
from sentence_transformers.cross_encoder import modules as st

import jsbert
from jsbert import train
from jsbert.checkpoint import read_cross_encoder
from jsbert.data import Examples
from jsbert.tokenizer import ChatTokenizer
from tests import models
from tests.parity import families, reference

QWEN = """<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: {{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first \
| default("Given a web search query, retrieve relevant passages that answer the query") }}
<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}
<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") \
| first }}<|im_end|>
<|im_start|>assistant
<think>

</think>

"""
"""The template of Qwen3-Reranker."""

LOOP = """{% for message in messages %}{{ '<' + message['role'] + '>' }}
{{ message.content }}<end>
{% endfor %}
{% if add_generation_prompt %}yes or no :{% endif %}"""

PARTS = """{%- for message in messages if message.role != 'system' -%}
{{ message.role }} : {{ message.content[0].text }} {% if not loop.last %}and {% endif %}
{%- endfor %} {{ eos_token }} is it ?"""

TEMPLATES = {"qwen": QWEN, "loop": LOOP, "parts": PARTS, "none": None}

FIRST, SECOND = models.sentences(20, seed=1), models.sentences(20, seed=2, longest=20)
PAIRS = [
    *zip(FIRST, SECOND, strict=True),
    ("", ""),
    ("the cat", "  a dog\n\n"),
    ("red " * 90, "the " * 90),
    ("the <end> cat", "<|im_end|> yes <pad> {{ x }}"),
    *((f"the cat {'sat ' * n}", "on a tree") for n in range(0, 60, 3)),
]
PROMPT = "is the passage of the query"

WORDS = [
    *families.DECODER_VOCABULARY,
    *("yes", "no", "<", ">", "?", "|", "Document", "Query", "Instruct", "system", "user", "document"),
    *("think", "</", "assistant", "<|", "|>", ">:", ".<|", "Judge", "whether", "the"),
]  # fmt: skip


def write(folder, name="qwen3", template=QWEN, *, limit=90, **sizes) -> pathlib.Path:
    """Write a tiny causal language model, with a vocabulary that has "yes" and "no"."""
    words = [*dict.fromkeys(WORDS)]
    model = families.build(name, "ForCausalLM", vocab_size=len(words) + 3, **sizes)
    families.write_decoder(folder, model, words=words, model_max_length=limit)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def theirs(folder, **options):
    return sentence_transformers.CrossEncoder(str(folder), device="cpu", **options)


def assert_same(ours, model, pairs=PAIRS, **prompts):
    for activation, function in (("identity", torch.nn.Identity()), (None, None)):
        wanted = model.predict(pairs, activation_fn=function, **prompts)
        got = ours.predict(pairs, activation_fn=activation, on_truncate="ignore", **prompts)
        assert got.shape == (len(pairs),)
        assert reference.largest_difference(got, wanted) <= 1e-5
    return wanted


@pytest.mark.parametrize(
    "name, template",
    [*(("qwen3", name) for name in TEMPLATES), ("llama", "qwen"), ("mistral", "loop")],
)
def test_scores_are_those_of_sentence_transformers_both_ways(tmp_path, name, template):
    folder = write(tmp_path / "there", name, TEMPLATES[template])
    ours, model = jsbert.CrossEncoder(folder), theirs(folder)
    assert isinstance(ours.tokenizer, ChatTokenizer) == (template != "none")
    wanted = assert_same(ours, model)
    assert len({*wanted.round(4)}) > 20
    ours.save_pretrained(tmp_path / "back")
    assert reference.largest_difference(theirs(tmp_path / "back").predict(PAIRS), wanted) <= 1e-6
    again = jsbert.CrossEncoder(tmp_path / "back")
    got = again.predict(PAIRS, on_truncate="ignore")
    assert reference.largest_difference(got, wanted) <= 1e-5
    # Saved by the reference, with its list of modules.
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert_same(jsbert.CrossEncoder(tmp_path / "saved"), model)


@pytest.mark.parametrize("template", ["qwen", "loop"])
def test_instructions_take_their_place_in_the_template(tmp_path, template):
    folder = write(tmp_path, template=TEMPLATES[template])
    ours, model = jsbert.CrossEncoder(folder), theirs(folder)
    plain = ours.predict(PAIRS, on_truncate="ignore")
    told = assert_same(ours, model, prompt=PROMPT)
    assert np.abs(plain - told).max() > 1e-3
    prompts = {"prompts": {"q": PROMPT, "other": "the cat"}, "default_prompt_name": "q"}
    with_default = jsbert.CrossEncoder(folder, **prompts)
    assert_same(with_default, theirs(folder, **prompts))
    assert_same(with_default, theirs(folder, **prompts), prompt_name="other")
    assert np.allclose(with_default.predict(PAIRS, prompt="", on_truncate="ignore"), plain)
    # Nearly equal scores may be in another order.
    got, wanted = (
        {entry["corpus_id"]: entry["score"] for entry in one.rank("a cat", SECOND)}
        for one in (with_default, theirs(folder, **prompts))
    )
    assert got.keys() == wanted.keys()
    assert all(abs(got[place] - score) <= 1e-5 for place, score in wanted.items())


def test_prompts_are_saved_and_read_again(tmp_path):
    prompts = {"prompts": {"q": PROMPT}, "default_prompt_name": "q"}
    ours = jsbert.CrossEncoder(write(tmp_path / "there"), **prompts)
    ours.save_pretrained(tmp_path / "back")
    assert_same(ours, theirs(tmp_path / "back"))
    again = jsbert.CrossEncoder(tmp_path / "back")
    assert (again.prompts, again.default_prompt_name) == ({"q": PROMPT}, "q")
    with pytest.raises(ValueError, match="unknown prompt_name 'x'"):
        again.predict(("a", "b"), prompt_name="x")


def test_a_template_without_a_place_for_instructions_refuses_them(tmp_path):
    ours = jsbert.CrossEncoder(write(tmp_path, template=PARTS))
    with pytest.raises(ValueError, match="chat template takes no prompt"):
        ours.predict(("a", "b"), prompt=PROMPT)


def test_a_prompt_of_a_model_without_a_template_stands_before_the_first_text(tmp_path):
    folder = models.write_cross_folder(tmp_path / "bert")
    assert_same(jsbert.CrossEncoder(folder), theirs(folder), prompt="query : ")
    folder = write(tmp_path / "decoder", template=None)
    assert_same(jsbert.CrossEncoder(folder), theirs(folder), prompt="query : ")
    edit(
        tmp_path / "bert/config_sentence_transformers.json",
        prompts={"q": "query : "},
        default_prompt_name="q",
    )
    folder = tmp_path / "bert"
    assert_same(jsbert.CrossEncoder(folder), theirs(folder))


@pytest.mark.parametrize("limit", [20, 30, 53, 54, 55, 56, 57, 90])
def test_cut_pairs_end_with_the_end_of_the_template(tmp_path, limit):
    folder = write(tmp_path, template=LOOP, limit=limit)
    ours, model = jsbert.CrossEncoder(folder), theirs(folder)
    assert ours.max_seq_length == limit
    rows = ours.tokenize(PAIRS)
    ids = model.preprocess(PAIRS)["input_ids"].numpy()
    mask = model.preprocess(PAIRS)["attention_mask"].numpy().astype(bool)
    for row, count, wanted, kept in zip(
        rows["input_ids"], rows["attention_mask"].sum(axis=1), ids, mask, strict=True
    ):
        assert row[:count].tolist() == wanted[kept].tolist()
    assert_same(ours, model)


def test_truncated_pairs_are_counted(tmp_path):
    ours = jsbert.CrossEncoder(write(tmp_path, template=LOOP, limit=20))
    with pytest.warns(UserWarning, match="1 of 2"):
        ours.predict([("a cat", "a dog"), ("red " * 30, "a")])


def with_modules(folder, *, answers, **options):
    """The reference's model with answers of its own, saved."""
    transformer = st.Transformer(
        str(folder), transformer_task="text-generation", processing_kwargs=options or None
    )
    yes, no = (*answers, None)[:2]
    model = sentence_transformers.CrossEncoder(
        modules=[transformer, st.LogitScore(yes, no)], device="cpu"
    )
    saved = folder.parent / "saved"
    model.save_pretrained(str(saved), create_model_card=False)
    return model, saved


@pytest.mark.parametrize("answers", [(5, 9), (7,)], ids=str)
def test_answers_and_variables_of_the_template_are_those_of_the_folder(tmp_path, answers):
    folder = write(tmp_path / "there", template=LOOP)
    variables = {"chat_template": {"add_generation_prompt": True}}
    model, saved = with_modules(folder, answers=answers, **variables)
    ours = jsbert.CrossEncoder(saved)
    assert ours.config.answers == answers
    wanted = assert_same(ours, model)
    plain = jsbert.CrossEncoder(folder).predict(PAIRS, on_truncate="ignore")
    assert np.abs(plain - wanted).max() > 1e-3
    ours.save_pretrained(tmp_path / "back")
    assert reference.largest_difference(theirs(tmp_path / "back").predict(PAIRS), wanted) <= 1e-6


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_language_model_comes_back(tmp_path, is_tied):
    folder = write(tmp_path / "there", tie_word_embeddings=is_tied)
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) != is_tied
    ours = jsbert.CrossEncoder(folder)
    ours.save_pretrained(tmp_path / "back")
    before, after = (
        transformers.AutoModelForCausalLM.from_pretrained(place).eval()
        for place in (folder, tmp_path / "back")
    )
    ids, answers = torch.tensor([[3, 9, 4, 20]]), list(ours.config.answers)
    with torch.no_grad():
        one, other = (model(ids).logits[:, :, answers] for model in (before, after))
    assert torch.equal(one, other)
    assert after.config.tie_word_embeddings == is_tied
    written, given = (load_file(p / "model.safetensors") for p in (tmp_path / "back", folder))
    assert written.keys() == given.keys()
    for name in given:
        if name != "lm_head.weight":
            assert np.array_equal(written[name], given[name])


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_trained_reranker_is_written_with_its_scores(tmp_path, is_tied):
    folder = write(tmp_path / "there", template=LOOP, tie_word_embeddings=is_tied)
    start = jsbert.CrossEncoder(folder)
    first, second = models.sentences(16, seed=3), models.sentences(16, seed=4)
    columns = {"query": first, "document": second, "label": [float(i % 2) for i in range(16)]}
    source = train.Source(Examples.from_columns(columns), "binary-cross-entropy")
    recipe = train.Recipe(epochs=1, batch_size=8, learning_rate=1e-3)
    trained = train.fit(start, source, tmp_path / "run", recipe)
    wanted = trained.predict(PAIRS, on_truncate="ignore")
    assert np.abs(wanted - start.predict(PAIRS, on_truncate="ignore")).max() > 1e-3
    trained.save_pretrained(tmp_path / "out")
    got = theirs(tmp_path / "out").predict(PAIRS)
    assert reference.largest_difference(got, wanted) <= 1e-5


def test_a_template_around_the_pairs_of_a_classifier(tmp_path):
    words = [*dict.fromkeys(WORDS)]
    model = families.build(
        "qwen3", "ForSequenceClassification", vocab_size=len(words) + 3, num_labels=1
    )
    folder = families.write_decoder(tmp_path / "there", model, words=words, model_max_length=90)
    (folder / "chat_template.jinja").write_text(QWEN)
    ours = jsbert.CrossEncoder(folder)
    wanted = assert_same(ours, theirs(folder), PAIRS[:20])
    ours.save_pretrained(tmp_path / "back")
    got = theirs(tmp_path / "back").predict(PAIRS[:20])
    assert reference.largest_difference(got, wanted) <= 1e-6


def test_bfloat16_packed_rows_pools_and_pickles(tmp_path):
    import pickle

    folder = write(tmp_path)
    exact = jsbert.CrossEncoder(folder).predict(PAIRS, on_truncate="ignore")
    rounded = jsbert.CrossEncoder(folder, dtype="bfloat16").predict(PAIRS, on_truncate="ignore")
    assert 0 < np.abs(exact - rounded).max() < 0.05
    again = pickle.loads(pickle.dumps(jsbert.CrossEncoder(folder, default_prompt_name=None)))
    assert np.array_equal(again.predict(PAIRS, on_truncate="ignore"), exact)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_other_runtimes_give_the_same_scores(tmp_path, backend):
    folder = write(tmp_path)
    prompts = {"prompts": {"q": PROMPT}, "default_prompt_name": "q"}
    jsbert.CrossEncoder(folder, **prompts).save_pretrained(tmp_path / "back")
    wanted = jsbert.CrossEncoder(tmp_path / "back").predict(PAIRS, on_truncate="ignore")
    other = jsbert.CrossEncoder(tmp_path / "back", backend=backend)
    got = other.predict(PAIRS, on_truncate="ignore")
    assert reference.largest_difference(got, wanted) <= 1e-5
    plain = jsbert.CrossEncoder(folder).predict(PAIRS, on_truncate="ignore")
    got = other.predict(PAIRS, prompt="", on_truncate="ignore")
    assert reference.largest_difference(got, plain) <= 1e-5


REFUSED = {
    "no place for the document": ("{{ messages[0].content }}", "does not write the query once"),
    "only user and assistant": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        "of the roles 'query' and 'document'",
    ),
    "the document first": ("{{ messages[1].content }}{{ messages[0].content }}", "does not write"),
    "twice": ("{{ messages[0].content * 2 }}{{ messages[1].content }}", r"\* is not supported"),
    "again": ("{% for i in 'ab' %}{{ messages[0].content }}{{ messages[1].content }}{% endfor %}",
              "does not write the query once"),
    "trimmed": ("{{ messages[0].content | trim }}{{ messages[1].content }}", "changes the texts"),
    "escaped": ("{{ messages[0].content | e }}{{ messages[1].content }}", "does not write"),
    "if empty": ("{{ messages[0].content or 'x' }}{{ messages[1].content }}", "changes the texts"),
    "a loop without end": ("{% for i in range(10**9) %}{% endfor %}", "cannot be rendered"),
    "a huge text": ("{{ 'x' * 10000000000 }}", "cannot be rendered"),
    "a huge width": ("{{ '%1000000000d' % 1 }}", "cannot be rendered"),
    "a huge format": ("{{ '%1000000000d' | format(1) }}", "cannot be rendered"),
    "a huge field": ("{{ '{:>1000000000}'.format(1) }}", "cannot be rendered"),
    "a huge filling": ("{{ 'x'.zfill(1000000000) }}", "cannot be rendered"),
    "an escape": ("{{ ''.__class__.__mro__ }}", "cannot be rendered"),
    "a date": ("{{ strftime_now('%Y') }}", "cannot be rendered"),
    "its own error": ("{{ raise_exception('no query') }}", "no query"),
    "no jinja": ("{% for %}", "TemplateSyntaxError"),
    "an unknown token": ("{{ bos_token }}", "names .'bos_token'., which tokenizer_config.json"),
    "too long": ("x" * 100_001, "has 100,001 characters"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_other_templates_are_refused(tmp_path, kind):
    template, message = REFUSED[kind]
    with pytest.raises(ValueError, match=f"chat_template.jinja: .*{message}"):
        read_cross_encoder(write(tmp_path, template=template))


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("1_LogitScore/config.json", {"true_token_id": -1}, "true_token_id is -1"),
        ("1_LogitScore/config.json", {"true_token_id": 5000}, r"the answers are the tokens"),
        ("1_LogitScore/config.json", {"module_input_name": "x"}, "only 'causal_logits'"),
        ("config.json", {"is_causal": False}, "is_causal is False|no causal language model"),
        ("config.json", {"model_type": "bert"}, "'bert' is no causal language model"),
        (
            "sentence_bert_config.json",
            {"processing_kwargs": {"chat_template": {"restore_suffix": False}}},
            "only variables of the template",
        ),
        (
            "sentence_bert_config.json",
            {"processing_kwargs": {"text": {"padding": 1}}},
            "text would",
        ),
        (
            "sentence_bert_config.json",
            {"modality_config": {"message": {"format": "odd"}}},
            "format is 'odd'",
        ),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, file, changes, message):
    jsbert.CrossEncoder(write(tmp_path / "there")).save_pretrained(tmp_path / "saved")
    edit(tmp_path / "saved" / file, **changes)
    with pytest.raises(ValueError, match=message):
        read_cross_encoder(tmp_path / "saved")


def test_a_vocabulary_without_the_answers_and_a_bi_encoder_are_refused(tmp_path):
    model = families.build("qwen3", "ForCausalLM")
    families.write_decoder(tmp_path / "no", model)
    with pytest.raises(ValueError, match=r"lacks the tokens \['yes', 'no'\]"):
        read_cross_encoder(tmp_path / "no")
    jsbert.CrossEncoder(write(tmp_path / "there")).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="LogitScore"):
        jsbert.SentenceTransformer(tmp_path / "saved")
    with pytest.raises(ValueError, match="adapters of causal language models"):
        jsbert.adapters.load_adapter(jsbert.CrossEncoder(tmp_path / "saved"), tmp_path / "saved")


def test_a_template_without_jinja2_says_what_to_install(tmp_path, monkeypatch):
    from jsbert.tokenizer import chat

    folder = write(tmp_path)
    chat._environment.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "jinja2.sandbox", None)
    with pytest.raises(ImportError, match=r"pip install 'jsbert\[chat\]'"):
        read_cross_encoder(folder)
    chat._environment.cache_clear()
