#!/usr/bin/env python3
"""Makes helm/pelton/values.schema.json: helm/values.schema.json, and in the place of `config` Pelton's own schema.

usage: values_schema.py [--check]      --check: fails when the file is not current
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART_VALUES = ROOT / "helm/values.schema.json"
PELTON = ROOT / "config/pelton.schema.json"
TARGET = ROOT / "helm/pelton/values.schema.json"
SET_BY_CHART = ("admin", "cache_dir")
PREFIX = "#/$defs/"


def moved(node):
    """Pelton's definitions under names of their own."""
    if isinstance(node, list):
        return [moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: PREFIX + "pelton." + value.removeprefix(PREFIX)
        if key == "$ref" and isinstance(value, str)
        else moved(value)
        for key, value in node.items()
    }


def generate() -> str:
    values = json.loads(CHART_VALUES.read_text())
    pelton = json.loads(PELTON.read_text())
    pelton.pop("$schema", None)
    definitions = pelton.pop("$defs", {})
    for key in SET_BY_CHART:
        pelton["properties"].pop(key)
    reachable = used(pelton, definitions)
    values["$defs"]["config"] = moved(pelton)
    for name in sorted(reachable):
        values["$defs"]["pelton." + name] = moved(definitions[name])
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def used(schema, definitions) -> set[str]:
    """Names of the definitions that a schema refers to, directly or not."""
    found: set[str] = set()
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix(PREFIX)
            if name in definitions and name not in found:
                found.add(name)
                todo.append(definitions[name])
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return found


def main() -> None:
    text = generate()
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != text:
            sys.exit(f"{TARGET.relative_to(ROOT)} is not current: ./dev chart --update")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
