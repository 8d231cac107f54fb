#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Everything that must hold: `make check`.

Builds with gcc and with sanitizers, and has clang look at it (warnings are errors), runs the unit tests of the
plain and of the sanitized build, the end-to-end tests against both, and the checks on the tree
itself. A line for each group, then what was skipped and what failed and why, and last, after all that
failed once more in few lines, the sums.

An end-to-end test that fails is run again when all others have ended, alone. If it passes then, it counts as passed
and is told as flaky, with what it said when it failed. What no load explains is not run again: a crash, a sanitizer's
report, a daemon that ended badly.

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
UNIT_SECONDS = 300  # for one binary
E2E_SECONDS = 1500  # for one file
SHOWN, LINES, WIDTH = 20, 40, 300  # of failures, once more at the end
# End-to-end files that are run with the plain build alone: test_lab has none of our programs in it, and the others ask
# many times over what the kernel does with packets; what the programs do for it, other files have sanitized.
PLAIN_ONLY = {"test_lab", "test_bench", "test_clients", "test_foreign", "test_iptables_traffic", "test_matrix", "test_storm",
              "test_survival", "test_vanished"}
# Those that take longest, which are begun with.
LONG = {"test_clients", "test_explain", "test_foreign", "test_iptables", "test_iptables_ask", "test_iptables_traffic",
        "test_iptables_trial", "test_matrix", "test_names", "test_open", "test_rules_faults", "test_rules_state",
        "test_storm", "test_survival", "test_tproxy", "test_trusted_proxies", "test_upstreams"}
E2E_CANNOT = 75  # as in lab.py
# What a loaded machine is no excuse for.
NO_LOAD = re.compile(r"ERROR: \w+Sanitizer|runtime error: |\bBUG: |ended by signal|"
                     r"\b(transocksd|usocksd|prlimit)\b.{0,40} ended with (?!0\b|-9\b)")
RETRIES = 10  # where more fail, the machine is not what is wrong
JOBS = os.cpu_count() or 1
E2E_JOBS = 3 * JOBS  # end-to-end tests wait more than they work

# name: how it is built, in its own directory
PROGRAMS = ["all", "units", "benchtools"]
BUILDS = {
    "gcc": ("build", ["CC=gcc", "CXX=g++", *PROGRAMS]),
    "clang": ("build/clang", ["CC=clang", "CXX=clang++", "syntax"]),
    "asan": ("build/asan", ["CC=gcc", "CXX=g++", "SANITIZE=address,undefined", *PROGRAMS]),
}
E2E_BUILDS = [("e2e", BUILDS["gcc"][0]), ("e2e-asan", BUILDS["asan"][0])]
UBSAN = {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
SANITIZER_ENV = {
    # No leak check end to end: a process that has changed its user may not trace itself. The unit
    # tests have it.
    "e2e": {"ASAN_OPTIONS": "detect_leaks=0", **UBSAN},
    "unit": {"ASAN_OPTIONS": "detect_leaks=1", **UBSAN},
}


class Tally:
    """What ran and how it went."""

    def __init__(self, verbose, retry):
        self.verbose = verbose
        self.retry = retry
        self.passed, self.failed, self.skipped = [], [], []
        self.flaky = []  # passed, when run again
        self.again = []  # (label, file, name, why) of what is to be run again

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
    code, output = run(["make", f"-j{JOBS}", f"BUILD={directory}", *how])
    if code != 0:
        said = [line for line in output.splitlines() if not re.match(r"  [A-Z]+ +\S+$", line)]
        tally.fail(f"build.{name}", tail("\n".join(said)))
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


def unit(label, binary):
    """Runs one cmocka program; for take_unit()."""
    started = time.monotonic()
    env = {"CMOCKA_MESSAGE_OUTPUT": "TAP", **SANITIZER_ENV["unit"]}
    code, output = run([*own_network(), binary], UNIT_SECONDS, env)
    return label, binary, code, output, time.monotonic() - started


def take_unit(tally, label, binary, code, output):
    """Its answers are in TAP."""
    name = f"{label}.{binary.name}"
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
    for word, test, rest in e2e_answers(output):
        test = f"{label}.{test}"
        if word == "PASS":
            tally.ok(test)
        elif word == "SKIP":
            tally.skip(test, rest.partition(": ")[2].strip())
        else:
            failed = True
            e2e_failed(tally, label, file, test, rest.partition("\n")[2])
    if code != 0 and not failed:
        tally.fail(name, f"ended with {code}\n{tail(output)}")


def e2e_answers(output):
    """(PASS, FAIL or SKIP; which test; the rest), of each test."""
    for block in re.split(r"^(?=PASS |FAIL |SKIP )", output, flags=re.M):
        word, _, rest = block.partition(" ")
        if word in ("PASS", "FAIL", "SKIP"):
            yield word, rest.split(":")[0].split(" ")[0].strip(), rest


def e2e_failed(tally, label, file, test, why):
    if tally.retry and not NO_LOAD.search(why):
        tally.again.append((label, file, test, why))
    else:
        tally.fail(test, why)


def run_again(tally):
    """One after the other, with nothing beside them."""
    again, tally.again, tally.retry = tally.again, [], False
    if len(again) > RETRIES:
        print(f"{len(again)} failed, so it is not the load: none of them is run again")
    for label, file, test, why in again:
        if len(again) > RETRIES:
            tally.fail(test, why)
            continue
        directory = next(d for name, d in E2E_BUILDS if name == label)
        bare = test.removeprefix(f"{label}.")
        *_, output, _ = e2e(label, file, directory, [bare])
        if any((word, name) == ("PASS", bare) for word, name, _ in e2e_answers(output)):
            print(f"    FLAKY {test}: failed, and passed when run again alone")
            tally.ok(test)
            tally.flaky.append((test, why))
        else:
            tally.fail(test, f"{why.rstrip()}\nrun again alone:\n{output}")


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
    parser.add_argument("--no-retry", action="store_false", dest="retry",
                        help="an end-to-end test that fails has failed, even if it would pass alone")
    parser.add_argument("-v", action="store_true", dest="verbose", help="a line for each test")
    return parser.parse_args()


def main():
    chosen = options()
    if chosen.unprivileged and os.geteuid() == 0:
        sys.exit(unprivileged([a for a in sys.argv[1:] if a != "--unprivileged"]))
    sys.stdout.reconfigure(line_buffering=True)
    tally, only = Tally(chosen.verbose, chosen.retry), chosen.only

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
    run_units(tally, built, only)
    print("end to end")
    run_e2e(tally, built, only)
    run_again(tally)
    sys.exit(verdict(tally))


def side_by_side(tally, n, take, jobs):
    """Runs those functions in `n` threads; what each returns is for `take`, after its label and file."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        running = [pool.submit(*job) for job in jobs]
        for job in concurrent.futures.as_completed(running):
            label, file, code, output, seconds = job.result()
            before = tally.sums()
            take(tally, label, file, code, output)
            tally.group(f"{label}.{file.stem}", seconds, before)


def run_units(tally, built, only):
    jobs = []
    for name, label in (("gcc", "unit"), ("asan", "unit-asan")):
        for source in sorted((ROOT / "tests" / "unit").glob("test_*.c")) if name in built else ():
            binary = ROOT / BUILDS[name][0] / "tests" / source.stem
            if only in f"{label}.{binary.name}":
                jobs.append((unit, label, binary))
    own_network()
    side_by_side(tally, E2E_JOBS, take_unit, jobs)


def run_e2e(tally, built, only):
    """The files run side by side, those that take long first."""
    files = sorted((ROOT / "tests" / "e2e").glob("test_*.py"))
    directories = {BUILDS[name][0] for name in built}
    jobs = []
    for label, directory in E2E_BUILDS if directories else ():
        for file in files if directory in directories else ():
            if label == "e2e-asan" and file.stem in PLAIN_ONLY:
                continue
            words = [] if only in f"{label}.{file.stem}" else [only.removeprefix(f"{label}.")]
            if not words or may_have(file, *words):
                jobs.append((e2e, label, file, directory, words))
    jobs.sort(key=lambda job: job[2].stem not in LONG)
    side_by_side(tally, E2E_JOBS, take_e2e, jobs)


def may_have(file, only):
    """Whether a test of this file may have a name with `only` in it."""
    text = file.read_text()
    imported = [file.with_name(f"{name}.py") for name in re.findall(r"^(?:from|import) (test_\w+)", text, re.M)]
    text += "".join(other.read_text() for other in imported) + file.stem
    return all(word in text for word in only.split("."))


def verdict(tally):
    strict = os.geteuid() == 0 and os.environ.get("CI") == "true"
    if tally.skipped:
        print("\nskipped" + (", which counts as failed for root with CI=true" if strict else ""))
        for name, why in tally.skipped:
            print(f"  {name}: {why}")
    for word, tests in (("FLAKY", tally.flaky), ("FAILED", tally.failed)):
        for name, why in tests:
            print(f"\n{word} {name}")
            print("".join(f"  {line}\n" for line in why.splitlines()), end="")
    in_short(tally)
    passed, failed, skipped = tally.sums()
    if strict:
        failed, skipped = failed + skipped, 0
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed == 0 else 0


def in_short(tally):
    """What went wrong once more, bounded, for whoever sees only the end of what has been printed."""
    print()
    for name, why in tally.failed[:SHOWN]:
        print(f"failed: {name}")
        print("".join(f"  {line[:WIDTH]}\n" for line in why.splitlines()[:LINES]), end="")
    for what, tests in (("flaky (failed beside others, passed alone, counted as passed)", tally.flaky),
                        ("failed", tally.failed)):
        if tests:
            print(f"{len(tests)} {what}: {' '.join(name for name, _ in tests)}")


if __name__ == "__main__":
    main()
