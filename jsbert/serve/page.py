"""The page of `/docs`, without scripts and without any outside address."""

import html
import json
from collections.abc import Mapping
from typing import Any

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>jsbert serve</title>
<style>:root { color-scheme: light dark } body { font: 16px/1.5 system-ui; max-width: 60rem;
margin: 2rem auto; padding: 0 1rem } pre { overflow: auto } code { font-size: .9em }</style>
"""


def documentation(openapi: Mapping[str, Any]) -> str:
    """Return the page of `/docs`: every endpoint with the schema of its body, from an OpenAPI
    description."""
    schemas = openapi.get("components", {}).get("schemas", {})
    parts = []
    for path, methods in openapi["paths"].items():
        for method, endpoint in methods.items():
            title = html.escape(f"{method.upper()} {path}")
            parts.append(f"<h2><code>{title}</code></h2>")
            parts.append(f"<p>{html.escape(endpoint.get('description', ''))}</p>")
            content = endpoint.get("requestBody", {}).get("content", {})
            for body in content.values():
                name = body["schema"].get("$ref", "").rpartition("/")[2]
                text = json.dumps(schemas.get(name, body["schema"]), indent=1)
                parts.append(
                    f"<details><summary>body</summary><pre>{html.escape(text)}</pre></details>"
                )
    return (
        f"{HEAD}<h1>Endpoints</h1><p>As OpenAPI: <a href='/openapi.json'>openapi.json</a></p>"
        + "\n".join(parts)
        + "\n"
    )
