"""Probes: the scores of mteb, by numpy, from the same vectors."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kl3m_embeddings.commands.train import main as train
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.evaluation.local_task_probe import LocalTaskProbe, best_first
from kl3m_embeddings.local_tasks.folder import read_local_task

WORDS = "court law contract party clause damages notice breach remedy statute title act".split()


def texts(num, draw):
    return [" ".join(draw.choice(WORDS, draw.integers(2, 6))) for _ in range(num)]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_local_task(folder, kind, main_score=None):
    """A task of 30 queries and 40 documents, or of 40 pairs."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    settings = {"name": "mine", "type": kind, "main_score": main_score}
    (folder / "task.json").write_text(json.dumps(settings))
    if kind in ("Retrieval", "Reranking"):
        documents = [{"_id": f"d{n}", "text": text} for n, text in enumerate(texts(40, draw))]
        documents[3]["title"] = "notice of breach"
        queries = [{"_id": f"q{n}", "text": text} for n, text in enumerate(texts(30, draw))]
        write_rows(folder / "corpus.jsonl", documents)
        write_rows(folder / "queries.jsonl", queries)
        judged = [(f"q{n}", f"d{d}", 1 + d % 3) for n in range(28) for d in {n, n + 5, n + 9}]
        (folder / "qrels").mkdir()
        lines = "".join(f"{q}\t{d}\t{grade}\n" for q, d, grade in judged)
        (folder / "qrels" / "test.tsv").write_text(lines)
        candidates = [
            {"query-id": f"q{n}", "corpus-ids": [f"d{(n + k) % 40}" for k in range(12)]}
            for n in range(28)
        ]
        write_rows(folder / "candidates.jsonl", candidates)
    else:
        key = "score" if kind == "STS" else "label"
        pairs = zip(texts(40, draw), texts(40, draw), strict=True)
        rows = [
            {
                "sentence1": one,
                "sentence2": other,
                key: int(draw.integers(0, 5 if key == "score" else 2)),
            }
            for one, other in pairs
        ]
        write_rows(folder / "test.jsonl", rows)
    return folder


def vectors_of(ids):
    """Bags of random word vectors: many texts are alike, few are equal."""
    table = np.random.default_rng(1).standard_normal((1000, 24), dtype=np.float32)
    return np.stack([table[np.array(text) % 1000].sum(axis=0) for text in ids])


SCORED = [
    ("Retrieval", None), ("Retrieval", "map_at_5"), ("Retrieval", "mrr_at_3"),
    ("Retrieval", "recall_at_20"), ("Retrieval", "precision_at_5"), ("Reranking", None),
    ("Reranking", "ndcg_at_5"), ("STS", None), ("STS", "euclidean_pearson"),
    ("STS", "manhattan_spearman"), ("PairClassification", None),
    ("PairClassification", "manhattan_ap"), ("STS", "spearman"),
    ("PairClassification", "similarity_ap"),
]  # fmt: skip


class Embeds:
    """mteb's idea of a model, over a function from texts to vectors."""

    def __init__(self, embed, prompts):
        from mteb.models import ModelMeta

        self.embed, self.prompts = embed, prompts
        self.mteb_model_meta = ModelMeta.create_empty()

    def encode(self, inputs, *, prompt_type=None, **_):
        prompt = self.prompts.get(str(prompt_type and prompt_type.value), "")
        return self.embed([prompt + text for batch in inputs for text in batch["text"]])

    def similarity(self, first, second):
        from mteb.similarity_functions import cos_sim

        return cos_sim(first, second)

    def similarity_pairwise(self, first, second):
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(first, second)


@pytest.mark.parametrize(("kind", "main_score"), SCORED)
def test_the_score_is_mtebs(kind, main_score, tmp_path, tiny_tokenizer):
    from kl3m_embeddings.benchmark.evaluate_task import evaluate_task
    from kl3m_embeddings.benchmark.local_tasks import local_task

    task = read_local_task(make_local_task(tmp_path / "task", kind, main_score))
    probe = LocalTaskProbe.build(task, tiny_tokenizer, ("query: ", ""), "")
    row = probe.evaluate(vectors_of)

    def embed(texts):
        return vectors_of([tiny_tokenizer.encode(text) for text in texts])

    model = Embeds(embed, {"query": "query: "})
    (score,), _ = evaluate_task(model, local_task(task), tmp_path / "results")
    assert row == {f"tasks/mine/{task.settings.score}": pytest.approx(score.score, abs=1e-4)}
    assert 0 < abs(score.score) < 1


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("truncate_dim", [None, 8])
def test_documents_are_ranked_by_the_models_own_similarity(
    similarity, truncate_dim, tmp_path, tiny_tokenizer
):
    from kl3m_embeddings.benchmark.evaluate_task import evaluate_task
    from kl3m_embeddings.benchmark.local_tasks import local_task

    class Ranks(Embeds):
        def similarity(self, first, second):
            distances = {"euclidean": 2.0, "manhattan": 1.0}
            first, second = torch.as_tensor(first), torch.as_tensor(second)
            if similarity in distances:
                return -torch.cdist(first, second, p=distances[similarity])
            return first @ second.T if similarity == "dot" else super().similarity(first, second)

    task = read_local_task(make_local_task(tmp_path / "task", "Retrieval"))
    probe = LocalTaskProbe.build(
        task, tiny_tokenizer, ("", ""), "", similarity=similarity, truncate_dim=truncate_dim
    )
    model = Ranks(lambda texts: vectors_of(map(tiny_tokenizer.encode, texts))[:, :truncate_dim], {})
    (score,), _ = evaluate_task(model, local_task(task), tmp_path / "results")
    row = probe.evaluate(vectors_of, [16, 4])
    assert row["tasks/mine/ndcg_at_10"] == pytest.approx(score.score, abs=1e-4)
    assert list(row) == probe.fields([16, 4])


def test_equal_documents_rank_by_their_ids_backwards_and_candidates_alone_rank():
    similarities = np.array([[0.5, 0.9, 0.5, 0.9]], np.float32)
    assert best_first(similarities, None).tolist() == [[1, 3, 0, 2]]
    allowed = np.array([[True, False, True, False]])
    assert best_first(similarities, allowed).tolist() == [[0, 2, -1, -1]]


def test_smaller_sizes_have_scores_of_their_own(tmp_path, tiny_tokenizer):
    probe = LocalTaskProbe.build(
        read_local_task(make_local_task(tmp_path / "task", "Retrieval")),
        tiny_tokenizer,
        ("", ""),
        "",
    )
    row = probe.evaluate(vectors_of, [8, 100])
    assert list(row) == probe.fields([8]) == ["tasks/mine/ndcg_at_10", "tasks/mine/ndcg_at_10/8"]
    cut = probe.evaluate(lambda ids: vectors_of(ids)[:, :8])
    assert cut == {"tasks/mine/ndcg_at_10": row["tasks/mine/ndcg_at_10/8"]}
    assert row["tasks/mine/ndcg_at_10"] != row["tasks/mine/ndcg_at_10/8"]


def test_a_vector_that_is_not_finite_has_no_score_and_a_stop_ends_it(tmp_path, tiny_tokenizer):
    probe = LocalTaskProbe.build(
        read_local_task(make_local_task(tmp_path / "task", "STS")), tiny_tokenizer, ("", ""), ""
    )
    assert probe.evaluate(lambda ids: vectors_of(ids) * np.nan) == {probe.field: None}
    assert probe.evaluate(lambda ids: np.ones((len(ids), 4), np.float32)) == {probe.field: None}
    assert probe.evaluate(lambda ids: None) is None


def test_the_tasks_own_prompts_come_before_the_runs(tmp_path, tiny_tokenizer):
    folder = make_local_task(tmp_path / "task", "Retrieval")
    settings = {"name": "mine", "type": "Retrieval", "prompt": {"query": "law: "}}
    (folder / "task.json").write_text(json.dumps(settings))
    probe = LocalTaskProbe.build(
        read_local_task(folder), tiny_tokenizer, ("query: ", "passage: "), ""
    )
    plain = LocalTaskProbe.build(read_local_task(folder), tiny_tokenizer, ("", ""), "")
    assert probe.ids == plain.ids
    assert probe.ids[0][: len(tiny_tokenizer.encode("law:"))] == tiny_tokenizer.encode("law:")


@pytest.mark.parametrize(
    ("kind", "main_score"),
    [("Clustering", None), ("PairClassification", "max_f1")],
)
def test_what_cannot_be_scored_while_training_is_said_at_once(
    kind, main_score, tmp_path, tiny_tokenizer
):
    folder = make_local_task(tmp_path / "task", kind if kind != "Clustering" else "STS", main_score)
    if kind == "Clustering":
        (folder / "task.json").write_text(json.dumps({"name": "mine", "type": kind}))
        write_rows(folder / "test.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    with pytest.raises(ConfigError, match="kl3m mteb scores it afterwards"):
        LocalTaskProbe.build(read_local_task(folder), tiny_tokenizer, ("", ""), "")


def test_a_run_with_probes_is_the_run_without(tmp_path, make_model_folder):
    """Same weights and log, and a score in every row of eval.jsonl; the best is kept by it."""
    task = make_local_task(tmp_path / "task", "Retrieval")
    settings = {"optimizer": {"total_steps": 4, "warmup_steps": 1}, "steps_per_eval": 2}
    plain = make_model_folder("plain", **settings)
    probed = make_model_folder(
        "probed",
        **settings,
        eval={"tasks": [str(task)], "dims": [8]},
        save={"keep_best": True, "best_metric": "tasks/mine/ndcg_at_10/8"},
    )
    for folder in (plain, probed):
        assert train([str(folder), "--quiet"]) == 0
    weights = [load_file(folder / "latest" / "model.safetensors") for folder in (plain, probed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = [[row["loss"] for row in rows(folder / "log.jsonl")] for folder in (plain, probed)]
    assert losses[0] == losses[1]
    evaluations = rows(probed / "eval.jsonl")
    assert [row["step"] for row in evaluations] == [0, 2, 4]
    for row in evaluations:
        assert 0 < row["tasks/mine/ndcg_at_10"] <= 1 and "tasks/mine/ndcg_at_10/8" in row
        assert 0 < row["tasks_time"] < row["tasks_time"] + row["text_time"] < row["eval_time"]
    assert "tasks_time" not in rows(plain / "eval.jsonl")[0]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
