"""As much of JSON Schema as the schemas of version 2 use."""

import re

_KINDS = {
    "null": type(None),
    "string": str,
    "boolean": bool,
    "integer": int,
    "array": list,
    "object": dict,
}


def _is(value, kind):
    if kind == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, _KINDS[kind])


def problems(value, schema, where="image"):
    """Return what in a value is not as its schema says."""
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(_is(value, kind) for kind in kinds):
            return [f"{where} is {value!r}, not {kinds}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} is {value!r}, none of {schema['enum']}")
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            found.append(f"{where} is too long")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{where} does not match")
    if isinstance(value, list) and "items" in schema:
        for each in value:
            found += problems(each, schema["items"], f"{where}[]")
    if isinstance(value, dict) and "properties" in schema:
        for name, each in value.items():
            inner = schema["properties"].get(name, schema.get("additionalProperties", {}))
            found += problems(each, inner, f"{where}.{name}")
    return found
