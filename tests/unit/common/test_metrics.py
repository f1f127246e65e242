"""The table of metrics: names, labels, and that code and table are the same."""

import ast
import pathlib
import re

import pytest

from glance.common import metrics

ROOT = pathlib.Path(__file__).resolve().parents[3]
OWN = ROOT / "glance/common/metrics.py"
CONSTANTS = {
    name: value for name, value in vars(metrics).items() if isinstance(value, metrics.Metric)
}
#: What must never be the name of a label: its values would be a caller's, or without end.
NOT_BOUNDED = {"tenant", "owner", "user", "id", "image", "path", "url", "address", "client"}


class Series:
    def __init__(self):
        self.value = 0.0
        self.observed = []

    def inc(self, amount):
        self.value += amount

    def set(self, value):
        self.value = value

    def observe(self, amount):
        self.observed.append(amount)


@pytest.fixture
def written():
    """Metrics are on; a dictionary of name and labels -> series."""
    found = {}

    def make(metric, labels):
        assert len(labels) == len(metric.labels), f"{metric.name} has the labels {metric.labels}"
        return found.setdefault((metric.name, labels), Series())

    metrics.switch_on(make)
    yield found
    metrics.switch_off()


def test_every_constant_is_in_the_table_under_a_name_of_its_own():
    assert {metric.name for metric in CONSTANTS.values()} == set(metrics.TABLE)
    assert len(CONSTANTS) == len(metrics.TABLE) >= 30


@pytest.mark.parametrize("metric", metrics.TABLE.values(), ids=metrics.TABLE)
def test_names_follow_the_rules_of_prometheus(metric):
    assert re.fullmatch(r"glance(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == isinstance(metric, metrics.Counter)
    seconds = metric.name.endswith("_seconds") and not metric.name.endswith("_timestamp_seconds")
    assert seconds == isinstance(metric, metrics.Histogram)
    assert ("bytes" in metric.name) == ("ytes" in metric.help)
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert bool(metric.buckets) == isinstance(metric, metrics.Histogram)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("metric", metrics.TABLE.values(), ids=metrics.TABLE)
def test_labels_are_bounded_and_described(metric):
    assert not NOT_BOUNDED & set(metric.labels)
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    assert all(metric.values.values())
    assert metric.help.endswith(".") and set(metric.programs) <= set(metrics.ALL)


def used(path):
    """Return the names of the constants that a module uses, and the modules that it imports."""
    names, modules = set(), set()
    text = path.read_text(encoding="utf-8")
    if "metrics" not in text and "prometheus" not in text:
        return names, modules
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "metrics" and node.attr.isupper():
                names.add(node.attr)
        elif isinstance(node, ast.Import):
            modules.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Constant) and re.match("prometheus_client", str(node.value)):
            modules.add("prometheus_client")
    return names, modules


def test_each_metric_is_written_and_nothing_is_written_beside_the_table():
    names, users = set(), set()
    for path in (ROOT / "glance").rglob("*.py"):
        if path != OWN and "cli/docs" not in path.as_posix():
            found, modules = used(path)
            names |= found
            if "prometheus_client" in modules:
                users.add(path.relative_to(ROOT).as_posix())
    other = {"API", "REGISTRY", "CONVERTER", "SCRUBBER", "BOTH", "ALL", "ROUTE", "UNMATCHED"}
    assert names - other == set(CONSTANTS)
    assert users == {"glance/http/exposition.py"}


def test_without_prometheus_nothing_is_kept():
    metrics.switch_off()
    metrics.UPLOADS.inc("client", "stored")
    metrics.WORKERS.set(3)
    metrics.REGISTRY_SECONDS.observe(1.0, "get_record")
    assert not metrics.is_on()
    assert not any(metric._children for metric in metrics.TABLE.values())


def test_calls_reach_the_series_of_their_labels(written):
    metrics.UPLOADS.inc("client", "stored")
    metrics.UPLOADS.inc("client", "stored", by=2)
    metrics.UPLOADS.inc("copy", "failed")
    metrics.WORKERS.set(3)
    metrics.REGISTRY_SECONDS.observe(0.5, "get_record")
    assert written["glance_uploads_total", ("client", "stored")].value == 3
    assert written["glance_uploads_total", ("copy", "failed")].value == 1
    assert written["glance_workers", ()].value == 3
    seconds = written["glance_registry_call_duration_seconds", ("get_record",)]
    assert seconds.observed == [0.5]


def test_series_can_begin_with_nothing(written):
    metrics.begin(metrics.UPLOADS, ("client", "copy"), ["stored", "failed"])
    assert len(written) == 4 and not any(series.value for series in written.values())


def test_growth_adds_what_is_new_and_never_takes_away(written):
    growth = metrics.Growth()
    series = ("glance_cache_requests_total", ("hit",))
    for value, expected in ((0, 0), (3, 3), (3, 3), (5, 5), (4, 5), (6, 6)):
        growth.note(metrics.CACHE_REQUESTS, value, "hit")
        assert written[series].value == expected


def test_a_timed_call_counts_its_outcome_and_passes_errors_on(written):
    labels = ("file", "get")

    def call(error=None):
        if error:
            raise error
        return 5

    timed = metrics.timed(
        call,
        metrics.STORE_CALLS,
        metrics.STORE_SECONDS,
        lambda *_: labels,
        lambda err: "bad" if isinstance(err, KeyError) else "worse",
    )
    assert timed() == 5
    with pytest.raises(KeyError):
        timed(KeyError())
    metrics.switch_off()
    assert timed() == 5
    assert written["glance_store_calls_total", (*labels, "ok")].value == 1
    assert written["glance_store_calls_total", (*labels, "bad")].value == 1
    assert len(written["glance_store_call_duration_seconds", labels].observed) == 2


def test_a_request_without_a_route_to_note_costs_nothing():
    environ = {}
    metrics.took(environ, "/v1/images")
    assert not environ
    route = environ[metrics.ROUTE] = metrics.Route()
    assert route.template == metrics.UNMATCHED
    metrics.took({**environ}, "/v1/images")
    assert route.template == "/v1/images"
