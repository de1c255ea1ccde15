"""Turns a pydantic model into a structural OpenAPI v3.0 schema: no $ref, no anyOf over types, exclusive limits as
booleans.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from typing import Any

from pydantic import BaseModel

from tunesmith.api.base import Schema

_KEPT = (
    *("type", "description", "default", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "minProperties", "maxProperties", "x-kubernetes-int-or-string"),
)


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model, with its rules."""
    generated = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(generated, generated.get("$defs", {}), model)


def _structural(
    node: dict[str, Any], definitions: dict[str, Any], model: type[BaseModel] | None = None
) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        return _structural(
            definitions[name] | {k: v for k, v in node.items() if k != "$ref"}, definitions, _model(name)
        )
    choices = [c for c in node.get("anyOf", node.get("oneOf", ())) if c.get("type") != "null"]
    if len(choices) == 1:
        outer = {k: v for k, v in node.items() if k not in ("anyOf", "oneOf")}
        return _structural(choices[0] | outer, definitions, model)
    result = {key: node[key] for key in _KEPT if node.get(key) is not None}
    if "default" in result:
        result["default"] = _without_nulls(result["default"])
    if "const" in node:
        result["enum"] = [node["const"]]
    for limit in ("Minimum", "Maximum"):
        if f"exclusive{limit}" in node:
            result |= {limit.lower(): node[f"exclusive{limit}"], f"exclusive{limit}": True}
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "properties" in node:
        result["properties"] = {name: _structural(value, definitions) for name, value in node["properties"].items()}
        result |= {"required": node["required"]} if node.get("required") else {}
    if model is not None and issubclass(model, Schema):
        rules = [validation(rule.cel, rule.message, rule.field) for rule in model.all_rules()]
        result |= {"x-kubernetes-validations": rules} if rules else {}
    return _tidy(result)


def _without_nulls(value: Any) -> Any:
    """A default as the API server takes it: it refuses null for a field that is merely optional."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def validation(cel: str, message: str, field: str) -> dict[str, str]:
    """A rule as the API server takes it; the field is relative to the object that the rule is about."""
    path = "".join(f".{part}" for part in field.split(".")) if field else ""
    return {"rule": cel, "message": message} | ({"fieldPath": path} if path else {})


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return schema


def _model(name: str) -> type[BaseModel] | None:
    """The model class that pydantic wrote as the definition `name`."""
    todo: list[type[BaseModel]] = [Schema]
    while todo:
        current = todo.pop()
        if current.__name__ == name:
            return current
        todo += current.__subclasses__()
    return None
