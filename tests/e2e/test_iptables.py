# SPDX-License-Identifier: MIT
"""The iptables backend: what iptables-legacy and iptables-nft show, and what goes wrong."""
import fcntl
import json
import os
import re
import socket
import time

import lab
from iptables import IptablesCase, PROGRAMS, RULES, UID

FOREIGN = """
*nat
:MINE - [0:0]
-A OUTPUT -d {net} -p tcp -m tcp --dport 4444 -j MINE
-A PREROUTING -i lan9 -m comment --comment "-j TRANSOCKS_OUTPUT" -j MINE
-A MINE -p tcp -j REDIRECT --to-ports 99
COMMIT
*filter
:TRANSOCKS_X - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j TRANSOCKS_X
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


class Text(IptablesCase):
    def test_install_twice_leaves_one_copy(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name z")
        self.listener(host)
        args = ("install", "--gateway", "lan0", "--quic", "reject")
        self.assertIn("installed rules of iptables for IPv4 and IPv6",
                      self.rules(host, *args).stdout)
        once = self.saved(host)
        for chain in ("INPUT", "OUTPUT", "PREROUTING", "FORWARD"):
            self.assertGreaterEqual(len(re.findall(rf"-A {chain} .*-j TRANSOCKS_", once)), 2)
        done = self.rules(host, *args, "--json")
        self.assertTrue(json.loads(done.stdout)["replaced"])
        self.assertEqual(self.saved(host), once)
        self.assertIn("removed rules of iptables", self.rules(host, "flush").stdout)
        self.assertNotIn("TRANSOCKS", self.saved(host))

    def test_foreign_rules_stay(self):
        host = self.lonely()
        for program, net in (("iptables-restore", "11.1.0.0/16"),
                             ("ip6tables-restore", "2a00:1::/32")):
            self.tables(host, program, "--noflush", stdin=FOREIGN.format(net=net))
        before = self.saved(host)
        for _ in range(2):
            self.rules(host, "install", "--quic", "reject")
        self.assertIn("TRANSOCKS_TAKE", self.saved(host))
        self.rules(host, "flush")
        self.assertEqual(self.saved(host), before)

    def test_ipv6_failure_undoes_ipv4(self):
        host = self.lonely()
        bad = self.programs("bad6", PROGRAMS[:3],
                            [("ip6tables-restore", "echo no luck >&2; exit 2")])
        error = self.rules(host, "install", path=bad, code=1).stderr
        self.assertIn("ip6tables-restore failed: no luck; everything is as it was before", error)
        self.assertNotIn("TRANSOCKS", self.saved(host))
        self.rules(host, "install", "--port", 99)
        before = self.saved(host)
        self.rules(host, "install", path=bad, code=1)
        self.assertEqual(self.saved(host), before)

    def test_killed_between_the_families(self):
        host = self.lonely()
        hangs = self.programs("hang6", PROGRAMS[:3], [("ip6tables-restore", '[ "$1" = --version ] || exec sleep 60')])
        self.rules(host, "install", "--port", 99)
        proc = host.spawn(*self.argv(("install",)), env={"PATH": str(hangs)})
        lab.wait_until(lambda: "--to-ports 1081" in self.saved(host, "iptables-save"))
        proc.kill()
        self.assertIn("--to-ports 99", self.saved(host))
        self.rules(host, "install")
        healed = self.forgetful(self.saved(host))
        self.rules(host, "flush")
        self.rules(host, "install")
        self.assertEqual(self.saved(host), healed)

    def test_many_installers_at_once(self):
        host = self.lonely()
        self.rules(host, "install")
        expected = self.saved(host)
        self.rules(host, "flush")
        many = [host.spawn(*self.argv(("install",)), env={"PATH": str(self.path)})
                for _ in range(8)]
        for proc in many:
            self.assertIn(proc.wait(30), (0, 6), proc.log())
        self.assertEqual(self.saved(host), expected)

    def test_without_ipv6(self):
        host = self.lonely()
        four = self.programs("four", PROGRAMS[:2])
        done = self.rules(host, "install", path=four)
        self.assertIn("IPv6 is left out: ip6tables is not installed", done.stderr)
        self.assertIn("for IPv4:", done.stdout)
        self.assertIn("not installed", self.rules(host, "install", path="/nonexistent",
                                                  code=69).stderr)

    def test_beside_the_other_backend(self):
        host = self.lonely()
        host.run(RULES, "install", "--uid", UID)
        self.assertIn("flush before", self.rules(host, "install", code=1).stderr)
        self.assertNotIn("TRANSOCKS", self.saved(host))
        self.rules(host, "flush")
        self.rules(host, "install")
        before = self.saved(host)
        for more in ((), ("--force",), ("--dry-run",), ("--backend", "nft")):
            error = self.rules(host, "install", "--uid", UID, *more, code=1, backend=None).stderr
            self.assertEqual(error, "transocks-rules: rules of transocks-rules by iptables are "
                                    "installed: run transocks-rules flush before you change the "
                                    "backend\n")
        self.assertEqual(self.saved(host), before)
        self.assertNotIn("table inet transocks", host.ruleset())

    def test_beside_the_other_backend_at_the_same_time(self):
        """Whoever has the lock comes first."""
        host = self.lonely()
        begun, go = lab.WORK / f"{self.variant}-begun", lab.WORK / f"{self.variant}-go"
        waits = self.programs("waits", [p for p in PROGRAMS if p != "iptables-restore"], [
            ("iptables-restore", f'[ "$1" = --version ] || {{ touch {begun}; until [ -e {go} ]; do sleep 0.05; done; }}\n'
                                 f'exec /usr/sbin/xtables-{self.variant}-multi iptables-restore "$@"')])
        first = host.spawn(*self.argv(("install",)), env={"PATH": str(waits)})
        lab.wait_until(begun.exists)
        second = host.spawn(*self.argv(("install",), backend="nft"), env={"PATH": str(self.path)})
        time.sleep(1)
        go.touch()
        self.assertEqual((first.wait(20), second.wait(20)), (0, 1), first.log() + second.log())
        self.assertIn("rules of transocks-rules by iptables are installed", second.log())
        self.assertNotIn("table inet transocks", host.ruleset())
        self.rules(host, "flush")
        host.run(RULES, "install", "--uid", UID)
        table = host.run("nft", "list", "table", "inet", "transocks").stdout
        self.rules(host, "flush")
        with open("/run/transocks-rules.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            first = host.spawn(*self.argv(("install", "--mode", "tproxy", "--force")), env={"PATH": str(self.path)})
            time.sleep(1)
            host.run("nft", "-f", "-", stdin=table)
        self.assertEqual(first.wait(20), 1, first.log())
        self.assertIn("table inet transocks is installed", first.log())
        self.assertNotIn("TRANSOCKS", self.saved(host))
        self.assertNotIn("1081", host.run("ip", "rule").stdout)

    def test_another_variant_stands_in_the_path(self):
        """Rules stay with the variant that they are of, until flush."""
        host = self.lonely()
        other = {"legacy": "nft", "nft": "legacy"}[self.variant]
        if not os.path.exists(f"/usr/sbin/xtables-{other}-multi"):
            self.skipTest(f"iptables-{other} is not installed")
        path = self.programs("both", (), [
            (p, f'exec /usr/sbin/xtables-{other}-multi {p} "$@"') for p in PROGRAMS])
        for program in PROGRAMS:
            (path / program.replace("-", f"-{self.variant}-")).symlink_to(f"/usr/sbin/xtables-{self.variant}-multi")
        self.rules(host, "install")
        self.assertIn("in sync", self.rules(host, "status", code=5, path=path).stdout)
        self.assertIn("rules of transocks-rules by iptables are installed",
                      self.rules(host, "install", path=path, code=1, backend="nft").stderr)
        self.rules(host, "bypass", "add", "11.9.0.0/16", path=path)
        for more in ((), ("--confirm", "50s")):
            done = self.rules(host, "install", "--port", 1082, *more, path=path)
            self.assertIn(f"the rules that are there are of iptables-{self.variant}", done.stderr)
        self.rules(host, "confirm", path=path)
        self.assertEqual(self.rules(host, "diff", "--port", 1082, path=path).stdout, "")
        self.assertIn("11.9.0.0/16", self.saved(host, "iptables-save"))
        self.assertIn("removed", self.rules(host, "flush", path=path).stdout)
        self.assertNotIn("TRANSOCKS", self.saved(host))
        # Both at once, as they may be left over: all of it goes.
        self.rules(host, "install", path=path)
        self.assertNotIn("TRANSOCKS", self.saved(host))
        self.rules(host, "install")
        self.rules(host, "flush", "--now", path=path)
        self.assertIn("nothing to remove", self.rules(host, "flush", path=path).stdout)
        self.assertNotIn("TRANSOCKS", self.saved(host))

    def listener(self, host):
        with host.inside():
            both = socket.create_server(("::", 1081), family=socket.AF_INET6, dualstack_ipv6=True)
        self.addCleanup(both.close)
        return both

    def test_status_and_diff(self):
        host = self.lonely()
        for command in ("status", "diff"):
            done = self.rules(host, command, "--json", code=3)
            self.assertIs(json.loads(done.stdout)["installed"], False)
        self.assertIn("no rules of iptables are installed", done.stderr)
        self.rules(host, "install")
        done = self.rules(host, "status", code=5)
        self.assertIn("rules of iptables: in sync with the configuration\n", done.stdout)
        self.assertIn("nobody listens on 127.0.0.1:1081\n", done.stdout)
        self.listener(host)
        # Without the flag it is seen what is there.
        for backend in ("iptables", None):
            report = json.loads(self.rules(host, "status", "--json", backend=backend).stdout)
            self.assertEqual((report["backend"], report["installed"], report["in_sync"],
                              report["differences"], report["draining"], report["flows"]),
                             ("iptables", True, True, [], False, 0))
            self.assertEqual(self.rules(host, "diff", backend=backend).stdout, "")
        done = self.rules(host, "status", code=3, backend="nft")
        self.assertIn("not installed", done.stdout)

    def test_drift(self):
        host = self.lonely()
        self.listener(host)
        self.rules(host, "install", "--bypass", "11.5.0.0/16")
        rule = [x for x in self.saved(host, "iptables-save").splitlines() if "11.5.0.0" in x]
        self.assertEqual(len(rule), 1, rule)
        jump = [x for x in self.saved(host, "iptables-save").splitlines()
                if x.startswith("-A OUTPUT ")][0]
        foreign = (f"*nat\n-D{jump.removeprefix('-A')}\n"
                   "-A TRANSOCKS_TAKE -p udp -j RETURN\nCOMMIT\n")
        self.tables(host, "iptables-restore", "--noflush", stdin=foreign)
        expected = {f"not configured in table nat of IPv4: {rule[0]}",
                    "not configured in table nat of IPv4: -A TRANSOCKS_TAKE -p udp -j RETURN",
                    f"missing in table nat of IPv4: {jump}"}
        done = self.rules(host, "diff", code=4)
        self.assertEqual(set(done.stdout.splitlines()), expected)
        self.assertIn("the rules of iptables differ in 3 places", done.stderr)
        done = self.rules(host, "status", code=4)
        self.assertLess(expected, set(done.stdout.splitlines()))
        report = json.loads(self.rules(host, "diff", "--json", code=4).stdout)
        self.assertIn({"kind": "missing", "object": "jump", "family": "IPv4", "table": "nat",
                       "chain": "OUTPUT", "rule": jump.partition("OUTPUT ")[2]},
                      report["differences"])
        self.rules(host, "install")
        self.rules(host, "diff")

    @lab.needs_uids
    def test_status_counts(self):
        t = self.build("host")
        t.inet.peer("echo", "::", 7)
        server = self.listener(t.host)
        self.rules(t.host, "install")
        with t.host.inside():
            flow = socket.create_connection(("11.0.0.1", 7), 5)
        with flow, server.accept()[0]:
            report = json.loads(self.rules(t.host, "status", "--json").stdout)
            self.assertEqual(report["flows"], 1)
            taken = [c for c in report["counters"]
                     if c["chain"] == "TRANSOCKS_TAKE" and c["packets"]]
            self.assertEqual([(c["family"], c["table"], c["rule"], c["packets"]) for c in taken],
                             [("IPv4", "nat", "to transocksd", 1)])
            text = self.rules(t.host, "status").stdout
            self.assertIn("1 flow redirected now\n", text)
            self.assertRegex(text, r'1 packets, \d+ bytes: "to transocksd" of chain '
                                   r"TRANSOCKS_TAKE, table nat of IPv4\n")

    def networks(self, host):
        return json.loads(self.rules(host, "bypass", "list", "--json").stdout)["networks"]

    def test_bypass(self):
        host = self.lonely()
        for words in (("add", "11.9.0.0/16"), ("del", "11.9.0.0/16"), ("list",)):
            self.rules(host, "bypass", *words, code=3)
        self.rules(host, "install", "--quic", "reject")
        before = self.saved(host)
        self.assertEqual(self.rules(host, "bypass", "add", "11.9.0.0/16", "--dry-run").stdout,
                         "would have added 11.9.0.0/16\n")
        self.assertEqual(self.saved(host), before)
        self.rules(host, "bypass", "add", "11.9.0.0/16", "--comment", "until they fix it")
        for net in ("11.8.0.1", "2a00:9::/32", "2a00:8::1", "::/0"):
            self.rules(host, "bypass", "add", net)
        again = self.rules(host, "bypass", "add", "11.8.0.1", "--json")
        self.assertIs(json.loads(again.stdout)["already"], True)
        expected = [{"network": "11.8.0.1"},
                    {"network": "11.9.0.0/16", "comment": "until they fix it"},
                    {"network": "::/0"}, {"network": "2a00:8::1"}, {"network": "2a00:9::/32"}]
        self.assertEqual(self.networks(host), expected)
        self.assertIn('11.9.0.0/16 "until they fix it"\n',
                      self.rules(host, "bypass", "list").stdout)
        # QUIC is let through by the same.
        self.assertEqual(self.saved(host, "iptables-save").count("-d 11.9.0.0/16 "), 2)
        self.rules(host, "install", "--quic", "reject")
        self.assertEqual(self.networks(host), expected)
        self.tables(host, "iptables-restore", "--noflush", stdin="*nat\n-I TRANSOCKS_BYPASS "
                    "-d 11.7.0.0/16 -p tcp -j RETURN\nCOMMIT\n")
        self.assertEqual(self.networks(host)[0], {"match": "-d 11.7.0.0/16 -p tcp"})
        self.tables(host, "iptables-restore", "--noflush", stdin="*nat\n-D TRANSOCKS_BYPASS 1\n"
                    "COMMIT\n")
        self.assertIn("is not among the exceptions",
                      self.rules(host, "bypass", "del", "11.9.0.0/17", code=1).stderr)
        self.assertEqual(self.rules(host, "bypass", "del", "11.9.0.0/16").stdout,
                         "removed 11.9.0.0/16\n")
        for net in ("11.8.0.1", "2a00:9::/32", "2a00:8::1", "::/0"):
            self.rules(host, "bypass", "del", net)
        self.assertEqual(self.saved(host), before)

    @lab.needs_uids
    def test_flush(self):
        t = self.build("host")
        t.inet.peer("echo", "::", 7)
        server = self.listener(t.host)
        self.rules(t.host, "install")
        with t.host.inside():
            flow = socket.create_connection(("11.0.0.1", 7), 5)
        peer = server.accept()[0]
        left = json.loads(self.rules(t.host, "flush", "--drain", "0", "--json", code=6).stdout)
        self.assertEqual((left["backend"], left["removed"], left["flows_cut"], left["flows_left"],
                          left["left"][0]["dest"]), ("iptables", False, 0, 1, "11.0.0.1:7"))
        text = self.rules(t.host, "status").stdout
        self.assertIn("draining: ", text)
        self.assertIn("in sync", text)
        with t.host.connect("11.0.0.1", 7) as direct:
            direct.sendall(b"ping")
            self.assertEqual(direct.recv(4), b"ping")
        waiting = t.host.spawn(*self.argv(("flush", "--drain", "60s")),
                               env={"PATH": str(self.path)})
        lab.wait_until(lambda: "1 redirected flow left" in waiting.log())
        self.rules(t.host, "install")
        self.assertEqual(waiting.wait(30), 1)
        self.assertIn("installed again meanwhile: they stay", waiting.log())
        waiting = t.host.spawn(*self.argv(("flush", "--drain", "60s")),
                               env={"PATH": str(self.path)})
        lab.wait_until(lambda: "1 redirected flow left" in waiting.log())
        flow.close()
        peer.close()
        self.assertEqual(waiting.wait(30), 0, waiting.log())
        self.assertIn("removed rules of iptables; 0 redirected flows cut\n", waiting.log())
        self.assertNotIn("TRANSOCKS", self.saved(t.host))
        self.rules(t.host, "install")
        with t.host.connect("11.0.0.1", 7), server.accept()[0]:
            cut = json.loads(self.rules(t.host, "flush", "--now", "--json").stdout)
        self.assertEqual((cut["removed"], cut["flows_cut"]), (True, 1))
        self.assertGreaterEqual(cut["entries_removed"], 1)
        self.assertNotIn("TRANSOCKS", self.saved(t.host))

    def test_what_cannot_be(self):
        host = self.lonely()
        self.assertIn("\"closed\"", self.rules(host, "install", "--when-daemon-down", "open",
                                               code=69).stderr)
        self.assertNotIn("TRANSOCKS", self.saved(host))

    def test_nobody_would_take_tproxy(self):
        """By nf_tables connections would be refused; by iptables they would hang."""
        host = self.lonely()
        error = self.rules(host, "install", "--mode", "tproxy", code=1).stderr
        self.assertIn("nobody listens on 127.0.0.1:1081: by iptables with mode = \"tproxy\"", error)
        self.assertNotIn("TRANSOCKS", self.saved(host))
        self.assertNotIn("1081", host.run("ip", "rule").stdout)
        self.assertIn("would hang", self.rules(host, "install", "--mode", "tproxy", "--force").stderr)
        self.rules(host, "flush")

    def test_dry_run(self):
        host = self.lonely()
        self.assertIn("would install", self.rules(host, "install", "--dry-run").stdout)
        self.assertNotIn("TRANSOCKS", self.saved(host))


class LegacyText(Text):
    variant = "legacy"

    def test_lock_is_busy(self):
        host = self.lonely()
        with open("/run/xtables.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            error = self.rules(host, "install", code=6).stderr
        self.assertIn("somebody else has held the lock of iptables for 5 s", error)
        self.assertEqual(error.count("\n"), 3, error)
        self.assertNotIn("TRANSOCKS", self.saved(host))


class NftText(Text):
    variant = "nft"


del IptablesCase, Text  # what is left are the cases of a variant


if __name__ == "__main__":
    lab.main()
