"""What the answers of the interface for programs hold, as schemas of OpenAPI."""

from collections.abc import Iterable, Mapping
from typing import Any

from obsarchive.web.models.columns import Column

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": ["number", "null"]}
WHOLE: Schema = {"type": "integer"}
NULLABLE: Schema = {"type": ["string", "null"]}
NEIGHBOUR: Schema = {"type": ["string", "null"], "description": "the nearest night with data; null where there is none"}
NIGHT: Schema = {"type": "string", "pattern": r"^\d{8}$", "description": "night, yyyymmdd"}
NOTE: dict[str, Schema] = {
    "quality": {"enum": ["good", "doubtful", "bad", ""]},
    "text": {"type": "string", "maxLength": 2000},
    "version": {**WHOLE, "description": "version that was read, 0: none; of the answer: the present one"},
}


def object_of(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object with these properties."""
    return {"type": "object", "properties": dict(properties)}


def list_of(schema: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def schemas(columns: Iterable[Column]) -> Schema:
    """Return the schemas of all answers, by their names."""
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
                **dict.fromkeys(("separation_arcsec", "contrast_mag", "throughput"), list_of(NUMBER)),
                "companions": list_of(anything),
            }
        ),
    }


def _survey_schemas(anything: Schema) -> Schema:
    basics = {"name": TEXT, "aliases": list_of(TEXT), "ra_deg": NUMBER, "dec_deg": NUMBER, "mag": NUMBER}
    found = {"projects": list_of(TEXT), "n_detections": WHOLE, "strongest_snr": NUMBER, "distance_arcsec": NUMBER}
    failures = list_of(object_of({"where": TEXT, "reason": TEXT}))
    counts = dict.fromkeys(("sources", "analysed", "empty", "failed", "stale", "detections"), WHOLE)
    lists = ("raw_photometry", "lightcurves", "detections", "simulated_detections")
    columns = {"type": "object", "additionalProperties": list_of({})}
    facts = {"source": TEXT, "observatory": TEXT, "filter": TEXT, "series_number": WHOLE, "n": WHOLE}
    run = {"type": ["string", "null"], "description": "project whose results these are"}
    return {
        "Surveys": object_of(
            {"projects": list_of(object_of({"project": TEXT, "state": TEXT, "progress": NUMBER, **counts}))}
        ),
        "Sources": object_of(
            {
                "count": {
                    **WHOLE,
                    "description": "answers, counted up to 10 001; of cones, events and failures to 5001",
                },
                "count_is_capped": {"type": "boolean"},
                "next": {"type": ["string", "null"], "description": "address of the next page"},
                "sources": list_of(object_of({**basics, **found, "failures": failures, "url": TEXT})),
            }
        ),
        "Source": object_of(
            {**basics, "project": run, **dict.fromkeys(lists, list_of(anything)), "properties": anything}
        ),
        "SourceCurves": object_of(
            {
                "name": TEXT,
                "project": run,
                "lightcurves": list_of(object_of({**facts, "columns": columns})),
                "problems": {**list_of(TEXT), "description": "what is wrong with light curves that cannot be read"},
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
