import json

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.errors import ConfigError

WORDPIECE_VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "court", "##s", "order", ".", "["]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def wordpiece(folder):
    """A BERT tokenizer's folder."""
    model = models.WordPiece(
        {token: i for i, token in enumerate(WORDPIECE_VOCAB)}, unk_token="[UNK]"
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.save(str(folder / "tokenizer.json"))
    return folder


def unigram(folder):
    """A sentencepiece-like tokenizer with RoBERTa's special tokens."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", "▁court", "s", "▁order", "."]
    backend = tokenizers.Tokenizer(models.Unigram([(token, -2.0) for token in tokens], 3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.save(str(folder / "tokenizer.json"))
    return folder


KINDS = {"wordpiece": wordpiece, "unigram": unigram}


@pytest.fixture(params=["bytes", *KINDS])
def any_tokenizer(request, tokenizer, tmp_path):
    if request.param == "bytes":
        return tokenizer
    (tmp_path / "source").mkdir()
    return load_tokenizer(KINDS[request.param](tmp_path / "source"))


def edit(folder, **parts):
    """Change parts of a tokenizer.json."""
    file = folder / "tokenizer.json"
    pipeline = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(pipeline | parts), encoding="utf-8")


def test_special_tokens_are_found_by_their_names(any_tokenizer):
    ids = [getattr(any_tokenizer, f"{role}_id") for role in ("cls", "sep", "pad", "mask", "unk")]
    assert len(set(ids)) == 5
    for role in ("cls", "sep", "pad", "mask", "unk"):
        token = getattr(any_tokenizer, f"{role}_token")
        assert any_tokenizer.backend.token_to_id(token) == getattr(any_tokenizer, f"{role}_id")
    assert np.flatnonzero(any_tokenizer.special_ids()).tolist() == sorted(ids)


def test_a_file_and_its_folder_are_the_same_tokenizer(tmp_path):
    folder = wordpiece(tmp_path)
    assert (
        load_tokenizer(folder / "tokenizer.json").fingerprint == load_tokenizer(folder).fingerprint
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [False, True])
def test_lower_case_is_part_of_the_pipeline_where_sentence_transformers_settings_ask_for_it(
    tmp_path, kind, asked
):
    source, saved = tmp_path / "source", tmp_path / "saved"
    source.mkdir()
    KINDS[kind](source)
    edit(source, normalizer=None)
    (source / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": asked}))
    tokenizer = load_tokenizer(source)
    lower, upper = tokenizer.encode("court order"), tokenizer.encode("COURT Order")
    assert (upper == lower) == asked
    tokenizer.save(saved, 16)
    (saved / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": asked}))
    again = load_tokenizer(saved)
    assert again.encode("COURT Order") == upper
    assert again.fingerprint == tokenizer.fingerprint


def test_a_pipeline_that_makes_lower_case_stays_as_it_is(tmp_path):
    fingerprint = load_tokenizer(wordpiece(tmp_path)).fingerprint
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert load_tokenizer(tmp_path).fingerprint == fingerprint


def test_explicit_tokens_come_before_the_map_before_the_config(tmp_path):
    wordpiece(tmp_path)
    names = {"cls_token": "court", "sep_token": {"content": "order"}, "mask_token": "not there"}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(names | {"cls_token": "order", "pad_token": "."}), encoding="utf-8"
    )
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    found = load_tokenizer(tmp_path)
    assert (found.cls_token, found.sep_token, found.pad_token) == ("court", "order", ".")
    assert found.mask_token == "[MASK]"
    assert load_tokenizer(tmp_path, {"cls": "[CLS]"}).cls_token == "[CLS]"


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        ({"cls": "nowhere"}, "special token cls='nowhere': not in the vocabulary"),
        ({"bos": "[CLS]"}, "choose from cls, sep, pad, mask, unk"),
        ({"cls": "[SEP]"}, "cls, sep, pad and mask must differ"),
    ],
)
def test_wrong_special_tokens_are_named(tmp_path, special_tokens, message):
    with pytest.raises(ConfigError) as error:
        load_tokenizer(wordpiece(tmp_path), special_tokens)
    assert message in str(error.value)
    assert "tokenizer.json" in str(error.value)


def test_all_missing_special_tokens_are_named_with_the_remedy(tmp_path):
    tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError) as error:
        load_tokenizer(tmp_path)
    lines = str(error.value).splitlines()
    assert [role for role in ("cls", "sep", "pad", "mask") if f"no {role} token" in str(lines)] == [
        "cls",
        "sep",
        "pad",
        "mask",
    ]
    assert all("special_tokens_map.json" in line for line in lines)


def test_what_is_no_tokenizer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    for source in (tmp_path, tmp_path / "bad.json", tmp_path / "none/at/all", "org/name-not-here"):
        with pytest.raises(ConfigError) as error:
            load_tokenizer(source)
        assert str(source) in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_an_older_folder_is_converted(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDPIECE_VOCAB), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer"}), encoding="utf-8"
    )
    assert load_tokenizer(tmp_path).encode("Courts order.") == [5, 6, 7, 8]


def test_special_tokens_in_a_text_are_text(tokenizer, tmp_path):
    for one in (tokenizer, load_tokenizer(wordpiece(tmp_path))):
        special = one.special_ids()
        special[one.unk_id] = False
        for token in (one.cls_token, one.sep_token, one.pad_token, one.mask_token):
            assert not special[one.encode(f"court {token} order")].any()


def test_the_fingerprint_is_of_what_determines_ids(tmp_path):
    fingerprint = load_tokenizer(wordpiece(tmp_path)).fingerprint
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.enable_padding(direction="left", pad_id=3, pad_token="[SEP]")
    backend.enable_truncation(3)
    backend.post_processor = processors.TemplateProcessing("$A [SEP]", None, [("[SEP]", 3)])
    backend.save(str(tmp_path / "tokenizer.json"))
    same = load_tokenizer(tmp_path)
    assert same.fingerprint == fingerprint
    assert same.encode("court order . court order .") == [5, 7, 8, 5, 7, 8]

    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).fingerprint != fingerprint
    wordpiece(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.add_tokens([AddedToken("court order")])
    backend.save(str(tmp_path / "tokenizer.json"))
    more = load_tokenizer(tmp_path)
    assert more.fingerprint != fingerprint
    assert more.vocab_size == len(WORDPIECE_VOCAB) + 1


def test_dropout_is_off(tmp_path, tokenizer):
    tokenizer.save(tmp_path, 128)
    model = json.loads(tokenizer.backend.to_str())["model"]
    edit(tmp_path, model=model | {"dropout": 0.5})
    noisy = load_tokenizer(tmp_path)
    text = "the order of the court is final " * 5
    assert noisy.encode(text) == tokenizer.encode(text)
    assert noisy.fingerprint == tokenizer.fingerprint


def test_ids_without_a_token_are_special(tmp_path, tokenizer):
    tokenizer.save(tmp_path, 128)
    model = json.loads(tokenizer.backend.to_str())["model"]
    last = max(model["vocab"], key=model["vocab"].get)
    model["vocab"][last] += 2
    edit(tmp_path, model=model)
    gapped = load_tokenizer(tmp_path)
    assert gapped.vocab_size == tokenizer.vocab_size + 2
    assert gapped.special_ids()[-3:].tolist() == [True, True, False]
    assert len(gapped.newline_ids()) == len(gapped.word_start_ids()) == gapped.vocab_size


def test_newline_and_word_start_ids_of_bytes(tokenizer):
    newline, start = tokenizer.newline_ids(), tokenizer.word_start_ids()
    for text, has_newline, is_start in [
        ("\n", True, True),
        (" the", False, True),
        (".", False, True),
        ("x", False, False),
        ("7", False, False),
    ]:
        (token_id,) = tokenizer.encode(text)
        assert (newline[token_id], start[token_id]) == (has_newline, is_start), text
    part_of_a_character = tokenizer.encode("é")
    assert len(part_of_a_character) == 2
    assert not start[part_of_a_character].any()


def test_word_start_ids_of_wordpiece_and_unigram(tmp_path):
    starts = load_tokenizer(wordpiece(tmp_path)).word_start_ids()
    assert [token for token, start in zip(WORDPIECE_VOCAB, starts, strict=True) if not start] == [
        "##s"
    ]
    loaded = load_tokenizer(unigram(tmp_path))
    starts = {loaded.backend.id_to_token(i) for i in np.flatnonzero(loaded.word_start_ids())}
    assert {"▁", "▁court", "▁order", "."} <= starts
    assert "s" not in starts


@pytest.fixture(scope="module")
def exported(tokenizer, tmp_path_factory):
    """The exported folder beside a deberta-v2 config, as transformers opens it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("exported")
    tokenizer.save(folder, 64)
    config = {"model_type": "deberta-v2", "vocab_size": tokenizer.vocab_size}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(text=ANY_TEXT)
def test_transformers_gives_the_same_ids(exported, tokenizer, text):
    expected = [tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id]
    assert exported(text, truncation=True)["input_ids"] == expected[:63] + expected[-1:] * (
        len(expected) > 63
    )


def test_transformers_pads_right_and_keeps_special_tokens_apart(exported, tokenizer):
    text = "the <|mask|> order [SEP]<|sep|>"
    batch = exported([text, "the"], padding=True)
    assert batch["input_ids"][0] == [tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id]
    assert batch["input_ids"][1][-1] == tokenizer.pad_id
    assert batch["attention_mask"][1][:2] == [1, 1]
    assert sorted(batch) == ["attention_mask", "input_ids"]
    assert exported("a", "b")["input_ids"].count(tokenizer.sep_id) == 2
    assert (exported.model_max_length, exported.mask_token) == (64, "<|mask|>")


def test_an_export_loads_as_the_same_tokenizer(any_tokenizer, tmp_path):
    any_tokenizer.save(tmp_path / "out", 128)
    again = load_tokenizer(tmp_path / "out")
    assert again.fingerprint == any_tokenizer.fingerprint
    assert again.encode("courts order.") == any_tokenizer.encode("courts order.")
