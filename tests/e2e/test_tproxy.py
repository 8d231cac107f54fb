# SPDX-License-Identifier: MIT
"""TPROXY: flows arrive at a transparent listener with their destination still on them."""
import json
import pathlib
import signal
import socket

import lab
from flow import talk

UPSTREAM = "socks5://10.91.3.2:1080"
SO_MARK = 36

BYPASS = "11.7.0.0/16,2a00:1:7::/48"

NOTRACK = """
table inet raw {
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        notrack
    }
    chain output {
        type filter hook output priority raw; policy accept;
        notrack
    }
}
"""

IPV4 = ("11.0.0.1", "10.91.3.2")
IPV6 = ("2a00:1::1", "fd91:0:3::2")
# The same where the server sees the host itself.
HOST_ITSELF = (("11.0.0.1", "10.91.0.2"), ("2a00:1::1", "fd91::2"))


def url(address, port=80):
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


class Tproxy(lab.TestCase):
    def start(self, kind, mode="tproxy", listen=None, upstream=UPSTREAM):
        t = self.build(kind)
        t.daemon_host = t.gateway if kind == "gateway" else t.host
        t.inet.peer("http", "::", 80)
        t.usocksd = t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        if listen is None:
            listen = ":1081" if kind == "gateway" else "localhost:1081"
        t.transocksd = t.daemon_host.transocksd(
            f'listen = "{listen}"\nmode = "{mode}"\nproxy_url = "{upstream}"\n')
        return t

    def install(self, t, *flags):
        gateway = ["--gateway", "lan0"] if t.daemon_host is not t.host else []
        t.daemon_host.rules("install", "--mode", "tproxy", "--bypass", BYPASS, *gateway, *flags)

    def page(self, host, address, source, port=80, **options):
        page = host.curl(url(address, port), **options).stdout
        self.assertEqual(page, f"This is {address}, and you came from {source}.\n")

    def proxied(self, t, client, addresses):
        """Both families go through the daemon, which knows where to and where from."""
        for family in (IPV4, IPV6):
            self.page(client, *family)
        records = t.transocksd.wait_records(2)
        self.assertEqual([r["dest_addr"] for r in records], ["11.0.0.1:80", "[2a00:1::1]:80"])
        clients = [r["client_addr"].rpartition(":")[0].strip("[]") for r in records]
        self.assertEqual(clients, addresses)
        self.assertEqual({r["end"] for r in records}, {"done"})

    def test_host(self):
        """The default listener, localhost:1081, is enough: flows of this host arrive from lo."""
        t = self.start("host")
        self.install(t)
        self.proxied(t, t.host, ["10.91.0.2", "fd91::2"])

    def test_gateway(self):
        t = self.start("gateway")
        self.install(t)
        self.proxied(t, t.client, ["10.91.1.2", "fd91:0:1::2"])

    def test_gateway_itself(self):
        t = self.start("gateway")
        self.install(t)
        self.proxied(t, t.gateway, ["10.91.2.2", "fd91:0:2::2"])

    def test_upstream_direct(self):
        """The daemon's own connections bear its mark, and are not taken again."""
        t = self.start("host", upstream="direct://")
        self.install(t)
        for address, source in HOST_ITSELF:
            self.page(t.host, address, source)
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(2)}, {"done"})

    def direct(self, t, client, sources):
        for address, source in zip(("11.7.0.1", "2a00:1:7::1"), sources):
            self.page(client, address, source)
        self.assertEqual(t.transocksd.lines(type="access"), [])

    def test_ranges_stay_direct(self):
        t = self.start("host")
        self.install(t)
        self.direct(t, t.host, ("10.91.0.2", "fd91::2"))
        t = self.start("gateway")
        self.install(t)
        self.direct(t, t.client, ("10.91.1.2", "fd91:0:1::2"))

    def test_mark_stays_direct(self):
        t = self.start("host")
        self.install(t)
        for address, source in HOST_ITSELF:
            with t.host.inside():
                sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            with sock:
                sock.settimeout(lab.LONG)
                sock.setsockopt(socket.SOL_SOCKET, SO_MARK, 0x1000)
                sock.connect((address, 80))
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                self.assertIn(f"came from {source}.".encode(), sock.recv(65536))
        self.assertEqual(t.transocksd.lines(type="access"), [])

    @lab.needs_uids
    def test_uid_stays_direct(self):
        t = self.start("host")
        self.install(t)
        for address, source in HOST_ITSELF:
            self.page(t.host, address, source, user="transocks")
        self.assertEqual(t.transocksd.lines(type="access"), [])

    def conntrack_entries(self, host):
        with host.inside():
            return int(pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())

    def live_through(self, t, old):
        """Connections from before, and proxied ones, live through install, reinstall and flush."""
        self.assertEqual(self.conntrack_entries(t.daemon_host), 0)
        self.assertTrue(all(map(talk, old)), "before anything has been done to them")
        self.install(t)
        self.assertTrue(all(map(talk, old)), "after install")
        proxied = [self.open(t.client, address) for address in (IPV4[0], IPV6[0])]
        self.assertTrue(all(map(talk, old + proxied)), "after new flows")
        for _ in range(3):
            self.install(t)
            self.assertTrue(all(map(talk, old + proxied)), "after a reinstall")
        for sock in proxied:
            sock.close()
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(2)}, {"done"})
        t.daemon_host.rules("flush")
        self.assertTrue(all(map(talk, old)), "after flush")

    def open(self, host, address, port=7, source=None):
        sock = host.connect(address, port, source=source)
        self.addCleanup(sock.close)
        return sock

    def test_survival_on_the_host(self):
        t = self.start("host")
        t.inet.peer("echo", "::", 7)
        t.host.peer("echo", "::", 2222)
        self.live_through(t, [
            self.open(t.host, IPV4[0]), self.open(t.host, IPV6[0]),
            self.open(t.inet, "10.91.0.2", 2222, ("11.3.0.1", 0)),
            self.open(t.inet, "fd91::2", 2222, ("2a00:1:3::1", 0))])

    def test_survival_through_the_gateway(self):
        t = self.start("gateway")
        t.inet.peer("echo", "::", 7)
        self.live_through(t, [self.open(t.client, IPV4[0]), self.open(t.client, IPV6[0])])

    def test_forwarded_flows_without_conntrack(self):
        t = self.start("gateway")
        t.gateway.nft(NOTRACK)
        self.install(t)
        self.proxied(t, t.client, ["10.91.1.2", "fd91:0:1::2"])
        self.assertEqual(self.conntrack_entries(t.gateway), 0)

    def test_our_own_port(self):
        """Who connects to the port itself is refused; the same port elsewhere is a destination."""
        t = self.start("gateway")
        t.inet.peer("http", "::", 1081)
        ours = ("10.91.1.1", "fd91:0:1::1", "10.91.2.2")
        for address in ours:
            self.assertEqual(t.client.expect_reset(address, 1081), b"")
        for address in ("127.0.0.1", "127.0.0.2", "::1", "10.91.1.1"):
            self.assertEqual(t.gateway.expect_reset(address, 1081), b"")
        records = t.transocksd.wait_records(7)
        self.assertEqual({r["end"] for r in records}, {"not-redirected"})
        self.install(t)
        for address in ours[:2]:  # before the daemon sees it, by the guard
            self.assertRaises(ConnectionRefusedError, t.client.connect, address, 1081)
        t.gateway.sysctl("net.ipv4.ip_nonlocal_bind", 1)
        self.page(t.client, "11.0.0.1", "10.91.3.2", 1081)
        self.page(t.client, "2a00:1::1", "fd91:0:3::2", 1081)
        self.assertEqual([r["end"] for r in t.transocksd.wait_records(9)[7:]], ["done"] * 2)

    def test_routes_are_part_of_it(self):
        """Without them marked packets go nowhere: status sees it, install mends it, flush removes them."""
        t = self.start("host")
        before = [t.host.run("ip", ip, "rule").stdout for ip in ("-4", "-6")]
        self.install(t)
        flags = ("--mode", "tproxy", "--bypass", BYPASS)
        self.assertEqual(t.host.rules("status", *flags).returncode, 0)
        t.host.run("ip", "-6", "rule", "del", "pref", "1081")
        t.host.run("ip", "route", "flush", "table", "1081")
        missing = ["missing: ip -6 rule pref 1081 fwmark 0x10/0x10 lookup 1081 protocol 84",
                   "missing: ip route local default dev lo table 1081 protocol 84"]
        for command in ("status", "diff"):
            done = t.host.rules(command, *flags, check=False)
            self.assertEqual(done.returncode, 4, done.stdout)
            for line in missing:
                self.assertIn(line, done.stdout)
            found = json.loads(t.host.rules(command, *flags, "--json", check=False).stdout)
            self.assertEqual(sorted(found["routes"]), missing)
        self.install(t)
        self.proxied(t, t.host, ["10.91.0.2", "fd91::2"])
        t.host.rules("flush")
        after = [t.host.run("ip", ip, "rule").stdout for ip in ("-4", "-6")]
        self.assertEqual(after, before)
        self.assertEqual(t.host.run("ip", "route", "show", "table", "1081", check=False).stdout, "")

    def test_routes_of_others_in_the_way(self):
        """What install would refuse is no good state either."""
        t = self.start("host")
        self.install(t)
        flags = ("--mode", "tproxy", "--bypass", BYPASS)
        for item, text in (("route add 11.9.0.0/16 dev lo table 1081", "route table 1081 protocol 3"),
                           ("rule add pref 9 lookup 1081 protocol 84", "rule pref 9 lookup 1081 protocol 84")):
            t.host.run("ip", *item.split())
            for command in ("status", "diff"):
                done = t.host.rules(command, *flags, check=False)
                self.assertEqual(done.returncode, 4, done.stdout)
                self.assertIn(f"in the way: ip {text}\n", done.stdout)
            found = json.loads(t.host.rules("diff", *flags, "--json", check=False).stdout)
            self.assertEqual((found["in_the_way"], found["differences"]), (text, []))
            self.assertIn(text, t.host.rules("install", *flags, check=False).stderr)
            t.host.run("ip", *item.replace(" add ", " del ").split())
            self.assertEqual(t.host.rules("status", *flags).returncode, 0)

    def test_another_mode_takes_the_routes_away(self):
        t = self.start("host")
        self.install(t)
        t.host.rules("install", "--force")
        self.assertNotIn("1081", t.host.run("ip", "rule").stdout)

    def test_family_that_is_taken_no_more(self):
        """Its live flows go on, from the host and through it, for good and on trial; no drift is left."""
        t = self.start("gateway", upstream="direct://")
        t.inet.peer("echo", "::", 7)
        flags = ("--mode", "tproxy", "--gateway", "lan0", "--bypass", BYPASS, "--family", "ipv4")
        for trial in ((), ("--confirm", "50s")):
            self.install(t)
            live = [self.open(host, address) for host in (t.client, t.gateway) for address in (IPV4[0], IPV6[0])]
            t.gateway.rules("install", *flags, *trial)
            self.assertTrue(all(map(talk, live)), f"after install {trial}")
            if trial:
                t.gateway.rules("confirm")
            self.assertTrue(all(map(talk, live)))
            self.assertEqual(t.gateway.rules("status", *flags, check=False).returncode, 0)
            for sock in live:
                sock.close()
        t.gateway.rules("flush")
        self.assertNotIn("1081", t.gateway.run("ip", "-6", "rule").stdout)
        t.gateway.rules("install", *flags)
        self.assertNotIn("1081", t.gateway.run("ip", "-6", "rule").stdout)

    def test_gateway_interface_that_is_taken_no_more(self):
        """Its live flows go on, for good and after a trial, though routing does not ask the socket first."""
        t = self.start("gateway", upstream="direct://")
        t.inet.peer("echo", "::", 7)
        t.gateway.sysctl("net.ipv4.tcp_early_demux", 0)
        without, gateway = ("install", "--mode", "tproxy", "--bypass", BYPASS), ("--gateway", "lan0")
        t.gateway.rules(*without, *gateway)
        live = [self.open(t.client, address) for address in (IPV4[0], IPV6[0])]
        t.gateway.rules(*without)
        self.assertTrue(all(map(talk, live)))
        t.gateway.rules(*without, *gateway, "--confirm", "1s")
        live += [self.open(t.client, address) for address in (IPV4[0], IPV6[0])]
        lab.wait_until(lambda: "previous_" not in t.gateway.ruleset(), 20)
        self.assertTrue(all(map(talk, live)))
        t.gateway.rules(*without, *gateway)
        t.gateway.rules(*without, "--confirm", "50s")
        self.assertTrue(all(map(talk, live)))

    def test_our_own_port_behind_the_gateway(self):
        """What comes by another interface is no business of ours, also where it wants our port."""
        t = self.start("gateway")
        self.install(t)
        t.gateway.sysctl("net.ipv4.tcp_early_demux", 0)
        t.client.peer("http", "::", 1081)
        for address, source in (("10.91.1.2", "10.91.2.1"), ("fd91:0:1::2", "fd91:0:2::1")):
            self.page(t.inet, address, source, 1081)
        self.assertEqual(t.transocksd.lines(type="access"), [])

    def test_change_that_cuts_live_flows(self):
        """Another mode or mark is refused while flows of the rules that are there live; nothing is said without."""
        tproxy, redirect = ("--mode", "tproxy", "--bypass", BYPASS), ("--port", 1082, "--bypass", BYPASS)
        for one, other, what in ((tproxy, redirect, "mode"), (redirect, tproxy, "mode"),
                                 (tproxy, (*tproxy, "--tproxy-mark", "0x20/0x20"), "tproxy_mark")):
            t = self.start("host", upstream="direct://")  # a new one: the daemon does not see that a flow was cut
            t.inet.peer("echo", "::", 7)
            t.host.transocksd('listen = "localhost:1082"\nproxy_url = "direct://"\n')
            for flags in (other, one):
                self.assertNotIn("cuts", t.host.rules("install", *flags).stderr)
            live = [self.open(t.host, address) for address in (IPV4[0], IPV6[0])]
            self.assertTrue(all(map(talk, live)))
            before = t.host.run("ip", "rule").stdout
            done = t.host.rules("install", *other, check=False)
            words = f"another {what} cuts 2 live redirected flows of the rules that are there: flush first"
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr)
            self.assertEqual(t.host.run("ip", "rule").stdout, before)
            t.host.rules("install", *one)
            self.assertTrue(all(map(talk, live)))
            self.assertIn(words, t.host.rules("install", *other, "--force").stderr)

    def test_two_modes_at_once(self):
        """Whoever comes last: its table and its routes belong together."""
        t = self.start("host")
        ways = [("--mode", "tproxy"), (), ("--mode", "tproxy", "--tproxy-mark", "0x40/0x40")]
        for _ in range(4):
            procs = [t.host.spawn(lab.BUILD / "transocks-rules", "install", "--force",
                                  "--uid", lab.RULES_UID, *ways[i % 3]) for i in range(12)]
            self.assertEqual({p.wait(30) for p in procs} - {6}, {0})
            found = [t.host.rules("status", *way, check=False).returncode in (0, 5) for way in ways]
            self.assertEqual(sum(found), 1, found)

    def test_nothing_is_left_where_the_table_fails(self):
        t = self.start("host")
        t.host.nft("add table inet transocks")  # somebody else's
        done = t.host.rules("install", "--mode", "tproxy", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not ours", done.stderr)
        self.assertNotIn("1081", t.host.run("ip", "rule").stdout)

    def test_rules_of_the_other_mode(self):
        """REDIRECT to a daemon that waits for TPROXY is refused, not carried to our own address."""
        t = self.start("host")
        t.host.rules("install", "--force")
        t.host.expect_reset("11.0.0.1", 80)
        (record,) = t.transocksd.wait_records(1)
        self.assertEqual(record["end"], "not-redirected")
        self.assertIn("tproxy", record["error"])

    def test_loop(self):
        """Rules that skip neither mark nor user bring our own connection back; it is refused."""
        for upstream in (UPSTREAM.replace("10.91.3.2", "11.0.0.9"), "direct://"):
            t = self.start("host", upstream=upstream, listen=":1081")
            self.install(t, "--uid", 4242, "--mark", "0/0")
            t.host.expect_reset("11.0.0.1", 80)
            t.transocksd.wait_line(type="access", end="loop")
            self.assertLess(len(t.transocksd.lines(type="access")), 5)

    def test_reload(self):
        """The mode stays what the listeners were made for, until a restart."""
        t = self.start("host", mode="redirect")
        t.host.rules("install")
        config = t.transocksd.config
        config.write_text(config.read_text().replace('mode = "redirect"', 'mode = "tproxy"'))
        t.transocksd.signal(signal.SIGHUP)
        t.transocksd.wait_line(severity="warning", message="a reload cannot change these options, "
                                 'restart for that: mode (still "redirect")')
        t.transocksd.wait_log("configuration reloaded")
        self.proxied(t, t.host, ["10.91.0.2", "fd91::2"])

    @lab.needs_uids
    def test_without_the_capability(self):
        t = self.build("host")
        daemon = t.host.transocksd('mode = "tproxy"\nproxy_url = "direct://"\ncontrol = ""\n',
                                   wait=False, user="nobody")
        self.assertEqual(daemon.wait(), 77)
        self.assertRegex(daemon.log(), r"cannot listen on 127.0.0.1:1081: .*CAP_NET_RAW")


if __name__ == "__main__":
    lab.main()
