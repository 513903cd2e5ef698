"""Parameters that all observatories have."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from obsarchive.errors import ConfigError
from surveys.parameters import Parameters


class ParsObservatory(Parameters):
    """Parameters of an observatory."""

    default_cfg_key = "observatories"

    def __init__(self, **kwargs: Any) -> None:
        self._siblings = {str(name).upper() for name in kwargs.pop("_siblings", ())}
        self._name = str(kwargs.pop("_name", "")).upper()
        super().__init__(**kwargs)
        add = self.add_par
        self.obs_module = add("obs_module", None, (None, str), "module of the class of the observatory")
        self.obs_class = add("obs_class", None, (None, str), "class of the observatory")
        self.reducer = add("reducer", {}, dict, "arguments of the reduction, such as gap and radius")
        self.add_alias("reduce_kwargs", "reducer")
        self.num_threads_download = add(
            "num_threads_download", 4, int, "downloads side by side; 0: one after the other", critical=False, least=0
        )
        self.download_batch_size = add(
            "download_batch_size",
            100,
            int,
            "sources that are written together and held in memory",
            critical=False,
            least=1,
        )
        self.download_pars = add("download_pars", {}, dict, "arguments of the download")
        self.add_alias("download_args", "download_pars")
        self.check_download_pars = add(
            "check_download_pars", False, bool, "fetch again what was fetched with other arguments", critical=False
        )
        self.base_url = add("base_url", "", str, "address of the service", critical=False)
        self.rate_limit = add(
            "rate_limit", 5.0, float, "largest rate of requests; 0: no limit", False, unit="1/s", least=0
        )
        self.timeout = add(
            "timeout", 60.0, float, "longest time without a response of the service", critical=False, unit="s", least=0
        )
        self.max_tries = add("max_tries", 6, int, "attempts for each request", critical=False, least=1)
        self.empty_expires = add(
            "empty_expires",
            90.0,
            float,
            "time until sources without data are requested again",
            critical=False,
            unit="d",
            least=0,
        )
        self.refresh_after = add(
            "refresh_after",
            None,
            (None, float),
            "age at which raw photometry is fetched again, for new epochs; None: never",
            critical=False,
            unit="d",
            least=0,
        )
        self.credentials = add(
            "credentials", {}, dict, "username and password: {env: NAME} or {file: path}", False, secret=True
        )

    def section(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a file for all observatories, then for this one."""
        own: dict[str, Any] = {}
        for key, value in values.items():
            name = str(key).upper()
            if name == self._name:
                own |= value
            elif name not in self._siblings:
                self._refuse_other_observatory(str(key), value)
                own = {key: value, **own}
        for name, value in own.get("credentials", {}).items():
            if name != "username" and not isinstance(value, Mapping):
                raise ConfigError(
                    f"observatories: credentials: {name}: write {{env: NAME}} or {{file: path}}, no secret"
                )
        return own

    def _refuse_other_observatory(self, key: str, value: object) -> None:
        """Raise ConfigError if a section of the file is neither a parameter, nor nearly one, but of an observatory."""
        is_section = isinstance(value, Mapping) and key not in self
        if is_section and not get_close_matches(key.lower(), self._declared, n=1, cutoff=0.7):
            known = ", ".join(sorted({self._name, *self._siblings}))
            raise ConfigError(f"observatories: no observatory {key}; this project has {known}")
