"""The reference page: the OpenAPI document as one static HTML page, which runs and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may do with the page: nothing but show it."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --code: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; } summary code { font-weight: 600; }
pre { background: var(--code); padding: .8rem; border-radius: 6px; overflow-x: auto; font-size: 13px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .8rem .2rem 0;
border-bottom: 1px solid var(--line); vertical-align: top; } nav a { margin-right: 1rem; }
"""


def page(document: dict[str, Any]) -> str:
    """The page."""
    info = document["info"]
    title = escape(info["title"])
    return "".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',  # else a browser asks for one, which the policy forbids
            f"<style>{_STYLE}</style><h1>{title} {escape(info['version'])}</h1>",
            f"<p>{escape(info['description'])} The machine-readable form is ",
            '<a href="/openapi.json">/openapi.json</a>.</p>',
            *_sections(document),
            "<h2>Schemas</h2>",
            *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
            "</html>",
        ]
    )


def _sections(document: dict[str, Any]) -> Iterator[str]:
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in dict.fromkeys(operation["tags"][0] for _, _, operation in operations):
        yield f"<h2>{escape(tag)}</h2>"
        yield from (_operation(*entry) for entry in operations if entry[2]["tags"][0] == tag)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<details><summary><code>{method} {escape(path)}</code> {escape(operation['summary'])}</summary>"]
    if "description" in operation:
        parts.append(f"<p>{escape(operation['description'])}</p>")
    if operation["parameters"]:
        parts.append("<table><tr><th>parameter<th>where<th>what</tr>")
        parts.extend(_parameter(parameter) for parameter in operation["parameters"])
        parts.append("</table>")
    if "requestBody" in operation:
        parts.append("<h4>Request</h4>" + _content(operation["requestBody"]["content"]))
    for status, answer in operation["responses"].items():
        parts.append(f"<h4>{status} {escape(answer['description'])}</h4>")
        if status < "400":
            parts.append(_content(answer.get("content", {})))
    return "".join([*parts, "</details>"])


def _parameter(parameter: dict[str, Any]) -> str:
    schema = {key: value for key, value in parameter["schema"].items() if key != "examples"}
    what = f"{escape(parameter.get('description', ''))} <code>{escape(json.dumps(schema))}</code>"
    return f"<tr><td><code>{escape(parameter['name'])}</code><td>{escape(parameter['in'])}<td>{what}</tr>"


def _content(content: dict[str, Any]) -> str:
    parts = []
    for media, body in content.items():
        name = body["schema"].get("$ref", "").rpartition("/")[2]
        link = f' <a href="#{escape(name)}">{escape(name)}</a>' if name else ""
        parts.append(f"<p><code>{escape(media)}</code>{link}</p>")
        if "example" in body:
            parts.append(f"<pre>{escape(json.dumps(body['example'], indent=2))}</pre>")
    return "".join(parts)


def _schema(name: str, schema: dict[str, Any]) -> str:
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
        f"{escape(schema.get('description', ''))}</summary><pre>{escape(json.dumps(schema, indent=2))}</pre></details>"
    )
