import json
from pathlib import Path

import pytest

from kl3m_embeddings.config.read import apply_overrides, parse_training
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.train.identity import refuse_changes, refuse_differences, run_identity
from tests.tiny_model import TINY_CONFIG

FIELDS = {
    "tokenizer": "x",
    "tasks": {"mlm": {"probability": 0.5}, "nsp": 0.5},
    "data": {"a": {"path": "a"}, "b": {"path": "b"}},
    "optimizer": {"total_steps": 100},
    "precision": "bfloat16",
}
HASHES = {"a": "11", "b": "22"}


def identity_of(*overrides, architecture=TINY_CONFIG, hashes=HASHES, **changes):
    training = parse_training(apply_overrides(FIELDS, overrides), Path("training.json"))
    facts = {"max_length": 32, "world_size": 1, "similarity": "cosine", "base": None} | changes
    return run_identity(training, architecture, hashes, {}, "fp", **facts)


def recorded(*overrides):
    """As it comes back from a manifest."""
    return json.loads(json.dumps(identity_of(*overrides), allow_nan=False))


def test_the_same_settings_go_on():
    refuse_changes(recorded(), identity_of(), "models/x")


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.total_steps=200",
        "optimizer.peak_lr=1e-3",
        "optimizer.scheduler_type=linear",
        "optimizer.max_grad_norm=3",
        "optimizer.max_grad_norm_pct=null",
        "steps_per_eval=7",
        "steps_per_save=7",
        "save.keep_last=9",
        "max_skipped_steps=3",
        "pooling=cls",
        "init_from=y",  # a name: its content is compared
    ],
)
def test_what_may_change_does(override):
    refuse_changes(recorded(), identity_of(override), "models/x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "seed: was 0, is 1"),
        ("batch_size=32", "global_batch_size: was 64, is 32"),
        ("optimizer.gradient_accumulation_steps=2", "gradient_accumulation_steps: was 1, is 2"),
        ("precision=float32", "precision: was 'bfloat16', is 'float32'"),
        ("optimizer.name=muon", "optimizer.name: was 'adamw', is 'muon'"),
        ("tasks.mlm.mask_rate=0.3", "tasks.mlm.mask_rate: was 0.15, is 0.3"),
        ("matroyshka_probability=0.5", "matroyshka_probability: was 0.0, is 0.5"),
        ("optimizer.max_grad_norm_window=200", "optimizer.max_grad_norm_window: was 1000, is 200"),
        ('tasks={"mlm": 1.0}', "tasks.nsp.probability: was 0.5, is None"),
    ],
)
def test_what_would_make_it_another_run_is_refused(override, message):
    with pytest.raises(ConfigError) as raised:
        refuse_changes(recorded(), identity_of(override), "models/x")
    assert message in str(raised.value).splitlines()
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": TINY_CONFIG | {"hidden_size": 64}}, "config.hidden_size: was 32, is 64"),
        ({"hashes": HASHES | {"b": "33"}}, "data.b: was '22', is '33'"),
        ({"hashes": {"a": "11"}}, "data.b: was '22', is None"),
        ({"base": "33"}, "init_from: was None, is '33'"),
        ({"max_length": 16}, "max_length: was 32, is 16"),
        ({"world_size": 2}, "global_batch_size: was 64, is 128"),
        ({"hashes": {"b": "22", "a": "11"}}, "data: was ['a', 'b'], is ['b', 'a']"),
    ],
)
def test_other_data_shapes_or_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError) as raised:
        refuse_changes(recorded(), identity_of(**changes), "models/x")
    assert message in str(raised.value).splitlines()


def test_metadata_of_the_architecture_may_change():
    other = TINY_CONFIG | {"transformers_version": "9.9", "dtype": "bfloat16", "_name_or_path": "y"}
    refuse_changes(recorded(), identity_of(architecture=other), "models/x")


@pytest.mark.parametrize(
    "other",
    [
        TINY_CONFIG | {"bos_token_id": None, "tie_word_embeddings": True},  # the defaults
        {key: TINY_CONFIG[key] for key in TINY_CONFIG if key != "hidden_act"},
        TINY_CONFIG | {"pad_token_id": 3},  # it is the tokenizer's
    ],
)
def test_an_architecture_is_compared_by_what_it_means(other):
    refuse_changes(recorded(), identity_of(architecture=other), "models/x")


def test_a_guide_is_compared_by_its_content_which_the_hashes_of_pairs_hold():
    pairs = {
        "probability": 1.0,
        "loss": {"name": "infonce", "false_negative_margin": 0.1},
        "guide": "here",
    }
    here = identity_of(f"tasks={json.dumps({'pairs': pairs})}")
    there = identity_of(f"tasks={json.dumps({'pairs': pairs | {'guide': 'there'}})}")
    refuse_changes(here, there, "models/x")
    refuse_changes({**here, "tasks.pairs.guide": "here"}, there, "models/x")  # as once recorded


def test_every_difference_is_listed_after_the_remedy():
    with pytest.raises(ConfigError) as raised:
        refuse_changes(recorded(), identity_of("seed=1", "batch_size=1"), "models/x")
    first, *others = str(raised.value).splitlines()
    assert first.startswith("models/x: this run cannot go on with other settings; undo the change")
    assert len(others) == 2


def test_ranks_that_see_different_data_are_told_apart():
    class OfTwo(Ranks):
        """Rank 0 of two; the other has other shards."""

        def gather(self, value):
            return [value, {**value, "data.law": "other"}]

    with pytest.raises(ConfigError, match=r"ranks 0 and 1 do not see the same run \(data\.law\)"):
        refuse_differences(OfTwo(world_size=2), {"step": 4, "data.law": "sha"})
    refuse_differences(Ranks(), {"step": 4})


def test_another_similarity_is_another_run_where_vectors_are_trained():
    by_dot = identity_of('tasks={"crop": 1.0}', similarity="dot")
    with pytest.raises(ConfigError, match="similarity: was 'cosine', is 'dot'"):
        refuse_changes(identity_of('tasks={"crop": 1.0}'), by_dot, "models/x")
    refuse_changes(identity_of(), identity_of(similarity="dot"), "models/x")
