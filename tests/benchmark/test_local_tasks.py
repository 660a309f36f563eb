"""Plain files of each type get the scores that mteb gives the same texts."""

import math

import pytest

from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import (
    WRITERS,
    candidate_rows,
    labelled_rows,
    pair_rows,
    ranking_rows,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # sklearn's, of small classes

NUMBERS = {"a": 0, "b": 1, "c": 2}


def metadata(bench, kind, main_score):
    return bench.mteb.TaskMetadata(
        dataset={"path": "none", "revision": "1"},
        name=f"Public{kind}",
        description="as a public one",
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )


def ranking(bench, kind):
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    class Public(AbsTaskRetrieval):
        def load_data(self, *_, **__):
            documents, queries, grades = ranking_rows()
            judgements = {}
            for query, document, grade in grades:
                judgements.setdefault(query, {})[document] = grade
            rows = {row["query-id"]: row["corpus-ids"] for row in candidate_rows()}
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": Dataset.from_list(
                            [{"id": row.pop("_id"), **row} for row in documents]
                        ),
                        "queries": Dataset.from_list(
                            [{"id": row.pop("_id"), **row} for row in queries]
                        ),
                        "relevant_docs": judgements,
                        "top_ranked": rows if kind == "Reranking" else None,
                    }
                }
            }
            self.data_loaded = True

    Public.metadata = metadata(bench, kind, "ndcg_at_10")
    return Public()


def sts(bench, kind):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskSTS

    class Public(AbsTaskSTS):
        min_score, max_score = 0, 5

        def load_data(self, *_, **__):
            self.dataset = DatasetDict({"test": Dataset.from_list(pair_rows("score"))})
            self.data_loaded = True

    Public.metadata = metadata(bench, kind, "cosine_spearman")
    return Public()


def pairs(bench, kind):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskPairClassification

    class Public(AbsTaskPairClassification):
        def load_data(self, *_, **__):
            rows = [{**row, "labels": row.pop("label")} for row in pair_rows("label")]
            self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
            self.data_loaded = True

    Public.metadata = metadata(bench, kind, "max_ap")
    return Public()


def classification(bench, kind):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClassification

    class Public(AbsTaskClassification):
        n_experiments = 3

        def load_data(self, *_, **__):
            self.dataset = DatasetDict(
                {
                    split: Dataset.from_list(
                        [
                            {"text": row["text"], "label": NUMBERS[row["label"]]}
                            for row in labelled_rows(count, seed)
                        ]
                    )
                    for split, count, seed in (("train", 36, 0), ("test", 20, 1))
                }
            )
            self.data_loaded = True

    Public.metadata = metadata(bench, kind, "accuracy")
    return Public()


def clustering(bench, kind):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClustering

    class Public(AbsTaskClustering):
        max_fraction_of_documents_to_embed = None
        max_documents_per_cluster = 30  # as many as there are texts

        def load_data(self, *_, **__):
            rows = [{"sentences": row["text"], "labels": row["label"]} for row in labelled_rows(30)]
            self.dataset = DatasetDict({"test": Dataset.from_list(rows)})
            self.data_loaded = True

    Public.metadata = metadata(bench, kind, "v_measure")
    return Public()


PUBLIC = {
    "Retrieval": ranking,
    "Reranking": ranking,
    "STS": sts,
    "PairClassification": pairs,
    "Classification": classification,
    "Clustering": clustering,
}


def scores_of(bench, model, task):
    model.begin(task)
    result = bench.mteb.evaluate(
        model, task, cache=None, co2_tracker=False, show_progress_bar=False
    )
    ((scores,),) = result.task_results[0].scores.values()
    return {key: value for key, value in scores.items() if key != "main_score"}


@pytest.mark.parametrize("kind", PUBLIC)
def test_scores_are_mtebs_own(bench, make_model, tmp_path, kind):
    local = bench.local_tasks.local_task(read_local_task(WRITERS[kind](tmp_path / "own")))
    public = PUBLIC[kind](bench, kind)
    ours, theirs = (scores_of(bench, make_model(), task) for task in (local, public))
    assert str(ours) == str(theirs)  # as text, so that NaN is NaN
    numbers = [one for one in ours.values() if isinstance(one, float) and math.isfinite(one)]
    assert len({round(number, 4) for number in numbers} - {0.0, 1.0}) > 1


@pytest.mark.parametrize("kind", WRITERS)
def test_it_is_named_after_its_files(bench, tmp_path, kind):
    folder = WRITERS[kind](tmp_path / "own", description="What it asks.", language="deu-Latn")
    task = read_local_task(folder)
    metadata = bench.local_tasks.local_task(task).metadata
    assert (metadata.name, metadata.type, metadata.revision) == ("own", kind, task.sha256)
    assert metadata.main_score == task.settings.score
    assert (metadata.description, metadata.eval_langs) == ("What it asks.", ["deu-Latn"])


@pytest.mark.slow
def test_settings_reach_the_classifier(bench, make_model, tmp_path):
    tasks = [
        bench.local_tasks.local_task(
            read_local_task(WRITERS["Classification"](tmp_path / name, **fields))
        )
        for name, fields in (("a", {}), ("b", {"samples_per_label": 2, "num_experiments": 2}))
    ]
    usual, changed = (scores_of(bench, make_model(), task) for task in tasks)
    assert len(usual["scores_per_experiment"]) == 3
    assert len(changed["scores_per_experiment"]) == 2
    assert usual["accuracy"] != changed["accuracy"]
