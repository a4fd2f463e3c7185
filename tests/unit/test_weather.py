from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import statistics
import time
from datetime import datetime, timedelta
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING, Any

import fastjsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sluice_core.weather import UNITS, WeatherReport
from sluice_core.workloads import PermanentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPORT = WeatherReport()
AWKWARD = 'Ost, "Süd"\r\nline two\n🌦️ =1+1'
few = settings(max_examples=25, deadline=None)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)


def body(parameters: Mapping[str, Any], job_id: str = "job-1") -> bytes:
    return REPORT.run(job_id, parameters, Event()).body


def report(job_id: str = "job-1", **parameters: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(body(parameters, job_id))
    return document


def column(document: Mapping[str, Any], name: str) -> list[float]:
    return [row[name] for row in document["observations"]]


def mean(document: Mapping[str, Any], name: str, *, month: str = "", hour: str = "") -> float:
    """Average a column, over all years' hours or those of one month or hour of the day."""
    return statistics.mean(
        float(row[name])
        for row in document["observations"]
        if row["time_utc"][5:7].endswith(month) and row["time_utc"][11:13].endswith(hour)
    )


def refusal(parameters: Mapping[str, Any]) -> str:
    with pytest.raises(PermanentError) as caught:
        REPORT.run("job-1", parameters, Event())
    assert caught.value.code == "INVALID_PARAMETERS"
    return caught.value.message


# --- what comes out


@few
@given(
    parameters=st.fixed_dictionaries(
        {"records": st.integers(1, 200)},
        optional={"station": names, "seed": st.integers(-(2**53) + 1, 2**53 - 1)},
    )
)
@example(parameters={"station": "WSSS", "records": 4000})  # wet enough to meet saturation
@example(parameters={"station": "HECA", "records": 4000})
def test_every_observation_is_physically_possible(parameters: dict[str, Any]) -> None:
    document = report(**parameters)

    assert len(document["observations"]) == parameters["records"]
    assert -90 <= document["station"]["latitude_deg"] <= 90
    assert -180 <= document["station"]["longitude_deg"] <= 180
    assert "station" not in parameters or document["station"]["elevation_m"] >= 0
    for row in document["observations"]:
        assert list(row) == list(UNITS)
        assert -80 < row["temperature_c"] < 60
        assert -110 < row["dew_point_c"] <= row["temperature_c"]
        assert 0 <= row["relative_humidity_pct"] <= 100
        assert 550 < row["pressure_hpa"] < 1075
        assert 0 <= row["wind_speed_m_s"] < 40
        assert 0 <= row["wind_direction_deg"] < 360
        assert 0 <= row["precipitation_mm"] < 300
        assert row["precipitation_mm"] == 0 or row["relative_humidity_pct"] >= 88


def test_the_first_hours_of_a_longer_report_are_the_shorter_one() -> None:
    assert report(records=100)["observations"][:7] == report(records=7)["observations"]


def test_observations_are_hourly_and_in_utc() -> None:
    texts = [row["time_utc"] for row in report(records=30)["observations"]]

    times = [datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z") for text in texts]
    assert all(text.endswith(":00:00Z") for text in texts)
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(hours=1)}


@pytest.mark.parametrize(("station", "warmer", "colder"), [("Helsinki-Vantaa", "07", "01"), ("YSSY", "01", "07")])
def test_summer_follows_the_hemisphere(station: str, warmer: str, colder: str) -> None:
    document = report(station=station, records=8766)

    warm, cold = (mean(document, "temperature_c", month=month) for month in (warmer, colder))
    assert warm > cold + 8


@pytest.mark.parametrize(
    ("station", "warm_utc", "cold_utc"), [("EGLL", "15", "03"), ("RJTT", "06", "18"), ("KDEN", "22", "10")]
)
def test_afternoons_are_warm_by_the_sun_not_by_utc(station: str, warm_utc: str, cold_utc: str) -> None:
    document = report(station=station, records=2400)

    warm, cold = (mean(document, "temperature_c", hour=hour) for hour in (warm_utc, cold_utc))
    assert warm > cold + 4


def test_heights_are_cold_and_their_air_is_thin() -> None:
    # Given La Paz at 4,061 m and Singapore at the sea
    height, sea = report(station="SLLP", records=2000), report(station="WSSS", records=2000)

    # Then the standard atmosphere tells them apart: 6.5 K/km, and about 610 hPa against 1,013
    assert statistics.mean(column(sea, "temperature_c")) > statistics.mean(column(height, "temperature_c")) + 20
    assert statistics.mean(column(height, "pressure_hpa")) == pytest.approx(612, abs=8)
    assert statistics.mean(column(sea, "pressure_hpa")) == pytest.approx(1012, abs=5)


@pytest.mark.parametrize("station", ["ENSB", "HECA", "WSSS", "FACT", "an imagined place"])
def test_warm_hours_are_dry_hours(station: str) -> None:
    document = report(station=station, records=3000)

    temperature, humidity = (column(document, name) for name in ("temperature_c", "relative_humidity_pct"))
    assert statistics.correlation(temperature, humidity) < -0.3


def test_the_dew_point_fits_temperature_and_humidity() -> None:
    for row in report(records=200, station="EGLL")["observations"]:
        dew, air = (17.625 * t / (243.04 + t) for t in (row["dew_point_c"], row["temperature_c"]))
        assert 100 * math.exp(dew - air) == pytest.approx(row["relative_humidity_pct"], abs=1.5)


def test_weather_is_not_white_noise() -> None:
    pressure = column(report(station="EGLL", records=2000), "pressure_hpa")

    assert statistics.correlation(pressure[:-1], pressure[1:]) > 0.9
    assert statistics.stdev(pressure) > 3


# --- formats and names


def rows_of(parameters: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Read the same report in each format."""
    text = {kind: body({**parameters, "format": kind}).decode() for kind in ("json", "csv", "ndjson")}
    return {
        "json": json.loads(text["json"])["observations"],
        "csv": list(csv.DictReader(io.StringIO(text["csv"], newline=""), strict=True)),
        "ndjson": [json.loads(line) for line in text["ndjson"].split("\n")[:-1]],
    }


@few
@given(name=names)
def test_any_name_survives_every_format(name: str) -> None:
    # Given a place that the table does not know, whatever it is called
    rows = rows_of({"station": name, "records": 2})

    # Then each format gives it back, and the three say the same
    assert [row["station"] for row in rows["csv"]] == [name, name]
    assert [row["station"] for row in rows["ndjson"]] == [name, name]
    assert report(station=name)["station"]["name"] == name
    assert [{"station": name, **row} for row in rows["json"]] == rows["ndjson"]
    assert [{key: str(value) for key, value in row.items()} for row in rows["ndjson"]] == rows["csv"]


def test_awkward_names_survive() -> None:
    assert {row["station"] for row in rows_of({"station": AWKWARD})["csv"]} == {AWKWARD}


def test_csv_is_as_rfc_4180_has_it() -> None:
    result = REPORT.run("job-1", {"format": "csv", "records": 3, "station": 'a"b'}, Event())
    lines = result.body.decode().split("\r\n")

    assert (result.content_type, result.extension) == ("text/csv; charset=utf-8", "csv")
    assert lines[0] == ",".join(["station", *UNITS])
    assert lines[1].startswith('"a""b",20')
    assert len(lines) == 5
    assert lines[4] == ""


def test_json_states_its_units_and_what_it_was_made_for() -> None:
    result = REPORT.run("job-1", {"station": "egll", "seed": 7}, Event())
    document = json.loads(result.body)

    assert (result.content_type, result.extension) == ("application/json", "json")
    assert list(document) == ["station", "units", "generatedFor", "observations"]
    assert document["units"] == UNITS
    assert document["generatedFor"] == {"seed": 7}
    assert document["station"] == {
        "name": "London Heathrow",
        "icao": "EGLL",
        "latitude_deg": 51.48,
        "longitude_deg": -0.46,
        "elevation_m": 25,
    }


def test_ndjson_is_one_object_a_line() -> None:
    result = REPORT.run("job-1", {"format": "ndjson", "records": 3}, Event())

    assert (result.content_type, result.extension) == ("application/x-ndjson", "ndjson")
    assert result.body.endswith(b"}\n")
    assert result.body.count(b"\n") == 3


# --- reproducibility


@pytest.mark.parametrize("kind", ["json", "csv", "ndjson"])
def test_the_same_seed_gives_the_same_bytes_whatever_the_job(kind: str) -> None:
    parameters = {"seed": 42, "format": kind, "records": 50}

    assert body(parameters, "job-1") == body(parameters, "job-2")
    assert body(parameters) != body({**parameters, "seed": 43})


def test_without_a_seed_the_job_decides() -> None:
    assert body({}, "job-1") == body({}, "job-1")
    assert body({"format": "csv"}, "job-1") != body({"format": "csv"}, "job-2")
    assert report("job-1")["generatedFor"] == {"jobId": "job-1"}


def test_a_seed_is_not_a_job_of_that_name() -> None:
    assert report("7")["observations"] != report("job-1", seed=7)["observations"]


def test_seeds_choose_among_the_stations() -> None:
    assert len({report(seed=seed, records=1)["station"]["icao"] for seed in range(100)}) == 12


def test_two_places_do_not_share_their_weather() -> None:
    one, other = report(station="HECA", seed=1), report(station="SLLP", seed=1)

    assert column(one, "wind_speed_m_s") != column(other, "wind_speed_m_s")


def test_an_imagined_place_stays_where_it_is() -> None:
    first, second = report(station="Atlantis", seed=1), report(station="Atlantis", seed=2)

    assert first["station"] == second["station"]
    assert first["station"]["icao"] is None
    assert first["observations"] != second["observations"]


@pytest.mark.parametrize(
    ("parameters", "digest"),
    [
        ({"seed": 42}, "880a68970b62746e"),
        ({"seed": -1, "station": AWKWARD, "format": "csv", "records": 10_000}, "b098581d0a2c880e"),
        ({"seed": 0, "station": "sawh", "format": "ndjson", "records": 1000}, "0d84157425fd13ed"),
    ],
)
def test_bytes_are_the_same_on_every_python_and_platform(parameters: dict[str, Any], digest: str) -> None:
    # Digests of Python 3.11 on x86-64 Linux; a change here changes what every seed has ever meant
    assert hashlib.sha256(body(parameters)).hexdigest()[:16] == digest


# --- the time it takes


class Clock(Event):
    """Notes how long it was waited for, and takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return self.is_set()


@pytest.mark.parametrize("seconds", [0, 0.25, 45])
def test_it_takes_the_time_it_is_told_to_and_gives_the_same_bytes(seconds: float) -> None:
    clock = Clock()

    result = REPORT.run("job-1", {"seed": 42, "workSeconds": seconds}, clock)

    assert clock.waited == [seconds]
    assert result.body == body({"seed": 42})


def test_it_takes_no_time_unless_it_is_told_to() -> None:
    clock = Clock()

    REPORT.run("job-1", {}, clock)

    assert clock.waited in ([], [0])


def test_a_refusal_comes_before_the_wait() -> None:
    clock = Clock()

    with pytest.raises(PermanentError):
        REPORT.run("job-1", {"workSeconds": 45, "records": 0}, clock)

    assert clock.waited == []


def test_told_to_stop_it_waits_no_longer() -> None:
    stop = Event()
    stop.set()
    before = time.monotonic()

    REPORT.run("job-1", {"workSeconds": 45}, stop)

    assert time.monotonic() - before < 10


# --- refusals


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("station", "", "station must be a string of 1 to 100 characters"),
        ("station", "x" * 101, "station must be a string of 1 to 100 characters"),
        ("station", 7, "station must be a string of 1 to 100 characters"),
        ("station", None, "station must be a string of 1 to 100 characters"),
        ("station", "\ud83c", "station must be well-formed Unicode text"),
        ("records", 0, "records must be an integer from 1 to 10000"),
        ("records", 10_001, "records must be an integer from 1 to 10000"),
        ("records", 10**400, "records must be an integer from 1 to 10000"),
        ("records", 1.5, "records must be an integer from 1 to 10000"),
        ("records", math.nan, "records must be an integer from 1 to 10000"),
        ("records", True, "records must be an integer from 1 to 10000"),
        ("records", "10", "records must be an integer from 1 to 10000"),
        ("format", "xml", "format must be one of json, csv, ndjson"),
        ("format", "JSON", "format must be one of json, csv, ndjson"),
        ("format", ["json"], "format must be one of json, csv, ndjson"),
        ("format", None, "format must be one of json, csv, ndjson"),
        ("seed", "7", "seed must be an integer from -9007199254740991 to 9007199254740991"),
        ("seed", 2**53, "seed must be an integer from -9007199254740991 to 9007199254740991"),
        ("workSeconds", -0.1, "workSeconds must be a number from 0 to 45"),
        ("workSeconds", 45.1, "workSeconds must be a number from 0 to 45"),
        ("workSeconds", "1", "workSeconds must be a number from 0 to 45"),
        ("workSeconds", math.nan, "workSeconds must be a number from 0 to 45"),
        ("workSeconds", True, "workSeconds must be a number from 0 to 45"),
        ("colour", "red", "unknown parameter 'colour'; allowed are station, records, format, seed, workSeconds"),
    ],
)
def test_a_refusal_names_the_parameter_and_what_is_allowed(name: str, value: Any, expected: str) -> None:
    assert refusal({name: value}) == expected


def test_a_refusal_does_not_repeat_long_input() -> None:
    assert len(refusal({"x" * 10_000: 1})) < 150
    assert len(refusal({"station": "x" * 10_000})) < 150
    assert len(refusal({"format": "x" * 10_000})) < 150


@pytest.mark.parametrize(
    "parameters",
    [{"records": 1}, {"records": 10_000}, {"station": "x"}, {"station": "x" * 100}, {"seed": 2**53 - 1}],
)
def test_the_bounds_themselves_are_allowed(parameters: dict[str, Any]) -> None:
    assert body(parameters)


def test_the_schema_leaves_other_properties_to_run() -> None:
    # Given the schema as the gateway has it
    validate = fastjsonschema.compile(dict(WeatherReport.parameters_schema))

    # Then it passes unknown parameters, which the job then refuses by name, but no bad values
    assert validate({"colour": "red"})
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        validate({"records": 0})


def test_the_largest_report_takes_well_under_a_second() -> None:
    before = time.process_time()
    body({"records": 10_000})

    assert time.process_time() - before < 1
