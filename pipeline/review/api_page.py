"""The OpenAPI document as a page of plain HTML: no script, nothing to fetch."""

from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #111; background: #fff }
h2 { margin-top: 2em; border-bottom: 1px solid #777 } code { background: #eee; padding: 0 .2em }
table { border-collapse: collapse } td, th { text-align: left; padding: .1em 1em .1em 0; vertical-align: top }
"""
Schema = dict[str, Any]


def page(document: Schema) -> str:
    """Every path with parameters, body and answers, then the models."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    parts = [*_paths(document["paths"]), *_models(document.get("components", {}).get("schemas", {}))]
    about = 'For programs: <a href="/api/openapi.json">openapi.json</a>.'
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"{head}<body><h1>{title}</h1><p>{about}</p>{''.join(parts)}</body></html>"


def _paths(paths: Schema) -> Iterator[str]:
    for path, methods in paths.items():
        for method, what in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(what.get('description') or what.get('summary', ''))}</p>"
            yield _table(_asked(what))
            yield f"<p>Answers: {', '.join(_answers(what['responses']))}</p>"


def _asked(what: Schema) -> Iterator[tuple[str, str]]:
    for one in what.get("parameters", []):
        needed = "" if one.get("required") else ", optional"
        yield f"{one['name']} ({one['in']}{needed})", _kind(one["schema"])
    for content in what.get("requestBody", {}).get("content", {}).values():
        yield "body", _kind(content["schema"])


def _answers(responses: Schema) -> Iterator[str]:
    for status, answer in responses.items():
        kinds = [_kind(one.get("schema", {})) or escape(name) for name, one in answer.get("content", {}).items()]
        yield f"{status} {' or '.join(kinds)}".strip()


def _models(models: Schema) -> Iterator[str]:
    for name, model in models.items():
        yield f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{escape(model.get("description", ""))}</p>'
        if "enum" in model:
            yield f"<p>One of {', '.join(map(_code, model['enum']))}</p>"
        yield _table((key, _kind(kind)) for key, kind in model.get("properties", {}).items())


def _kind(schema: Schema) -> str:
    """A schema in a few words, a model as a link."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_kind(one) for one in schema[key])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}".strip()
    if "enum" in schema:
        return ", ".join(map(_code, schema["enum"]))
    return escape(str(schema.get("format") or schema.get("type") or schema.get("const") or ""))


def _code(value: Any) -> str:
    return f"<code>{escape(str(value))}</code>"


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><td>{_code(name)}</td><td>{kind}</td></tr>" for name, kind in rows)
    return f"<table>{cells}</table>" if cells else ""
