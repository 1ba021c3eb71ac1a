"""Alert rules and dashboard: every series, label and fault in them exists in the table of metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from pipeline.messages import Fault, Outcome
from pipeline.metrics import COMMON, SERIES, Kind

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
TARGET = {"job", "instance"}  # Prometheus's own
VALUES = {"fault": {*Fault, ""}, "outcome": set(Outcome)}
PARTS = ("lhs", "rhs", "expr", "param", "vector_selector")
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())


def exported() -> dict[str, set[str]]:
    """Every name that a scrape can give, with its labels."""
    found = {"up": {*COMMON, *TARGET}}
    for series in SERIES.values():
        labels = {*COMMON, *TARGET, *series.labels}
        if series.kind is Kind.HISTOGRAM:
            found |= {f"{series.name}_{part}": labels for part in ("sum", "count")}
            found[f"{series.name}_bucket"] = labels | {"le"}
        else:
            found[series.name] = labels
    return found


def nodes(expression: Any) -> Iterator[Any]:
    """The expression and everything inside it."""
    yield expression
    for part in (*(getattr(expression, name, None) for name in PARTS), *getattr(expression, "args", ())):
        if part is not None:
            yield from nodes(part)


def faults_of(text: str) -> list[str]:
    """What an expression speaks of that does not exist."""
    whole, known = list(nodes(promql_parser.parse(text))), exported()
    selected = [node for node in whole if isinstance(node, promql_parser.VectorSelector)]
    found = [f"no series {node.name}" for node in selected if node.name not in known]
    there = set().union(*(known.get(node.name or "", set()) for node in selected))
    for node in selected:
        for matcher in node.matchers.matchers:
            if matcher.name not in known.get(node.name or "", set()):
                found.append(f"{node.name} has no label {matcher.name}")
            unknown = set(matcher.value.split("|")) - VALUES.get(matcher.name, {*matcher.value.split("|")})
            found += [f"no {matcher.name} {value}" for value in unknown]
    return found + [f"no label {label}" for node in whole for label in labels_of(node) if label not in there]


def labels_of(node: Any) -> list[str]:
    """The labels that an aggregation or a match is made by."""
    modifier = getattr(node, "modifier", None)
    by = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None)
    return list(by or ())


def test_the_check_finds_what_is_wrong() -> None:
    assert faults_of("takt_triggers_totl > 0") == ["no series takt_triggers_totl"]
    assert faults_of("sum(rate(takt_step_seconds[5m]))") == ["no series takt_step_seconds"]
    assert faults_of('increase(takt_panels_total{camera="a"}[5m])') == ["takt_panels_total has no label camera"]
    assert faults_of('takt_panels_total{fault=~"LATE|LAMB"} > 0') == ["no fault LAMB"]
    assert faults_of("sum by (camera) (takt_panels_total) > 0") == ["no label camera"]
    assert faults_of("takt_open_panels - on (camera) takt_overdue_panels") == ["no label camera"]
    with pytest.raises(ValueError):
        faults_of("takt_open_panels >")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_speaks_of_what_exists_and_says_who_acts(rule: dict[str, Any]) -> None:
    assert faults_of(rule["expr"]) == []
    assert rule["labels"]["severity"] in ("page", "ticket")
    summary = rule["annotations"]["summary"]
    assert re.match(r"(Operator|Engineer|Maintenance): [A-Za-z]", summary), "who does what"
    selected = [node for node in nodes(promql_parser.parse(rule["expr"])) if hasattr(node, "matchers")]
    there = set.intersection(*(exported()[node.name] for node in selected))
    assert set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))) <= there


def test_the_first_rule_is_the_trigger_without_an_outcome() -> None:
    assert RULES[0]["alert"] == "TaktTriggerWithoutOutcome"
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_every_panel_of_the_dashboard_shows_what_exists() -> None:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert shown
    for expression in shown:
        assert faults_of(expression.replace("$station", "front").replace("$__rate_interval", "1m")) == []


def test_the_example_scrapes_the_job_that_the_rules_name() -> None:
    example = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    [job] = example["scrape_configs"]
    assert (job["job_name"], job["honor_labels"], example["rule_files"]) == ("takt", True, ["alerts.yml"])


def test_the_rules_fire_when_they_must() -> None:
    """Prometheus's own test of rules, on the cases in alerts_test.yml."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool, which comes with Prometheus")
    done = subprocess.run([promtool, "test", "rules", "alerts_test.yml"], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
