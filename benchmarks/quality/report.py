"""The page of the results: one section each, so that one can be made again without the others."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "QUALITY.md"
INTRODUCTION = """# How good the results are, and whether their errors are true

Written by `make quality`; `python -m benchmarks.quality SECTION ...` makes some sections again.

Pulls are errors in units of the claimed errors. Goals: a standard deviation of 0.8 to 1.2 and a bias below 0.3,
each within twice its statistical error; *none* counts the trials without a value or without an error.
"""


def write_section(title: str, text: str, page: Path = PAGE) -> None:
    """Replace a section of the page, or append it."""
    made = f"## {title}\n\n{text.strip()}\n"
    old = page.read_text() if page.exists() else INTRODUCTION
    introduction, *sections = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    kept = {section.splitlines()[0][3:]: section.strip() + "\n" for section in sections}
    kept[title] = made
    page.write_text("\n".join([introduction.strip() + "\n", *kept.values()]))
