"""A model as mteb sees it: prompts by side, each text once, results of its own."""

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from kl3m_embeddings.benchmark.variants import Variant
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import WRITERS, sentences

PROMPTS = {"query": "w40 ", "document": "w41 "}


@dataclass(frozen=True, kw_only=True)
class CountedTexts(TextEncoder):
    """A text encoder that remembers what it was given."""

    given: Counter = field(default_factory=Counter)

    def encode(self, texts, **options):
        self.given.update(texts)
        return super().encode(texts, **options)


def count_texts(texts, **changes):
    """The same encoder, counted; with other settings of its modules, perhaps."""
    parts = {one.name: getattr(texts, one.name) for one in fields(TextEncoder)}
    modules = replace(texts.model.modules, **changes)
    return CountedTexts(**parts | {"model": replace(texts.model, modules=modules)})


def loader(*texts):
    """As mteb's: batches with texts."""
    return [{"text": list(texts[:2])}, {"text": list(texts[2:])}]


@pytest.fixture
def counted(text_encoder):
    return count_texts(text_encoder)


def test_each_side_has_its_prompt(bench, make_model, text_encoder, counted):
    from mteb.types import PromptType

    model = make_model(texts=counted, prompts=PROMPTS)
    for side, prompt in ((PromptType.query, "w40 "), (PromptType.document, "w41 "), (None, "")):
        vectors = model.encode(loader("w1", "w2", "w3"), prompt_type=side)
        expected = text_encoder.encode(["w1", "w2", "w3"], prompt=prompt)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_texts_without_sides_have_the_default_prompt(bench, make_model, text_encoder):
    texts = count_texts(text_encoder, prompts={"asked": "w39 "}, default_prompt_name="asked")
    make_model(texts=texts, prompts=PROMPTS).encode(loader("w1", "w2", "w3"))
    assert set(texts.given) == {"w39 w1", "w39 w2", "w39 w3"}


def test_a_tasks_prompts_come_first(bench, make_model, counted, tmp_path):
    from mteb.types import PromptType

    model = make_model(texts=counted, prompts=PROMPTS)
    local = bench.local_tasks.local_task
    sides = (PromptType.query, PromptType.document, None)
    for name, prompt, expected in (
        ("own", None, ["w40 ", "w41 ", ""]),
        ("one", "w1 ", ["w1 ", "w1 ", "w1 "]),
        ("two", {"query": "w1 ", "document": "w2 "}, ["w1 ", "w2 ", "w2 "]),
        ("half", {"query": "w1 "}, ["w1 ", "", ""]),
    ):
        fields = {} if prompt is None else {"prompt": prompt}
        model.begin(local(read_local_task(WRITERS["STS"](tmp_path / name, **fields))))
        assert [model.prompt(side) for side in sides] == expected
    model.begin(bench.mteb.get_task("STS12"))  # the last task's prompts are forgotten
    assert model.prompt(PromptType.query) == "w40 "


def test_a_text_is_encoded_once_and_vectors_are_never_another_texts(
    bench, make_model, text_encoder, counted
):
    model = make_model(texts=counted)
    words = sentences(12)
    everything = text_encoder.encode(words)
    rows = dict(zip(words, everything, strict=True))
    for chosen in (words[:5], words[3:9], words[::-1], [words[2]] * 3):
        vectors = model.encode(loader(*chosen))
        np.testing.assert_allclose(vectors, [rows[word] for word in chosen], atol=1e-6)
    assert set(counted.given.values()) == {1}


def test_variants_share_an_encoding(bench, make_model, counted):
    model = make_model(texts=counted)
    plain = model.encode(loader("w1", "w2", "w3"))
    model.variant = Variant(dim=4, dtype="binary")
    few = model.encode(loader("w1", "w2", "w3"))
    np.testing.assert_array_equal(few, np.where(plain[:, :4] > 0, 1, -1))
    model.variant = Variant()
    np.testing.assert_array_equal(model.encode(loader("w1", "w2", "w3")), plain)
    assert set(counted.given.values()) == {1}


def test_the_next_task_forgets(bench, make_model, counted):
    model = make_model(texts=counted)
    for _ in range(2):
        model.begin(SimpleNamespace())
        model.encode(loader("w1", "w2", "w3"))
    assert set(counted.given.values()) == {2}


def test_all_that_changes_a_score_changes_the_revision(bench, make_model, text_encoder):
    """Two models of one name share results only if nothing differs."""
    models = [
        make_model(texts=count_texts(text_encoder, **changes), prompts=prompts)
        for prompts, changes in (
            ({}, {}),
            ({"query": "w1 "}, {}),
            ({"document": "w1 "}, {}),
            ({}, {"similarity_fn_name": "dot"}),
            ({}, {"prompts": {"asked": "w1 "}, "default_prompt_name": "asked"}),
        )
    ]
    assert len({model.revision for model in models}) == len(models)
    assert make_model().revision == make_model().revision == models[0].revision
    # no other name is asked for, and an empty prompt is none
    unused = count_texts(text_encoder, prompts={"other": "w1 ", "asked": ""})
    assert make_model(texts=unused).revision == models[0].revision


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan", None])
def test_vectors_are_compared_as_the_model_says(bench, make_model, text_encoder, name):
    model = make_model(texts=count_texts(text_encoder, similarity_fn_name=name))
    first, second = text_encoder.encode(sentences(3)), text_encoder.encode(sentences(4, seed=1))
    expected = {
        "dot": lambda x, y: x @ y,
        "euclidean": lambda x, y: -np.linalg.norm(x - y),
        "manhattan": lambda x, y: -np.abs(x - y).sum(),
    }.get(name, lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    table = [[expected(one, other) for other in second] for one in first]
    np.testing.assert_allclose(model.similarity(first, second), table, rtol=1e-4, atol=1e-4)
    pairs = model.similarity_pairwise(first, second[:3])
    np.testing.assert_allclose(pairs, np.diag(np.array(table)), rtol=1e-4, atol=1e-4)


def test_mteb_files_results_by_name_revision_and_variant(bench, make_model, tmp_path):
    model = make_model(name="org/a model")
    places = []
    for variant in (Variant(), Variant(dim=4), Variant(dim=4, control=True), Variant(dtype="int8")):
        model.variant = variant
        cache = bench.mteb.ResultCache(tmp_path)
        places.append(cache.get_task_result_path("STS12", model.mteb_model_meta))
    assert len(set(places)) == len(places)
    assert places[0] == tmp_path / "results/org__a_model" / model.revision / "STS12.json"
