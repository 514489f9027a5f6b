"""Tables and charts as HTML and inline SVG; all text is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minestream.errors import printable
from minestream.outputs.foreign import GENERATOR

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 640, 240, 80, 30, 28, 10
NAMES = ("id", "row", "label", "_ids", "_rows", "_labels")  # columns whose numbers are names, not quantities
COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce")
STYLE = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}svg{width:100%;height:auto;font:11px system-ui,sans-serif}
svg text{fill:currentColor}@media(max-width:40rem){svg{font-size:18px}}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem}
th,td{max-width:30rem;padding:.25rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #8884}
td{overflow-wrap:break-word}
td.n{text-align:right;white-space:nowrap}.note{opacity:.75;font-size:.875rem}.key{white-space:nowrap}
"""


def escaped(value: object) -> str:
    """A value as text, escaped for HTML."""
    return html.escape(printable(plain(value)), quote=True)


def plain(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(plain, value)) if isinstance(value, list | tuple) else str(value)


def number(value: float) -> str:
    """A coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None) -> str:
    """Rows as a table; quantities are aligned to the right, ids and labels are not."""
    if not rows:
        return '<p class="note">none</p>'
    names = list(columns or rows[0])
    named = {name for name in names if name.endswith(NAMES)}

    def cell(name: str, value: object) -> str:
        if name in named:
            values = value if isinstance(value, list) else [value]
            return f"<td>{escaped(', '.join(map(str, values)))}</td>"
        return f"<td{' class=n' if isinstance(value, int | float) else ''}>{escaped(value)}</td>"

    head = "".join(f"<th>{escaped(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(f"<tr>{''.join(cell(name, row.get(name)) for name in names)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def values(found: Mapping[str, object]) -> str:
    """Names and values as a table of two columns."""
    rows = "".join(
        f"<tr><th>{escaped(name.replace('_', ' '))}</th><td>{escaped(value)}</td></tr>" for name, value in found.items()
    )
    return f'<div class="wide"><table><tbody>{rows}</tbody></table></div>'


class _Axes:
    """Maps values to coordinates, and draws the axes."""

    def __init__(self, low: float, high: float, top: float) -> None:
        self.low, self.high, self.top = low, high if high > low else low + 1.0, top if top > 0 else 1.0

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - BOTTOM - TOP)

    def frame(self, title: str, body: str) -> str:
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}">', body]
        floor = number(self.y(0))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}" stroke="currentColor"/>')
        for step in range(5):
            value = self.low + (self.high - self.low) * step / 4
            share = self.top * step / 4
            x, y = number(self.x(value)), number(self.y(share) + 4)
            parts.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="middle">{escaped(float(value))}</text>')
            parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{escaped(float(share))}</text>')
        return "".join([*parts, "</svg>"])


def key(names: Iterable[str]) -> str:
    """The legend: a colour for each name."""
    marks = (
        f'<span class="key"><svg viewBox="0 0 10 10" style="width:.7em"><rect width="10" height="10" fill="{colour}"/>'
        f"</svg> {escaped(name)}</span>"
        for name, colour in zip(names, COLOURS, strict=False)
    )
    return f'<p class="note">{" &nbsp; ".join(marks)}</p>'


def histogram(title: str, edges: Sequence[float], counts: Mapping[str, Sequence[float]]) -> str:
    """The share of each bin, for each kind, as steps filled with its colour; empty outer bins are left out."""
    sums = {name: sum(bins) for name, bins in counts.items()}
    shown = {name: [value / sums[name] for value in bins] for name, bins in counts.items() if sums[name]}
    filled = [b for bins in shown.values() for b, value in enumerate(bins) if value]
    if not filled:
        return '<p class="note">nothing to draw</p>'
    first, end = min(filled), max(filled) + 1
    axes = _Axes(edges[first], edges[end], max(max(bins) for bins in shown.values()))
    body = []
    for name, colour in zip(counts, COLOURS, strict=False):
        if name not in shown:
            continue
        steps = [f"M{number(axes.x(edges[first]))} {number(axes.y(0))}"]
        steps += [f"V{number(axes.y(shown[name][b]))}H{number(axes.x(edges[b + 1]))}" for b in range(first, end)]
        steps.append(f"V{number(axes.y(0))}Z")
        body.append(f'<path d="{"".join(steps)}" fill="{colour}" fill-opacity=".35" stroke="{colour}"/>')
    return axes.frame(title, "".join(body)) + key(counts)


def curves(title: str, x: Sequence[float], lines: Mapping[str, Sequence[float | None]]) -> str:
    """Lines of values over x."""
    known = [value for line in lines.values() for value in line if value is not None]
    if not known:
        return '<p class="note">nothing to draw</p>'
    axes = _Axes(0.0, max(x), max(known))
    body = []
    for line, colour in zip(lines.values(), COLOURS, strict=False):
        points = [(axes.x(at), axes.y(value)) for at, value in zip(x, line, strict=True) if value is not None]
        path = " ".join(f"{number(a)},{number(b)}" for a, b in points)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{number(a)}" cy="{number(b)}" r="3" fill="{colour}"/>' for a, b in points]
    return axes.frame(title, "".join(body)) + key(lines)


def bars(title: str, counts: Mapping[str, float]) -> str:
    """Counts by name, as horizontal bars."""
    most = max([*counts.values(), 1])
    parts = [f'<svg viewBox="0 0 {WIDTH} {26 * len(counts)}" role="img" aria-label="{escaped(title)}">']
    for place, (name, count) in enumerate(counts.items()):
        width, y = number(count / most * 300), 26 * place
        parts.append(f'<rect x="210" y="{y + 4}" width="{width}" height="16" fill="{COLOURS[0]}"/>')
        parts.append(f'<text x="204" y="{y + 16}" text-anchor="end">{escaped(name)}</text>')
        parts.append(f'<text x="{number(216 + count / most * 300)}" y="{y + 16}">{escaped(count)}</text>')
    return "".join([*parts, "</svg>"])


def page(title: str, sections: Mapping[str, str]) -> str:
    """A self-contained page; `sections` has HTML by title."""
    body = "".join(f"<section><h2>{escaped(name)}</h2>{content}</section>" for name, content in sections.items())
    # Nothing may be fetched or run, even if the escaping should fail.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'{GENERATOR}<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head><body><h1>{escaped(title)}</h1>{body}</body></html>\n"
    )
