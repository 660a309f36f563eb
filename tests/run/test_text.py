import json

import pytest

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.shards.build import build_shards
from kl3m_embeddings.data.tokenizer.training import train_tokenizer
from kl3m_embeddings.errors import ConfigError, DamagedError, DataError
from kl3m_embeddings.run.text import open_shards, open_text, text_evaluation
from tests.tiny_model import tiny_documents


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def training(tiny_corpus_files, tiny_tokenizer_folder):
    """A function that makes a configuration which reads the two tiny files."""

    def make(data=tiny_corpus_files, weights=(None, None), **fields):
        defaults = {
            "tokenizer": str(tiny_tokenizer_folder),
            "optimizer": {"total_steps": 1},
            "num_eval_samples": 6,
            "data": {
                name: {"path": str(path), "weight": weight}
                for (name, path), weight in zip(data.items(), weights, strict=True)
            },
        }
        return TrainingConfig.model_validate(defaults | fields)

    return make


def names(text):
    return [one.name for one in text.shards]


def test_raw_text_is_built_once_into_the_cache(training, tiny_tokenizer, cache):
    first = open_text(training(), tiny_tokenizer, 32)
    assert names(first) == ["statutes", "opinions"]
    assert all(one.path.is_relative_to(cache / "shards") for one in first.shards)
    files = {path: path.stat().st_mtime_ns for path in cache.glob("shards/*/*/*")}
    again = open_text(training(), tiny_tokenizer, 32)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert [one.sha256 for one in again.shards] == [one.sha256 for one in first.shards]


def test_a_cached_dataset_that_was_overwritten_is_built_again(training, tiny_tokenizer, capsys):
    first = open_text(training(), tiny_tokenizer, 32).shards[0]
    open_text(training(), tiny_tokenizer, 32)
    file = first.path / "tokens-00000.bin"
    intact = file.read_bytes()
    file.write_bytes(bytes(len(intact)))
    again = open_text(training(), tiny_tokenizer, 32).shards[0]
    assert "building the dataset again" in capsys.readouterr().err
    assert (again.sha256, file.read_bytes()) == (first.sha256, intact)


def test_other_files_and_another_tokenizer_have_a_place_of_their_own(
    training, tiny_tokenizer, tmp_path
):
    both = list(training().data.values())
    other = train_tokenizer(["the order of the court"] * 9, 270, tmp_path / "other")
    paths = {
        open_shards("x", one, tokenizer).path
        for one in both
        for tokenizer in (tiny_tokenizer, other)
    }
    assert len(paths) == 4


def test_built_shards_are_read_where_they_are_under_the_runs_name(
    training, tiny_corpus_files, tiny_tokenizer, tmp_path, cache
):
    built = build_shards("built", [tiny_corpus_files["statutes"]], tiny_tokenizer, tmp_path).shards
    dataset = training({"mine": built.path}, (None,)).data["mine"]
    found = open_shards("mine", dataset, tiny_tokenizer)
    assert (found.name, found.path, found.sha256) == ("mine", built.path, built.sha256)
    assert not (cache / "shards").exists()
    file = built.path / "tokens-00000.bin"
    intact = file.read_bytes()
    file.write_bytes(bytes(len(intact)))
    with pytest.raises(DamagedError, match=r"tokens-00000.bin: its SHA-256 .*; build it"):
        open_shards("mine", dataset, tiny_tokenizer)
    file.write_bytes(intact)
    assert open_shards("mine", dataset, tiny_tokenizer).path == built.path
    other = train_tokenizer(["the order of the court"] * 9, 270, tmp_path / "other")
    with pytest.raises(DataError, match=r"built with another tokenizer .*; build it again with"):
        open_shards("mine", dataset, other)


def test_what_is_held_out_does_not_depend_on_how_often_one_looks(training, tiny_tokenizer):
    few, many = (
        open_text(training(num_eval_samples=number), tiny_tokenizer, 32) for number in (1, 500)
    )
    for side in ("train", "held_out"):
        one, other = (getattr(text, side).corpus.windows(0, 50) for text in (few, many))
        assert one.documents.tolist() == other.documents.tolist()
    trained = few.train.corpus.document_ids(few.train.corpus.windows(0, 4000))
    held_out = few.held_out.corpus.document_ids(few.held_out.corpus.windows(0, 4000))
    for name, documents in held_out.items():
        assert documents and not set(documents) & set(trained[name])


def test_weights_are_shares_of_samples(training, tiny_tokenizer):
    text = open_text(training(weights=(1.0, 3.0)), tiny_tokenizer, 32)
    datasets = text.train.corpus.windows(0, 4000).datasets
    assert (datasets == 1).mean() == pytest.approx(0.75, abs=0.02)


def test_no_dataset_is_an_error_that_names_the_option(training, tiny_tokenizer):
    with pytest.raises(ConfigError, match=r"data: no dataset: name one .* with --data NAME=PATH"):
        open_text(training({}, ()), tiny_tokenizer, 32)


def test_evaluation_masks_single_rows_whatever_training_packs(training, tiny_tokenizer):
    packed = {"mlm": {"probability": 1.0, "pack": True}}
    text = open_text(training(), tiny_tokenizer, 32)
    plain, other = (text_evaluation(one, text) for one in (training(), training(tasks=packed)))
    for one, two in zip(plain.batches, other.batches, strict=True):
        assert one.input_ids.tolist() == two.input_ids.tolist()
        assert two.bounds is None
    assert sum(len(batch.input_ids) for batch in plain.batches) == 6


def test_there_may_be_nothing_to_evaluate(training, tiny_tokenizer):
    text = open_text(training(), tiny_tokenizer, 32)
    assert text_evaluation(training(), None) is None
    assert text_evaluation(training(num_eval_samples=0), text) is None
    assert text_evaluation(training(tasks={"crop": 1.0}), text) is None


def test_too_little_text_is_evaluated_on_itself_and_told(
    training, tiny_tokenizer, tmp_path, capsys
):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in tiny_documents(4)))
    one = training({"few": path}, (None,))
    text = open_text(one, tiny_tokenizer, 32)
    assert text.held_out is None
    assert text_evaluation(one, text).source == text.train
    assert "evaluation is on text that is trained on" in capsys.readouterr().err
