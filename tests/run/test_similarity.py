"""A run compares vectors in one way: its losses, what it measures, what it exports, what scores it.

Held-out pairs, the probe of a local task, mteb over the exported folder, and sentence-transformers
over it are asked for the same number.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from kl3m_embeddings.encoder.folder.sentence_modules import read_sentence_modules
from kl3m_embeddings.local_tasks.folder import read_local_task
from kl3m_embeddings.losses.similarity import SIMILARITIES
from tests.benchmark.mteb_modules import import_quietly
from tests.run.tuned import PAIRS, PROMPTS, read, train, tuned_folder
from tests.train.runs import assert_same_run, log_rows

NAMES = [*SIMILARITIES]
SETTINGS = "config_sentence_transformers.json"
PLAIN = {"pooling": "mean", "normalise": False}


def say(base, **fields):
    """Let the base's settings say this, too."""
    path = base / SETTINGS
    path.write_text(json.dumps(read(path) | fields))


@pytest.fixture
def uneven_base(base):
    """A base whose vectors differ in length, so that it matters how they are compared."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith("layer.1.output.LayerNorm.weight"):
            generator = torch.Generator().manual_seed(3)
            tensors[name] = tensor * 8 * torch.rand(tensor.shape, generator=generator) ** 4
        if name.endswith("layer.1.output.LayerNorm.bias"):
            generator = torch.Generator().manual_seed(4)
            tensors[name] = tensor + torch.randn(tensor.shape, generator=generator)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    return base


@pytest.fixture
def local_task(tiny_pair_files, tmp_path):
    """The held-out pairs as a task: each query once, among all positives."""
    rows = [json.loads(line) for line in tiny_pair_files["held_out"].read_text().splitlines()]
    queries = {row["query"]: f"q{number}" for number, row in enumerate(rows)}
    texts = {text for row in rows for text in row["positive"]}
    documents = {text: f"d{number}" for number, text in enumerate(sorted(texts))}
    folder = tmp_path / "task"
    (folder / "qrels").mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps({"name": "mine", "type": "Retrieval"}))
    for name, ids in (("queries", queries), ("corpus", documents)):
        lines = (json.dumps({"_id": one, "text": text}) + "\n" for text, one in ids.items())
        (folder / f"{name}.jsonl").write_text("".join(lines))
    judged = {(queries[row["query"]], documents[one]) for row in rows for one in row["positive"]}
    lines = "".join(f"{query}\t{document}\t1\n" for query, document in sorted(judged))
    (folder / "qrels" / "test.tsv").write_text(lines)
    return folder


def mtebs_score(checkpoint, folder, out):
    """What `kl3m mteb` makes of an exported folder."""
    bench = import_quietly()
    options = bench.candidates.LoadOptions(
        device=torch.device("cpu"), precision="float32", quiet=True
    )
    (place,) = bench.candidates.model_paths(str(checkpoint), print, all_checkpoints=False)
    candidate = bench.candidates.candidate_at(place, options)
    task = bench.local_tasks.local_task(read_local_task(folder))
    scores = bench.run.Benchmark(folder=out, tasks=[task]).score([candidate])
    return scores[0].score


def sentence_transformers_score(checkpoint, folder):
    """nDCG@10 of its own vectors by its own similarity."""
    from kl3m_embeddings.metrics.ranking import grade_ranking, ndcg_at_k

    task = read_local_task(folder).content
    model = SentenceTransformer(str(checkpoint), device="cpu")
    queries = model.encode_query([task.queries[name] for name in task.judgements])
    documents = model.encode_document([text for _, text in task.documents.values()])
    table = model.similarity(queries, documents).numpy()
    places = {name: place for place, name in enumerate(task.documents)}
    judged = [
        (query, places[document], grade)
        for query, found in enumerate(task.judgements.values())
        for document, grade in found.items()
    ]
    columns = (np.array(column) for column in zip(*judged, strict=True))
    return ndcg_at_k(grade_ranking(np.argsort(-table, axis=1), *columns), 10).mean()


@pytest.fixture
def measured(make_model_folder, uneven_base, local_task, tiny_pair_files):
    """A function that starts a run from a base with this similarity.

    It gives nDCG@10 of the held-out pairs at step 0, what else makes it of the same vectors, and
    the checkpoint.
    """
    held_out = {"path": str(tiny_pair_files["held_out"])}

    def run(name):
        say(uneven_base, similarity_fn_name=name, prompts=PROMPTS)
        evaluated = {"pairs": {"held_out": held_out}, "tasks": [str(local_task)]}
        folder = tuned_folder(make_model_folder, uneven_base, name, **PLAIN, eval=evaluated)
        assert train(folder, "--stop-after", 1) == 0
        row, checkpoint = log_rows(folder / "eval.jsonl")[0], folder / "checkpoint-0"
        assert read_sentence_modules(checkpoint).similarity_fn_name == name
        assert f"| Similarity | {name} |" in (checkpoint / "README.md").read_text()
        others = [
            row["tasks/mine/ndcg_at_10"],
            sentence_transformers_score(checkpoint, local_task),
        ]
        return row["held_out/ndcg@10"], others, checkpoint

    return run


def test_what_is_measured_is_what_sentence_transformers_makes_of_the_export(measured):
    found, others, _ = measured("dot")
    assert others == pytest.approx([found] * 2, abs=1e-6)


@pytest.mark.slow  # mteb, and four runs
def test_all_that_measure_agree_whatever_the_similarity(measured, local_task, tmp_path):
    found = {}
    for name in NAMES:
        found[name], others, checkpoint = measured(name)
        others.append(mtebs_score(checkpoint, local_task, tmp_path / f"out-{name}"))
        assert others == pytest.approx([found[name]] * 3, abs=2e-5)  # mteb's is rounded
    assert len(set(found.values())) == len(NAMES)


def test_steps_are_by_the_bases_similarity_unless_training_json_names_another(
    make_model_folder, uneven_base
):
    """The loss is that of the vectors so compared, and the export says so."""
    losses = {}
    tasks = {"pairs": PAIRS["pairs"] | {"loss": {"temperature": 0.5}}}
    for said, given in (*((name, None) for name in NAMES), ("euclidean", "dot")):
        say(uneven_base, similarity_fn_name=said)
        folder = tuned_folder(
            make_model_folder, uneven_base, f"{said} {given}", **PLAIN, tasks=tasks,
            similarity=given, eval={},
        )  # fmt: skip
        assert train(folder, "--stop-after", 1) == 0
        losses[said, given] = log_rows(folder / "log.jsonl")[0]["loss"]
        assert read_sentence_modules(folder / "latest").similarity_fn_name == (given or said)
    assert len({losses[said, None] for said in NAMES}) == len(NAMES)
    assert losses["euclidean", "dot"] == losses["dot", None]


def test_a_run_goes_on_by_its_similarity_whatever_became_of_the_base(
    make_model_folder, uneven_base
):
    say(uneven_base, similarity_fn_name="dot")
    whole, parts = (
        tuned_folder(make_model_folder, uneven_base, name, **PLAIN) for name in ("whole", "parts")
    )
    assert train(whole) == 0
    assert train(parts, "--stop-after", 4) == 0
    say(uneven_base, similarity_fn_name="cosine")
    assert train(parts, "--set", "similarity=dot") == 0  # what it is already
    assert_same_run(whole, parts)


def test_another_similarity_is_another_run(make_model_folder, uneven_base, capsys):
    folder = tuned_folder(make_model_folder, uneven_base, **PLAIN)
    assert train(folder, "--stop-after", 1) == 0
    capsys.readouterr()
    assert train(folder, "--set", "similarity=dot") == 2
    assert "similarity: was 'cosine', is 'dot'" in capsys.readouterr().err


def test_a_guide_compares_by_its_own_similarity(make_model_folder, uneven_base, tmp_path):
    """The same vectors, otherwise compared, find other false negatives."""
    guide = shutil.copytree(uneven_base, tmp_path / "guide")
    (guide / "modules.json").write_text(
        json.dumps([one for one in read(guide / "modules.json") if "Normalize" not in one["type"]])
    )
    loss = {"name": "infonce", "false_negative_margin": 0.0}
    tasks = {"pairs": PAIRS["pairs"] | {"loss": loss, "guide": str(guide)}}
    losses = set()
    for name in ("cosine", "dot", "euclidean"):
        say(guide, similarity_fn_name=name)
        folder = tuned_folder(make_model_folder, uneven_base, name, **PLAIN, tasks=tasks, eval={})
        assert train(folder, "--stop-after", 4) == 0
        losses.add(tuple(row["loss"] for row in log_rows(folder / "log.jsonl")))
    assert len(losses) == 3


@pytest.mark.parametrize(
    ("loss", "fields", "says"),
    [
        ("cosine", {"similarity": "dot"}, "tasks.pairs.loss: cosine: it is made for similarities"),
        ("contrastive", {"similarity": "dot"}, "set similarity to cosine or normalise to true"),
        ("cosine", {"similarity": "euclidean"}, "tasks.pairs.loss: cosine: it is made for cosines"),
        ("triplet", {"similarity": "manhattan"}, "tasks.pairs.loss: triplet: margin: has no def"),
    ],
)
def test_a_loss_that_cannot_compare_so_is_refused_in_one_line(
    make_model_folder, uneven_base, capsys, loss, fields, says
):
    tasks = {"pairs": {"probability": 1.0, "num_negatives": 1, "loss": loss}}
    folder = tuned_folder(make_model_folder, uneven_base, tasks=tasks, **PLAIN, **fields)
    assert train(folder) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and says in lines[0]
    assert not (folder / "log.jsonl").exists()
