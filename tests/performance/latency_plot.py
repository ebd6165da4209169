"""Latencies by percentile as an SVG picture: the tail to the right, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from thaw.cli.figures import quantile

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 70, 80
# Told apart without red and green, too; where lines lie on each other, the dashes let all of them be seen.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
DASHES = ("none", "12 5", "5 4", "2 3")
NINES = (0.5, 0.9, 0.99, 0.999, 0.9999)


def percentile_plot(title: str, series: Mapping[str, Sequence[float]]) -> str:
    """The picture; `series` are latencies in ms by name, up to three of them."""
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
        f'<text x="{LEFT}" y="{TOP - 18}" fill="#555555">Time within which this share of the calls was answered; '
        "both axes are logarithmic</text>",
    ]
    for power in range(low, high + 1):
        level = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{10.0**power:,g} ms</text>')
    for share in NINES:
        parts.append(f'<path d="M{x(share):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#dddddd"/>')
        label = f"p{share * 100:g}" if share < NINES[-1] else "max"
        parts.append(f'<text x="{x(share):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{label}</text>')
    shares = [1 - 10 ** (-4 * step / 200) for step in range(201)]
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        ends = [*(quantile(values, share) for share in shares[:-1]), max(values)]
        points = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value in zip(shares, ends, strict=True))
        line = f'fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{DASHES[number % len(DASHES)]}"'
        parts.append(f'<polyline points="{points}" {line}/>')
        place = LEFT + 250 * number
        parts.append(f'<path d="M{place} {HEIGHT - 22}H{place + 36}" {line}/>')
        parts.append(f'<text x="{place + 44}" y="{HEIGHT - 17}">{escape(name)}, max {max(values):,.0f} ms</text>')
    return "\n".join([*parts, "</svg>", ""])
