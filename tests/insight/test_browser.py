"""The pages in a real browser: their size, what overflows, what the first screen shows, light and dark.

Pictures of each page are kept in the folder that MINESTREAM_TEST_PICTURES names, else in the tests' temporary folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--allow-file-access-from-files",
)  # fmt: skip
SCHEMES = {"dark": "0", "light": "1"}
WIDTHS, SCREEN = (390, 1280), 800
# A window has a least width, a frame has none.
WRAPPER = """<!doctype html><meta charset="utf-8"><body style="margin:0;white-space:nowrap">{frames}<script>
onload = () => {{
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, all = name => [...page.querySelectorAll(name)], root = page.documentElement
    const found = {{
      height: root.scrollHeight, width: root.scrollWidth,
      recommended: page.querySelector(".box").getBoundingClientRect().bottom,
      clipped: all(".wide, .card div, .bar span, pre, p").filter(e => e.scrollWidth > e.clientWidth + 1).length,
      pictures: all("img").map(each => each.naturalWidth), ink: frame.contentWindow.getComputedStyle(page.body).color,
      small: Math.min(...all("svg text").map(each => each.getBoundingClientRect().height)),
    }}
    frame.height = root.scrollHeight
    return found
  }}))
}}</script>"""


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """A PNG file of grey pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of digits with pictures, long names and texts; a tenth of the labels is wrong, some rows are twice."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("pages")
    minestream.sample(folder / "sample.parquet")
    table = pq.read_table(folder / "sample.parquet")
    rows, label = np.stack(table["embedding"].to_numpy()), table["label"].to_numpy().copy()
    rows[-5:] = rows[:5]
    label[rng.choice(len(label), len(label) // 10, replace=False)] = rng.integers(0, 10, len(label) // 10)
    names = [f"the-digit-{digit}-whose-name-is-one-long-word-that-fits-no-column" for digit in range(10)]
    texts = [f"Row {row} " + ("with a long text " * 40 if row % 3 else "w" * 90) for row in range(len(label))]
    made = {
        "label": label, "label_name": [names[digit] for digit in label], "text": texts,
        "picture": [png(255 - 15 * row.reshape(8, 8)) for row in rows],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1]),
    }  # fmt: skip
    source = folder / "digits.parquet"
    pq.write_table(pa.table(made), source)
    found = minestream.profile(source, folder / "look", image="picture", sample=400, near=0.001, progress="none")
    assert found["suspects"]["rows"] > 20
    assert found["duplicates"]["pairs"] > 0
    for emit in ("triplets", "tuples"):
        out = folder / f"{emit}.parquet"
        minestream.mine(source, out, emit=emit, progress="none")
        minestream.describe_html(out, folder / "look" / f"{emit}.html")
    return folder / "look"


def browse(page: Path, folder: Path, scheme: str) -> list[dict[str, Any]]:
    """What a browser says of a page at both widths; keeps a picture of it."""
    frames = "".join(
        f'<iframe src="{page.as_uri()}" width="{width}" height="{SCREEN}" style="border:0;vertical-align:top"></iframe>'
        for width in WIDTHS
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(frames=frames))
    kept = Path(os.environ.get("MINESTREAM_TEST_PICTURES") or folder)
    kept.mkdir(parents=True, exist_ok=True)
    picture = kept / f"{page.stem}-{scheme}.png"
    command = [
        str(BROWSER), *FLAGS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--user-data-dir={folder / 'browser'}", "--window-size=1670,9000", f"--screenshot={picture}", "--dump-dom",
        wrapper.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert picture.stat().st_size > 20_000  # an empty page has a few thousand bytes
    told = re.search("<title>(.*?)</title>", shown)
    assert told is not None
    found: list[dict[str, Any]] = json.loads(told[1])
    return found


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["report", "triplets", "tuples"])
def test_a_page_is_short_overflows_nowhere_and_starts_with_what_matters(
    pages: Path, tmp_path: Path, name: str, scheme: str
) -> None:
    found = browse(pages / f"{name}.html", tmp_path, scheme)
    for width, each in zip(WIDTHS, found, strict=True):
        assert each["width"] == width
        assert each["clipped"] == 0
        assert each["small"] >= 11, "the text of a chart can be read"
        assert each["ink"] == ("rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)")
        assert set(each["pictures"]) == ({8} if name == "report" else set())
    assert found[1]["height"] < 8 * SCREEN
    assert found[1]["recommended"] < SCREEN


def test_what_the_page_of_a_profile_shows(pages: Path) -> None:
    text = (pages / "report.html").read_text()
    assert text.index("Hubs</h2>") < text.index("Suspects</h2>")
    shown = text[text.index("Suspects</h2>") : text.index("<details>", text.index("Suspects</h2>"))]
    assert shown.count('class="card"') == shown.count("<img") == shown.count("Row ") == 20
    assert "the-digit-9-whose-name" in shown
    assert text.count('class="ci"') > 20, "intervals are drawn"
    assert text.count('class="mark"') == 1
    assert not re.search(r"\b20\d\d-\d\d", text), "no date"
