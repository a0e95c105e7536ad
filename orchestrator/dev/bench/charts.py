"""Small line charts as SVG, readable on light and dark ground."""

from __future__ import annotations

from html import escape

from orchestrator.dev.bench.figures import Chart, shown

_WIDTH, _HEIGHT = 640, 320
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 40, 130, 45
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Distinguishable to the colour-blind (Paul Tol's bright scheme)."""


def svg(chart: Chart) -> str:
    """The chart; axes begin at zero."""
    points = [point for line in chart.lines.values() for point in line]
    right = max((x for x, _ in points), default=1.0) or 1.0
    top = max((y for _, y in points), default=1.0) * 1.05 or 1.0
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        return f"{_LEFT + x / right * wide:.1f},{_TOP + high - y / top * high:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#777">',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(chart.title)}</text>',
        _text(_LEFT + wide / 2, _HEIGHT - 8, chart.x_label, "middle"),
        _text(8, _TOP - 8, chart.y_label, "start"),
    ]
    for step in range(5):
        value = top * step / 4
        height = _TOP + high - high * step / 4
        parts.append(
            f'<path d="M{_LEFT} {height:.1f}h{wide}" stroke="#999" stroke-width="0.3"/>'
            + _text(_LEFT - 6, height + 4, shown(value), "end")
            + _text(_LEFT + wide * step / 4, _TOP + high + 16, shown(right * step / 4), "middle")
        )
    for number, (name, line) in enumerate(chart.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f'<text x="{_WIDTH - _RIGHT + 10}" y="{_TOP + 14 + 18 * number}" fill="{colour}">'
        parts.append(f"{label}{escape(name)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
