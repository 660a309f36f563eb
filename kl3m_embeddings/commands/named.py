"""`NAME=VALUE` on the command line, as in `--data legal=documents.jsonl`."""

from collections.abc import Sequence

from kl3m_embeddings.errors import ConfigError


def named_values(arguments: Sequence[str], usage: str) -> dict[str, list[str]]:
    """The values that each name is given, in order.

    Args:
        arguments: as they were written.
        usage: how to write them, for the error: "--data NAME=PATH".

    Raises:
        ConfigError: one has no name, no value, or no equals sign.
    """
    values: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{argument!r}: write {usage}")
        values.setdefault(name, []).append(value)
    return values


def named_value(arguments: Sequence[str], usage: str) -> dict[str, str]:
    """As `named_values`, for what each name has one of.

    Raises:
        ConfigError: also where a name is given twice.
    """
    values = named_values(arguments, usage)
    if twice := [name for name, given in values.items() if len(given) > 1]:
        raise ConfigError(f"{twice[0]}=...: given twice: write {usage} once for each name")
    return {name: given[0] for name, given in values.items()}
