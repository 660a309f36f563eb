import json
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, processors

from kl3m_embeddings.data.tokenizer.tokenizer import check_masking, load_tokenizer
from kl3m_embeddings.errors import ConfigError
from tests.data.tokenizer.pipelines import KINDS, WORDPIECE_VOCAB, edit, unigram, wordpiece

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(params=["bytes", *KINDS])
def any_tokenizer(request, tokenizer, tmp_path):
    if request.param == "bytes":
        return tokenizer
    (tmp_path / "source").mkdir()
    return load_tokenizer(KINDS[request.param](tmp_path / "source"))


def test_special_tokens_are_found_by_their_names(any_tokenizer):
    tokens = any_tokenizer.special_tokens
    ids = [any_tokenizer.backend.token_to_id(token) for token in tokens.values()]
    assert list(tokens) == ["cls", "sep", "pad", "mask", "unk"]
    assert len(set(ids)) == 5
    of_roles = [getattr(any_tokenizer, f"{role}_id") for role in ("cls", "sep", "pad", "mask")]
    assert of_roles == ids[:4]
    assert np.flatnonzero(any_tokenizer.special_ids()).tolist() == sorted(ids)


def test_special_tokens_in_a_text_are_text(tokenizer, tmp_path):
    for one in (tokenizer, load_tokenizer(wordpiece(tmp_path))):
        special = one.special_ids()
        special[one.backend.token_to_id(one.special_tokens["unk"])] = False
        for token in one.special_tokens.values():
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


TEXTS = [
    "Courts order.",
    "COURT [MASK] order",
    "[CLS] court s",
    "court order . " * 9,
    "[DOC] courts",
]


def settle(folder, template, **config):
    """Give a folder settings, and a pipeline that adds special tokens by a template."""
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens(["[DOC]"])
    tokens = [name for name in template.split() if name != "$A"]
    backend.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, backend.token_to_id(name)) for name in tokens]
    )
    backend.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[CLS]"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("template", "config"),
    [
        ("[CLS] $A [SEP]", {}),
        ("$A", {}),
        ("$A [SEP]", {}),
        ("$A [SEP] [CLS]", {"padding_side": "left"}),
        ("[CLS] $A [SEP]", {"truncation_side": "left"}),
        ("[CLS] $A [SEP]", {"split_special_tokens": True}),
        ("[CLS] $A [SEP]", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
        ("[CLS] $A [SEP]", {"tokenizer_class": "BertTokenizer", "do_lower_case": True}),
    ],
)
def test_a_models_tokenizer_does_what_transformers_does(tmp_path, template, config):
    """And so does what is exported of it."""
    transformers = pytest.importorskip("transformers")
    folder = settle(wordpiece(tmp_path), template, **config)
    ours = load_tokenizer(folder, of_model=True)
    ours.save(tmp_path / "exported", 12)
    again = load_tokenizer(tmp_path / "exported", of_model=True)
    assert again.text_fingerprint == ours.text_fingerprint
    for theirs in map(transformers.AutoTokenizer.from_pretrained, (folder, tmp_path / "exported")):
        for text in TEXTS:
            expected = theirs(text, truncation=True, max_length=12)["input_ids"]
            for one in (ours, again):
                assert one.framed(one.encode(text), 12) == expected, text
                assert one.num_special == len(template.split()) - 1


def test_special_tokens_in_a_models_text_are_tokens_but_not_in_a_document(tmp_path):
    folder = settle(wordpiece(tmp_path), "[CLS] $A [SEP]")
    of_model, to_train = load_tokenizer(folder, of_model=True), load_tokenizer(folder)
    doc = of_model.backend.token_to_id("[DOC]")
    assert of_model.encode("[DOC] court") == [doc, 5]
    assert doc not in to_train.encode("[DOC] court")
    assert of_model.for_documents().encode("[DOC] court") == to_train.encode("[DOC] court")
    assert of_model.encode("[DOC] court") == [doc, 5]  # the other one is a copy
    # shards of documents serve both; sets of texts that are embedded do not
    assert of_model.fingerprint == to_train.fingerprint
    assert of_model.text_fingerprint != to_train.text_fingerprint == to_train.fingerprint


@pytest.mark.parametrize("longest", [0, 1, 2, 3, 4, None])
def test_a_text_is_cut_to_its_length(tmp_path, longest):
    cut = load_tokenizer(settle(wordpiece(tmp_path), "[CLS] $A [SEP]"), of_model=True)
    expected = {0: [2, 3], 1: [2, 3], 2: [2, 3], 3: [2, 5, 3], 4: [2, 5, 7, 3]}
    assert cut.framed([5, 7], longest) == expected.get(longest, [2, 5, 7, 3])
    left = replace(cut, cuts_left=True).framed([5, 7], longest)
    assert left == (expected | {3: [2, 7, 3]}).get(longest, [2, 5, 7, 3])


def test_what_a_models_tokenizer_lacks_is_told_when_it_is_needed(tmp_path):
    unigram(tmp_path)
    edit(
        tmp_path,
        model={
            "type": "Unigram",
            "unk_id": 1,
            "vocab": [["<pad>", 0.0], ["<unk>", 0.0], ["</s>", 0.0], ["▁a", -1.0]],
        },
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    found = load_tokenizer(tmp_path, of_model=True)
    assert (found.pad_id, found.prefix_ids, found.suffix_ids) == (0, (), ())
    with pytest.raises(ConfigError, match="no cls token; name it as cls_token"):
        check_masking(found)
    with pytest.raises(ConfigError, match="no cls token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("template", ["$A", "$A [SEP]", "[SEP] $A [CLS]", "[CLS] [CLS] $A [SEP]"])
def test_tasks_that_hide_tokens_need_cls_and_sep_around_a_text(tmp_path, template):
    folder = settle(wordpiece(tmp_path), template)
    check_masking(load_tokenizer(folder))
    with pytest.raises(ConfigError, match=r"do not stand between \[CLS\] and \[SEP\]"):
        check_masking(load_tokenizer(folder, of_model=True))


@pytest.mark.parametrize("sides", [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {}])
@pytest.mark.parametrize("is_special", [True, False])
def test_a_models_special_tokens_take_the_spaces_that_they_take_in_transformers(
    tmp_path, sides, is_special
):
    transformers = pytest.importorskip("transformers")
    backend = tokenizers.Tokenizer.from_file(str(unigram(tmp_path) / "tokenizer.json"))
    token = AddedToken("<mask>", special=is_special, normalized=False, **sides)
    (backend.add_special_tokens if is_special else backend.add_tokens)([token])
    backend.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    if is_special:
        config["mask_token"] = "<mask>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path, of_model=True)
    ours.save(tmp_path / "exported", 12)
    again = load_tokenizer(tmp_path / "exported", of_model=True)
    # `<s>` is in the vocabulary, but nothing names it
    for text in ("court <mask> order", "court<mask>s", "<s> court </s>", "<mask>"):
        assert ours.encode(text) == again.encode(text) == theirs(text)["input_ids"], text
    assert ours.fingerprint == load_tokenizer(tmp_path, {"mask": "<mask>"}).fingerprint
