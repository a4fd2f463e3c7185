"""The default workload: a simulated series of hourly weather observations, to be replaced by real work.

The same seed (or, without one, the same job) gives the same bytes, so a job that runs twice has one result.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import fastjsonschema

from sluice_core.workloads import PermanentError, WorkResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Event

# One name for a quantity in every format; the unit is part of it.
UNITS = {
    "time_utc": "RFC 3339, UTC",
    "temperature_c": "degree Celsius",
    "dew_point_c": "degree Celsius",
    "relative_humidity_pct": "percent",
    "pressure_hpa": "hectopascal, at the station",
    "wind_speed_m_s": "metre per second",
    "wind_direction_deg": "degree from true north, where the wind comes from",
    "precipitation_mm": "millimetre in the hour",
}
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_HOURS_PER_YEAR = 8766  # 365.25 days
# I-JSON (RFC 7493, 2.2): the integers that every JSON implementation carries exactly.
_EXACT_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Station:
    """A place to observe; degrees north and east, metres above the sea, mean relative humidity in percent."""

    icao: str | None
    name: str
    latitude: float
    longitude: float
    elevation: int
    humidity: int


# Airport reference points, rounded to 0.01 degree; the humidity is a round figure for the climate.
_STATIONS = (
    Station("ENSB", "Longyearbyen", 78.25, 15.47, 28, 76),
    Station("EFHK", "Helsinki-Vantaa", 60.32, 24.96, 55, 79),
    Station("EGLL", "London Heathrow", 51.48, -0.46, 25, 77),
    Station("KDEN", "Denver International", 39.86, -104.67, 1656, 52),
    Station("RJTT", "Tokyo Haneda", 35.55, 139.78, 11, 68),
    Station("HECA", "Cairo International", 30.12, 31.41, 116, 55),
    Station("WSSS", "Singapore Changi", 1.36, 103.99, 7, 83),
    Station("HKJK", "Nairobi Jomo Kenyatta", -1.32, 36.93, 1624, 68),
    Station("SLLP", "La Paz El Alto", -16.51, -68.19, 4061, 54),
    Station("YSSY", "Sydney Kingsford Smith", -33.95, 151.18, 6, 66),
    Station("FACT", "Cape Town International", -33.97, 18.60, 46, 70),
    Station("SAWH", "Ushuaia Malvinas Argentinas", -54.84, -68.30, 31, 75),
)
_BY_NAME = {key.lower(): one for one in _STATIONS for key in (one.icao, one.name) if key}


class WeatherReport:
    """Simulates hourly observations at one station.

    A job's parameters, all optional: ``station`` (an ICAO code or name of the table here, or any other name
    for an imagined place; chosen by the seed), ``records`` (1 to 10,000; 100), ``format`` (``json``, ``csv``,
    ``ndjson``; ``json``), ``seed`` (an integer; the job's id takes its place) and ``workSeconds`` (0 to 45; 0),
    for which it waits before it is done, as a stand-in for work that takes its time.

    The numbers are plausible, not meteorology. Sources: the International Standard Atmosphere (ISO 2533) for
    the lapse rate and the barometric formula; Alduchov and Eskridge (1996) for the dew point (Magnus).
    """

    # Descriptions double as error messages. Other properties stay open here, since the gateway's refusal
    # could not name them; `run` refuses them.
    parameters_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "station": {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "description": "a string of 1 to 100 characters",
            },
            "records": {
                "type": "integer",
                "minimum": 1,
                "maximum": 10_000,
                "description": "an integer from 1 to 10000",
            },
            "format": {"enum": ["json", "csv", "ndjson"], "description": "one of json, csv, ndjson"},
            "seed": {
                "type": "integer",
                "minimum": -_EXACT_INTEGER,
                "maximum": _EXACT_INTEGER,
                "description": f"an integer from -{_EXACT_INTEGER} to {_EXACT_INTEGER}",
            },
            "workSeconds": {
                "type": "number",
                "minimum": 0,
                "maximum": 45,
                "description": "a number from 0 to 45",
            },
        },
    }

    def __init__(self) -> None:
        self._validate = fastjsonschema.compile(dict(self.parameters_schema))

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: Event) -> WorkResult:
        """Return the observations; equal seed, station, records and format give equal bytes.

        Raises
        ------
        PermanentError
            ``INVALID_PARAMETERS``: a parameter is unknown or its value is not allowed.

        """
        self._check(parameters)
        stop.wait(parameters.get("workSeconds", 0))
        source = {"seed": int(parameters["seed"])} if "seed" in parameters else {"jobId": job_id}
        digest = hashlib.sha256(json.dumps(source).encode()).digest()
        station = _station(parameters["station"]) if "station" in parameters else _default_station(digest)
        seed = hashlib.sha256(digest + station.name.encode()).digest()
        rows = _observe(station, int(parameters.get("records", 100)), int.from_bytes(seed))
        return _FORMATS[parameters.get("format", "json")](station, source, rows)

    def _check(self, parameters: Mapping[str, Any]) -> None:
        properties = self.parameters_schema["properties"]
        for name in parameters:
            if name not in properties:
                raise _refusal(f"unknown parameter {name[:40]!r}; allowed are {', '.join(properties)}")
        try:
            self._validate(dict(parameters))
            # Not a number is neither below the minimum nor above the maximum.
            if not math.isfinite(parameters.get("workSeconds", 0)):
                raise _refusal("workSeconds must be a number from 0 to 45")
            # JSON can carry half of a surrogate pair, which no encoding of text can.
            parameters.get("station", "").encode()
        except fastjsonschema.JsonSchemaValueException as error:
            name = error.path[1]
            raise _refusal(f"{name} must be {properties[name]['description']}") from None
        except UnicodeEncodeError:
            raise _refusal("station must be well-formed Unicode text") from None


def _refusal(message: str) -> PermanentError:
    return PermanentError("INVALID_PARAMETERS", message)


def _default_station(digest: bytes) -> Station:
    return _STATIONS[digest[0] % len(_STATIONS)]


def _station(name: str) -> Station:
    """Find a known station, or an imagined one whose place depends on its name alone."""
    known = _BY_NAME.get(name.lower())
    if known:
        return known
    digest = hashlib.sha256(name.encode()).digest()
    north, east, height, damp = (int.from_bytes(digest[n : n + 4]) / 2**32 for n in (0, 4, 8, 12))
    return Station(
        icao=None,
        name=name,
        latitude=round(-60 + 130 * north, 2),
        longitude=round(-180 + 360 * east, 2),
        elevation=round(2500 * height**3),  # most places lie low
        humidity=round(45 + 40 * damp),
    )


class _Row(NamedTuple):
    """One observation, in the order of `UNITS`."""

    time_utc: str
    temperature_c: float
    dew_point_c: float
    relative_humidity_pct: float
    pressure_hpa: float
    wind_speed_m_s: float
    wind_direction_deg: int
    precipitation_mm: float


def _observe(station: Station, count: int, seed: int) -> Iterator[_Row]:
    """Simulate hour by hour; a shorter series is the beginning of a longer one."""
    # Only random() is promised to stay the same in later Pythons (random, "Notes on Reproducibility").
    draw = random.Random(seed).random  # noqa: S311 - weather, not secrets
    first_hour = int(draw() * _HOURS_PER_YEAR)
    temperature_noise = _drift(draw, spread=2.0, persistence=0.95)
    humidity_noise = _drift(draw, spread=7.0, persistence=0.9)
    # Highs and lows pass in the westerlies, hardly in the tropics.
    storminess = abs(math.sin(math.radians(station.latitude)))
    sea_pressure_noise = _drift(draw, spread=1.5 + 7.0 * storminess, persistence=0.98)
    wind_noise = _drift(draw, spread=2.5, persistence=0.9)
    direction_noise = _drift(draw, spread=60.0, persistence=0.97)
    prevailing = 360 * draw()
    mean = _mean_temperature(station)
    swing = 1 + 4.5 * math.cos(math.radians(station.latitude))  # of a day, in degrees either way
    thinning = (1 - 0.0065 * station.elevation / 288.15) ** 5.2559

    for hour in range(first_hour, first_hour + count):
        season = _season(station, hour)
        weather = swing * _time_of_day(station, hour) + next(temperature_noise)
        temperature = mean + season + weather
        humidity = station.humidity - 1.6 * weather - 0.4 * season + next(humidity_noise)
        humidity = min(100.0, max(3.0, humidity))
        yield _Row(
            (_EPOCH + timedelta(hours=hour)).isoformat()[:19] + "Z",
            _tenths(temperature),
            _tenths(_dew_point(temperature, humidity)),
            _tenths(humidity),
            _tenths((1013.25 + next(sea_pressure_noise)) * thinning),
            _tenths(max(0.0, 4.0 + next(wind_noise))),
            round(prevailing + next(direction_noise)) % 360,
            _tenths(_precipitation(draw, temperature, humidity)),
        )


def _drift(draw: Callable[[], float], *, spread: float, persistence: float) -> Iterator[float]:
    """AR(1) noise around zero; ``spread`` is its standard deviation."""
    step = 2 * spread * math.sqrt(1 - persistence**2)
    value = 0.0
    while True:
        # Three uniform draws make a bell of deviation 1/2 that ends at +-1.5: no outlier is absurd.
        value = persistence * value + step * (draw() + draw() + draw() - 1.5)
        yield value


def _mean_temperature(station: Station) -> float:
    """Return the year's mean: 27 C at the equator, -20 C at the poles, 6.5 K less for each km of height."""
    return 47 * math.cos(math.radians(station.latitude)) - 20 - 6.5 * station.elevation / 1000


def _season(station: Station, hour: int) -> float:
    """Warmest in mid-July in the north; the latitude's sign turns the year round in the south."""
    return 0.22 * station.latitude * math.cos(math.tau * (hour / _HOURS_PER_YEAR - 0.54))


def _time_of_day(station: Station, hour: int) -> float:
    """From -1 to 1, warmest at three in the afternoon, by the sun."""
    return math.cos(math.tau * (hour + station.longitude / 15 - 15) / 24)


def _dew_point(temperature: float, humidity: float) -> float:
    gamma = math.log(humidity / 100) + 17.625 * temperature / (243.04 + temperature)
    # Saturated air may come out a rounding error too warm.
    return min(temperature, 243.04 * gamma / (17.625 - gamma))


def _precipitation(draw: Callable[[], float], temperature: float, humidity: float) -> float:
    """Millimetres in the hour: none unless the air is humid, and more from warm air, which holds more."""
    if humidity < 88 or draw() > 0.5:  # noqa: PLR2004 - percent
        return 0.0
    return -math.log(1 - draw()) * math.exp(temperature / 20)


def _tenths(value: float) -> float:
    """Round, and make minus zero plain zero."""
    return round(value, 1) + 0.0


def _as_json(station: Station, source: Mapping[str, Any], rows: Iterator[_Row]) -> WorkResult:
    report = {
        "station": {
            "name": station.name,
            "icao": station.icao,
            "latitude_deg": station.latitude,
            "longitude_deg": station.longitude,
            "elevation_m": station.elevation,
        },
        "units": UNITS,
        "generatedFor": source,
        "observations": [row._asdict() for row in rows],
    }
    return WorkResult(_dump(report).encode(), "application/json", "json")


def _as_ndjson(station: Station, _source: Mapping[str, Any], rows: Iterator[_Row]) -> WorkResult:
    lines = [_dump({"station": station.name, **row._asdict()}) + "\n" for row in rows]
    return WorkResult("".join(lines).encode(), "application/x-ndjson", "ndjson")


def _as_csv(station: Station, _source: Mapping[str, Any], rows: Iterator[_Row]) -> WorkResult:
    """RFC 4180; the name is the only text, and always quoted, so no Python version can quote it otherwise."""
    name = '"' + station.name.replace('"', '""') + '"'
    lines = [",".join(("station", *UNITS))]
    lines += [f"{name},{','.join(map(str, row))}" for row in rows]
    return WorkResult(("\r\n".join(lines) + "\r\n").encode(), "text/csv; charset=utf-8", "csv")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_FORMATS = {"json": _as_json, "csv": _as_csv, "ndjson": _as_ndjson}
