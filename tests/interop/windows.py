"""Three windows of a scenario that writes JSON, as the stage records them: PROGRAM SCENARIO FOLDER.

Traces are parted by when they begin, and each third is corrected after the one before it. FOLDER/windows has the outputs."""

import json
import subprocess
import sys
from pathlib import Path

program, scenario, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
subprocess.run([program, "simulate", scenario, "--out", folder / "dump"], check=True)

# A record for each span, so that traces can be parted.
records = []
for line in (folder / "dump/traces.jsonl").read_text().splitlines():
    for resource in json.loads(line)["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                alone = {**resource, "scopeSpans": [{**scope, "spans": [span]}]}
                records.append((span, json.dumps({"resourceSpans": [alone]}) + "\n"))

begins = {}
for span, _ in records:
    start = int(span["startTimeUnixNano"])
    begins[span["traceId"]] = min(start, begins.get(span["traceId"], start))
first, last = min(begins.values()), max(begins.values())
windows = [[], [], []]
for span, record in records:
    windows[min(3 * (begins[span["traceId"]] - first) // (last - first), 2)].append(record)

after = []
for number, window in enumerate(windows, 1):
    dump, out = folder / f"{number}.jsonl", folder / f"windows/window=2025-06-15T15-0{number}-00Z-{number}"
    dump.write_text("".join(window))
    subprocess.run([program, "fix", dump, "--reference", "gateway-1", "--out", out, *after], check=True)
    after = ["--after", out]
