"""The permission matrix: every route, for everybody, on what is his and what is not.

A route that has no decision here fails, and so does one whose answer differs from its decision.
"""

from dataclasses import dataclass

import pytest
from toy_archive import EARLIER, NIGHT
from visitors import PASSWORD

from obsarchive.web.framework.authorization import OPEN, PUBLIC, SCOPES, WITHOUT_USER, digest_of

PERSON = "whoever is logged in"
OWN = "those who may see the observation, dataset or source"
NIGHT_OWN = "those with data in the night"
ADMIN = "administrators"
ADMIN_OWN = "administrators, on observations that there are"
OWN_JOB = "those who made the job, which not even administrators are"
ABSENT = "nobody: the configuration of the tests has no survey service and no sky viewer"

DECISIONS = {
    **dict.fromkeys(OPEN | WITHOUT_USER, "anybody"),  # what watches the archive: test_monitoring.py
    **dict.fromkeys(PUBLIC, "anybody"),  # nothing is public here: test_public.py
    "auth.logout": PERSON,
    "auth.confirm": PERSON,
    "auth.check_confirmation": PERSON,
    "account.account": PERSON,
    "account.change_password": PERSON,
    "account.end_sessions": PERSON,
    "account.add_token": PERSON,
    "account.revoke_token": PERSON,
    "account.add_watch": PERSON,
    "account.remove_watch": PERSON,
    "account.start_two_step": PERSON,
    "account.confirm_two_step": PERSON,
    "account.end_two_step": PERSON,
    "nights.home": PERSON,
    "nights.pick": PERSON,
    "nights.calendar": PERSON,
    "nights.night": PERSON,
    "nights.downloads": PERSON,
    "nights.pulse": PERSON,
    "nights.product": NIGHT_OWN,
    "nights.redo": ADMIN,
    "tonight.tonight": PERSON,
    "summary.summary": NIGHT_OWN,
    "summary.copy_calibration": ADMIN,
    "summary.redo_high_contrast": ADMIN,
    "observations.observation": OWN,
    "observations.step": OWN,
    "observations.product": OWN,
    "observations.tarball": OWN,
    "observations.raw": OWN,
    "observations.pulse": OWN,
    "observations.redo": ADMIN_OWN,
    "observations.redo_step": ADMIN_OWN,
    "viewer.view": OWN,
    "viewer.sky": ABSENT,
    **dict.fromkeys(("sky_view.library", "sky_view.observation", "sky_view.target"), ABSENT),  # test_sky_view.py
    "search.search": PERSON,
    "search.export": PERSON,
    "downloads.night": NIGHT_OWN,
    "downloads.observation": OWN,
    "downloads.selection": PERSON,
    "library.psflib": PERSON,
    "targets.target": OWN,
    "targets.close_up_picture": OWN,
    "api.target": OWN,
    "notes.on_observation": OWN,
    "notes.on_night": NIGHT_OWN,
    "notes.on_selection": PERSON,
    "api.note": OWN,
    "api.mark": PERSON,
    "library.change": ADMIN,
    "datasets.datasets": PERSON,
    "datasets.now": PERSON,
    "datasets.dataset": OWN,
    "datasets.product": OWN,
    "datasets.redo": ADMIN_OWN,
    "datasets.lightcurves": PERSON,
    "datasets.export": PERSON,
    "star_comparison.compare": PERSON,
    "sources.sources": PERSON,
    "sources.now": PERSON,
    "sources.source": OWN,
    "sources.export": OWN,
    "source_comparison.compare": PERSON,
    "triage.events": PERSON,
    "triage.counts": PERSON,
    "triage.export": PERSON,
    "triage.decide": OWN,
    "triage.thumbnail": OWN,
    "sources.sky": ABSENT,
    "sources.matches": ABSENT,
    "jobs.jobs": PERSON,
    "jobs.now": PERSON,
    "jobs.pulse": PERSON,
    "jobs.redo_all": ADMIN,
    "jobs.log": ADMIN,
    "programmes.programmes": PERSON,
    "programmes.programme": OWN,
    "programmes.change": ADMIN,
    **dict.fromkeys((f"help.{view}" for view in ("contents", "page", "picture", "product", "api", "program")), PERSON),
    "users.users": ADMIN,
    "users.add": ADMIN,
    "users.invite": ADMIN,
    "users.change_programs": ADMIN,
    "users.end_sessions": ADMIN,
    "users.end_two_step": ADMIN,
    "users.remove": ADMIN,
    "api.index": PERSON,
    "api.document": PERSON,
    "api.account": PERSON,
    "api.nights": PERSON,
    "api.night": NIGHT_OWN,
    "api.summary": NIGHT_OWN,
    "api.observations": PERSON,
    "api.observation": OWN,
    "api.header": OWN,
    "api.products": OWN,
    "api.contrast": OWN,
    "api.redo": ADMIN_OWN,
    "api.list_jobs": PERSON,
    "api.psflib": PERSON,
    "api.list_datasets": PERSON,
    "api.dataset": OWN,
    "api.lightcurve": OWN,
    "api.surveys": PERSON,
    "api.sources": PERSON,
    "api.events": PERSON,
    "api.decide": OWN,
    "api.source": OWN,
    "api.source_lightcurves": OWN,
    "vo.scs": PERSON,
    "vo.images": PERSON,
    "vo.capabilities": PERSON,
    "vo.availability": PERSON,
    "vo.links": PERSON,
    "vo.cutout": OWN,
    "vo.log": OWN,
    "vo.tap_sync": PERSON,
    "vo.tap_tables": PERSON,
    "vo.tap_examples": PERSON,
    "vo.tap_jobs": PERSON,
    "vo.tap_add_job": PERSON,
    "vo.tap_job": OWN_JOB,
    "vo.tap_delete_job": OWN_JOB,
    "vo.tap_job_part": OWN_JOB,
    "vo.tap_change_job": OWN_JOB,
    "vo.tap_result": OWN_JOB,
}
BODIES = {
    "api.redo": {"pipeline": "bright_star"},
    "api.note": {"quality": "bad"},
    "api.mark": {"ids": [], "quality": "bad"},
    "api.decide": {"verdict": "keep", "version": 0},
}
FORMS = {
    "notes.on_observation": {"quality": "bad", "version": "0"},
    "notes.on_night": {"quality": "bad", "version": "0"},
    "notes.on_selection": {"quality": "bad"},
    "triage.decide": {"verdict": "keep", "version": "0"},
    "auth.check_confirmation": {"password": PASSWORD},
    "account.change_password": {"current": "wrong"},
    "account.revoke_token": {"token": "none"},
    "users.add": {"name": "kim"},
    "users.invite": {"name": "pia"},
    "users.change_programs": {"name": "pia"},
    "users.end_sessions": {"name": "pia"},
    "users.end_two_step": {"name": "pia"},
    "users.remove": {"name": "pia"},
}
REFUSED = {401, 403, 404}
LEADING_ON = {"vo.tap_add_job", "vo.tap_delete_job", "vo.tap_change_job"}
"""Routes of jobs, whose answer is where to look next, as their standard wants it."""
ABOUT_SOMETHING = ("/observation/", "/calibration/", "/log/", "/soda", "/async/")
"""What addresses of public data hold that name an observation, a night or a job."""
FOR_PROGRAMS = ("/api/", "/vo/", "/public/vo/")


@dataclass(frozen=True)
class Route:
    endpoint: str
    method: str
    address: str


QUERIES = {
    "vo.scs": "?RA=155.1&DEC=0&SR=1",
    "help.product": "?name=100p.fits",
    "vo.tap_sync": "?LANG=ADQL&QUERY=SELECT+TOP+1+obs_id+FROM+ivoa.obscore",
    "vo.tap_delete_job": "?ACTION=DELETE",
    "vo.tap_change_job": "?PHASE=ABORT",
}


def query_of(app, endpoint: str, obs_id: str) -> str:
    endpoint = endpoint.replace("public_vo.", "vo.")
    if endpoint == "vo.cutout":
        return f"?ID=ivo://archiver/{app.settings.database.db}%3F{obs_id}/bright_star/100p.fits"
    return QUERIES.get(endpoint, "")


def job_of(app, owner: str) -> str:
    job = app.store.query_jobs.add(owner, {"LANG": "ADQL", "QUERY": "SELECT TOP 1 obs_id FROM ivoa.obscore"}, "")
    app.store.query_jobs.set_fields(owner, job, {"phase": "COMPLETED"})
    return job


def routes(app, obs_id: str, night: str, program: str, owner: str = "") -> list[Route]:
    found = []
    owner = owner or {"3": "ana", "4": "ben"}[program]
    for rule in app.url_map.iter_rules():
        is_of_night = rule.endpoint.startswith(("nights.", "summary.", "notes.on_night"))
        is_of_dataset = rule.endpoint.startswith("datasets.")
        is_of_source = rule.endpoint.startswith(("sources.", "triage.", "api.source", "api.decide"))
        source = {"3": "ANA 1", "4": "BEN 1"}[program]
        target = {"3": "hd 140283", "4": "351 yrsa"}[program]
        product = "rms.png" if is_of_dataset else "preview/dark_6.png" if is_of_night else "100p.fits"
        raw = f"{obs_id}.fits.bz2"
        names = {"targets.target": target, "api.target": target, "observations.raw": raw}
        names |= {"help.page": "bright_star", "help.picture": "night.png"}
        values = {
            "folder": "pipelines",
            "key": next(found["_id"] for found in app.store.datasets.visible([program])),
            "night": night,
            "obs_id": obs_id,
            "program": program,
            "form": "csv" if rule.endpoint.endswith(".export") else "sh",
            "pipeline": "calib" if is_of_night else "bright_star",
            "step": "reduce",
            "name": names.get(rule.endpoint, source if is_of_source else product),
            "what": "add",
            "filename": "archiver.css",
            "version": "1",
            "service": "tap",
            "part": "phase",
            "table": "ivoa.obscore",
        }
        query = query_of(app, rule.endpoint, obs_id)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            values["job"] = job_of(app, owner) if "job" in rule.arguments else ""
            with app.test_request_context():
                address = app.url_for(rule.endpoint, **{name: values[name] for name in rule.arguments})
            found.append(Route(rule.endpoint, method, address + query))
    return found


def test_every_route_has_a_decision(app) -> None:
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == DECISIONS.keys()


def test_nobody_gets_anything_without_a_login(app, archive, sources, anybody) -> None:
    for route in routes(app, archive.own, NIGHT, "3"):
        answer = anybody.client.open(route.address, method=route.method)
        if route.endpoint in OPEN | WITHOUT_USER:
            assert answer.status_code in (200, 302, 400, 503), route
        elif route.endpoint in PUBLIC:
            is_about_something = any(part in route.address for part in ABOUT_SOMETHING)
            expected = 404 if is_about_something else 303 if route.endpoint == "public_vo.tap_add_job" else 200
            assert answer.status_code == expected, route
        elif route.method == "GET" and not route.address.startswith(FOR_PROGRAMS):
            assert answer.status_code == 302, route
            assert answer.location.startswith("/login")
        else:
            assert answer.status_code == 401, route
    assert anybody.get("/no/such/page").status_code == 302


def _answers(app, person, obs_id: str, night: str, program: str) -> dict[str, int]:
    """Open every route; logging out comes last."""
    found = {}
    token = person.token("/account")
    chosen = [route for route in routes(app, obs_id, night, program) if DECISIONS[route.endpoint] != "anybody"]
    for route in sorted(chosen, key=lambda route: route.endpoint == "auth.logout"):
        fields = {"csrf_token": token, "observation": obs_id, **FORMS.get(route.endpoint, {})}
        kept = {"headers": {"X-CSRFToken": token}}
        if route.endpoint in BODIES:
            answer = person.client.post(route.address, json=BODIES[route.endpoint], **kept)
        elif route.method == "GET":
            answer = person.client.get(route.address)
        else:
            answer = person.client.post(route.address, data=fields)
        answer.get_data()
        found[f"{route.method} {route.endpoint}"] = answer.status_code
    return found


@pytest.mark.parametrize("who", ["ana", "ben", "admin"])
@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_the_matrix(app, archive, sources, as_user, who: str, whose: str) -> None:
    """Programme 3 is Ana's, 4 is Ben's; the earlier night is Ana's alone."""
    obs_id, night, program = {
        "own": (archive.own, EARLIER, "3"),
        "foreign": (archive.foreign, NIGHT, "4"),
    }[whose]
    may_see = who == "admin" or (who == "ana") == (whose == "own")
    archive.toy.reduced(archive.earlier)  # else there is nothing to download
    archive.toy.calibration(EARLIER, [archive.own])
    for name, status in _answers(app, as_user(who), obs_id, night, program).items():
        decision = DECISIONS[name.split()[1]]
        has_night = may_see or (night == NIGHT and name.split()[1] != "downloads.night")
        allowed = {
            PERSON: True,
            OWN: may_see,
            NIGHT_OWN: has_night,
            ADMIN: who == "admin",
            ADMIN_OWN: who == "admin",
            OWN_JOB: may_see and who != "admin",
            ABSENT: False,
        }[decision]
        if name in ("POST account.revoke_token", "GET observations.product") and status == 404 and not allowed:
            continue
        if name == "POST account.revoke_token":
            assert status == 404, "there is no such token"
        elif allowed:
            assert status not in REFUSED | {500}, (name, status)
        else:
            assert status == 404, (name, status)


def _with_token(app, who: str, *scopes: str):
    token = f"arc_{who}_{'_'.join(scopes)}"
    from datetime import timedelta

    app.store.tokens.add(digest_of(token), who, "test", scopes, timedelta(days=1))
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_what_its_scope_names_and_nothing_else(app, archive, sources, scope) -> None:
    client, headers = app.test_client(), _with_token(app, "admin", scope)
    archive.toy.real_image(archive.own)
    for route in routes(app, archive.own, NIGHT, "3", "admin"):
        if route.endpoint in WITHOUT_USER or DECISIONS[route.endpoint] == ABSENT:
            continue
        body = BODIES.get(route.endpoint)
        answer = client.open(route.address, method=route.method, headers=headers, json=body)
        answer.get_data()
        wanted = getattr(app.view_functions[route.endpoint], "token_scope", None)
        if route.endpoint.startswith("public_vo."):
            assert answer.status_code in (200, 303, 404), "no token is looked at"
        elif wanted == scope:
            leads_on = route.endpoint in LEADING_ON
            assert answer.status_code in ((303,) if leads_on else (200, 202)), route
        else:
            assert answer.status_code == 403, route


@pytest.mark.parametrize("who", ["ana", "ben"])
def test_a_token_sees_what_its_owner_sees(app, archive, sources, who) -> None:
    client, headers = app.test_client(), _with_token(app, who, "read", "download")
    for obs_id, owner in ((archive.own, "ana"), (archive.foreign, "ben")):
        for address in (f"/api/v1/observations/{obs_id}", f"/observation/{obs_id}/product/bright_star/100p.fits"):
            assert client.get(address, headers=headers).status_code == (200 if who == owner else 404)
    for name, owner in ((sources.ana, "ana"), (sources.ben, "ben")):
        for address in (f"/api/v1/sources/{name}", f"/source/{name}/export/csv"):
            assert client.get(address, headers=headers).status_code == (200 if who == owner else 404)
    listed = client.get("/api/v1/observations", headers=headers).json["observations"]
    assert (archive.own in str(listed)) == (who == "ana")
    assert (archive.foreign in str(listed)) == (who == "ben")


def test_bad_tokens_are_refused_and_slowed_down(app, archive) -> None:
    client = app.test_client()
    answers = [client.get("/api/v1", headers={"Authorization": f"Bearer x{i}"}).status_code for i in range(40)]
    assert set(answers[:30]) == {401}
    assert answers[-1] == 429
    assert "WWW-Authenticate" in app.test_client().get("/api/v1").headers


def test_a_token_ends_with_its_user_and_when_it_is_revoked(app, archive, as_user) -> None:
    client, headers = app.test_client(), _with_token(app, "ana", "read")
    assert client.get("/api/v1/account", headers=headers).json["name"] == "ana"
    as_user("admin").post("/users/remove", name="ana")
    assert client.get("/api/v1/account", headers=headers).status_code == 401
