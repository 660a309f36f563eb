"""Small models of any architecture, as transformers writes them, with a tokenizer of any kind."""

import json

import tokenizers
import torch
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForTextEncoding
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from tests.encoder.tiny import OWN_SETTINGS, SIZES

LETTERS = [chr(code) for code in range(33, 127)]
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
SETTINGS = {
    **SIZES,
    "vocab_size": len(VOCABULARY) + 6,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}
OWN = {
    **OWN_SETTINGS,
    "bart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48},
    "big_bird": {"attention_type": "original_full"},
    "canine": {"num_hash_buckets": 64, "downsampling_rate": 2, "local_transformer_stride": 8},
    "convbert": {"embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3},
    "flaubert": {"emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "funnel": {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48, "block_sizes": [1, 1]},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40},
    "longformer": {"attention_window": 8},
    "mt5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    "nystromformer": {"segment_means_seq_len": 16, "num_landmarks": 4},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roformer": {"embedding_size": 32},
    "squeezebert": {"embedding_size": 32},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    "umt5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "xlnet": {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48, "n_layer": 2},
}

# The first are enough for a change in passing; all are tried among the slow tests.
USUAL = ["bert", "deberta-v2", "longformer", "modernbert", "mpnet", "roberta", "t5", "xlnet"]
RARE = [
    *("albert", "big_bird", "camembert", "data2vec-text", "deberta", "distilbert", "electra"),
    *("ernie", "esm", "eurobert", "flaubert", "gpt2", "ibert", "jina_embeddings_v3", "layoutlm"),
    *("luke", "megatron-bert", "mra", "mt5", "nomic_bert", "rembert", "roberta-prelayernorm"),
    *("roc_bert", "roformer", "splinter", "squeezebert", "umt5", "xlm", "xlm-roberta"),
    *("xlm-roberta-xl",),
]


def tiny_settings(kind):
    """Of an architecture; where it names sizes by other words, those alone."""
    own = OWN.get(kind, {})
    renamed = {"d_model", "emb_dim", "n_embd", "dim"} & set(own)
    kept = {"vocab_size", "pad_token_id", "initializer_range"} if renamed else set(SETTINGS)
    return {key: value for key, value in SETTINGS.items() if key in kept} | own


def write_tokenizer(folder, *, template="[CLS] $A [SEP]", lowercase=True, **config):
    model = models.WordPiece({name: i for i, name in enumerate(VOCABULARY)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in SPECIAL])
    special = [(name, VOCABULARY.index(name)) for name in SPECIAL]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    backend.save(str(folder / "tokenizer.json"))
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | names | config))


def write_model_of_66_tokens(folder):
    """A folder of transformers' that reads 64 tokens and two special ones."""
    write_network(folder, max_position_embeddings=80)
    write_tokenizer(folder, model_max_length=66)
    return folder


def write_network(folder, kind="bert", **changes):
    """The files that transformers writes of a model that it made."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **tiny_settings(kind) | changes)
    auto = AutoModelForMaskedLM if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES else AutoModel
    if kind in ("t5", "mt5", "umt5"):
        auto = AutoModelForTextEncoding
    auto.from_config(config).save_pretrained(folder)
    return folder


def write_sentence_modules(folder):
    """The mean pooling that sentence-transformers makes of a bare folder, written out."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
