#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Everything that must hold: `make check`.

Builds with gcc, with clang and with sanitizers (warnings are errors), runs the unit tests of the
plain and of the sanitized build, the end-to-end tests against both, and the checks on the tree
itself. A line for each group, then what was skipped and what failed and why, and last the sums.

Exit code 1 if anything failed, or if nothing ran. As root with CI=true a skipped test is a failure.
"""
import argparse
import concurrent.futures
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import tree  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"
UNIT_SECONDS = 120  # for one binary
E2E_SECONDS = 400  # for one file
# End-to-end files that are run with the plain build alone: test_lab has none of our programs in it, and the others ask
# many times over what the kernel does with packets; what the programs do for it, other files have sanitized.
PLAIN_ONLY = {"test_lab", "test_bench", "test_clients", "test_foreign", "test_iptables_traffic", "test_matrix", "test_storm",
              "test_survival", "test_vanished"}
E2E_CANNOT = 75  # as in lab.py
JOBS = os.cpu_count() or 1
E2E_JOBS = 2 * JOBS  # end-to-end tests wait more than they work

# name: how it is built, in its own directory
BUILDS = {
    "gcc": ("build", ["CC=gcc", "CXX=g++"]),
    "clang": ("build/clang", ["CC=clang", "CXX=clang++"]),
    "asan": ("build/asan", ["CC=gcc", "CXX=g++", "SANITIZE=address,undefined"]),
}
UBSAN = {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
SANITIZER_ENV = {
    # No leak check end to end: a process that has changed its user may not trace itself. The unit
    # tests have it.
    "e2e": {"ASAN_OPTIONS": "detect_leaks=0", **UBSAN},
    "unit": {"ASAN_OPTIONS": "detect_leaks=1", **UBSAN},
}


class Tally:
    """What ran and how it went."""

    def __init__(self, verbose):
        self.verbose = verbose
        self.passed, self.failed, self.skipped = [], [], []

    def ok(self, name):
        self.passed.append(name)
        if self.verbose:
            print(f"    ok    {name}")

    def fail(self, name, why):
        self.failed.append((name, why.rstrip()))
        print(f"    FAIL  {name}")

    def skip(self, name, why):
        self.skipped.append((name, why))
        if self.verbose:
            print(f"    skip  {name}: {why}")

    def group(self, name, seconds, before):
        """A line about what has come since `before`, if anything has."""
        words = zip(self.sums(), before, ("passed", "failed", "skipped"))
        counts = [f"{now - then} {word}" for now, then, word in words if now > then]
        if counts:
            print(f"  {name:<32} {', '.join(counts)} ({seconds:.1f} s)")

    def sums(self):
        return len(self.passed), len(self.failed), len(self.skipped)


def run(argv, seconds=600, env=None):
    """(exit code, output); a program that does not end is killed and says so."""
    try:
        done = subprocess.run([str(a) for a in argv], cwd=ROOT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=seconds, check=False,
                              env={**os.environ, **(env or {})})
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace")
        return -1, f"{output}\nstill running after {seconds} s"


def tail(text, lines=60):
    return "\n".join(text.splitlines()[-lines:])


def build(tally, name, built, wanted):
    """Adds to `built` if that build is there afterwards; a success counts only where wanted."""
    directory, how = BUILDS[name]
    compiler = how[0].split("=")[1]
    if shutil.which(compiler) is None:
        tally.skip(f"build.{name}", f"{compiler} is not installed")
        return
    code, output = run(["make", f"-j{JOBS}", f"BUILD={directory}", *how, "all", "units", "benchtools"])
    if code != 0:
        tally.fail(f"build.{name}", tail(output))
        return
    built.add(name)
    if wanted:
        tally.ok(f"build.{name}")


@functools.cache
def own_network():
    """What runs a program with a loopback device of its own; nothing where the kernel refuses."""
    wrapper = ["unshare", "-n" if os.geteuid() == 0 else "-Urn", "sh", "-c",
               'ip link set lo up && exec "$0"']
    return wrapper if run([*wrapper, "true"])[0] == 0 else []


def give_back():
    """What root has built in somebody's tree is theirs: their next `make` must not fail at it."""
    owner = ROOT.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for directory, _, names in os.walk(ROOT / "build"):
        for path in [directory, *(os.path.join(directory, name) for name in names)]:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def unit(tally, label, binary):
    """Runs one cmocka program; its answers are in TAP."""
    name = f"{label}.{binary.name}"
    env = {"CMOCKA_MESSAGE_OUTPUT": "TAP", **SANITIZER_ENV["unit"]}
    code, output = run([*own_network(), binary], UNIT_SECONDS, env)
    planned = sum(int(n) for n in re.findall(r"^1\.\.(\d+)", output, re.M))
    answers = re.findall(r"^(ok|not ok) \d+ (?:- )?(# SKIP )?(.*)$", output, re.M)
    for word, skipped, test in answers:
        if skipped:  # said with "not ok" by some versions
            tally.skip(f"{name}.{test}", "the test says so")
        elif word == "ok":
            tally.ok(f"{name}.{test}")
        else:
            tally.fail(f"{name}.{test}", tail(output))
    failed = any(word != "ok" and not skipped for word, skipped, _ in answers)
    if planned == 0 or len(answers) != planned or (code != 0 and not failed):
        how = f"ended with {code} after {len(answers)} of {planned} tests"
        tally.fail(name, f"{how}\n{tail(output)}")


def e2e(label, file, directory, words):
    """Runs one file of end-to-end tests; for take_e2e()."""
    started = time.monotonic()
    env = {"BUILD_DIR": str(ROOT / directory), **SANITIZER_ENV["e2e"]}
    code, output = run([PYTHON, "-B", file, *words], E2E_SECONDS, env)
    return label, file, code, output, time.monotonic() - started


def take_e2e(tally, label, file, code, output):
    name = f"{label}.{file.stem}"
    if code == E2E_CANNOT:
        tally.skip(name, output.strip())
        return
    failed = False
    for block in re.split(r"^(?=PASS |FAIL |SKIP )", output, flags=re.M):
        word, _, rest = block.partition(" ")
        test = f"{label}.{rest.split(':')[0].split(' ')[0].strip()}"
        if word == "PASS":
            tally.ok(test)
        elif word == "SKIP":
            tally.skip(test, rest.partition(": ")[2].strip())
        elif word == "FAIL":
            failed = True
            tally.fail(test, rest.partition("\n")[2])
    if code != 0 and not failed:
        tally.fail(name, f"ended with {code}\n{tail(output)}")


def tree_checks(tally, only):
    for check in tree.CHECKS:
        name = f"tree.{check.__name__}"
        if only not in name:
            continue
        try:
            problems = check(ROOT)
        except tree.CannotCheck as why:
            tally.skip(name, str(why))
            continue
        if problems:
            tally.fail(name, "\n".join(problems))
        else:
            tally.ok(name)


def unprivileged(arguments):
    """Runs again as nobody, in a copy of the tree that nobody may write to."""
    with tempfile.TemporaryDirectory(prefix="check-") as directory:
        os.chmod(directory, 0o755)
        copy = pathlib.Path(directory, "tree")
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for path in (copy, *copy.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
                PYTHON, "-B", str(copy / "tests" / "check.py"), *arguments]
        return subprocess.run(argv, cwd=copy, stdin=subprocess.DEVNULL, check=False).returncode


def options():
    parser = argparse.ArgumentParser(description="Builds and tests everything.")
    parser.add_argument("--only", metavar="PATTERN", default="",
                        help="only tests whose name contains this")
    parser.add_argument("--unprivileged", action="store_true",
                        help="as nobody, in user namespaces (from root)")
    parser.add_argument("-v", action="store_true", dest="verbose", help="a line for each test")
    return parser.parse_args()


def main():
    chosen = options()
    if chosen.unprivileged and os.geteuid() == 0:
        sys.exit(unprivileged([a for a in sys.argv[1:] if a != "--unprivileged"]))
    sys.stdout.reconfigure(line_buffering=True)
    tally, only = Tally(chosen.verbose), chosen.only

    def group(name, function, *args):
        started, before = time.monotonic(), tally.sums()
        function(tally, *args)
        tally.group(name, time.monotonic() - started, before)

    print("building")
    built = set()
    for name in BUILDS:
        group(f"build.{name}", build, name, built, only in f"build.{name}")
    give_back()
    print("the tree")
    group("tree", tree_checks, only)
    print("unit tests")
    for name, label in (("gcc", "unit"), ("asan", "unit-asan")):
        for source in sorted((ROOT / "tests" / "unit").glob("test_*.c")) if name in built else ():
            binary = ROOT / BUILDS[name][0] / "tests" / source.stem
            if only in f"{label}.{binary.name}":
                group(f"{label}.{binary.name}", unit, label, binary)
    print("end to end")
    run_e2e(tally, built, only)
    sys.exit(verdict(tally))


def run_e2e(tally, built, only):
    """The files run side by side."""
    files = sorted((ROOT / "tests" / "e2e").glob("test_*.py"))
    with concurrent.futures.ThreadPoolExecutor(E2E_JOBS) as pool:
        jobs = []
        for name, label in (("gcc", "e2e"), ("asan", "e2e-asan")):
            for file in files if name in built else ():
                if label == "e2e-asan" and file.stem in PLAIN_ONLY:
                    continue
                words = [] if only in f"{label}.{file.stem}" else [only]
                jobs.append(pool.submit(e2e, label, file, BUILDS[name][0], words))
        for job in concurrent.futures.as_completed(jobs):
            label, file, code, output, seconds = job.result()
            before = tally.sums()
            take_e2e(tally, label, file, code, output)
            tally.group(f"{label}.{file.stem}", seconds, before)


def verdict(tally):
    strict = os.geteuid() == 0 and os.environ.get("CI") == "true"
    if tally.skipped:
        print("\nskipped" + (", which counts as failed for root with CI=true" if strict else ""))
        for name, why in tally.skipped:
            print(f"  {name}: {why}")
    for name, why in tally.failed:
        print(f"\nFAILED {name}")
        print("".join(f"  {line}\n" for line in why.splitlines()), end="")
    passed, failed, skipped = tally.sums()
    if strict:
        failed, skipped = failed + skipped, 0
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    main()
