"""Names and numbers as they are shown: nothing read from a file reaches the terminal unwashed."""

import math

NO_VALUE = "-"


def printable(name: object, limit: int = 40) -> str:
    """`name` without control, format or bidirectional characters, cut to `limit` characters."""
    text = str(name)
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: float | int | None, digits: int = 4) -> str:
    """`value` to `digits` significant digits, thousands separated: 2e-4, 3.204, 119,200."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    if value == 0 or isinstance(value, int):
        return f"{int(value):,}"
    if abs(value) < 1e-2 or abs(value) >= 1e12:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def count(value: float | int | None) -> str:
    """A count in three digits: 950, 16.4k, 1.25M, 3.1B."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            scaled = value / (1e3 if suffix == "k" else unit)
            return f"{scaled:.3g}{suffix}" if scaled < 999.5 else f"{scaled:.0f}{suffix}"
    return f"{value:,.0f}"


def counted(quantity: int, noun: str) -> str:
    """A number with its noun: 1 step, 2,000 steps."""
    return f"{quantity:,} {noun}{'' if quantity == 1 else 's'}"


def percent(share: float | int | None) -> str:
    """A share of one as a percentage: 0.5%, 12%, 100%."""
    if share is None or not math.isfinite(share):
        return NO_VALUE
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def duration(seconds: float | int | None) -> str:
    """A time in its two largest units: 41.2 ms, 45 s, 12 min 5 s, 3 h 20 min, 5 d 2 h."""
    if seconds is None or not math.isfinite(seconds):
        return NO_VALUE
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole} s"
