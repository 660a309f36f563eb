import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.config.read import load_training, parse_training
from kl3m_embeddings.errors import ConfigError
from tests.config.published import DEEPSPEED, PUBLISHED
from tests.config.tiny_training import PATH, TINY, changed

# every published key, with a value that is not the default
EVERY_OPTIMIZER_KEY = {
    "fused": False,
    "scheduler_type": "exponential_warmup_cooldown",
    "start_lr": 2e-5,
    "peak_lr": 3e-4,
    "end_lr": 2e-6,
    "warmup_steps": 7,
    "peak_steps": 8,
    "total_steps": 900,
    "warmup_factor": 1.5,
    "warmup_steps_per_period": 5,
    "warmup_periods": 6,
    "constant_steps": 9,
    "cooldown_factor": 0.9,
    "cooldown_steps_per_period": 11,
    "cooldown_periods": 12,
    "max_grad_norm": 2.0,
    "max_grad_norm_pct": 95,
    "muon_lr": 0.01,
    "momentum": 0.9,
    "adamw_beta1": 0.8,
    "adamw_beta2": 0.95,
    "adamw_wd": 0.1,
    "gradient_accumulation_steps": 4,
}


def errors_of(fields):
    with pytest.raises(ConfigError) as raised:
        parse_training(fields, PATH)
    return str(raised.value).splitlines()


@pytest.mark.parametrize("deepspeed", [None, *DEEPSPEED])
def test_the_published_files_load_unmodified(deepspeed, tmp_path):
    fields = PUBLISHED | ({"deepspeed": deepspeed} if deepspeed else {})
    path = tmp_path / "training.json"
    path.write_text(json.dumps(fields))
    training = load_training(path)
    assert {name: one.probability for name, one in training.tasks.chosen().items()} == (
        PUBLISHED["tasks"]
    )
    assert training.matroyshka_probability == 0.5
    assert training.matroyshka_min_log2 == 3
    assert training.optimizer.num_steps == 200_000
    assert training.optimizer.max_grad_norm_pct == 90
    assert training.gradient_accumulation_steps == 1
    assert training.deepspeed == deepspeed


def test_every_published_optimizer_key_is_read():
    training = parse_training(changed(optimizer=EVERY_OPTIMIZER_KEY, compile=True), PATH)
    read = training.optimizer.model_dump()
    assert {key: read[key] for key in EVERY_OPTIMIZER_KEY} == EVERY_OPTIMIZER_KEY
    assert training.compile


def test_all_errors_are_reported_at_once_with_the_key_and_the_remedy():
    lines = errors_of(
        {
            "tasks": {"mlm": {"probability": 1.0, "mask_rat": 0.2, "masking": "words"}},
            "optimizer": {"total_steps": 10, "peak_rl": 1e-4, "warmup_steps": "many"},
            "data": {"laws": {"path": "a.jsonl", "wieght": 2}},
            "precision": "fp16",
            "batch_size": 0,
            "matroyshka_probability": 1.5,
            "seed": True,
            "qqq": 1,
        }
    )
    expected = [
        "tasks.mlm.mask_rat: unknown key (did you mean mask_rate?)",
        "tasks.mlm.masking: Input should be 'token', 'word' or 'span' (it is \"words\")",
        "optimizer.peak_rl: unknown key (did you mean peak_lr?)",
        'optimizer.warmup_steps: Input should be a valid integer (it is "many")',
        "data.laws.wieght: unknown key (did you mean weight?)",
        "precision: Input should be 'auto', 'bfloat16', 'float16' or 'float32' (it is \"fp16\")",
        "batch_size: Input should be greater than 0 (it is 0)",
        "matroyshka_probability: Input should be less than or equal to 1 (it is 1.5)",
        "seed: Input should be a valid integer (it is true)",
        "qqq: unknown key (see docs/config.md)",
    ]
    for part in expected:
        assert [line for line in lines if line.startswith(f"{PATH}: {part}")], part
    assert len(lines) == len(expected)


def test_a_tokenizer_is_needed_unless_a_model_brings_one():
    fields = {"optimizer": {"total_steps": 10}}
    with pytest.raises(ConfigError, match="tokenizer: missing, and there is no init_from"):
        parse_training(fields, PATH)
    assert parse_training({**fields, "init_from": "model"}, PATH).tokenizer is None


def test_the_kind_of_a_loss_is_no_part_of_its_key():
    def message_of(loss):
        pairs = {"probability": 1.0, "loss": loss}
        with pytest.raises(ConfigError) as error:
            parse_training(
                {"tokenizer": "t", "optimizer": {"total_steps": 1}, "tasks": {"pairs": pairs}}, PATH
            )
        return str(error.value).removeprefix(f"{PATH}: tasks.pairs.loss")

    assert message_of({"temperatur": 1.0}) == (
        ".temperatur: unknown key (did you mean temperature?)"
    )
    assert message_of("infonc") == ": there is no 'infonc' (did you mean infonce?)"
    assert message_of({"name": "triplet", "margin": 0.0}) == (
        ".margin: Input should be greater than 0 (it is 0.0)"
    )


@pytest.mark.parametrize(
    ("loss", "old", "key"),
    [
        ("triplet", "distance", "similarity"),
        ("margin_mse", "similarity", "similarity"),
        ("infonce", "similarity", "similarity"),
        ("infonce", "seed", "seed"),
    ],
)
def test_a_key_of_the_whole_run_is_named_where_a_section_has_it(loss, old, key):
    """Losses had a `similarity` or `distance` each, before a run had one for all."""
    tasks = {"pairs": {"probability": 1.0, "loss": {"name": loss, old: "dot"}}}
    with pytest.raises(ConfigError) as caught:
        parse_training({"tokenizer": "t", "optimizer": {"total_steps": 1}, "tasks": tasks}, PATH)
    assert str(caught.value) == (
        f"{PATH}: tasks.pairs.loss.{old}: unknown key "
        f"(write {key} at the top of the file: there is one for the whole run)"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": {"mlm": 0.5}}, "tasks: the probabilities sum to 0.5, and must sum to 1"),
        ({"tasks": {}}, "tasks: the probabilities sum to 0, and must sum to 1"),
        ({"tasks": {"mlm": True}}, "tasks.mlm"),
        ({"tasks": {"mlm": "all"}}, "tasks.mlm"),
        ({"tasks": {"mlm": -0.5, "nsp": 1.5}}, "tasks.mlm.probability"),
        ({"tasks": {"mlmm": 1.0}}, "tasks.mlmm: unknown key (did you mean mlm?)"),
        ({"optimizer": {}}, "optimizer: total_steps is missing"),
        ({"optimizer": {"total_steps": 10.5}}, "optimizer.total_steps"),
        ({"optimizer": {"total_steps": 10, "peak_lr": "1e-4"}}, "optimizer.peak_lr"),
        ({"optimizer": {"total_steps": 10, "adamw_beta1": 1.0}}, "optimizer.adamw_beta1"),
        ({"optimizer": {"total_steps": 10, "max_grad_norm_window": 99}}, "max_grad_norm_window"),
        ({"data": {"a": {"path": "x", "weight": 1.0}, "b": {"path": "y"}}}, "missing: ['b']"),
        ({"data": {"a": {}}}, "data.a.path: missing"),
        ({"data": {"a": {"path": "x", "weight": 0}}}, "data.a.weight"),
        ({"matroyshka_probability": float("nan")}, "matroyshka_probability"),
        ({"max_length": 4}, "max_length"),
        ({"save": {"keep_last": 0}}, "save.keep_last"),
        (
            {"tasks": {"crop": {"probability": 1.0, "matryoshka_dims": []}}},
            "tasks.crop: matryoshka_dims: none is named: name sizes, or leave it out",
        ),
        (
            {"tasks": {"ssd": {"probability": 1.0, "matryoshka_dims": [64, 32, 64]}}},
            "tasks.ssd: matryoshka_dims: 64 is named twice: name each size once",
        ),
        (
            {"tasks": {"pairs": {"probability": 1.0, "guide": "x"}}},
            "tasks.pairs: guide: nothing asks it with the loss infonce: give infonce a false_neg",
        ),
        (
            {"tasks": {"pairs": {"probability": 1.0, "guide": "x", "loss": "triplet"}}},
            "tasks.pairs: guide: nothing asks it with the loss triplet",
        ),
        ({"tokenizer": None}, "tokenizer"),
    ],
)
def test_each_error_names_its_key(fields, message):
    lines = errors_of(changed(**fields))
    assert any(message in line for line in lines), lines
    assert all(line.startswith(f"{PATH}: ") for line in lines)


def test_both_spellings_of_matroyshka():
    for spelling in ("matroyshka", "matryoshka"):
        fields = {f"{spelling}_probability": 0.25, f"{spelling}_min_log2": 4}
        training = parse_training(changed(**fields), PATH)
        assert training.matroyshka_probability == 0.25
        assert training.matroyshka_min_log2 == 4


def test_accumulation_may_be_set_in_either_place():
    deepspeed = {"gradient_accumulation_steps": 8}
    assert parse_training(changed(deepspeed=deepspeed), PATH).gradient_accumulation_steps == 8
    optimizer = {"total_steps": 10, "gradient_accumulation_steps": 2}
    both = parse_training(changed(deepspeed=deepspeed, optimizer=optimizer), PATH)
    assert both.gradient_accumulation_steps == 2


def test_nothing_changes_after_reading():
    training = parse_training(TINY, PATH)
    with pytest.raises(ValueError, match="frozen"):
        training.seed = 1


probabilities = st.floats(0, 1)
configs = st.fixed_dictionaries(
    {
        "tokenizer": st.text(min_size=1),
        "optimizer": st.fixed_dictionaries(
            {"total_steps": st.integers(1, 10**9)},
            optional={
                "name": st.sampled_from(["adamw", "muon"]),
                "start_lr": st.floats(0, 1),
                "peak_lr": st.floats(1e-9, 1),
                "max_grad_norm_pct": st.none() | st.floats(1, 100),
                "scheduler_type": st.sampled_from(["linear", "exponential"]),
            },
        ),
    },
    optional={
        "seed": st.integers(0, 2**63),
        "tasks": st.sampled_from([{"mlm": 1.0}, PUBLISHED["tasks"]]),
        "data": st.dictionaries(
            st.text(min_size=1), st.fixed_dictionaries({"path": st.text() | st.lists(st.text())})
        ),
        "matroyshka_probability": probabilities,
        "deterministic": st.none() | st.booleans(),
        "save": st.fixed_dictionaries({}, optional={"keep_every": st.integers(1, 100)}),
        "deepspeed": st.none() | st.dictionaries(st.text(), st.integers() | st.booleans()),
    },
)


@given(configs)
def test_what_is_written_is_read_back(fields):
    training = parse_training(fields, PATH)
    written = json.loads(json.dumps(training.model_dump(mode="json"), allow_nan=False))
    assert parse_training(written, PATH).model_dump() == training.model_dump()
