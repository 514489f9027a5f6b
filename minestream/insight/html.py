"""The parts of a page: tables, cards, bars and charts as HTML and inline SVG; all text is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minestream.errors import printable
from minestream.outputs.foreign import GENERATOR

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 540, 274, 62, 14, 58, 28
MOST_TICKS = 6
TEXT_SHOWN = 240  # characters of a text on a card; the page of long documents stays a page
Estimate = tuple[float | None, float | None]  # a share, and half the width of its interval
STYLE = """
:root{color-scheme:light dark;--0:#0b6e99;--1:#c2410c;--2:#4d7c0f;--3:#7e22ce;--line:#8885;--soft:#8881}
@media(prefers-color-scheme:dark){:root{--0:#5cb8e4;--1:#f28c52;--2:#a3c94f;--3:#c99af5;--line:#9996;--soft:#9992}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.25rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.5rem 0}
nav a{display:inline-block;margin-right:1rem;color:inherit}.note,footer{font-size:.875rem;opacity:.8}
footer{margin-top:2rem}
.two{display:grid;gap:.5rem 2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr))}.two>*{min-width:0}
.wide{overflow-x:auto}
.box{margin-top:.75rem;border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;background:var(--soft)}
.big{font-size:1.6rem;font-weight:600;line-height:1.25}pre{white-space:pre-wrap;margin:.5rem 0}
pre,code{font:.875rem/1.5 ui-monospace,monospace}
.tiles{display:grid;gap:.5rem;margin:1rem 0;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr))}
.tiles div{border-left:3px solid var(--line);padding-left:.6rem;font-size:.8125rem}
.tiles b{display:block;font-size:1.1rem}
svg{display:block;width:100%;height:auto;font:12.5px system-ui,sans-serif}svg text{fill:currentColor}
.key svg{display:inline;width:.7em}.key{white-space:nowrap;margin-right:1rem}
table{border-collapse:collapse;font-size:.875rem;width:100%}
th,td{padding:.25rem .5rem;text-align:right;vertical-align:top;border-bottom:1px solid var(--line)}
th{vertical-align:bottom;font-weight:600;overflow-wrap:normal}.n1 td+td{white-space:nowrap}
.n1 :is(th,td):first-child,.n2 td,.n2 th{text-align:left}
td{font-variant-numeric:tabular-nums}td small{display:block;opacity:.75}.on{background:var(--soft);font-weight:600}
.bar{display:grid;grid-template-columns:9rem 1fr 4.5rem;gap:.6rem;align-items:center;font-size:.875rem}
.bar i{height:1rem;background:var(--0);min-width:1px}.bar :is(span,b){text-align:right;white-space:nowrap}
.cards{display:grid;gap:.6rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr))}
.card{border:1px solid var(--line);border-radius:.5rem;padding:.4rem .7rem;display:flex;gap:.75rem;min-width:0}
.card img{width:4rem;height:4rem;object-fit:contain;flex:none;background:#fff}
.card div{min-width:0}.card p{margin:0}.card .note{font-size:.8125rem}.card b+small{opacity:.75;margin-left:.6rem}
details{margin:.75rem 0}summary{cursor:pointer;margin-bottom:.5rem}
@media(max-width:40rem){svg{font-size:18px}table{font-size:.75rem}th,td{padding:.25rem .15rem}
body{padding:.75rem}}
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
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return ", ".join(map(plain, value)) if isinstance(value, list | tuple) else str(value)


def share(value: float | None) -> str:
    """A share in percent."""
    if value is None:
        return "none"
    return "<0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def note(text: str) -> str:
    """A remark below a table or chart."""
    return f'<p class="note">{escaped(text)}</p>'


def code(text: str) -> str:
    """A command that can be copied."""
    return f"<pre>{escaped(text)}</pre>"


def two(*parts: str) -> str:
    """Parts side by side where there is room."""
    return f'<div class="two">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def folded(what: str, body: str) -> str:
    """A part that opens on request."""
    return f"<details><summary>{escaped(what)}</summary>{body}</details>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], marked: int | None = None) -> str:
    """Rows as a table, the first column to the left; a cell that is a tuple is a value and what stands below it."""

    def cell(value: object) -> str:
        if isinstance(value, tuple):
            return f"{escaped(value[0])}<small>{escaped(value[1])}</small>"
        return escaped(value)

    head = "".join(f"<th>{escaped(name)}</th>" for name in heads)
    body = "".join(
        f"<tr{' class=on' if place == marked else ''}>{''.join(f'<td>{cell(value)}</td>' for value in row)}</tr>"
        for place, row in enumerate(rows)
    )
    return _scrolling("n1", f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>") if body else note("none")


def values(found: Mapping[str, object] | Iterable[tuple[object, ...]]) -> str:
    """Names and values as a table of two columns."""
    pairs = found.items() if isinstance(found, Mapping) else found
    rows = "".join(f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>" for name, value, *_ in pairs)
    return _scrolling("n2", f"<tbody>{rows}</tbody>")


def _scrolling(kind: str, body: str) -> str:
    """A table that scrolls where it is wider than the page, which does not."""
    return f'<div class="wide"><table class="{kind}">{body}</table></div>'


def tiles(found: Mapping[str, object]) -> str:
    """The figures to see first, each with its name."""
    return (
        f'<div class="tiles">{"".join(f"<div><b>{escaped(v)}</b>{escaped(n)}</div>" for n, v in found.items())}</div>'
    )


class Card(NamedTuple):
    """Rows of the input: what they are, their names, what is said of them, a text, and a picture as a data: address."""

    title: str
    name: str
    remark: str
    text: str = ""
    picture: str = ""


def cards(shown: Iterable[Card]) -> str:
    """Cards, as many beside each other as there is room for."""
    parts = []
    for each in shown:
        text = each.text if len(each.text) <= TEXT_SHOWN else each.text[:TEXT_SHOWN] + " …"
        image = f'<img alt="" src="{escaped(each.picture)}">' if each.picture else ""
        body = f"<p>{escaped(text)}</p>" if text else ""
        head = f"<b>{escaped(each.title)}</b><small>{escaped(each.name)}</small>"
        parts.append(f'<div class="card">{image}<div>{head}{note(each.remark)}{body}</div></div>')
    return f'<div class="cards">{"".join(parts)}</div>'


def bars(lengths: Mapping[str, float], said: Callable[[Any], str] = plain) -> str:
    """Counts or shares by name, as horizontal bars; `said` makes their text."""
    most = max(lengths.values(), default=0) or 1
    return "".join(
        f'<div class="bar"><span>{escaped(name)}</span><i style="width:{number(100 * length / most)}%"></i>'
        f"<b>{escaped(said(length))}</b></div>"
        for name, length in lengths.items()
    )


def number(value: float) -> str:
    """A coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def round_ticks(low: float, high: float) -> list[float]:
    """At most MOST_TICKS values from `low` to `high`, each a multiple of 1, 2 or 5 and a power of ten."""
    rough = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for factor in (1, 2, 5, 10) if (step := factor * power) >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from `low` to `high`; the powers alone where those are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        inside = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(inside) <= 2 * MOST_TICKS:
            break
    return inside


class _Axes:
    """Maps values to coordinates, and draws the axes; x may be logarithmic, y begins at 0."""

    def __init__(self, low: float, high: float, top: float, log: bool = False) -> None:
        self.scale: Callable[[float], float] = math.log if log else float
        if not high > low:
            low, high = (low / 2, low * 2) if log else (low, low + 1.0)
        self.low, self.high, self.top = low, high, top if top > 0 else 1.0
        self.ticks = log_ticks(low, high) if log else round_ticks(low, high)

    def x(self, value: float) -> float:
        low, high = self.scale(self.low), self.scale(self.high)
        return LEFT + (self.scale(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - min(value / self.top, 1.0) * (HEIGHT - BOTTOM - TOP)

    def interval(self, at: float, found: Estimate, place: int) -> str:
        """The interval around a value, as a vertical line in the colour of its kind."""
        value, half = found
        if value is None or not half:
            return ""
        x, low, high = self.x(at), self.y(max(0.0, value - half)), self.y(value + half)
        return (
            f'<line class="ci" x1="{number(x)}" x2="{number(x)}" y1="{number(low)}" y2="{number(high)}" '
            f'stroke="var(--{place})" stroke-width="3" stroke-opacity=".5"/>'
        )

    def frame(self, title: str, x_title: str, y_title: str, body: str) -> str:
        floor, right = number(self.y(0)), WIDTH - RIGHT
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}">']
        heights = round_ticks(0, self.top)
        digits = 0 if all(abs(100 * value - round(100 * value)) < 1e-9 for value in heights) else 1
        for value in heights:
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{number(y)}" y2="{number(y)}" stroke="var(--line)"/>')
            parts.append(
                f'<text x="{LEFT - 6}" y="{number(y + 4)}" text-anchor="end">{escaped(f"{value:.{digits}%}")}</text>'
            )
        parts.append(body)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}" stroke="currentColor"/>')
        for value in self.ticks:
            x = number(self.x(value))
            parts.append(f'<line x1="{x}" x2="{x}" y1="{floor}" y2="{number(self.y(0) + 4)}" stroke="currentColor"/>')
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 23}" text-anchor="middle">{escaped(value)}</text>')
        parts.append(f'<text x="2" y="15">{escaped(y_title)}</text>')
        parts.append(f'<text x="{right}" y="{HEIGHT - 8}" text-anchor="end">{escaped(x_title)}</text>')
        return "".join([*parts, "</svg>"])


def key(names: Iterable[str]) -> str:
    """The legend: a colour for each name."""
    marks = (
        f'<span class="key"><svg viewBox="0 0 10 10"><rect width="10" height="10" fill="var(--{place})"/></svg> '
        f"{escaped(name)}</span>"
        for place, name in enumerate(names)
    )
    return f'<p class="note">{" ".join(marks)}</p>'


def histogram(title: str, x_title: str, edges: Sequence[float], kinds: Mapping[str, Sequence[Estimate]]) -> str:
    """Shares of the bins, for each kind, as steps filled with its colour; empty outer bins are left out."""
    filled = [b for bins in kinds.values() for b, (value, _) in enumerate(bins) if value]
    if not filled:
        return note("nothing to draw")
    first, end = min(filled), max(filled) + 1
    top = max((value or 0.0) + (half or 0.0) for bins in kinds.values() for value, half in bins)
    axes, body = _Axes(edges[first], edges[end], top), []
    for place, bins in enumerate(kinds.values()):
        steps = [f"M{number(axes.x(edges[first]))} {number(axes.y(0))}"]
        steps += [f"V{number(axes.y(bins[b][0] or 0.0))}H{number(axes.x(edges[b + 1]))}" for b in range(first, end)]
        steps.append(f"V{number(axes.y(0))}Z")
        colour = f"var(--{place})"
        body.append(f'<path d="{"".join(steps)}" fill="{colour}" fill-opacity=".3" stroke="{colour}"/>')
        body += [axes.interval((edges[b] + edges[b + 1]) / 2, bins[b], place) for b in range(first, end)]
    return axes.frame(title, x_title, "share of each kind", "".join(body)) + key(kinds)


def curves(
    title: str, x_title: str, x: Sequence[float], lines: Mapping[str, Sequence[Estimate]],
    mark: tuple[float, str] | None = None,
) -> str:  # fmt: skip
    """Lines of shares over x, which is drawn to a logarithmic scale.

    mark : an x that is marked, and what is written there
    """
    if not any(value is not None for line in lines.values() for value, _ in line):
        return note("nothing to draw")
    axes = _Axes(min(x), max(x), 1.0, log=True)
    body = []
    if mark is not None:
        at, floor = axes.x(mark[0]), number(axes.y(0))
        side, beside = ("end", at - 6) if at > (LEFT + WIDTH) / 2 else ("start", at + 6)
        body.append(
            f'<line class="mark" x1="{number(at)}" x2="{number(at)}" y1="{TOP - 8}" y2="{floor}" stroke="currentColor" '
            f'stroke-dasharray="5 4"/><text x="{number(beside)}" y="15" text-anchor="{side}">'
            f"{escaped(mark[1])}</text>"
        )
    for place, line in enumerate(lines.values()):
        points = [(axes.x(at), axes.y(value)) for at, (value, _) in zip(x, line, strict=True) if value is not None]
        path = " ".join(f"{number(at)},{number(height)}" for at, height in points)
        body.append(f'<polyline points="{path}" fill="none" stroke="var(--{place})" stroke-width="2"/>')
        body += [f'<circle cx="{number(at)}" cy="{number(y)}" r="3" fill="var(--{place})"/>' for at, y in points]
        body += [axes.interval(at, found, place) for at, found in zip(x, line, strict=True)]
    return axes.frame(title, x_title, "share", "".join(body)) + key(lines)


def page(title: str, lead: str, sections: Mapping[str, str], foot: str) -> str:
    """A self-contained page: `lead`, a line of contents, HTML by title, and `foot`; empty sections are left out."""
    shown = {name: content for name, content in sections.items() if content}
    contents = "".join(f'<a href="#s{place}">{escaped(name)}</a>' for place, name in enumerate(shown))
    body = "".join(
        f'<section id="s{place}"><h2>{escaped(name)}</h2>{content}</section>'
        for place, (name, content) in enumerate(shown.items())
    )
    # Nothing may be fetched or run, even if the escaping should fail.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'{GENERATOR}<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head><body><h1>{escaped(title)}</h1><nav>{contents}</nav>"
        f"{lead}{body}<footer>{foot}</footer></body></html>\n"
    )
