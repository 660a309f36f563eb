"""Small architectures and texts that the encoder's tests share."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig

PAD_ID = 3
VOCAB_SIZE = 50

SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": PAD_ID,
    # Larger than usual, so that scores are far from uniform and every term shows in the result.
    "initializer_range": 0.2,
}
OWN_SETTINGS = {
    "albert": {"embedding_size": 16},
    "deberta-v2": {
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 16,
    },
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "modernbert": {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "local_attention": 8,
        "layer_types": ["full_attention", "sliding_attention"],
    },
}
NOT_FOR_DISTILBERT = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
}


def tiny_config(model_type="deberta-v2", **changes):
    sizes = {
        key: value
        for key, value in SIZES.items()
        if model_type != "distilbert" or key not in NOT_FOR_DISTILBERT
    }
    return AutoConfig.for_model(
        model_type, **{**sizes, **OWN_SETTINGS.get(model_type, {}), **changes}
    )


def tiny_batch(length=24, seed=0):
    """Ids and mask of three sequences: full, padded, and mostly padding."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(PAD_ID + 1, VOCAB_SIZE, (3, length), generator=generator)
    attention_mask = torch.ones(3, length, dtype=torch.bool)
    attention_mask[1, length * 2 // 3 :] = False
    attention_mask[2, length // 5 :] = False
    return input_ids.masked_fill(~attention_mask, PAD_ID), attention_mask


def tiny_tokenizer(folder):
    """Write a word-level tokenizer whose words are "w0" to "w45"."""
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *(f"w{i}" for i in range(VOCAB_SIZE - 4))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", '
        '"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "model_max_length": 16}'
    )
    return tokenizer
