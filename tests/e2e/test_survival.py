# SPDX-License-Identifier: MIT
"""Live connections live through install; our own flows and foreign rules are left alone."""
import pathlib
import socket

import lab

UPSTREAM = "socks5://10.91.3.2:1080"
SO_MARK = 36

# A plain redirect, without the match on the initial SYN: the control of the survival tests.
PLAIN = """
table inet plain {
    chain output {
        type nat hook output priority -99; policy accept;
        meta mark & 0x1000 == 0x1000 return
        ip daddr 11.0.0.0/8 meta l4proto tcp redirect to :1081
    }
    chain prerouting {
        type nat hook prerouting priority -99; policy accept;
        iifname "lan0" ip daddr 11.0.0.0/8 meta l4proto tcp redirect to :1081
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


def talk(sock, text=b"ping"):
    """One round trip; False if the connection is dead or mute."""
    try:
        sock.settimeout(3)
        sock.sendall(text)
        return sock.recv(100) == text
    except OSError:
        return False


class Live:
    """A connection to an echo server, or from a client on the Internet to one of ours."""

    def __init__(self, case, sock):
        case.addCleanup(sock.close)
        self.sock = sock
        case.assertTrue(talk(sock), "before anything has been done to it")


class Survival(lab.TestCase):
    def start(self, kind):
        t = self.build(kind)
        t.daemon_host = t.gateway if kind == "gateway" else t.host
        t.arguments = ("--gateway", "lan0") if kind == "gateway" else ()
        t.inet.peer("echo", "::", 7)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\n')
        t.transocksd = t.daemon_host.transocksd(f'listen = ":1081"\nproxy_url = "{UPSTREAM}"\n')
        return t

    def conntrack_entries(self, host):
        with host.inside():
            return int(pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())

    def live_through(self, t, old):
        """`old` were opened before; opens new ones between the steps; all must live to the end."""
        host, rules = t.daemon_host, t.daemon_host.rules
        self.assertEqual(self.conntrack_entries(host), 0, "conntrack must be inactive at first")
        rules("install", *t.arguments)
        self.assertTrue(all(map(talk, old)), "after install")
        proxied = [t.client.connect("11.0.0.1", 7), t.client.connect("2a00:1::1", 7)]
        for sock in proxied:
            self.addCleanup(sock.close)
        self.assertTrue(all(map(talk, old + proxied)), "after a new flow")
        rules("install", *t.arguments)
        self.assertTrue(all(map(talk, old + proxied)), "after the second install")
        second = t.client.connect("11.0.0.1", 7)
        self.addCleanup(second.close)
        self.assertTrue(all(map(talk, old + proxied + [second])), "after the second flow")
        tables = [x for x in host.ruleset().splitlines() if x.startswith("table ")]
        self.assertEqual(tables, ["table inet transocks {"])
        for sock in proxied + [second]:
            sock.close()
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(3)}, {"done"})
        self.assertTrue(all(map(talk, old)), "after the flows have ended")
        rules("flush")
        self.assertTrue(all(map(talk, old)), "after flush")
        with t.client.connect("11.0.0.1", 7) as direct:
            self.assertTrue(talk(direct), "a new flow after flush")
        t.transocksd.wait_records(3)

    def opened(self, t):
        """Connections of either family that the client has open, before any rule is there."""
        return [Live(self, t.client.connect(address, 7)).sock
                for address in ("11.0.0.1", "2a00:1::1")]

    def test_death_of_the_daemon(self):
        """kill -9: direct flows live on, proxied ones end, new ones are refused until the rules go."""
        t = self.start("host")
        old = self.opened(t)
        t.host.rules("install")
        proxied = Live(self, t.client.connect("11.0.0.1", 7)).sock
        t.transocksd.kill()
        self.assertFalse(talk(proxied), "the proxied flow must have ended")
        self.assertTrue(all(map(talk, old)), "direct flows")
        with self.assertRaises(ConnectionRefusedError):
            t.client.connect("11.0.0.1", 7)
        t.host.rules("flush")
        self.assertTrue(all(map(talk, old)), "direct flows after flush")
        self.assertTrue(talk(Live(self, t.client.connect("11.0.0.1", 7)).sock))

    def test_flows_of_the_host(self):
        t = self.start("host")
        self.live_through(t, self.opened(t))

    def test_flows_through_the_gateway(self):
        t = self.start("gateway")
        self.live_through(t, self.opened(t))

    def test_flows_into_the_host(self):
        """The administrator's own session: it comes from outside, and our side speaks first."""
        t = self.start("host")
        t.host.peer("echo", "::", 2222)
        old = [Live(self, t.inet.connect(address, 2222, source=(source, 0))).sock
               for address, source in (("10.91.0.2", "11.3.0.1"), ("fd91::2", "2a00:1:3::1"))]
        self.live_through(t, old)

    def control(self, kind):
        """A plain redirect breaks such a connection here; else the tests would show nothing."""
        t = self.start(kind)
        sock = Live(self, t.client.connect("11.0.0.1", 7)).sock
        self.assertEqual(self.conntrack_entries(t.daemon_host), 0)
        t.daemon_host.nft(PLAIN)
        self.assertFalse(talk(sock) and talk(sock))

    def test_control_host(self):
        self.control("host")

    def test_control_gateway(self):
        self.control("gateway")

    def test_proxied_flows_live_through_many_installs(self):
        t = self.start("host")
        t.host.rules("install")
        sock = t.host.connect("11.0.0.1", 7)
        self.addCleanup(sock.close)
        for number in range(10):
            t.host.rules("install")
            self.assertTrue(talk(sock, b"%d" % number))
        self.assertEqual(t.transocksd.lines(type="access"), [])


class OwnFlows(lab.TestCase):
    """Proved by where a connection arrives from: the proxy's address, or the host's own."""

    DIRECT = {"11.0.0.1": "10.91.0.2", "2a00:1::1": "fd91::2"}
    PROXIED = {"11.0.0.1": "10.91.3.2", "2a00:1::1": "fd91:0:3::2"}

    def start(self):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\n')
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
                sock.settimeout(5)
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
