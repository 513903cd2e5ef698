"""Height of the sun, as well as it must be known to tell night from twilight."""

import math

J2000_UNIX = 946728000.0
"""2000-01-01 12:00 UTC."""
DAY_S = 86400.0
SUNSET_DEG, DARK_DEG = -0.833, -18.0
"""Heights of the sun when it sets, and when the sky is dark [deg]."""
STEP_S = 120.0


def sun_height_deg(unix_s: float, latitude_deg: float, longitude_deg: float) -> float:
    """Return the height of the sun, good to 0.05 degrees for decades around the year 2000.

    Parameters
    ----------
    unix_s : float
        Time, UTC [s since 1970].
    latitude_deg, longitude_deg : float
        Place; longitude counted to the east [deg].

    Returns
    -------
    float
        Without refraction [deg].
    """
    days = (unix_s - J2000_UNIX) / DAY_S
    anomaly = math.radians(357.529 + 0.98560028 * days)
    mean_longitude = 280.459 + 0.98564736 * days
    ecliptic = math.radians(mean_longitude + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    obliquity = math.radians(23.439 - 0.00000036 * days)
    ra = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    dec = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    sidereal = math.radians(280.46062 + 360.98564737 * days + longitude_deg)
    latitude = math.radians(latitude_deg)
    sine = math.sin(latitude) * math.sin(dec) + math.cos(latitude) * math.cos(dec) * math.cos(sidereal - ra)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def below(height_deg: float, around_s: float, place_deg: tuple[float, float]) -> tuple[float, float] | None:
    """Return when the sun goes below a height before a time of night, and comes above it again.

    Parameters
    ----------
    height_deg : float
        The height.
    around_s : float
        A time of that night, UTC [s since 1970].
    place_deg : (float, float)
        Latitude and longitude.

    Returns
    -------
    (float, float) or None
        Beginning and end [s since 1970], to two minutes; None if the sun is above the height then.
    """
    if sun_height_deg(around_s, *place_deg) >= height_deg:
        return None
    ends = []
    for step in (-STEP_S, STEP_S):
        when = around_s
        while abs(when - around_s) < DAY_S / 2 and sun_height_deg(when + step, *place_deg) < height_deg:
            when += step
        ends.append(when)
    return ends[0], ends[1]
