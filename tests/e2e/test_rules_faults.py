# SPDX-License-Identifier: MIT
"""
transocks-rules when the kernel refuses, when netlink fails, and when it is killed: the message names the part, and
the table is wholly the old one or wholly the new one. Foreign tables are what they were, whatever they are.
"""
import errno
import json
import random
import shutil
import signal

import lab
from test_faults import runtime
from test_rules_state import EVERYTHING, StateCase

RULES = lab.BUILD / "transocks-rules"
# What both ends say; tests/faults/netlink.c explains the words.
PRELOAD = f"{runtime()} {lab.BUILD / 'netlink.so'}"
OLD = ("--port", 99, *EVERYTHING, "--force")
NEW = (*EVERYTHING, "--force")


class FaultCase(StateCase):
    def faulty(self, host, fault, *args):
        args = [str(x) for x in args]
        if args[0] == "install":
            args += ["--uid", lab.RULES_UID]
        return host.run(RULES, *args, check=False, env={"LD_PRELOAD": PRELOAD, "NETLINK_FAULT": fault})

    def states(self, host):
        """The texts before and after an install that replaces a table, with the old one in place."""
        host.rules("install", *OLD)
        host.rules("bypass", "add", "11.77.0.0/16", "-c", "kept")
        old = self.table(host)
        host.rules("install", *NEW)
        new = self.table(host)
        self.assertIn("kept", new)
        self.assertNotEqual(old, new)
        self.reset(host, old)
        return old, new

    def reset(self, host, text):
        host.run("nft", "flush", "ruleset")
        host.nft(text)
        self.assertEqual(self.table(host), text)

    def count(self, host, *args):
        """How many sends, receives and batch messages a run has."""
        path = lab.WORK / "netlink-count"
        path.unlink(missing_ok=True)
        if args[0] == "install":
            args += ("--uid", lab.RULES_UID)
        host.run(RULES, *args, env={"LD_PRELOAD": PRELOAD, "NETLINK_COUNT": str(path)})
        return [int(x) for x in path.read_text().split()]


class Refused(FaultCase):
    def parts(self, host):
        """What each message of the batch is about, in order, from what `print` says."""
        table = json.loads(host.rules("print", "--format", "json", *EVERYTHING).stdout)
        parts = ["table inet transocks"] * 2  # removed, made
        for one in table["sets"]:
            parts.append(f"set {one['name']}")
            elements = [x["element"] for x in one["elements"]]
            if one["name"] == "bypass4":
                elements = ["11.77.0.0/16"]
            if len(elements) == 1:
                parts.append(f"element {elements[0]} of set {one['name']}")
            elif elements:
                parts.append(f"one of the elements {elements[0]} to {elements[-1]} of set {one['name']}")
        for chain in table["chains"]:
            parts.append(f"chain {chain['name']}")
            parts += [f"rule \"{x['comment']}\" of chain {chain['name']}" for x in chain["rules"]]
        return parts

    def test_each_message(self):
        host = self.lonely()
        old, _ = self.states(host)
        parts = self.parts(host)
        self.assertGreater(len(parts), 80)
        for number, part in enumerate(parts):
            done = self.faulty(host, f"refuse {number}", "install", *NEW)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"the kernel refused {part}: Invalid argument", done.stderr)
        self.assertEqual(self.table(host), old)
        done = self.faulty(host, f"refuse {len(parts)}", "install", *NEW)
        self.assertEqual(done.returncode, 0, done.stderr)  # there is no such message

    def test_each_error(self):
        host = self.lonely()
        old, _ = self.states(host)
        codes = {"EPERM": 77, "EACCES": 77, "ENOENT": 69, "EOPNOTSUPP": 69, "ERESTART": 6}
        for name in ("EPERM", "EACCES", "ENOENT", "EOPNOTSUPP", "ERESTART", "EBUSY", "EEXIST", "EINVAL", "ENOMEM", "ENOSPC",
                     "EMFILE", "ENFILE", "ERANGE", "EOVERFLOW", "EMLINK", "ELOOP", "EAGAIN", "EINTR", "ENOBUFS", "E2BIG"):
            with self.subTest(name):
                done = self.faulty(host, f"refuse 40 {getattr(errno, name)}", "install", *NEW)
                self.assertEqual(done.returncode, codes.get(name, 6 if name == "EBUSY" else 1), done.stderr)
                if name != "ERESTART":
                    self.assertIn("the kernel refused rule \"", done.stderr)
        self.assertEqual(self.table(host), old)

    def test_bypass(self):
        host = self.lonely()
        host.rules("install")
        host.rules("bypass", "add", "11.5.0.0/16")
        before = self.table(host)
        for number, element in enumerate(("11.5.0.0/16", "11.5.0.0-11.6.255.255")):
            done = self.faulty(host, f"refuse {number}", "bypass", "add", "11.6.0.0/16")
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"the kernel refused element {element} of set bypass4: ", done.stderr)
        self.assertEqual(self.table(host), before)

    def test_flush(self):
        host = self.lonely()
        old, _ = self.states(host)
        for args, part in (((), 'rule "draining: new flows go direct" of chain output'),
                           (("--now",), "table inet transocks")):
            done = self.faulty(host, "refuse 0", "flush", *args)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"the kernel refused {part}: ", done.stderr)
            self.assertEqual(self.table(host), old)


class Removal(FaultCase):
    def test_reads_no_sets(self):
        """However many elements there are: while they are read, somebody may change the ruleset every time."""
        host = self.lonely()
        elements = ", ".join(f"11.{n >> 8}.{n & 255}.1" for n in range(5000))
        many = "".join(f"add set inet transocks s{n} {{ type ipv4_addr; elements = {{ {elements} }}; }}\n" for n in range(3))
        for args in (("flush", "--now"), ("flush",)):
            counts = []
            for foreign in ("", many):
                host.rules("install")
                if foreign:
                    host.nft(foreign)
                counts.append(self.count(host, *args))
                self.assertEqual(host.ruleset(), "")
            self.assertEqual(*counts)


class Broken(FaultCase):
    def test_each_send_and_receive(self):
        host = self.lonely()
        old, new = self.states(host)
        sends, receives, _ = self.count(host, "install", *NEW)
        self.reset(host, old)
        self.assertGreater(sends, 10)
        self.assertGreater(receives, 10)
        for word, calls in (("send", sends), ("receive", receives)):
            for number in range(calls):
                with self.subTest((word, number)):
                    done = self.faulty(host, f"{word} {number} {errno.ENOBUFS}", "install", *NEW)
                    text = self.table(host)
                    if text != old:
                        self.reset(host, old)
                    self.assertIn("transocks-rules: ", done.stderr)
                    self.assertIn(text, (old, new))
                    if done.returncode == 0:  # it was only to find out something for a warning
                        self.assertEqual(text, new)
                    elif text == new:  # routes come behind the table
                        self.assertRegex(done.stderr, "may have changed the rules|the ip rules and routes")


class Short(FaultCase):
    def test_of_descriptors(self):
        """Whatever cannot be opened: the table is there, or the program says that it failed."""
        host = self.lonely()
        codes = set()
        for nofile in range(4, 10):
            for args in ((), ("--mode", "tproxy"), ("--confirm", "50s")):
                done = host.run("prlimit", f"--nofile={nofile}:{nofile}", RULES, "install", "--uid", lab.RULES_UID,
                                *args, check=False)
                self.assertEqual("table inet transocks" in host.ruleset(), done.returncode == 0,
                                 (nofile, args, done.stderr))
                self.assertEqual("1081" in host.run("ip", "rule").stdout,
                                 "tproxy" in args and done.returncode == 0, (nofile, args))
                codes.add(done.returncode)
                host.rules("flush", "--now")
        self.assertTrue(codes > {0}, codes)


class Killed(FaultCase):
    def kill_everywhere(self, host, before, after, *args):
        """Kills at every send and receive; how often either state was left."""
        self.reset(host, before)
        sends, receives, _ = self.count(host, *args)
        self.reset(host, before)
        seen = {before: 0, after: 0}
        # Behind one call is before the next.
        for fault in ("kill-before 0", *(f"kill-after {n}" for n in range(sends + receives))):
            done = self.faulty(host, fault, *args)
            self.assertEqual(done.returncode, -9, fault)
            text = host.ruleset()
            self.assertIn(text, seen, fault)
            seen[text] += 1
            if text == after:
                self.reset(host, before)
        return seen[before], seen[after]

    def reset(self, host, text):
        host.run("nft", "flush", "ruleset")
        if text:
            host.nft(text)

    def test_reinstall(self):
        host = self.lonely()
        old, new = self.states(host)
        counts = self.kill_everywhere(host, old, new, "install", *NEW)
        self.assertGreater(min(counts), 0, counts)

    def test_first_install(self):
        host = self.lonely()
        host.rules("install", *NEW)
        counts = self.kill_everywhere(host, "", host.ruleset(), "install", *NEW)
        self.assertGreater(min(counts), 0, counts)


class Stopped(FaultCase):
    TPROXY = ("install", "--mode", "tproxy", "--json")

    def left(self, host):
        """How much there is of the table, and of the ip rules and routes."""
        script = "nft list ruleset; for f in -4 -6; do ip $f rule; ip $f route show table all; done"
        text = host.run("sh", "-c", script).stdout
        return [text.count(word) for word in ("table inet transocks", "lookup 1081", "table 1081")]

    def remove(self, host):
        host.run("sh", "-c", "nft flush ruleset; for f in -4 -6; do ip $f rule del pref 1081; "
                             "ip $f route flush table 1081; done")

    def test_table_and_routes_belong_together(self):
        """SIGTERM at every send and receive: all of it is there, or nothing; and with --json always one object."""
        host = self.lonely()
        sends, receives, _ = self.count(host, *self.TPROXY)
        self.remove(host)
        seen = set()
        for n in range(sends + receives):
            args = self.TPROXY[:-1] if n % 2 else self.TPROXY
            done = self.faulty(host, f"signal {n} {signal.SIGTERM}", *args)
            if args is self.TPROXY:
                result = json.loads(done.stdout)
                self.assertEqual(result["exit"], done.returncode)
                self.assertEqual("nothing was changed" in result.get("error", ""), done.returncode != 0)
            self.assertEqual(self.left(host), [1, 2, 2] if done.returncode == 0 else [0, 0, 0], n)
            seen.add(done.returncode)
            if done.returncode == 0:
                self.remove(host)
        self.assertEqual(seen, {0, 128 + signal.SIGTERM, -signal.SIGTERM})


class Foreign(StateCase):
    """Whatever others have, in whatever family, is byte for byte the same behind an install and a flush."""

    SEEDS = range(8)

    def random_elements(self, rand, kind):
        if kind == "ipv4_addr":
            return {f"11.{rand.randrange(256)}.{rand.randrange(256)}.0/24" for _ in range(rand.randrange(1, 9))}
        return {str(rand.randrange(1, 65536)) for _ in range(rand.randrange(1, 9))}

    def random_table(self, rand, number):
        family = rand.choice(("ip", "ip6", "inet", "bridge", "arp"))
        name = rand.choice(("filter", "nat", "docker", "transocks", "firewalld")) + str(number)
        lines = [f"table {family} {name} {{"]
        if family in ("ip", "inet"):
            for kind in ("ipv4_addr", "inet_service"):
                flags = "flags interval; auto-merge;" if kind == "ipv4_addr" else ""
                elements = ", ".join(sorted(self.random_elements(rand, kind)))
                lines.append(f" set s_{kind} {{ type {kind}; {flags} elements = {{ {elements} }}; }}")
            lines.append(" counter hits { }")
        hooks = ("input", "output") if family == "arp" else ("prerouting", "input", "forward", "output", "postrouting")
        for index in range(rand.randrange(1, 5)):
            hook = rand.choice(hooks)
            priority = rand.choice((-300, -150, -100, -99, -1, 0, 5, 100))
            nat = family in ("ip", "ip6", "inet") and hook != "forward" and priority > -200 and rand.random() < 0.5
            lines.append(f" chain c{index} {{ type {'nat' if nat else 'filter'} hook {hook} priority {priority};")
            for _ in range(rand.randrange(5)):
                matches = ["meta mark 0x{:x}".format(rand.randrange(1, 1 << 16)), "counter"]
                if family in ("ip", "inet"):
                    matches += ["ip saddr @s_ipv4_addr", "tcp dport @s_inet_service",
                                "ct state established", "counter name hits", "limit rate 5/second"]
                chosen = rand.sample(matches, rand.randrange(1, len(matches) + 1))
                lines.append("  " + " ".join(chosen) + rand.choice((" accept", " return", "", ' comment "theirs"')))
            lines.append(" }")
        return "\n".join(lines + ["}"])

    def saved(self, host):
        """All rules: of nf_tables, of iptables-nft within them, of iptables-legacy."""
        return host.ruleset(), [host.run(program, "-t", table).stdout.split("\n")[1:-2]
                                for program in ("iptables-legacy-save", "ip6tables-legacy-save")
                                for table in ("nat", "filter")]

    def test_random_tables(self):
        if not shutil.which("iptables-legacy-save"):
            self.skipTest("no iptables-legacy")
        host = self.lonely()
        for seed in self.SEEDS:
            with self.subTest(seed=seed):
                rand = random.Random(seed)
                for number in range(rand.randrange(1, 5)):
                    host.nft(self.random_table(rand, number))
                for kind in ("nft", "legacy"):
                    for program in ("iptables", "ip6tables"):
                        chain, port = rand.choice(("OUTPUT", "PREROUTING")), rand.randrange(1, 65536)
                        host.run(f"{program}-{kind}", "-t", "nat", "-A", chain, "-p", "tcp", "--dport", port, "-m",
                                 "comment", "--comment", "theirs", "-j", "REDIRECT", "--to-ports", "9")
                before = self.saved(host)
                args = rand.choice(((), EVERYTHING, ("--mode", "tproxy", "--quic", "reject")))
                host.rules("install", *args, "--force")
                self.assertEqual(self.saved(host)[1], before[1])
                self.assertTrue(self.saved(host)[0].startswith(before[0]))
                host.rules("bypass", "add", "11.0.0.0/8")
                host.rules("install", *args, "--force")
                host.rules("flush")
                self.assertEqual(self.saved(host), before)
                host.run("nft", "flush", "ruleset")


if __name__ == "__main__":
    lab.main()
