"""Kubernetes quantities: `500m` CPUs, `64Gi` of memory.

Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_FACTORS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3)}
_FACTORS |= {unit: Decimal(1000) ** (i + 2) for i, unit in enumerate("MGTPE")}
_FACTORS |= {f"{unit}i": Decimal(1024) ** (i + 1) for i, unit in enumerate("KMGTPE")}


def parse_quantity(text: str) -> Decimal:
    """The number that a quantity stands for, in base units (CPUs, bytes, pieces).

    Raises:
        ValueError: `text` is not a quantity.
    """
    match = re.match(_PATTERN, text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write it as 500m, 4, 64Gi")
    unit = match.group(2) or ""
    return Decimal(text.removesuffix(unit)) * _FACTORS[unit]


def _normalise(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or re.match(_PATTERN, value) is None:
        raise PydanticCustomError("quantity", "should be a quantity such as 500m, 4 or 64Gi")
    return value


Quantity = Annotated[
    str,
    BeforeValidator(_normalise),
    Field(max_length=20),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _PATTERN}),
]
"""A quantity; YAML numbers are taken as Kubernetes takes them."""
