"""DeepSpeed's private names that the engine uses exist in the release that is installed.

Its sources are read, not imported: DeepSpeed in the tests' own process ends it when it forks.
"""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from kl3m_embeddings.engine import deepspeed as engine_module
from kl3m_embeddings.engine import zero_state

pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed")

ZERO = "runtime/zero"
BASE = ("runtime/base_optimizer.py", "runtime/zero/offload_states.py")
WHERE = {
    ("FlatState", "self._optimizer"): (f"{ZERO}/stage_1_and_2.py", *BASE),
    ("SplitState", "self._optimizer"): (f"{ZERO}/stage3.py", *BASE),
    ("SplitState", "coordinator"): (f"{ZERO}/partitioned_param_coordinator.py",),
    ("SplitState", "persistent[0]"): (f"{ZERO}/partition_parameters.py",),
    ("FlatState", "parameter"): ("utils/mixed_precision_linkage.py", "utils/tensor_fragment.py"),
    ("SplitState", "parameter"): (f"{ZERO}/partition_parameters.py",),
    ("DeepSpeedEngine", "self._engine"): ("runtime/engine.py",),
    ("DeepSpeedEngine", "self._optimizer"): (
        f"{ZERO}/stage_1_and_2.py",
        f"{ZERO}/stage3.py",
        *BASE,
    ),
    ("read_loss_scale", "optimizer"): (f"{ZERO}/stage_1_and_2.py", f"{ZERO}/stage3.py", *BASE),
}
OURS_OR_TORCHS = {
    # stage 0: our own ClippedTogether
    ("DeepSpeedEngine", "self._optimizer"): {"max_norm", "result"},
    # of nn.Module and of Tensor
    ("DeepSpeedEngine", "self._engine"): {"train"},
    ("FlatState", "parameter"): {"device"},
    ("SplitState", "parameter"): set(),
}


def used_names(module):
    """The attributes that our code reads of each object of WHERE."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    found = {}
    for owner in tree.body:
        if isinstance(owner, ast.ClassDef | ast.FunctionDef):
            for node in ast.walk(owner):
                if isinstance(node, ast.Attribute):
                    key = (owner.name, ast.unparse(node.value))
                    if key in WHERE:
                        found.setdefault(key, set()).add(node.attr)
    return found


def source_of(path):
    root = Path(find_spec("deepspeed").submodule_search_locations[0])
    return (root / path).read_text(encoding="utf-8")


def defined_names(path):
    """The methods, functions and attributes that a source file defines or sets."""
    names = set()
    for node in ast.walk(ast.parse(source_of(path))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name for one in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


OTHERS = {
    "runtime/zero/muon/muon_optimizer.py": "MuonWithAuxAdam",
    "ops/__init__.py": "__compatible_ops__",
}
"""What the engine takes from its modules."""


USED = {**used_names(zero_state), **used_names(engine_module)}


def test_all_objects_are_looked_at():
    assert USED.keys() == WHERE.keys()


@pytest.mark.parametrize("key", WHERE, ids=lambda key: " ".join(key))
def test_the_names_are_defined(key):
    defined = set().union(*(defined_names(path) for path in WHERE[key]))
    assert USED[key] - OURS_OR_TORCHS.get(key, set()) - defined == set()


@pytest.mark.parametrize(("path", "name"), OTHERS.items())
def test_what_modules_give_is_there(path, name):
    assert name in Path(engine_module.__file__).read_text(encoding="utf-8")
    # one of them is a name that a module's __getattr__ knows
    assert re.search(rf"\b{name}\b", source_of(path))
