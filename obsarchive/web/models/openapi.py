"""Description of the interface for programs, as OpenAPI 3.1 wants it."""

from collections.abc import Iterable, Iterator

from obsarchive import __version__
from obsarchive.web.models.columns import Column
from obsarchive.web.models.openapi_parts import (
    NEIGHBOUR,
    NIGHT,
    NULLABLE,
    NUMBER,
    PARAMETERS,
    TEXT,
    WHOLE,
    Schema,
    asked,
    get,
    in_path,
    list_of,
    object_of,
    problems,
    write,
)
from obsarchive.web.models.openapi_surveys import OF_CURVES, paths_of_surveys, survey_schemas

NOTE: dict[str, Schema] = {
    "quality": {"enum": ["good", "doubtful", "bad", ""]},
    "text": {"type": "string", "maxLength": 2000},
    "version": {**WHOLE, "description": "version that was read, 0: none; of the answer: the present one"},
}
OF_SEVERAL = {"ids": {"type": "array", "items": TEXT}, "quality": NOTE["quality"], "text": NOTE["text"]}
OF_A_STAR: dict[str, str] = {
    "star": "number of the star; 0: the target",
    "ra": PARAMETERS["ra"],
    "dec": "declination",
}
_WITHOUT = (
    *(
        "index",
        "document",
        "account",
        "nights",
        "night",
        "summary",
        "observation",
        "header",
        "products",
        "contrast",
        "target",
    ),
    *("target", "redo", "note", "mark", "list_jobs", "psflib", "list_datasets", "dataset", "surveys"),
)
TAKEN: dict[str, frozenset[str]] = {
    **dict.fromkeys(_WITHOUT, frozenset[str]()),
    "lightcurve": frozenset(OF_A_STAR),
    "source": frozenset({"project"}),
    "decide": frozenset({"project"}),
    "source_lightcurves": frozenset(OF_CURVES),
}
"""Parameters that addresses take, by their views; searches check their own."""


def document(title: str, columns: Iterable[Column]) -> Schema:
    """Return the OpenAPI document of the interface for programs.

    Parameters
    ----------
    title : str
        Name of the archive.
    columns : iterable of Column
        Fields of the summary of an observation.

    Returns
    -------
    dict
        The document, version 3.1.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{title}: interface for programs",
            "version": __version__,
            "description": "Everything needs a token with the scope `read` (made on the page of your account), "
            "sent as `Authorization: Bearer <token>`. What belongs to other programmes does not exist. "
            "Times are UTC, angles degrees unless named otherwise.",
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(columns),
            "responses": {
                "Problem": {
                    "description": "What was wrong",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def operations(described: Schema) -> list[Schema]:
    """Return what can be asked for, one entry each, for people to read.

    Parameters
    ----------
    described : dict
        The document.

    Returns
    -------
    list of dict
        With `method`, `path`, `summary`, `parameters` and `fields`: what the answer holds, as names and meanings.
    """
    schemas = described["components"]["schemas"]
    found = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            content = next(iter(operation["responses"].values())).get("content", {})
            answer = content.get("application/json", {}).get("schema", {})
            found.append(
                {
                    "method": method.upper(),
                    "path": described["servers"][0]["url"] + path,
                    "summary": operation["summary"],
                    "parameters": operation["parameters"],
                    "fields": list(_fields(answer, schemas)),
                }
            )
    return found


def _fields(schema: Schema, schemas: Schema, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and meaning of the fields of an answer, those of lists with the name of the list before."""
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for part in schema.get("allOf", ()):
        yield from _fields(part, schemas, before)
    for name, field in schema.get("properties", {}).items():
        yield before + name, _meaning(field)
        if field.get("type") == "array":
            yield from _fields(field["items"], schemas, f"{before}{name}[].")


def _meaning(field: Schema) -> str:
    kinds = field.get("type", "object")
    kind = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    return f"{field['description']} ({kind})" if "description" in field else kind


def _paths() -> Schema:
    obs, night = in_path("obs_id", TEXT), in_path("night", NIGHT)
    search = asked(PARAMETERS)
    key = in_path("key", TEXT)
    star = asked(OF_A_STAR)
    search.append({"name": "{field}_min, {field}_max", "in": "query", "schema": NUMBER, "description": "any number"})
    return {
        "": get("What there is", "Index"),
        "/openapi.json": get("This description", "Index"),
        "/account": get("The user", "Account"),
        "/nights": get("Nights with data, the newest first", "Nights"),
        "/nights/{night}": get("A night and its observations", "Night", night),
        "/nights/{night}/summary": get("What the plots of a night show", "Summary", night),
        "/observations": get("Search", "Observations", *search),
        "/observations/{obs_id}": get("An observation with its pipelines", "Observation", obs),
        "/observations/{obs_id}/header": get("Header of its first raw frame", "Header", obs),
        "/observations/{obs_id}/products": get("Its products, raw files and master frames", "Products", obs),
        "/observations/{obs_id}/contrast_curve/{pipeline}": get(
            "Contrast curve", "ContrastCurve", obs, in_path("pipeline", TEXT)
        ),
        "/targets/{name}": get("A target with all its epochs, the newest first", "Target", in_path("name", TEXT)),
        "/observations/{obs_id}/redo": {"post": _redo(obs)},
        "/observations/{obs_id}/note": {"post": write("Write a note on an observation", "Note", NOTE, obs)},
        "/notes": {
            "post": write(
                "Write the same note on several observations",
                "Marked",
                OF_SEVERAL,
            )
        },
        "/jobs": get("What the daemon does", "Jobs"),
        "/psflib": get("Stars that nights offer to the PSF library", "Stars"),
        "/datasets": get("Datasets of time-series photometry", "Datasets"),
        "/datasets/{key}": get("A dataset", "Dataset", key),
        "/datasets/{key}/lightcurve": get(
            "Light curve of the target, of a star, or of the star at a position", "LightCurve", key, *star
        ),
        **paths_of_surveys(),
    }


def _redo(*parameters: Schema) -> Schema:
    body = {**object_of({"pipeline": TEXT, "step": TEXT}), "required": ["pipeline"]}
    return {
        "summary": "Request a redo of a pipeline or a step (administrators, scope `change`)",
        "parameters": list(parameters),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}},
        },
        "responses": {"202": {"description": "Noted; the daemon will do it"}, **problems()},
    }


def _schemas(columns: Iterable[Column]) -> Schema:
    anything: Schema = {"type": "object", "additionalProperties": True}
    rows = list_of({"$ref": "#/components/schemas/Row"})
    return {
        "Problem": object_of({"error": TEXT, "status": WHOLE}),
        "Index": anything,
        "Account": object_of({"name": TEXT, "administrator": {"type": "boolean"}, "programs": list_of(TEXT)}),
        "Nights": object_of({"nights": list_of(object_of({"night": NIGHT, "observations": WHOLE}))}),
        "Night": object_of({"night": NIGHT, "before": NEIGHBOUR, "after": NEIGHBOUR, "observations": rows}),
        "Summary": anything,
        **_observation_schemas(columns, rows, anything),
        "Target": _target(),
        "Note": object_of({**NOTE, "author": TEXT, "written": NULLABLE, "earlier": list_of(anything)}),
        "Marked": object_of({"marked": WHOLE, "unknown": list_of(TEXT)}),
        "Jobs": object_of(
            {
                "daemon": TEXT,
                **dict.fromkeys(("running", "queued"), list_of(anything)),
                "failed": {**list_of(anything), "description": "steps without products now: failed, rejected, lacking"},
                "ended": {**list_of(anything), "description": "attempts that ended, however their steps stand now"},
            }
        ),
        "Stars": object_of({"stars": list_of(anything)}),
        "Datasets": object_of({"datasets": list_of({"$ref": "#/components/schemas/Dataset"})}),
        "Dataset": {**anything, "properties": {"key": TEXT, "target": TEXT, "instrument": TEXT, "filter": TEXT}},
        "LightCurve": object_of(
            {"star_id": WHOLE, "ra_deg": NUMBER, "dec_deg": NUMBER, "filter": TEXT, "points": list_of(anything)}
        ),
        **survey_schemas(anything),
    }


def _observation_schemas(columns: Iterable[Column], rows: Schema, anything: Schema) -> Schema:
    row = {
        column.key: {
            **(NUMBER if column.is_number else NULLABLE),
            "description": f"{column.title} [{column.unit}]" if column.unit else column.title,
        }
        for column in columns
    }
    product = object_of({"pipeline": TEXT, "name": TEXT, "bytes": WHOLE, "sha256": TEXT, "url": TEXT})
    source = object_of(
        {
            "kind": {**TEXT, "enum": ["raw", "master"]},
            "name": TEXT,
            "bytes": {"type": ["integer", "null"], "description": "null: not on disk any more"},
            "sha256": NULLABLE,
            "url": NULLABLE,
        }
    )
    more = {"pipelines": anything, "sources": list_of(source), "public_from": NULLABLE, "citation": TEXT}
    return {
        "Row": object_of({**row, "url": TEXT}),
        "Observations": object_of(
            {
                "count": {**WHOLE, "description": "answers, counted up to 10 001"},
                "count_is_capped": {"type": "boolean"},
                "next": {**NULLABLE, "description": "address of the next page"},
                "remarks": {**list_of(TEXT), "description": "how parameters were understood, where that may surprise"},
                "targets_without_result": {**list_of(TEXT), "description": "lines of `targets` that found nothing"},
                "observations": rows,
            }
        ),
        "Observation": {"allOf": [{"$ref": "#/components/schemas/Row"}, object_of(more)]},
        "Header": object_of({"header": list_of(object_of({"key": TEXT, "value": {}, "comment": TEXT}))}),
        "Products": object_of({"products": list_of(product), "sources": list_of(source)}),
        "ContrastCurve": object_of(
            {
                "pipeline": TEXT,
                **dict.fromkeys(("separation_arcsec", "contrast_mag", "throughput"), list_of(NUMBER)),
                "companions": list_of(anything),
            }
        ),
    }


def _target() -> Schema:
    def measured(name: str, unit: str) -> Schema:
        return {f"{name}_{unit}": NUMBER, f"{name}_error_{unit}": NUMBER}

    places = (("separation", "arcsec"), ("position_angle", "deg"), ("delta", "mag"))
    companion = {"label": TEXT} | {key: value for place in places for key, value in measured(*place).items()}
    epoch = {**measured("strehl", "percent"), **measured("fwhm", "arcsec"), "companions": list_of(object_of(companion))}
    row = {"allOf": [{"$ref": "#/components/schemas/Row"}, object_of(epoch)]}
    basics = {"name": TEXT, "names": list_of(TEXT), "ra_deg": NUMBER, "dec_deg": NUMBER}
    return object_of({**basics, "epochs": list_of(row), "page": TEXT})
