"""The optimizers that an engine is tried with: fields of training.json by what they are."""

OPTIMIZERS = {
    "adamw fused": {"fused": True},
    "adamw unfused": {"fused": False},
    "muon": {"name": "muon"},
}
