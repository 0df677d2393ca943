"""What a campaign injected and what the checker found, as tables for docs/guarantees.md; what makes it a failure."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from chaos.faults import Tally
from chaos.plan import KINDS
from chaos.proxy import MODES

from app.stream import failpoints

STATES = ("states wrong", "states not saved", "snapshots conflicting", "snapshots under a foreign key")


def text(tally: Tally, controls: Mapping[str, bool], session_s: float, seconds: float, where: str) -> str:
    """Markdown: faults and differences, the times back to work, and the machine."""
    found, every = tally.found, len(failpoints.NAMES) + len(failpoints.OF_REKEY)
    rows = [("fault injected", "times"), ("---", "---:")]
    rows += [(words, f"{tally.faults[kind]:,}") for kind, words in KINDS.items() if tally.faults[kind]]
    compared = [
        ("records", tally.records),
        ("results", tally.counts["results"]),
        ("lost", found["results missing"] + found["letters missing"] + found["episodes missing"]),
        ("without a point", found["results extra"] + found["letters extra"] + found["episodes extra"]),
        ("repeated", found["results repeated"] + tally.repeated),
        ("conflicting", sum(found[f"{what} conflicting"] for what in ("results", "letters", "episodes"))),
        ("out of order", found["sources out of order"] + found["gaps in the results"]),
        ("states compared", tally.counts["states"]),
        ("state differences", sum(found[kind] for kind in STATES)),
    ]
    says = ["| " + " | ".join(row) + " |" for row in rows]
    says += ["", "| " + " | ".join(name for name, _ in compared) + " |", "|" + " ---: |" * len(compared)]
    says += ["| " + " | ".join(f"{count:,}" for _, count in compared) + " |", ""]
    says.append(
        f"Failpoints: {len(+tally.failpoints)} of {every}, {_range(tally.failpoints)} times each. "
        f"{tally.restarts:,} workers started; {tally.inside_a_batch:,} partitions were taken over inside a batch. "
        f"Repeated by workers that were suspended past their session: {tally.repeated:,}; by others: "
        f"{found['results repeated']:,}. Dead letters and episodes may be repeated: "
        f"{found['letters repeated']:,} and {found['episodes repeated']:,}. "
        + _caught(controls)
        + _back(tally.backs, session_s)
        + _kept(tally)
        + f"{seconds / 60:.0f} minutes on {where}"
    )
    return "\n".join(says)


def _range(times: Counter[str]) -> str:
    least, most = min((+times).values(), default=0), max(times.values(), default=0)
    return f"{least}" if least == most else f"{least} to {most}"


def _caught(controls: Mapping[str, bool]) -> str:
    if not controls:
        return ""
    return f"Broken programs that the same checker caught: {sum(controls.values())} of {len(controls)}. "


def _back(backs: Sequence[float], session_s: float) -> str:
    if not backs:
        return ""
    return (
        f"After kill -9 all partitions were answered within {statistics.median(backs):.1f} s (median), "
        f"{max(backs):.1f} s (worst of {len(backs)}), at a session timeout of {session_s:g} s. "
    )


def _kept(tally: Tally) -> str:
    among = tally.kept + tally.moved
    if not among:
        return ""
    return f"Of {among} that were back within their session {tally.kept} took their partitions without a rebalance. "


def failures(tally: Tally, planned: Counter[str], names: Counter[str], records: int) -> list[str]:
    """Why the campaign proves nothing, or proves something wrong; empty when all is well."""
    said = [f"{where}: {faults}" for where, faults in tally.wrong.items()]
    done, reached = tally.faults, tally.failpoints
    said += [f"{kind}: {done[kind]} of {count}" for kind, count in planned.items() if done[kind] != count]
    said += [f"{name}: reached {reached[name]} of {count}" for name, count in names.items() if reached[name] < count]
    if planned["cuts"] >= 3 * len(MODES):
        said += [f"the network never failed by {mode}" for mode in MODES if not tally.modes[mode]]
    if tally.moved:
        said.append(f"back within their session, but in another generation of the group: {tally.moved}")
    restarts = planned["kills"] + planned["failpoints"]
    floors = {
        "records": (tally.records, records),
        "results": (tally.counts["results"], records),  # an array gives more than one
        "dead letters": (tally.counts["letters"], records // 400),
        "episodes": (tally.counts["episodes"], records // 1000),
        "episodes that changed": (tally.counts["episodes changed"], records // 5000),
        "states": (tally.counts["states"], 80),
        "takeovers inside a batch": (tally.inside_a_batch, restarts // 10),
        "takeovers that computed again": (tally.replays, restarts // 4),
    }
    return said + [f"{what}: {found:,}, expected {least:,}" for what, (found, least) in floors.items() if found < least]
