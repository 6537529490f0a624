"""Kubernetes quantities, durations and factors. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIX = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNIT = {"ms": Decimal(1), "s": Decimal(1000), "m": Decimal(60_000), "h": Decimal(3_600_000)}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_FACTOR = re.compile(r"\d{1,2}(?:\.\d{1,6})?", re.ASCII)
_MOST = 2**53


def parse_bytes(value: object) -> int:
    """`64Ki`, `1.5Mi`, `1000` or a whole number → bytes. Raises `ValueError` in words."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a quantity such as 64Ki or 10Mi")
    if isinstance(value, int):
        number = value
    else:
        match = _QUANTITY.fullmatch(value)
        if match is None:
            raise ValueError(f"{value!r} is not a quantity; write it as 64Ki or 10Mi")
        number = int(Decimal(match.group(1)) * _SUFFIX[match.group(2) or ""])
    if not 0 < number <= _MOST:
        raise ValueError("must be more than 0 and at most 8Ti")
    return number


def parse_milliseconds(value: object) -> int:
    """`100ms`, `30s`, `1h30m` → milliseconds. Raises `ValueError` in words."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(
            f"must be a duration with a unit, such as {value}s or {value}ms; {value} alone could be either"
        )
    parts = _PART.findall(value) if isinstance(value, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("must be a duration with a unit, such as 100ms, 30s or 24h")
    total = int(sum((Decimal(number) * _UNIT[unit] for number, unit in parts), Decimal(0)))
    if not 0 < total <= _MOST:
        raise ValueError("must be longer than 0")
    return total


def parse_factor(value: object) -> float:
    """`2`, `1.5` or `"1.5"` → a factor. Raises `ValueError` in words."""
    if isinstance(value, str) and _FACTOR.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10:
        raise ValueError('must be a factor from 1 to 10, such as 2 or "1.5"')
    return float(value)
