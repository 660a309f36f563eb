"""Records of statistics as `stats.json` holds them."""

import math
from dataclasses import fields, is_dataclass

from kl3m_embeddings.report.names import printable

MAX_TEXT_LENGTH = 1000
# Metadata of a field that `stats.json` lacks, where others are null, if it is None or has no items.
LEFT_OUT = {"left_out": True}


def as_plain(value: object) -> object:
    """`value` as strict JSON can hold it, and a terminal show it.

    Records become objects with their fields in order; texts and names lose control characters; a
    number that is not finite becomes None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        found = {one: getattr(value, one.name) for one in fields(value)}
        return {
            one.name: as_plain(item)
            for one, item in found.items()
            if not (one.metadata == LEFT_OUT and item in (None, []))
        }
    match value:
        case dict():
            return {printable(key): as_plain(item) for key, item in value.items()}
        case list():
            return [as_plain(item) for item in value]
        case str():
            return printable(value, MAX_TEXT_LENGTH)
        case float() if not math.isfinite(value):
            return None
    return value
