import numpy as np
import pytest

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.masked.lines import choose_line, find_lines
from tests.tasks.masked.windows import lines_of


@pytest.mark.parametrize("max_length", [16, 40, 300])
def test_lines_of_a_window_are_those_of_its_document(make_sources, max_length):
    source = make_sources(max_length=max_length)[0]
    windows = source.corpus.windows(0, 200)
    found = find_lines(source, windows)
    num_lines = 0
    for row in range(200):
        shards = source.corpus.indices[windows.datasets[row]].shards
        document = int(windows.documents[row])
        first = int(windows.starts[row] - shards.document_starts[document])
        last = first + int(windows.lengths[row])
        expected = {
            start - first: min(start + length, last) - start
            for start, length in lines_of(source, shards.document_tokens(document))
            if first < start < last or start == first == 0
        }
        places = np.flatnonzero(found.starts[row])
        assert {int(p): int(found.lengths[row, p]) for p in places} == expected
        follows = [*places[1:], source.corpus.window][: len(places)]
        assert found.next_starts[row, places].tolist() == follows
        num_lines += len(places)
    assert num_lines > 50


def test_a_text_is_read_back_line_by_line(make_sources):
    source = make_sources(max_length=300)[0]
    windows = source.corpus.windows(0, 20)
    found = find_lines(source, windows)
    decode = source.tokenizer.backend.decode
    for row in range(20):
        text = decode(windows.tokens[row, : windows.lengths[row]].tolist())
        lines = [
            decode(windows.tokens[row, place : place + found.lengths[row, place]].tolist())
            for place in np.flatnonzero(found.starts[row])
        ]
        assert lines[1:] == text.split("\n")[-len(lines) + 1 :]


def test_every_candidate_is_chosen_alike_and_none_other(make_sources):
    source = make_sources()[0]
    candidates = np.zeros((6000, 30), dtype=bool)
    candidates[:, [2, 3, 17, 29]] = True
    candidates[::5] = False
    found, places = choose_line(source, "nlp", candidates, 0)
    assert np.array_equal(found, candidates.any(axis=1))
    counts = np.bincount(places[found], minlength=30)
    assert counts.sum() == counts[[2, 3, 17, 29]].sum() == 4800
    assert counts[[2, 3, 17, 29]] == pytest.approx(1200, abs=120)


def test_a_choice_does_not_depend_on_the_batch(make_sources):
    source = make_sources()[0]
    candidates = np.random.default_rng(0).random((20, 30)) < 0.3
    _, places = choose_line(source, "mhm", candidates, 50)
    for row in range(20):
        assert choose_line(source, "mhm", candidates[[row]], 50 + row)[1][0] == places[row]


def test_a_tokenizer_without_line_breaks_is_an_error(make_sources, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer

    names = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "court"]
    backend = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(names[:5])
    backend.save(str(tmp_path / "tokenizer.json"))
    train = make_sources()[0]
    source = TextSource(train.corpus, load_tokenizer(tmp_path), 32, 0)
    with pytest.raises(ConfigError, match="no token of the tokenizer holds one"):
        find_lines(source, train.corpus.windows(0, 4))
