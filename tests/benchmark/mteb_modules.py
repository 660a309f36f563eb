"""mteb and what is built on it, imported quietly: it warns, and reseeds every generator."""

import random
import warnings
from types import SimpleNamespace

import numpy as np
import torch


def import_quietly():
    """All that imports mteb, by name; the generators are left as they were."""
    # numpy's old generator is among what mteb seeds
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mteb

        from kl3m_embeddings.benchmark import (
            aggregates,
            candidates,
            evaluate_task,
            local_tasks,
            model,
            named_tasks,
            neighbours,
            request,
            run,
        )
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    return SimpleNamespace(
        mteb=mteb,
        aggregates=aggregates,
        candidates=candidates,
        evaluate_task=evaluate_task,
        local_tasks=local_tasks,
        model=model,
        named_tasks=named_tasks,
        neighbours=neighbours,
        request=request,
        run=run,
    )
