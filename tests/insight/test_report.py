"""The pages: one file, nothing fetched, every text escaped, well formed, drawn to the data; and `profile` as a command.

Checked by the standard library's parser.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import subprocess
import sys
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

import minestream
from minestream.cli.insight import profile as command
from minestream.cli.main import cli
from minestream.cli.profile_text import profile_text
from minestream.errors import InputError, OutputError, UsageError
from minestream.insight import neighbors, pages, sight
from minestream.insight.html import (
    MOST_TICKS,
    Card,
    bars,
    cards,
    code,
    curves,
    escaped,
    folded,
    histogram,
    log_ticks,
    note,
    page,
    round_ticks,
    share,
    table,
    tiles,
    values,
)
from minestream.insight.pages import describe_html
from minestream.insight.profiling import profile
from minestream.mining.pipeline import mine

NASTY = "<script>alert(1)</script>"
VOID = {"meta", "rect", "line", "circle", "path", "polyline", "br", "img"}


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
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert all(str(value).startswith("#s") for name, value in found.attributes if name == "href")
    assert all(str(value).startswith("data:image/") for name, value in found.attributes if name == "src")
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
    assert "<b>5" not in text
    shown = "".join(seen.texts)
    assert f"{NASTY} row 5" in shown
    assert "<b>5</b>&\"'" in shown
    assert seen.tags.count("svg") >= 3
    headings = ["Distances", "Margins", "Labels", "Hubs", "Suspects", "Duplicates across labels"]
    assert [each for each in seen.texts if each in headings] == headings * 2, "a line of contents, then the sections"
    assert not re.search(r"[a-z]_[a-z]", re.sub(r"\.box.*?</style>", "", shown)), "no name of a field"


def test_a_page_says_how_much_of_a_list_it_shows_and_where_the_rest_is(
    nasty: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "MOST_DUPLICATES", 30)
    profile(nasty, tmp_path / "all", near=0.0, progress="none")
    assert "are shown" not in (tmp_path / "all" / "report.html").read_text()
    for name in ("FOLDED_ROWS", "FOLDED_LABELS", "SHOWN_PAIRS"):
        monkeypatch.setattr(pages, name, 1)
    found = profile(nasty, tmp_path / "few", near=1.0, progress="none")
    text = (tmp_path / "few" / "report.html").read_text()
    assert f"1 of {found['labels']} labels are shown; all are in profile.json." in text
    assert f"1 of {found['suspects']['rows']} suspects are shown; all are in suspects.parquet." in text
    assert f"1 of {found['duplicates']['pairs']:,} pairs are shown; the first 30 are in duplicates.parquet." in text


def test_the_next_command_names_an_output_where_that_of_mine_is_there(
    nasty: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(nasty, tmp_path / "in.parquet")
    lines = []
    for _ in range(3):
        told = CliRunner().invoke(cli, ["profile", "in.parquet", "--progress", "none"], catch_exceptions=False).stdout
        lines.append(next(line.removeprefix("next: ") for line in told.splitlines() if line.startswith("next: ")))
        assert CliRunner().invoke(cli, shlex.split(lines[-1])[1:], catch_exceptions=False).exit_code == 0
    margin = shlex.split(lines[0])[-1]
    assert lines[1:] == [f"{lines[0]} -o in.m{margin}{more}.triplets.parquet" for more in ("", "-2")]


JPEG, PNG = b"\xff\xd8\xff\xe0 a photo", b"\x89PNG\r\n\x1a\n a drawing"


@pytest.mark.parametrize("way", ["column", "features", "struct"])
def test_a_page_names_labels_and_shows_texts_and_pictures(nasty: pa.Table, tmp_path: Path, way: str) -> None:
    numbers = [10 + int(label[-1]) for label in nasty["label"].to_pylist()]
    names = {10: "ten", 11: "eleven", 12: "twelve", 13: NASTY}
    table = nasty.drop_columns("label").append_column("label", pa.array(numbers))
    if way == "features":
        known = ["?"] * 10 + list(names.values())
        about = {"info": {"features": {"label": {"names": known, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    else:
        table = table.append_column("label_name", pa.array([names[number] for number in numbers]).dictionary_encode())
    pictures = [(JPEG, PNG, b"<svg/>", None)[row % 4] for row in range(len(table))]
    held = pa.array(pictures, pa.large_binary())
    if way == "struct":
        held = pa.array([{"bytes": each, "path": None} for each in pictures], pa.struct({"bytes": pa.binary()}))
    table = table.append_column("photo", held)
    found = profile(write(table, tmp_path / "in.parquet"), tmp_path / "look", image="photo", progress="none")
    assert {each["label"]: each["name"] for each in found["per_label"]["table"]} == names
    assert NASTY in profile_text(found)
    text = (tmp_path / "look" / "report.html").read_text()
    shown = "".join(assert_self_contained(text).texts)
    assert f"twelve → {NASTY}?" in shown or f"{NASTY} → twelve?" in shown or "eleven" in shown
    assert f"{NASTY} row 5" in shown
    for kind, picture in (("jpeg", JPEG), ("png", PNG)):
        assert f'src="data:image/{kind};base64,{base64.b64encode(picture).decode()}"' in text
    assert "<svg/>" not in text
    suspects = pq.read_table(tmp_path / "look" / "suspects.parquet")["row"].to_pylist()
    rows = {*suspects, *(row["row"] for row in found["hubs"]["top"])}
    assert f"{sum(row % 4 > 1 for row in rows)} pictures are not shown" in shown
    assert "label_name" not in found["columns"].values()


def test_pictures_end_where_the_page_has_room_for_no_more(nasty: pa.Table, tmp_path: Path, monkeypatch: Any) -> None:
    pictures = [PNG + b"%03d" % row for row in range(len(nasty))]
    monkeypatch.setattr(sight, "PICTURE_BYTES", 3 * len(pictures[0]))
    table = nasty.append_column("photo", pa.array(pictures))
    profile(table, tmp_path / "look", image="photo", progress="none")
    text = (tmp_path / "look" / "report.html").read_text()
    shown = {base64.b64decode(each) for each in re.findall(r"data:image/png;base64,([^\"]+)", text)}
    suspects = pq.read_table(tmp_path / "look" / "suspects.parquet")["row"].to_pylist()
    assert len(shown) == 3
    assert shown >= {pictures[row] for row in suspects[:3]}, "the worst suspects come first"
    with pytest.raises(InputError, match="cannot be the image: its type is string"):
        profile(table, image="text", progress="none")
    with pytest.raises(UsageError, match="read only once"):
        profile(table.to_reader(), image="photo", progress="none")


def test_texts_that_a_stream_carries_are_shown(nasty: pa.Table, tmp_path: Path) -> None:
    for name, options in {"carried": {"carry": "text"}, "not": {}}.items():
        profile(nasty.to_reader(), tmp_path / name, progress="none", **options)
        shown = "".join(Page((tmp_path / name / "report.html").read_text()).texts)
        assert (f"{NASTY} row 5" in shown) == (name == "carried")


@pytest.mark.parametrize("shards", [1, 2])
def test_similar_pairs_are_counted(nasty: pa.Table, tmp_path: Path, shards: int) -> None:
    out, source = tmp_path / "out.parquet", tmp_path / "in.parquet"
    pq.write_table(nasty, source)
    for part in range(shards):
        more = {"shard": f"{part + 1}/{shards}"} if shards > 1 else {}
        report = mine(source, out, emit="pairs", progress="none", **more)
    report = minestream.merge(out, source=source, progress="none") if shards > 1 else report
    similar = pq.read_table(out)["label"].to_pylist().count(1)
    assert (
        report.to_dict()["counters"]["similar_pairs"]
        == minestream.describe(out)["counts"]["similar_pairs"]
        == similar
        > 0
    )
    told = CliRunner().invoke(cli, ["describe", str(out)], catch_exceptions=False).output
    assert f"two rows, similar ({similar:,}) or dissimilar" in told
    mine(source, tmp_path / "t.parquet", progress="none")
    assert "similar_pairs" not in minestream.describe(tmp_path / "t.parquet")["counts"]


@pytest.mark.parametrize("emit", ["triplets", "pairs", "tuples"])
def test_the_page_of_a_mined_file(nasty: pa.Table, tmp_path: Path, emit: str) -> None:
    mine(nasty, tmp_path / "out.parquet", emit=emit, band="any" if emit == "pairs" else "semi-hard", progress="none")
    written = describe_html(tmp_path / "out.parquet", tmp_path / "out.html")
    seen = assert_self_contained(Path(written).read_text(encoding="utf-8"))
    assert "How it was mined" in seen.texts
    assert not re.search(r"distance_|score_", "".join(seen.texts))
    assert seen.tags.count("svg") >= 3
    with pytest.raises(OutputError, match="cannot write"):
        describe_html(tmp_path / "out.parquet", tmp_path / "missing" / "out.html")
    with pytest.raises(OutputError, match="exists"):
        describe_html(tmp_path / "out.parquet", tmp_path / "out.html", overwrite=False)
    assert describe_html(tmp_path / "out.parquet", tmp_path / "out.html") == written, "a page takes the place of a page"
    mine(nasty, tmp_path / "other.parquet", emit=emit, band="any", progress="none")
    profile(nasty, tmp_path / "look", progress="none")
    for out, other in (("other.parquet", "out.html"), ("out.parquet", "look/report.html")):
        there = (tmp_path / other).read_bytes()
        with pytest.raises(OutputError, match="is the page of something else\nchoose another"):
            describe_html(tmp_path / out, tmp_path / other)
        assert (tmp_path / other).read_bytes() == there
    (tmp_path / "empty.html").touch()
    describe_html(tmp_path / "out.parquet", tmp_path / "empty.html")
    (tmp_path / "notes.html").write_text("<html>mine</html>")
    with pytest.raises(OutputError, match="did not write it"):
        describe_html(tmp_path / "out.parquet", tmp_path / "notes.html")


def test_the_page_of_a_mined_file_says_what_was_read_and_left_out_as_the_terminal_does(
    nasty: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = [None if row < 9 else "alone" if row == 9 else name for row, name in enumerate(nasty["label"].to_pylist())]
    at = nasty.column_names.index("label")
    write(nasty.set_column(at, "kind <b>", pa.array(labels)), tmp_path / "in.parquet")
    mine("in.parquet", "out.parquet", label="kind <b>", progress="none")
    told = CliRunner().invoke(cli, ["describe", "out.parquet", "--html", "out.html"], catch_exceptions=False).stdout
    assert told.endswith("wrote out.html\n")
    text = (tmp_path / "out.html").read_text()
    assert_self_contained(text)
    shown = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    assert "columns vectors from embedding, labels from kind <b>, ids from id source in.parquet (160 rows)" in shown
    left_out = "left out 9 rows: unlabelled 1 row as anchor: no other row has their label"
    assert left_out in shown
    assert left_out in " ".join(told.split())
    assert shown.count("hardness mean loss") == told.count("hardness") == 1


def test_charts_are_drawn_to_scale() -> None:
    drawn = histogram("h", "x", [0.0, 1.0, 2.0, 3.0], {"a": [(0.25, 0.05), (0.75, None), (0, 0)], "b": [(0, 0)] * 3})
    heights = [float(y) for y in re.findall(r"V([\d.]+)", drawn)]
    floor = heights[-1]
    assert (floor - heights[0]) * 3 == pytest.approx(floor - heights[1], abs=0.1)
    low, high = (float(y) for y in re.findall(r'class="ci"[^>]* y1="([\d.]+)" y2="([\d.]+)"', drawn)[0])
    assert drawn.count('class="ci"') == 1
    assert (low - high) / (floor - heights[0]) == pytest.approx(0.1 / 0.25, abs=0.01)
    assert [float(width) for width in re.findall(r"width:([\d.]+)%", bars({"x": 2, "y": 1}))] == [100, 50]
    lines = {"a": [(0.5, 0.1), (None, None)], "b": [(1.0, None), (0.0, 0.0)]}
    line = curves("c", "x", [1.0, 2.0], lines, (2.0, "here"))
    assert line.count("<circle") == 3
    assert line.count('class="ci"') == 1
    middle = [
        float(x) for x in re.findall(r'circle cx="([\d.]+)"', curves("c", "x", [1, 10, 100], {"a": [(1, None)] * 3}))
    ]
    assert middle[1] - middle[0] == pytest.approx(middle[2] - middle[1], abs=0.02)
    mark, last = re.search(r'class="mark" x1="([\d.]+)"', line), re.findall(r'circle cx="([\d.]+)"', line)[-1]
    assert mark is not None
    assert mark[1] == last
    assert ">here</text>" in line


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e7))
def test_ticks_are_few_and_round(low: float, width: float) -> None:
    high = low + width
    if not width > 1e-6 * abs(low):
        return
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    assert all(low - 1e-6 * width <= each <= high + 1e-6 * width for each in ticks)
    step = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    assert f"{step:.0e}"[0] in "125"
    assert all(each / step == pytest.approx(round(each / step), abs=1e-3) for each in ticks)


def test_ticks_of_a_logarithmic_axis() -> None:
    assert log_ticks(0.02, 0.5) == [0.02, 0.05, 0.1, 0.2, 0.5]
    assert log_ticks(1e-3, 1e5) == [1e-3, 1e-2, 1e-1, 1, 10, 100, 1e3, 1e4, 1e5]


def test_nothing_to_draw_is_said() -> None:
    assert "nothing to draw" in histogram("h", "x", [0.0, 1.0], {"a": [(0, 0)]})
    assert "nothing to draw" in curves("c", "x", [1.0], {"a": [(None, None)]})
    assert "none" in table(["a"], [])
    Page(page("t", "", {NASTY: table([NASTY, "x"], [[NASTY, None]])}, ""))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "none"), (True, "yes"), (1234, "1,234"), (0.5, "0.5"), (-51234.5, "-51,234"), ([1], "1")],
)
def test_values_as_people_read_them(value: Any, shown: str) -> None:
    assert escaped(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "none"), (0.0, "0.0%"), (1e-5, "<0.1%"), (0.9849, "98.5%")])
def test_shares_are_percent(value: float | None, shown: str) -> None:
    assert share(value) == shown


# ---------------------------------------------------------------- the command


def write(table: pa.Table, path: Path) -> str:

    pq.write_table(table, path)
    return str(path)


def test_the_command_prints_json_or_text(nasty: pa.Table, tmp_path: Path) -> None:
    source = write(nasty, tmp_path / "in.parquet")
    options = ["--margin", "0.1,0.2", "--progress", "none", "--sample", "50"]
    result = CliRunner().invoke(command, [source, *options, "--json"], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert [entry["margin"] for entry in told["result"]["margins"]] == [0.1, 0.2]
    assert {"rows", "positive_pairs", "negative_pairs", "map_at_r"} <= told["counters"].keys()
    text = CliRunner().invoke(command, [source, *options, "-o", str(tmp_path / "look")], catch_exceptions=False).stdout
    assert "50 of 160 anchors" in text
    columns = "vectors from embedding, labels from label, ids from id"
    assert re.search(rf"\ncolumns +{columns}\n", text)
    assert f"Columns: {columns}." in (tmp_path / "look" / "report.html").read_text(encoding="utf-8")
    assert "suspects.parquet" in text
    with pytest.raises(UsageError, match="margin takes a number"):
        CliRunner().invoke(command, [source, "--margin", "few"], catch_exceptions=False)


GIVEN = [
    ["--label", "kind of thing"],
    ["--label", "kind of thing", "--metric", "dot", "--group-column", "camera", "--group-rule", "negatives"],
    ["--label=-number", "--metric", "sqeuclidean", "--normalize", "--unlabeled-value=-1", "--carry", "text"],
    ["--label", "kind of thing", "--metric", "euclidean", "--exclude-rows", "my rows.parquet"],
]  # fmt: skip
OWN = [
    ["--sample", "90", "--suspects-above", "0.001"], ["--seed", "7", "--sample", "80"], ["--near", "0.5"],
    ["--margin", "0.1234567,7", "--suspects-above", "0.001"],
]  # fmt: skip


@pytest.mark.parametrize(("given", "own"), [*zip(GIVEN, OWN, strict=True)])
def test_the_next_command_runs_as_it_stands(
    nasty: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], own: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = nasty["label"].to_pylist()
    table = nasty.rename_columns({"label": "kind of thing"})
    numbers = [-1 if row % 9 == 0 else int(name[-1]) for row, name in enumerate(names)]
    table = table.append_column("-number", pa.array(numbers))
    table = table.append_column("camera", pa.array([row % 50 for row in range(len(table))]))
    write(table, tmp_path / "it's mine.parquet")
    write(table.select(["id"]).slice(0, 3), tmp_path / "my rows.parquet")
    asked = ["profile", "it's mine.parquet", *given, *own, "-o", "my look"]
    told = CliRunner().invoke(cli, [*asked, "--progress", "none"], catch_exceptions=False).stdout
    *_, last = told.splitlines()
    assert last.startswith("next: "), "behind what was written, as in every command"
    line = last.removeprefix("next: ")
    pre = re.findall("<pre>(.*?)</pre>", (tmp_path / "my look" / "report.html").read_text())
    shown, foot = map(html.unescape, pre)
    assert shown == line
    assert sorted(shlex.split(foot)) == sorted(["minestream", *asked])
    assert set(given) <= set(shlex.split(line))
    assert ("--seed" in shlex.split(line)) == ("--seed" in own)
    left_out = "--suspects-above" in own and "--exclude-rows" not in given
    assert ("my look/suspects.parquet" in shlex.split(line)) == left_out
    subprocess.run(line.replace("minestream", f"{sys.executable} -m minestream", 1), shell=True, check=True)
    found = json.loads((tmp_path / "my look" / "profile.json").read_text())
    config = minestream.describe("it's mine.triplets.parquet")["config"]
    assert config["margin"] == found["result"]["recommended"]["margin"]
    assert config["metric"] == found["configuration"]["metric"]
    assert len(re.search(r"--margin (\S+)", line)[1]) <= 9  # type: ignore[index]


def test_what_no_command_line_can_say_has_no_next_command(nasty: pa.Table, tmp_path: Path) -> None:
    profile(nasty, tmp_path / "memory", progress="none")
    alone = nasty.set_column(1, "label", pa.array(range(len(nasty))))
    found = profile(write(alone, tmp_path / "alone.parquet"), tmp_path / "alone", progress="none")
    assert "nothing  no row" in profile_text(found)
    texts = [(tmp_path / name / "report.html").read_text() for name in ("memory", "alone")]
    assert "<pre>" not in texts[0]
    assert "Nothing to mine" in texts[1]
    assert "Margins" not in texts[1]
    assert "minestream mine" not in texts[1]


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


# ---------------------------------------------------------------- no text is markup

TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "section", "p", "div", "table", "thead", "tbody",
        "tr", "th", "td", "svg", "rect", "path", "line", "text", "circle", "polyline", "span", "nav", "a", "footer",
        "details", "summary", "b", "i", "small", "pre", "img"}  # fmt: skip


class Tags(HTMLParser):
    """Fails at a tag or attribute that no page of ours has."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert not [name for name, _ in attributes if name.startswith("on")]
        assert all(
            str(value).startswith(("#s", "data:image/")) for name, value in attributes if name in ("src", "href")
        )


TEXTS = st.one_of(st.sampled_from(MARKUP), st.text(st.characters(), max_size=20))


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_no_text_is_markup_in_a_page(a: str, b: str) -> None:
    counts = {a: [(1.0, 0.5), (2.0, None)]}
    body = table([a, b], [[b, (a, b)]]) + values({a: b, b: [a, {"x": a}]}) + bars({b: 1}) + tiles({a: b})
    body += histogram(a, b, [0.0, 1.0, 2.0], counts) + curves(b, a, [0.5, 1.0], {a: [(0.5, None)] * 2}, (0.5, b))
    body += cards([Card(a, b, a, b, "data:image/png;base64,AA==")]) + folded(a, code(b)) + note(a)
    found = page(a, "", {b: body}, "")
    found.encode()
    Tags().feed(found)
    assert not set(found) & set("\0\x1b\u202e")
