"""The report: complete, self-contained, readable for machines that read aloud."""

import base64
import io
import itertools
import math
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsarcomp.errors import ConfigurationError, DimensionError, MissingDependencyError
from xsarcomp.evaluation.compare import compare
from xsarcomp.evaluation.glossary import METRICS
from xsarcomp.evaluation.report.page import embedded_image, write_report
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

pytest.importorskip("jinja2", reason="the report is optional: pip install jinja2")
pytest.importorskip("matplotlib", reason="figures are optional: pip install matplotlib")

EMPTY_ELEMENTS = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, text, and whether every element is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.rows = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def row(self, key):
        """Cells of the row of a metric."""
        metric = METRICS[key]
        heading = f"{metric.title}, {metric.unit}{key}" if metric.unit else f"{metric.title}{key}"
        return next(row for row in self.rows if row[0] == heading)


def restored_from(scene, rmse_db=0.8, seed=0):
    rng = np.random.default_rng(seed)
    return scene.map(lambda plane: plane * 10 ** rng.normal(0, rmse_db / 10, plane.shape), keep_attrs=True)


@pytest.fixture(scope="module")
def scenes():
    scene = simulated_dataset((200, 240), 1)
    restored = restored_from(scene)
    restored.vv.attrs["sarcomp_lossy"] = "1 bit per pixel <b>with a model</b>"
    return scene, restored


@pytest.fixture(scope="module")
def report(scenes, tmp_path_factory):
    """Path of a report and the metrics that came with it."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    return path, write_report(path, *scenes, names=("scene.tif", 'restored & "new" <1>.tif'))


@pytest.fixture(scope="module")
def page(report):
    return Page(report[0].read_text(encoding="utf-8"))


def test_the_metrics_are_those_of_the_comparison(report, scenes):
    assert report[1] == pytest.approx(compare(*scenes), nan_ok=True)


def test_the_page_refers_to_nothing_outside_and_runs_nothing(page, report):
    references = [
        (tag, attributes[name])
        for tag, attributes in page.elements
        for name in ("src", "href", "srcset", "action", "data", "poster", "background")
        if name in attributes
    ]
    assert references
    for tag, target in references:
        assert target.startswith("data:image/png;base64," if tag == "img" else "#")
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    text = report[0].read_text(encoding="utf-8")
    assert not [word for word in ("http:", "https:", "@import", "url(", "javascript:") if word in text]


def test_links_lead_to_sections_that_exist(page):
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= targets
    assert {"scenes", "metrics", "variable-1", "variable-2"} <= targets


def test_every_element_is_closed_and_has_what_readers_need(page):
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    for image in page.all("img"):
        assert len(image["alt"]) > 20
        assert int(image["width"]) > 0
        assert int(image["height"]) > 0
    headings = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in page.all("th"))


def test_names_and_attributes_are_text_and_not_markup(page):
    text = "".join(page.text)
    assert 'restored & "new" <1>.tif' in text
    assert "1 bit per pixel <b>with a model</b>" in text


def test_every_metric_has_its_values_meaning_and_goal(page, report):
    for key, metric in METRICS.items():
        _, *values, ideal, goal, meaning = page.row(key)
        assert len(values) == 3  # all, vv, vh
        assert (ideal, goal) == (metric.ideal, metric.goal or "none")
        assert meaning == metric.definition + metric.source
        assert ("met" in values[0] or "missed" in values[0]) == (metric.is_met(float(report[1][key])) is not None)
    assert page.row("rmse_db")[1] == f"{report[1]['rmse_db']:.4g}"
    assert page.row("valid_pixels")[1] == f"{report[1]['valid_pixels']:,}"


def test_pictures_come_first_then_goals_then_everything_else(report):
    text = report[0].read_text(encoding="utf-8")
    places = [
        'id="variable-1"', "Three pictures of vv", "The tiles of vv", 'id="variable-2"', "Three pictures of vh", 'id="metrics"',
        "Goals, and errors in short", "<code>bias_db", "<code>rmse_db", "Speckle and texture", 'id="details"', "Two histograms of vv",
        "Four maps of vv", 'id="scenes"',
    ]  # fmt: skip
    found = [text.index(place) for place in places]
    assert found == sorted(found)


def test_columns_of_variables_are_their_own_comparisons(page, scenes):
    for column, name in ((2, "vv"), (3, "vh")):
        alone = compare(scenes[0][name], scenes[1][name])
        assert page.row("rmse_db")[column] == f"{alone['rmse_db']:.4g}"


def test_goals_are_counted_and_those_missed_are_named(page, report):
    met = [METRICS[key].is_met(report[1][key]) for key in METRICS if METRICS[key].goal]
    text = " ".join("".join(page.text).split())
    assert f"{met.count(True)} of {len(met)} goals are met." in text
    assert not METRICS["enl_ratio"].is_met(report[1]["enl_ratio"])
    assert "Not met: Radiometric bias; ENL ratio" in text


def test_each_variable_has_four_pictures_and_the_positions_of_its_worst_tiles(page):
    pictures = [image["src"].partition(",")[2] for image in page.all("img")]
    assert len(pictures) == 8
    assert all(base64.b64decode(content, validate=True).startswith(b"\x89PNG") for content in pictures)
    assert sum(row[0].startswith("row ") and " (y 5" in row[0] for row in page.rows) == 8


def test_the_page_is_light_and_the_same_for_the_same_scenes(report, scenes, tmp_path):
    again = tmp_path / "again.html"
    write_report(again, *scenes, names=("scene.tif", 'restored & "new" <1>.tif'))
    assert again.read_bytes() == report[0].read_bytes()
    assert len(again.read_bytes()) < 2e6


def test_pictures_keep_their_colours():
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = figure_module.Figure(figsize=(4, 3))
    figure.add_subplot().imshow(np.random.default_rng(1).normal(size=(100, 100)), cmap="RdBu_r")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    from PIL import Image

    exact = np.asarray(Image.open(drawn).convert("RGB")).astype(int)
    embedded = embedded_image(figure)
    content = base64.b64decode(embedded.source.partition(",")[2])
    reduced = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert reduced.shape == exact.shape == (embedded.height, embedded.width, 3)
    assert np.abs(reduced - exact).max() <= 0.05 * 255


def test_of_a_stack_the_plane_with_the_largest_error_is_shown(tmp_path):
    dates = pd.date_range("2024-01-01", periods=3, freq="12D", name="time")
    scenes = [simulated_dataset((60, 70), seed)[["vv"]] for seed in range(3)]
    restored = [restored_from(scene, error) for scene, error in zip(scenes, (0.2, 0.9, 0.4), strict=True)]
    original, worse = (xr.concat(parts, dim=dates, coords="minimal", compat="override") for parts in (scenes, restored))
    write_report(tmp_path / "stack.html", original.chunk(time=1), worse.chunk(time=1))
    text = (tmp_path / "stack.html").read_text(encoding="utf-8")
    assert "time 2024-01-13T00:00, which has the largest error of 3 planes" in text
    assert "vv (3 planes)" in text
    page = Page(text)
    assert len(page.all("img")) == 4
    assert len(page.row("rmse_db")) == 5  # one variable needs no columns of its own


@pytest.mark.parametrize("part", [1.0, np.nan])
def test_scenes_without_a_valid_pixel_or_a_difference_are_reported_too(tmp_path, part):
    scene = simulated_dataset((60, 70), 1).vv * part
    metrics = write_report(tmp_path / "page.HTML", scene, scene, scale="power")
    text = (tmp_path / "page.HTML").read_text(encoding="utf-8")
    assert ("nothing was measured" in text) == math.isnan(part)
    assert math.isnan(metrics["rmse_db"]) == math.isnan(part)
    assert Page(text).open == []


def test_planes_are_loaded_once_and_one_after_the_other(tmp_path):
    loaded = []

    def load(block):
        loaded.append(block.shape)
        return block

    stack = xr.DataArray(np.full((3, 30, 30), 0.1), dims=("time", "y", "x"), name="vv").chunk(time=1)
    lazy = xr.apply_ufunc(load, stack, dask="parallelized", output_dtypes=[stack.dtype])
    loaded.clear()
    write_report(tmp_path / "lazy.html", stack, lazy, scale="power")
    assert loaded == [(1, 30, 30)] * 3


def test_what_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, scenes):
    with pytest.raises(ConfigurationError, match=r"ends in \.html"):
        write_report(tmp_path / "report.tif", *scenes)
    with pytest.raises(ConfigurationError, match="does not exist"):
        write_report(tmp_path / "absent" / "report.html", *scenes)
    with pytest.raises(DimensionError):
        write_report(tmp_path / "report.html", scenes[0], scenes[1].isel(x=slice(9)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("library", "name"), [("jinja2", "Jinja"), ("matplotlib.figure", "Matplotlib")])
def test_missing_libraries_are_named_with_what_to_install(tmp_path, scenes, monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{name}.*xsarcomp\[plot\]"):
        write_report(tmp_path / "report.html", *scenes)
