"""What the OpenAPI description says of sources of surveys."""

from obsarchive.web.models.openapi_parts import (
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
    write,
)

OF_SOURCES: dict[str, str] = {
    "name": "how the name begins, or one of the other names",
    **{key: PARAMETERS[key] for key in ("ra", "dec")},
    "radius": "radius of the cone (30 arcsec unless given; at most 30 deg); the nearest come first",
    "unit": PARAMETERS["unit"],
    "project": "project (`project` of /surveys)",
    "state": "`detected`: with events, the strongest first; `failed`: with the reasons",
    **{key: PARAMETERS[key] for key in ("limit", "cursor")},
}
OF_EVENTS: dict[str, str] = {
    "name": OF_SOURCES["name"],
    "project": OF_SOURCES["project"],
    "state": "what people decided: `undecided`, `keep` or `reject`",
    "score_min": "least S/N of the strongest event, without its sign",
    "score_max": "largest S/N of the strongest event",
    "period_min": "shortest period [d]",
    "period_max": "longest period [d]",
    **{key: PARAMETERS[key] for key in ("limit", "cursor")},
}
DECISION: dict[str, Schema] = {
    "verdict": {"enum": ["keep", "reject", "undecided"]},
    "text": {"type": "string", "maxLength": 1000},
    "version": {**WHOLE, "description": "version that was read, 0: none; of the answer: the present one"},
}
OF_CURVES: dict[str, str] = {
    "project": "project whose results are meant; the newest unless given",
    "observatory": "light curves of this survey",
    "filter": "light curves in this filter",
    "series": "number of a light curve among those of its survey",
}


def paths_of_surveys() -> Schema:
    """Return what can be asked of surveys, by address."""
    name, project = in_path("name", TEXT), asked({"project": OF_CURVES["project"]})
    return {
        "/surveys": get("Projects of surveys with their progress", "Surveys"),
        "/sources": get("Search for sources of surveys", "Sources", *asked(OF_SOURCES)),
        "/sources/{name}": get("A source and what a project made of it", "Source", name, *project),
        "/events": get("Sources with events, the strongest first, and decisions", "Events", *asked(OF_EVENTS)),
        "/sources/{name}/decision": {
            "post": write("Decide about a source with events", "Decision", DECISION, name, *project)
        },
        "/sources/{name}/lightcurves": get("Points of its light curves", "SourceCurves", name, *asked(OF_CURVES)),
    }


def survey_schemas(anything: Schema) -> Schema:
    """Return the answers about surveys, by name; `anything` is the schema of an object without a description."""
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
            {
                **basics,
                "project": run,
                **dict.fromkeys(lists, list_of(anything)),
                "decision": {"$ref": "#/components/schemas/Decision"},
                "properties": anything,
            }
        ),
        "Events": _events(),
        "Decision": object_of({**DECISION, "author": TEXT, "written": NULLABLE, "earlier": list_of(anything)}),
        "SourceCurves": object_of(
            {
                "name": TEXT,
                "project": run,
                "lightcurves": list_of(object_of({**facts, "columns": columns})),
                "problems": {**list_of(TEXT), "description": "what is wrong with light curves that cannot be read"},
            }
        ),
    }


def _events() -> Schema:
    decided = {"verdict": DECISION["verdict"], "note": TEXT, "decided_by": NULLABLE, "decided": NULLABLE}
    decided |= {"version": WHOLE, "is_new_event": {"type": "boolean", "description": "not known to who decided"}}
    numbers = dict.fromkeys(("period_d", "score", "mjd_start", "mjd_peak", "mjd_stop", "peak_mag"), NUMBER)
    event = {"name": TEXT, "project": TEXT, **decided, "n_detections": WHOLE, **numbers, "url": TEXT}
    following = {**NULLABLE, "description": "address of the next page"}
    return object_of({"next": following, "events": list_of(object_of(event))})
