"""Several margins in one pass: each output is that of its margin alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import SCREENS, set_sizes

from minestream import mine, mine_margins
from minestream.cli import main
from minestream.errors import UsageError

JOBS: dict[str, dict[str, Any]] = {
    "semi-hard": {},
    "in-batch": {"positives": "random", "positives_per_anchor": 3, "negatives": 2},
    "pairs": {"emit": "pairs", "negatives": 3},
    "tuples": {"emit": "tuples", "negatives": 3, "band": "violating"},
    "percent": {"relative_margin": 0.05, "band": "any", "max_per_negative_label": 1, "negatives": 2},
    "uses": {"max_uses": 1, "negatives": 2},
    "fallback": {"fallback": "farthest"},
}
MARGINS = (0.02, 0.1, 0.3)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample as in.parquet in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "in.parquet"]) == 0
    return tmp_path


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("job", JOBS)
def test_each_margin_gives_the_bytes_of_its_own_run(job: str, screen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=500)
    how: dict[str, Any] = {"screen": screen, "progress": "none", "anchors": "40%", **JOBS[job]}
    reports = mine_margins("in.parquet", "of {margin}.parquet", MARGINS, **how)
    rows = []
    for margin, report in zip(MARGINS, reports, strict=True):
        alone = mine("in.parquet", f"alone {margin}.parquet", margin=margin, **how)
        assert Path(f"of {margin}.parquet").read_bytes() == Path(f"alone {margin}.parquet").read_bytes()
        assert report.stats.answer() == alone.stats.answer()
        rows.append(report.stats.rows)
    assert len(set(rows)) > 1 or job in ("percent", "uses", "fallback")  # else the margins make no difference


@pytest.mark.usefixtures("digits")
def test_a_margin_that_is_done_is_not_mined_again() -> None:
    mine("in.parquet", "of 0.1.parquet", margin=0.1, progress="none")
    before = Path("of 0.1.parquet").stat().st_mtime_ns
    reports = mine_margins("in.parquet", "of {margin}.parquet", (0.1, 0.2), resume=True, progress="none")
    assert [report.already for report in reports] == [True, False]
    assert Path("of 0.1.parquet").stat().st_mtime_ns == before


@pytest.mark.usefixtures("digits")
def test_what_several_margins_need(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="margin"):
        mine_margins("in.parquet", "of.parquet", (0.1, 0.2))
    with pytest.raises(UsageError, match="twice"):
        mine_margins("in.parquet", "of {margin}.parquet", (0.1, 0.1))
    assert main(["mine", "in.parquet", "--margin", "0.1,x"]) == 2
    capsys.readouterr()
    assert (
        main(["mine", "in.parquet", "--margin", "0.1,0.2", "-o", "m{margin}.parquet", "--json", "--progress", "none"])
        == 0
    )
    assert [report["config"]["margin"] for report in json.loads(capsys.readouterr().out)] == [0.1, 0.2]
