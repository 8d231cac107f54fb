#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
How fast transocksd is, beside kernel NAT and redsocks, and usocksd, beside microsocks and danted: `make bench`, as
root.

Method. Each way has three namespaces, client - gateway - server, joined by veth. On the server one
program (endpoint.c) answers directly and as SOCKS5 server that serves the data itself; on the client
one program (load.c) asks. Between them, on the gateway: masquerading alone (nat), redsocks with
splice, transocksd with one and two workers at log level warning, and with one worker that writes its
access log (level info) to a file. Each measurement has a fresh proxy and a warm-up that is not
counted. The ways take turns within each case, in another order each round; the figure is the median
of the rounds, and ratios are of medians. One failed or wrong answer makes the whole run fail.

The same of SOCKS servers, which the clients ask themselves.

Beside that, what a decision costs where a rule has a large list of domains or networks (sets.c).

Everything shares the processors of one machine: figures are costs of the whole path, good for ratios
within one run only. README.md beside this file says more about what is measured and what is not.
"""
import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import lab

import plot
import sets
from gateways import (AccessLog, DEST, Danted, Failed, Microsocks, PEERS, Redsocks, SOURCES, TOOLS, WAYS, Way, processes)

# --------------------------------------------------------------------------------------------------
# Cases: each runs once by one way and returns {key: figure}


def load_argv(way, proc, mode, *options):
    argv = [str(TOOLS / "load"), mode, DEST, "-d", len(SOURCES), "-b", ",".join(SOURCES), *options]
    if way.socks is not None:
        argv += ["-x", way.socks]
    if not way.half_close:
        argv.append("-c")
    if proc is not None:
        argv += ["-p", proc.pid]
    return way.net.client, [str(a) for a in argv]


def checked(line, way, mode):
    result = json.loads(line)
    if result["nerrors"] > 0 or result.get("done", result.get("bytes")) == 0:
        raise Failed(f"{mode} by {way.name}: {line.strip()}")
    return result


def load(way, proc, mode, *options):
    client, argv = load_argv(way, proc, mode, *options)
    done = client.run(*argv, seconds=120)
    return checked(done.stdout, way, mode)


@contextlib.contextmanager
def load_beside(way, mode, *options, proc=None):
    """The same while something else is done; standard input is open meanwhile."""
    client, argv = load_argv(way, proc, mode, *options)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
                          env=lab.ENV, preexec_fn=client.entry()) as popen:
        try:
            yield popen
        except BaseException:
            popen.kill()
            raise


def timed(chosen):
    return "-s", chosen.seconds, "-w", chosen.warmup


def cpu_us(result):
    """Microseconds of the proxy's CPU time for one request or message."""
    return result["cpu_s"] / result["done"] * 1e6


def crc(way, proc, chosen):
    r = load(way, proc, "crc", "-n", 64, "-t", chosen.threads, *timed(chosen))
    return {"rate": r["per_s"], "p50": r["p50_us"], "p99": r["p99_us"], "cpu": cpu_us(r)}


def pingpong(way, proc, chosen):
    r = load(way, proc, "pingpong", "-n", 64, "-m", 256, "-t", chosen.threads, *timed(chosen))
    return {"rate": r["per_s"], "p50": r["p50_us"], "p99": r["p99_us"], "cpu": cpu_us(r)}


def bulk(mode, streams):
    def run(way, proc, chosen):
        r = load(way, proc, mode, "-n", streams, *timed(chosen))
        return {"rate": r["gbit_s"], "cpu": r["cpu_s"] * 1e3 / (r["bytes"] / 1e9)}
    return run


def beside(way, proc, chosen):
    """One ping-pong flow while eight bulk flows keep the same worker busy."""
    longer = ("-s", chosen.seconds + 0.5, "-w", chosen.warmup)
    with load_beside(way, "bulk-down", "-n", 8, *longer) as other:
        time.sleep(0.2)  # so that its streams are there first, and the last to go
        r = load(way, proc, "pingpong", "-n", 1, "-m", 256, *timed(chosen))
        other_line = other.communicate(timeout=60)[0]
    b = checked(other_line, way, "bulk-down")
    return {"p50": r["p50_us"], "p99": r["p99_us"], "bulk": b["gbit_s"]}


def memory(proc):
    """(private, proportional) bytes of user memory, or None where the kernel does not tell."""
    private = pss = 0
    for pid in processes(proc.pid):
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            return None
        kib = {key: int(n) for key, n in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
        private += kib["Private_Clean"] + kib["Private_Dirty"]
        pss += kib["Pss"]
    return private * 1024, pss * 1024


def descriptors(proc):
    try:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in processes(proc.pid))
    except OSError:
        return None


def idle(way, proc, chosen):
    flows = min(chosen.idle_flows, way.max_idle or chosen.idle_flows)
    before = proc and (memory(proc), descriptors(proc))
    with load_beside(way, "idle", "-n", flows, proc=proc) as popen:
        opened = checked(popen.stdout.readline(), way, "idle")
        after = proc and (memory(proc), descriptors(proc))
        checked(popen.communicate("\n", timeout=60)[0], way, "idle")
    found = {"flows": flows, "cpu": cpu_us(opened)}
    if proc and before[0] and after[0]:
        found["private"] = (after[0][0] - before[0][0]) / flows
        found["pss"] = (after[0][1] - before[0][1]) / flows
    if proc and before[1] and after[1]:
        found["fds"] = (after[1] - before[1]) / flows
    return found


CASES = {"crc": crc, "pingpong": pingpong, "down-1": bulk("bulk-down", 1),
         "down-4": bulk("bulk-down", 4), "up-1": bulk("bulk-up", 1), "up-4": bulk("bulk-up", 4),
         "idle": idle, "beside": beside}

SETS = "sets"  # the other kind of case: no way through a network
SOCKS = "usocksd"  # the table of SOCKS servers

# case, key, what it is, form, whether the peers' figures make a ratio
ROWS = (
    ("crc", "rate", "connect+request+close /s", "{:,.0f}", True),
    ("crc", "p50", "  median latency, us", "{:,.0f}", False),
    ("crc", "p99", "  99th percentile, us", "{:,.0f}", False),
    ("crc", "cpu", "  proxy CPU each, us", "{:.1f}", False),
    ("pingpong", "rate", "ping-pong, 64 flows, /s", "{:,.0f}", True),
    ("pingpong", "p50", "  median latency, us", "{:,.0f}", False),
    ("pingpong", "p99", "  99th percentile, us", "{:,.0f}", False),
    ("pingpong", "cpu", "  proxy CPU each, us", "{:.2f}", False),
    ("down-1", "rate", "bulk down, 1 stream, Gbit/s", "{:.2f}", True),
    ("down-1", "cpu", "  proxy CPU, ms/GB", "{:.0f}", False),
    ("down-4", "rate", "bulk down, 4 streams, Gbit/s", "{:.2f}", True),
    ("down-4", "cpu", "  proxy CPU, ms/GB", "{:.0f}", False),
    ("up-1", "rate", "bulk up, 1 stream, Gbit/s", "{:.2f}", True),
    ("up-1", "cpu", "  proxy CPU, ms/GB", "{:.0f}", False),
    ("up-4", "rate", "bulk up, 4 streams, Gbit/s", "{:.2f}", True),
    ("up-4", "cpu", "  proxy CPU, ms/GB", "{:.0f}", False),
    ("idle", "flows", "idle flows held", "{:,.0f}", False),
    ("idle", "private", "  private memory each, bytes", "{:,.0f}", False),
    ("idle", "pss", "  Pss each, bytes", "{:,.0f}", False),
    ("idle", "fds", "  descriptors each", "{:.2f}", False),
    ("idle", "cpu", "  proxy CPU to open one, us", "{:.1f}", False),
    ("beside", "p50", "ping-pong beside 8 bulk, median us", "{:,.0f}", False),
    ("beside", "p99", "  99th percentile, us", "{:,.0f}", False),
    ("beside", "bulk", "  the bulk flows, Gbit/s", "{:.2f}", False),
)


def belongs(case, way):
    """The cost of the access log is seen where connections come and go."""
    return way != AccessLog.name or case == "crc"


def is_ours(way):
    return way.startswith(WAYS[way].table)


# --------------------------------------------------------------------------------------------------
# The run


def measure(ways, cases, chosen, say):
    """{case: {way: {key: [a figure for each round]}}}"""
    found = {case: {} for case in cases}
    for number in range(chosen.rounds):
        for case in cases:
            turn = [way for way in ways if belongs(case, way.name)]
            first = number % max(len(turn), 1)
            for way in turn[first:] + turn[:first]:
                say(f"round {number + 1} of {chosen.rounds}: {case} by {way.name}")
                with way.proxy() as proc:
                    figures = CASES[case](way, proc, chosen)
                slot = found[case].setdefault(way.name, {})
                for key, value in figures.items():
                    slot.setdefault(key, []).append(value)
    return found


def medians(found):
    return {case: {way: {key: statistics.median(values) for key, values in keys.items()}
                   for way, keys in ways.items()} for case, ways in found.items()}


def ratios(middle):
    """{case: {way: {peer: ratio of rates}}} for our ways."""
    result = {}
    for case, ways in middle.items():
        for way in ways:
            for peer in PEERS[WAYS[way].table] if is_ours(way) and "rate" in ways[way] else ():
                if peer in ways:
                    ratio = ways[way]["rate"] / ways[peer]["rate"]
                    result.setdefault(case, {}).setdefault(way, {})[peer] = ratio
    return result


def spread(values):
    """Half the distance of the extremes, in percent of the median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle * 100 if middle else 0


def table(found, names):
    """Lines: medians, and how far the rounds were apart where it matters."""
    middle = medians(found)
    width = 20
    lines = [" " * 35 + "".join(f"{name:>{width}}" for name in names)]
    for case, key, what, form, main in ROWS:
        if case not in found:
            continue
        cells = []
        for name in names:
            value = middle[case].get(name, {}).get(key)
            no_proxy = name == Way.name and key == "cpu"
            cell = "-" if value is None or no_proxy else form.format(value)
            if main and cell != "-":
                cell += f" ±{spread(found[case][name][key]):2.0f} %"
            cells.append(f"{cell:>{width}}")
        lines.append(f"{what:<35}" + "".join(cells))
    return lines


def ratio_table(middle, names):
    every = ratios(middle)
    heads = [(n, peer) for n in names for peer in PEERS[WAYS[n].table]
             if is_ours(n) and any(peer in ways.get(n, {}) for ways in every.values())]
    if not heads:
        return []
    lines = ["", f"{'ratios of medians':<35}" + "".join(f"{n:>20}" for n, _ in heads),
             " " * 35 + "".join(f"{'/ ' + peer:>20}" for _, peer in heads)]
    for case, key, what, _, main in ROWS:
        if main and key == "rate" and case in every:
            cells = [every[case].get(n, {}).get(peer) for n, peer in heads]
            lines.append(f"{what:<35}" + "".join(
                f"{'-' if c is None else format(c, '.2f'):>20}" for c in cells))
    return lines


def machine():
    return {"kernel": platform.release(), "cpus": len(os.sched_getaffinity(0)),
            "loadavg": list(os.getloadavg()), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                                                    time.gmtime())}


def plot_rows(middle):
    """[(title, {way: rate})] of the cases that are rates."""
    return [(what, {way: keys["rate"] for way, keys in middle[case].items()})
            for case, key, what, _, _ in ROWS if key == "rate" and case in middle]


# --------------------------------------------------------------------------------------------------
# Command line


def words(known):
    def parse(text):
        chosen = text.split(",")
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(known)}")
        return [word for word in known if word in chosen]
    return parse


def options(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement (default 2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds (default 0.5)")
    parser.add_argument("--threads", type=int, default=2,
                        help="of the load generator for crc and pingpong (default 2)")
    parser.add_argument("--congestion", default="reno", metavar="NAME",
                        help="TCP congestion control everywhere (default reno, which is always "
                             "allowed and does not pace)")
    parser.add_argument("--idle-flows", type=int, default=9000)
    parser.add_argument("--only", type=words([*CASES, SETS, SOCKS]), default=[],
                        metavar="CASE,...", help=", ".join([*CASES, SETS]) + f"; {SOCKS}: with it the "
                        "cases are those of the SOCKS servers, all if none is named")
    parser.add_argument("--ways", type=words(WAYS), default=list(WAYS), metavar="WAY,...",
                        help=", ".join(WAYS))
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE.svg", help="a bar chart")
    parser.add_argument("--smoke", action="store_true",
                        help="once, for a moment: is it all there and free of errors?")
    parser.add_argument("-q", action="store_true", dest="quiet", help="no line for each step")
    chosen = parser.parse_args(argv)
    if chosen.rounds < 1 or chosen.seconds <= 0 or chosen.warmup < 0 or chosen.idle_flows < 1:
        parser.error("rounds, seconds and flows must be more than zero")
    choose(chosen)
    if chosen.smoke:
        chosen.rounds, chosen.seconds, chosen.warmup, chosen.idle_flows = 1, 0.2, 0.05, 100
    return chosen


def choose(chosen):
    """What --only means: chosen.cases, and which of the ways."""
    cases = [word for word in chosen.only if word in CASES]
    chosen.sets = SETS in chosen.only or not chosen.only
    chosen.cases = cases or (list(CASES) if SOCKS in chosen.only or not chosen.only else [])
    if chosen.only:
        table = SOCKS if SOCKS in chosen.only else "transocksd"
        chosen.ways = [name for name in chosen.ways if WAYS[name].table == table]


def missing(name):
    """Why a way cannot be had, or None."""
    if name in (Redsocks.name, Microsocks.name, Danted.name) and shutil.which(name, path=lab.PATH) is None:
        return f"{name} is not installed"
    return None


def run_table(names, chosen, say, found):
    """Adds to `found`, and gives the lines of the table."""
    ways = [WAYS[name](chosen.congestion) for name in names]
    figures = measure(ways, chosen.cases, chosen, say)
    for way in ways:
        way.net.close()
    for case, by_way in figures.items():
        found.setdefault(case, {}).update(by_way)
    return table(figures, names) + ratio_table(medians(figures), names) + [""]


def run(chosen):
    started = machine()
    for name in [n for n in chosen.ways if missing(n)]:
        print(f"without {name}: {missing(name)}")
        chosen.ways.remove(name)
    say = (lambda line: None) if chosen.quiet else lambda line: print(line, file=sys.stderr)
    found, lines = {}, []
    for part in PEERS:
        names = [name for name in chosen.ways if WAYS[name].table == part]
        if chosen.cases and names:
            lines += run_table(names, chosen, say, found)
    middle = medians(found)
    large = sets.measure(TOOLS / "sets", chosen.smoke) if chosen.sets else None
    print("\n".join(lines + (sets.table(large) if large else [])))
    ended = machine()
    print(f"\n{ended['cpus']} CPUs, Linux {ended['kernel']}, {chosen.congestion}, {chosen.rounds} rounds "
          f"of {chosen.seconds:g} s; load average {started['loadavg'][0]:.2f} before, "
          f"{ended['loadavg'][0]:.2f} after")
    if chosen.json:
        settings = {k: str(v) if isinstance(v, pathlib.Path) else v
                    for k, v in vars(chosen).items()}
        chosen.json.write_text(json.dumps({
            "started": started, "ended": ended, "options": settings, "rounds": found,
            "medians": middle, "ratios": ratios(middle), "sets": large}, indent=1) + "\n")
    if chosen.plot:
        chosen.plot.write_text(plot.bars(plot_rows(middle), chosen.ways, Way.name))


def main():
    chosen = options()
    for path in (chosen.json, chosen.plot):
        if path and not path.parent.is_dir():
            sys.exit(f"no directory {path.parent}")
    lab.enter()
    try:
        run(chosen)
    except (Failed, AssertionError) as why:
        sys.exit(f"bench: {why}")


if __name__ == "__main__":
    main()
