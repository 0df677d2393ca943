"""Figures of ``app/sizing/model.py`` as text and JSON, in units that people read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.sizing.measured import Measured
from app.sizing.model import Need, Sizes


def value(number: float, unit: str) -> str:
    """Three digits, and the unit; bytes in the unit that fits.

    >>> value(0.1234, "GB"), value(12345.6, "records/s"), value(0.5, "of capacity"), value(7.0, "")
    ('123 MB', '12,300 records/s', '50 %', '7')
    """
    if unit == "of capacity":
        return f"{number:.0%}".replace("%", " %")
    if unit in ("GB", "MB", "GB a day", "MB/s"):
        scale = {"G": 1e9, "M": 1e6}[unit[0]]
        for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if number * scale >= size or prefix == "k":
                return f"{digits(number * scale / size)} {prefix}{unit[1:]}"
    one = unit in ("cores", "bytes") and digits(number) == "1"
    return f"{digits(number)} {unit[:-1] if one else unit}".rstrip()


def digits(number: float) -> str:
    """Three digits that count; of whole numbers below 10,000 all.

    >>> digits(1234.0), digits(1234.5), digits(0.01234), digits(0.0), digits(98765.4)
    ('1,234', '1,230', '0.0123', '0', '98,800')
    """
    if number == int(number) and abs(number) < 10_000:
        return f"{int(number):,}"
    short = float(f"{number:.3g}")
    return f"{short:,.0f}" if abs(short) >= 100 else f"{short:.3g}"


def text(sizes: Sizes, of: Measured) -> str:
    """One line for each figure, then resources for Kubernetes, warnings and the source of the costs."""
    rows = [(figure.name, value(figure.value, figure.unit), figure.rests_on) for figure in sizes.figures]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{name:<{widths[0]}}  {shown:>{widths[1]}}  {rests}" for name, shown, rests in rows]
    lines += ["", "Kubernetes, for each worker:", *("  " + line for line in kubernetes_lines(sizes))]
    lines += [f"warning: {warning}" for warning in sizes.warnings]
    return "\n".join([*lines, "", source(of)])


def kubernetes(sizes: Sizes) -> dict[str, dict[str, str]]:
    """Requests and limits of a worker. Its start compiles or loads with two threads, so that its limit is two cores."""
    memory = f"{-(-sizes['memory limit of a worker'] // 10) * 10 / 1.048576:.0f}Mi"
    cpu = f"{max(50, -(-sizes['CPU of a worker'] * 1000 // 10) * 10):.0f}m"
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "2", "memory": memory}}


def kubernetes_lines(sizes: Sizes) -> list[str]:
    lines = ["resources:"]
    for kind, given in kubernetes(sizes).items():
        lines.append(f"  {kind}: {{cpu: {given['cpu']}, memory: {given['memory']}}}")
    return lines


def source(of: Measured) -> str:
    """Where the figures are from."""
    versions = ", ".join(f"{name} {number}" for name, number in of.versions.items())
    return f"Measured on {of.date}: {of.machine}, {versions}."


def as_json(need: Need, sizes: Sizes, of: Measured) -> dict[str, Any]:
    """For programs: ``figures`` by name, each with value, unit and what it rests on."""
    return {
        "need": asdict(need),
        "figures": {
            one.name: {"value": one.value, "unit": one.unit, "rests_on": one.rests_on} for one in sizes.figures
        },
        "kubernetes": kubernetes(sizes),
        "warnings": sizes.warnings,
        "measured": {"machine": of.machine, "date": of.date, "versions": of.versions},
    }
