"""What was mistyped is told, with the nearest name; what may be a secret in the wrong place is never shown."""

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from obsarchive.config import yaml_files
from obsarchive.config.field_types import HIDDEN, Secret, shown_variable
from obsarchive.errors import ConfigError
from obsarchive.pipeline import Pipeline
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries import selection, tom_upload
from obsarchive.timeseries.download import download_config
from obsarchive.timeseries.download.online_archive import token_of
from pipelines.astrometry import Astrometry
from pipelines.bright_star import BrightStar
from pipelines.photometry import Photometry

SECRETS = [
    "abc123def456",
    "d3b07384d113edec49eaa6238ad5ff00",
    "hf_aBcDeFgH",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
]
SECRETS += ["JBSWY3DPEHPK3PXP", "9d5ed678fe57bcca", "Yk8/9+xQ==", "p@ss word", "/ab3/d9Fq"]
DATASET = "target:\n  name: X\n  RA: 10.0\n  Dec: 5.0\n"


@pytest.mark.parametrize(
    "name", ["LCO_TOKEN", "TOM_PASSWORD", "TOKEN", "T", "ZTF_PASSWORD_2", "SURELY_NOT_SET", "MAST1"]
)
def test_names_of_variables_are_shown(name: str) -> None:
    assert shown_variable(name) == name


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_place_of_a_name_is_never_shown(secret: str, tmp_path: Path) -> None:
    assert shown_variable(secret) == HIDDEN
    request = download_config.ArchiveRequest(
        name="LCO", url="https://a.example.org", proposals=["A"], token_envvar=secret
    )
    texts = []
    with pytest.raises(ConfigError) as failed:
        token_of(request, {})
    texts.append(str(failed.value))
    assert "token_envvar" in texts[0]
    for setting in ("tom_token_envvar", "tom_password_envvar"):
        with pytest.raises(ConfigError, match=setting) as failed:
            tom_upload.TomConfig(**{"url": "http://a.example.org", setting: secret}).authorization({})
        texts.append(str(failed.value))
    for given in ({"env": secret}, {"file": secret}, secret, [secret], {"env": [secret]}):
        with pytest.raises(ValidationError) as invalid:
            TypeAdapter(Secret).validate_python(given, context={"folder": tmp_path})
        texts.append(str(invalid.value.errors()[0]["ctx"]["error"]))
    assert not any(secret in text for text in texts)
    assert any("NAME of a variable" in text for text in texts)


@pytest.mark.parametrize(
    "line", ["tom_password: [s3cr3t]", "tom_token_envvar: [s3cr3t]", "url: http://me:s3cr3t@tom.example.org?"]
)
def test_a_secret_of_a_wrong_type_is_not_shown(line: str, tmp_path: Path) -> None:
    path = tmp_path / "tom_config.yaml"
    path.write_text(f"{line}\n" if line.startswith("url") else f"url: http://tom.example.org\n{line}\n")
    with pytest.raises(ConfigError) as failed:
        tom_upload.load(path)
    assert "s3cr3t" not in str(failed.value)
    assert line.split(":")[0] in str(failed.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "photometry:\n  aperture_arcsecs: 3.0\n",
            "line 6: the unknown key photometry.aperture_arcsecs is ignored; did you mean 'aperture_arcsec'?",
        ),
        ("photometri:\n  order: 3\n", "line 5: the unknown key photometri is ignored; did you mean 'photometry'?"),
        ("tom:\n  label: x\n", "line 6: the unknown key tom.label is ignored"),
    ],
)
def test_unknown_keys_of_a_dataset_are_told(
    text: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reduction_config.yaml").write_text(DATASET + text)
    with caplog.at_level(logging.WARNING):
        configuration.load(tmp_path)
    assert words in caplog.text


def test_published_files_raise_no_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "reduction_config.yaml").write_text(
        "target:\n  name: 'TEST'\n  RA: '17:30:25.5'\n  Dec: '-25:30:30.5'\nphotometry:\n  aperture_arcsec: 2.0\n"
        "tom:\n  upload: True\n  config_file: /path/to/config.yaml\n  data_label: 'TEST'\n"
    )
    found = configuration.load(tmp_path)
    assert found.tom.data_label == ""
    (tmp_path / "manager.yaml").write_text(
        "log_dir: l\ndata_reduction_dir: d\nsoftware_dir: s\ninstrument_list: ['sinistro']\n"
        "dataset_selection:\n  group: 'all'\n  file: 'none'\n  start_date: 'None'\n  end_date: 'None'\n  ndays: 0\n"
        "max_parallel: 5\n"
    )
    yaml_files.load(tmp_path / "manager.yaml", selection.ManagerConfig)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("photometry:\n  aperture_arcsec: -2.0\n", "line 6: photometry.aperture_arcsec"),
        ("photometry:\n  aperture_arcsec: two\n", "found 'two'"),
        ("photometry:\n  pointing_arcsec: -1\n", "pointing_arcsec"),
        ("photometry:\n  detection_sigma: -5\n", "detection_sigma"),
        ("photometry: 5\n", "photometry"),
    ],
)
def test_wrong_values_of_a_dataset_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "reduction_config.yaml").write_text(DATASET + text)
    with pytest.raises(ConfigError, match=words):
        configuration.load(tmp_path)


@pytest.mark.parametrize(
    ("pipeline", "given"),
    [
        (BrightStar, {"settings": {"best_fraction": -0.2}}),
        (BrightStar, {"settings": {"best_fraction": 20}}),
        (BrightStar, {"settings": {"window_arcsec": -1}}),
        (Photometry, {"steps": {"measure": {"detection_snr": -10}}}),
        (Photometry, {"steps": {"measure": {"aperture_fwhm": 0}}}),
        (Astrometry, {"steps": {"solve": {"pointing_arcsec": -1}}}),
        (Astrometry, {"steps": {"solve": {"order": 4}}}),
    ],
)
def test_negative_settings_of_pipelines_are_refused(pipeline: type[Pipeline], given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"greater|less"):
        pipeline(**given)
