"""What a guide reads: its own prompts before the texts, never the student's prefixes."""

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig

from kl3m_embeddings.data.pair_sets.build import build_pair_set
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules
from kl3m_embeddings.tasks.embedding.guide import guide_embeddings, guide_texts
from tests.tiny_model import TINY_CONFIG, tiny_documents

PROMPTS = {"query": "find: ", "passage": "text: "}
PREFIXES = {"query_prefix": "Query: ", "document_prefix": "a passage: "}
ROWS = (
    '{"query": "the order", "positive": "is final", "negative": ["the party"]}\n'
    '{"query": "the party", "positive": "notice"}\n'
)


@pytest.fixture(scope="session")
def word_tokenizer(tmp_path_factory):
    """A WordPiece tokenizer: what it decodes has other spaces and no capitals."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special_tokens = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    texts = [one["text"] for one in tiny_documents()] + list(PREFIXES.values())
    trainer = trainers.WordPieceTrainer(special_tokens=special_tokens, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    folder = tmp_path_factory.mktemp("words")
    backend.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


@pytest.fixture
def build(tmp_path):
    """A function that builds a pair set of ROWS."""

    def build(tokenizer, **prefixes):
        (tmp_path / "rows.jsonl").write_text(ROWS)
        return build_pair_set(
            "tiny", tmp_path / "rows.jsonl", tokenizer, tmp_path, overwrite=True, **prefixes
        ).pair_set

    return build


@pytest.mark.parametrize("student", ["tiny_tokenizer", "word_tokenizer"])
def test_its_prompts_stand_where_the_prefixes_were(request, build, tiny_tokenizer, student):
    tokenizer = request.getfixturevalue(student)
    pairs = build(tokenizer, **PREFIXES)
    read = guide_texts(pairs, tokenizer, tiny_tokenizer, SentenceModules(prompts=PROMPTS))
    expected = [
        *("find: the order", "text: is final", "text: the party"),
        *("find: the party", "text: notice"),
    ]
    assert sorted(map(tiny_tokenizer.backend.decode, read)) == sorted(expected)


@pytest.mark.parametrize("prefix", ["", "text: "])
def test_a_text_in_both_roles_has_no_prompt(build, tiny_tokenizer, prefix):
    pairs = build(tiny_tokenizer, query_prefix=prefix, document_prefix=prefix)
    modules = SentenceModules(prompts=PROMPTS)
    read = guide_texts(pairs, tiny_tokenizer, tiny_tokenizer, modules)
    expected = ["find: the order", "text: is final", "the party", "text: notice"]
    assert sorted(map(tiny_tokenizer.backend.decode, read)) == sorted(expected)


def test_the_same_text_by_the_same_tokenizer_is_read_as_it_is(build, tiny_tokenizer):
    for pairs, modules in (
        (build(tiny_tokenizer), SentenceModules()),
        (
            build(tiny_tokenizer, query_prefix="find: ", document_prefix="text: "),
            SentenceModules(prompts=PROMPTS),
        ),
    ):
        read = guide_texts(pairs, tiny_tokenizer, tiny_tokenizer, modules)
        stored = [pairs.texts.document_tokens(one).tolist() for one in range(pairs.num_texts)]
        assert list(read) == stored


def test_no_text_is_longer_than_the_guide_has_positions_for(
    tiny_tokenizer, tiny_pair_files, tmp_path
):
    """Whatever its own settings say, where each position has a vector of its own."""
    config = AutoConfig.for_model(**TINY_CONFIG | {"position_biased_input": True})
    encoder = build_encoder(config, seed=0)
    write_model_folder(
        tmp_path / "guide", encoder, tokenizer_pad_id=tiny_tokenizer.pad_id, max_length=64
    )
    tiny_tokenizer.save(tmp_path / "guide", 64)
    pairs = build_pair_set("tiny", tiny_pair_files["train"], tiny_tokenizer, tmp_path).pair_set
    assert pairs.text_lengths.max() > TINY_CONFIG["max_position_embeddings"]
    limit = TINY_CONFIG["max_position_embeddings"] - 2
    texts = [
        [
            tiny_tokenizer.cls_id,
            *pairs.texts.document_tokens(one).tolist()[:limit],
            tiny_tokenizer.sep_id,
        ]
        for one in range(pairs.num_texts)
    ]
    expected = encode_ids(encoder, texts, pad_id=tiny_tokenizer.pad_id)
    guide = open_model(tmp_path / "guide")
    vectors = guide_embeddings(guide, pairs, tiny_tokenizer, torch.device("cpu"))
    cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
