"""``obsarchive init``: a configuration to start from."""

from argparse import Namespace

from obsarchive.cli.console import say
from obsarchive.core.shipped import shipped
from obsarchive.errors import ConfigError

NEXT = """{path} is written; its paths are relative to {folder}. Next:

  obsarchive run {path}
      reduces a simulated night if there is no raw data yet, and shows it in the portal

or, with folders of nights where paths.raw of the configuration says:

  obsarchive daemon {path} --check    says what is due
  obsarchive daemon {path}            reduces it, and new data
  obsarchive serve {path}             shows it in the portal
"""


def run(options: Namespace) -> int:
    """Write the example configuration into a folder."""
    path = options.folder / "config.json"
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(shipped("config.json").read_text(encoding="utf-8"))
    except FileExistsError as err:
        raise ConfigError(f"{err.filename} exists already; it is not overwritten") from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}") from err
    say(NEXT.format(path=path, folder=options.folder))
    return 0
