"""Table Access 1.1: queries in ADQL, answered at once or as jobs (UWS 1.1)."""

from datetime import UTC, datetime
from typing import Any, NoReturn

from flask import Response, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue

from obsarchive.core.documents import utc_now
from obsarchive.store import Document
from obsarchive.web.framework.authorization import for_tokens, reads_by_form
from obsarchive.web.framework.context import portal
from obsarchive.web.vo import answers
from obsarchive.web.vo.adql_parser import QueryError, parse
from obsarchive.web.vo.client import is_public, owner, service_address
from obsarchive.web.vo.datalink import link_service
from obsarchive.web.vo.parameters import Parameters
from obsarchive.web.vo.query_runner import TIME_LIMIT_S, Plan, find_table
from obsarchive.web.vo.tables import EXAMPLES, INDEXED, KEYS, SCHEMAS, TABLES
from obsarchive.web.vo.views import answers_errors, bp, run_query

LANGUAGES = frozenset({"ADQL", "ADQL-2.0", "ADQL-2.1"})
KNOWN = frozenset({"LANG", "QUERY", "FORMAT", "PHASE"})
OF_A_JOB = frozenset({"LANG", "QUERY", "FORMAT", "RESPONSEFORMAT", "MAXREC", "REQUEST", "VERSION", "UPLOAD"})
PARTS = "phase, executionduration, destruction, quote, owner, parameters, error, results"


@bp.route("/tap/sync", methods=["GET", "POST"])
@for_tokens("read")
@reads_by_form
@answers_errors
def tap_sync() -> ResponseReturnValue:
    """Answer a query at once."""
    return _answer(Parameters.of_request())


def _answer(parameters: Parameters) -> Response:
    _check(parameters)
    text = parameters.one("QUERY")
    found = run_query(parse(text), parameters.most_rows())
    has_did = any(column.name == "obs_publisher_did" for column in found.columns)
    services = [link_service()] if has_did else []
    infos = {"QUERY": text, **parameters.unknown(KNOWN)}
    table = answers.ResultTable(found.columns, found.rows, found.overflow, infos, services)
    return table.response(parameters.response_format())


def _check(parameters: Parameters) -> None:
    if parameters.one("REQUEST", "doQuery") != "doQuery":
        raise QueryError("REQUEST: doQuery is served")
    if parameters.one("LANG").upper() not in LANGUAGES:
        raise QueryError("LANG: ADQL is needed")
    if "UPLOAD" in parameters.values:
        raise QueryError("UPLOAD: tables are not taken")
    if not parameters.one("QUERY"):
        raise QueryError("QUERY: a query is needed")
    if not answers.is_known_format(parameters.response_format()):
        raise QueryError(f"FORMAT: {parameters.response_format()[:60]!r} is not served: votable, csv or tsv")
    parameters.most_rows()


@bp.get("/tap/tables")
@bp.get("/tap/tables/<table>")
@for_tokens("read")
def tap_tables(table: str = "") -> ResponseReturnValue:
    """VOSI: the tables and their columns."""
    chosen = [found for found in TABLES.values() if table.lower() in ("", found.name)]
    if not chosen:
        abort(404)
    page = render_template(
        "tap_tables.xml", schemas=SCHEMAS, tables=chosen, single=bool(table), indexed=INDEXED, keys=KEYS
    )
    return Response(page, mimetype="text/xml")


@bp.get("/tap/examples")
@for_tokens("read")
def tap_examples() -> ResponseReturnValue:
    """Return queries for those who begin, as clients show them."""
    return Response(render_template("tap_examples.xhtml", examples=EXAMPLES), mimetype="application/xhtml+xml")


# -- jobs ---------------------------------------------------------------------------------------------------------


@bp.get("/tap/async")
@for_tokens("read")
def tap_jobs() -> ResponseReturnValue:
    """List the jobs of the user; at a public address none, as only who made a job knows of it."""
    found = [] if is_public() else portal().store.query_jobs.of_user(owner())  # several people may share an address
    phases = {value for name, value in request.args.items(multi=True) if name.upper() == "PHASE"}
    jobs = [job for job in found if not phases or job["phase"] in phases]
    return Response(render_template("tap_jobs.xml", jobs=jobs, service_address=service_address), mimetype="text/xml")


@bp.post("/tap/async")
@for_tokens("read")
@answers_errors
def tap_add_job() -> ResponseReturnValue:
    """Add a job, and start it if that is asked for."""
    parameters = Parameters.of_request()
    kept = {name: parameters.one(name) for name in parameters.values.keys() & OF_A_JOB}
    name = portal().store.query_jobs.add(owner(), kept, parameters.one("RUNID")[:200])
    if parameters.one("PHASE").upper() == "RUN":
        _start(_job(name))
    return _to_job(name)


@bp.get("/tap/async/<job>")
@for_tokens("read")
def tap_job(job: str) -> ResponseReturnValue:
    """Describe a job."""
    page = render_template("tap_job.xml", job=_job(job), limit_s=int(TIME_LIMIT_S), service_address=service_address)
    return Response(page, mimetype="text/xml")


@bp.route("/tap/async/<job>", methods=["POST", "DELETE"])
@for_tokens("read")
def tap_delete_job(job: str) -> ResponseReturnValue:
    """Remove a job."""
    found = _job(job)
    if request.method == "POST" and request.values.get("ACTION", "").upper() != "DELETE":
        abort(400, "ACTION=DELETE is understood")
    portal().store.query_jobs.delete(owner(), found["_id"])
    return redirect(service_address("tap_jobs"), 303)


@bp.get("/tap/async/<job>/<part>")
@for_tokens("read")
def tap_job_part(job: str, part: str) -> ResponseReturnValue:
    """Return a part of a job, such as its phase."""
    found = _job(job)
    if part in ("parameters", "results"):
        page = render_template(f"tap_{part}.xml", job=found, service_address=service_address)
        return Response(page, mimetype="text/xml")
    if part == "error":
        if not found.get("problem"):
            _no_such_part()
        return answers.error(found["problem"], 200)
    texts = {
        "phase": found["phase"],
        "executionduration": str(int(TIME_LIMIT_S)),
        "destruction": found["expires"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "quote": "",
        "owner": found["owner"],
    }
    if part not in texts:
        _no_such_part()
    return Response(texts[part], mimetype="text/plain")


@bp.post("/tap/async/<job>/<part>")
@for_tokens("read")
@answers_errors
def tap_change_job(job: str, part: str) -> ResponseReturnValue:
    """Start or abort a job, change its parameters or how long it is kept."""
    found = _job(job)
    sent = {name.upper(): value for name, value in request.values.items()}
    match part:
        case "phase":
            _set_phase(found, sent.get("PHASE", "").upper())
        case "parameters":
            _set_parameters(found, sent)
        case "destruction":
            portal().store.query_jobs.keep_until(owner(), job, _time(sent.get("DESTRUCTION", "")))
        case "executionduration":
            pass  # always the same
        case _:
            _no_such_part()
    return _to_job(job)


@bp.get("/tap/async/<job>/results/result")
@for_tokens("read")
@answers_errors
def tap_result(job: str) -> ResponseReturnValue:
    """Return the answer of a job, of what its owner may see now."""
    found = _job(job)
    if found["phase"] != "COMPLETED":
        abort(404)
    return _answer(_parameters(found))


def _job(name: str) -> Document:
    found = portal().store.query_jobs.find(owner(), name)
    if found is None:
        abort(404)
    return {**found, "owner": ""} if is_public() else found  # which is an address


def _no_such_part() -> NoReturn:
    abort(404, f"a job has {PARTS}")


def _to_job(name: str) -> ResponseReturnValue:
    return redirect(service_address("tap_job", job=name), 303)


def _parameters(job: Document) -> Parameters:
    return Parameters({name: (str(value),) for name, value in job["parameters"].items()})


def _set_phase(job: Document, wanted: str) -> None:
    if wanted == "RUN":
        if job["phase"] != "PENDING":
            raise QueryError(f"a job that is {job['phase']} cannot be started")
        _start(job)
    elif wanted == "ABORT":
        if job["phase"] == "PENDING":
            portal().store.query_jobs.set_fields(owner(), job["_id"], {"phase": "ABORTED", "ended": utc_now()})
    else:
        raise QueryError("PHASE: RUN or ABORT")


def _start(job: Document) -> None:
    """Check the query of a job. It is answered when the answer is fetched, which takes seconds at most."""
    fields: dict[str, Any] = {"phase": "COMPLETED", "started": utc_now()}
    try:
        parameters = _parameters(job)
        _check(parameters)
        query = parse(parameters.one("QUERY"))
        Plan(query, find_table(query.table))
    except QueryError as err:
        fields |= {"phase": "ERROR", "problem": str(err)}
    portal().store.query_jobs.set_fields(owner(), job["_id"], {**fields, "ended": utc_now()})


def _set_parameters(job: Document, sent: dict[str, str]) -> None:
    if job["phase"] != "PENDING":
        raise QueryError(f"a job that is {job['phase']} cannot be changed")
    fields = {f"parameters.{name}": sent[name] for name in sent.keys() & OF_A_JOB}
    if fields:
        portal().store.query_jobs.set_fields(owner(), job["_id"], fields)


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as err:
        raise QueryError(f"DESTRUCTION: a time such as 2030-01-31T12:00:00Z is needed, not {text[:40]!r}") from err
    return found if found.tzinfo else found.replace(tzinfo=UTC)
