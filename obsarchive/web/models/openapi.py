"""Description of the interface for programs, as OpenAPI 3.1 wants it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from obsarchive import __version__
from obsarchive.web.models.columns import Column

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

OF_SOURCES: dict[str, str] = {
    "name": "how the name begins, or one of the other names",
    **{key: PARAMETERS[key] for key in ("ra", "dec")},
    "radius": "radius of the cone (30 arcsec unless given; at most 30 deg); the nearest come first",
    "unit": PARAMETERS["unit"],
    "project": "project (`project` of /surveys)",
    "state": "`detected`: with events, the strongest first; `failed`: with the reasons",
    **{key: PARAMETERS[key] for key in ("limit", "cursor")},
}
OF_CURVES: dict[str, str] = {
    "project": "project whose results are meant; the newest unless given",
    "observatory": "light curves of this survey",
    "filter": "light curves in this filter",
    "series": "number of a light curve among those of its survey",
}
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
    obs, night = _in_path("obs_id", TEXT), _in_path("night", NIGHT)
    search = _asked(PARAMETERS)
    key = _in_path("key", TEXT)
    star = _asked(OF_A_STAR)
    search.append({"name": "{field}_min, {field}_max", "in": "query", "schema": NUMBER, "description": "any number"})
    return {
        "": _get("What there is", "Index"),
        "/openapi.json": _get("This description", "Index"),
        "/account": _get("The user", "Account"),
        "/nights": _get("Nights with data, the newest first", "Nights"),
        "/nights/{night}": _get("A night and its observations", "Night", night),
        "/nights/{night}/summary": _get("What the plots of a night show", "Summary", night),
        "/observations": _get("Search", "Observations", *search),
        "/observations/{obs_id}": _get("An observation with its pipelines", "Observation", obs),
        "/observations/{obs_id}/header": _get("Header of its first raw frame", "Header", obs),
        "/observations/{obs_id}/products": _get("Its products, raw files and master frames", "Products", obs),
        "/observations/{obs_id}/contrast_curve/{pipeline}": _get(
            "Contrast curve", "ContrastCurve", obs, _in_path("pipeline", TEXT)
        ),
        "/targets/{name}": _get("A target with all its epochs, the newest first", "Target", _in_path("name", TEXT)),
        "/observations/{obs_id}/redo": {"post": _redo(obs)},
        "/observations/{obs_id}/note": {"post": _write("Write a note on an observation", "Note", NOTE, obs)},
        "/notes": {
            "post": _write(
                "Write the same note on several observations",
                "Marked",
                OF_SEVERAL,
            )
        },
        "/jobs": _get("What the daemon does", "Jobs"),
        "/psflib": _get("Stars that nights offer to the PSF library", "Stars"),
        "/datasets": _get("Datasets of time-series photometry", "Datasets"),
        "/datasets/{key}": _get("A dataset", "Dataset", key),
        "/datasets/{key}/lightcurve": _get(
            "Light curve of the target, of a star, or of the star at a position", "LightCurve", key, *star
        ),
        **_of_surveys(),
    }


def _of_surveys() -> Schema:
    name, project = _in_path("name", TEXT), _asked({"project": OF_CURVES["project"]})
    return {
        "/surveys": _get("Projects of surveys with their progress", "Surveys"),
        "/sources": _get("Search for sources of surveys", "Sources", *_asked(OF_SOURCES)),
        "/sources/{name}": _get("A source and what a project made of it", "Source", name, *project),
        "/sources/{name}/lightcurves": _get("Points of its light curves", "SourceCurves", name, *_asked(OF_CURVES)),
    }


def _asked(parameters: Mapping[str, str]) -> list[Schema]:
    return [{"name": name, "in": "query", "schema": TEXT, "description": text} for name, text in parameters.items()]


def _in_path(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _get(summary: str, schema: str, *parameters: Schema) -> Schema:
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    responses = {"200": {"description": summary, "content": answer}, **_problems()}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def _problems() -> Schema:
    """What any address may answer: a wrong parameter, no token, not allowed, nothing there, no database."""
    problem = {"$ref": "#/components/responses/Problem"}
    return {status: problem for status in ("400", "401", "403", "404", "429", "503")}


def _redo(*parameters: Schema) -> Schema:
    body = {**_object({"pipeline": TEXT, "step": TEXT}), "required": ["pipeline"]}
    return {
        "summary": "Request a redo of a pipeline or a step (administrators, scope `change`)",
        "parameters": list(parameters),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}},
        },
        "responses": {"202": {"description": "Noted; the daemon will do it"}, **_problems()},
    }


def _write(summary: str, schema: str, body: Mapping[str, Schema], *parameters: Schema) -> Schema:
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    conflict = {"description": "Another user wrote meanwhile; the answer holds that note"}
    return {
        "summary": f"{summary} (scope `note`)",
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _object(body)}}},
        "responses": {
            "200": {"description": summary, "content": answer},
            **({"409": conflict} if schema == "Note" else {}),
            **_problems(),
        },
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties)}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _schemas(columns: Iterable[Column]) -> Schema:
    anything: Schema = {"type": "object", "additionalProperties": True}
    rows = _list({"$ref": "#/components/schemas/Row"})
    return {
        "Problem": _object({"error": TEXT, "status": WHOLE}),
        "Index": anything,
        "Account": _object({"name": TEXT, "administrator": {"type": "boolean"}, "programs": _list(TEXT)}),
        "Nights": _object({"nights": _list(_object({"night": NIGHT, "observations": WHOLE}))}),
        "Night": _object({"night": NIGHT, "before": NEIGHBOUR, "after": NEIGHBOUR, "observations": rows}),
        "Summary": anything,
        **_observation_schemas(columns, rows, anything),
        "Target": _target(),
        "Note": _object({**NOTE, "author": TEXT, "written": NULLABLE, "earlier": _list(anything)}),
        "Marked": _object({"marked": WHOLE, "unknown": _list(TEXT)}),
        "Jobs": _object(
            {
                "daemon": TEXT,
                **dict.fromkeys(("running", "queued"), _list(anything)),
                "failed": {**_list(anything), "description": "steps without products now: failed, rejected, lacking"},
                "ended": {**_list(anything), "description": "attempts that ended, however their steps stand now"},
            }
        ),
        "Stars": _object({"stars": _list(anything)}),
        "Datasets": _object({"datasets": _list({"$ref": "#/components/schemas/Dataset"})}),
        "Dataset": {**anything, "properties": {"key": TEXT, "target": TEXT, "instrument": TEXT, "filter": TEXT}},
        "LightCurve": _object(
            {"star_id": WHOLE, "ra_deg": NUMBER, "dec_deg": NUMBER, "filter": TEXT, "points": _list(anything)}
        ),
        **_survey_schemas(anything),
    }


def _observation_schemas(columns: Iterable[Column], rows: Schema, anything: Schema) -> Schema:
    row = {
        column.key: {
            **(NUMBER if column.is_number else NULLABLE),
            "description": f"{column.title} [{column.unit}]" if column.unit else column.title,
        }
        for column in columns
    }
    product = _object({"pipeline": TEXT, "name": TEXT, "bytes": WHOLE, "sha256": TEXT, "url": TEXT})
    source = _object(
        {
            "kind": {**TEXT, "enum": ["raw", "master"]},
            "name": TEXT,
            "bytes": {"type": ["integer", "null"], "description": "null: not on disk any more"},
            "sha256": NULLABLE,
            "url": NULLABLE,
        }
    )
    more = {"pipelines": anything, "sources": _list(source), "public_from": NULLABLE, "citation": TEXT}
    return {
        "Row": _object({**row, "url": TEXT}),
        "Observations": _object(
            {
                "count": {**WHOLE, "description": "answers, counted up to 10 001"},
                "count_is_capped": {"type": "boolean"},
                "next": {**NULLABLE, "description": "address of the next page"},
                "remarks": {**_list(TEXT), "description": "how parameters were understood, where that may surprise"},
                "targets_without_result": {**_list(TEXT), "description": "lines of `targets` that found nothing"},
                "observations": rows,
            }
        ),
        "Observation": {"allOf": [{"$ref": "#/components/schemas/Row"}, _object(more)]},
        "Header": _object({"header": _list(_object({"key": TEXT, "value": {}, "comment": TEXT}))}),
        "Products": _object({"products": _list(product), "sources": _list(source)}),
        "ContrastCurve": _object(
            {
                **dict.fromkeys(("separation_arcsec", "contrast_mag", "throughput"), _list(NUMBER)),
                "companions": _list(anything),
            }
        ),
    }


def _survey_schemas(anything: Schema) -> Schema:
    basics = {"name": TEXT, "aliases": _list(TEXT), "ra_deg": NUMBER, "dec_deg": NUMBER, "mag": NUMBER}
    found = {"projects": _list(TEXT), "n_detections": WHOLE, "strongest_snr": NUMBER, "distance_arcsec": NUMBER}
    failures = _list(_object({"where": TEXT, "reason": TEXT}))
    counts = dict.fromkeys(("sources", "analysed", "empty", "failed", "stale", "detections"), WHOLE)
    lists = ("raw_photometry", "lightcurves", "detections", "simulated_detections")
    columns = {"type": "object", "additionalProperties": _list({})}
    facts = {"source": TEXT, "observatory": TEXT, "filter": TEXT, "series_number": WHOLE, "n": WHOLE}
    run = {"type": ["string", "null"], "description": "project whose results these are"}
    return {
        "Surveys": _object(
            {"projects": _list(_object({"project": TEXT, "state": TEXT, "progress": NUMBER, **counts}))}
        ),
        "Sources": _object(
            {
                "count": {
                    **WHOLE,
                    "description": "answers, counted up to 10 001; of cones, events and failures to 5001",
                },
                "count_is_capped": {"type": "boolean"},
                "next": {"type": ["string", "null"], "description": "address of the next page"},
                "sources": _list(_object({**basics, **found, "failures": failures, "url": TEXT})),
            }
        ),
        "Source": _object({**basics, "project": run, **dict.fromkeys(lists, _list(anything)), "properties": anything}),
        "SourceCurves": _object(
            {
                "name": TEXT,
                "project": run,
                "lightcurves": _list(_object({**facts, "columns": columns})),
                "problems": {**_list(TEXT), "description": "what is wrong with light curves that cannot be read"},
            }
        ),
    }


def _target() -> Schema:
    def measured(name: str, unit: str) -> Schema:
        return {f"{name}_{unit}": NUMBER, f"{name}_error_{unit}": NUMBER}

    places = (("separation", "arcsec"), ("position_angle", "deg"), ("delta", "mag"))
    companion = {"label": TEXT} | {key: value for place in places for key, value in measured(*place).items()}
    epoch = {**measured("strehl", "percent"), **measured("fwhm", "arcsec"), "companions": _list(_object(companion))}
    row = {"allOf": [{"$ref": "#/components/schemas/Row"}, _object(epoch)]}
    basics = {"name": TEXT, "names": _list(TEXT), "ra_deg": NUMBER, "dec_deg": NUMBER}
    return _object({**basics, "epochs": _list(row), "page": TEXT})
