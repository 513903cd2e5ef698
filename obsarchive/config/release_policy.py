"""The section ``release``: when observations become public, and how they may be used."""

from typing import Annotated

from pydantic import Field

from obsarchive.config.field_types import Section, matching
from obsarchive.core.release import MOST_MONTHS


class ReleasePolicy(Section):
    """When observations become public, and how they may be used."""

    months: int | None = Field(
        None, ge=0, le=MOST_MONTHS, description="proprietary period [calendar months]; null: nothing becomes public"
    )
    licence: str = Field("CC BY 4.0", description="licence of public data")
    licence_url: Annotated[
        str, matching(r"^(https?://\S+)?\Z", "a web address such as https://example.org/licence or an empty text")
    ] = "https://creativecommons.org/licenses/by/4.0/"
    acknowledgement: str = Field("", description="what publications should say")
