"""Tasks in folders of plain files as tasks of mteb: its classes score them, so scores are mteb's.

mteb: https://github.com/embeddings-benchmark/mteb (https://arxiv.org/abs/2210.07316).
"""

from typing import Any

from datasets import Dataset, DatasetDict
from mteb import TaskMetadata
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)

from kl3m_embeddings.local_tasks.folder import LabelledTexts, LocalTask, PairTexts, RankingTexts

DEFAULT_SUBSET = "default"


class _FromFiles(AbsTask):
    """What all tasks of plain files share: they are in memory when they are made."""

    def __init__(self, task: LocalTask, **settings: Any) -> None:  # noqa: ANN401
        self.local = task
        self.metadata = local_task_metadata(task)
        super().__init__(**settings)
        self.load_data()

    def load_data(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Fill `dataset` from what was read."""
        self.dataset = self.as_dataset()
        self.data_loaded = True

    def as_dataset(self) -> Any:  # noqa: ANN401
        """The task's content in mteb's form."""
        raise NotImplementedError

    def unload_data(self) -> None:
        """Stay loaded."""

    @property
    def split(self) -> str:
        """What is scored."""
        return self.local.settings.split


class LocalRetrieval(_FromFiles, AbsTaskRetrieval):
    """Retrieval, and reranking where there are candidates."""

    def as_dataset(self) -> Any:  # noqa: ANN401
        """Corpus, queries and judgements; a title and its text are joined by mteb."""
        content = self.local.content
        assert isinstance(content, RankingTexts)
        documents = [
            {"id": name, "title": title, "text": text}
            for name, (title, text) in content.documents.items()
        ]
        queries = [
            {"id": name, "text": text}
            for name, text in content.queries.items()
            if name in content.judgements
        ]
        data = {
            "corpus": Dataset.from_list(documents),
            "queries": Dataset.from_list(queries),
            "relevant_docs": {query: dict(grades) for query, grades in content.judgements.items()},
            "top_ranked": content.candidates,
        }
        return {DEFAULT_SUBSET: {self.split: data}}


class LocalSTS(_FromFiles, AbsTaskSTS):
    """Semantic textual similarity."""

    def as_dataset(self) -> Any:  # noqa: ANN401
        """Both texts and the score."""
        return pairs_as_dataset(self, "score")


class LocalPairClassification(_FromFiles, AbsTaskPairClassification):
    """Alike or not."""

    input1_column_name = "sentence1"
    input2_column_name = "sentence2"
    label_column_name = "labels"

    def as_dataset(self) -> Any:  # noqa: ANN401
        """Both texts and the label."""
        return pairs_as_dataset(self, self.label_column_name)


class LocalClassification(_FromFiles, AbsTaskClassification):
    """Logistic regression on a few examples of each class."""

    def as_dataset(self) -> Any:  # noqa: ANN401
        """Examples to learn from, and those that are scored."""
        settings = self.local.settings
        self.samples_per_label = settings.samples_per_label
        self.n_experiments = settings.num_experiments
        content = self.local.content
        assert isinstance(content, LabelledTexts) and content.train is not None
        numbers = {label: index for index, label in enumerate(sorted(set(content.train.labels)))}
        return DatasetDict(
            {
                name: Dataset.from_dict(
                    {"text": one.texts, "label": [numbers[label] for label in one.labels]}
                )
                for name, one in (("train", content.train), (self.split, content))
            }
        )


class LocalClustering(_FromFiles, AbsTaskClustering):
    """k-means on samples of the texts."""

    max_fraction_of_documents_to_embed = None  # mteb samples 4% of large sets: ours are small
    input_column_name = "sentences"

    def as_dataset(self) -> Any:  # noqa: ANN401
        """Texts and their classes."""
        self.n_clusters = self.local.settings.num_experiments
        content = self.local.content
        assert isinstance(content, LabelledTexts)
        self.max_documents_per_cluster = min(self.max_documents_per_cluster, len(content.texts))
        columns = {"sentences": content.texts, "labels": content.labels}
        return DatasetDict({self.split: Dataset.from_dict(columns)})


LOCAL_TASKS: dict[str, type[_FromFiles]] = {
    "Retrieval": LocalRetrieval,
    "Reranking": LocalRetrieval,
    "STS": LocalSTS,
    "PairClassification": LocalPairClassification,
    "Classification": LocalClassification,
    "Clustering": LocalClustering,
}


def local_task(task: LocalTask) -> AbsTask:
    """The task as one of mteb's."""
    return LOCAL_TASKS[task.settings.type](task)


def pairs_as_dataset(task: _FromFiles, column: str) -> DatasetDict:
    """Pairs of texts with their numbers in `column`."""
    content = task.local.content
    assert isinstance(content, PairTexts)
    values = [int(value) for value in content.values] if column == "labels" else content.values
    columns = {"sentence1": content.first, "sentence2": content.second, column: values}
    return DatasetDict({task.split: Dataset.from_dict(columns)})


def local_task_metadata(task: LocalTask) -> TaskMetadata:
    """What mteb wants to know; the hash of the files stands for the data's revision."""
    settings = task.settings
    return TaskMetadata(
        dataset={"path": str(task.folder), "revision": task.sha256},
        name=settings.name,
        description=settings.description or f"{settings.type} in {task.folder.name}",
        type=settings.type,
        category="t2c" if settings.type in ("Classification", "Clustering") else "t2t",
        eval_splits=[settings.split],
        eval_langs=[settings.language],
        main_score=settings.score,
    )
