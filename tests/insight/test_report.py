"""The pages: one file, nothing fetched, every text escaped, well formed, drawn to the data; and `profile` as a command.

Checked by the standard library's parser.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attacks import MARKUP
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import clustered

from minestream.cli.insight import profile as command
from minestream.errors import OutputError, UsageError
from minestream.insight.html import bars, curves, escaped, histogram, page, table, values
from minestream.insight.pages import describe_html
from minestream.insight.profiling import profile
from minestream.mining.pipeline import mine

NASTY = "<script>alert(1)</script>"
VOID = {"meta", "rect", "line", "circle", "path", "polyline", "br"}


class Page(HTMLParser):
    """Tags, texts and addresses of a page; fails where tags do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def assert_self_contained(text: str) -> Page:
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name in ("src", "href") or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", text)
    assert "width=device-width" in text
    assert "default-src 'none'" in text
    assert "nan" not in "".join(value or "" for name, value in found.attributes if name in ("d", "points", "x", "y"))
    return found


@pytest.fixture
def nasty() -> pa.Table:
    """Labels, ids and texts that are markup; some labels are wrong."""
    rows, labels = clustered(3, [40] * 4, 6, spread=0.3)
    labels[5], labels[17] = (labels[5] + 1) % 4, (labels[17] + 2) % 4
    return pa.table({
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 6),
        "label": [f"{NASTY}{label}" for label in labels],
        "id": [f"<b>{i}</b>&\"'" for i in range(len(labels))],
        "text": [f"{NASTY} row {i}" for i in range(len(labels))],
    })  # fmt: skip


def test_the_report_shows_everything_and_no_text_is_markup(nasty: pa.Table, tmp_path: Path) -> None:
    found = profile(nasty, tmp_path / "look", carry="text", progress="none")
    assert found["suspects"]["rows"] >= 2
    text = (tmp_path / "look" / "report.html").read_text(encoding="utf-8")
    seen = assert_self_contained(text)
    assert NASTY not in text
    assert "<b>" not in text
    shown = "".join(seen.texts)
    assert f"{NASTY} row 5" in shown
    assert "<b>5</b>&\"'" in shown
    assert seen.tags.count("svg") >= 3
    for heading in ("Overview", "Distances", "Margins", "Suspects", "Hubs", "Labels", "Norms"):
        assert heading in seen.texts


@pytest.mark.parametrize("emit", ["triplets", "pairs", "tuples"])
def test_the_page_of_a_mined_file(nasty: pa.Table, tmp_path: Path, emit: str) -> None:
    mine(nasty, tmp_path / "out.parquet", emit=emit, band="any" if emit == "pairs" else "semi-hard", progress="none")
    written = describe_html(tmp_path / "out.parquet", tmp_path / "out.html")
    seen = assert_self_contained(Path(written).read_text(encoding="utf-8"))
    assert "Funnel" in seen.texts
    assert seen.tags.count("svg") >= 3
    with pytest.raises(OutputError, match="cannot write"):
        describe_html(tmp_path / "out.parquet", tmp_path / "missing" / "out.html")
    with pytest.raises(OutputError, match="exists"):
        describe_html(tmp_path / "out.parquet", tmp_path / "out.html", overwrite=False)
    assert describe_html(tmp_path / "out.parquet", tmp_path / "out.html") == written, "a page takes the place of a page"
    (tmp_path / "notes.html").write_text("<html>mine</html>")
    with pytest.raises(OutputError, match="did not write it"):
        describe_html(tmp_path / "out.parquet", tmp_path / "notes.html")


def test_charts_are_drawn_to_scale() -> None:
    drawn = histogram("h", [0.0, 1.0, 2.0, 3.0], {"a": [1, 3, 0], "b": [0, 0, 0]})
    heights = [float(y) for y in re.findall(r"V([\d.]+)", drawn)]
    floor = heights[-1]
    assert (floor - heights[0]) * 3 == pytest.approx(floor - heights[1], abs=0.1)
    lengths = [
        float(width) for width in re.findall(r'rect x="210" y="\d+" width="([\d.]+)"', bars("b", {"x": 2, "y": 1}))
    ]
    assert lengths == [300, 150]
    line = curves("c", [1.0, 2.0], {"a": [0.5, None], "b": [1.0, 0.0]})
    assert line.count("<circle") == 3


def test_nothing_to_draw_is_said() -> None:
    assert "nothing to draw" in histogram("h", [0.0, 1.0], {"a": [0]})
    assert "nothing to draw" in curves("c", [1.0], {"a": [None]})
    assert "none" in table([])
    Page(page("t", {NASTY: table([{NASTY: NASTY, "x": None}])}))


@pytest.mark.parametrize(("value", "shown"), [(None, "none"), (True, "yes"), (1234, "1,234"), (0.5, "0.5"), ([1], "1")])
def test_values_as_people_read_them(value: Any, shown: str) -> None:
    assert escaped(value) == shown


def test_ids_and_labels_are_names_without_separators() -> None:
    assert "<td>12345</td>" in table([{"id": 12345}])
    assert "<td>12345, 6</td>" in table([{"neighbor_ids": [12345, 6]}])
    assert "<td class=n>12,345</td>" in table([{"rows": 12345}])


# ---------------------------------------------------------------- the command


def write(table: pa.Table, path: Path) -> str:

    pq.write_table(table, path)
    return str(path)


def test_the_command_prints_json_or_text(nasty: pa.Table, tmp_path: Path) -> None:
    source = write(nasty, tmp_path / "in.parquet")
    options = ["--margin", "0.1,0.2", "--progress", "none", "--sample", "50"]
    result = CliRunner().invoke(command, [source, *options, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert [entry["margin"] for entry in found["margins"]] == [0.1, 0.2]
    for name in ("rows", "positive_pairs", "negative_pairs", "recall_at", "map_at_r"):
        assert name in found
    text = CliRunner().invoke(command, [source, *options, "-o", str(tmp_path / "look")], catch_exceptions=False).stdout
    assert "50 of 160 anchors" in text
    assert "suspects.parquet" in text
    with pytest.raises(UsageError, match="margin takes a number"):
        CliRunner().invoke(command, [source, "--margin", "few"], catch_exceptions=False)


def test_a_float_that_is_no_number_never_reaches_json(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    found = profile(
        pa.table({"embedding": list(rows), "label": list(range(12))}), tmp_path / "look", metric="euclidean",
        progress="none",
    )  # fmt: skip
    assert found["map_at_r"] is None
    assert found["recall_at"] == {"1": None, "5": None, "10": None}
    assert found["positive_pairs"] == 0
    assert_self_contained((tmp_path / "look" / "report.html").read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_and_runs_nothing(tmp_path: Path, width: int) -> None:
    vectors, labels = clustered(5, [20] * 4, 6)
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 6)
    named = [f"<script>document.title='{label}'</script>" for label in labels]
    profile(pa.table({"label": named, "embedding": values}), tmp_path / "look")
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1600"]
    address = (tmp_path / "look" / "report.html").as_uri()
    shown = subprocess.run([*browser, "--dump-dom", address], capture_output=True, text=True, check=True).stdout
    assert "<title>Profile of" in shown
    assert shown.count("<svg") >= 3
    picture = tmp_path / "page.png"
    subprocess.run([*browser, f"--screenshot={picture}", address], capture_output=True, check=True)
    assert picture.stat().st_size > 20_000  # an empty page has a few thousand bytes


# ---------------------------------------------------------------- no text is markup

TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "section", "p", "div", "table", "thead", "tbody",
        "tr", "th", "td", "svg", "rect", "path", "line", "text", "circle", "polyline", "span"}  # fmt: skip


class Tags(HTMLParser):
    """Fails at a tag or attribute that no page of ours has."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "href")]


TEXTS = st.one_of(st.sampled_from(MARKUP), st.text(st.characters(), max_size=20))


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_no_text_is_markup_in_a_page(a: str, b: str) -> None:
    counts = {a: [1.0, 2.0]}
    body = table([{a: b, "id": b, "_labels": [a, b]}]) + values({a: b, b: [a, {"x": a}]}) + bars(a, {b: 1})
    body += histogram(a, [0.0, 1.0, 2.0], counts) + curves(b, [0.0, 1.0], counts)
    found = page(a, {b: body})
    found.encode()
    Tags().feed(found)
    assert not set(found) & set("\0\x1b\u202e")
