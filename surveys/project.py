"""Projects: a catalogue, virtual observatories and an analysis; a run continues until nothing is missing.

::

    proj = Project(
        name="default_test",
        obs_names=["ZTF"],
        catalog_kwargs={"default": "WD"},
        analysis_kwargs={"num_injections": 3, "finder_kwargs": {"snr_threshold": 7.5}},
        obs_kwargs={"reducer": {"radius": 3, "gap": 40}},
    )
    proj.run()

Catalogue, observatories and analysis are imported when a project is made, and the runner when it runs: they import
the scientific libraries, which takes seconds.
"""

import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obsarchive import __version__
from obsarchive.core.processes import BEAT_S, this_process
from obsarchive.errors import ArchiveError, ConfigError
from surveys.config_files import find_file, read_section
from surveys.parameters import Configured, Parameters, legalize
from surveys.provenance import code_name, code_of, hash_of, write_config

if TYPE_CHECKING:
    from obsarchive.store import Surveys
    from surveys.analysis import Analysis
    from surveys.catalog import Catalog
    from surveys.histograms import Histogram
    from surveys.observatory import VirtualObservatory
    from surveys.runner import Run
    from surveys.simulator import Efficiency
    from surveys.source import Source, UniqueList
    from surveys.worker import Recipe

log = logging.getLogger(__name__)

CATALOG_FILE = "catalog.parquet"
"""File of a catalogue that was given as an object, in the folder of results."""


class ParsProject(Parameters):
    """Parameters of a project."""

    default_cfg_key = "project"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.name = add("name", None, (None, str), "name of the project", critical=False)
        self.description = add("description", "", str, "description of its purpose", critical=False)
        self.add_alias("project_string", "description")
        self.version_control = add(
            "version_control", False, bool, "results of each configuration in a folder of its own", False
        )
        self.add_alias("vc", "version_control")
        self.obs_names = add(
            "obs_names", [], (list, str), "observatories: DEMO, ZTF, TESS, or a class as package.module.Class"
        )
        self.obs_kwargs = add(
            "obs_kwargs", {}, dict, "parameters of all observatories, and by name of one", critical=False
        )
        self.catalog_kwargs = add("catalog_kwargs", {}, dict, "parameters of the catalogue", critical=False)
        self.analysis_kwargs = add("analysis_kwargs", {}, dict, "parameters of the analysis", critical=False)
        for part in ("catalog", "analysis"):
            for what in ("module", "class"):
                name = f"{part}_{what}"
                setattr(self, name, add(name, None, (None, str), f"{what} of another {part}"))
        self.programs = add(
            "programs", [], list, "programmes whose users see it in the portal; empty: all users", False
        )
        self.num_workers = add(
            "num_workers", 0, int, "Dask workers that reduce and analyse; 0: this process", critical=False, least=0
        )
        self.batch_size = add("batch_size", 1000, int, "sources in a batch, at least", critical=False, least=1)


class Project(Configured):
    """A search of survey photometry.

    Parameters
    ----------
    name : str, optional
        Its name; in upper case it is the name of its folder. By default that in ``cfg_file``, or the name of this file.
    catalog : Catalog, Table, DataFrame, SkyCoord, mapping or list of mappings, optional
        The catalogue itself; a mapping without columns has its parameters, as ``catalog_kwargs``.
    **kwargs
        Parameters; see ``describe()`` of its `pars`. Those of one observatory may be given by its name, as
        ``ZTF={...}``.
    """

    pars_class = ParsProject
    observatories: "UniqueList"
    catalog: "Catalog"
    analysis: "Analysis"

    def __init__(self, name: str | None = None, *, catalog: Any = None, **kwargs: Any) -> None:
        if name is None:
            name = _name_in(kwargs.get("cfg_file"))
        if isinstance(catalog, Mapping) and all(isinstance(value, _PLAIN) for value in catalog.values()):
            catalog, kwargs["catalog_kwargs"] = None, {**catalog, **kwargs.get("catalog_kwargs", {})}
        self._catalog = catalog
        self.name = name
        self.folder_name = legalize(name)
        self._own = {
            key: kwargs.pop(key) for key in list(kwargs) if isinstance(kwargs[key], dict) and key not in ParsProject()
        }
        super().__init__(**{"project": name, "name": name, **kwargs})

    def _complete(self) -> None:
        from surveys.analysis import Analysis, load_class
        from surveys.catalog import Catalog
        from surveys.registry import observatory_class, without_credentials
        from surveys.source import UniqueList

        names = [self.pars.obs_names] if isinstance(self.pars.obs_names, str) else self.pars.obs_names
        if not names:
            raise ConfigError(f"project {self.name}: obs_names must name at least one observatory")
        classes = [observatory_class(name) for name in names]
        known = {short for short, _ in classes}
        for key in self._own:
            if key.upper() not in known:
                self.pars._unknown[key] = self._own[key]
        super()._complete()
        from_project = {
            "project": self.name,
            **({"cfg_file": self.pars.cfg_file} if self.pars.cfg_file is not None else {}),
        }
        made = [self._observatory(*found, known, from_project) for found in classes]
        self.observatories = UniqueList(made, named="name")
        # the observatories have the credentials now; these parameters are written to files
        self.pars.obs_kwargs, self._own = without_credentials(self.pars.obs_kwargs), {}
        catalog: Any = load_class(self.pars.catalog_module, self.pars.catalog_class, Catalog)
        given, self._catalog = self._catalog, None
        if isinstance(given, Catalog):
            self.catalog = given
        else:
            data = () if given is None else (given,)
            self.catalog = catalog(*data, **from_project, **self.pars.catalog_kwargs)
        analysis = load_class(self.pars.analysis_module, self.pars.analysis_class, Analysis)
        self.analysis = analysis(**from_project, **self.pars.analysis_kwargs)
        for observatory in self.observatories:
            observatory.catalog = self.catalog
            observatory.output_folder = self.folder_name

    def _observatory(
        self, short: str, made: "type[VirtualObservatory]", known: set[str], from_project: Mapping[str, Any]
    ) -> "VirtualObservatory":
        from surveys.analysis import load_class
        from surveys.observatory import VirtualObservatory
        from surveys.registry import OBSERVATORIES

        general = {key: value for key, value in self.pars.obs_kwargs.items() if key.upper() not in known}
        own = {
            key.upper(): value for key, value in {**self.pars.obs_kwargs, **self._own}.items() if key.upper() in known
        }
        given = {**general, **own.get(short, {})}
        named = {**self._in_file(short), **given}
        if made is VirtualObservatory and not named.get("obs_class"):
            raise ConfigError(f"project {self.name}: no observatory {short}: {', '.join(OBSERVATORIES)}, or a class")
        return load_class(named.get("obs_module"), named.get("obs_class"), made)(
            name=short, **from_project, **given, _siblings=known - {short}
        )

    def _in_file(self, short: str) -> dict[str, Any]:
        """Return the section of an observatory in the file, which may name its class."""
        if self.pars.cfg_file is False:
            return {}
        section = read_section(self.pars.cfg_file or True, self.name, "observatories")
        return next((value for key, value in section.items() if str(key).upper() == short), None) or {}

    def _facts(self) -> dict[str, Any]:
        catalog = self.catalog.pars
        return {
            **{"name": self.name, "folder": self.output_folder, "description": self.pars.description},
            **{"observatories": [observatory.name for observatory in self.observatories]},
            **{"catalog": catalog.filename or catalog.default, "analysis": type(self.analysis).__name__},
        }

    # configuration and data

    @property
    def sections(self) -> dict[str, Parameters]:
        """Parameters of all parts, by the sections of a configuration file."""
        found = {"project": self.pars, "catalog": self.catalog.pars, "analysis": self.analysis.pars}
        return found | {name: part.pars for name, part in self.analysis.parts.items()}

    def final_config(self, critical: bool = False) -> dict[str, Any]:
        """Return the whole configuration with the version of the code, without secrets.

        Parameters
        ----------
        critical : bool
            Only what results depend on.
        """
        hidden = ("cfg_file", "cfg_key", "obs_kwargs", "catalog_kwargs", "analysis_kwargs", *_PART_KWARGS)

        def shown(pars: Parameters) -> dict[str, Any]:
            return {key: value for key, value in pars.to_dict(critical).items() if key not in hidden}

        def module_of(made: type) -> str:
            # what is hashed must not change when our modules move; what is written must be importable
            return code_name(made) if critical else made.__module__

        config: dict[str, Any] = {name: shown(pars) for name, pars in self.sections.items()}
        if self.catalog.is_in_memory:
            config["catalog"]["filename"] = CATALOG_FILE if critical else str(self.folder / CATALOG_FILE)
        config["project"]["obs_names"] = sorted(observatory.name for observatory in self.observatories)
        config["observatories"] = {
            # with its class, which does not always follow from the name of the observatory
            obs.name: {**shown(obs.pars), "obs_module": module_of(type(obs)), "obs_class": type(obs).__name__}
            for obs in sorted(self.observatories, key=lambda one: one.name)
        }
        parts = [self.analysis, self.catalog, *self.observatories, *self.analysis.parts.values()]
        config["code"] = {"version": __version__, "hash": code_of(type(part) for part in parts)}
        if critical:
            del config["code"]["version"]
            # the same catalogue may lie in another folder
            config["catalog"]["filename"] = Path(config["catalog"]["filename"] or "").name
        return config

    @property
    def cfg_hash(self) -> str:
        """Hash of everything that results depend on."""
        return hash_of(self.final_config(critical=True))

    @property
    def output_folder(self) -> str:
        """Name of the folder of results; with version control it ends with the hash."""
        return f"{self.folder_name}_{self.cfg_hash}" if self.pars.version_control else self.folder_name

    @property
    def folder(self) -> Path:
        """Folder of results."""
        from surveys.dataset import data_root

        _open_surveys()
        return data_root() / self.output_folder

    @property
    def sources(self) -> "Iterator[Source]":
        """Sources of the catalogue."""
        from surveys.source import Source

        for i in range(len(self.catalog)):
            yield Source.from_row(self.catalog.get_row(i), self.output_folder)

    def get_source(self, name: str) -> "Source":
        """Return a source of the catalogue by its name."""
        from surveys.source import Source

        return Source.from_row(self.catalog.get_row(name), self.output_folder)

    def recipe(self, analyse: bool = True) -> "Recipe":
        """Return the data that workers need."""
        from surveys.dataset import data_root
        from surveys.worker import Recipe

        for observatory in self.observatories:
            observatory.output_folder = self.output_folder
        analysis = self.analysis if analyse else None
        return Recipe(
            data_root(),
            self.output_folder,
            self.cfg_hash,
            list(self.observatories),
            analysis,
            [str(Path.cwd())],
        )

    # runs

    def run(  # noqa: PLR0913 - which sources, and what is done again
        self,
        start: int = 0,
        finish: int | None = None,
        source_names: Sequence[str] | None = None,
        source_ids: Sequence[int] | None = None,
        retry_failed: bool = False,
        stages: Sequence[str] = ("fetch", "reduce", "analyze"),
        *,
        again: float | None = None,
    ) -> "Run":
        """Fetch, reduce and analyse what is missing.

        A run may be stopped at any moment, and several processes may run at once: finished sources are not processed
        again, and RA zones that another process works on are left to it.

        Parameters
        ----------
        start, finish : int, optional
            Range of the catalogue.
        source_names : sequence of str, optional
            Only these sources.
        source_ids : sequence of int, optional
            Only these row numbers of the catalogue.
        retry_failed : bool
            Whether failed sources are tried again.
        stages : sequence of str
            Any of ``fetch``, ``reduce`` and ``analyze``.
        again : float, optional
            If given, all sources that are stored as empty are fetched again, and those that are older than this [d];
            infinity: only empty ones.

        Returns
        -------
        Run
            Counts and failures: ``fetched``, ``empty``, ``analysed``, ``failures``, ``detections``.

        Raises
        ------
        ConfigError
            A source is not in the catalogue, or the folder belongs to another project.
        ArchiveError
            An unknown stage, or too many failures of a download.
        """
        from surveys.runner import Run

        surveys = self.begin()
        if source_names is not None:
            chosen = [int(i) for i in self.catalog.indices(list(source_names))]
            if -1 in chosen:
                raise ConfigError(f"no source {source_names[chosen.index(-1)]!r} in the catalogue")
        else:
            chosen = list(source_ids if source_ids is not None else range(len(self.catalog))[start:finish])
        run = Run(self, surveys, retry_failed, tuple(stages), again)
        with self.noted(surveys):
            run.go(chosen)
        return run

    def begin(self) -> "Surveys":
        """Register the project in the database and write its configuration.

        Returns
        -------
        Surveys
            Collections of the database.

        Raises
        ------
        ConfigError
            The folder belongs to a project of another name.
        """
        surveys = _open_surveys()
        known = surveys.run(self.output_folder) or {}
        if known.get("name", self.name) != self.name:
            raise ConfigError(
                f"the folder {self.output_folder} belongs to the project {known['name']!r}: "
                f"give {self.name!r} another name"
            )
        facts = {
            "name": self.name,
            "description": self.pars.description,
            "observatories": [observatory.name for observatory in self.observatories],
            "cfg_hash": self.cfg_hash,
            "version_control": self.pars.version_control,
            "programs": [str(program) for program in self.pars.programs],
            "n_sources": len(self.catalog),
            "reason": "",
        }
        surveys.note_run(self.output_folder, facts)
        if self.catalog.is_in_memory:
            self.catalog.write(self.folder / CATALOG_FILE)
        write_config(self.folder, self.final_config(), self.cfg_hash)
        return surveys

    @contextmanager
    def noted(self, surveys: "Surveys") -> Iterator[None]:
        """Record the start and the end of a run in the database, also of one that fails."""
        surveys.note_run(self.output_folder, {"state": "running", "process": this_process(), "progress": 0.0})
        ended = threading.Event()
        threading.Thread(target=self._beat, args=(surveys, ended), name=f"beat of {self.name}", daemon=True).start()
        try:
            yield
        except ArchiveError as err:
            surveys.note_run(self.output_folder, {"state": "failed", "reason": str(err)})
            raise
        except BaseException as err:
            why = "" if isinstance(err, KeyboardInterrupt | SystemExit) else f": {type(err).__name__}: {err}"
            surveys.note_run(self.output_folder, {"state": "failed", "reason": f"stopped{why}"})
            raise
        finally:
            ended.set()
        surveys.note_run(self.output_folder, {"state": "done", "progress": 1.0, "text": ""})

    def _beat(self, surveys: "Surveys", ended: threading.Event) -> None:
        """Renew the sign of life of a run until it has ended."""
        from obsarchive.store import outage_as_error

        while not ended.wait(BEAT_S):
            try:
                with outage_as_error():
                    surveys.note_run(self.output_folder, {})
            except ArchiveError as err:
                log.debug("%s: no sign of life: %s", self.name, err)

    def moved(self) -> dict[str, str]:
        """Return the sources that have moved in the catalogue since photometry was fetched, with both positions."""
        from surveys.places import may_have_moved

        surveys, catalog = _open_surveys(), self.catalog
        found: dict[str, str] = {}
        for observatory in self.observatories:
            fetched = list(surveys.places(observatory.name))
            for number, document in may_have_moved(catalog, fetched):
                how = observatory.moved(catalog.get_row(number), document)
                if how:
                    found[document["source_name"]] = how
        return found

    def failures(self) -> list[dict[str, str]]:
        """Return the failures, each with source, stage and reason."""
        surveys = _open_surveys()
        query = {"run": self.output_folder, "state": "failed"}
        found = [
            {"source": raw["source_name"], "stage": f"fetch {raw['observatory']}", "reason": raw["reason"]}
            for observatory in self.observatories
            for raw in surveys.failed(observatory.name)
            if raw["source_name"] in self.catalog
        ]
        return found + [
            {"source": one["source_name"], "stage": "analyze", "reason": one["reason"]}
            for one in surveys.find("properties", query)
        ]

    def rebuild(self) -> int:
        """Rebuild sources and raw photometry in the database from the files and return the number of sources.

        Light curves and results are made again by a run, which takes no longer than reading them.
        """
        self.begin()
        for observatory in self.observatories:
            observatory.output_folder = self.output_folder
        return sum(observatory.populate_sources() for observatory in self.observatories)

    @property
    def histogram_path(self) -> Path:
        """File of the histogram: one for each configuration."""
        return self.folder / f"histograms_{self.cfg_hash}.nc"

    @property
    def histogram(self) -> "Histogram":
        """Histogram of the scores of all analysed sources."""
        from surveys.histograms import Histogram

        return Histogram.load(self.histogram_path) if self.histogram_path.exists() else Histogram()

    def efficiency(self) -> "Efficiency":
        """Return the recovery efficiency of injected events."""
        from surveys.simulator import efficiency

        query = {"run": self.output_folder, "extra.injections": {"$exists": True}}
        found = _open_surveys().find("properties", query)
        return efficiency(one for properties in found for one in properties["extra"]["injections"])

    # removal

    def delete_all_sources(self) -> None:
        """Remove the project and its results from the database; files and raw photometry remain."""
        _open_surveys().forget_run(self.output_folder)

    def delete_project_files(self) -> None:
        """Remove the folder of results."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def delete_everything(self) -> None:
        """Remove results from database and disk, and the raw photometry of sources that belong to no other project."""
        surveys = _open_surveys()
        self.delete_all_sources()
        self.delete_project_files()
        ours = [found["_id"] for found in surveys.named("sources", self.catalog.names, {"projects": []}, ["_id"])]
        for observatory in self.observatories:
            observatory.forget(ours)
        surveys.delete("sources", ours)


def _open_surveys() -> "Surveys":
    from surveys.database import open_surveys

    return open_surveys()


_PLAIN = (str, int, float, bool, type(None))
"""Types of parameters of a catalogue, unlike those of columns."""
_PART_KWARGS = ("finder_kwargs", "quality_kwargs", "simulator_kwargs")


def load_project(path: str) -> Project:
    """Return the project of a configuration file."""
    return Project(_name_in(path), cfg_file=str(Path(path).absolute()))


def _name_in(cfg_file: object) -> str:
    """Return the name of the project of a configuration file."""
    if not isinstance(cfg_file, str):
        raise ConfigError("a project needs a name, or a cfg_file")
    values = read_section(cfg_file, None, "project")
    return str(values.get("name") or (find_file(cfg_file, None) or Path(cfg_file)).stem)
