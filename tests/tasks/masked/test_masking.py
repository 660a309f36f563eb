import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.tasks.base import framed
from kl3m_embeddings.tasks.masked.masking import budget, choose_groups, mask_tokens, max_budget

LENGTH = 40
rows = st.lists(
    st.tuples(
        st.integers(1, LENGTH - 2), st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH)
    ),
    min_size=1,
    max_size=5,
)


def options(masking="token", **changes):
    return MlmOptions(probability=1.0, masking=masking, **changes)


def batch_of(source, count, first=0):
    """Framed ids of some samples, and where their ordinary tokens are."""
    windows = source.corpus.windows(first, count)
    input_ids, _ = framed(source.tokenizer, windows.tokens, windows.lengths, source.max_length)
    places = np.arange(source.max_length)
    return input_ids, (places >= 1) & (places <= windows.lengths[:, None])


@given(rows, st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_whole_groups_are_chosen_up_to_the_budget(rows, rate, seed):
    lengths = np.array([length for length, _ in rows])
    places = np.arange(LENGTH)
    maskable = (places >= 1) & (places <= lengths[:, None])
    starts = maskable & (np.array([flags for _, flags in rows]) | (places == 1))
    budgets = budget(lengths, rate)
    keys = np.random.default_rng(seed).integers(0, 2**32, maskable.shape, dtype=np.uint32)
    chosen = choose_groups(starts, maskable, keys, budgets)
    assert not (chosen & ~maskable).any()
    for row in range(len(rows)):
        groups = np.cumsum(starts[row]) * maskable[row]
        sizes = np.bincount(groups, minlength=2)[1:]
        taken = np.bincount(groups[chosen[row]], minlength=len(sizes) + 1)[1:]
        order = np.argsort(keys[row, : len(sizes)], kind="stable")
        expected = np.zeros_like(sizes)
        for group in order:  # the rule, written out
            if expected.sum() + sizes[group] > budgets[row]:
                break
            expected[group] = sizes[group]
        if not expected.any():
            expected[order[0]] = budgets[row]
        assert taken.tolist() == expected.tolist()


@given(st.integers(1, 5000), st.floats(0.001, 0.999))
def test_a_budget_is_the_rounded_share_and_at_least_one(length, rate):
    number = int(budget(np.array([length]), rate)[0])
    assert 1 <= number <= length
    assert number == 1 or abs(number - length * rate) <= 0.5
    assert number <= max_budget(5000, rate)


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_single_tokens_fill_the_budget_exactly_and_no_special_token_is_touched(make_sources, rate):
    source = make_sources(max_length=48)[0]
    input_ids, maskable = batch_of(source, 200)
    corrupted, labels = mask_tokens(source, input_ids, maskable, 0, options(mask_rate=rate))
    chosen = labels != IGNORED_LABEL
    assert (chosen.sum(axis=1) == budget(maskable.sum(axis=1), rate)).all()
    assert not chosen[~maskable].any()
    assert (corrupted[~chosen] == input_ids[~chosen]).all()
    assert (labels[chosen] == input_ids[chosen]).all()
    special = source.tokenizer.special_ids()
    assert not special[labels[chosen]].any()
    replaced = corrupted[chosen]
    assert not special[replaced[replaced != source.tokenizer.mask_id]].any()


def test_each_place_is_chosen_alike_and_80_10_10_holds(make_sources):
    source = make_sources(max_length=48)[0]
    num_rows = 20_000
    input_ids = np.tile(batch_of(source, 1)[0], (num_rows, 1))
    maskable = np.zeros(input_ids.shape, dtype=bool)
    maskable[:, 1:41] = True
    corrupted, labels = mask_tokens(source, input_ids, maskable, 0, options())
    chosen = labels != IGNORED_LABEL
    assert (chosen.sum(axis=1) == 6).all()
    assert np.allclose(chosen[:, 1:41].mean(axis=0), 0.15, atol=0.012)
    masked = corrupted[chosen] == source.tokenizer.mask_id
    kept = corrupted[chosen] == input_ids[chosen]
    num_ordinary = len(source.ordinary_ids)
    assert masked.mean() == pytest.approx(0.8, abs=0.005)
    assert kept.mean() == pytest.approx(0.1 + 0.1 / num_ordinary, abs=0.005)
    replacements = corrupted[chosen][~masked & ~kept]
    counts = np.bincount(replacements)[source.ordinary_ids]
    assert counts.min() > 0  # every ordinary token can stand in
    assert counts.max() < 2 * counts.mean()


def test_what_happens_to_a_token_does_not_depend_on_where_it_was_in_the_order(make_sources):
    """The draws that choose and those that corrupt must be unrelated."""
    source = make_sources(max_length=48)[0]
    input_ids = np.tile(batch_of(source, 1)[0], (4000, 1))
    maskable = np.zeros(input_ids.shape, dtype=bool)
    maskable[:, 1:41] = True
    shares = []
    for rate in (0.05, 0.9):
        corrupted, labels = mask_tokens(source, input_ids, maskable, 0, options(mask_rate=rate))
        shares.append((corrupted[labels != IGNORED_LABEL] == source.tokenizer.mask_id).mean())
    assert shares[0] == pytest.approx(0.8, abs=0.02)
    assert shares[1] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("masking", ["token", "word", "span"])
def test_a_row_is_masked_alike_in_every_batch(make_sources, masking):
    source = make_sources()[0]
    input_ids, maskable = batch_of(source, 30)
    whole = mask_tokens(source, input_ids, maskable, 100, options(masking))
    for first, last in [(0, 1), (7, 13), (29, 30)]:
        part = mask_tokens(
            source, input_ids[first:last], maskable[first:last], 100 + first, options(masking)
        )
        assert np.array_equal(part[0], whole[0][first:last])
        assert np.array_equal(part[1], whole[1][first:last])


def test_samples_and_seeds_are_masked_differently(make_sources):
    source, other = make_sources()[0], make_sources(seed=1)[0]
    input_ids, maskable = (np.repeat(one[:1], 20, axis=0) for one in batch_of(source, 1))
    masks = [
        row.tobytes()
        for one in (source, other)
        for row in mask_tokens(one, input_ids, maskable, 0, options())[1]
    ]
    assert len(set(masks)) == 40


def words_of(source, ids):
    """Where words begin by the text itself: after white space or at punctuation."""
    texts = [source.tokenizer.backend.decode([one]) for one in ids]
    return [place == 0 or not text.isalnum() for place, text in enumerate(texts)]


def test_words_are_masked_whole(make_sources):
    source = make_sources(max_length=64)[0]
    num_rows = 200
    windows = source.corpus.windows(0, num_rows)
    input_ids, maskable = batch_of(source, num_rows)
    _, labels = mask_tokens(source, input_ids, maskable, 0, options("word", mask_rate=0.3))
    num_whole = num_parts = 0
    for row in range(num_rows):
        length = windows.lengths[row]
        chosen = labels[row, 1 : length + 1] != IGNORED_LABEL
        words = np.cumsum(words_of(source, windows.tokens[row, :length]))
        for word in range(1, words[-1] + 1):
            shares = chosen[words == word]
            num_whole += bool(shares.all())
            num_parts += bool(shares.any() and not shares.all())
        assert 1 <= chosen.sum() <= budget(np.array([length]), 0.3)[0]
    assert num_whole > 500
    assert num_parts <= num_rows * 0.02  # a first word above the budget, in short texts only


def test_the_first_word_of_a_text_is_a_group_of_its_own(make_sources):
    """Byte-level tokens carry the space before them, and there is none before the first word."""
    source = make_sources(max_length=16)[0]
    ids = [*source.tokenizer.encode("court"), *source.tokenizer.encode(" of the agency")]
    input_ids, _ = framed(
        source.tokenizer, np.array([ids] * 400), np.full(400, len(ids)), source.max_length
    )
    maskable = np.zeros(input_ids.shape, dtype=bool)
    maskable[:, 1 : len(ids) + 1] = True
    _, labels = mask_tokens(source, input_ids, maskable, 0, options("word", mask_rate=0.5))
    first = len(source.tokenizer.encode("court"))
    chosen = labels[:, 1 : len(ids) + 1] != IGNORED_LABEL
    alone = chosen[:, :first].all(axis=1) & ~chosen[:, first]
    assert alone.any()


def test_spans_are_runs_of_the_wanted_mean_length(make_sources):
    source = make_sources(max_length=512)[0]
    num_rows = 300
    input_ids = np.full((num_rows, 512), source.ordinary_ids[0])
    maskable = np.zeros(input_ids.shape, dtype=bool)
    maskable[:, 1:511] = True
    means = []
    for mean in (1.0, 3.0, 6.0):
        one = options("span", mean_span_tokens=mean, mask_rate=0.1)
        _, labels = mask_tokens(source, input_ids, maskable, 0, one)
        chosen = labels != IGNORED_LABEL
        num_runs = (np.diff(chosen.astype(int), axis=1) == 1).sum()
        means.append(chosen.sum() / num_runs)
        assert (chosen.sum(axis=1) <= 51).all()
    # spans that happen to touch count as one here: the longer by a factor of 1 / (1 - 0.1)
    assert means == pytest.approx([1 / 0.9, 3 / 0.9, 6 / 0.9], rel=0.15)
