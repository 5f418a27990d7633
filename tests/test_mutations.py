"""A folder to which anything may have happened gives a clear error or a model, at once."""

import json

import pytest

from jsbert.checkpoint import is_cross_encoder, read_bi_encoder, read_cross_encoder
from tests import mutations

pytestmark = pytest.mark.filterwarnings("ignore:.*names no pooling")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return mutations.write_folders(tmp_path_factory.mktemp("mutations"))


def test_all_folders_are_whole_to_begin_with(folders):
    for folder in folders:
        (read_cross_encoder if is_cross_encoder(folder) else read_bi_encoder)(folder)


def test_a_mutated_folder_is_refused_by_name_or_is_a_model(folders):
    assert mutations.run(folders, 400, seed=0) == []


SIZES = (
    *("vocab_size", "hidden_size", "dim", "num_hidden_layers", "n_layers", "num_hidden_groups"),
    *("intermediate_size", "hidden_dim", "embedding_size"),
    *("d_model", "num_layers", "d_ff"),
)


@pytest.mark.parametrize("value", [4000, 10**12])
def test_sizes_that_the_weights_cannot_have_are_refused_by_all_families(folders, value):
    tried = 0
    for folder in folders:
        file = folder / "config.json"
        content = file.read_text() if file.exists() else "{}"
        for key in json.loads(content).keys() & set(SIZES):
            file.write_text(json.dumps(json.loads(content) | {key: value}))
            with pytest.raises(ValueError, match=key):
                (read_cross_encoder if is_cross_encoder(folder) else read_bi_encoder)(folder)
            tried += 1
        if content != "{}":
            file.write_text(content)
    assert tried >= 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_mutated_folders_are_refused_by_name_or_are_models(folders, seed):
    assert mutations.run(folders, 1000, seed) == []
