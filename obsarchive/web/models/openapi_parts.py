"""Parts of the OpenAPI description: plain types, parameters, operations."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": ["number", "null"]}
WHOLE: Schema = {"type": "integer"}
NULLABLE: Schema = {"type": ["string", "null"]}
NEIGHBOUR: Schema = {"type": ["string", "null"], "description": "the nearest night with data; null where there is none"}
NIGHT: Schema = {"type": "string", "pattern": r"^\d{8}$", "description": "night, yyyymmdd"}

PARAMETERS: dict[str, str] = {
    "name": "part of the target's name",
    "id": "part of the observation's name",
    "match": "`exact`: names must be equal",
    "ra": "right ascension of the cone's centre: 10:20:30.5, 10h20m30.5s, or degrees",
    "dec": "declination of the cone's centre",
    "radius": "radius of the cone (30 arcsec unless given)",
    "unit": "unit of the radius: arcsec, arcmin, deg, rad",
    "targets": "names or positions, one per line",
    "program": "programme",
    "camera": "camera",
    "night": "night, yyyymmdd",
    "filter": "filter; may be given several times",
    "date_from": "first start of the observation [UTC]",
    "date_to": "last start of the observation [UTC]",
    "flag": "flag of the Strehl ratio, as `OK` or `BAD?`",
    "classified": "verdict of a pipeline, as `faint`",
    "done": "step that must be done, as `bright_star.strehl`; may be given several times",
    "state": "state of some step",
    "quality": "what people say of it, else of its night: `good`, `doubtful`, `bad`, `unmarked`",
    "sort": "order; a minus before it: descending",
    "limit": "answers on a page, at most 500",
    "cursor": "mark of a page, from `next` of the page before",
}
"""Parameters of a search for observations."""


def asked(parameters: Mapping[str, str]) -> list[Schema]:
    """Return parameters of a query, by their meanings."""
    return [{"name": name, "in": "query", "schema": TEXT, "description": text} for name, text in parameters.items()]


def in_path(name: str, schema: Schema) -> Schema:
    """Return a parameter of a path."""
    return {"name": name, "in": "path", "required": True, "schema": schema}


def get(summary: str, schema: str, *parameters: Schema) -> Schema:
    """Return an operation that reads."""
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    responses = {"200": {"description": summary, "content": answer}, **problems()}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def problems() -> Schema:
    """Return what any address may answer: a wrong parameter, no token, not allowed, nothing there, no database."""
    problem = {"$ref": "#/components/responses/Problem"}
    return {status: problem for status in ("400", "401", "403", "404", "429", "503")}


def write(summary: str, schema: str, body: Mapping[str, Schema], *parameters: Schema) -> Schema:
    """Return an operation that writes what a person says (scope `note`)."""
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    conflict = {"description": "Another user wrote meanwhile; the answer holds what"}
    return {
        "summary": f"{summary} (scope `note`)",
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {"application/json": {"schema": object_of(body)}}},
        "responses": {
            "200": {"description": summary, "content": answer},
            **({"409": conflict} if schema in ("Note", "Decision") else {}),
            **problems(),
        },
    }


def object_of(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object."""
    return {"type": "object", "properties": dict(properties)}


def list_of(schema: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}
