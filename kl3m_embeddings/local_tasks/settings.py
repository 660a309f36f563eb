"""task.json: what a folder of plain files asks of embeddings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kl3m_embeddings.config.section import PositiveInt, Section

LocalTaskType = Literal[
    "Retrieval", "Reranking", "STS", "PairClassification", "Classification", "Clustering"
]

CUTS = (1, 3, 5, 10, 20, 100, 1000)
RANKED = tuple(
    f"{metric}_at_{cut}" for metric in ("ndcg", "map", "recall", "precision", "mrr") for cut in CUTS
)
COMPARED = ("cosine", "manhattan", "euclidean")
CLASSIFIED = ("accuracy", "f1", "f1_weighted", "precision", "recall", "ap", "ap_weighted")
PAIR_METRICS = ("ap", "f1", "accuracy", "precision", "recall")
# The scores to choose from, the default first: as mteb calls them.
SCORES: dict[LocalTaskType, tuple[str, ...]] = {
    "Retrieval": ("ndcg_at_10", *RANKED),
    "Reranking": ("map_at_1000", *RANKED),
    "STS": (
        "cosine_spearman",
        "pearson",
        "spearman",
        *(f"{kind}_{metric}" for kind in COMPARED for metric in ("pearson", "spearman")),
    ),
    "PairClassification": (
        "max_ap",
        *(
            f"{kind}_{metric}"
            for kind in ("max", "similarity", "dot", *COMPARED)
            for metric in PAIR_METRICS
        ),
    ),
    "Classification": CLASSIFIED,
    "Clustering": ("v_measure", "ami"),
}


class LocalTaskSettings(Section):
    """task.json."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    """As the task is called in results: letters, digits, `_`, `.` and `-`."""
    type: LocalTaskType
    """What is asked; it says which files there are."""
    description: str = ""
    """A sentence for people."""
    main_score: str | None = None
    """The number to judge by, as mteb calls it; null: the usual one of the type."""
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "test"
    """The files that are scored: `qrels/test.tsv`, `test.jsonl`."""
    prompt: str | dict[Literal["query", "document"], str] | None = None
    """Put before every text, or before each side's; null: the model's own prompts."""
    language: str = "eng-Latn"
    """Of the texts: ISO 639-3 and ISO 15924."""
    samples_per_label: PositiveInt = 8
    """Classification: texts of each label that a classifier learns from."""
    num_experiments: PositiveInt = 10
    """Classification: classifiers of which the mean is taken. Clustering: clusterings."""

    @property
    def score(self) -> str:
        """The number to judge by."""
        return self.main_score or SCORES[self.type][0]

    @model_validator(mode="after")
    def _score_exists(self) -> "LocalTaskSettings":
        scores = dict.fromkeys(SCORES[self.type])
        if self.score not in scores:
            raise ValueError(f"main_score: {self.type} has no {self.score!r}: {', '.join(scores)}")
        return self

    def prompts(self) -> dict[str, str] | None:
        """Of queries and of documents (an STS pair has no sides: all its texts are documents)."""
        if self.prompt is None or isinstance(self.prompt, dict):
            return None if self.prompt is None else {str(k): v for k, v in self.prompt.items()}
        return {"query": self.prompt, "document": self.prompt}
