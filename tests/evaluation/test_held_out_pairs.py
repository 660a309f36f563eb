"""Held-out pairs: as trec_eval, scikit-learn and sentence-transformers measure them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import pytrec_eval
from scipy import stats
from sklearn import metrics as sklearn_metrics

from kl3m_embeddings.evaluation import labelled_pairs, retrieval
from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from kl3m_embeddings.metrics.vectors import unit_vectors
from tests.data.pair_sets.in_memory import distinct_rows, pair_set

SIZE = 16


def signs(num_texts, seed=0):
    """Numbers of -1 and 1: at sizes 16 and 4, cosines are exact, and many are equal."""
    draw = np.random.default_rng(seed)
    return draw.choice(np.array([-1, 1], np.float32), (num_texts, SIZE))


def normals(num_texts, seed=0):
    return np.random.default_rng(seed).standard_normal((num_texts, SIZE), dtype=np.float32)


def embed(vectors):
    return lambda ids: vectors[ids]


def retrieval_set(seed=0):
    """Queries with several rows and positives, some of which are queries or positives of others."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(40):
        query, *others = draw.permutation(60)[:6].tolist()
        rows.append((query % 25, [one for one in others[:3] if one != query % 25], others[3:]))
    return pair_set(rows)


def labelled_set(labels, seed=0):
    draw = np.random.default_rng(seed)
    rows = [(q, [d], []) for q, d in draw.integers(0, 30, (len(labels), 2)).tolist()]
    return replace(pair_set(rows), labels=np.array(labels, np.float32))


def graded(num_pairs=60):
    return labelled_set(np.random.default_rng(1).integers(0, 6, num_pairs) / 5)


def binary(num_pairs=60):
    return labelled_set(np.random.default_rng(2).random(num_pairs) < 0.4)


def judged(pairs):
    """The texts that are relevant to each query: those of all its rows."""
    relevant = {}
    for row, query in enumerate(pairs.queries.tolist()):
        found = pairs.positives[slice(*pairs.positive_starts[row : row + 2])]
        relevant.setdefault(query, set()).update(found.tolist())
    return relevant


def cosine(first, second):
    first, second = first.astype(float), second.astype(float)
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


@pytest.mark.parametrize(
    ("vectors", "dims"), [(signs(60), [4]), (normals(60), [4, 9])], ids=["ties", "no ties"]
)
def test_retrieval_is_trec_evals(vectors, dims):
    pairs = retrieval_set()
    evaluation = PairEvaluation.build("nq", pairs)
    found = evaluation.evaluate(embed(vectors), embed(vectors), dims)
    documents = evaluation.judgements.document_ids.tolist()
    # Of equal scores, trec_eval ranks the higher name first.
    names = {text: f"{len(documents) - place:03}" for place, text in enumerate(documents)}
    relevant = judged(pairs)
    qrels = {f"q{q}": {names[one]: 1 for one in texts} for q, texts in relevant.items()}
    for dim in (SIZE, *dims):
        run = {
            f"q{q}": {
                names[d]: float(cosine(vectors[q, :dim], vectors[d, :dim]))
                for d in documents
                if d != q
            }
            for q in relevant
        }
        measures = {"ndcg_cut.10", "recip_rank", "recall.1,10,100"}
        theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run).values()
        ranks = [one["recip_rank"] for one in theirs]
        expected = {
            "ndcg@10": np.mean([one["ndcg_cut_10"] for one in theirs]),
            "mrr@10": np.mean([rank if rank > 0.099 else 0 for rank in ranks]),
            **{
                f"recall@{k}": np.mean([one[f"recall_{k}"] for one in theirs]) for k in (1, 10, 100)
            },
        }
        suffix = "" if dim == SIZE else f"/{dim}"
        ours = {name: found[f"nq/{name}{suffix}"] for name in expected}
        assert ours == pytest.approx(expected, rel=1e-6)
        assert 0 < ours["recall@10"] < 1
    assert found["nq/num_queries"] == len(relevant)
    assert found["nq/num_documents"] == len(documents)
    assert len(found) == 2 + 5 * (1 + len(dims))


@pytest.mark.parametrize(
    ("vectors", "dims"), [(signs(30), [4]), (normals(30), [4, 9])], ids=["ties", "no ties"]
)
def test_labels_are_scipys_and_sklearns(vectors, dims):
    for pairs in (graded(), binary()):
        found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors), dims)
        for dim, suffix in ((SIZE, ""), *((dim, f"/{dim}") for dim in dims)):
            scores = np.array(
                [
                    cosine(vectors[q, :dim], vectors[d, :dim])
                    for q, d in zip(pairs.queries, pairs.positives, strict=True)
                ]
            ).astype(np.float32)
            if "x/ap" in found:
                expected = {
                    "ap": sklearn_metrics.average_precision_score(pairs.labels, scores),
                    "auc": sklearn_metrics.roc_auc_score(pairs.labels, scores),
                }
            else:
                expected = {
                    "spearman": stats.spearmanr(scores, pairs.labels)[0],
                    "pearson": stats.pearsonr(scores, pairs.labels)[0],
                }
            ours = {name: found[f"x/{name}{suffix}"] for name in expected}
            assert ours == pytest.approx(expected, rel=1e-4)
        assert found["x/num_pairs"] == 60


def test_what_is_measured_follows_from_the_labels():
    vectors = normals(60)
    thresholds = {"x/accuracy_threshold", "x/f1_threshold"}
    for pairs, kind, main, metrics in (
        (graded(), "similarity", "spearman", ("spearman", "pearson")),
        (binary(), "classification", "ap", ("ap", "auc", "accuracy", "f1")),
    ):
        evaluation = PairEvaluation.build("x", pairs)
        assert (evaluation.kind, evaluation.main_metric) == (kind, f"x/{main}")
        found = evaluation.evaluate(embed(vectors), embed(vectors), [4, 16, 99])
        expected = {f"x/{name}{suffix}" for name in metrics for suffix in ("", "/4")}
        assert set(found) - thresholds == expected | {"x/num_pairs"}
        assert thresholds <= set(found) or kind == "similarity"
    assert PairEvaluation.build("x", retrieval_set()).kind == "retrieval"
    assert PairEvaluation.build("x", retrieval_set()).main_metric == "x/ndcg@10"
    some = [
        PairEvaluation.build("x", labelled_set([0, 1, 0.5, 1]), max_rows=1, seed=seed)
        for seed in range(9)
    ]
    assert {one.kind for one in some} == {"similarity"}


class Stub:
    """A model whose texts are numbers of vectors."""

    similarity_fn_name = "cosine"
    model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, *, truncate_dim, convert_to_tensor=False, **_):
        import torch

        vectors = self.vectors[[int(text) for text in texts]][:, :truncate_dim]
        return torch.tensor(vectors) if convert_to_tensor else vectors

    encode_query = encode_document = encode

    def similarity(self, first, second):
        from sentence_transformers.util import cos_sim

        return cos_sim(first, second)


@pytest.mark.slow  # their import alone takes 10 s
def test_all_are_those_of_sentence_transformers():
    from sentence_transformers.sentence_transformer import evaluation

    vectors = normals(60)
    for dim, suffix in ((None, ""), (9, "/9")):
        pairs, labels = graded(), graded().labels.tolist()
        found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors), [9])
        texts = [pairs.queries.astype(str).tolist(), pairs.positives.astype(str).tolist()]
        theirs = evaluation.EmbeddingSimilarityEvaluator(*texts, labels, truncate_dim=dim)(
            Stub(vectors)
        )
        for name in ("spearman", "pearson"):
            assert found[f"x/{name}{suffix}"] == pytest.approx(theirs[f"{name}_cosine"], rel=1e-5)

        pairs, labels = binary(), binary().labels.astype(int).tolist()
        found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors), [9])
        texts = [pairs.queries.astype(str).tolist(), pairs.positives.astype(str).tolist()]
        theirs = evaluation.BinaryClassificationEvaluator(*texts, labels, truncate_dim=dim)(
            Stub(vectors)
        )
        for name in ("ap", "accuracy", "f1", "accuracy_threshold", "f1_threshold"):
            if dim is None or not name.endswith("threshold"):
                key = f"x/{name}{suffix}"
                assert found[key] == pytest.approx(theirs[f"cosine_{name}"], rel=1e-5)

        # Theirs ranks the query's own text: take documents that are no queries.
        rows = [(q % 8, [8 + q, 9 + q], [20 + q]) for q in range(30)]
        found = PairEvaluation.build("x", pair_set(rows)).evaluate(
            embed(vectors), embed(vectors), [9]
        )
        relevant = {str(q): set(map(str, d)) for q, d in judged(pair_set(rows)).items()}
        documents = {str(d): str(d) for d in range(8, 50)}
        theirs = evaluation.InformationRetrievalEvaluator(
            {q: q for q in relevant}, documents, relevant, truncate_dim=dim,
            precision_recall_at_k=[1, 10, 100],
        )(Stub(vectors))  # fmt: skip
        for name in ("ndcg@10", "mrr@10", "recall@1", "recall@10", "recall@100"):
            assert found[f"x/{name}{suffix}"] == pytest.approx(theirs[f"cosine_{name}"], rel=1e-5)


@pytest.mark.parametrize("num_negatives", [0, 1])
def test_a_collapsed_model_retrieves_by_chance(num_negatives):
    rows = distinct_rows(500, num_negatives)
    vectors = np.ones((len(rows) * (2 + num_negatives), SIZE), np.float32)
    found = PairEvaluation.build("x", pair_set(rows)).evaluate(embed(vectors), embed(vectors))
    num_documents = found["x/num_documents"]
    assert num_documents == 500 * (1 + num_negatives)
    assert found["x/recall@1"] <= 1 / 500
    assert found["x/recall@100"] == pytest.approx(100 / num_documents, rel=0.3)
    assert found["x/ndcg@10"] < 20 / num_documents


def test_a_collapsed_model_classifies_and_correlates_by_chance():
    vectors = np.ones((30, SIZE), np.float32)
    pairs = binary()
    found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors))
    share = pairs.labels.mean()
    assert found["x/auc"] == 0.5
    assert found["x/ap"] == pytest.approx(share)
    assert found["x/accuracy"] == pytest.approx(1 - share)
    assert found["x/f1"] == pytest.approx(2 * share / (1 + share))
    found = PairEvaluation.build("x", graded()).evaluate(embed(vectors), embed(vectors))
    assert (found["x/spearman"], found["x/pearson"]) == (None, None)


def test_the_order_of_ties_is_that_of_no_file():
    """The right document of row r is at place r in no order that a model could have learnt."""
    documents = PairEvaluation.build("x", pair_set(distinct_rows(500))).judgements.document_ids
    assert abs(stats.spearmanr(documents, np.arange(500))[0]) < 0.15


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [graded, binary, retrieval_set])
def test_embeddings_that_are_not_finite_have_no_metrics(make, value):
    vectors = normals(60)
    vectors[:, 5] = value
    found = PairEvaluation.build("x", make()).evaluate(embed(vectors), embed(normals(60)), [4])
    none = {key for key, number in found.items() if number is None}
    assert none == {key for key in found if not key.endswith("/4") and "num_" not in key}
    swapped = PairEvaluation.build("x", make()).evaluate(embed(normals(60)), embed(vectors), [4])
    assert {key for key, number in swapped.items() if number is None} == none


def test_only_the_direction_of_a_vector_counts():
    """However long it is: squares of these would overflow, or vanish."""
    vectors = signs(60)
    powers = np.random.default_rng(3).integers(-120, 120, (60, 1))
    scales = np.ldexp(np.float32(1), powers)
    for pairs in (graded(), binary(), retrieval_set()):
        evaluation = PairEvaluation.build("x", pairs)
        plain = evaluation.evaluate(embed(vectors), embed(vectors), [4])
        assert evaluation.evaluate(embed(vectors * scales), embed(vectors), [4]) == plain
    assert not unit_vectors(np.zeros((2, 3), np.float32)).any()


def test_a_query_is_not_relevant_to_itself():
    vectors = normals(3)
    with_itself = PairEvaluation.build("x", pair_set([(0, [1, 0], [2])]))
    found = with_itself.evaluate(embed(vectors), embed(vectors))
    assert found["x/recall@100"] == 1
    without = PairEvaluation.build("x", pair_set([(0, [1], [2, 0])]))
    assert without.evaluate(embed(vectors), embed(vectors)) == found
    nothing = PairEvaluation.build("x", pair_set([(0, [0], [1])]))
    assert nothing.evaluate(embed(vectors), embed(vectors))["x/ndcg@10"] == 0


def test_sets_of_one_row():
    vectors = normals(3)
    found = PairEvaluation.build("x", pair_set([(0, [1], [2])])).evaluate(
        embed(vectors), embed(vectors), [4]
    )
    assert found["x/recall@10"] == found["x/recall@100/4"] == 1
    assert found["x/ndcg@10"] in (1, pytest.approx(1 / np.log2(3)))
    one = replace(pair_set([(0, [1], [])]), labels=np.ones(1, np.float32))
    found = PairEvaluation.build("x", one).evaluate(embed(vectors), embed(vectors))
    assert (found["x/ap"], found["x/auc"], found["x/num_pairs"]) == (1, None, 1)
    one = replace(one, labels=np.full(1, 0.5, np.float32))
    found = PairEvaluation.build("x", one).evaluate(embed(vectors), embed(vectors))
    assert (found["x/spearman"], found["x/pearson"]) == (None, None)


def test_blocks_change_nothing(monkeypatch):
    vectors = signs(60)
    whole = [
        PairEvaluation.build("x", make()).evaluate(embed(vectors), embed(vectors), [4])
        for make in (graded, binary, retrieval_set)
    ]
    monkeypatch.setattr(labelled_pairs, "BLOCK_PAIRS", 7)
    monkeypatch.setattr(retrieval, "BLOCK_SCORES", 3 * 16 * retrieval.DEPTH)
    for expected, make in zip(whole, (graded, binary, retrieval_set), strict=True):
        evaluation = PairEvaluation.build("x", make())
        found = evaluation.evaluate(embed(vectors), embed(vectors), [4])
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("make", [graded, retrieval_set])
def test_each_text_is_embedded_once_a_role(make):
    pairs, vectors, asked = make(), normals(60), []

    class Model:
        def embed(self, ids):
            asked.append(ids.tolist())
            return vectors[ids]

    evaluation, model = PairEvaluation.build("x", pairs), Model()
    apart = evaluation.evaluate(model.embed, lambda ids: model.embed(ids), [4])
    queries = set(pairs.queries.tolist())
    documents = {*pairs.positives.tolist(), *pairs.negatives.tolist()}
    assert [sorted(ids) for ids in asked] == [sorted(queries), sorted(documents)]
    asked.clear()
    assert evaluation.evaluate(model.embed, model.embed, [4]) == apart
    assert [sorted(ids) for ids in asked] == [sorted(queries | documents)]


def test_a_stop_ends_it():
    evaluation, vectors = PairEvaluation.build("x", retrieval_set()), normals(60)

    def stopped(ids):
        return None

    assert evaluation.evaluate(stopped, stopped) is None
    assert evaluation.evaluate(embed(vectors), stopped) is None
    assert evaluation.evaluate(stopped, embed(vectors)) is None


def test_some_rows_are_asked_among_all_documents():
    pairs = retrieval_set()
    whole = PairEvaluation.build("x", pairs).judgements
    part = PairEvaluation.build("x", pairs, max_rows=5).judgements
    same, other = (PairEvaluation.build("x", pairs, max_rows=5, seed=seed) for seed in (0, 1))
    assert 1 < len(part.query_ids) <= 5
    assert part.query_ids.tolist() == same.judgements.query_ids.tolist()
    assert part.query_ids.tolist() != other.judgements.query_ids.tolist()
    assert part.document_ids.tolist() == whole.document_ids.tolist()
    relevant = judged(pairs)
    for place, query in enumerate(part.query_ids.tolist()):
        places = part.relevant[slice(*part.relevant_starts[place : place + 2])]
        assert set(part.document_ids[places].tolist()) == relevant[query]
    labelled = PairEvaluation.build("x", graded(), max_rows=7).judgements
    assert labelled.counts() == {"num_pairs": 7}
    assert PairEvaluation.build("x", pairs, max_rows=99).judgements.counts() == whole.counts()


def test_documents_beyond_the_limit_are_left_out_but_for_the_relevant():
    pairs = pair_set(distinct_rows(50, num_negatives=3))
    limited = PairEvaluation.build("x", pairs, max_rows=10, max_documents=30).judgements
    relevant = {text for query in limited.query_ids.tolist() for text in judged(pairs)[query]}
    assert len(set(limited.document_ids.tolist())) == 30
    assert relevant <= set(limited.document_ids.tolist())
    least = PairEvaluation.build("x", pairs, max_rows=10, max_documents=3).judgements
    assert set(least.document_ids.tolist()) == relevant
    vectors = normals(250)
    evaluation = PairEvaluation.build("x", pairs, max_rows=10, max_documents=3)
    assert evaluation.evaluate(embed(vectors), embed(vectors))["x/recall@10"] == 1
