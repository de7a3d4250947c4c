#!/usr/bin/env python3
"""JSON schemas for kubeconform without a network: Kubernetes' own, as kubernetes-validate brings them, and those of CRDs.

usage: schemas.py DIRECTORY KUBERNETES_VERSION CRD.yaml…
"""
import json
import pathlib
import sys

import kubernetes_validate
import yaml


def core(directory: pathlib.Path, version: str) -> None:
    """Copies one version. Its `$id` and its references point at a web site: they are made relative."""
    package = pathlib.Path(kubernetes_validate.__file__).parent
    source = package / "kubernetes-json-schema" / f"v{version}-local-strict"
    files = list(source.glob("*.json"))
    if not files:
        sys.exit(f"kubernetes-validate has no schemas of Kubernetes {version}")
    for file in files:
        schema = json.loads(file.read_text().replace('"/api/_definitions.json#', '"_definitions.json#'))
        schema.pop("$id", None)
        (directory / file.name).write_text(json.dumps(schema))


def strict(schema):
    """Kubernetes prunes what a CRD does not name; we refuse it."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def custom(directory: pathlib.Path, file: str) -> None:
    """Under the names that kubeconform asks for: KIND-GROUP-VERSION.json, of the group its first part."""
    for crd in yaml.safe_load_all(pathlib.Path(file).read_text()):
        if not crd or crd["kind"] != "CustomResourceDefinition":
            continue
        kind, group = crd["spec"]["names"]["kind"].lower(), crd["spec"]["group"].split(".")[0]
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            (directory / f"{kind}-{group}-{version['name']}.json").write_text(json.dumps(schema))


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    core(directory, sys.argv[2])
    for file in sys.argv[3:]:
        custom(directory, file)


if __name__ == "__main__":
    main()
