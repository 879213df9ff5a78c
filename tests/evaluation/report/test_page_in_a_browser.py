"""The report in a real browser: it is all there, asks the network for nothing, and has nothing to complain about.

Chromium or Chrome is looked for on PATH, or is what XSARCOMP_CHROMIUM names.
"""

import html
import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsarcomp.evaluation.glossary import METRICS
from xsarcomp.evaluation.report.page import write_report
from xsarcomp.scenes.simulation import simulated_dataset

pytest.importorskip("jinja2", reason="the report is optional: pip install jinja2")
pytest.importorskip("matplotlib", reason="figures are optional: pip install matplotlib")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("XSARCOMP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium or Chrome on PATH: install one, or name it in XSARCOMP_CHROMIUM"
    ),
    pytest.mark.slow,
]
SIZE = (1000, 1400)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--no-pdf-header-footer",
    "--enable-logging=stderr",
    "--proxy-server=127.0.0.1:9",  # nobody listens there: what the browser itself wants goes nowhere
    "--proxy-bypass-list=<-loopback>",
    f"--window-size={SIZE[0]},{SIZE[1]}",
)
PROBE = """<script>
addEventListener("load", () => {
  const box = element => element.getBoundingClientRect();
  document.body.dataset.probe = JSON.stringify({
    images: [...document.images].map(image => ({
      complete: image.complete, width: image.naturalWidth, height: image.naturalHeight,
      shown: [box(image).width, box(image).height],
    })),
    rows: [...document.querySelectorAll("tbody tr")].map(row => ({text: row.innerText, height: box(row).height})),
    width: document.documentElement.scrollWidth,
    hidden: [...document.querySelectorAll(".scroll")].map(part => part.scrollWidth - part.clientWidth),
    height: document.documentElement.scrollHeight,
    font: getComputedStyle(document.querySelector("h1") || document.body).fontSize,
  });
});
</script>"""


def seen_by_browser(content, folder):
    """Open a page and look: what the probe measured, its picture, its print, its requests and complaints."""
    from PIL import Image

    page, picture, printed, network = (folder / name for name in ("page.html", "page.png", "page.pdf", "network.json"))
    page.write_text(content.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    files = f"--screenshot={picture}", f"--print-to-pdf={printed}", f"--log-net-log={network}"
    finished = subprocess.run(
        [CHROMIUM, *OPTIONS, *files, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    probe = re.search(r'data-probe="([^"]*)"', finished.stdout)
    return SimpleNamespace(
        **json.loads(html.unescape(probe[1])),
        picture=np.asarray(Image.open(picture).convert("RGB")),
        print=printed.read_bytes(),
        requests=requests_of_pages(network.read_text(encoding="utf-8")),
        complaints=[line for line in finished.stderr.splitlines() if re.search(r"CONSOLE[:(]", line)],
    )


def requests_of_pages(text):
    """Addresses that a page asked for, from Chromium's log; the browser's own requests have no origin."""
    log = json.loads(text)
    started = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs = [event.get("params", {}) for event in log["events"] if event["type"] == started]
    return [job["url"] for job in jobs if job.get("initiator", "not an origin") != "not an origin"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The report of two dates in two polarizations as the browser sees it."""
    folder = tmp_path_factory.mktemp("browser")
    dates = pd.DatetimeIndex(["2024-01-01", "2024-01-13"], name="time")
    scene = xr.concat(
        [simulated_dataset((180, 200), seed) for seed in (1, 2)], dim=dates, coords="minimal", compat="override"
    )
    generator = np.random.default_rng(0)
    restored = scene.map(lambda planes: planes * 10 ** generator.normal(0, 0.08, planes.shape), keep_attrs=True)
    write_report(folder / "report.html", scene, restored, names=("scene.tif", 'restored & "new" <1>.tif'))
    return seen_by_browser((folder / "report.html").read_text(encoding="utf-8"), folder)


def test_the_page_asks_the_network_for_nothing_and_has_no_errors(seen):
    assert seen.requests == []
    assert seen.complaints == []


def test_every_picture_is_there_in_its_size_and_fits_the_page(seen):
    assert len(seen.images) == 8
    for image in seen.images:
        assert image["complete"]
        assert min(image["width"], image["height"]) > 100
        width, height = image["shown"]
        assert 100 < width <= SIZE[0]
        assert height == pytest.approx(width * image["height"] / image["width"], rel=0.02)


def test_every_metric_has_a_visible_row(seen):
    shown = [row["text"] for row in seen.rows if row["height"] > 10]
    for metric in METRICS.values():
        (row,) = [
            text
            for text in shown
            if text.startswith(f"{metric.title}, {metric.unit}" if metric.unit else f"{metric.title}\n")
        ]
        assert metric.definition in " ".join(row.split())
    changes = next(text for text in shown if text.startswith(METRICS["change_false_alarm_rate"].title))
    assert re.search(r"0\.0\d", changes)


def test_the_page_does_not_scroll_sideways_and_looks_like_text_with_pictures(seen):
    assert seen.width <= SIZE[0]
    assert set(seen.hidden) == {0}, "a part of a table can only be seen by scrolling in it"
    assert seen.height > 2 * SIZE[1]
    assert float(seen.font.removesuffix("px")) > 20  # the style of the page is in effect
    assert seen.picture.shape == (SIZE[1], SIZE[0], 3)
    dark = seen.picture.min(axis=2) < 128
    assert 0.02 < dark.mean() < 0.5
    assert dark[:100].any()
    assert dark[-700:].any()


def test_the_page_can_be_printed(seen):
    assert seen.print.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page[^s]", seen.print)) > 2


def test_what_a_page_asks_for_and_complains_of_is_seen(tmp_path):
    """A page that does what ours must not: without this, an empty list would say nothing."""
    body = (
        '<img src="http://127.0.0.1:9/pixel.png"><link rel="stylesheet" href="https://example.invalid/style.css">'
        '<script>console.error("oops"); missing();</script>'
    )
    found = seen_by_browser(f"<!DOCTYPE html><html><body>{body}</body></html>", tmp_path)
    assert sorted(found.requests) == ["http://127.0.0.1:9/pixel.png", "https://example.invalid/style.css"]
    assert any("oops" in line for line in found.complaints)
    assert any("missing is not defined" in line for line in found.complaints)
    assert found.images[0]["width"] == 0


def test_a_preview_asks_the_network_for_nothing_and_shows_each_pixel_of_its_crops(tmp_path):
    simulated_dataset((128, 136), 1).sarcomp.preview([1], crop=128).save(tmp_path / "saved.html")
    found = seen_by_browser((tmp_path / "saved.html").read_text(encoding="utf-8"), tmp_path)
    assert found.requests == []
    assert found.complaints == []
    assert len(found.images) == 4
    for image in found.images:
        assert image["complete"]
        assert (image["width"], image["height"]) == (128, 128)
        assert image["shown"] == [256, 256]
    assert all(row["height"] > 10 for row in found.rows)
    assert found.width <= SIZE[0]
