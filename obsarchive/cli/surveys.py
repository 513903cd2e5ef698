"""``obsarchive surveys``: projects of survey light curves."""

import os
from argparse import Namespace
from collections.abc import Sequence

from obsarchive.cli.commands import STAGES
from obsarchive.cli.console import say
from obsarchive.cli.point_lens import options_of, report
from obsarchive.core import logs
from obsarchive.io.atomic import atomic_write
from obsarchive.store import outage_as_error
from surveys import dataset
from surveys.database import CONFIG_VARIABLE, find_config, open_surveys
from surveys.project import Project, load_project


def run(options: Namespace) -> int:
    """Do with a project what one of the commands says."""
    if options.config:
        os.environ[CONFIG_VARIABLE] = str(options.config.absolute())
    if options.data:
        dataset.DATA_ROOT = options.data.absolute()
    config = find_config()
    logs.set_up(config.paths.logs if config else None, "surveys", config.daemon.logging_level if config else "INFO")
    with outage_as_error():
        return _do(options, load_project(str(options.project)))


def _do(options: Namespace, project: Project) -> int:
    match options.command:
        case "describe":
            for name, pars in {**project.sections, **{obs.name: obs.pars for obs in project.observatories}}.items():
                say(f"{name}\n{pars.describe()}\n\n")
        case "status":
            _status(project)
        case "failures":
            found = project.failures()
            say("".join(f"{one['source']}\t{one['stage']}\t{one['reason']}\n" for one in found) or "nothing failed\n")
            return 1 if found else 0
        case "rebuild":
            say(f"{project.rebuild()} sources with raw photometry\n")
        case "efficiency":
            path = options.output or project.folder / "efficiency.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, project.efficiency().plot(f"{project.name}: which events are found"))
            say(f"{path}\n")
        case "point-lens":
            _point_lens(project, options)
        case stage:
            return _run_stages(options, project, STAGES[stage][1])
    return 0


def _run_stages(options: Namespace, project: Project, stages: Sequence[str]) -> int:
    config = find_config()
    default = config.parallel.n_workers if config else 2
    project.pars.num_workers = default if options.workers is None else options.workers
    run = project.run(options.start, options.finish, options.source, None, options.retry, stages, again=options.again)
    fetched = f"{run.fetched} fetched" + (f" (of which {run.empty} empty)" if run.empty else "")
    say(f"{fetched}, {run.analysed} analysed, {run.detections} events, {len(run.failures)} failed\n")
    for name, reason in run.failures[:20]:
        say(f"  {name}: {reason}\n")
    if run.remarks:
        say(f"{len(run.remarks)} remarks\n")
    for name, remark in run.remarks[:20]:
        say(f"  {name}: {remark}\n")
    return 1 if run.failures else 0


def _point_lens(project: Project, options: Namespace) -> None:
    source = project.get_source(options.source)
    found = source.fit_point_lens(options_of(options))
    report(found, options.name or source.name, options, (source.ra, source.dec))


def _status(project: Project) -> None:
    surveys = open_surveys()
    known = surveys.run(project.output_folder) or {}
    counts = {"catalogue": len(project.catalog), **surveys.progress(project.output_folder)}
    for observatory in project.observatories:
        states = surveys.raw_states(observatory.name, project.catalog.names)
        counts |= {f"{observatory.name} {state}": states[state] for state in ("good", "empty", "failed")}
    moved = project.moved()
    if moved:
        counts["moved in the catalogue, to be fetched again"] = len(moved)
    words = [known.get("state", "never run"), known.get("text", ""), known.get("reason", "")]
    say(f"{project.output_folder}: {' '.join(word for word in words if word)}\n")
    say("".join(f"  {name}: {count}\n" for name, count in counts.items()))
