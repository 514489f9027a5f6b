"""The picture of the README: an anchor, its positive, negatives by distance, and the bands; readme.py writes it."""

from __future__ import annotations

from minestream.config.rules import AT_MARGIN, AT_POSITIVE, BANDS, EMITS, Band

WIDTH, HEIGHT = 760, 336
ANCHOR, POSITIVE, MARGIN, END = 60, 270, 500, 720  # on the axis of distances: x = 0, p, p + m, and without end
AXIS, BANDS_TOP, BAND_STEP, BAND_HEIGHT = 56, 122, 34, 25
NEGATIVES = (150, 225, 320, 395, 455, 560, 650)
STYLE = """
text { font: 14px sans-serif; fill: #24292f }
.middle { text-anchor: middle }
.end { text-anchor: end }
.line { stroke: #57606a; stroke-width: 1.5; fill: none }
.edge { stroke: #57606a; stroke-dasharray: 4 4 }
.band { fill: #e4e8ec }
.default { fill: #ffc9c9 }
.anchor { fill: #24292f }
.positive { fill: #2da44e }
.negative { fill: #ffffff; stroke: #cf222e; stroke-width: 2 }
.taken { fill: #cf222e; stroke: #cf222e; stroke-width: 2 }
"""


def text(x: float, y: float, words: str, kind: str = "middle") -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words.replace("<", "&lt;").replace(">", "&gt;")}</text>'


def dot(x: float, kind: str) -> str:
    """A row on the axis."""
    return f'<circle cx="{x}" cy="{AXIS}" r="7" class="{kind}"/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> str:
    """A straight line."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{kind}"/>'


def band(place: int, name: str, about: Band) -> str:
    """One band below the axis, with its name and condition."""
    edges = {AT_POSITIVE: POSITIVE, AT_MARGIN: MARGIN}
    first, last = edges.get(about.low, ANCHOR), edges.get(about.high, END)
    condition = about.condition.replace("<=", "≤").replace(">=", "≥")
    y, kind = BANDS_TOP + place * BAND_STEP, "default" if name == EMITS["triplets"].bands[0] else "band"
    box = f'<rect x="{first}" y="{y}" width="{last - first}" height="{BAND_HEIGHT}" rx="4" class="{kind}"/>'
    return box + text((first + last) / 2, y + 17, f"{name}: {condition}")


def picture() -> str:
    """The whole as SVG."""
    bottom = BANDS_TOP + len(BANDS) * BAND_STEP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *(line(x, AXIS, x, bottom, "edge") for x in (POSITIVE, MARGIN)),
        line(ANCHOR, AXIS, END + 18, AXIS),
        f'<path d="M {END + 10} {AXIS - 6} l 9 6 l -9 6" class="line"/>',
        dot(ANCHOR, "anchor"),
        dot(POSITIVE, "positive"),
        *(dot(x, "taken" if POSITIVE < x < MARGIN else "negative") for x in NEGATIVES),
        text(ANCHOR, AXIS - 18, "anchor"),
        text(POSITIVE, AXIS - 18, "positive"),
        text((POSITIVE + MARGIN) / 2, AXIS - 18, "negatives"),
        text(END + 20, AXIS - 18, "distance from the anchor", "end"),
        line(POSITIVE, AXIS + 30, MARGIN, AXIS + 30),
        f'<path d="M {POSITIVE + 9} {AXIS + 24} l -9 6 l 9 6" class="line"/>',
        f'<path d="M {MARGIN - 9} {AXIS + 24} l 9 6 l -9 6" class="line"/>',
        text((POSITIVE + MARGIN) / 2, AXIS + 50, "margin m"),
        text(POSITIVE - 8, AXIS + 35, "p", "end"),
        text(MARGIN + 8, AXIS + 35, "p + m", "start"),
        *(band(place, *each) for place, each in enumerate(BANDS.items())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
