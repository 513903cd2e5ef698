"""What pages call pipelines, pictures, products and verdicts."""

import re
from typing import Any

_PIPELINES = {
    "psflib": "PSF library",
    "calib": "calibration",
    "contrast_curve": "nightly contrast plot",
    "strehl": "nightly Strehl plot",
}
_PICTURES = {
    "cropped": "close-up",
    "full": "whole frame",
    "quality": "frame selection",
    "profile": "radial profile",
    "pca": "star subtracted",
    "shifts": "image motion",
}
_PLOTS = ("profile", "contrast_curve", "quality", "shifts")
_VERDICTS = {"high_flux": "bright", "zero_flux": "no flux"}
_PRODUCTS = (
    (r"(?:.*/)?100p\.fits", "all frames"),
    (r"(?:.*/)?(\d+)p\.fits", r"best \1 %"),
    (r".*_summed\.fits", "sum of the frames"),
    (r"(?:.*/)?frames\.txt", "quality of every frame"),
    (r".*_pca\.fits", "star subtracted"),
    (r".*_contrast_curve\.txt", "table of the contrast curve"),
    (r".*_strehl\.txt", "table of the Strehl ratio"),
    *((rf".*_{kind}\.png", words) for kind, words in _PICTURES.items()),
    (r".*_contrast_curve\.png", "plot of the contrast curve"),
)


def pipeline_name(name: Any) -> str:
    """Write the name of a pipeline."""
    text = str(name or "")
    return _PIPELINES.get(text, text.replace("_", " "))


def work_name(pipeline: Any, step: Any) -> str:
    """Write the names of a pipeline and of its step."""
    work = str(step or "").replace("_", " ")
    return pipeline_name(pipeline) + (f" · {work}" if work and step != pipeline else "")


def picture_name(kind: str) -> str:
    """Write what a picture shows."""
    return _PICTURES.get(kind, kind.replace("_", " "))


def verdict(classified_as: Any) -> str:
    """Write what a pipeline found the data to be."""
    text = str(classified_as or "")
    return _VERDICTS.get(text, text.replace("_", " "))


def product_words(name: str) -> str:
    """Write what a product holds; empty where its name says all."""
    for pattern, words in _PRODUCTS:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, words, name)
    return ""


def is_plot(name: str) -> bool:
    """Whether a picture is drawn on white paper, without any image in it: dark pages turn it over."""
    return re.fullmatch(rf".*_({'|'.join(_PLOTS)})\.png", name) is not None


def capitalized(text: str) -> str:
    """Write the first letter large, and leave the others."""
    return text[:1].upper() + text[1:]


FILTERS = {
    "pipeline_name": pipeline_name,
    "work_name": work_name,
    "picture_name": picture_name,
    "verdict": verdict,
    "product_words": product_words,
    "is_plot": is_plot,
    "capitalized": capitalized,
}
"""Filters of the templates."""
