"""The dashboard and the alert rules: each name in them exists, and Prometheus accepts them."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from glance.common import config, metrics
from glance.http import exposition

from support import checkout, images, pages

ROOT = pathlib.Path(__file__).resolve().parents[2]
ETC = ROOT / "etc/monitoring"
ALERTS = yaml.safe_load((ETC / "glance-alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ETC / "glance-dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SHOWN = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = [each.get("definition", "") for each in DASHBOARD["templating"]["list"]]
RUNS = {
    "monitoring": {"Let Prometheus collect them": "test_prometheus_accepts_what_the_page_prints"}
}
#: Labels that Prometheus adds, and that of buckets.
ADDED = {"job", "instance", "le"}
NAME = re.compile(r"\bglance_[a-z_]+\b")


def table_name(name):
    return name if name in metrics.TABLE else re.sub("_(bucket|sum|count)$", "", name)


def wrong(expression):
    """Return the names of metrics and labels in an expression that do not exist."""
    found = [metrics.TABLE.get(table_name(name)) for name in NAME.findall(expression)]
    if None in found or not (found or "up{" in expression):
        return [expression]
    known = ADDED.union(*(metric.labels for metric in found))
    for name, selector in re.findall(r"\b(glance_[a-z_]+)\{([^}]*)\}", expression):
        own = ADDED.union(metrics.TABLE[table_name(name)].labels)
        names = set(re.findall(r"([a-z]+) *(?:=~|!=|!~|=)", selector))
        if not names <= own:
            return [name, names - own]
    by = {
        name.strip()
        for part in re.findall(r"by \(([^)]*)\)", expression)
        for name in part.split(",")
    }
    return sorted(by - known)


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_rules_name_what_there_is(rule):
    assert not wrong(rule["expr"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    text = rule["annotations"]["summary"]
    assert text.endswith(".") and "{{ $labels.instance }}" in text or "deleted images" in text
    by = re.search(r"by \(([^)]*)\)", rule["expr"])
    if by:
        shown = set(re.findall(r"\$labels\.([a-z]+)", text))
        assert shown <= {name.strip() for name in by[1].split(",")}


def test_the_check_finds_what_does_not_exist():
    assert wrong("glance_nothing > 0")
    assert wrong('glance_uploads_total{tenant="x"} > 0')
    assert wrong("sum by (owner) (glance_uploads_total)")
    assert not wrong('sum by (job, outcome) (rate(glance_uploads_total{source="copy"}[5m]))')


def test_words_of_labels_are_those_of_the_table():
    for expression in (*SHOWN, *(rule["expr"] for rule in RULES)):
        for name, selector in re.findall(r"\b(glance_[a-z_]+)\{([^}]*)\}", expression):
            values = metrics.TABLE[table_name(name)].values
            for label, words in re.findall(r'([a-z]+)(?:=~|!=|=)"([^"$]*)"', selector):
                if label not in ("status", "method", "job"):
                    assert all(f"`{word}`" in values[label] for word in words.split("|"))


def test_each_alert_has_advice():
    text = pages.text("monitoring")
    told = re.findall(r"^``(Glance\w+)``$", text, re.MULTILINE)
    assert told == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("expression", [*SHOWN, *filter(None, VARIABLES)])
def test_panels_name_what_there_is(expression):
    assert not wrong(expression.replace("label_values(", ""))


def test_each_metric_is_on_the_dashboard():
    shown = {table_name(name) for text in SHOWN for name in NAME.findall(text)}
    assert shown == set(metrics.TABLE)


def test_panels_do_not_cover_each_other():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["title"] for panel in DASHBOARD["panels"])


# -- what Prometheus itself says ------------------------------------------------------------------


def promtool(*words, text=None):
    images.need("promtool")
    command = ["promtool", *map(str, words)]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.peers
def test_prometheus_accepts_the_rules():
    code, said = promtool("check", "rules", ETC / "glance-alerts.yml")
    assert code == 0, said


@pytest.mark.peers
def test_prometheus_accepts_what_the_page_prints(tmp_path):
    block, check = checkout.blocks(pages.path("monitoring"), "Let Prometheus collect them")
    (tmp_path / "prometheus.yml").write_text(block.replace("/etc/prometheus", str(tmp_path)))
    shutil.copy(ETC / "glance-alerts.yml", tmp_path)
    program, *words = check.replace("/etc/prometheus", str(tmp_path)).split()
    assert program == "promtool"
    code, said = promtool(*words)
    assert code == 0 and f"{len(RULES)} rules found" in said, said


@pytest.mark.peers
def test_prometheus_accepts_the_expressions_of_the_dashboard(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, text in enumerate(SHOWN)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    code, said = promtool("check", "rules", path)
    assert code == 0, said


@pytest.mark.peers
def test_prometheus_finds_no_fault_in_names_and_texts(tmp_path):
    shown = exposition.Exposition(config.Conf({"metrics_directory": str(tmp_path)}))
    try:
        shown.join("0")
        for metric in metrics.TABLE.values():
            child = metric.child(tuple("x" for _ in metric.labels))
            (child.observe if metric.buckets else child.inc)(1.0)
        page = shown.page().decode()
    finally:
        shown.leave()
        shown.close()
    code, said = promtool("check", "metrics", text=page)
    assert code == 0 and not said.strip(), said


#: Series, a value for each minute, and the labels of the alert that they raise at the end.
SCENES = {
    "GlanceErrors": (
        {
            'glance_http_requests_total{job="glance-api",instance="a",status="200"}': "0+60x40",
            'glance_http_requests_total{job="glance-api",instance="a",status="503"}': "0+6x40",
        },
        {"job": "glance-api", "instance": "a"},
    ),
    "GlanceWorkersMissing": (
        {
            'glance_workers{job="glance-api",instance="a"}': "4x40",
            'glance_workers_alive{job="glance-api",instance="a"}': "3x40",
        },
        {"job": "glance-api", "instance": "a"},
    ),
    "GlanceNotificationsLost": (
        {
            'glance_notifications_total{job="glance-api",event="dropped"}': "0x30 1x10",
        },
        {"job": "glance-api"},
    ),
    "GlanceUploadsStall": (
        {
            'glance_uploads_in_progress{job="glance-api",instance="a"}': "1x40",
            'glance_copies{job="glance-api",instance="a",state="running"}': "0x40",
            'glance_http_received_bytes_total{job="glance-api",instance="a",route="/"}': "9x40",
        },
        {"job": "glance-api", "instance": "a"},
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", SCENES)
def test_alerts_are_raised(tmp_path, name):
    series, labels = SCENES[name]
    rule = next(rule for rule in RULES if rule["alert"] == name)
    test = {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": "36m",
                "alertname": name,
                "exp_alerts": [{"exp_labels": {**labels, **rule["labels"]}}],
            },
        ],
    }
    alone = {"groups": [{"name": "one", "rules": [{**rule, "annotations": {}}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(alone))
    path = tmp_path / "test.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]})
    )
    code, said = promtool("test", "rules", path)
    assert code == 0, said
