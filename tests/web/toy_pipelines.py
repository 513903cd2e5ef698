"""Pipelines of the portal's tests: declared like real ones, never run."""

from collections.abc import Mapping
from typing import Any

from obsarchive.pipeline import Pipeline, Workspace, step


class BrightStar(Pipeline):
    name = "bright_star"

    @step(makes=["100p.fits", "frames.txt"])
    def reduce(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError

    @step(makes=["strehl/{id}_strehl.txt"], after=["reduce"])
    def strehl(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError

    @step(makes=["preview/{id}_full.png"], after=["reduce"])
    def preview(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError


class FaintStar(Pipeline):
    name = "faint_star"

    @step(makes=["{id}_summed.fits"])
    def reduce(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError


class Calibration(Pipeline):
    name = "calib"
    scope = "night"

    @step(makes=["dark_{mode}.fits"], uses=["dark"])
    def darks(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError


class PsfLibrary(Pipeline):
    name = "psflib"
    scope = "night"
    folder = "summary"

    @step(makes=["psflib/{id}.png"], uses=["seeing"])
    def candidates(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError


class Seeing(Pipeline):
    name = "seeing"
    scope = "night"
    folder = "summary"

    @step(makes=["seeing/{id}.png"], uses=["seeing"])
    def measure(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError


class StrehlSummary(Pipeline):
    name = "strehl"
    scope = "night"
    folder = "summary"

    @step(makes=["strehl.{id}.txt"], uses=["observations"])
    def strehl(self, work: Workspace) -> Mapping[str, Any]:
        raise NotImplementedError
