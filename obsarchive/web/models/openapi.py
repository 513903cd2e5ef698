"""Description of the interface for programs, as OpenAPI 3.1 wants it."""

from collections.abc import Iterable, Iterator, Mapping

from obsarchive import __version__
from obsarchive.web.models.columns import Column
from obsarchive.web.models.openapi_schemas import NIGHT, NOTE, NUMBER, TEXT, Schema, object_of, schemas

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
            "schemas": schemas(columns),
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
    body = {**object_of({"pipeline": TEXT, "step": TEXT}), "required": ["pipeline"]}
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
        "requestBody": {"required": True, "content": {"application/json": {"schema": object_of(body)}}},
        "responses": {
            "200": {"description": summary, "content": answer},
            **({"409": conflict} if schema == "Note" else {}),
            **_problems(),
        },
    }
