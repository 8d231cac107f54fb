# SPDX-License-Identifier: MIT
"""transocks-rules watch: who changed the table, what differs then, and putting it back."""
import json
import pathlib
import re
import shutil
import signal
import socket
import struct
import time

import lab

RULES = lab.BUILD / "transocks-rules"
CONTROL = pathlib.Path("/run/transocks")
TABLE = "table inet transocks"
NETLINK_NETFILTER, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 12, 270, 1
NFNLGRP_NFTABLES, NEWGEN = 7, 10 << 8 | 15


class WatchCase(lab.TestCase):
    def lonely(self):
        host = super().lonely()
        self.addCleanup(shutil.rmtree, CONTROL, ignore_errors=True)
        return host

    def watch(self, host, *args):
        watch = host.spawn(RULES, "watch", "--uid", lab.RULES_UID, *args)
        watch.wait_log("watching")
        return watch

    def events(self, watch):
        """What it has said with --json, as dictionaries without the first."""
        return [json.loads(line) for line in watch.log().splitlines() if '"event"' in line][1:]

    def culprit(self, host, *command):
        """
        Runs nft; how watch must call it. The kernel numbers processes as the host does, which is not what
        this test sees, so a socket of its own listens as well.
        """
        with host.inside():
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        with sock:
            sock.settimeout(lab.LONG)
            sock.bind((0, 0))
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
            host.run("nft", *command)
            while True:
                data = sock.recv(65536)
                if struct.unpack_from("=H", data, 4)[0] == NEWGEN:
                    pid, name = struct.unpack_from("!I", data, 32)[0], data[40:].split(b"\0")[0]
                    return f"{name.decode()} (pid {pid})"

    def stop(self, watch, number=signal.SIGTERM):
        watch.signal(number)
        self.assertEqual(watch.wait(), 0, watch.log())

    def restored(self, host, before):
        lab.wait_until(lambda: host.ruleset() == before, message=lambda: host.ruleset())

    def handle(self, host, chain, comment):
        text = host.run("nft", "-a", "list", "chain", "inet", "transocks", chain).stdout
        return re.search(rf'comment "{comment}" # handle (\d+)', text)[1]


class Tells(WatchCase):
    def test_each_change_and_who_made_it(self):
        host = self.lonely()
        host.rules("install")
        watch = self.watch(host)
        rule = self.handle(host, "output", "not TCP")
        changes = (
            (("add", "element", "inet", "transocks", "special4", "{", "11.7.0.0/16", "}"),
             "table inet transocks changed by {who}: element 11.7.0.0/16 of set special4: there, but not configured"),
            (("delete", "rule", "inet", "transocks", "output", "handle", rule),
             "table inet transocks changed by {who}: .*; rule 1 \"not TCP\" of chain output: missing$"),
            (("add", "rule", "inet", "transocks", "output", "drop"), "changed by {who}: .*there, but not configured"),
            (("flush", "ruleset"), " table inet transocks removed by {who}$"),
        )
        for command, line in changes:
            who = re.escape(self.culprit(host, *command))
            watch.wait_log(line.replace("{who}", who).replace("11.", "11[.]"))
        self.assertEqual(host.ruleset(), "")  # not asked to repair
        host.nft('add table inet transocks { comment "mine"; }')
        watch.wait_log(r"now one that is not ours by nft \(pid")
        self.stop(watch)
        self.assertEqual(watch.log().count("\n"), 6, watch.log())

    def test_what_is_no_change(self):
        host = self.lonely()
        host.rules("install")
        watch = self.watch(host, "--json", "--repair")
        host.nft("add table inet other\nadd chain inet other c { type nat hook output priority 0; }")
        host.nft("add table ip transocks\nadd chain ip transocks c")
        host.nft("add element inet transocks bypass4 { 11.5.0.0/16 }")
        host.nft("delete table ip transocks")
        host.rules("install")
        self.culprit(host, "delete", "table", "inet", "transocks")
        lab.wait_until(lambda: len(self.events(watch)) >= 2)
        self.assertEqual([e["event"] for e in self.events(watch)], ["removed", "repaired"])
        self.stop(watch, signal.SIGINT)
        self.assertEqual(json.loads(watch.log().splitlines()[-1])["exit"], 0)

    def test_what_the_tool_does_is_meant(self):
        host = self.lonely()
        host.rules("install")
        watch = self.watch(host, "--json", "--repair")
        host.rules("install", "--mark", "0x20/0x20")
        lab.wait_until(lambda: len(self.events(watch)) >= 1)
        changed = host.ruleset()
        host.run("nft", "delete", "table", "inet", "transocks")
        self.restored(host, changed)
        lab.wait_until(lambda: len(self.events(watch)) >= 3)
        host.rules("flush", "--now")
        lab.wait_until(lambda: len(self.events(watch)) >= 4)
        time.sleep(0.3)
        self.assertEqual(host.ruleset(), "")
        host.rules("install")
        lab.wait_until(lambda: len(self.events(watch)) >= 5)
        self.assertEqual([e["event"] for e in self.events(watch)],
                         ["installed", "removed", "repaired", "removed", "installed"])
        self.assertEqual(self.events(watch)[3]["by"][0]["name"], "transocks-rules")
        self.stop(watch)

    def test_one_event_for_each_thing_that_happened(self):
        """Nothing is an event before the line that the watching begins with."""
        t = self.build("host")
        self.addCleanup(shutil.rmtree, CONTROL, ignore_errors=True)
        t.inet.peer("echo", "::", 7)
        t.host.transocksd('proxy_url = "direct://"\n').wait_line(message="ready")
        args = ("--when-daemon-down", "open")
        watch = self.watch(t.host, "--json", *args)
        self.assertIn("which is not there", json.loads(watch.log().splitlines()[0])["text"])
        expected = []

        def see(event, text):
            expected.append(event)
            lab.wait_until(lambda: len(self.events(watch)) >= len(expected), message=watch.log)
            self.assertIn(text, self.events(watch)[-1]["text"])
            self.assertEqual([e["event"] for e in self.events(watch)], expected)

        t.host.rules("install", *args)
        see("installed", "installed")
        self.assertEqual(self.events(watch)[-1]["by"][0]["name"], "transocks-rules")
        t.host.rules("install", *args)
        t.host.rules("install", "--share", 50, *args)
        see("installed", "installed again")
        t.host.rules("install", *args, "--confirm", "50s")
        see("installed", "installed again")
        t.host.rules("confirm")
        see("confirmed", "confirmed")
        client = t.host.connect("11.0.0.1", 7)
        t.host.rules("flush", "--drain", 0, check=False)
        see("draining", "new flows go direct")
        t.host.rules("flush", "--now")
        see("removed", "removed")
        client.close()
        t.host.rules("install", *args, "--confirm", "1s")
        see("installed", "installed")
        lab.wait_until(lambda: self.events(watch)[-1]["event"] == "removed", message=watch.log)
        self.assertIn([e["event"] for e in self.events(watch)],
                      (expected + ["removed"], expected + ["trial_ended", "removed"]))
        self.stop(watch)

    def test_mistakes(self):
        host = self.lonely()
        done = host.run("unshare", "-U", RULES, "watch", "--uid", "0", check=False)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertEqual(host.rules("watch", "--share", "500", check=False).returncode, 64)
        done = host.run("timeout", "20", "sh", "-c", f"{RULES} watch --uid 1 >/dev/full", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)


class Repairs(WatchCase):
    def test_each_change(self):
        host = self.lonely()
        host.rules("install")
        host.nft('add element inet transocks bypass4 { 11.5.0.0/16 comment "stays" }')
        before = host.ruleset()
        watch = self.watch(host, "--json", "--repair")
        for command in (
            ("delete", "table", "inet", "transocks"),
            ("flush", "ruleset"),
            ("add", "element", "inet", "transocks", "special4", "{", "11.7.0.0/16", "}"),
            ("insert", "rule", "inet", "transocks", "output", "return"),
            ("flush", "chain", "inet", "transocks", "guard"),
        ):
            who = self.culprit(host, *command)
            self.restored(host, before)
            lab.wait_until(lambda: self.events(watch)[-1]["event"] == "repaired")
            event = self.events(watch)[-2]
            self.assertEqual("{name} (pid {pid})".format(**event["by"][0]), who)
        self.assertEqual(len(self.events(watch)), 10, watch.log())
        self.stop(watch)

    def test_at_start(self):
        host = self.lonely()
        watch = self.watch(host, "--repair")
        watch.wait_log(" repaired: ")
        self.assertIn(TABLE, host.ruleset())
        self.stop(watch)
        watch = self.watch(host, "--repair", "--mark", "0x40/0x40")
        watch.wait_log("is not as intended: ")
        watch.wait_log(" repaired: ")
        self.assertIn("0x00000040", host.ruleset())
        self.stop(watch)

    def test_two_managers_do_not_fight_for_ever(self):
        host = self.lonely()
        host.rules("install")
        watch = self.watch(host, "--repair")
        for _ in range(6):
            host.run("nft", "delete", "table", "inet", "transocks")
            lab.wait_until(lambda: TABLE in host.ruleset())
        host.run("nft", "delete", "table", "inet", "transocks")
        watch.wait_log(r"repaired 6 times within a minute: not again for \d+ s$")
        self.assertEqual(host.ruleset(), "")
        host.nft("add table inet other")
        time.sleep(0.3)
        self.assertEqual(watch.log().count("within a minute"), 1)
        self.stop(watch)

    def test_lost_events(self):
        """More of them than the socket holds: what is lost is made up for by looking."""
        host = self.lonely()
        host.rules("install")
        before = host.ruleset()
        watch = self.watch(host, "--repair")
        many = ", ".join(f"11.{i // 250}.{i % 250}.1" for i in range(4000))
        file = lab.WORK / "many.nft"
        file.write_text("add table inet other\nadd set inet other s { type ipv4_addr; }\n"
                        f"add element inet other s {{ {many} }}\n")
        watch.stop()
        for _ in range(300):
            host.run("nft", "-f", file)
            host.run("nft", "delete table inet other")
            if self.drops(host):
                break
        host.run("nft", "delete table inet transocks")
        watch.signal(signal.SIGCONT)
        self.restored(host, before)
        watch.wait_log(" table inet transocks removed by an unknown process$")
        watch.wait_log(" repaired: ")
        self.stop(watch)

    def drops(self, host):
        """How many messages did not fit into the socket that listens; fields as in /proc/net/netlink."""
        with host.inside():
            lines = pathlib.Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
        return sum(int(x.split()[8]) for x in lines if x.split()[1] == "12")


RULE = "rule pref 1081 fwmark 0x10/0x10 lookup 1081 protocol 84"
ROUTE = "route local default dev lo table 1081 protocol 84"


class Routes(WatchCase):
    """The ip rules and routes of TPROXY, which no transaction of the table covers."""

    TPROXY = ("--mode", "tproxy")

    def routes(self, host):
        return "".join(host.run("ip", *words.split()).stdout for words in (
            "rule", "-6 rule", "route show table all proto 84", "-6 route show table all proto 84"))

    def put_back(self, host, before):
        lab.wait_until(lambda: self.routes(host) == before, message=lambda: self.routes(host))

    def test_told(self):
        host = self.lonely()
        host.rules("install", *self.TPROXY)
        watch = self.watch(host, *self.TPROXY)
        for command, line in (
            ("rule del pref 1081", f"missing: ip {RULE}"),
            ("-6 route del local default dev lo table 1081",
             f"missing: ip {RULE}; missing: ip -6 {ROUTE}"),
            ("rule add pref 1081 fwmark 0x10/0x10 lookup 1081 protocol 84", f"missing: ip -6 {ROUTE}"),
            ("rule add pref 1081 fwmark 0x4/0x4 lookup 1081 protocol 84",
             f"missing: ip -6 {ROUTE}; extra: ip rule pref 1081 fwmark 0x4/0x4 lookup 1081 protocol 84"),
        ):
            host.run("ip", *command.split())
            watch.wait_log(f"the ip rules and routes of TPROXY are not as intended: {line}$")
        host.ip("rule add pref 10 fwmark 0x20/0x20 lookup 100")  # somebody else's
        host.ip("rule del pref 1081 fwmark 0x4/0x4")
        host.run("ip", "-6", *"route add local default dev lo table 1081 protocol 84".split())
        watch.wait_log("the ip rules and routes of TPROXY are as intended again$")
        host.rules("flush", "--now")
        watch.wait_log(" table inet transocks removed by transocks-rules ")
        self.stop(watch)
        self.assertNotIn("pref 10 ", watch.log())

    def test_repaired(self):
        host = self.lonely()
        host.rules("install", *self.TPROXY)
        before = self.routes(host)
        watch = self.watch(host, "--json", "--repair", *self.TPROXY)
        for count, command in enumerate((
            "rule del pref 1081",
            "-6 rule del pref 1081",
            "route flush table 1081",
            "-6 route replace blackhole default table 1081 protocol 84",
        ), 1):
            host.run("ip", *command.split())
            lab.wait_until(lambda: len(self.events(watch)) >= 2 * count, message=watch.log)
            self.put_back(host, before)
            self.assertIn("ip", self.events(watch)[-2]["routes"][0])
        self.assertEqual([e["event"] for e in self.events(watch)], ["routes_changed", "routes_repaired"] * 4)
        self.stop(watch)

    def test_with_the_table(self):
        """Both at once, and at the start neither is there."""
        host = self.lonely()
        watch = self.watch(host, "--repair", *self.TPROXY)
        watch.wait_log(" repaired: table")
        done = host.rules("status", *self.TPROXY, check=False)
        self.assertIn("in sync", done.stdout)
        since, before = len(watch.log()), self.routes(host)
        host.run("sh", "-c", "ip rule del pref 1081; nft flush ruleset; ip -6 route flush table 1081")
        watch.wait_log(" repaired: table", since=since)
        self.put_back(host, before)
        self.stop(watch)

    def test_what_the_tool_does_is_meant(self):
        """Another mark, another mode and back: what is there then is intended."""
        host = self.lonely()
        host.rules("install", *self.TPROXY)
        watch = self.watch(host, "--json", "--repair", *self.TPROXY)
        for count, flags in enumerate((("--tproxy-mark", "0x20/0x20", *self.TPROXY), ("--mode", "redirect"),
                                       ("--family", "ipv4", *self.TPROXY)), 1):
            host.rules("install", *flags)
            lab.wait_until(lambda: len(self.events(watch)) >= count, message=watch.log)
            before = self.routes(host)
            time.sleep(0.4)
            self.assertEqual(self.routes(host), before)
        host.ip("rule del pref 1081")
        self.put_back(host, before)
        lab.wait_until(lambda: len(self.events(watch)) >= 5, message=watch.log)
        self.assertEqual([e["event"] for e in self.events(watch)],
                         ["installed"] * 3 + ["routes_changed", "routes_repaired"])
        self.stop(watch)

    def test_somebody_in_the_way(self):
        host = self.lonely()
        host.rules("install", *self.TPROXY)
        before = self.routes(host)
        watch = self.watch(host, "--repair", *self.TPROXY)
        host.ip("route replace local default dev lo table 1081 protocol static")
        watch.wait_log(r" cannot repair: somebody else uses routing table 1081.*protocol 4")
        host.ip("route del local default dev lo table 1081")
        self.put_back(host, before)
        self.stop(watch)

    def test_lost_events(self):
        """More of them than the socket holds."""
        host = self.lonely()
        host.rules("install", *self.TPROXY)
        before = self.routes(host)
        watch = self.watch(host, "--repair", *self.TPROXY)
        watch.stop()
        many = [f"route add 11.8.0.0/32 dev lo metric {i + 1} table 1081" for i in range(3000)]
        host.ip("\n".join(many))
        host.ip("route flush table 1081\nrule del pref 1081")
        watch.signal(signal.SIGCONT)
        self.put_back(host, before)
        watch.wait_log(" repaired: ")
        self.stop(watch)

    def test_churn_of_others_wakes_nobody(self):
        host = self.lonely()
        host.rules("install", *self.TPROXY)
        watch = self.watch(host, *self.TPROXY)
        switches = pathlib.Path(f"/proc/{watch.pid}/status")

        def turns():
            return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", switches.read_text(), re.M)[1])

        before = turns()
        host.ip("\n".join(f"route add 11.8.0.0/32 dev lo metric {i + 1} table 1082\n"
                          f"route del 11.8.0.0/32 dev lo metric {i + 1} table 1082" for i in range(2000)))
        self.assertLess(turns() - before, 10)
        self.stop(watch)


class Flows(WatchCase):
    def test_live_flows_survive_a_repair(self):
        t = self.build("host")
        self.addCleanup(shutil.rmtree, CONTROL, ignore_errors=True)
        t.inet.peer("echo", "::", 7)
        daemon = t.host.transocksd('proxy_url = "direct://"\n')
        host = t.host
        host.rules("install")
        before = re.sub(r"packets \d+ bytes \d+", "", host.ruleset())
        live = [host.connect(address, 7) for address in ("11.0.0.1", "2a00:1::1")]
        watch = self.watch(host, "--repair")
        for sock in live:
            self.addCleanup(sock.close)
        for command in (("add", "element", "inet", "transocks", "special4", "{", "11.7.0.0/16", "}"),
                        ("insert", "rule", "inet", "transocks", "output", "accept")):
            since = len(watch.log())
            host.run("nft", *command)
            watch.wait_log(" repaired: ", since=since)
            self.assertEqual(re.sub(r"packets \d+ bytes \d+", "", host.ruleset()), before)
            for sock in live:
                sock.sendall(b"ping")
                self.assertEqual(sock.recv(4), b"ping")
        for sock in live:
            sock.close()
        self.assertEqual({r["end"] for r in daemon.wait_records(2)}, {"done"})
        self.stop(watch)

    def test_owned_table(self):
        """It vanishes with its daemon, without a word of the kernel, and is back with the next one."""
        t = self.build("host")
        self.addCleanup(shutil.rmtree, CONTROL, ignore_errors=True)
        daemon = t.host.transocksd('proxy_url = "direct://"\n')
        daemon.wait_line(message="ready")
        watch = self.watch(t.host, "--repair", "--when-daemon-down", "open")
        watch.wait_log(" repaired: ")
        self.assertIn("flags owner", t.host.ruleset())
        since = len(watch.log())
        t.host.run("nft", "flush", "ruleset")
        done = t.host.run("nft", "delete", "table", "inet", "transocks", check=False)
        self.assertIn("Operation not permitted", done.stderr)
        daemon.kill()
        watch.wait_log("it vanishes with transocksd, which owns it$", since=since)
        watch.wait_log(" cannot repair: .*no transocksd answers", since=since, seconds=10)
        self.assertEqual(t.host.ruleset(), "")
        daemon = t.host.transocksd('proxy_url = "direct://"\n')
        watch.wait_log(" repaired: ", since=since, seconds=20)
        self.assertIn("flags owner", t.host.ruleset())
        self.stop(watch)


if __name__ == "__main__":
    lab.main()
