"""The disk space below which nothing new is begun."""

import shutil

from obsarchive.config.model import Config


def lacks_space(config: Config) -> str | None:
    """Return a message that names the path with too little free space for new work, or None.

    Parameters
    ----------
    config : Config
        The configuration.
    """
    wanted = config.daemon.min_free_gb
    for folder in (config.paths.archive, config.paths.tmp):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free_gb = shutil.disk_usage(existing).free / 1e9
        if free_gb < wanted:
            return f"{folder} has {free_gb:.2f} GB free, daemon.min_free_gb wants {wanted:g}"
    return None
