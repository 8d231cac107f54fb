# SPDX-License-Identifier: MIT
"""The table of large lists for bench.py: sets.c loads them and asks; a hundred entries are the measure."""
import json
import subprocess

SMALL = 100
KINDS = (("domains", "domains", 1_000_000), ("networks4", "IPv4 networks", 100_000),
         ("networks6", "IPv6 networks", 100_000))
QUESTIONS = (("hit", "in the list"), ("miss", "not in it"), ("deep", "not in it, 10 labels"))


def measure(program, smoke=False):
    """{kind: [what sets.c says of the small list, and of the large one]}"""
    found = {}
    for kind, _, large in KINDS:
        sizes = (SMALL, 10 * SMALL if smoke else large)
        argv = [str(program), *(word for size in sizes for word in (kind, str(size)))]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{program} ended with {done.returncode}: {done.stderr.strip()}")
        found[kind] = [json.loads(line) for line in done.stdout.splitlines()]
    return found


def table(found):
    lines = ["", f"{'one decision by a rule with a list':<35}{'100 entries, ns':>20}{'all of them, ns':>20}"
                 f"{'ratio':>20}"]
    for kind, title, _ in KINDS:
        small, large = found[kind]
        lines.append(f"{large['entries']:,} {title}: loaded in {large['load_s']:.2f} s, "
                     f"{large['bytes'] / 1e6:.1f} MB")
        for word, what in QUESTIONS:
            key = word + "_ns"
            if key in large:
                lines.append(f"{'  ' + what:<35}{small[key]:>20.0f}{large[key]:>20.0f}"
                             f"{large[key] / small[key]:>20.1f}")
    return lines
