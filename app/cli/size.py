"""``faust-anomaly size``: workers, memory, partitions, topics and traffic for a load."""

from __future__ import annotations

import json
from typing import Any

import click

from app.cli.common import settings_option


@click.command()
@settings_option
@click.option("--records-per-s", type=float, required=True, help="Records per second, on average.")
@click.option(
    "--series", type=int, required=True, help="Sources, and metrics of them that come in records of their own."
)
@click.option("--peak-records-per-s", type=float, help="The maximum for some minutes.  [default: the average]")
@click.option("--metrics", type=click.IntRange(1), default=1, show_default=True, help="Values in a record.")
@click.option(
    "--record-bytes",
    type=click.FloatRange(1.0),
    help="Key and value, uncompressed.  [default: those of the plain shape]",
)
@click.option(
    "--producer-codec",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
    help="Codec of the producers of raw-data.",
)
@click.option("--raw-days", type=click.FloatRange(0.0), default=7.0, show_default=True, help="Retention of raw-data.")
@click.option(
    "--results-days", type=click.FloatRange(0.0), default=7.0, show_default=True, help="Retention of anomaly-results."
)
@click.option("--replication-factor", type=click.IntRange(1), default=3, show_default=True)
@click.option("--partitions", type=click.IntRange(1), help="Of raw-data, if it has them.  [default: as many as fit]")
@click.option(
    "--headroom", type=float, default=0.4, show_default=True, help="Share of the capacity that is free at the peak."
)
@click.option(
    "--core-speed",
    type=float,
    default=1.0,
    show_default=True,
    help="Speed of your cores, compared with the measured ones.",
)
@click.option(
    "--view/--no-view", default=None, help="View, alerting and history in workers.  [default: as settings say]"
)
@click.option("--episodes-per-1000", type=click.FloatRange(0.0), help="Episodes for 1,000 records.  [default: 0.27]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def size(settings: Any, as_json: bool, view: bool | None, series: int, **given: Any) -> None:
    """Calculate what a load needs: workers, cores, memory, partitions, recovery time, topics, traffic of brokers.

    Detectors, codec, input.rekey and limits are those of the settings. Costs were measured; the last line says where.
    """
    from app.sizing import footprint, measured, shown  # not at the top: --help does without
    from app.sizing.model import EPISODES_PER_1000, Model, Need
    from app.sizing.model import size as sized

    need = Need(
        records_per_s=given["records_per_s"],
        series=series,
        metrics=given["metrics"],
        peak_per_s=given["peak_records_per_s"],
        record_bytes=given["record_bytes"],
        raw_days=given["raw_days"],
        results_days=given["results_days"],
        copies=given["replication_factor"],
        headroom=given["headroom"],
        speed=given["core_speed"],
        producer_codec=given["producer_codec"],
        view=settings.dashboard.enabled if view is None else view,
        partitions=given["partitions"],
        episodes_per_1000=EPISODES_PER_1000 if given["episodes_per_1000"] is None else given["episodes_per_1000"],
    )
    of = measured.load()
    sizes = sized(need, Model(of, footprint.of(settings, need.metrics), settings))
    click.echo(json.dumps(shown.as_json(need, sizes, of), indent=2) if as_json else shown.text(sizes, of))
