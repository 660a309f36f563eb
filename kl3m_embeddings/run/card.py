"""The facts of a run that its checkpoints' model cards state."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.encoder.hardware import describe_hardware, describe_versions
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.files.source import HUB_NAME
from kl3m_embeddings.run.model import RunModel
from kl3m_embeddings.run.sources import RunSources
from kl3m_embeddings.tasks.objective import Objective
from kl3m_embeddings.train.model_card import CardDataset, CardFacts, model_card


def card_writer(
    folder: Path,
    command: Sequence[str],
    training: TrainingConfig,
    model: RunModel,
    sources: RunSources,
    objective: Objective,
    device: torch.device,
) -> Callable[[TrainState], str]:
    """A function that writes the card of a checkpoint."""
    head, init_from = objective.embedding_head, training.init_from
    dims = [one.matryoshka_dims or () for one in training.tasks.embedding().values()]
    settings = training.model_dump(
        mode="json",
        exclude_defaults=True,
        include={"tasks", "batch_size", "precision", "optimizer", "max_length"},
    )
    modules = model.modules
    is_on_hub = init_from and HUB_NAME.fullmatch(init_from) and not Path(init_from).exists()

    def card(state: TrainState) -> str:
        path = folder / f"checkpoint-{state.step}"
        return model_card(
            CardFacts(
                name=folder.resolve().name,
                path=path.as_posix(),
                model_type=model.architecture.model_type,
                num_parameters=sum(p.numel() for p in objective.encoder.parameters()),
                num_layers=int(model.architecture.num_hidden_layers),
                embedding_size=head.embedding_size,
                max_length=model.text_length,
                pooling=head.pooling,
                num_dense=len(head.dense),
                normalise=head.normalise,
                matryoshka_dims=sorted({dim for some in dims for dim in some}, reverse=True),
                similarity=model.compared.similarity,
                prompts=model.prompts,
                default_prompt_name=modules.default_prompt_name,
                truncate_dim=modules.truncate_dim,
                init_from=init_from,
                other_tokenizer=model.base is not None and not model.base.has_tokenizer,
                base_model=init_from if is_on_hub else None,
                datasets=card_datasets(sources),
                step=state.step,
                settings=settings,
                command=["python", *command],
                seed=training.seed,
                versions=describe_versions(),
                hardware=describe_hardware(device),
                evaluation={"step": state.evaluated_step, **state.last_eval}
                if state.last_eval
                else None,
            )
        )

    return card


def card_datasets(sources: RunSources) -> list[CardDataset]:
    """What was trained on, and how much of it there is."""
    text = [
        CardDataset(
            name=one.name, kind="text", num_rows=one.num_documents, num_tokens=one.num_tokens
        )
        for one in (sources.text.shards if sources.text else [])
    ]
    pairs = [
        CardDataset(
            name=one.name, kind="pairs", num_rows=one.num_rows, num_tokens=one.texts.num_tokens
        )
        for one in sources.pairs.sets
    ]
    return text + pairs
