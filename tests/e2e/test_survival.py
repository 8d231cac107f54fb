# SPDX-License-Identifier: MIT
"""Live connections live through install; our own flows and foreign rules are left alone."""
import pathlib
import socket

import lab
import ways
from flow import talk

UPSTREAM = "socks5://10.91.3.2:1080"
SO_MARK = 36

# A plain redirect, without the match on the initial SYN: the control of the survival tests.
PLAIN = """
table inet plain {
    chain output {
        type nat hook output priority -99; policy accept;
        meta mark & 0x1000 == 0x1000 return
        meta l4proto tcp ip daddr 11.0.0.0/8 redirect to :1081
        meta l4proto tcp ip6 daddr 2a00:1::/32 redirect to :1081
    }
    chain prerouting {
        type nat hook prerouting priority -99; policy accept;
        iifname "lan0" meta l4proto tcp redirect to :1081
    }
}
"""
PLAIN_TPROXY = """
table inet plain {
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        iifname "lan0" meta l4proto tcp tproxy to :1081 meta mark set 0x10
    }
}
"""

FOREIGN = """
table inet firewall {
    set admins {
        type ipv4_addr
        flags interval
        elements = { 10.91.0.0/24 comment "us", 10.91.7.1 }
    }
    chain input {
        type filter hook input priority filter; policy accept;
        ct state established,related accept comment "known"
        ip saddr @admins tcp dport 22 accept
        tcp dport 4444 counter drop
    }
}
table ip nat {
    chain output {
        type nat hook output priority -100; policy accept;
        ip daddr 11.77.0.1 tcp dport 80 dnat to 11.0.0.1:8080
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.17.0.0/16 oifname "eth0" masquerade
    }
}
table ip6 transocks {
    chain c {
    }
}
"""


class Live:
    """A connection to an echo server, or from a client on the Internet to one of ours."""

    def __init__(self, case, sock):
        case.addCleanup(sock.close)
        self.sock = sock
        case.assertTrue(talk(sock), "before anything has been done to it")


class SurvivalCase(lab.TestCase):
    mode = None

    def start(self, kind):
        t = ways.start(self, kind, self.mode, ways.usocksd)
        t.inet.peer("echo", "::", 7)
        return t

    def conntrack_entries(self, host):
        with host.inside():
            return int(pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())

    def all_talk(self, socks, when):
        for sock in socks:
            self.assertTrue(talk(sock), f"{when}: {sock.getsockname()}")

    def live_through(self, t, old):
        """`old` were opened before; opens new ones between the steps; all must live to the end."""
        self.assertEqual(self.conntrack_entries(t.on), 0, "conntrack must be inactive at first")
        ways.install(t)
        self.all_talk(old, "after install")
        proxied = self.opened(t)
        self.all_talk(old + proxied, "after new flows")
        for number in range(50):
            ways.install(t)
            self.all_talk(old + proxied, f"after install {number}")
            if number in (0, 49):
                proxied += self.opened(t)
        self.all_talk(old + proxied, "after the last flows")
        tables = [x for x in t.on.ruleset().splitlines() if x.startswith("table ")]
        self.assertEqual(tables, ["table inet transocks {"])
        self.assertEqual(t.transocksd.lines(type="access"), [])
        for sock in proxied:
            sock.close()
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(len(proxied))}, {"done"})
        self.all_talk(old, "after the flows have ended")
        t.on.rules("flush")
        self.all_talk(old + self.opened(t), "after flush")
        for ip in ("-4", "-6"):
            self.assertNotIn("1081", t.on.run("ip", ip, "rule").stdout)
        t.transocksd.wait_records(len(proxied))

    def opened(self, t, client=None):
        """Connections of either family that the client has open."""
        return [Live(self, (client or t.client).connect(address, 7)).sock for address in ways.PUBLIC.values()]

    def opened_from_outside(self, t, host, *addresses):
        """The administrator's own session: it comes from outside, and our side speaks first."""
        host.peer("echo", "::", 2222)
        return [Live(self, t.inet.connect(address, 2222, source=(source, 0))).sock
                for address, source in zip(addresses, ("11.3.0.1", "2a00:1:3::1"))]

    def test_of_the_host(self):
        t = self.start("host")
        self.live_through(t, self.opened(t) + self.opened_from_outside(t, t.host, "10.91.0.2", "fd91::2"))

    def test_through_the_gateway(self):
        """Those of a client, out and in, and those of the gateway itself."""
        t = self.start("gateway")
        self.live_through(t, self.opened(t) + self.opened(t, t.gateway)
                          + self.opened_from_outside(t, t.client, "10.91.1.2", "fd91:0:1::2")
                          + self.opened_from_outside(t, t.gateway, "10.91.2.2", "fd91:0:2::2"))

    def death(self, kind):
        """kill -9: direct flows live on, proxied ones end, new ones fail until the rules go."""
        t = self.start(kind)
        inside = ("10.91.0.2", "fd91::2") if kind == "host" else ("10.91.1.2", "fd91:0:1::2")
        old = self.opened(t) + self.opened_from_outside(t, t.client, *inside)
        t.on.peer("echo", "::", 7)  # must not get what nobody takes
        ways.install(t)
        proxied = self.opened(t)
        t.transocksd.kill()
        for sock in proxied:
            self.assertFalse(talk(sock), "a redirected flow must have ended")
        self.all_talk(old, "after the death of the daemon")
        for address in ways.PUBLIC.values():
            with self.assertRaises(self.refusal):
                t.client.connect(address, 7, seconds=0.5)
        t.on.rules("flush")
        self.all_talk(old + self.opened(t), "after flush")

    def test_death_of_the_daemon(self):
        self.death("host")

    def test_death_of_the_daemon_on_the_gateway(self):
        self.death("gateway")

    def control(self, kind):
        """Rules without the match on the initial SYN break them here; else the tests would show nothing."""
        t = self.start(kind)
        socks = self.opened(t)
        self.assertEqual(self.conntrack_entries(t.on), 0)
        for line in self.routes:
            for ip in ("-4", "-6"):
                t.on.run("ip", ip, *line.split())
        t.on.nft(self.plain)
        for sock in socks:
            self.assertFalse(talk(sock, seconds=2) and talk(sock, seconds=2))

    def test_control_gateway(self):
        self.control("gateway")


class RedirectSurvival(SurvivalCase):
    mode, refusal = "redirect", ConnectionRefusedError
    plain, routes = PLAIN, ()

    def test_control_host(self):
        self.control("host")


class TproxySurvival(SurvivalCase):
    mode, refusal = "tproxy", ConnectionRefusedError
    plain = PLAIN_TPROXY
    routes = "rule add fwmark 0x10/0x10 lookup 99", "route add local default dev lo table 99"


del SurvivalCase


class OwnFlows(lab.TestCase):
    """Proved by where a connection arrives from: the proxy's address, or the host's own."""

    DIRECT = {"11.0.0.1": "10.91.0.2", "2a00:1::1": "fd91::2"}
    PROXIED = {"11.0.0.1": "10.91.3.2", "2a00:1::1": "fd91:0:3::2"}

    def start(self):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.transocksd = t.host.transocksd(f'proxy_url = "{UPSTREAM}"\n')
        return t

    def source_by_curl(self, t, address, user):
        url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
        return t.host.curl(url, user=user).stdout.rpartition("came from ")[2].rstrip(".\n")

    def source_by_mark(self, t, address, mark):
        with t.inet.listen(address, 81) as server:
            with t.host.inside():
                sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            with sock:
                sock.settimeout(lab.LONG)
                if mark is not None:
                    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
                sock.connect((address, 81))
                with server.accept()[0] as far:
                    return far.getpeername()[0]

    @lab.needs_uids
    def test_uid_is_never_redirected(self):
        t = self.start()
        t.host.rules("install")
        for address in self.DIRECT:
            self.assertEqual(self.source_by_curl(t, address, "transocks"), self.DIRECT[address])
            self.assertEqual(self.source_by_curl(t, address, "nobody"), self.PROXIED[address])
        t.transocksd.wait_records(2)

    @lab.needs_uids
    def test_uid_by_number(self):
        t = self.start()
        t.host.rules("install", "--uid", 65534)
        for address in self.DIRECT:
            self.assertEqual(self.source_by_curl(t, address, "nobody"), self.DIRECT[address])
            self.assertEqual(self.source_by_curl(t, address, None), self.PROXIED[address])

    def test_mark_is_never_redirected(self):
        t = self.start()
        t.host.rules("install")
        for address in self.DIRECT:
            for mark in (0x1000, 0x1001, 0xffff):
                source = self.source_by_mark(t, address, mark)
                self.assertEqual(source, self.DIRECT[address], mark)
            for mark in (None, 0x2000, 0xefff):
                source = self.source_by_mark(t, address, mark)
                self.assertEqual(source, self.PROXIED[address], mark)

    def test_another_mark_on_both_sides(self):
        t = self.start()
        t.transocksd.kill()
        t.transocksd = t.host.transocksd('proxy_url = "direct://"\nmark = "0x40/0xf0"\n')
        t.host.rules("install", "--mark", "0x40/0xf0", "--uid", 4242)
        self.assertEqual(self.source_by_mark(t, "11.0.0.1", 0x145), self.DIRECT["11.0.0.1"])
        self.assertEqual(t.transocksd.lines(type="access"), [])
        self.assertEqual(self.source_by_mark(t, "11.0.0.1", 0x1000), self.DIRECT["11.0.0.1"])
        t.transocksd.wait_records(1)

    def beside(self, daemon_user, rules_uid):
        """usocksd and transocksd on one redirected host: one connection each, none leads back."""
        t = self.build("host")
        web = t.inet.peer("http", "::", 80)
        dns = t.inet.peer("dns", "11.0.0.53", 53, "web.test=long", "web.test=11.0.0.1")
        user = f'user = "{daemon_user}"\n'
        usocksd = t.host.usocksd(user + '[dns]\nservers = ["11.0.0.53"]\n')
        transocksd = t.host.transocksd(user + 'proxy_url = "socks5://127.0.0.1:1080"\n')
        t.host.rules("install", "--uid", rules_uid)
        for number, address in enumerate(self.DIRECT, 1):
            self.assertEqual(self.source_by_curl(t, address, None), self.DIRECT[address])
            self.assertEqual({r["end"] for r in transocksd.wait_records(number)}, {"done"})
            self.assertEqual({r["end"] for r in usocksd.wait_records(number)}, {"done"})
        t.host.curl("--socks5-hostname", "127.0.0.1:1080", "http://web.test/")
        usocksd.wait_records(3)
        transocksd.wait_records(2)
        self.assertEqual(web.log().count("\nhttp "), 3)
        self.assertIn("dns by tcp from 10.91.0.2", dns.log())

    def test_both_daemons_on_one_host_by_mark_alone(self):
        self.beside("root", "4242")

    @lab.needs_uids
    def test_both_daemons_on_one_host(self):
        self.beside("transocks", "transocks")


class ForeignRules(lab.TestCase):
    def test_byte_identical_before_install_and_after_flush(self):
        t = self.build("gateway")
        t.gateway.transocksd('listen = ":1081"\nproxy_url = "direct://"\n')
        t.gateway.nft(FOREIGN)
        before = t.gateway.ruleset()
        for _ in range(2):
            t.gateway.rules("install", "--gateway", "lan0")
            during = t.gateway.ruleset()
            self.assertEqual(during.count("table inet transocks {"), 1)
            ours = during[during.index("table inet transocks {"):]
            ours = ours[:ours.index("\n}\n") + 3]
            self.assertEqual(during.replace(ours, ""), before)
        t.gateway.rules("flush")
        self.assertEqual(t.gateway.ruleset(), before)
        t.gateway.rules("flush")
        self.assertEqual(t.gateway.ruleset(), before)

    @lab.needs_program("iptables")
    def test_rules_of_iptables(self):
        t = self.build("gateway")
        t.gateway.transocksd('listen = ":1081"\nproxy_url = "direct://"\n')
        for program, address in (("iptables", "11.77.0.1"), ("ip6tables", "2a00:1:77::1")):
            t.gateway.run(program, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", address,
                          "-j", "REDIRECT", "--to-ports", 8080)
            t.gateway.run(program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID",
                          "-j", "DROP")

        def saved():
            texts = [t.gateway.run(f"{x}-save").stdout for x in ("iptables", "ip6tables")]
            return [line for line in "".join(texts).splitlines() if not line.startswith("#")]

        before = saved(), t.gateway.ruleset()
        self.assertEqual("\n".join(before[0]).count("REDIRECT"), 2)
        t.gateway.rules("install", "--gateway", "lan0")
        self.assertEqual(saved(), before[0])
        t.gateway.rules("flush")
        self.assertEqual((saved(), t.gateway.ruleset()), before)

    def test_text_reloads_to_the_same_text(self):
        t = self.build("gateway")
        t.gateway.transocksd('listen = ":1081"\nproxy_url = "direct://"\n')
        t.gateway.rules("install", "--gateway", "lan0")
        text = t.gateway.ruleset()
        t.gateway.nft("flush ruleset\n" + text)
        self.assertEqual(t.gateway.ruleset(), text)


if __name__ == "__main__":
    lab.main()
