# SPDX-License-Identifier: MIT
"""A bar chart as SVG, for bench.py."""
from xml.sax.saxutils import escape

COLOURS = ("#8c8c8c", "#d9a441", "#2f6db3", "#7fb0de", "#b5cfe8")
LEFT, BAR, GAP, SCALE, TEXT = 250, 16, 14, 420, 13


def bars(rows, names, base):
    """rows: [(title, {name: rate})]. A bar's length is its rate as a share of the base's."""
    longest = max((v / rates[base] if base in rates else v / max(rates.values())
                   for _, rates in rows for v in rates.values()), default=1)
    parts, y = [], 30 + GAP
    for title, rates in rows:
        unit = rates.get(base, max(rates.values()))
        parts.append(_text(LEFT - 10, y + BAR * len(rates) / 2 + 4, title, "end"))
        for i, name in enumerate(names):
            if name not in rates:
                continue
            length = rates[name] / unit / longest * SCALE
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" '
                         f'fill="{COLOURS[i % len(COLOURS)]}"/>')
            value = f"{rates[name]:,.0f}" if rates[name] >= 100 else f"{rates[name]:.1f}"
            label = f"{value} ({rates[name] / unit:.2f})"
            parts.append(_text(LEFT + length + 6, y + BAR - 4, label, "start"))
            y += BAR
        y += GAP
    legend, x = [], LEFT
    for i, name in enumerate(names):
        legend.append(f'<rect x="{x}" y="14" width="12" height="12" '
                      f'fill="{COLOURS[i % len(COLOURS)]}"/>')
        legend.append(_text(x + 17, 24, name, "start"))
        x += 17 + 8 * len(name) + 16
    width = max(LEFT + SCALE + 130, x)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" '
            f'font-family="sans-serif" font-size="{TEXT}">\n'
            f'<rect width="{width}" height="{y}" fill="#ffffff"/>\n'
            + "\n".join(legend + parts) + "\n</svg>\n")


def _text(x, y, text, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
