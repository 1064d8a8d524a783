"""What the Python SDK exports comes out of the second of two Collectors, span by span, with unskew between them.

    python tests/interop/sdk.py UNSKEW COLLECTOR

Both are programs. SDK → Collector → unskew (observing) → Collector → file, over gRPC and HTTP. Then SDK → Collector → file, and
→ unskew, which records: its window has the tables that `unskew fix` makes of the Collector's file.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import polars
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

SPANS = 1500


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def wait(what: str, holds) -> None:
    for _ in range(400):
        if holds():
            return
        time.sleep(0.05)
    sys.exit(f"{what}: not within 20 s")


def listens(port: int) -> bool:
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0


def is_ready(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).status == 200
    except OSError:
        return False


class Kept(SpanExporter):
    """All that the SDK exported."""

    def __init__(self):
        self.spans = []

    def export(self, spans):
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


class Programs:
    """Processes over one folder, each with a configuration, ended with SIGTERM in the order given."""

    def __init__(self, folder: Path):
        self.folder, self.running = folder, []

    def start(self, name: str, command: list[str], config: dict) -> subprocess.Popen:
        file = self.folder / f"{name}.yaml"
        # JSON is YAML.
        file.write_text(json.dumps(config))
        log = open(self.folder / f"{name}.log", "w")
        program = subprocess.Popen([*command, "--config", str(file)], stdout=log, stderr=log)
        self.running.append(program)
        return program

    def end(self) -> None:
        for program in self.running:
            program.terminate()
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()


def receiver(ports: tuple[int, int]) -> dict:
    grpc, http = (f"127.0.0.1:{port}" for port in ports)
    return {"otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}}


def collector(ports: tuple[int, int], exporters: dict) -> dict:
    pipeline = {"receivers": ["otlp"], "exporters": list(exporters)}
    return {
        "receivers": receiver(ports),
        "exporters": exporters,
        "service": {"pipelines": {"traces": pipeline}, "telemetry": {"metrics": {"level": "none"}}},
    }


def stage(ports: tuple[int, int], exporters: dict, admin: int) -> dict:
    pipeline = {"receivers": ["otlp"], "processors": ["unskew"], "exporters": list(exporters)}
    metrics = {"address": f"127.0.0.1:{admin}"}
    return {
        "receivers": receiver(ports),
        "processors": {"unskew": {"mode": "observe"}},
        "exporters": exporters,
        "service": {"pipelines": {"traces": pipeline}, "telemetry": {"metrics": metrics}},
    }


def make_spans(exporter: SpanExporter) -> list:
    """Of a tree of calls, with all that a span can carry; returns them as the SDK has them."""
    kept = Kept()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "host.name": "ä-1", "n": 3}))
    for each in (exporter, kept):
        provider.add_span_processor(BatchSpanProcessor(each, max_queue_size=2 * SPANS))
    tracer = provider.get_tracer("suite", "1.0")
    for nth in range(SPANS // 3):
        with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            outer.set_attributes({"text": "é \" \\ \n", "whole": -nth, "real": nth / 7, "yes": True, "many": ["a", "b"]})
            with tracer.start_as_current_span("call", kind=SpanKind.CLIENT) as call:
                call.add_event("retry", {"attempt": nth})
            link = [Link(call.get_span_context(), {"why": "after"})]
            with tracer.start_as_current_span("work", links=link) as work:
                work.set_status(Status(StatusCode.ERROR, "went wrong"))
    provider.shutdown()
    return kept.spans


def make_calls(exporter: SpanExporter) -> int:
    """Calls between three hosts, of which one is 50 ms ahead; returns how many spans they have."""
    ahead = {"a": 0, "b": 50_000_000, "c": 0}
    tracers, providers = {}, []
    for host in ahead:
        provider = TracerProvider(resource=Resource({"service.name": f"of-{host}", "host.name": host}))
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4096, schedule_delay_millis=100))
        tracers[host] = provider.get_tracer("suite", "1.0")
        providers.append(provider)
    began = time.time_ns() - 120_000_000_000
    for nth in range(600):
        client, server = [("a", "b"), ("b", "c"), ("c", "a")][nth % 3]
        at = began + nth * 200_000_000 + nth * 7_919 % 1_000_000
        there, back = (1_000_000 + nth * prime % 13 * 20_000 for prime in (104_729, 1_299_709))
        received = at + there
        call = tracers[client].start_span("call", kind=SpanKind.CLIENT, start_time=at + ahead[client])
        of_call = set_span_in_context(call)
        serve = tracers[server].start_span(
            "serve", context=of_call, kind=SpanKind.SERVER, start_time=received + ahead[server]
        )
        serve.end(received + 4_000_000 + ahead[server])
        call.end(received + 4_000_000 + back + ahead[client])
    # They share the exporter, which ends with any of them.
    for provider in providers:
        provider.force_flush()
    providers[0].shutdown()
    return 2 * 600


def value(any_value: dict):
    """An attribute's value as the SDK has it."""
    (kind, it), = any_value.items()
    match kind:
        case "intValue":
            return int(it)
        case "arrayValue":
            return tuple(value(each) for each in it.get("values", []))
        case _:
            return it


def attributes(of: dict) -> dict:
    return {each["key"]: value(each["value"]) for each in of.get("attributes", [])}


def of_file(path: Path) -> dict:
    spans = {}
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    key = span["spanId"]
                    assert key not in spans, f"{key} is there twice"
                    spans[key] = {
                        "trace": span["traceId"],
                        "parent": span.get("parentSpanId", ""),
                        "name": span["name"],
                        "kind": span["kind"],
                        "start": int(span["startTimeUnixNano"]),
                        "end": int(span["endTimeUnixNano"]),
                        "attributes": attributes(span),
                        "events": [
                            (event["name"], int(event["timeUnixNano"]), attributes(event))
                            for event in span.get("events", [])
                        ],
                        "links": [(link["spanId"], attributes(link)) for link in span.get("links", [])],
                        "status": (span["status"].get("code", 0), span["status"].get("message", "")),
                        "scope": (scope["scope"]["name"], scope["scope"]["version"]),
                        "resource": attributes(resource["resource"]),
                    }
    return spans


def of_sdk(spans: list) -> dict:
    codes = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}
    return {
        f"{span.context.span_id:016x}": {
            "trace": f"{span.context.trace_id:032x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else "",
            "name": span.name,
            "kind": span.kind.value + 1,
            "start": span.start_time,
            "end": span.end_time,
            "attributes": dict(span.attributes),
            "events": [(event.name, event.timestamp, dict(event.attributes)) for event in span.events],
            "links": [(f"{link.context.span_id:016x}", dict(link.attributes)) for link in span.links],
            "status": (codes[span.status.status_code], span.status.description or ""),
            "scope": (span.instrumentation_scope.name, span.instrumentation_scope.version),
            "resource": dict(span.resource.attributes),
        }
        for span in spans
    }


def through(protocol: str, compression: str, unskew: str, otelcol: str) -> None:
    ports = [free_port() for _ in range(7)]
    before, between, after, admin = tuple(ports[:2]), tuple(ports[2:4]), tuple(ports[4:6]), ports[6]

    def to(pair: tuple[int, int]) -> dict:
        # Without queues each hop answers when the next has.
        calm = {"sending_queue": {"enabled": False}}
        if protocol == "grpc":
            keys = {"endpoint": f"127.0.0.1:{pair[0]}", "tls": {"insecure": True}, "compression": compression}
        else:
            keys = {"endpoint": f"http://127.0.0.1:{pair[1]}", "compression": compression}
        return {"otlp_grpc" if protocol == "grpc" else "otlp_http": keys if pair is after else keys | calm}

    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(Path(folder))
        written = Path(folder) / "traces.json"
        try:
            programs.start("before", [otelcol], collector(before, to(between)))
            programs.start("unskew", [unskew, "serve"], stage(between, to(after), admin))
            programs.start("after", [otelcol], collector(after, {"file": {"path": str(written)}}))
            for port in (*before, *between, *after):
                wait(f"port {port}", lambda: listens(port))
            wait("unskew is ready", lambda: is_ready(admin))
            if protocol == "grpc":
                exporter = GrpcExporter(endpoint=f"127.0.0.1:{before[0]}", insecure=True)
            else:
                exporter = HttpExporter(f"http://127.0.0.1:{before[1]}/v1/traces", compression=Compression.Gzip)
            sent = of_sdk(make_spans(exporter))
        except SystemExit:
            print(*(log.read_text() for log in Path(folder).glob("*.log")), sep="\n")
            raise
        finally:
            programs.end()
        arrived = of_file(written)
    assert len(sent) == SPANS, len(sent)
    assert arrived.keys() == sent.keys(), f"{len(sent)} spans sent, {len(arrived)} arrived"
    for key, span in sent.items():
        assert arrived[key] == span, f"sent {span}\narrived {arrived[key]}"
    print(f"{protocol}, {compression}: {len(arrived)} spans, equal")


def recorded(unskew: str, otelcol: str) -> None:
    *ports, admin = (free_port() for _ in range(5))
    before, record = tuple(ports[:2]), tuple(ports[2:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = Programs(folder)
        written, out, fixed = folder / "traces.json", folder / "out", folder / "fixed"
        sink = stage(record, {}, admin)
        sink["processors"]["unskew"] = {"out": str(out), "drain_timeout": "60s"}
        del sink["exporters"], sink["service"]["pipelines"]["traces"]["exporters"]
        to = {"endpoint": f"127.0.0.1:{record[0]}", "tls": {"insecure": True}, "sending_queue": {"enabled": False}}
        try:
            programs.start("before", [otelcol], collector(before, {"file": {"path": str(written)}, "otlp_grpc": to}))
            programs.start("unskew", [unskew, "serve"], sink)
            for port in (*before, *record):
                wait(f"port {port}", lambda: listens(port))
            wait("unskew is ready", lambda: is_ready(admin))
            spans = make_calls(GrpcExporter(endpoint=f"127.0.0.1:{before[0]}", insecure=True))
        except SystemExit:
            print(*(log.read_text() for log in folder.glob("*.log")), sep="\n")
            raise
        finally:
            programs.end()
        subprocess.run([unskew, "fix", str(written), "--out", str(fixed)], check=True, stdout=subprocess.DEVNULL)
        (window,) = (out / "windows").iterdir()
        compare(window, fixed, spans)


def compare(window: Path, fixed: Path, spans: int) -> None:
    """Every table of a window is that of a run of `fix`, row by row."""
    tables = sorted(path.relative_to(fixed) for path in fixed.rglob("*.parquet"))
    assert tables == sorted(path.relative_to(window) for path in window.rglob("*.parquet")), tables
    for table in tables:
        # The folder's name is no column.
        ours, theirs = (polars.read_parquet(folder / table, hive_partitioning=False) for folder in (window, fixed))
        if "span_id" in ours.columns and table.parts[0] == "traces":
            assert ours.height == spans, f"{ours.height} of {spans} spans"
            ours, theirs = (rows.sort("trace_id", "span_id") for rows in (ours, theirs))
            assert ours.filter(polars.col("offset_ns") != 0).height > spans // 4, "nothing was moved"
        assert ours.equals(theirs), f"{table}: {ours}\n{theirs}"
    print(f"a window's {len(tables)} tables of {spans} spans are those of the Collector's file")


if __name__ == "__main__":
    for protocol in ("grpc", "http"):
        for compression in ("none", "gzip"):
            through(protocol, compression, *sys.argv[1:3])
    recorded(*sys.argv[1:3])
