"""What the quickstart's two models have learnt, beside baselines, on what was held out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bm25s
import numpy as np
from jaxtyping import Float32, Int64
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.commands.run_model import RunModel, embedding_head, open_model
from kl3m_embeddings.commands.run_pairs import pair_evaluations
from kl3m_embeddings.commands.run_text import open_text, text_evaluation
from kl3m_embeddings.config import TrainingConfig
from kl3m_embeddings.config_file import load_training
from kl3m_embeddings.encoder.build import load_encoder
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.tasks.base import NUM_SPECIAL
from kl3m_embeddings.train.baseline import UnigramBaseline, unigram_baseline
from kl3m_embeddings.train.checkpoint import newest_verified
from kl3m_embeddings.train.evaluate_pairs import PairEvaluation
from kl3m_embeddings.train.retrieval import RetrievalJudgements

if TYPE_CHECKING:
    from kl3m_embeddings.data.pair_set import PairSet

NUM_NEIGHBOURS = 3
QUERIES = (
    "Return the eigenvalues of a symmetric matrix.",
    "Open a file and read its contents as text.",
    "Raised when a value is not valid.",
)


class TrainedModel:
    """A model folder's newest checkpoint, ready to embed."""

    def __init__(self, folder: Path) -> None:
        """Load it."""
        self.folder = folder
        self.training: TrainingConfig = load_training(folder / "training.json")
        checkpoint = newest_verified(folder, print)
        assert checkpoint is not None
        self.model: RunModel = open_model(folder, self.training, checkpoint)
        self.encoder = load_encoder(checkpoint.path, config=self.model.architecture)
        self.head = embedding_head(self.model, self.training, self.encoder.hidden_size)

    def embed(self, texts: list[list[int]]) -> Float32[np.ndarray, "texts dim"]:
        """Unit vectors of texts, given as ids without special ones."""
        tokenizer, limit = self.model.tokenizer, self.model.text_length - NUM_SPECIAL
        framed = [[tokenizer.cls_id, *ids[:limit], tokenizer.sep_id] for ids in texts]
        return encode_ids(self.encoder, framed, pad_id=tokenizer.pad_id, head=self.head)

    def embed_set(self, pairs: "PairSet", ids: Int64[np.ndarray, " texts"]) -> Any:  # noqa: ANN401
        """Unit vectors of a set's texts."""
        return self.embed([pairs.texts.document_tokens(one).tolist() for one in ids.tolist()])


def show_results(folder: Path, embed_folder: Path) -> None:
    """Print what masked tokens and what pairs have taught, and nearest neighbours."""
    before, after = TrainedModel(folder), TrainedModel(embed_folder)
    print_masked_tokens(before)
    (evaluation,) = pair_evaluations(after.training, after.model.tokenizer, after.model.prefixes)
    print_retrieval(before, after, evaluation)
    print_neighbours(after, evaluation.pairs)


def print_masked_tokens(trained: TrainedModel) -> None:
    """A table of held-out loss and accuracy."""
    training, model = trained.training, trained.model
    text = open_text(training, model.tokenizer, model.max_length)
    evaluation = text_evaluation(training, text)
    assert evaluation is not None
    lines = (trained.folder / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    unigram: UnigramBaseline = unigram_baseline(
        text.train.corpus, evaluation, model.tokenizer.vocab_size
    )
    table = Table(title="Masked tokens of held-out documents")
    table.add_column("predicted by")
    table.add_column("mean loss (nats)", justify="right")
    table.add_column("accuracy", justify="right")
    for name, loss, accuracy in (
        (f"the encoder before training (step {first['step']})", first["mean"], first["accuracy"]),
        ("token frequency alone", unigram.mean_loss, unigram.accuracy),
        (f"the encoder (step {last['step']})", last["mean"], last["accuracy"]),
    ):
        table.add_row(name, f"{loss:.2f}", f"{accuracy:.1%}")
    Console().print(table)


def print_retrieval(before: TrainedModel, after: TrainedModel, evaluation: PairEvaluation) -> None:
    """A table of how well summaries find the documentation of packages that were held out."""
    pairs, judgements = evaluation.pairs, evaluation.judgements
    assert isinstance(judgements, RetrievalJudgements)
    num_queries, num_documents = judgements.counts().values()
    table = Table(
        title=f"Retrieval in packages that were held out: {num_queries:,} summary lines, "
        f"{num_documents:,} documents"
    )
    for name in ("ranked by", "nDCG@10", "recall@10"):
        table.add_column(name, justify="left" if name == "ranked by" else "right")

    def add(name: str, metrics: dict[str, float]) -> None:
        table.add_row(name, f"{metrics['ndcg@10']:.3f}", f"{metrics['recall@10']:.3f}")

    for name, trained in (("before", before), ("after", after)):
        queries, documents = (
            trained.embed_set(pairs, ids) for ids in (judgements.query_ids, judgements.document_ids)
        )
        add(f"the encoder {name} training on pairs", judgements.metrics(queries, documents))
    add("BM25 (words in common)", bm25_metrics(after, pairs, judgements))
    Console().print(table)


def bm25_metrics(
    trained: TrainedModel, pairs: "PairSet", judgements: RetrievalJudgements
) -> dict[str, float]:
    """BM25's metrics on the same queries and documents.

    Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019, by bm25s.
    """

    def words(ids: Int64[np.ndarray, " texts"]) -> Any:  # noqa: ANN401 - ids and vocabulary
        decode = trained.model.tokenizer.backend.decode
        texts = [decode(pairs.texts.document_tokens(one).tolist()) for one in ids.tolist()]
        return bm25s.tokenize(texts, return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(words(judgements.document_ids), show_progress=False)
    queries = words(judgements.query_ids)

    def scores(block: slice) -> Float32[np.ndarray, "block documents"]:
        found = np.zeros((len(queries[block]), len(judgements.document_ids)), dtype=np.float32)
        for row, query in zip(found, queries[block], strict=True):
            if query:  # one without any word has none in common with a document
                row[:] = index.get_scores(query)
        return found

    return judgements.metrics_of_scores(scores)


def print_neighbours(trained: TrainedModel, pairs: "PairSet") -> None:
    """For each query, the nearest documents of the held-out packages."""
    tokenizer = trained.model.tokenizer
    ids = np.unique(pairs.positives)
    documents = trained.embed_set(pairs, ids)
    scores = trained.embed([tokenizer.encode(query) for query in QUERIES]) @ documents.T
    table = Table(title=f"Nearest of {len(ids):,} held-out documents")
    table.add_column("query", max_width=24)
    table.add_column("cosine", justify="right")
    table.add_column("first words of the document")
    for query, row in zip(QUERIES, scores, strict=True):
        for rank, place in enumerate(np.argsort(-row)[:NUM_NEIGHBOURS]):
            text = tokenizer.backend.decode(pairs.texts.document_tokens(int(ids[place])).tolist())
            words = Text(" ".join(text.split())[:90])
            table.add_row(query if rank == 0 else "", f"{row[place]:.2f}", words)
        table.add_section()
    Console().print(table)
