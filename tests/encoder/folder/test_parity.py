"""Every architecture that transformers embeds with: right, or refused by name, never a trace."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from tokenizers import normalizers
from transformers import AutoConfig, AutoModel

from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import load_encoder
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.folder.parity import ParityCheck
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.errors import ConfigError
from tests.encoder.folder.stock_folder import (
    RARE,
    USUAL,
    tiny_settings,
    write_network,
    write_sentence_modules,
    write_tokenizer,
)

EMBEDDED = [*USUAL, *(pytest.param(kind, marks=pytest.mark.slow) for kind in RARE)]
# What a text's vector is depends, in these, on how long the other texts of its batch are.
BY_BATCH = ["canine", "fnet", "funnel", "yoso"]
# These need more than a text, or a text of one length, in transformers as well.
UNFIT = ["nystromformer", "xmod"]
TEXTS = ["a lamp", "How To Measure It", "café in the garden", "a long way home " * 12]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


def sentence_transformer(folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def expected_vectors(folder):
    """Those of sentence-transformers, each text alone."""
    model = sentence_transformer(folder)
    return np.concatenate([model.encode([text]) for text in TEXTS])


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("kind", EMBEDDED)
def test_an_architecture_gives_the_vectors_of_sentence_transformers(folder, kind):
    write_tokenizer(write_network(folder, kind))
    vectors = TextEncoder.load(folder, precision="float32").encode(TEXTS)
    assert cosines(vectors, expected_vectors(folder)).min() > 0.9999


@pytest.mark.parametrize("kind", BY_BATCH)
def test_an_architecture_that_padding_changes_is_refused_by_name(folder, kind):
    write_tokenizer(write_network(folder, kind))
    with pytest.raises(
        ConfigError, match=rf"not what the network \({kind}\) makes of them"
    ) as told:
        TextEncoder.load(folder, precision="float32")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", UNFIT)
def test_what_transformers_cannot_embed_is_refused_by_name(folder, kind):
    write_tokenizer(write_network(folder, kind))
    with pytest.raises(ConfigError, match=rf"transformers' own network \({kind}\) cannot") as told:
        TextEncoder.load(folder, precision="float32")
    assert "\n" not in str(told.value)


def test_an_encoder_decoder_is_refused_by_name(folder):
    write_tokenizer(write_network(folder, "bart"))
    with pytest.raises(ConfigError, match="model_type 'bart': an encoder-decoder"):
        TextEncoder.load(folder, precision="float32")


@pytest.mark.parametrize(
    "settings",
    [
        {"template": "$A"},
        {"template": "$A [SEP]"},
        {"template": "[SEP] $A [CLS] [CLS]", "padding_side": "left"},
        {"truncation_side": "left"},
        {"lowercase": False, "tokenizer_class": "BertTokenizer", "do_lower_case": True},
        {"lowercase": True, "tokenizer_class": "BertTokenizer", "do_lower_case": False},
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False},
        {"model_max_length": 10**30},
        {"model_max_length": 12},
    ],
)
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_tokenizer_is_what_its_library_says(folder, kind, settings):
    write_tokenizer(write_network(folder, kind), **settings)
    vectors = TextEncoder.load(folder, precision="float32").encode(TEXTS)
    if kind == "roberta" and settings.get("model_max_length") == 10**30:
        return  # sentence-transformers has a longest text that RoBERTa has no positions for
    assert cosines(vectors, expected_vectors(folder)).min() > 0.9999


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.BertNormalizer(lowercase=True),
        normalizers.BertNormalizer(lowercase=False),
        normalizers.Replace("Lowercase", "x"),
        normalizers.Sequence([normalizers.Replace("How", "why"), normalizers.Lowercase()]),
        normalizers.Sequence(
            [normalizers.Replace("How", "why"), normalizers.Sequence([normalizers.Lowercase()])]
        ),
        normalizers.Sequence(
            [normalizers.Replace("How", "why"), normalizers.BertNormalizer(lowercase=True)]
        ),
    ],
)
def test_lower_case_is_made_where_sentence_transformers_makes_it(folder, normalizer):
    """Not where the words are somewhere in tokenizer.json, but where a text begins with it."""
    write_tokenizer(write_network(folder))
    write_sentence_modules(folder)
    path = folder / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.normalizer = normalizer
    tokenizer.save(str(path))
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    vectors = TextEncoder.load(folder, precision="float32").encode(TEXTS)
    assert cosines(vectors, expected_vectors(folder)).min() > 0.9999


@pytest.mark.parametrize("of_sentence_transformers", [True, False])
@pytest.mark.parametrize("names", [("roberta",), ("bert", "roberta"), ("roberta", "xlnet")])
def test_settings_count_where_sentence_transformers_reads_them(
    folder, names, of_sentence_transformers
):
    """The first file of its list does; none does in a folder without modules.json."""
    write_tokenizer(write_network(folder), lowercase=False)
    if of_sentence_transformers:
        write_sentence_modules(folder)
    for number, name in enumerate(names):
        settings = {"do_lower_case": number == 0, "max_seq_length": 12 - number}
        (folder / f"sentence_{name}_config.json").write_text(json.dumps(settings))
    model = TextEncoder.load(folder, precision="float32")
    assert model.model.max_length == (12 if of_sentence_transformers else 24)
    assert cosines(model.encode(TEXTS), expected_vectors(folder)).min() > 0.9999


def test_added_special_tokens_in_prompts_are_tokens(folder):
    write_tokenizer(write_network(folder))
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens(["[QRY]", "[DOC]"])
    backend.save(str(folder / "tokenizer.json"))
    settings = {"prompts": {"query": "[QRY] ", "document": "[DOC] "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    write_sentence_modules(folder)
    ours = TextEncoder.load(folder, precision="float32")
    theirs = sentence_transformer(folder)
    for side in ("query", "document"):
        prompt = getattr(ours.model.modules, f"{side}_prompt")
        vectors, expected = (
            ours.encode(TEXTS, prompt=prompt),
            theirs.encode(TEXTS, prompt_name=side),
        )
        assert cosines(vectors, expected).min() > 0.9999


@pytest.mark.parametrize("kind", ["t5", "mt5"])
def test_of_an_encoder_decoder_that_is_saved_whole_the_encoder_is_read(folder, kind):
    torch.manual_seed(0)
    whole = AutoModel.from_config(AutoConfig.for_model(kind, **tiny_settings(kind)))
    whole.save_pretrained(folder)
    write_tokenizer(folder)
    vectors = TextEncoder.load(folder, precision="float32").encode(TEXTS)
    assert cosines(vectors, expected_vectors(folder)).min() > 0.9999


def test_how_results_are_handed_on_is_no_part_of_a_model(folder):
    write_tokenizer(write_network(folder, return_dict=False))
    assert json.loads((folder / "config.json").read_text())["return_dict"] is False
    model = open_model(folder)
    before = open_model(folder).fingerprint
    vectors = TextEncoder.load(model, precision="float32").encode(TEXTS)
    assert model.fingerprint == before  # loading changes nothing
    assert cosines(vectors, expected_vectors(folder)).min() > 0.9999


def test_a_checkpoint_without_the_pooler_is_a_model(folder):
    """As Longformer's published ones: nothing reads that layer."""
    write_tokenizer(write_network(folder, "longformer"))
    assert not any("pooler" in name for name in load_file(folder / "model.safetensors"))
    encoder = TextEncoder.load(folder, precision="float32").encoder
    assert not any("pooler" in name for name in encoder.state_dict())


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5", "xlnet", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("tokenizer", [{}, {"truncation_side": "left", "template": "$A [SEP]"}])
def test_what_is_exported_passes_the_same_check(folder, tmp_path, kind, tokenizer):
    write_tokenizer(write_network(folder, kind), **tokenizer)
    model = TextEncoder.load(folder, precision="float32")
    out = tmp_path / "exported"
    length = model.model.max_length or 24
    write_model_folder(
        out, model.encoder, tokenizer_pad_id=model.model.tokenizer.pad_id, max_length=length
    )
    model.model.tokenizer.save(out, length)
    vectors = TextEncoder.load(out, precision="float32").encode(TEXTS)
    assert cosines(vectors, model.encode(TEXTS)).min() > 0.9999
    assert cosines(vectors, sentence_transformer(out).encode(TEXTS)).min() > 0.9999


def break_frame(tokenizer):
    return replace(tokenizer, suffix_ids=())


def break_side(tokenizer):
    return replace(tokenizer, cuts_left=True)


def break_pipeline(tokenizer):
    tokenizer.backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    return tokenizer


@pytest.mark.parametrize("broken", [break_frame, break_side, break_pipeline])
def test_tokens_that_differ_are_shown(folder, broken):
    write_tokenizer(write_network(folder))
    model = open_model(folder)
    model = replace(model, tokenizer=broken(model.tokenizer))
    with pytest.raises(ConfigError, match=r"the tokens of '.*' are .* here, .* there") as told:
        TextEncoder.load(model)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"layer_norm_eps": 5.0}])
def test_a_network_that_differs_is_told(folder, change):
    write_tokenizer(write_network(folder))
    check = ParityCheck(open_model(folder), EmbeddingHead(32))
    encoder = load_encoder(folder, masked_head=False, observe=check.observe)
    check.check(encoder)
    other = load_encoder(
        folder, masked_head=False, config=AutoConfig.from_pretrained(folder, **change)
    )
    with pytest.raises(ConfigError, match=r"\(bert\) makes of them \(cosine 0\.\d+"):
        check.check(other)


def test_vectors_that_are_no_numbers_or_of_another_length_are_told(folder):
    write_tokenizer(write_network(folder))
    check = ParityCheck(open_model(folder), EmbeddingHead(32))
    encoder = load_encoder(folder, masked_head=False, observe=check.observe)
    for factor in (float("nan"), 1.1):
        with torch.no_grad():
            norm = encoder.network.encoder.layer[-1].output.LayerNorm
            norm.weight *= factor
            norm.bias *= factor
        with pytest.raises(ConfigError, match="makes of them"):
            check.check(encoder)
        norm.load_state_dict({"weight": torch.ones(32), "bias": torch.zeros(32)})


@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2", "bert"])
def test_a_text_is_cut_where_the_settings_say_if_there_are_positions(folder, kind):
    """What has no table of positions goes on behind config.json's number."""
    write_tokenizer(write_network(folder, kind))
    write_sentence_modules(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 60}))
    ours = TextEncoder.load(folder, precision="float32")
    assert ours.model.max_length == (40 if kind == "bert" else 60)
    if kind != "bert":  # of which sentence-transformers has no vector
        expected = expected_vectors(folder)
        assert cosines(ours.encode(TEXTS), expected).min() > 0.9999


def test_a_tokenizer_that_gives_no_attention_mask_is_used_as_one_that_does(folder):
    write_tokenizer(write_network(folder), model_input_names=["input_ids"])
    vectors = TextEncoder.load(folder, precision="float32").encode(TEXTS)
    assert cosines(vectors, expected_vectors(folder)).min() > 0.9999
