"""Latencies by percentile as an SVG picture: the tail to the right, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from thaw.cli.figures import quantile

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 50, 60
COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#7d3c98")
NINES = (0.5, 0.9, 0.99, 0.999, 0.9999)


def percentile_plot(title: str, series: Mapping[str, Sequence[float]]) -> str:
    """The picture; `series` are latencies in ms by name."""
    lowest = min(min(values) for values in series.values())
    highest = max(max(values) for values in series.values())
    low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))

    def x(share: float) -> float:
        """0 at p0, then the same distance for each further nine."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, -math.log10(max(1 - share, 1e-4)) / 4)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(value)) / max(1, high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="28" font-size="16">{escape(title)}</text>',
    ]
    for power in range(low, high + 1):
        level = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    for share in NINES:
        parts.append(f'<path d="M{x(share):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#dddddd"/>')
        label = f"p{share * 100:g}"
        parts.append(f'<text x="{x(share):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{label}</text>')
    shares = [1 - 10 ** (-4 * step / 200) for step in range(201)]
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(share):.1f},{y(quantile(values, share)):.1f}" for share in shares)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = LEFT + 10 + 190 * number
        parts.append(f'<rect x="{place}" y="{HEIGHT - 26}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{place + 20}" y="{HEIGHT - 14}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
