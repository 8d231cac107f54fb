# SPDX-License-Identifier: MIT
"""
transocks-rules test and check: what they say is what the kernel does, nothing leaves the host, and nothing
stays behind.
"""
import contextlib
import json
import os
import re
import signal
import socket
import unittest

import lab
from rules import RulesCase

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 3, 0x0800, 0x86dd
UPSTREAM = 'proxy_url = "socks5://10.91.3.2:1080"\n'
TARGETS = {4: "11.1.2.3:80", 6: "[2a00:1:5::7]:80"}
# The rules of these tests leave ordinary flows of the test's own uid to be taken.
LOOPBACK = {4: "127.0.0.1:1081", 6: "[::1]:1081"}


def _has_tun():
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/net/tun", os.O_RDWR))
        return True
    return False


needs_tun = unittest.skipUnless(_has_tun(), "needs /dev/net/tun, which this user cannot open")


class Wire:
    """Every TCP, and every error of ICMP, that an interface of a host sends or receives."""

    def __init__(self, host, interface):
        with host.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            self.sock.bind((interface, ETH_P_ALL))
        self.sock.setblocking(False)

    def close(self):
        self.sock.close()

    def packets(self):
        """What went by since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, meta = self.sock.recvfrom(2048)
                if meta[1] == ETH_P_IP and data[9] in (1, 6):
                    found.append(data)
                # ICMPv6 from 128 on is echo and neighbour discovery.
                elif meta[1] == ETH_P_IPV6 and (data[6] == 6 or data[6] == 58 and data[40] < 128):
                    found.append(data)
        return found


class ExplainCase(RulesCase):
    def wire(self, host, interface):
        wire = Wire(host, interface)
        self.addCleanup(wire.close)
        return wire

    def state(self, host):
        links = [link["ifname"] for link in json.loads(host.run("ip", "-j", "link").stdout)]
        return host.run("nft", "-s", "list", "ruleset").stdout, links, self.tracked(host)

    def tracked(self, host):
        """Connections, less the seconds that are left of them, their states, and what the kernel says by itself (ICMPv6, IGMP)."""
        lines = host.run("cat", "/proc/net/nf_conntrack").stdout.splitlines()
        return {re.sub(r" \d+ ([A-Z_]+ )?src=", " src=", line, count=1) for line in lines
                if not re.match(r"\S+ +\d+ (icmpv6|unknown +2) ", line)}

    def ask(self, host, wires, *args, **expected):
        """The answer to `test`; checks these members of it, and that nothing went out or stays."""
        *before, tracked = self.state(host)
        answer = self.json(host, "test", *args)
        *after, stays = self.state(host)
        self.assertEqual(after, before, "something stays behind")
        self.assertEqual(stays - tracked, set(), "a connection stays behind")  # others may time out meanwhile
        for wire in wires:
            self.assertEqual(wire.packets(), [], f"a probe to {args} is on the wire")
        for name, value in expected.items():
            self.assertEqual(answer.get(name), value, answer)
        self.assertEqual(answer["taken"], answer["verdict"] == "taken")
        return answer


class Host(ExplainCase):
    def test_own_rules(self):
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        for family, target in TARGETS.items():
            with self.subTest(family):
                self.ask(t.host, wires, target, verdict="taken", rule="to transocksd",
                         becomes=LOOPBACK[family], uid=0, mark=0, lost=0)
                self.ask(t.host, wires, target, "--mark", "0x1000", verdict="left-alone",
                         rule="marked by transocksd or usocksd", becomes=target)
                self.ask(t.host, wires, target, "--mark", "0x2000", verdict="taken")
                self.ask(t.host, wires, LOOPBACK[family].replace("1081", "1082"),
                         verdict="left-alone", rule="to an address of this host")
                self.ask(t.host, wires, LOOPBACK[family], verdict="rejected",
                         rule="direct connection to the redirect port")
        self.ask(t.host, wires, "10.91.0.1:80", verdict="left-alone", set="special4",
                 element='10.0.0.0-10.255.255.255 "private, RFC 1918"')
        self.ask(t.host, wires, "[fd91::1]:80", verdict="left-alone",
                 rule="special-purpose IPv6 address", set="special6")
        # The wire would have shown it.
        with contextlib.suppress(OSError):
            t.host.connect("10.91.0.1", 80)
        self.assertNotEqual(wires[0].packets(), [])

    @lab.needs_uids
    def test_users(self):
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        for target in TARGETS.values():
            self.ask(t.host, wires, target, "--uid", "transocks", verdict="left-alone", uid=lab.DAEMON_UID,
                     rule="user of transocksd and usocksd")
            self.ask(t.host, wires, target, "--uid", lab.DAEMON_UID, verdict="left-alone")
            self.ask(t.host, wires, target, "--uid", 1234, verdict="taken", uid=1234)
        t.host.nft(f"add rule inet transocks output meta skgid {lab.DAEMON_UID} counter")  # seen, and passed

    def test_foreign_rules(self):
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        t.host.nft("""
            table inet foreign {
                chain ahead {
                    type nat hook output priority -105
                    ip daddr 11.5.5.5 meta l4proto tcp dnat ip to 11.6.6.6:99 comment "elsewhere"
                    ip6 daddr 2a00:1:55::5 meta l4proto tcp dnat ip6 to [2a00:1:66::6]:99
                }
                chain out {
                    type filter hook output priority 0
                    ip daddr 10.91.0.7 jump deeper
                    ip6 daddr fd91::7 reject comment "no"
                    meta nfproto ipv4 tcp dport 1081 meta mark 7 drop comment "not there"
                }
                chain deeper { drop comment "gone" ; }
                chain late { type filter hook postrouting priority 300; ip daddr 10.91.0.8 drop; }
            }""")
        answer = self.ask(t.host, wires, "11.5.5.5:80", verdict="left-alone", rule="",
                          becomes="11.6.6.6:99")
        self.assertIn('translated before our rules see it, by rule 1 "elsewhere" of chain ahead, '
                      'table inet foreign', answer["why"])
        self.ask(t.host, wires, "[2a00:1:55::5]:80", verdict="left-alone",
                 becomes="[2a00:1:66::6]:99")
        answer = self.ask(t.host, wires, "10.91.0.7:80", verdict="dropped", rule="gone")
        self.assertEqual([(s["chain"], s["verdict"]) for s in answer["path"]],
                         [("ahead", "accept"), ("output", "return"), ("output", "accept"),
                          ("out", "jump"), ("deeper", "drop")])
        self.assertEqual([s["ours"] for s in answer["path"]], [False, True, True, False, False])
        self.ask(t.host, wires, "[fd91::7]:80", verdict="rejected", rule="no")
        self.ask(t.host, wires, "10.91.0.8:80", verdict="dropped")
        answer = self.ask(t.host, wires, "11.1.2.3:80", "--mark", 7, verdict="dropped",
                          rule="not there")
        self.assertIn("after it was taken", answer["why"])
        self.ask(t.host, wires, "11.1.2.3:80", verdict="taken")

    ARRIVAL = {
        "dropped": "type filter hook input priority 0; tcp dport 1081 drop",
        "rejected": "type filter hook input priority 0; tcp dport 1081 reject with tcp reset",
        "dropped by policy": "type filter hook input priority 0; policy drop; tcp dport 22 accept",
        "dropped early": "type filter hook prerouting priority -150; iif lo tcp dport 1081 drop",
    }

    def test_foreign_rules_on_arrival(self):
        """What is taken comes in by the loopback interface, where a firewall may be in the way."""
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        listeners = [t.host.listen("127.0.0.1", 1081), t.host.listen("::1", 1081)]
        for name, rules in self.ARRIVAL.items():
            t.host.nft(f"table inet foreign {{ chain arrival {{ {rules}; }}; }}")
            for target in TARGETS.values():
                with self.subTest(name, target=target):
                    answer = self.ask(t.host, wires, target, verdict=name.split()[0], becomes=None)
                    self.assertIn("of chain arrival, table inet foreign, after it was taken",
                                  answer["why"])
            t.host.nft("delete table inet foreign")
        for family, target in TARGETS.items():
            self.ask(t.host, wires, target, verdict="taken", becomes=LOOPBACK[family])
        for sock in listeners:
            sock.setblocking(False)
            self.assertRaises(BlockingIOError, sock.accept)
            sock.close()

    def test_translation_of_the_source(self):
        """Also a probe that has lost its port, or is not tracked, is held."""
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        t.host.nft("""
            table ip foreign {
                chain raw {
                    type filter hook output priority raw
                    ip daddr 10.91.0.9 notrack
                }
                chain post {
                    type nat hook postrouting priority 100
                    meta l4proto tcp masquerade to :20000-20001
                }
            }""")
        self.ask(t.host, wires, "10.91.0.8:80", verdict="left-alone")
        answer = self.ask(t.host, wires, "10.91.0.9:80", verdict="left-alone", rule="")
        self.assertIn("no chain of ours sees it", answer["why"])

    REWRITES = {
        "copy at output": "output priority -300; dup to 10.91.0.1 device eth0",
        "copy at postrouting": "postrouting priority 0; dup to 10.91.0.1 device eth0",
        "port before conntrack": "output priority -250; tcp sport set 4242",
        "port after conntrack": "output priority -150; tcp sport set 4242",
        "port at the end": "postrouting priority 10; tcp sport set 4242",
        "destination": "output priority -250; ip daddr 11.1.2.3 ip daddr set 11.4.4.4",
        "untracked port": "output priority -300; notrack tcp sport set 4242",
    }

    def test_copies_and_rewritten_probes(self):
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        for name, rule in self.REWRITES.items():
            t.host.nft(f"table ip f {{ chain c {{ type filter hook {rule}; }}; }}")
            for args in ((), ("--mark", "0x1000")):
                with self.subTest(name, args=args):
                    self.ask(t.host, wires, "11.1.2.3:80", *args)
            t.host.nft("delete table ip f")

    def test_number_that_others_write(self):
        """By it the probe is known where others write its ports as well: then it is not sent."""
        t = self.build("host")
        t.host.transocksd(UPSTREAM)
        wire = self.wire(t.inet, "host0")
        t.host.rules("install")
        for rule in ("notrack tcp sequence set 7 tcp sport set 4242", "tcp sequence set 7 tcp sport set 4242",
                     "@th,48,16 set 7"):
            t.host.nft(f"table ip f {{ chain c {{ type filter hook output priority -300; {rule}; }}; }}")
            with self.subTest(rule):
                error = self.json(t.host, "test", "11.1.2.3:80", "--mark", "0x1000", code=1)["error"]
                self.assertIn("sequence number in rule handle 2 of chain c, table ip f", error)
                t.host.rules("check", check=False)
                self.assertEqual(wire.packets(), [])
            t.host.nft("delete table ip f")
        t.host.nft("table ip f { chain c { type filter hook output priority -300; @th,32,16 0 @th,96,16 set 7; }; }")
        self.ask(t.host, [wire], "11.1.2.3:80", verdict="taken")

    def test_trace_is_switched_off(self):
        """Also where it comes in again in sight, nothing is said about a way that nobody saw."""
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        t.host.nft("table inet f { chain quiet { type filter hook output priority -150; "
                   'ip daddr 11.1.2.3 counter; ip daddr 11.1.2.3 meta nftrace set 0 comment "hush"; '
                   "}; }")
        answer = self.ask(t.host, wires, "11.1.2.3:80", verdict="lost")
        self.assertIn('switched off by rule 2 "hush" of chain quiet, table inet f', answer["why"])
        self.ask(t.host, wires, "11.1.2.4:80", verdict="taken", becomes="127.0.0.1:1081")

    def test_no_route(self):
        t = self.build("host")
        t.host.rules("install")
        t.host.ip("route del default via 10.91.0.1")
        answer = self.ask(t.host, [], "11.1.2.3:80", verdict="no-route", path=[])
        self.assertIn("Network is unreachable", answer["why"])
        self.ask(t.host, [], "[2a00:1:5::7]:80", verdict="taken")

    def test_refusals(self):
        t = self.build("host")
        self.json(t.host, "test", "11.1.2.3:80", code=3)
        t.host.rules("install")
        for args in ((), ("11.1.2.3",), ("11.1.2.3:0",), ("www.example.com:80",), ("1.2.3.4:5", "x"),
                     ("11.1.2.3:80", "--in", "eth0"), ("11.1.2.3:80", "--from", "10.0.0.1"),
                     ("11.1.2.3:80", "--in", "eth0", "--from", "fd91::1"), ("1.2.3.4:5", "--mark", "x"),
                     ("1.2.3.4:5", "--in", "eth0", "--from", "10.0.0.1", "--mark", "1")):
            with self.subTest(args):
                self.assertTrue(self.json(t.host, "test", *args, code=64)["error"])
        self.json(t.host, "test", "1.2.3.4:5", "--in", "none", "--from", "10.0.0.1", code=1)
        self.json(t.host, "test", "1.2.3.4:5", "--uid", "no-such-user", code=78)

    def test_while_others_trace_and_change(self):
        """Traces of other packets are not taken for ours."""
        t = self.build("host")
        t.host.rules("install")
        t.host.nft("""
            table inet busy {
                chain out {
                    type filter hook output priority -400
                    ip daddr 127.0.0.0/8 meta nftrace set 1
                }
            }""")
        flood = t.host.spawn(lab.PYTHON, "-c", "import socket\ns = socket.socket(2, 2)\n"
                             "s.sendto(b'x', ('127.0.0.1', 9))\nprint('ready', flush=True)\n"
                             "while True: s.sendto(b'x', ('127.0.0.1', 9))")
        flood.wait_log("^ready$")
        for _ in range(10):
            answer = self.json(t.host, "test", "11.1.2.3:80")
            self.assertEqual([s["chain"] for s in answer["path"]], ["out", "output", "guard"])
        flood.kill()

    @lab.needs_program("iptables-legacy")
    def test_legacy_rules_are_not_seen(self):
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        t.host.rules("install")
        self.assertEqual(self.ask(t.host, wires, "11.1.2.3:80")["warnings"], [])
        t.host.run("iptables-legacy", "-A", "OUTPUT", "-p", "tcp", "--dport", "1081", "-j", "DROP")
        answer = self.ask(t.host, wires, "11.1.2.3:80", verdict="lost")
        self.assertIn("iptables-legacy", answer["why"])
        self.assertRegex(answer["warnings"][0], r"iptables-legacy has IPv4 tables \(filter\)")

    @lab.needs_program("iptables-legacy")
    def test_killed_behind_connection_tracking(self):
        """What arrives has an entry, which ends by itself."""
        t = self.build("host")
        t.host.rules("install")
        t.host.run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "1081", "-j", "DROP")
        before = self.state(t.host)
        proc = t.host.spawn(lab.BUILD / "transocks-rules", "test", "11.1.2.3:80")
        lab.wait_until(lambda: len(self.state(t.host)[2]) > len(before[2]), alive=proc)
        proc.kill()
        lab.wait_until(lambda: self.state(t.host) == before, 10, lambda: self.state(t.host))

    @lab.needs_program("iptables-legacy")
    def test_killed_in_the_middle(self):
        t = self.build("host")
        wire = self.wire(t.inet, "host0")
        t.host.rules("install")
        # What ends without a trace is waited for: time enough to be killed.
        t.host.run("iptables-legacy", "-A", "OUTPUT", "-p", "tcp", "--dport", "1081", "-j", "DROP")
        before = self.state(t.host)
        for _ in range(3):
            proc = t.host.spawn(lab.BUILD / "transocks-rules", "test", "11.1.2.3:80")
            lab.wait_until(lambda: "transocks_test_" in t.host.ruleset(), alive=proc)
            proc.kill()
            self.assertEqual(self.state(t.host), before)
        self.assertEqual(wire.packets(), [])


class Tproxy(ExplainCase):
    TABLE = """
        table inet transocks {
            comment "transocks-rules test"
            chain output {
                type route hook output priority mangle
                ct mark and 0x10 == 0x10 meta mark set mark or 0x10 return comment "before"
                meta mark 0x1000 return comment "marked"
                fib daddr type local return
                ip daddr 10.0.0.0/8 return comment "private"
                meta l4proto tcp ct mark set 0x10 meta mark set 0x10 accept comment "to transocksd"
            }
            chain prerouting {
                type filter hook prerouting priority mangle
                fib daddr type local return
                meta l4proto tcp socket transparent 1 meta mark set 0x10 accept
                ip daddr 10.0.0.0/8 return comment "private"
                meta l4proto tcp meta mark set 0x10 tproxy to :1081 accept comment "to transocksd"
            }
        }"""

    def accept(self, host):
        """Somebody who takes what TPROXY brings."""
        program = ("import socket, sys, threading\n"
                   "def take(s):\n"
                   " while True: kept.append(s.accept()[0])\n"
                   "kept = []\n"
                   "for family, level, option in ((2, 0, 19), (10, 41, 75)):\n"
                   " s = socket.socket(family)\n"
                   " s.setsockopt(level, option, 1)\n"
                   " if family == 10: s.setsockopt(41, 26, 1)\n"
                   " s.bind(('', 1081)); s.listen()\n"
                   " threading.Thread(target=take, args=(s,)).start()\n"
                   "print('ready', flush=True)\n")
        host.spawn(lab.PYTHON, "-c", program).wait_log("^ready$")

    @needs_tun
    def test_taken_or_left(self):
        t = self.build("host")
        wires = [self.wire(t.inet, "host0")]
        for family in ("-4", "-6"):
            t.host.run("ip", family, "rule", "add", "fwmark", "0x10/0x10", "lookup", "1081")
            t.host.run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "1081")
        t.host.nft(self.TABLE)
        for target in TARGETS.values():
            self.ask(t.host, wires, target, verdict="taken", rule="to transocksd", becomes=target)
        self.ask(t.host, wires, "10.91.0.1:80", verdict="left-alone", rule="private")
        self.accept(t.host)
        for target in TARGETS.values():
            answer = self.ask(t.host, wires, target, verdict="taken", rule="to transocksd")
            self.assertEqual([s["verdict"] for s in answer["path"]], ["accept", "tproxy"])
            self.assertIn("marked for TPROXY", answer["why"])
        t.host.nft("table inet f { chain late { type filter hook input priority 0; drop; }; }")
        for target in TARGETS.values():
            self.ask(t.host, wires, target, verdict="dropped", becomes=None)
        t.host.nft("delete table inet f")
        for target, client in zip(TARGETS.values(), ("10.91.0.1", "fd91::1")):
            answer = self.ask(t.host, wires, target, "--in", "eth0", "--from", client,
                              verdict="taken", rule="to transocksd", becomes=target)
            self.assertEqual(answer["path"][-1]["verdict"], "tproxy")
        result = self.json(t.host, "check", code=1)
        self.assertEqual({s["step"]: s["result"] for s in result["steps"]},
                         {"reached": "ok", "user": "failed", "mark": "ok"})
        self.assertIn("brought by TPROXY as 192.31.196.1:443, accepted there by uid 0",
                      result["steps"][0]["text"])


class Gateway(ExplainCase):
    CLIENT = {4: "10.91.1.2", 6: "fd91:0:1::2"}
    ADDRESS = {4: "10.91.1.1:1081", 6: "[fd91:0:1::1]:1081"}

    def gateway(self):
        t = self.build("gateway")
        for address in ("0.0.0.0", "::"):
            with t.gateway.inside():
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, 1081))
                sock.listen()
                self.addCleanup(sock.close)
        t.gateway.rules("install", "--gateway", "lan0")
        return t, [self.wire(t.client, "eth0"), self.wire(t.inet, "gw0")]

    @needs_tun
    def test_own_rules(self):
        t, wires = self.gateway()
        for family, target in TARGETS.items():
            client = self.CLIENT[family]
            with self.subTest(family):
                answer = self.ask(t.gateway, wires, target, "--in", "lan0", "--from", client,
                                  verdict="taken", rule="to transocksd", becomes=self.ADDRESS[family])
                self.assertEqual((answer["in"], answer["from"]), ("lan0", client))
                self.assertEqual([s["chain"] for s in answer["path"]], ["prerouting", "guard"])
                self.ask(t.gateway, wires, target, "--in", "wan0", "--from", client,
                         verdict="left-alone", rule="not from a gateway interface", becomes=target)
        self.ask(t.gateway, wires, "10.91.3.2:80", "--in", "lan0", "--from", "10.91.1.2",
                 verdict="left-alone", rule="special-purpose IPv4 address", set="special4")
        self.ask(t.gateway, wires, "10.91.2.2:80", "--in", "lan0", "--from", "10.91.1.2",
                 verdict="left-alone", rule="to an address of this host")
        # A flow that comes in as the probe did arrives where the probe said.
        with t.client.connect("11.1.2.3", 80):
            pass
        self.assertNotEqual(wires[0].packets(), [])

    @needs_tun
    def test_foreign_rules(self):
        """The answers of a firewall do not reach the client either."""
        t, wires = self.gateway()
        t.gateway.nft("""
            table inet firewall {
                chain input {
                    type filter hook input priority 0
                    iifname "lan0" ip saddr 10.91.1.3 tcp dport 1081 drop comment "closed"
                    iifname "lan0" ip saddr 10.91.1.4 tcp dport 1081 reject with tcp reset
                }
                chain forward {
                    type filter hook forward priority 0
                    ip daddr 10.91.3.2 reject with icmp admin-prohibited comment "no way"
                    ip6 daddr fd91:0:3::2 reject comment "no way either"
                }
                chain ahead {
                    type nat hook prerouting priority -100
                    ip daddr 11.5.5.5 meta l4proto tcp dnat ip to 10.91.3.9:99 comment "published"
                }
            }""")
        lan = ("--in", "lan0", "--from")
        answer = self.ask(t.gateway, wires, "11.1.2.3:80", *lan, "10.91.1.3", verdict="dropped",
                          rule="closed")
        self.assertIn("after it was taken", answer["why"])
        self.ask(t.gateway, wires, "11.1.2.3:80", *lan, "10.91.1.4", verdict="rejected")
        self.ask(t.gateway, wires, "10.91.3.2:80", *lan, "10.91.1.2", verdict="rejected",
                 rule="no way")
        self.ask(t.gateway, wires, "[fd91:0:3::2]:80", *lan, "fd91:0:1::2", verdict="rejected",
                 rule="no way either")
        answer = self.ask(t.gateway, wires, "11.5.5.5:80", *lan, "10.91.1.2", verdict="left-alone",
                          becomes="10.91.3.9:99")
        self.assertIn('by rule 1 "published" of chain ahead', answer["why"])

    @needs_tun
    def test_copies(self):
        t, wires = self.gateway()
        for hook in ("prerouting", "input", "forward"):
            t.gateway.nft(f"table ip f {{ chain c {{ type filter hook {hook} priority -300; "
                          "dup to 10.91.2.1 device wan0; }; }")
            for target in ("11.1.2.3:80", "10.91.3.2:80"):
                with self.subTest(hook, target=target):
                    self.ask(t.gateway, wires, target, "--in", "lan0", "--from", "10.91.1.2")
            t.gateway.nft("delete table ip f")

    @needs_tun
    def test_sent_on_ahead_of_all(self):
        """What nothing could hold is not sent."""
        t, wires = self.gateway()
        args = ("11.1.2.3:80", "--in", "lan0", "--from", "10.91.1.2")
        for verb in ("dup", "fwd"):
            t.gateway.nft("table netdev f { chain c { type filter hook ingress device lan0 priority 0; "
                          f'ip daddr 11.1.2.3 {verb} to "wan0"; }}; }}')
            self.assertIn("chain c, table netdev f", self.json(t.gateway, "test", *args, code=1)["error"])
            t.gateway.rules("check", check=False)
            t.gateway.nft("delete table netdev f")
            for wire in wires:
                self.assertEqual(wire.packets(), [], verb)
        self.ask(t.gateway, wires, *args, verdict="taken")

    @needs_tun
    def test_synproxy(self):
        """It answers in the name of the destination, and the answer goes nowhere either."""
        t, wires = self.gateway()
        t.gateway.nft("""
            table ip f {
                chain raw {
                    type filter hook prerouting priority -300
                    tcp flags & (fin|syn|rst|ack) == syn notrack
                }
                chain c {
                    type filter hook forward priority 0
                    ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
                }
            }""")
        self.ask(t.gateway, wires, "10.91.3.2:80", "--in", "lan0", "--from", "10.91.1.2", taken=False)

    @needs_tun
    def test_bridge(self):
        """A port of it is no way in: the probe has no Ethernet addresses that a bridge could learn."""
        t, wires = self.gateway()
        t.gateway.ip("""link add br0 type bridge
            addr flush dev lan0
            link set lan0 master br0
            link set br0 up
            addr add 10.91.1.1/24 dev br0""")
        t.gateway.rules("install", "--gateway", "br0")
        client = json.loads(t.client.run("ip", "-j", "link", "show", "eth0").stdout)[0]["address"]

        def learnt():
            lines = t.gateway.run("bridge", "fdb", "show", "br", "br0").stdout.splitlines()
            return {line.split()[0] for line in lines} - {client}
        before = learnt()
        args = ("11.1.2.3:80", "--from", "10.91.1.2", "--in")
        self.assertIn("a port of br0", self.json(t.gateway, "test", *args, "lan0", code=1)["error"])
        self.ask(t.gateway, wires, *args, "br0", verdict="taken")
        self.assertEqual(learnt(), before)

    @needs_tun
    def test_wrapped_by_its_route(self):
        """Behind the hooks it would be another packet."""
        t, wires = self.gateway()
        t.gateway.ip("route add 2a00:1:77::/48 encap seg6 mode encap segs 2a00:1::1 dev wan0\n"
                     "route add 11.77.0.0/16 encap seg6 mode encap segs 2a00:1::1 dev wan0")
        for target, family in (("11.77.0.1:80", 4), ("[2a00:1:77::1]:80", 6)):
            for more in ((), ("--in", "lan0", "--from", self.CLIENT[family])):
                self.assertIn("its route wraps it", self.json(t.gateway, "test", target, *more, code=1)["error"])
        self.assertIn("its route wraps it", self.json(t.gateway, "check", "11.77.0.1:80", code=1)["error"])
        raw = wires[1].sock
        with contextlib.suppress(BlockingIOError):
            while True:
                self.assertNotIn(socket.inet_pton(socket.AF_INET6, "2a00:1:77::1"), raw.recv(2048))

    @needs_tun
    def test_lost_on_the_way(self):
        t, wires = self.gateway()
        # Without a route the kernel answers the client, if it is let.
        t.gateway.ip("route del default via 10.91.2.1\nroute del default via fd91:0:2::1")
        for target, client in (("10.99.1.1:80", "10.91.1.2"), ("[fd99::1]:80", "fd91:0:1::2")):
            self.ask(t.gateway, wires, target, "--in", "lan0", "--from", client, verdict="lost")
        self.ask(t.gateway, wires, "11.1.2.3:80", "--in", "lan0", "--from", "10.91.1.2",
                 verdict="taken")
        t.gateway.sysctl("net.ipv4.conf.all.rp_filter", 1)
        answer = self.ask(t.gateway, wires, "11.1.2.3:80", "--in", "lan0", "--from", "10.91.2.77",
                          verdict="lost")
        self.assertIn("reverse path", answer["why"])
        t.gateway.ip("link set lan0 down")
        answer = self.ask(t.gateway, wires, "11.1.2.3:80", "--in", "lan0", "--from", "10.91.1.2",
                          verdict="lost")
        self.assertIn("did not come in", answer["why"])

    @needs_tun
    def test_killed_in_the_middle(self):
        t, wires = self.gateway()
        t.gateway.sysctl("net.ipv4.conf.all.rp_filter", 1)
        before = self.state(t.gateway)
        proc = t.gateway.spawn(lab.BUILD / "transocks-rules", "test", "11.1.2.3:80", "--in", "lan0",
                               "--from", "10.91.2.77")
        lab.wait_until(lambda: "transocks_test_" in t.gateway.ruleset(), alive=proc)
        self.assertIn("transocks0", t.gateway.run("ip", "link").stdout)
        proc.signal(signal.SIGKILL)
        proc.kill()
        proc.killed = True
        self.assertEqual(self.state(t.gateway), before)
        for wire in wires:
            self.assertEqual(wire.packets(), [])


class Check(ExplainCase):
    STEPS = ["reached", "user", "mark", "guard"]
    DROP = """
        table inet f {{
            chain x {{
                type filter hook {} priority 0
                tcp dport 1081 drop comment "no"
            }}
        }}"""

    def check(self, host, code=0, **expected):
        """Runs it; `expected`: the steps that do not end in "ok", for both families."""
        result = self.json(host, "check", code=code)
        for family in ("IPv4", "IPv6"):
            steps = {s["step"]: s for s in result["steps"] if s["family"] == family}
            found = {name: s["result"] for name, s in steps.items() if s["result"] != "ok"}
            self.assertEqual(found, expected, result)
            if not expected:
                self.assertEqual(list(steps), self.STEPS)
        return result

    def running(self):
        """A host with a daemon whose upstream answers nothing."""
        t = self.build("host")
        upstream = t.proxy.listen("10.91.3.2", 1080)
        self.addCleanup(upstream.close)
        daemon = t.host.transocksd(UPSTREAM)
        return t, daemon, self.wire(t.inet, "host0")

    def only_the_daemon_speaks(self, wire):
        """Its connections to the upstream are all that is on the wire."""
        for data in wire.packets():
            ends = {socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])}
            self.assertEqual(ends, {"10.91.0.2", "10.91.3.2"}, data)

    @lab.needs_uids
    def test_all_is_well(self):
        t, daemon, wire = self.running()
        t.host.rules("install")
        before = self.state(t.host)[:2]
        result = self.check(t.host)
        self.assertEqual([s["text"] for s in result["steps"] if s["step"] == "reached"],
                         [f"redirected to {LOOPBACK[f]}, accepted there by uid {lab.DAEMON_UID}" for f in (4, 6)])
        self.assertEqual(self.state(t.host)[:2], before)
        self.only_the_daemon_speaks(wire)
        self.assertEqual({r["dest_addr"] for r in daemon.wait_records(2)},
                         {"192.31.196.1:443", "[2620:4f:8000::1]:443"})
        text = t.host.rules("check").stdout
        self.assertEqual(text.count("ok       IPv"), 8, text)
        self.json(t.host, "check", "11.1.2.3:80")

    def ended(self, result, word, text):
        """Of the first step, in both families."""
        for family in ("IPv4", "IPv6"):
            step = next(s for s in result["steps"] if s["family"] == family)
            self.assertEqual((step["step"], step["result"]), ("reached", word), result)
            self.assertIn(text, step["text"])
            self.assertTrue(step["hint"])

    @lab.needs_uids
    def test_upstream_is_down(self):
        """The rules work, and no flow does: transocksd says why."""
        t = self.build("host")
        t.host.transocksd(UPSTREAM)
        t.host.rules("install")
        for _ in range(3):
            result = self.check(t.host, 1, reached="failed")
            self.ended(result, "failed", "transocksd ended it: connect-failed")
            self.assertIn("proxy_url", result["steps"][0]["hint"])

    @lab.needs_uids
    def test_upstream_is_something_else(self):
        t = self.build("host")
        t.host.transocksd(UPSTREAM)
        t.host.rules("install")
        for way, word, code, text in (
                (("garbage",), "failed", 1, "greeting-failed"),
                (("code", 5), "doubtful", 0, "reply-refused")):
            peer = t.proxy.peer("socks", "10.91.3.2", 1080, *way)
            self.ended(self.check(t.host, code, reached=word), word, f"ended it: {text}")
            peer.kill()

    @lab.needs_uids
    def test_destination_does_not_answer(self):
        """Without an upstream a refused connection is the destination's affair."""
        t = self.build("host")
        t.host.transocksd('proxy_url = "direct://"\n')
        t.host.rules("install")
        t.inet.ip("route add local 192.31.196.1 dev lo\nroute add local 2620:4f:8000::1 dev lo")
        self.ended(self.check(t.host, reached="doubtful"), "doubtful", "ended it: connect-failed")

    @lab.needs_uids
    def test_daemon_of_the_other_mode(self):
        t = self.build("host")
        t.host.transocksd('mode = "tproxy"\n' + UPSTREAM)
        t.host.rules("install", "--force")
        self.ended(self.check(t.host, 1, reached="failed"), "failed", "ended it: not-redirected")

    @lab.needs_uids
    def test_control_socket_does_not_answer(self):
        t = self.build("host")
        t.host.transocksd('control = ""\n' + UPSTREAM)
        t.host.rules("install")
        self.ended(self.check(t.host, reached="doubtful"), "doubtful", "cannot be asked at")
        config = lab.WORK / "no-control.toml"
        config.write_text('control = ""\n')
        result = self.json(t.host, "check", "-f", config)
        self.ended(result, "doubtful", "has no control socket")

    FORWARDED = {"IPv4": "flows from 10.91.1.2 in by lan0", "IPv6": "flows from fd91:0:1::2 in by lan0"}

    def gateway(self, *flags, listen=":1081", mode="redirect"):
        t = self.build("gateway")
        upstream = t.proxy.listen("10.91.3.2", 1080)
        self.addCleanup(upstream.close)
        t.gateway.transocksd(f'listen = "{listen}"\nmode = "{mode}"\n' + UPSTREAM)
        t.gateway.rules("install", "--gateway", "lan0", "--mode", mode, *flags)
        return t

    def forwarded(self, result):
        return {s["family"]: s for s in result["steps"] if s["step"] == "forwarded"}

    @needs_tun
    @lab.needs_uids
    def test_gateway(self):
        t = self.gateway()
        wires = [self.wire(t.client, "eth0")]
        before = self.state(t.gateway)[:2]
        found = self.forwarded(self.json(t.gateway, "check"))
        for family, arrives in (("IPv4", Gateway.ADDRESS[4]), ("IPv6", Gateway.ADDRESS[6])):
            self.assertEqual(found[family]["result"], "ok", found)
            self.assertEqual(found[family]["text"], f"{self.FORWARDED[family]}: redirected to {arrives}, "
                                                    "where somebody listens")
        self.assertEqual(wires[0].packets(), [])
        self.assertEqual(self.state(t.gateway)[:2], before)
        # What closes the gateway alone is found.
        t.gateway.nft("""table inet f {
            chain x { type filter hook input priority 0; iifname "lan0" tcp dport 1081 drop; }
        }""")
        result = self.json(t.gateway, "check", code=1)
        self.assertIn("flows from 10.91.1.2 in by lan0: dropped by rule 1 of chain x", result["error"])
        self.assertEqual({s["result"] for s in result["steps"] if s["step"] != "forwarded"}, {"ok"})
        t.gateway.run("nft", "delete table inet f")
        t.gateway.ip("link set lan0 down")
        found = self.forwarded(self.json(t.gateway, "check"))
        self.assertEqual({s["result"] for s in found.values()}, {"skipped"}, found)

    @needs_tun
    @lab.needs_uids
    def test_gateway_by_tproxy(self):
        found = self.forwarded(self.json(self.gateway(mode="tproxy").gateway, "check"))
        self.assertEqual({s["result"] for s in found.values()}, {"ok"}, found)
        self.assertIn("brought by TPROXY as 192.31.196.1:443", found["IPv4"]["text"])

    @needs_tun
    @lab.needs_uids
    def test_gateway_without_listener(self):
        t = self.gateway("--force", listen="localhost:1081")
        result = self.json(t.gateway, "check", code=5)
        self.assertIn(f"redirected to {Gateway.ADDRESS[4]}, where nobody listens", result["error"])

    @lab.needs_uids
    def test_gateway_without_tun(self):
        t = self.gateway()
        done = t.gateway.run("unshare", "-m", "sh", "-c",
                             f"mount -t tmpfs none /dev && exec {lab.BUILD}/transocks-rules check --json",
                             check=False)
        found = self.forwarded(json.loads(done.stdout))
        self.assertEqual({s["result"] for s in found.values()}, {"skipped"}, found)
        self.assertIn("/dev/net/tun", found["IPv4"]["text"])
        self.assertEqual(done.returncode, 0)

    def test_not_installed(self):
        t, _, wire = self.running()
        self.json(t.host, "check", code=3)
        t.host.rules("install")
        t.host.rules("flush")
        self.json(t.host, "check", code=3)
        self.only_the_daemon_speaks(wire)

    def test_no_daemon(self):
        t = self.build("host")
        wire = self.wire(t.inet, "host0")
        t.host.rules("install")
        result = self.check(t.host, 5, reached="failed")
        self.assertIn("nobody listens", result["error"])
        t.host.listen("127.0.0.1", 1081).close()
        with t.host.listen("127.0.0.1", 1081), t.host.listen("127.0.0.2", 1081):
            # It never accepts.
            self.assertIn("Connection timed out", self.json(t.host, "check", code=1)["error"])
        self.assertEqual(wire.packets(), [])

    def test_rules_are_gone(self):
        t, _, wire = self.running()
        t.host.rules("install")
        t.host.nft("flush chain inet transocks output")
        result = self.check(t.host, 1, taken="failed")
        self.assertIn("left alone by the policy of chain output", result["error"])
        t.host.nft("delete chain inet transocks output")
        self.assertIn("no chain of ours sees it", self.check(t.host, 1, taken="failed")["error"])
        self.only_the_daemon_speaks(wire)

    @lab.needs_uids
    def test_loop_guards(self):
        t, _, _ = self.running()
        t.host.rules("install", "--mark", "0/0")
        result = self.check(t.host, 1, mark="failed")
        self.assertIn("flows with mark 0x1000: redirected by rule", result["error"])
        t.host.rules("install", "--uid", "4321")
        result = self.check(t.host, 1, user="failed")
        self.assertIn(f"flows of uid {lab.DAEMON_UID}, the daemon's: redirected", result["error"])
        self.assertIn(f"install --uid {lab.DAEMON_UID}", next(s["hint"] for s in result["steps"] if "hint" in s))
        t.host.rules("install")
        t.host.nft("flush chain inet transocks guard")
        self.assertIn("are let in", self.check(t.host, 1, guard="failed")["error"])

    @lab.needs_uids
    def test_foreign_drop(self):
        t, _, wire = self.running()
        t.host.rules("install")
        t.host.nft(self.DROP.format("output"))
        result = self.check(t.host, 1, taken="failed")
        self.assertIn('dropped by rule 1 "no" of chain x, table inet f, after it was taken',
                      result["error"])
        t.host.nft("delete table inet f")
        t.host.nft(self.DROP.format("input"))
        result = self.check(t.host, 1, reached="failed")
        self.assertIn('dropped by rule 1 "no" of chain x, table inet f', result["error"])
        self.only_the_daemon_speaks(wire)

    @lab.needs_uids
    def test_no_route(self):
        t, _, _ = self.running()
        t.host.rules("install")
        t.host.ip("route del default via fd91::1")
        result = self.json(t.host, "check")
        self.assertEqual([s["result"] for s in result["steps"]], ["ok"] * 4 + ["skipped"])
        self.assertIn("default dev lo", result["steps"][-1]["hint"])
        t.host.ip("route del default via 10.91.0.1")
        self.assertIn("nothing could be tried", self.json(t.host, "check", code=1)["error"])

    @lab.needs_uids
    def test_options(self):
        """What is left alone on purpose is no failure, as far as check knows the purpose."""
        t, _, _ = self.running()
        t.host.rules("install", "--family", "ipv4", "--ports", "8000-8001")
        result = self.json(t.host, "check", "--ports", "8000-8001")
        self.assertEqual([s["result"] for s in result["steps"]], ["ok"] * 4 + ["skipped"])
        self.assertIn("IPv6 is not redirected", result["steps"][-1]["text"])
        result = self.json(t.host, "check", code=1)
        self.assertIn("to a port that is not redirected", result["error"])
        self.json(t.host, "check", "11.1.2.3:8001")
        t.host.rules("install", "--share", 0)
        result = self.check(t.host, 1, taken="skipped")
        self.assertIn("outside the share", result["steps"][0]["text"])
        self.assertIn("no other destination helps", result["steps"][0]["hint"])
        self.assertIn("nothing could be tried: all were outside the share", result["error"])

    @lab.needs_uids
    def test_draining(self):
        t = self.build("host")
        t.host.transocksd('proxy_url = "direct://"\n')
        echo = t.inet.peer("echo", "::", 9)
        t.host.rules("install")
        with t.host.connect("11.1.2.3", 9):
            self.json(t.host, "flush", "--drain", "0", code=6)
            result = self.check(t.host, 1, taken="failed")
            self.assertIn("install ends that", result["steps"][0]["hint"])
        self.assertTrue(echo.alive())

    @lab.needs_uids
    def test_ip_rule_is_missing(self):
        t = self.build("host")
        upstream = t.proxy.listen("10.91.3.2", 1080)
        self.addCleanup(upstream.close)
        t.host.transocksd('mode = "tproxy"\n' + UPSTREAM)
        t.host.rules("install", "--mode", "tproxy")
        self.assertEqual({s["result"] for s in self.json(t.host, "check")["steps"]}, {"ok"})
        t.host.run("ip", "rule", "del", "pref", "1081")
        result = self.json(t.host, "check", code=1)
        self.assertIn("missing: ip rule pref 1081", result["error"])
        self.assertEqual([s["result"] for s in result["steps"] if s["family"] == "IPv6"], ["ok"] * 3)

    if lab.ONE_UID:  # where there are others, they are tried

        def test_no_such_uid(self):
            t, _, _ = self.running()
            t.host.rules("install")
            self.assertIn("as uid 4242", self.json(t.host, "test", "11.1.2.3:80", "--uid", 4242,
                                                   code=77)["error"])

        def test_one_uid(self):
            """The daemon's uid is everybody's: the mark alone prevents loops, and check says so."""
            t, _, _ = self.running()
            t.host.rules("install")
            result = self.check(t.host, 1, user="failed")
            self.assertIn("flows of uid 0, the daemon's: redirected", result["error"])


if __name__ == "__main__":
    lab.main()
