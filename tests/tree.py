# SPDX-License-Identifier: MIT
"""
Checks on the tree itself, for check.py: each takes the root and returns what is wrong, a line each.
"""
import pathlib
import re
import shutil
import subprocess
import tempfile

# Each line may include only lines above it (and itself); proto/ is narrower. ARCHITECTURE.md draws the tree.
LAYERS = ["policy", "daemon/core", "daemon/net", "daemon/proto", "daemon/upstream", "daemon/egress",
          "daemon/flow", "daemon/admin", "daemon"]
MAY_INCLUDE = {layer: set(LAYERS[:i + 1]) for i, layer in enumerate(LAYERS)}
MAY_INCLUDE["daemon/proto"] = {"policy", "daemon/proto"}
MAY_INCLUDE["rulemgr"] = {"policy", "rulemgr"}
GPL_LIBRARIES = ("libnftnl/", "libnetfilter_conntrack/")

PROGRAMS = ("transocksd", "usocksd", "transocks-rules")
CONFIGURED = {"transocksd": "transocks.toml", "usocksd": "usocksd.toml"}


class CannotCheck(Exception):
    """A tool is missing."""


def tool(name):
    path = shutil.which(name)
    if path is None:
        raise CannotCheck(f"{name} is not installed")
    return path


def sources(root, *endings):
    for top in ("policy", "daemon", "rulemgr"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in endings:
                yield path


def output_of(*argv, cwd=None):
    done = subprocess.run([str(a) for a in argv], cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=60, check=False)
    return done.returncode, done.stdout


def layers(root):
    """Includes go down only, and the GPL libraries stay in transocks-rules."""
    problems = []
    for path in sources(root, ".c", ".h", ".cc"):
        here = str(path.parent.relative_to(root))
        if here not in MAY_INCLUDE:
            problems.append(f"{path.relative_to(root)}: {here}/ is not in the order of layers")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(root)}:{number}"
            own = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if own:
                there = str(pathlib.PurePath(own[1]).parent)
                if there not in MAY_INCLUDE[here]:
                    problems.append(f"{where}: {here}/ may not include {own[1]}")
            library = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if library and here != "rulemgr" and library[1].startswith(GPL_LIBRARIES):
                problems.append(f"{where}: <{library[1]}> is GPL and belongs to rulemgr/ only")
    return problems


def headers_compile_alone(root):
    problems = []
    for path in sources(root, ".h"):
        code, output = output_of(tool("gcc"), "-std=gnu17", "-I.", "-D_GNU_SOURCE", "-Wall",
                                 "-Wextra", "-Werror", "-fsyntax-only", "-include", path,
                                 "-x", "c", "/dev/null", cwd=root)
        if code != 0:
            problems.append(output)
        if "#pragma once" not in path.read_text():
            problems.append(f"{path.relative_to(root)}: no #pragma once")
    return problems


def licence_lines(root):
    """SPDX on line 1, or 2 where line 1 names an interpreter."""
    problems = []
    tests = root / "tests"
    paths = [*sources(root, ".c", ".h", ".cc"), *tests.rglob("*.[ch]"), *tests.rglob("*.py"),
             *(root / "etc").rglob("*.sh"), root / "Makefile", root / ".ci" / "run"]
    for path in paths:
        if not any("SPDX-License-Identifier: MIT" in x for x in path.read_text().splitlines()[:2]):
            problems.append(f"{path.relative_to(root)}: no licence line")
    return problems


def formatting(root):
    program = tool("clang-format")
    paths = [*sources(root, ".c", ".h"), *(root / "tests").rglob("*.[ch]")]
    output = output_of(program, "--dry-run", *paths, cwd=root)[1]
    return [line for line in output.splitlines() if "warning:" in line][:40]


def manuals_lint(root):
    program = tool("mandoc")
    pages = sorted((root / "man").glob("*.[1-9]"))
    if not pages:
        return ["man/ is empty"]
    lines = output_of(program, "-Tlint", "-W", "style", *pages, cwd=root / "man")[1].splitlines()
    ours = {tuple(page.name.rsplit(".", 1)) for page in pages}
    # Whether the manuals of others are installed is not our affair.
    ours |= {(program, "8") for program in PROGRAMS}
    ours |= {(file, "5") for file in CONFIGURED.values()}

    def matters(line):
        if not re.search(r"\.[1-9]:\d+:\d+: ", line):
            return False  # about the machine's index of manuals
        other = re.search(r"referenced manual not found: Xr (\S+) (\d)", line)
        return other is None or other.groups() in ours

    return [line for line in lines if matters(line)]


def option_names(root, program):
    """Dotted names, from --dump-config of the sample with all that it shows as a comment."""
    sample = (root / "etc" / CONFIGURED[program]).read_text()
    whole = re.sub(r"^#([\[a-z])", r"\1", sample, flags=re.M)
    if "[[upstream]]" in whole:
        whole = re.sub(r"^proxy_url = .*", "", whole, flags=re.M)  # the short form of one
    whole = re.sub(r"^users = .*", "", whole, flags=re.M)  # of an auth.file; the dump shows the name nevertheless
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(whole)
        file.flush()
        code, output = output_of(root / "build" / program, "-f", file.name, "--dump-config")
    if code != 0:
        raise ValueError(f"{program} --dump-config ended with {code}: {output}")
    return toml_names(output)


def toml_names(text):
    """Every name that a TOML text sets, and those it shows as a comment ("# name = value")."""
    plain = re.sub(r"^#\s*(\[+[\w.-]+\]+|[\w-]+\s*=.*)$", r"\1", text, flags=re.M)
    names, table = set(), ""
    for line in plain.splitlines():
        header = re.match(r"\s*\[+([\w.-]+)\]+", line)
        key = re.match(r"\s*([\w.-]+)\s*=", line)
        if header:
            table = re.sub(r"^group\..*", "group.NAME", header[1]) + "."
        elif key:
            names.add(table + key[1])
    return names


def samples_and_manuals_have_every_option(root):
    problems = []
    for program, file in CONFIGURED.items():
        try:
            options = option_names(root, program)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        if not options:
            problems.append(f"{program} --dump-config shows no option")
        sample = root / "etc" / file
        manual = root / "man" / f"{file}.5"
        for path in (sample, manual):
            if not path.exists():
                problems.append(f"{path.relative_to(root)} is missing")
                break
        else:
            shown = toml_names(sample.read_text())
            problems += [f"etc/{file}: no {name}" for name in sorted(options - shown)]
            problems += [f"etc/{file}: {name} is no option" for name in sorted(shown - options)]
            problems += manual_problems(manual, options)
    return problems


def manual_problems(path, options):
    documented = set(re.findall(r"^\.It (?:Ic|Cm|Va|Li|Sy) ([\w.]+)", path.read_text(), re.M))
    return [f"{path.name}: no {name}" for name in sorted(options - documented)] + \
           [f"{path.name}: {name} is no option" for name in sorted(documented - options)]


def help_names(root, program):
    """(flags, sub-commands) that --help shows."""
    code, output = output_of(root / "build" / program, "--help")
    if code != 0:
        raise ValueError(f"{program} --help ended with {code}: {output}")
    flags = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", output))
    commands = set(re.findall(r"^([a-z]+): ", output, re.M)) - {"usage"}
    return flags, commands


def manuals_and_completions_have_every_flag(root):
    problems = []
    for program in PROGRAMS:
        try:
            flags, commands = help_names(root, program)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        if not flags:
            problems.append(f"{program} --help shows no flag")
        for path in (root / "man" / f"{program}.8", root / "etc" / "completion" / program):
            if not path.exists():
                problems.append(f"{path.relative_to(root)} is missing")
                continue
            text = path.read_text()
            name = path.relative_to(root)
            problems += [f"{name}: no --{flag}" for flag in sorted(flags)
                         if not re.search(rf"(?:-|Fl Fl |Fl ){flag}(?![\w-])", text)]
            problems += [f"{name}: no sub-command {word}" for word in sorted(commands)
                         if not re.search(rf"\b{word}\b", text)]
    return problems


def manuals_have_every_end(root):
    """The rows of WHY_TABLE, with their phases, against the tables of both manuals."""
    table = (root / "daemon" / "flow" / "why.h").read_text()
    rows = set(re.findall(r'ROW\(WHY_\w+,\s+"([\w-]+)",\s+"(\w+)"', table))
    if not rows:
        return ["daemon/flow/why.h: no row of WHY_TABLE found"]
    documented = set()
    for program in CONFIGURED:
        text = (root / "man" / f"{program}.8").read_text()
        section = re.search(r"^\.Sh LOG$(.*?)^\.Sh ", text, re.M | re.S)
        documented |= set(re.findall(r"^\.It (?:\w\w )?([\w-]+) Ta (\w+) Ta", section[1] if section else "", re.M))
    documented.discard(("end", "Em"))  # the head of the table
    return [f"man/: end {word} of phase {phase} is in no manual"
            for word, phase in sorted(rows - documented)] + \
           [f"man/: end {word} of phase {phase} does not exist"
            for word, phase in sorted(documented - rows)]


STATUS_TABLES = {"transocksd.8": ("admin/status.h", "admin/upstream_status.h"),
                 "usocksd.8": ("admin/egress_status.h", "admin/login_status.h", "flow/udp.h")}


def manuals_have_every_number(root):
    """The rows of each STATUS_TABLE, with their words, against the tables of the manual."""
    problems = []
    for manual, headers in STATUS_TABLES.items():
        rows = set()
        for header in headers:
            found = re.findall(r'ROW\((?:UDP_\w+,\s+"(?=\w))?(\w+)"?,\s+"([^"]+)"',
                               (root / "daemon" / header).read_text())
            if not found:
                return [f"daemon/{header}: no row of a table found"]
            rows |= set(found)
        section = re.search(r"^\.Sh STATUS$(.*?)^\.Sh ", (root / "man" / manual).read_text(), re.M | re.S)
        documented = set(re.findall(r"^\.It (\w+) Ta (.+)$", section[1] if section else "", re.M))
        problems += [f"man/{manual}: no {name} Ta {text}" for name, text in sorted(rows - documented)] + \
                    [f"man/{manual}: {name} Ta {text} is no row of a STATUS_TABLE"
                     for name, text in sorted(documented - rows)]
    return problems


def manuals_have_every_metric(root):
    """The rows of METRICS_TABLE, with type, labels and words, against the list in each daemon's manual."""
    rows = re.findall(r'ROW\((\w+),\s+(\w+),\s+(\w+),\s+"([^"]*)",\s+"([^"]+)"\)',
                      (root / "daemon" / "admin" / "metrics.h").read_text())
    if not rows:
        return ["daemon/admin/metrics.h: no row of METRICS_TABLE found"]
    problems = []
    for program in CONFIGURED:
        wanted = {(name, kind.lower(), labels, text) for daemon, name, kind, labels, text in rows
                  if daemon in ("BOTH", program.upper())}
        page = (root / "man" / f"{program}.8").read_text()
        section = re.search(r"^\.Sh METRICS$(.*?)^\.Sh ", page, re.M | re.S)
        items = re.findall(r"^\.It Cm (\w+) Pq (\w+)(?:: ([\w, ]+))?\n((?:[^.].*\n)+)",
                           section[1] if section else "", re.M)
        documented = {(name, kind, labels, " ".join(text.split())) for name, kind, labels, text in items}
        problems += [f"man/{program}.8: no metric {row}" for row in sorted(wanted - documented)] + \
                    [f"man/{program}.8: {row} is no row of METRICS_TABLE"
                     for row in sorted(documented - wanted)]
    return problems


def installation(root):
    """make install puts these files there and nothing else, and make uninstall leaves none."""
    expected = {"usr/share/doc/transocks/README.md", "usr/share/doc/transocks/CHANGELOG.md",
                "usr/share/doc/transocks/LICENSE"}
    for program in PROGRAMS:
        expected |= {f"usr/sbin/{program}", f"usr/share/man/man8/{program}.8",
                     f"usr/share/bash-completion/completions/{program}"}
    for file in CONFIGURED.values():
        expected |= {f"usr/share/man/man5/{file}.5", f"usr/share/doc/transocks/examples/{file}"}
    for unit in (root / "etc" / "systemd").iterdir():
        expected.add(f"usr/lib/systemd/system/{unit.name}")
    with tempfile.TemporaryDirectory() as directory:
        def make(target):
            code, output = output_of("make", target, "BUILD=build", "PREFIX=/usr",
                                     f"DESTDIR={directory}", cwd=root)
            found = {str(p.relative_to(directory)) for p in pathlib.Path(directory).rglob("*")
                     if not p.is_dir()}
            return found, [f"make {target} ended with {code}: {output}"] if code != 0 else []

        there, problems = make("install")
        problems += [f"make install: no {path}" for path in sorted(expected - there)]
        problems += [f"make install: {path} is not expected" for path in sorted(there - expected)]
        left, more = make("uninstall")
        return problems + more + [f"make uninstall leaves {path}" for path in sorted(left)]


def units_verify(root):
    """What systemd says of the units, with the programs where they are installed to."""
    program = tool("systemd-analyze")
    with tempfile.TemporaryDirectory() as directory:
        code, output = output_of("make", "install", "BUILD=build", f"PREFIX={directory}", cwd=root)
        if code != 0:
            return [output]
        units = sorted(pathlib.Path(directory, "lib", "systemd", "system").iterdir())
        if not units:
            return ["make install installs no unit"]
        code, output = output_of(program, "verify", "--man=no", *units)
        # Units of the machine are none of our affair.
        lines = [line for line in output.splitlines() if "transocks" in line or "usocksd" in line]
        return lines if lines or code == 0 else [output]


CHECKS = (layers, headers_compile_alone, licence_lines, formatting, manuals_lint,
          samples_and_manuals_have_every_option, manuals_and_completions_have_every_flag,
          manuals_have_every_end, manuals_have_every_number, manuals_have_every_metric, installation, units_verify)
