import json
import shutil

import pytest
import torch
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from kl3m_embeddings.encoder.embedding_head import DenseSettings, EmbeddingHead
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder, load_encoder
from kl3m_embeddings.encoder.folder.sentence_modules import (
    SentenceModules,
    build_embedding_head,
    read_sentence_modules,
)
from kl3m_embeddings.encoder.pooling import POOLINGS, finish
from kl3m_embeddings.errors import ConfigError
from tests.encoder.tiny import PAD_ID, tiny_batch, tiny_config, tiny_tokenizer

TYPES = ["bert", "deberta-v2", "modernbert", "roberta"]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("model_type", TYPES)
def test_transformers_opens_the_folder(tmp_path, model_type):
    config = tiny_config(model_type, torch_dtype="bfloat16", architectures=["OwnForMaskedLM"])
    encoder = build_encoder(config, seed=1).eval()
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    input_ids, attention_mask = tiny_batch()
    hidden = encoder.hidden_states(input_ids, attention_mask)
    positions = attention_mask.flatten().nonzero()[:, 0]

    model = AutoModel.from_pretrained(tmp_path).eval()
    states = model(input_ids, attention_mask=attention_mask.long()).last_hidden_state
    torch.testing.assert_close(hidden[attention_mask], states[attention_mask], **CLOSE)
    masked, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert masked.dtype == torch.float32
    logits = masked.eval()(input_ids, attention_mask=attention_mask.long()).logits
    ours = encoder.target_logits(hidden.flatten(0, 1)[positions])
    torch.testing.assert_close(ours, logits.flatten(0, 1)[positions], **CLOSE)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        type(masked).__name__
    ]


def test_the_file_holds_what_transformers_would_write(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    write_model_folder(tmp_path / "ours", encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    AutoModelForMaskedLM.from_config(encoder.config).save_pretrained(tmp_path / "theirs")
    files = [safe_open(tmp_path / name / "model.safetensors", "pt") for name in ("ours", "theirs")]
    assert set(files[0].keys()) == set(files[1].keys())
    assert files[0].metadata() == files[1].metadata() == {"format": "pt"}


@pytest.mark.parametrize("changes", [{"legacy": False}, {"tie_word_embeddings": False}])
def test_other_heads_of_deberta_survive(tmp_path, changes):
    encoder = build_encoder(tiny_config(**changes), seed=1)
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    masked, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    state = masked.state_dict()
    assert all(torch.equal(state[name], t) for name, t in encoder.network.state_dict().items())


def test_given_weights_replace_the_networks_own(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    weights = {name: tensor + 1 for name, tensor in encoder.network.state_dict().items()}
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=PAD_ID, max_length=16, weights=weights)
    state = AutoModelForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def test_the_padding_is_the_tokenizers(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=2, max_length=16)
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 2
    encoder = build_encoder(tiny_config("roberta"), seed=1)
    with pytest.raises(ConfigError, match="pad_token_id: roberta counts positions from it"):
        write_model_folder(tmp_path, encoder, tokenizer_pad_id=2, max_length=16)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("model_type", "pooling", "normalise"),
    [*((model_type, "mean", False) for model_type in TYPES), ("deberta-v2", "cls", True)],
)
def test_sentence_transformers_encodes_the_same(tmp_path, model_type, pooling, normalise):
    from sentence_transformers import SentenceTransformer

    encoder = build_encoder(tiny_config(model_type), seed=1).eval()
    write_model_folder(
        tmp_path,
        encoder,
        tokenizer_pad_id=PAD_ID,
        max_length=16,
        head=EmbeddingHead(encoder.hidden_size, pooling=pooling, normalise=normalise),
    )
    tiny_tokenizer(tmp_path)
    texts = ["w1 w2 w3", "w9", " ".join(f"w{i}" for i in range(30))]
    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert model.max_seq_length == 16

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    hidden = encoder.hidden_states(batch["input_ids"], batch["attention_mask"])
    pooled = finish(POOLINGS[pooling](hidden, batch["attention_mask"]), normalise=normalise)
    torch.testing.assert_close(torch.tensor(model.encode(texts)), pooled, **CLOSE)


TEXTS = ["w1 w2 w3", "w9", " ".join(f"w{i}" for i in range(30)), "w4 w7"]


PROMPTS = {"query": "w11 w12 ", "document": "w13 "}


# The modules after the transformer, as functions: each test draws new weights.
TAILS = {
    "mean": lambda: [Pooling(32, "mean")],
    "cls, unit length": lambda: [Pooling(32, "cls"), Normalize()],
    "max, dense": lambda: [Pooling(32, "max"), Dense(32, 16)],
    "mean_sqrt_len, two dense, unit length": lambda: [
        Pooling(32, "mean_sqrt_len_tokens"),
        Dense(32, 24, bias=False, activation_function=nn.Identity()),
        Dense(24, 16, activation_function=nn.GELU()),
        Normalize(),
    ],
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A folder with weights and a tokenizer for each architecture."""
    folders = {}
    for model_type in ("bert", "deberta-v2"):
        folder = folders[model_type] = tmp_path_factory.mktemp(model_type)
        encoder = build_encoder(tiny_config(model_type), seed=1)
        write_model_folder(folder, encoder, tokenizer_pad_id=PAD_ID, max_length=16)
        tiny_tokenizer(folder)
    return folders


def opened(folder):
    return SentenceTransformer(str(folder), device="cpu")


def rewritten(source, folder):
    """Read `source`, write `folder`, and return what was read: encoder, head and modules."""
    modules, encoder = read_sentence_modules(source), load_encoder(source)
    head = build_embedding_head(modules, encoder.hidden_size)
    write_model_folder(
        folder,
        encoder,
        tokenizer_pad_id=PAD_ID,
        max_length=modules.max_seq_length,
        head=head,
        modules=modules,
    )
    for path in source.glob("tokenizer*"):
        shutil.copy(path, folder)
    return encoder, head, modules


def token_ids(folder, texts, prompt=""):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [prompt + text for text in texts]
    return tokenizer(texts, truncation=True, max_length=16)["input_ids"]


def same(first, second):
    torch.testing.assert_close(torch.tensor(first), torch.tensor(second), **CLOSE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2"])
def test_a_saved_folder_survives(tmp_path, bases, model_type, tail):
    transformer = opened(bases[model_type])[0]
    theirs = SentenceTransformer(
        modules=[transformer, *tail()],
        device="cpu",
        prompts=PROMPTS,
        default_prompt_name="document",
        similarity_fn_name="dot",
        truncate_dim=12,
    )
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    encoder, head, modules = rewritten(tmp_path / "theirs", tmp_path / "ours")
    ours = opened(tmp_path / "ours")
    assert [type(one) for one in ours] == [type(one) for one in theirs]
    assert (ours.prompts, ours.default_prompt_name) == (PROMPTS, "document")
    assert (ours.similarity_fn_name, ours.truncate_dim) == ("dot", 12)
    assert ours.max_seq_length == theirs.max_seq_length == modules.max_seq_length == 16
    expected = theirs.encode(TEXTS)
    assert expected.shape == (len(TEXTS), 12)
    same(ours.encode(TEXTS), expected)

    for name, prompt in PROMPTS.items():
        ids = token_ids(tmp_path / "ours", TEXTS, prompt)
        for num_dims, unit in ((None, False), (8, False), (8, True)):
            found = encode_ids(
                encoder, ids, pad_id=PAD_ID, head=head, num_dims=num_dims, normalise=unit
            )
            wanted = theirs.encode(
                TEXTS,
                prompt_name=name,
                truncate_dim=num_dims or head.embedding_size,
                normalize_embeddings=unit,
            )
            same(found, wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_of_ours_is_written_back_byte_by_byte(tmp_path):
    dense = [DenseSettings(in_features=32, out_features=12, activation="ReLU")]
    first, second = tmp_path / "first", tmp_path / "second"
    write_model_folder(
        first,
        build_encoder(tiny_config(), seed=1),
        tokenizer_pad_id=PAD_ID,
        max_length=16,
        head=EmbeddingHead(32, pooling="mean_sqrt_len", dense=dense, normalise=True),
        modules=SentenceModules(
            prompts=PROMPTS, default_prompt_name="query", similarity_fn_name="dot", truncate_dim=8
        ),
    )
    tiny_tokenizer(first)
    rewritten(first, second)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_files_of_the_head_are_those_that_other_servers_read(tmp_path):
    dense = [DenseSettings(in_features=32, out_features=12)]
    head = EmbeddingHead(32, pooling="max", dense=dense, normalise=True)
    given = {name: tensor + 1 for name, tensor in head.state_dict().items()}
    write_model_folder(
        tmp_path,
        build_encoder(tiny_config(), seed=1),
        tokenizer_pad_id=PAD_ID,
        max_length=16,
        head=head,
        head_weights={name: tensor.bfloat16() for name, tensor in given.items()},
    )
    read = read_sentence_modules(tmp_path)
    assert read.dense_weights[0]["linear.bias"].dtype == torch.float32
    wanted = given["dense.0.linear.bias"].bfloat16().float()
    assert torch.equal(read.dense_weights[0]["linear.bias"], wanted)
    assert {path.name for path in tmp_path.iterdir()} == {
        "1_Pooling",
        "2_Dense",
        "3_Normalize",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
    }
    text = (tmp_path / "1_Pooling" / "config.json").read_text()
    assert '"pooling_mode_max_tokens": true' in text
    assert text.count("true") == 1
    assert '"pooling_mode"' not in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_default_prompt_must_exist(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    with pytest.raises(ConfigError, match="default_prompt_name: 'query' is not among the prompts"):
        write_model_folder(
            tmp_path,
            encoder,
            tokenizer_pad_id=PAD_ID,
            max_length=16,
            modules=SentenceModules(default_prompt_name="query"),
        )
