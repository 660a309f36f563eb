import json

import pytest

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.errors import ConfigError
from tests.data.tokenizer.pipelines import KINDS, WORDPIECE_VOCAB, edit, wordpiece


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
    # transformers makes a token of a name that the vocabulary lacks
    expected = {"cls": "court", "sep": "order", "pad": ".", "mask": "not there", "unk": "[UNK]"}
    assert found.special_tokens == expected
    assert found.mask_id == found.vocab_size - 1 == len(WORDPIECE_VOCAB)
    assert load_tokenizer(tmp_path, {"cls": "[CLS]"}).special_tokens == expected | {"cls": "[CLS]"}


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
