"""What every part of a resource is built from: strict camelCase models, rules, one-of choices.

A rule is written once and checked twice: as CEL by the API server, and by pydantic here, with the same words.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP = "tunesmith.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True)
class Rule:
    """A constraint over several fields of one object."""

    cel: str
    """The constraint for the API server; `self` is the object."""
    message: str
    """What is wrong and what to do, in one sentence; the same in both places."""
    holds: Callable[[Any], bool]
    """The constraint for pydantic; takes the validated object."""
    field: str = ""
    """The field that the message is about, relative to the object, in camelCase; empty for the object itself."""
    where: Literal["everywhere", "cluster"] = "everywhere"
    """`cluster`: `tunesmith run` accepts what the API server and the operator refuse (a local path)."""


class Schema(BaseModel):
    """Base of every part of a resource.

    Fields are snake_case here and camelCase in YAML. Types are strict, as the API server's are: "3" is no integer.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> "Schema":
        for rule in self.all_rules():
            if rule.where == "everywhere" and not rule.holds(self):
                raise PydanticCustomError("rule", "{text}", {"text": rule.message, "field": rule.field})
        return self

    @classmethod
    def all_rules(cls) -> Iterator[Rule]:
        """The rules that are declared for this kind of object."""
        yield from cls.rules

    def members_present(self) -> set[str]:
        """The names in YAML of the fields that have a value."""
        return {
            field.alias or name for name, field in type(self).model_fields.items() if getattr(self, name) is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON-compatible data with camelCase keys; fields that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True)


class Record(Schema):
    """What one program writes for another, such as a status: made by either name of a field, and read tolerantly, so
    that an operator and a trainer of two releases understand each other.
    """

    model_config = ConfigDict(validate_by_name=True, extra="ignore")


def at_most_one(*fields: str) -> Rule:
    """The rule that no two of these optional fields are set; takes names as in YAML."""
    return Rule(
        cel=f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(x, x).size() <= 1",
        message=f"set exactly one of {', '.join(fields)}",
        holds=lambda value: len(value.members_present() & set(fields)) <= 1,
    )


def exactly_one(*fields: str) -> Rule:
    """The rule that one of these optional fields is set and the others are not; takes names as in YAML."""
    listing = ", ".join(fields)
    present = ", ".join(f"has(self.{field})" for field in fields)
    return Rule(
        cel=f"[{present}].filter(x, x).size() == 1" if len(fields) > 1 else f"has(self.{fields[0]})",
        message=f"set exactly one of {listing}" if len(fields) > 1 else f"set {listing}",
        holds=lambda value: len(value.members_present() & set(fields)) == 1,
    )


class OneOf(Schema):
    """A choice by member name: exactly one field is set, or none where that means something."""

    may_be_empty: ClassVar[bool] = False

    @property
    def is_set(self) -> bool:
        """Whether a member is set."""
        return bool(self.members_present())

    @property
    def chosen(self) -> str:
        """The name of the member that is set, as in YAML."""
        (name,) = self.members_present()
        return name

    @classmethod
    def all_rules(cls) -> Iterator[Rule]:
        members = [field.alias or name for name, field in cls.model_fields.items()]
        yield at_most_one(*members) if cls.may_be_empty else exactly_one(*members)
        yield from super().all_rules()
