"""The table of `distill bench`, for markdown and for the terminal.

There is one column for each contestant and one row for each quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_cli.reports import formatting
from distill_cli.reports.formatting import markdown_table, markdown_text
from distill_cli.reports.run.origin import origin
from distill_cli.reports.terminal import console, print_line, print_origin, table

SIZES = {
    "parameters": "parameters",
    "macs": "MACs a sample",
    "peak_activation_bytes": "activations at batch 1, bytes at most",
    "weight_bytes": "weights, bytes",
    "file_bytes": "file, bytes",
}


def rows(bench: Mapping[str, Any]) -> list[list[str]]:
    """Return the table's rows, the first cell of each being the quantity's name.

    Args:
        bench: the report's section ``bench``.
    """
    results = list(bench["results"].values())
    table_rows = [[title, *(formatting.count(result.get(key)) for result in results)] for key, title in SIZES.items()]
    batches = list(results[0]["latency_ms"])
    for batch in batches:
        for key in ("p50", "p99"):
            table_rows.append(
                [f"batch {batch}, {key}", *(formatting.milliseconds(result["latency_ms"][batch][key]) for result in results)]
            )
        table_rows.append([f"batch {batch}, rows/s", *(formatting.count(result["rows_per_second"][batch]) for result in results)])
    table_rows.append(["memory, runtime alone", *(formatting.size(result["runtime_memory_bytes"]) for result in results)])
    for batch in dict.fromkeys((batches[0], batches[-1])):
        table_rows.append(
            [f"memory, up to batch {batch}", *(formatting.size(result["peak_memory_bytes"][batch]) for result in results)]
        )
    return table_rows


def conditions(report: Mapping[str, Any]) -> str:
    """Return one sentence on the conditions of the measurement."""
    bench, provenance = report["bench"], report["provenance"]
    threads = f"{bench['threads']} thread{'s' if bench['threads'] != 1 else ''}"
    calls = f"{bench['warm_up_calls']} calls of warm-up, then {bench['seconds']:g} s or {bench['least_calls']} calls a batch size"
    units = "rows/s at the median; memory is the peak of the whole process"
    return f"{provenance['machine']['processor']}, {threads}; a process each; {calls}; {units}"


def markdown(report: Mapping[str, Any]) -> str:
    """Return the text of report.md."""
    header = ["", *(markdown_text(name) for name in report["bench"]["results"])]
    lines = [
        f"# {markdown_text(report['name'])}",
        "",
        f"{markdown_text(origin(report))}.",
        "",
        *markdown_table(header, rows(report["bench"])),
        "",
        f"{markdown_text(conditions(report))}.",
    ]
    return "\n".join(lines) + "\n"


def show(report: Mapping[str, Any], out: Path) -> None:
    """Print the table on the terminal."""
    on = console()
    print_origin(on, report)
    on.print(table(on, ["", *report["bench"]["results"]], rows(report["bench"])))
    print_line(on, conditions(report))
    print_line(on, f"run folder: {out}")
