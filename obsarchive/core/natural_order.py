"""The order in which people list names of programmes: numbers by their value."""


def natural(program: str) -> tuple[float, str]:
    """Return what the names of programmes are sorted by: 3, 4.1, 11, 24, then those that are no numbers."""
    return (float(program) if program.replace(".", "", 1).isdecimal() else float("inf"), program)
