"""``obsarchive psflib``: the reference stars of the PSF library."""

from argparse import Namespace

from obsarchive.cli.console import configure, say
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.database.connect import open_store
from obsarchive.errors import ConfigError
from obsarchive.io import psf_candidates, psf_library
from obsarchive.store import Store


def show(options: Namespace) -> int:
    """List the stars of the library, and those that were removed."""
    library = psf_library.PsfLibrary.read(_layout(options))
    say(f"{library.path}: version {library.version}, {len(library.entries)} stamps\n")
    for entry in (*library.entries, *library.removed):
        state = f"removed by {entry.added_by}" if entry.is_removed else f"Strehl ratio {entry.strehl_percent:.1f} %"
        say(f"  {entry.observation:64s} {entry.telescope} {entry.filter} {entry.stack:5s} {state}\n")
    return 0


def add(options: Namespace) -> int:
    """Add stars that their nights offer."""
    config = configure(options)
    layout = Layout(config.paths.archive)
    with open_store(config) as store:
        nights = {name: _known_observation(store, name).night for name in options.observations}
    files = [layout.psf_candidate(night, name) for name, night in nights.items()]
    stamps = [star for file in files for star in psf_candidates.offered(file)]
    with psf_library.changed(layout) as library:
        for entry, stamp in stamps:
            new = library.add(entry, stamp, "administrator")
            say(f"{entry.observation} {entry.stack}: {'added' if new else 'was in the library already'}\n")
    return 0


def remove(options: Namespace) -> int:
    """Remove stars; they are not added again automatically."""
    with psf_library.changed(_layout(options)) as library:
        absent = [name for name in options.observations if not library.holds(name)]
        if absent:
            raise ConfigError(f"{absent[0]} is not in the PSF library; psflib list shows what is")
        for name in options.observations:
            library.remove(name, "administrator")
            say(f"{name}: removed; it is not added again automatically\n")
    return 0


def _layout(options: Namespace) -> Layout:
    return Layout(configure(options).paths.archive)


def _known_observation(store: Store, name: str) -> Observation:
    document = store.observations.find(name)
    if document is None:
        raise ConfigError(f"there is no observation {name!r} in the database")
    return Observation(document)
