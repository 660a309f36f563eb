"""The card is read back by the hub's own library, whatever names the facts hold."""

import ast
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.train.model_card import CardDataset, CardFacts, model_card

FACTS = CardFacts(
    name="kl3m-law",
    path="models/kl3m-law/checkpoint-1000",
    model_type="deberta-v2",
    num_parameters=12_345_678,
    num_layers=6,
    embedding_size=384,
    max_length=512,
    pooling="mean",
    num_dense=1,
    normalise=True,
    matryoshka_dims=(384, 64),
    prompts={"query": "query: ", "document": ""},
    default_prompt_name="query",
    init_from="org/base",
    base_model="org/base",
    datasets=(
        CardDataset(name="statutes", kind="text", num_rows=21_101, num_tokens=6_000_000),
        CardDataset(name="nq", kind="pairs", num_rows=1200),
    ),
    step=1000,
    settings={"tasks": {"pairs": {"loss": "infonce", "probability": 1.0}}, "batch_size": 64},
    command=("python", "train_single.py", "models/kl3m-law/", "--set", "seed=3"),
    seed=3,
    versions={"python": "3.11.7", "torch": "2.15.0"},
    hardware={"device": "cuda", "num_cpus": 16, "memory_gb": 128.0},
    evaluation={
        "step": 900,
        "mean": 3.25,
        "median": 3.0,
        "std": 0.5,
        "accuracy": 0.4,
        "num_samples": 100,
        "nq/ndcg@10": 0.5,
        "nq/recall@10": None,
        "nq/ndcg@10/64": 1e-05,
        "nq/num_queries": 50,
        "legal/sts/spearman": 0.75,
        "quora/f1": 0.8,
        "quora/f1_threshold": 0.3,
        "svd_mean_ratio_1": 2.0,
    },
)


def front_matter(text):
    """The card by the hub's reader, which also turns the model index into results."""
    return ModelCard(text).data


def rows(text, header):
    """Cells of the table whose first column has this header."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("| "):
            break
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]
        found.append([re.sub(r"\\(.)", r"\1", cell).strip() for cell in cells])
    return found


def test_the_hub_reads_the_front_matter():
    data = front_matter(model_card(FACTS))
    assert data.library_name == "sentence-transformers"
    assert data.pipeline_tag == "sentence-similarity"
    assert data.base_model == "org/base"
    assert "deberta-v2" in data.tags
    assert data.license is None
    assert data.model_name == "kl3m-law"
    results = [
        (one.task_type, one.dataset_name, one.metric_type, one.metric_value, one.metric_args)
        for one in data.eval_results
    ]
    assert results == [
        ("fill-mask", "held-out text", "mean_loss", 3.25, None),
        ("fill-mask", "held-out text", "median_loss", 3.0, None),
        ("fill-mask", "held-out text", "masked_accuracy", 0.4, None),
        ("information-retrieval", "nq", "ndcg@10", 0.5, None),
        ("information-retrieval", "nq", "ndcg@10", 1e-05, {"num_dims": 64}),
        ("semantic-similarity", "legal/sts", "spearman", 0.75, None),
        ("binary-classification", "quora", "f1", 0.8, None),
    ]
    assert [one.dataset_type for one in data.eval_results][-2:] == ["legal-sts", "quora"]
    assert all(type(one.metric_value) is float for one in data.eval_results)


def test_without_results_base_or_data_the_sections_are_left_out():
    facts = replace(FACTS, evaluation=None, base_model=None, init_from=None, datasets=())
    text = model_card(facts)
    data = front_matter(text)
    assert data.eval_results is None
    assert data.base_model is None
    assert "with random weights" in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# kl3m-law",
        "## Usage",
        "# puts 'query: ' before each text:",
        "## Training",
    ]


def test_the_tables_say_what_there_is():
    text = model_card(FACTS)
    assert rows(text, "Dataset") == [
        ["statutes", "text", "21,101", "6,000,000"],
        ["nq", "pairs", "1,200", "-"],
    ]
    results = text[text.index("## Results") :]
    assert "at step 900:" in results
    assert rows(results, "Dataset") == [
        ["held-out text", "mean_loss", "-", "3.2500"],
        ["held-out text", "median_loss", "-", "3.0000"],
        ["held-out text", "masked_accuracy", "-", "0.4000"],
        ["nq", "ndcg@10", "384", "0.5000"],
        ["nq", "ndcg@10", "64", "0.0000"],
        ["nq", "num_queries", "-", "50"],
        ["legal/sts", "spearman", "384", "0.7500"],
        ["quora", "f1", "384", "0.8000"],
        ["quora", "f1_threshold", "384", "0.3000"],
    ]
    assert rows(text, "Setting") == [
        ["tasks.pairs.loss", "infonce"],
        ["tasks.pairs.probability", "1.0"],
        ["batch_size", "64"],
        ["seed", "3"],
    ]
    assert ["Pooling", "mean, then 1 dense layer(s), scaled to unit length"] in rows(
        text, "Property"
    )
    assert "Cut to dimensions, unless told" not in text
    cut = rows(model_card(replace(FACTS, truncate_dim=64, similarity="dot")), "Property")
    assert ["Cut to dimensions, unless told", "64"] in cut
    assert ["Similarity", "dot"] in cut
    assert rows(text, "Software") == [["python", "3.11.7"], ["torch", "2.15.0"]]
    assert ["memory_gb", "128.0"] in rows(text, "Hardware")
    assert "python train_single.py models/kl3m-law/ --set seed=3" in text


def test_the_snippet_is_python_and_uses_prompts_and_sizes():
    text = model_card(replace(FACTS, path='a "quoted" \n path\\'))
    snippet = re.search(r"```python\n(.*?)\n```", text, re.DOTALL)[1]
    calls = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Call)]
    assert [ast.literal_eval(arg) for arg in calls[0].args] == ['a "quoted" \n path\\']
    keywords = [(word.arg, word.value.value) for call in calls for word in call.keywords]
    assert sorted(keywords) == [("prompt_name", "query"), ("truncate_dim", 64)]


def test_the_card_is_the_same_every_time():
    assert model_card(FACTS) == model_card(replace(FACTS))


@pytest.mark.parametrize("value", [1e-05, 1e16, 1.5e300, 0.1, -2.5e-08, 3, 0.0])
def test_every_number_stays_a_number(value):
    data = front_matter(model_card(replace(FACTS, evaluation={"nq/mrr@10": value})))
    assert data.eval_results[0].metric_value == value
    assert type(data.eval_results[0].metric_value) is type(value)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), True, "0.5", [1.0]])
def test_what_is_no_number_is_left_out(value):
    data = front_matter(model_card(replace(FACTS, evaluation={"nq/mrr@10": value})))
    assert data.eval_results is None


HOSTILE = [
    "x: [",
    "a | b \\| c \\",
    "---",
    "\n---\n# Heading\n",
    "```\n## Heading",
    "\n```\n## Heading",
    "![x](http://x)<script>",
    "yes",
    "null",
    "1e5",
    "\u2028\x85\x00\x7f\ufeff\U000e0001",
    "\ud83d half",
    "😀 ünï",
    "& &amp; *b* `c` ~d~ $e$",
    "",
    " ",
    "#",
]


def hostile_facts(text):
    return replace(
        FACTS,
        name=text,
        path=text,
        model_type=text,
        base_model=text,
        init_from=text,
        pooling=text,
        prompts={text: text, "query": text},
        default_prompt_name=text,
        datasets=[CardDataset(name=text, kind="pairs", num_rows=1)],
        settings={"a": text, "b": [text], "c": {"d": text}},
        command=["python", text],
        versions={"python": text},
        hardware={"device": text},
        evaluation={"step": 3, f"{text}/ndcg@10": 0.5, f"x/{text}": 0.5},
    )


def outside_code(text):
    """The lines that are no code."""
    return re.sub(r"(?ms)^(`{3,})\w+\n.*?\n\1$", "", text).split("\n")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_hostile_text_leaves_its_place(text):
    check_in_place(text)
    check_in_place(f"a{text}b")


@settings(max_examples=40)
@given(st.text())
def test_no_text_leaves_its_place(text):
    check_in_place(text)


def check_in_place(text):
    card = model_card(hostile_facts(text))
    kept = text.encode("utf-8", "replace").decode()
    data = front_matter(card)
    assert (data.model_name, data.base_model, data.tags[-1]) == (kept, kept, kept)
    assert kept in [one.dataset_name for one in data.eval_results]

    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    body = card[card.index("\n---\n") + 5 :]
    assert rows(body, "Dataset") == [[shown, "pairs", "1", "-"]]
    assert ["Architecture", shown] in rows(body, "Property")
    assert ["a", shown] in rows(body, "Setting")
    assert rows(body, "Hardware") == [["device", shown]]
    headings = [line for line in outside_code(body) if re.match(r" {0,3}#", line)]
    assert headings[1:] == ["## Usage", "## Training data", "## Results", "## Training"]
    card.encode("utf-8")
