"""A night of all kinds of targets through the daemon: every pipeline does its part, and they follow each other."""

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from obsarchive.core.document_types.nights import MasterDocument, NightDocument
from obsarchive.core.document_types.observations import ObservationDocument
from obsarchive.database.embedded_mongod import Server
from obsarchive.io.psf_library import PsfLibrary
from obsarchive.simulation import night as demo
from obsarchive.simulation.night import NightPlan, Target
from obsarchive.simulation.scenes import Scene, Star, planetary_disc
from tests.daemon.conftest import CONFIG, Site
from tests.document_checks import declared, held, validate
from tests.services import running_services

NIGHT = "20260314"
SHAPE = (256, 256)
SINGLE = Scene((Star(),), zero_flux_e=6e4)
COMPANION = Star(0.6, -0.65, 4.0)
AT_THE_EDGE = Star(-1.3, 1.1, 3.2)
"""On the border of the stamps of references, where only the margin of the star itself shows it well."""
PLAN = NightPlan(
    NIGHT,
    (
        Target("1", "alone", "Si", SINGLE, n_frames=40, shape=SHAPE),
        Target("1", "lonely", "Si", SINGLE, n_frames=40, shape=SHAPE),
        Target("1", "solo", "Si", SINGLE, n_frames=40, shape=SHAPE),
        Target("1", "double", "Si", Scene((Star(), COMPANION), zero_flux_e=6e4), n_frames=40, shape=SHAPE),
        Target("1", "wide", "Si", Scene((Star(), AT_THE_EDGE), zero_flux_e=6e4), n_frames=40, shape=SHAPE),
        Target("1", "faint", "Si", Scene((Star(),), zero_flux_e=1200), 60, SHAPE, magnitude=14.0),
        Target("24", "Neptune", "Si", Scene((), extended=120 * planetary_disc(40, 96, 1)), n_frames=40, shape=SHAPE),
    ),
    n_darks=10,
    n_flats=5,
    dark_frames=4,
    flat_frames=1,
    n_seeing=3,
    detector=SHAPE,
    seed=31,
)
PIPELINES = [
    {"class": "pipelines.night.Calibration"},
    {"class": "pipelines.seeing.Seeing"},
    {"class": "pipelines.bright_star.BrightStar", "when": "science_program.program_id not in ['24']"},
    {"class": "pipelines.faint_star.FaintStar", "when": "magnitude > 12"},
    {"class": "pipelines.extended_object.ExtendedObject", "when": "science_program.program_id in ['24']"},
    {"class": "pipelines.psf_library.PsfCandidates"},
    {"class": "pipelines.summary.StrehlSummary"},
    {"class": "pipelines.summary.ContrastSummary"},
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mongo_server: Server, scheduler: str) -> Site:
    made = Site(tmp_path_factory.mktemp("whole") / "site")
    demo.write_night(made.folder / "raw", PLAN)
    made.config_file.write_text(json.dumps({**CONFIG, "pipelines": PIPELINES}))
    made.change(**running_services(mongo_server, scheduler))
    (made.folder / "said.txt").write_text(made.run("--once"))
    return made


def manifest(site: Site, target: str, step: str) -> dict:
    pipeline, name = step.split(":")
    observation = site.observation(target)
    return json.loads((site.layout.observation(NIGHT, observation) / pipeline / f".{name}.json").read_text())


def summary(site: Site, name: str) -> dict:
    return json.loads((site.layout.night(NIGHT) / "summary" / f".{name}.json").read_text())


def test_single_stars_come_into_the_library_and_double_ones_do_not(site: Site) -> None:
    members = {entry.observation for entry in PsfLibrary.read(site.layout).entries}
    assert members >= {site.observation(name) for name in ("alone", "lonely", "solo")}
    assert not members & {site.observation("double"), site.observation("wide")}


def test_every_step_runs_once_and_every_tarball_is_written_once(site: Site) -> None:
    with site.store() as store:
        jobs = store.jobs.recent(limit=1000)
        observations = list(store.database["objects"].find())
    runs = Counter((job["subject"], job["pipeline"], job["step"]) for job in jobs)
    assert set(runs.values()) == {1}, runs.most_common(5)
    assert {path[2] for path in runs} >= {"pca", "deconvolve", "preview", "candidates", "strehl", "contrast_curve"}
    assert (site.folder / "said.txt").read_text().count(": packed") == len(observations) == len(PLAN.targets)
    done = {name: block["status"]["done"] for o in observations for name, block in o["pipelined"].items()}
    assert done == dict.fromkeys(done, True)


def test_the_companion_is_found_once_there_are_references(site: Site) -> None:
    """The high-contrast step waited for the library that the night itself filled."""
    results = manifest(site, "double", "bright_star:pca")["results"]
    assert results["n_references"] >= 3
    found = results["detections"][0]
    assert found["separation_arcsec"] == pytest.approx(COMPANION.separation_arcsec, abs=0.012)
    assert found["position_angle_deg"] == pytest.approx(COMPANION.position_angle_deg, abs=0.8)
    assert found["delta_mag"] == pytest.approx(4.0, abs=0.2)
    assert manifest(site, "alone", "bright_star:pca")["results"]["detections"] == []


def test_the_planet_is_deconvolved_with_a_star_of_the_night(site: Site) -> None:
    results = manifest(site, "Neptune", "extended_object:deconvolve")["results"]
    assert f"_{NIGHT}_" in results["psf"]
    assert results["lacks_references"] == ""


def test_faint_stars_go_through_their_pipeline(site: Site) -> None:
    assert manifest(site, "faint", "faint_star:reduce")["results"]["frames_used"] > 40


def test_seeing_is_right_and_shared(site: Site) -> None:
    frames = summary(site, "measure")["results"]["frames"]
    truth = [1.1, 1.15, 1.2]
    assert [frame["fwhm_arcsec"] for frame in frames] == pytest.approx(truth, rel=0.04)
    document = json.loads((site.layout.observation(NIGHT, site.observation("solo")) / ".observation.json").read_text())
    assert document["seeing"]["median_arcsec"] == pytest.approx(1.15, rel=0.04)


def test_summaries_hold_every_observation(site: Site) -> None:
    folder = site.layout.night(NIGHT) / "summary"
    for name in ("strehl", "contrast_curve"):
        assert (folder / f"{name}.{NIGHT}.png").stat().st_size > 5000
    assert len(summary(site, "strehl")["results"]["ratios"]) >= 5
    assert len(summary(site, "contrast_curve")["results"]["observations"]) >= 4
    assert Path(folder / "seeing" / f"seeing.{NIGHT}.txt").read_text().count("\n") == 4


NOT_OF_A_RUN = {
    ("StepDocument", "task"),  # of a step that runs
    ("StepDocument", "run"),
    ("StepDocument", "claimed"),
    ("StepDocument", "redo"),  # requests of users
    ("PipelineStatus", "force_redo"),
    ("NightDocument", "look_again"),  # of a step that is due again
    ("NightRawData", "copies_calibration_from"),
    ("RawData", "missing"),  # of raw files that came back or are gone
    ("ObservationDocument", "gain"),  # of another instrument
    ("NightSeeing", "classified_as"),  # of pipelines of observations
    ("ObservationDocument", "effects_due"),  # of a step that just ended
    ("NightDocument", "effects_due"),
    ("ProductEntry", "cards_of"),  # of an image for which there is a catalogue
    *(
        ("AmendedProduct", name)
        for name in ("name", "bytes", "sha256", "content", "cards_of", "image", "pipeline", "step")
    ),
    *(("EffectsDue", name) for name in ("task", "pipeline", "step", "state")),
    *(("RawProblemDocument", name) for name in ("name", "folder", "reason", "changed")),  # of files not understood
}


def test_documents_have_exactly_the_declared_fields(site: Site) -> None:
    with site.store() as store:
        observations = list(store.database["objects"].find())
        nights = list(store.database["aux"].find())
    assert (len(observations), len(nights)) == (len(PLAN.targets), 1)
    validate(observations, ObservationDocument)
    validate(nights, NightDocument)
    masters = [master for step in nights[0]["calib"]["steps"].values() for master in step["results"]["masters"]]
    assert len(masters) >= 3
    validate(masters, MasterDocument)
    written = set(held(observations, list[ObservationDocument])) | set(held(nights, list[NightDocument]))
    assert declared(ObservationDocument) | declared(NightDocument) == written | NOT_OF_A_RUN


def test_a_document_with_another_field_is_not_as_declared(site: Site) -> None:
    with site.store() as store:
        (night,) = store.database["aux"].find()
    night["raw_data"]["files"][0]["size"] = 1
    with pytest.raises(ValidationError, match="size"):
        validate([night], NightDocument)
