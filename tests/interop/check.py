"""Every Parquet file of a run of `fix` opens in Polars, DuckDB and pandas with the columns that are promised.

    python tests/interop/check.py DIR

DIR is the output of `unskew fix --exchanges`. A `?` marks a column that may be null.
"""

import re
import sys
from pathlib import Path

import duckdb
import pandas
import polars

ATTRIBUTES = "map"
EVENTS = "list<time_unix_nano int, original_time_unix_nano int, name text, attributes map>"
LINKS = "list<trace_id text, span_id text, trace_state text, attributes map>"

TABLES = {
    "traces/part-00000.parquet": f"""
        trace_id text, span_id text, parent_span_id text?, trace_state text?, flags int, name text, kind text,
        service_name text, clock text, start_unix_nano int, end_unix_nano int, start_time time, duration_ns int,
        original_start_unix_nano int, original_end_unix_nano int, offset_ns int, uncertainty_ns int?,
        correction text, status_code text, status_message text?, scope_name text, scope_version text,
        resource_attributes map, attributes map, events {EVENTS}, links {LINKS}""",
    "skew/clocks.parquet": """
        clock text, key text, rule text, hosts texts, services texts, group int, state text, offset_first_ns int?,
        offset_last_ns int?, offset_largest_ns int?, uncertainty_ns int?, frequency_ppm double?, steps int,
        exchanges int, neighbours int, spans int, moved int, verdict text, advice text""",
    "skew/offsets.parquet": """
        clock text, segment int, time_unix_nano int, local_unix_nano int, time time, offset_ns int?,
        applied_offset_ns int, uncertainty_ns int?, lower_ns int?, upper_ns int?, frequency_ppm double?, exchanges int?""",
    "skew/links.parquet": """
        client_clock text, server_clock text, call_class text, client_service text, server_service text,
        exchanges int, one_way int, early_ends int, set_aside int, min_round_trip_ns int?, p50_round_trip_ns int?,
        p99_round_trip_ns int?, asymmetry_ns int?, inversions_before int, inversions_after int,
        worst_inversion_ns int?""",
    "skew/steps.parquet": """
        clock text, time_unix_nano int, time time, kind text, duration_ns int, size_ns int, uncertainty_ns int,
        spans_straddling int""",
    "skew/findings.parquet": """
        trace_id text?, span_id text?, parent_span_id text?, clock text?, parent_clock text?, service_name text?,
        kind text, before_ns int?, after_ns int?, action text, reason text""",
    "skew/exchanges.parquet": """
        trace_id text, client_span_id text, server_span_id text, client_clock text, server_clock text,
        call_class text, client_service text, server_service text, request_sent_unix_nano int,
        request_received_unix_nano int, response_sent_unix_nano int, response_received_unix_nano int, time time,
        round_trip_delay_ns int, measured_offset_ns int, used text""",
}


def columns(table: str) -> dict[str, str]:
    """Name → type of a table's columns, in order."""
    text = " ".join(TABLES[table].split())
    parts = re.findall(r"(\w+) ((?:list<[^>]*>)|\w+\??)(?:,|$)", text)
    assert ", ".join(f"{name} {kind}" for name, kind in parts) == text, table
    return dict(parts)


def of_polars(kind: polars.DataType) -> str:
    match kind:
        case polars.String():
            return "text"
        case polars.Int64():
            return "int"
        case polars.Float64():
            return "double"
        case polars.Datetime(time_unit="us", time_zone="UTC"):
            return "time"
        case polars.List(inner=polars.String()):
            return "texts"
        case polars.List(inner=polars.Struct(fields=fields)):
            return "list<" + ", ".join(f"{field.name} {of_polars(field.dtype)}" for field in fields) + ">"
        case _:
            return "map" if "Map(String, String)" in str(kind) else str(kind)


def of_duckdb(kind: str) -> str:
    scalars = {
        "VARCHAR": "text",
        "BIGINT": "int",
        "DOUBLE": "double",
        "TIMESTAMP WITH TIME ZONE": "time",
        "VARCHAR[]": "texts",
        "MAP(VARCHAR, VARCHAR)": "map",
    }
    if inner := re.fullmatch(r"STRUCT\((.*)\)\[\]", kind):
        fields = re.findall(r'"?(\w+)"? (MAP\([^)]*\)|\w+)', inner[1])
        return "list<" + ", ".join(f"{name} {of_duckdb(kind)}" for name, kind in fields) + ">"
    return scalars.get(kind, kind)


def of_pandas(kind: str, expected: str) -> str:
    # pandas tells nested columns, and whole numbers with nulls, no further than this.
    if kind == "object" and (expected == "map" or expected == "texts" or expected.startswith("list<")):
        return expected
    scalars = {"str": "text", "int64": "int", "float64": "double", "datetime64[us, UTC]": "time"}
    found = scalars.get(kind, kind)
    if expected == "int?" and found == "double" or expected.endswith("?") and kind == "object":
        return expected
    return found


def with_polars(path: Path, expected: dict[str, str]) -> None:
    frame = polars.read_parquet(path)
    found = {name: of_polars(kind) for name, kind in frame.schema.items()}
    assert list(found.items()) == [(name, kind.rstrip("?")) for name, kind in expected.items()], found
    nulls = {name for name in frame.columns if frame[name].null_count() > 0}
    never = {name for name, kind in expected.items() if not kind.endswith("?")}
    assert not nulls & never, f"nulls in {nulls & never}"


def with_duckdb(path: Path, expected: dict[str, str]) -> None:
    table = duckdb.read_parquet(str(path))
    found = dict(zip(table.columns, (of_duckdb(str(kind)) for kind in table.types)))
    assert list(found.items()) == [(name, kind.rstrip("?")) for name, kind in expected.items()], found
    rows = duckdb.sql(f"select count(*) from '{path}'").fetchall()[0][0]
    # Reads every value of every column.
    counts = duckdb.sql(f"select count(columns(*)) from '{path}'").fetchall()[0]
    assert len(counts) == len(expected) and max(counts) == rows, (counts, rows)


def with_pandas(path: Path, expected: dict[str, str]) -> None:
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == list(expected), list(frame.columns)
    for name, kind in expected.items():
        found = of_pandas(str(frame[name].dtype), kind)
        assert found.rstrip("?") == kind.rstrip("?"), f"{name}: {found}, not {kind}"


def main(folder: Path) -> int:
    passed = failed = 0
    present = {str(path.relative_to(folder)) for path in folder.glob("*/*.parquet")}
    if unknown := present ^ set(TABLES):
        print(f"FAILED the files of the run and the tables described differ in {sorted(unknown)}")
        failed += 1
    for table in sorted(present & set(TABLES)):
        for reader in (with_polars, with_duckdb, with_pandas):
            try:
                reader(folder / table, columns(table))
                passed += 1
            except Exception as error:  # whatever a reader throws is what this is here to find
                print(f"FAILED {table} {reader.__name__}: {error}")
                failed += 1
    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
