"""Folders as sentence-transformers wrote them before 5.4, and everything that cannot be trained."""

import pytest
import torch

from kl3m_embeddings.encoder.embedding_head import DenseSettings
from kl3m_embeddings.encoder.folder.sentence_modules import (
    SentenceModules,
    build_embedding_head,
    read_sentence_modules,
)
from kl3m_embeddings.errors import ConfigError
from tests.encoder.folder.old_folder import DENSE, FLAGS, OLD, write


def test_the_old_form_is_read(folder):
    modules = read_sentence_modules(folder)
    assert modules == SentenceModules(
        pooling="mean",
        normalise=True,
        dense=(DenseSettings(in_features=8, out_features=4),),
        prompts={"query": "query: ", "document": ""},
        default_prompt_name="query",
        max_seq_length=16,
        do_lower_case=True,
    )
    head = build_embedding_head(modules, 8)
    assert (head.pooling, head.normalise, head.embedding_size) == ("mean", True, 4)
    assert torch.equal(head.dense[0].linear.weight, modules.dense_weights[0]["linear.weight"])
    changed = build_embedding_head(modules, 8, pooling="cls", normalise=False)
    assert (changed.pooling, changed.normalise, changed.embedding_size) == ("cls", False, 4)


def test_a_plain_folder_says_nothing(tmp_path):
    write(tmp_path / "config.json", {"max_position_embeddings": 40})
    assert read_sentence_modules(tmp_path) == SentenceModules()
    head = build_embedding_head(SentenceModules(), 8)
    assert (head.pooling, head.normalise, head.embedding_size) == ("mean", False, 8)


def test_a_prompt_that_is_not_pooled_is_refused_unless_it_is_empty(folder):
    write(folder / "1_Pooling" / "config.json", {**FLAGS, "include_prompt": False})
    message = r"1_Pooling/config\.json: include_prompt: false cannot be trained here with a prompt"
    with pytest.raises(ConfigError, match=message):
        read_sentence_modules(folder)
    write(folder / "config_sentence_transformers.json", {"prompts": {"query": ""}})
    assert read_sentence_modules(folder).prompts == {"query": ""}


@pytest.mark.parametrize("name", ["passage", "corpus", "document"])
def test_a_document_prompt_that_sentence_transformers_leaves_out_is_told(folder, name, capsys):
    write(folder / "config_sentence_transformers.json", {"prompts": {name: "text: "}})
    assert read_sentence_modules(folder).document_prompt == "text: "
    told = capsys.readouterr().err
    assert (f"its prompt '{name}' is put before documents here" in told) == (name != "document")
    write(folder / "config_sentence_transformers.json", {"prompts": {name: ""}})
    assert read_sentence_modules(folder).document_prompt == ""
    write(
        folder / "config_sentence_transformers.json", {"prompts": {name: "text: ", "document": ""}}
    )
    assert read_sentence_modules(folder).document_prompt == ""
    assert capsys.readouterr().err == ""


CHANGES = {
    "1_Pooling/config.json": [
        ({"pooling_mode": "lasttoken"}, "pooling 'lasttoken' .*: supported are cls, max, mean, "),
        ({**FLAGS, "pooling_mode_weightedmean_tokens": True}, "concatenated poolings .*: keep one"),
        ({"pooling_mode_lasttoken": True}, "pooling 'lasttoken' cannot be trained"),
        ({"pooling_mode": ["cls", "mean"]}, r"pooling \['cls', 'mean'\]: concatenated"),
        ({"pooling_mode": 3}, "pooling 3: concatenated"),
    ],
    "2_Dense/config.json": [
        ({**DENSE, "activation_function": "my.Tanh"}, "activation_function 'my.Tanh' cannot"),
        ({**DENSE, "activation_function": "torch.nn.PReLU"}, "supported are torch.nn's ELU, "),
        ({**DENSE, "use_residual": True}, "use_residual: True cannot .*: only False can"),
        ({**DENSE, "module_input_name": "token_embeddings"}, "module_input_name: 'token_emb"),
        ({**DENSE, "in_features": "8"}, "must be whole numbers"),
    ],
    "3_N/config.json": [({"module_input_name": "token_embeddings"}, "module_input_name")],
    "sentence_bert_config.json": [
        ({"transformer_task": "fill-mask"}, "transformer_task: 'fill-mask' cannot"),
        ({"processing_kwargs": {"text": {"max_length": 3}}}, "processing_kwargs"),
        ({"max_seq_length": "many"}, "max_seq_length: must be a whole number"),
    ],
    "config_sentence_transformers.json": [
        ({"model_type": "SparseEncoder"}, "model_type: 'SparseEncoder' gives no vectors"),
        ({"prompts": ["query: "]}, "prompts: must be texts by name"),
        ({"prompts": {"query": 1}}, "prompts: must be texts by name"),
        ({"default_prompt_name": "query"}, "default_prompt_name: 'query' is not among the prompts"),
        ({"similarity_fn_name": "maxsim"}, "'maxsim' is unknown: use one of cosine, dot"),
        ({"truncate_dim": 0}, "truncate_dim: must be a whole number"),
    ],
    "modules.json": [
        ({}, "names no module"),
        ([], "names no module"),
        ([{"type": "x"}], "must be a list of modules"),
        ([{"path": "../other", "type": OLD + "Transformer"}], "leads out of the folder"),
        ([{"path": "/etc", "type": OLD + "Transformer"}], "leads out of the folder"),
        ([{"path": "", "type": "custom_st.Transformer"}], "module 0: 'custom_st.Transformer'"),
        ([{"path": "", "type": OLD + "Router"}], "Router' cannot be trained here: supported are"),
    ],
}


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [(file, value, message) for file, cases in CHANGES.items() for value, message in cases],
)
def test_what_cannot_be_trained_names_file_and_remedy(folder, file, value, message):
    write(folder / file, value)
    with pytest.raises(ConfigError, match=message) as caught:
        read_sentence_modules(folder)
    assert str(caught.value).startswith(str(folder / file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kinds",
    [
        ["Pooling", "Transformer"],
        ["Transformer", "Dense"],
        ["Transformer", "Pooling", "Normalize", "Dense"],
        ["Transformer", "Pooling", "Pooling"],
    ],
)
def test_modules_in_another_order_are_refused(folder, kinds):
    write(folder / "modules.json", [{"path": "", "type": OLD + kind} for kind in kinds])
    with pytest.raises(ConfigError, match=f"{', '.join(kinds)}: modules in this order cannot"):
        read_sentence_modules(folder)
