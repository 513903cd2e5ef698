"""Upload of a light curve to a TOM (Target and Observation Manager, built with TOM Toolkit)."""

import base64
import hashlib
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
from astropy.table import Table
from pydantic import AliasChoices, Field, PositiveFloat, SecretStr

from obsarchive.config import yaml_files
from obsarchive.config.field_types import Lenient, matching, shown_variable
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.remote.http import HttpClient
from obsarchive.science.photometry.aperture import Flag

log = logging.getLogger(__name__)

TRIES = 5
PRODUCT = "archiver"


class TomError(ArchiveError):
    """A TOM that does not do what it is asked."""

    exit_code = 3


class TomConfig(Lenient):
    """The file ``tom_config.yaml``: where the TOM is and who asks; secrets belong into the environment."""

    url: Annotated[str, matching(r"^https?://[^\s?#]+\Z", "a web address such as https://tom.example.org")] = Field(
        validation_alias=AliasChoices("url", "tom_url")
    )
    tom_user_id: str = ""
    tom_password: SecretStr | None = Field(None, description="better: the name of a variable in tom_password_envvar")
    tom_password_envvar: str | None = Field(
        None, validation_alias=AliasChoices("tom_password_envvar", "password_envvar")
    )
    tom_token_envvar: str | None = Field(None, validation_alias=AliasChoices("tom_token_envvar", "token_envvar"))
    timeout_s: PositiveFloat = 90.0

    def authorization(self, environment: Mapping[str, str]) -> str:
        """Return the header ``Authorization``, which proves who asks: by a token, or by name and password.

        Parameters
        ----------
        environment : mapping
            Variables with secrets.

        Returns
        -------
        str
            Its value.

        Raises
        ------
        ConfigError
            A variable is not set, or there is neither.
        """
        if self.tom_token_envvar:
            return f"Token {_variable('tom_token_envvar', self.tom_token_envvar, environment)}"
        if self.tom_password_envvar:
            password = _variable("tom_password_envvar", self.tom_password_envvar, environment)
        elif self.tom_password is not None:
            log.warning("the password of the TOM is in a file; tom_password_envvar can name a variable instead")
            password = self.tom_password.get_secret_value()
        else:
            raise ConfigError("tom_config.yaml: tom_token_envvar or tom_password_envvar must name a variable")
        return f"Basic {base64.b64encode(f'{self.tom_user_id}:{password}'.encode()).decode()}"


def _variable(setting: str, name: str, environment: Mapping[str, str]) -> str:
    if not environment.get(name):
        raise ConfigError(
            f"tom_config.yaml: {setting}: the environment variable {shown_variable(name)} is not set: "
            "it must hold the secret for the TOM"
        )
    return environment[name]


def load(path: Path) -> TomConfig:
    """Read ``tom_config.yaml``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    TomConfig
        What it says.

    Raises
    ------
    ConfigError
        With file, line and key of what is wrong.
    """
    return yaml_files.load(path, TomConfig)


class Tom(HttpClient):
    """A connection to a TOM; to be used in a ``with`` block.

    Parameters
    ----------
    config : TomConfig
        Where it is and who asks.
    environment : mapping, optional
        Where secrets are looked for.
    """

    def __init__(self, config: TomConfig, environment: Mapping[str, str] | None = None) -> None:
        secret = config.authorization(os.environ if environment is None else environment)
        super().__init__("the TOM", config.url, timeout_s=config.timeout_s, tries=TRIES, authorization=secret)

    def upload(self, target: str, label: str, table: Table) -> int:
        """Upload a light curve in place of the one of the same label.

        The new one is there before the old one goes. A light curve that is there already is not sent again.

        Parameters
        ----------
        target : str
            Name of the target in the TOM, exactly.
        label : str
            What the light curve is called there; also its filter.
        table : Table
            As :func:`.products.light_curve` returns it.

        Returns
        -------
        int
            Number of points.

        Raises
        ------
        TomError
            The target is not known, or the TOM does not take the light curve.
        """
        text, n = csv_of(table, label)
        if not n:
            raise TomError(f"{target}: no point of the light curve {label} can be uploaded")
        key, groups = self._target(target)
        mark = hashlib.sha256(text.encode()).hexdigest()[:12]
        product = f"{PRODUCT} {key} {label} {mark}"
        known = list(self._products(target, key))
        if any(entry.get("product_id") == product for entry in known):
            log.info("%s: the light curve %s is in the TOM already", target, label)
        else:
            fields = {"target": str(key), "data_product_type": "photometry", "product_id": product}
            name = f"{_word(label)}_{mark}.csv"
            versioned = "\n".join(
                f"{line},{mark if i else 'reduction_version'}" for i, line in enumerate(text.splitlines())
            )
            data: dict[str, Any] = {**fields, "groups": groups} if groups else fields
            file = name, versioned + "\n", "text/csv"
            self.request_with_retry("POST", "/api/dataproducts/", tries=1, data=data, files={"file": file})
        for entry in known:
            if entry.get("product_id") != product and _is_older(entry, key, label):
                # it may be gone already
                self.request_with_retry("DELETE", f"/api/dataproducts/{entry['id']}/", accept=(httpx.codes.NOT_FOUND,))
        return n

    def _target(self, name: str) -> tuple[int, list[int]]:
        """Number of the target of this name or alias, and of the groups that may see it."""
        wanted = [entry for entry in self._pages("/api/targets/", {"name": name}) if name in _names(entry)]
        exact = [entry for entry in wanted if entry.get("name") == name] or wanted
        if len(exact) != 1:
            raise TomError(f"the TOM knows {len(exact)} targets called {name!r}, one is needed; nothing was uploaded")
        groups = [int(group["id"]) for group in exact[0].get("groups") or () if "id" in group]
        return int(exact[0]["id"]), groups

    def _products(self, name: str, key: int) -> Iterator[dict[str, Any]]:
        for entry in self._pages("/api/dataproducts/", {"target_name": name}):
            if entry.get("target") == key:
                yield entry

    def _pages(self, path: str, parameters: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yield all entries of a list."""
        offset = 0
        while True:
            page = self.json(path, {**parameters, "limit": "100", "offset": str(offset)})
            results = page.get("results")
            if not isinstance(results, list):
                raise TomError(f"the TOM's answer to {path} holds no list")
            yield from (entry for entry in results if isinstance(entry, dict))
            offset += len(results)
            if not results or not page.get("next"):
                return

    def _rejection(self, answer: httpx.Response) -> TomError:
        what = f"{answer.status_code} to {answer.request.method} {answer.url.path}"
        if answer.status_code in (401, 403):
            return TomError(f"the TOM refuses: {what}; check the token or password")
        return TomError(f"the TOM answered {what}: {answer.text[:200]}")

    def _outage(self, why: str, tries: int, answer: httpx.Response | None) -> TomError:  # noqa: ARG002
        return TomError(f"the TOM cannot be reached: {why}") if answer is None else self._rejection(answer)


def _names(entry: Mapping[str, Any]) -> set[str]:
    aliases = entry.get("aliases") or ()
    named = [entry, *(alias for alias in aliases if isinstance(alias, dict))]
    return {str(one["name"]) for one in named if one.get("name") is not None}


def _is_older(entry: Mapping[str, Any], key: int, label: str) -> bool:
    """Whether a product is an earlier light curve of exactly this label, of ours or of the older programs."""
    product = str(entry.get("product_id") or "")
    if product.startswith(f"{PRODUCT} "):
        return re.fullmatch(re.escape(f"{PRODUCT} {key} {label} ") + "[0-9a-f]{12}", product) is not None
    stem = Path(str(entry.get("data") or "")).stem
    # Django adds seven characters to a name that is taken
    return re.fullmatch(re.escape(_word(label)) + r"(_lc)?(_[A-Za-z0-9]{7})?", stem) is not None


def _word(text: str) -> str:
    return re.sub(r"[^\w+.-]+", "_", text, flags=re.ASCII)


def csv_of(table: Table, label: str) -> tuple[str, int]:
    """Return a light curve as TOM Toolkit reads it, and the number of its points.

    Times are modified Julian dates (UTC); where the star was not seen there is a limit and no magnitude.

    Parameters
    ----------
    table : Table
        As :func:`.products.light_curve` returns it.
    label : str
        Value of the column ``filter``.

    Returns
    -------
    (str, int)
        The text of a CSV file, and its number of points.
    """
    lines = ["time,filter,magnitude,error,limit"]
    for row in table:
        if row["flags"] & int(Flag.BAD_FRAME):
            continue
        start = f"{row['time_mjd_utc']:.8f},{label}"
        if math.isfinite(row["limit"]):
            lines.append(f"{start},,,{row['limit']:.5f}")
        elif math.isfinite(row["mag"]) and math.isfinite(row["mag_err"]):
            lines.append(f"{start},{row['mag']:.5f},{row['mag_err']:.5f},")
    return "\n".join(lines) + "\n", len(lines) - 1
