"""Rules between settings.

A rule checks settings whose fields are valid one by one. Invalid fields are left out: ``trial`` builds the settings
without them, and a rule skips the checks that need them.
"""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from app.errors import ConfigurationError
from app.settings import paths
from app.settings.messages import describe_error
from app.settings.model import (
    AUTO,
    SOURCE_NAMES,
    Detection,
    HolidaySettings,
    InputSettings,
    MaintenanceSpan,
    Settings,
    SourceOverride,
)
from app.settings.sources import GivenSettings, Keys


class Trial(typing.NamedTuple):
    settings: Settings
    given: GivenSettings
    wrong: set[Keys]

    def is_valid(self, *paths: Keys) -> bool:
        """Whether no setting at, inside or around these paths is wrong."""
        return not any(path[: len(bad)] == bad or bad[: len(path)] == path for path in paths for bad in self.wrong)


def trial(sections: dict[str, Any], given: GivenSettings) -> Trial | None:
    """Settings without the invalid fields, which are added to the problems."""
    wrong: set[Keys] = set()
    sections = copy.deepcopy(sections)
    first = True
    while True:
        try:
            return Trial(Settings(**sections), given, wrong)
        except ValidationError as error:
            found = [describe_error(Settings, entry) for entry in error.errors(include_url=False)]
        if any(keys in wrong for keys, _ in found):
            return None  # leaving it out did not help
        for keys, what in found:
            # Later errors follow from what was left out; errors inside an invalid section add nothing.
            if first and not any(keys[:length] in wrong for length in range(len(keys))):
                given.problem(keys, what)
            wrong.add(keys)
            _leave_out(sections, keys)
        first = False


def _leave_out(values: Any, keys: Keys) -> None:
    """Remove the value at a path; an override keeps its position, a list of simple values is removed as a whole."""
    key: Any
    for depth, key in enumerate(keys):
        if not (isinstance(values, dict) or (isinstance(values, list) and isinstance(key, int))):
            return  # removed already, with a section around it
        inner = values.get(key) if isinstance(values, dict) else values[key]
        if depth == len(keys) - 1 or (isinstance(inner, list) and keys[0] != "sources"):
            if key == "match":
                values[key] = "*"
            elif isinstance(values, list):
                values[key] = {"match": "*"}
            else:
                values.pop(key, None)
            return
        values = inner


def check_kafka(trial: Trial) -> None:
    """All topics differ; SASL needs user name and password."""
    kafka = trial.settings.kafka
    topics: dict[Keys, str] = {
        ("kafka", "input_topic"): kafka.input_topic,
        ("kafka", "output_topic"): kafka.output_topic,
        ("kafka", "anomalies_topic"): kafka.anomalies_topic,
        ("kafka", "input_topic", "dead letters"): kafka.dead_letters_topic,
        ("kafka", "group_id"): kafka.changelog_topic,
        ("kafka", "group_id", "notifications"): kafka.notifications_topic,
        ("kafka", "group_id", "decisions"): kafka.decisions_topic,
    }
    if kafka.rekeys:
        topics["kafka", "group_id", "by source"] = kafka.by_source_topic
    seen: dict[str, Keys] = {}
    for keys, topic in topics.items():
        if not trial.is_valid(keys[:2]):
            continue
        # Brokers refuse a.b beside a_b: their metrics would share a name.
        other = seen.setdefault(topic.replace(".", "_"), keys)
        if other is not keys:
            said, here = (keys, other) if trial.given.origin(keys) else (other, keys)
            named = topics[here]
            trial.given.problem(
                said[:2], f"must differ from all other topics, got {topic!r}: {_topic_of(here)} is {named!r}"
            )
    if kafka.security_protocol.startswith("SASL") and trial.is_valid(("kafka", "security_protocol")):
        token = kafka.sasl_mechanism == "OAUTHBEARER"
        signed = token and (kafka.sasl_oauth_token_endpoint or "").startswith("aws-msk:")
        needed = ("sasl_oauth_token_endpoint",) if token else ()
        for name in needed + (() if signed else ("sasl_username", "sasl_password")):
            if not getattr(kafka, name) and trial.is_valid(("kafka", name)):
                of = "kafka.sasl_mechanism is OAUTHBEARER" if name in needed else ""
                trial.given.problem(
                    ("kafka", name), f"must be set when {of or f'kafka.security_protocol is {kafka.security_protocol}'}"
                )


def _topic_of(keys: Keys) -> str:
    if keys[-1] == "dead letters":
        return "the topic of kafka.input_topic's dead letters"
    if keys[-1] == "by source":
        return "the topic by source of kafka.group_id"
    if keys[-1] in ("notifications", "decisions"):
        return f"the topic of {keys[-1]} of kafka.group_id"
    return "the changelog of kafka.group_id" if keys[-1] == "group_id" else ".".join(map(str, keys))


def check_input(trial: Trial) -> None:
    """Paths are valid, each field has one meaning, and max_metrics allows all value_fields."""
    settings = trial.settings.input
    for role, what in path_problems(settings):
        if trial.is_valid(("input", role)):
            trial.given.problem(("input", role), what)
    defaults = not settings.format
    meanings = {
        "source_field": [settings.source_field] if settings.source_field else list(SOURCE_NAMES) * defaults,
        "timestamp_field": [settings.timestamp_field or "timestamp"] if settings.timestamp_field or defaults else [],
        "metric_field": [settings.metric_field] if settings.metric_field else [],
        "value_fields": settings.value_fields or ["value", "values", "metric"] * defaults,
    }
    seen: dict[str, str] = {}
    for role, names in meanings.items():
        for name in names:
            other = seen.setdefault(name, role)
            if other == role and names.count(name) > 1 and trial.is_valid(("input", role)):
                trial.given.problem(("input", role), f"must name each field once, got {name!r} twice")
                break
            if {other, role} == {"metric_field", "value_fields"} and not settings.value_fields:
                continue
            if other != role and trial.is_valid(("input", role), ("input", other)):
                said = role if trial.given.has(("input", role)) else other
                also = role if said == other else other
                trial.given.problem(("input", said), f"must not name {name!r}, which is read as input.{also}")
    most = settings.max_metrics
    vector = not settings.values_apart
    if (
        vector
        and len(settings.value_fields) > most
        and trial.is_valid(("input", "value_fields"), ("input", "max_metrics"))
    ):
        found = len(settings.value_fields)
        what = f"must be at most input.max_metrics = {most} names, got {found}"
        trial.given.problem(("input", "value_fields"), what)
    if settings.metric_field and settings.values_apart:
        trial.given.problem(
            ("input", "metric_field"), "must not be given with values_apart: each value has its own name"
        )
    if settings.metric_field and len(settings.value_fields) > 1 and trial.is_valid(("input", "value_fields")):
        what = f"must not be given with several value_fields, which have their own names, got {settings.metric_field!r}"
        trial.given.problem(("input", "metric_field"), what)
    unnamed = settings.value_fields and not (settings.values_apart or settings.metric_field or settings.format)
    for i, override in enumerate(trial.settings.sources):
        if override.metric is not None and unnamed and trial.is_valid(("input", "value_fields")):
            what = f"must not be given with input.value_fields: no field metric is read then, got {override.metric!r}"
            trial.given.problem(("sources", i, "metric"), what)


def path_problems(settings: InputSettings) -> Iterator[tuple[str, str]]:
    """(setting, what is wrong) of each that does not name fields as app/settings/paths.py says."""
    ones = ("points_field", "timestamp_field", "metric_field")
    named = [(role, name) for role in ones if (name := getattr(settings, role))]
    many = [(role, name) for role in ("value_fields", "labels") for name in getattr(settings, role)]
    for role, name in named + many:
        try:
            choice = paths.choice(name)
        except ValueError as error:
            yield role, str(error)
            continue
        if paths.is_template(name):
            yield role, f"must be a path: only source_field has braces, got {name!r}"
        elif not choice:
            yield role, f"must name a field, got {name!r}"
        elif role in ones and any(path.many for path in choice):
            yield role, f"must name one field, got {name!r}"
        elif role == "value_fields" and len(choice[0].text.encode()) > paths.MAX_METRIC_BYTES:
            yield role, f"must be names of at most {paths.MAX_METRIC_BYTES} bytes, got {name!r}"
    if settings.source_field:
        try:
            parts = paths.template(settings.source_field)
        except ValueError as error:
            yield "source_field", str(error)
        else:
            if not any(part.field for part in parts):
                yield "source_field", f"must name a field, got {settings.source_field!r}"


def _detections(settings: Settings) -> list[tuple[Keys, Detection]]:
    """The detection, and what each override gives of it, with their paths."""
    return [(("detection",), settings.detection), *((("sources", i), one) for i, one in enumerate(settings.sources))]


def check_detection(trial: Trial) -> None:
    """Every detector exists and accepts its parameters; at least one has a weight."""
    settings = trial.settings
    for at, detection in _detections(settings):
        whole = settings.detection.overridden(detection) if isinstance(detection, SourceOverride) else detection
        for name, member in detection.detectors.items():
            here = (*at, "detectors", name)
            if not trial.is_valid((*here, "method")) or member.method == "ensemble":
                continue
            if member.members:
                trial.given.problem((*here, "members"), f"must be given with method: ensemble, got {member.method!r}")
            for parameter, what in detector_problems(member.method, member.params, whole.allow_classes):
                trial.given.problem((*here, parameter), what)
        if trial.is_valid((*at, "drift")):
            for parameter, what in drift_problems(detection.drift):
                trial.given.problem((*at, "drift", parameter), what)
        if not trial.is_valid((*at, "detectors"), ("detection", "detectors")):
            continue
        low, high = whole.range_lowest, whole.range_highest
        if low is not None and high is not None and not low < high and trial.is_valid((*at, "range_lowest")):
            trial.given.problem((*at, "range_lowest"), f"must be below range_highest = {high!r}, got {low!r}")
        method = whole.effective_method
        if method == "ensemble":
            for keys, what in ensemble_problems(whole):
                trial.given.problem((*at, *keys), what)
        if method == "auto" and (others := [name for name in whole.detectors if name not in AUTO]):
            what = f"must be one of those of method auto, {', '.join(AUTO)}; for others give method: ensemble"
            trial.given.problem((*at, "detectors", others[0]), what)
        alone = method not in ("ensemble", "auto") and method not in whole.detectors
        if alone and trial.is_valid((*at, "method")):
            for _, what in detector_problems(method, {}):
                trial.given.problem((*at, "method"), what)


def check_calendar(trial: Trial) -> None:
    """Time zone, country and region exist, and spans end after they start."""
    for at, detection in _detections(trial.settings):
        zone = trial.settings.detection.timezone if "timezone" not in detection.model_fields_set else detection.timezone
        problems = calendar_problems(detection.timezone, detection.holidays)
        for keys, what in [*problems, *span_problems(zone, detection.maintenance)]:
            if trial.is_valid((*at, *keys)):
                trial.given.problem((*at, *keys), what)


def calendar_problems(timezone: str, holidays: HolidaySettings) -> Iterator[tuple[Keys, str]]:
    """Problems in one detection's calendar, each with its setting."""
    if timezone == Detection().timezone and holidays == HolidaySettings():
        return
    from app.detectors.support import calendar  # here: as detectors below

    for check, given in ((calendar.zone, (timezone,)), (calendar.holidays_of, (holidays.country, holidays.region))):
        try:
            check(*given)
        except ConfigurationError as error:
            name, _, what = str(error).partition(": ")
            yield tuple(name.split(".")), what


def span_problems(timezone: str, spans: Sequence[MaintenanceSpan]) -> Iterator[tuple[Keys, str]]:
    """Spans that do not end after they start; none where the zone is unknown."""
    if not spans:
        return
    from app.detectors.support import calendar  # here: as detectors below

    with suppress(ConfigurationError):
        zone = calendar.zone(timezone)
        for i, span in enumerate(spans):
            if calendar.instant(span.end, zone) <= calendar.instant(span.start, zone):
                yield ("maintenance", i, "end"), f"must be later than start = {span.start}, got {span.end!r}"


def ensemble_problems(detection: Any) -> Iterator[tuple[Keys, str]]:
    """Problems in the structure of detectors and ensembles, each with its setting."""
    given = detection.detectors
    if not given:
        yield ("detectors",), "must have at least one detector when method is ensemble, got none"
    holder: dict[str, str] = {}
    for name, one in given.items():
        if one.method != "ensemble":
            continue
        keys = ("detectors", name, "members")
        if not one.members:
            yield keys, "must name at least one detector"
        for member in one.members:
            if member not in given:
                yield keys, f"must name detectors that are given ({', '.join(given)}), got {member!r}"
            elif holder.setdefault(member, name) != name or one.members.count(member) > 1:
                yield keys, f"must name each detector in one ensemble once, got {member!r} again"
    for name in given:
        above, seen = name, [name]
        while (above := holder.get(above, "")) and above not in seen:
            seen.append(above)
        if above == name:
            yield ("detectors", name, "members"), f"must not lead back to itself, got {' in '.join([*seen, name])}"
            return
    top = [one for name, one in given.items() if name not in holder]
    if detection.ensemble != "max" and top and not any(one.weight for one in top):
        yield ("detectors",), "must give at least one detector a weight above 0, got 0 for all"


def check_state(trial: Trial) -> None:
    """A replay must cover fewer records than state.forget_after_records: app/state/expiry.py says why."""
    after, replay = ("state", "forget_after_records"), ("state", "replay_records")
    state = trial.settings.state
    if trial.is_valid(after, replay) and state.forget_after_records < state.replay_records:
        said, other = (after, replay) if trial.given.has(after) else (replay, after)
        few = "must be at least" if said is after else "must be at most"
        limit = getattr(state, other[1])
        found = getattr(state, said[1])
        trial.given.problem(said, f"{few} {'.'.join(other)} = {limit}, got {found}")


def detector_problems(method: str, params: dict[str, Any], allow_classes: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(parameter or "method", what is wrong) of every problem, from the registry of detectors."""
    from app import detectors  # here: it takes its time, and most who import the settings' types do without

    try:
        detector = detectors.find(method)
    except ConfigurationError as error:
        return [("method", str(error))]
    return _problems(method, params, lambda given: detector.params.check(
        method, detectors.with_allowed(detector, given, allow_classes)
    ))  # fmt: skip


def _problems(where: str, params: dict[str, Any], check: Callable[[dict[str, Any]], Any]) -> list[tuple[str, str]]:
    """All that ``check`` finds, which raises the first: what is wrong is left out, and checked again."""
    problems: list[tuple[str, str]] = []
    given = dict(params)
    while True:
        try:
            check(given)
            return problems
        except ConfigurationError as error:
            place, _, what = str(error).removeprefix(f"{where}.").partition(": ")
            name = re.split(r"\W", place)[0]
            problems.append((name, what if place == name else f"{place}: {what}"))
        if name not in given:
            return problems[:-1] if name in params else problems  # it is missing because it was left out here
        del given[name]


def drift_problems(given: Any) -> list[tuple[str, str]]:
    """(parameter, what is wrong) of every problem."""
    if not given.params:
        return []
    from app.detectors import drift  # here: as detectors above

    if given.method == drift.NONE:
        return [(name, "is a parameter of a method, and method is none") for name in given.params]
    known = drift.METHODS[given.method]
    return _problems(given.method, given.params, lambda params: known.check(given.method, params))


def check_api(trial: Trial) -> None:
    """Settings that need each other are given together."""
    api = trial.settings.api
    for one, needs in (("oidc_issuer", "oidc_audience"), ("oidc_audience", "oidc_issuer"),
                       ("tls_key_file", "tls_certificate_file")):  # fmt: skip
        if getattr(api, one) and not getattr(api, needs) and trial.is_valid(("api", one), ("api", needs)):
            trial.given.problem(("api", needs), f"must be set when api.{one} is")


RULES: tuple[Callable[[Trial], None], ...] = (
    check_kafka, check_input, check_state, check_detection, check_calendar, check_api
)  # fmt: skip
