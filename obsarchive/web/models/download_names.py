"""Names under which single files are stored: the same product of two observations has two names."""

import re

from obsarchive.web.models.view_models import Card


def product_name(card: Card, pipeline: str, name: str) -> str:
    """Return the name under which a product is stored.

    Parameters
    ----------
    card : Card
        The observation.
    pipeline, name : str
        Pipeline and name of the product.

    Returns
    -------
    str
        Target, time, pipeline and product; a name that holds that of the observation stays as it is.
    """
    file = name.rsplit("/", 1)[-1]
    if card.id in file:
        return file
    target = re.sub(r"[^\w.+-]", "_", card.name)[:100]
    return f"{target}_{card.observation.date_utc:%Y%m%d_%H%M%S}_{pipeline}_{file}"


def master_name(night: str, name: str) -> str:
    """Return the name under which a product of a night is stored.

    Parameters
    ----------
    night : str
        Night ``yyyymmdd``.
    name : str
        Name of the product.

    Returns
    -------
    str
    """
    file = name.rsplit("/", 1)[-1]
    return file if night in file else f"{night}_{file}"
