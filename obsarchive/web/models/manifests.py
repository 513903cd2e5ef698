"""Manifests of steps: settings and log, as the archive tree keeps them."""

import logging
from collections.abc import Mapping
from typing import Any

from flask_login import current_user

from obsarchive.core.documents import Observation
from obsarchive.core.json_text import parse_with_checksum
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import resolve_product_path
from obsarchive.web.models.view_models import PipelineView

log = logging.getLogger(__name__)


def step_manifest(observation: Observation, view: PipelineView, step: str) -> Mapping[str, Any]:
    """Read a step's manifest, without names of observations that the user may not see.

    Parameters
    ----------
    observation : Observation
        The observation.
    view : PipelineView
        The pipeline.
    step : str
        Name of the step.

    Returns
    -------
    mapping
        Empty when there is none or it cannot be read.
    """
    path = resolve_product_path(portal().layout.manifest(view.folder, step), portal().layout, observation.night)
    if path is None:
        return {}
    try:
        found = parse_with_checksum(path.read_bytes())
    except (OSError, ValueError) as err:
        log.warning("the manifest of %s %s.%s cannot be read: %s", observation.id, view.name, step, err)
        return {}
    return portal().store.browse.without_others(current_user.document, found) if isinstance(found, dict) else {}
