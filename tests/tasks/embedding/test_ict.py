import json
from itertools import chain

import numpy as np
import pytest

from kl3m_embeddings.config.tasks import IctOptions
from kl3m_embeddings.data.samples.corpus import open_corpora
from kl3m_embeddings.data.shards.build import build_shards
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.embedding.ict import InverseCloze
from tests.tasks.numbered import assert_pure, texts_of


def ict(max_length=64, **options):
    return InverseCloze(IctOptions(probability=1.0, **options), max_length)


@pytest.fixture
def write_corpus(tiny_tokenizer, tmp_path):
    """A function that makes a source of texts, one document each."""

    def write(texts):
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        shards = build_shards("texts", path, tiny_tokenizer, tmp_path).shards
        corpus, _ = open_corpora([shards], None, window=126, seed=0, num_held_out=0)
        return TextSource(corpus, tiny_tokenizer, 128, 0)

    return write


def sentences_of(source, dataset, document):
    """A document's sentences: in the tiny corpus a line ends each, but headings have no period."""
    tokens = source.corpus.indices[dataset].shards.document_tokens(document).tolist()
    text = source.tokenizer.backend.decode(tokens)
    lines = text.split(".\n")
    return tokens, [line if line.endswith(".") else f"{line}." for line in lines]


def samples_of(source, columns, first):
    """Of every sample: its document's tokens and sentences, its query, and its passage."""
    windows = source.corpus.locate(first, columns.lengths.shape[1])
    for row, (query, passage) in enumerate(zip(*texts_of(columns), strict=True)):
        place = int(windows.datasets[row]), int(windows.documents[row])
        yield *sentences_of(source, *place), query, passage


def find(part, tokens, start=0):
    """The first place of a part, or -1."""
    places = range(start, len(tokens) - len(part) + 1)
    return next((n for n in places if tokens[n : n + len(part)] == part), -1)


def is_passage_without(passage, query, tokens):
    """Whether a passage is a stretch of the document out of which the query was taken."""
    place = find(query, tokens)
    while place >= 0:
        left = tokens[:place] + tokens[place + len(query) :]
        start = find(passage, left)
        while start >= 0:
            if start <= place <= start + len(passage):
                return True
            start = find(passage, left, start + 1)
        place = find(query, tokens, place + 1)
    return False


@pytest.mark.parametrize(("max_length", "seq_len"), [(64, None), (32, 100), (200, 40)])
@pytest.mark.parametrize("keep_rate", [0.0, 1.0])
def test_a_query_is_a_sentence_and_its_passage_is_around_it(
    make_sources, max_length, seq_len, keep_rate
):
    source = make_sources(max_length=max_length)[0]
    task = ict(max_length, seq_len=seq_len, keep_rate=keep_rate, min_sentence_tokens=12)
    columns = task.columns(source, 7, 80)
    size = (seq_len or max_length) - 2
    num_sentences = 0
    for tokens, sentences, query, passage in samples_of(source, columns, 7):
        assert len(passage) <= size
        text = source.tokenizer.backend.decode(query)
        if text.strip() in sentences and len(query) >= 12:
            num_sentences += 1
            assert 12 <= len(query) <= size
            assert len(passage) == min(size, len(tokens) - (0 if keep_rate else len(query))) or (
                len(tokens) > 2 * size
            )
            if keep_rate:
                assert find(query, passage) >= 0
                assert find(passage, tokens) >= 0
            else:
                assert is_passage_without(passage, query, tokens)
        else:
            assert find(query, tokens) >= 0
            assert find(passage, tokens) >= 0
    assert columns.num_fallback == 80 - num_sentences
    assert 20 < num_sentences < 80 or max_length == 32


def test_some_sentences_stay_in_their_passage(make_sources):
    source = make_sources(max_length=128)[0]
    columns = ict(128, keep_rate=0.25).columns(source, 0, 1000)
    kept = [find(query, passage) >= 0 for query, passage in zip(*texts_of(columns), strict=True)]
    assert columns.num_fallback < 100
    assert np.mean(kept) == pytest.approx(0.25, abs=0.08)


def test_all_long_sentences_of_a_document_have_their_turn(make_sources):
    source = make_sources(max_length=200)[0]
    task = ict(200, min_sentence_tokens=20)
    found, expected = set(), set()
    for tokens, sentences, query, _ in samples_of(source, task.columns(source, 0, 2500), 0):
        decode, encode = source.tokenizer.backend.decode, source.tokenizer.encode
        found.add(decode(query).strip())
        expected |= {one for one in sentences if 20 <= len(encode(one)) <= len(tokens) - 20}
    assert len(expected - found) < 0.05 * len(expected)


def test_shorter_sentences_are_no_queries(make_sources):
    source = make_sources(max_length=128)[0]
    columns = ict(128, min_sentence_tokens=40).columns(source, 0, 200)
    num_queries = 0
    for _, sentences, query, _ in samples_of(source, columns, 0):
        if source.tokenizer.backend.decode(query).strip() in sentences:
            assert len(query) >= 40
            num_queries += 1
    assert columns.num_fallback == 200 - num_queries
    assert 0 < num_queries < 200


def test_dotted_lines_and_numbers_are_no_queries(tiny_tokenizer, write_corpus):
    sentence = "the court shall review any order of an agency"
    text = f". . . . . . . . . . . . . . . .\n\n{sentence}\n\n" + "17 4 256 1024 " * 9
    source = write_corpus([text, "17 4 256 " * 9 + "\n\n" + ". " * 30])
    columns = ict(128).columns(source, 0, 40)
    documents = source.corpus.locate(0, 40).documents
    decoded = [tiny_tokenizer.backend.decode(query) for query in texts_of(columns)[0]]
    assert {one for one, number in zip(decoded, documents, strict=True) if number == 0} == {
        sentence
    }
    assert columns.num_fallback == (documents == 1).sum() > 0


def test_a_sentence_that_fills_its_document_is_no_query(tiny_tokenizer, write_corpus):
    source = write_corpus(["the court shall review any order of an agency.", "the. and"])
    columns = ict(128, min_sentence_tokens=4).columns(source, 0, 8)
    assert columns.num_fallback == 8
    assert (columns.lengths >= 1).all()


def test_a_sample_does_not_depend_on_its_batch(make_sources):
    source = make_sources(max_length=48)[0]
    assert_pure(lambda: ict(48), source)


def test_spans_of_one_document_have_one_id(make_sources):
    source = make_sources()[0]
    columns = ict(32).columns(source, 0, 300)
    windows = source.corpus.locate(0, 300)
    places = list(zip(windows.datasets.tolist(), windows.documents.tolist(), strict=True))
    ids = {}
    for place, one, other in zip(places, *columns.text_groups.tolist(), strict=True):
        ids.setdefault(place, set()).update((one, other))
    assert all(len(one) == 1 for one in ids.values())
    assert len(set(chain(*ids.values()))) == len(ids)
    assert sum(map(len, columns.documents.values())) == len(ids)


def test_held_out_documents_never_appear(make_sources):
    seen = [
        {(name, one) for name, ones in ict(32).columns(s, 0, 400).documents.items() for one in ones}
        for s in make_sources()
    ]
    assert len(seen[1]) == 6
    assert seen[0].isdisjoint(seen[1])


def test_a_batch_of_one_and_its_loss(make_sources):
    source = make_sources()[0]
    task = ict(32, loss={"temperature": 0.25})
    assert task.loss.temperature == 0.25
    batch = task.batch(source, 3, 1)
    assert (batch.counts, batch.info.task) == ({"pairs": 1}, "ict")
    assert batch.input_ids.shape == (2, int(batch.attention_mask.sum(dim=1).max()))
