# SPDX-License-Identifier: MIT
"""The iptables backend, with iptables-legacy and with iptables-nft, by packets."""
import json
import pathlib
import socket

import lab
from flow import talk
from iptables import IptablesCase

UPSTREAM = "socks5://10.91.3.2:1080"
SO_MARK, IP_TRANSPARENT, IPV6_TRANSPARENT = 36, 19, 75
DIRECT = {"11.0.0.1": "10.91.0.2", "2a00:1::1": "fd91::2"}
PROXIED = {"11.0.0.1": "10.91.3.2", "2a00:1::1": "fd91:0:3::2"}


class Traffic(IptablesCase):
    def start(self, kind):
        t = self.build(kind)
        t.on = t.gateway if kind == "gateway" else t.host
        t.inet.peer("echo", "::", 7)
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.transocksd = t.on.transocksd(f'listen = ":1081"\nproxy_url = "{UPSTREAM}"\n')
        return t

    def came_from(self, host, address, user=None):
        url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
        return host.curl(url, user=user).stdout.rpartition("came from ")[2].rstrip(".\n")

    def came_from_marked(self, t, address, mark):
        with t.inet.listen(address, 81) as server:
            with t.host.inside():
                sock = socket.socket(server.family)
            with sock:
                sock.settimeout(lab.LONG)
                sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
                sock.connect((address, 81))
                with server.accept()[0] as far:
                    return far.getpeername()[0]

    @lab.needs_uids
    def test_what_is_taken(self):
        t = self.start("host")
        self.rules(t.host, "install", "--bypass", "11.5.0.0/16,2a00:1:5::/48",
                   "--exempt-marks", "0x40000/0x40000", "--exempt-uids", "daemon")
        for address, skipped, private in (("11.0.0.1", "11.5.0.1", "10.91.0.1"),
                                          ("2a00:1::1", "2a00:1:5::1", "fd91::1")):
            direct, proxied = DIRECT[address], PROXIED[address]
            self.assertEqual(self.came_from(t.host, address), proxied)
            self.assertEqual(self.came_from(t.host, address, "nobody"), proxied)
            self.assertEqual(self.came_from(t.host, address, "transocks"), direct)
            self.assertEqual(self.came_from(t.host, address, "daemon"), direct)
            self.assertEqual(self.came_from(t.host, skipped), direct)
            self.assertEqual(self.came_from(t.host, private), direct)
            for mark, source in ((0x1000, direct), (0x51000, direct), (0x40000, direct),
                                 (0x2000, proxied)):
                self.assertEqual(self.came_from_marked(t, address, mark), source, hex(mark))
        for address in ("127.0.0.1", "::1", "10.91.0.2", "fd91::2"):
            with self.assertRaises(ConnectionRefusedError):
                t.host.connect(address, 1081)
        for address in ("10.91.0.2", "fd91::2"):
            with self.assertRaises(ConnectionRefusedError):
                t.inet.connect(address, 1081)

    def test_gateway(self):
        t = self.start("gateway")
        self.rules(t.gateway, "install", "--gateway", "lan0", "--ports", "80,1000-1010")
        for address, direct, near in (("11.0.0.1", "10.91.1.2", "10.91.1.1"),
                                      ("2a00:1::1", "fd91:0:1::2", "fd91:0:1::1")):
            self.assertEqual(self.came_from(t.client, address), PROXIED[address])
            with t.inet.listen(address, 81) as server, t.client.connect(address, 81):
                self.assertEqual(server.accept()[0].getpeername()[0], direct)
            with self.assertRaises(ConnectionRefusedError):
                t.client.connect(near, 1081)
            with t.client.listen(direct, 8080) as inside, t.inet.connect(direct, 8080) as outside:
                inside.accept()[0].close()
                outside.recv(1)

    def opened(self, t):
        found = []
        for address in ("11.0.0.1", "2a00:1::1"):
            found.append(t.client.connect(address, 7))
            self.addCleanup(found[-1].close)
            self.assertTrue(talk(found[-1]))
        return found

    def survive(self, kind, installs, *args):
        """Flows from before the rules, while the kernel does not track them yet, and proxied ones."""
        t = self.start(kind)
        old = self.opened(t)
        with t.on.inside():
            count = pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text()
        self.assertEqual(int(count), 0)
        self.rules(t.on, "install", *args)
        self.assertTrue(all(map(talk, old)), "after install")
        proxied = self.opened(t)
        self.assertIn("2 redirected flows would be cut",
                      self.rules(t.on, "flush", "--now", "--dry-run").stdout)
        self.assertIn("when 2 redirected flows have ended",
                      self.rules(t.on, "flush", "--dry-run").stdout)
        for number in range(installs):
            self.rules(t.on, "install", *args)
            self.assertTrue(all(map(talk, old + proxied)), f"after reinstall {number}")
        self.assertEqual(t.transocksd.lines(type="access"), [])
        left = self.rules(t.on, "flush", "--drain", "0", code=6)
        self.assertIn("2 redirected flows are left: new flows go direct already", left.stderr)
        direct = self.opened(t)
        self.assertTrue(all(map(talk, old + proxied + direct)), "paused")
        for sock in proxied:
            sock.close()
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(2)}, {"done"})
        self.assertEqual(self.rules(t.on, "flush").stdout,
                         "removed rules of iptables; 0 redirected flows cut\n")
        self.assertTrue(all(map(talk, old + direct)), "after flush")
        self.opened(t)
        t.transocksd.wait_records(2)

    @lab.needs_uids
    def test_live_connections_of_the_host(self):
        self.survive("host", 20)

    def test_live_connections_through_the_gateway(self):
        self.survive("gateway", 5, "--gateway", "lan0")

    @lab.needs_uids
    def test_live_connections_to_an_earlier_port(self):
        """Also of a family that is not taken any more, and through a trial."""
        t = self.start("host")
        self.rules(t.host, "install")
        live = self.opened(t)
        for args in (("--port", 1082), ("--port", 1083, "--family", "ipv4"), ("--port", 1084),
                     ("--port", 1082, "--mode", "tproxy")):
            self.rules(t.host, "install", "--force", *args)
            self.assertTrue(all(map(talk, live)), args)
            self.rules(t.host, "diff", *args)
            status = json.loads(self.rules(t.host, "status", *args, "--json", code=5).stdout)
            self.assertEqual((status["in_sync"], status["flows"]), (True, 2))
        self.rules(t.host, "install", "--port", 1082, "--family", "ipv4")
        self.assertIn("no rules of iptables are installed for IPv6",
                      self.rules(t.host, "test", "[2a00:1::1]:80", code=3).stderr)
        self.assertIn("2 redirected flows are left", self.rules(t.host, "flush", "--drain", "0", code=6).stderr)
        self.assertTrue(all(map(talk, live)), "paused")
        self.rules(t.host, "install", "--port", 1081)
        self.rules(t.host, "install", "--port", 1085, "--confirm", "1s")
        lab.wait_until(lambda: "TRIAL" not in self.saved(t.host), 20)
        self.assertTrue(all(map(talk, live)), "after a trial")
        self.rules(t.host, "diff")
        keep = self.saved(t.host, "ip6tables-save").count("-A TRANSOCKS_KEEP ")
        self.assertEqual(keep, 3)  # of 1083 were only rules of IPv4
        for sock in live:
            sock.close()
        t.transocksd.wait_records(2)
        self.rules(t.host, "flush")
        self.assertNotIn("TRANSOCKS", self.saved(t.host))

    @lab.needs_uids
    def test_share(self):
        """The same clients every time, about as many as wanted, and more with a larger share."""
        t = self.build("host")
        server = t.inet.listen("11.0.0.1", 80, backlog=512)
        self.addCleanup(server.close)
        sources = [f"10.91.0.{n}" for n in range(50, 200)]
        t.host.ip("\n".join(f"addr add {x}/24 dev eth0" for x in sources))

        def taken(share):
            self.rules(t.host, "install", "--share", share)
            found = set()
            for source in sources:
                try:
                    t.host.connect("11.0.0.1", 80, source=(source, 0)).close()
                    server.accept()[0].close()
                except ConnectionRefusedError:  # nobody is at the port
                    found.add(source)
            return found

        few, again, many = taken(30), taken(30), taken(67)
        self.assertEqual(few, again)
        self.assertLess(few, many)
        self.assertIn(len(few), range(23, 68))  # 45 of 150, four standard deviations
        self.assertIn(len(many), range(77, 125))
        self.assertEqual((len(taken(0)), len(taken(100))), (0, len(sources)))

    @lab.needs_uids
    def test_quic(self):
        t = self.build("host")
        self.rules(t.host, "install", "--quic", "reject")

        def refused(address, port, payload, mark=0):
            with t.host.inside():
                sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                                     socket.SOCK_DGRAM)
            with sock, t.inet.inside(), socket.socket(sock.family, socket.SOCK_DGRAM) as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((address, port))
                server.settimeout(lab.LONG)
                sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
                sock.connect((address, port))
                try:
                    sock.send(payload)
                    self.assertEqual(server.recv(100), payload)
                    return False
                except (PermissionError, ConnectionRefusedError):
                    return True

        for address in ("11.0.0.1", "2a00:1::1"):
            self.assertTrue(refused(address, 443, b"\xc0" + b"x" * 50))
            self.assertFalse(refused(address, 443, b"\x40" + b"x" * 50), "of a live connection")
            self.assertFalse(refused(address, 444, b"\xc0" + b"x" * 50))
            self.assertFalse(refused(address, 443, b"\xc0" + b"x" * 50, mark=0x1000))
        for address in ("10.91.0.1", "fd91::1"):
            self.assertFalse(refused(address, 443, b"\xc0" + b"x" * 50))

    def transparent_listener(self, host):
        with host.inside():
            sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        sock.bind(("::", 1081))
        sock.listen()
        sock.settimeout(lab.LONG)
        self.addCleanup(sock.close)
        return sock

    def both_ways(self, live):
        for client, peer in live:
            for a, b in ((client, peer), (peer, client)):
                a.sendall(b"alive")
                self.assertEqual(b.recv(5, socket.MSG_WAITALL), b"alive")

    def tproxy(self, kind, *args):
        t = self.build(kind)
        t.on = t.gateway if kind == "gateway" else t.host
        t.inet.peer("echo", "::", 7)
        listener = self.transparent_listener(t.on)
        old = self.opened(t)
        self.rules(t.on, "install", "--mode", "tproxy", *args)
        live = []
        for address in ("11.0.0.1", "2a00:1::1"):
            client = t.client.connect(address, 7)
            self.addCleanup(client.close)
            peer = listener.accept()[0]
            self.addCleanup(peer.close)
            self.assertEqual(peer.getsockname()[0].replace("::ffff:", ""), address)
            live.append((client, peer))
        for _ in range(3):
            self.both_ways(live)
            self.assertTrue(all(map(talk, old)))
            self.rules(t.on, "install", "--mode", "tproxy", *args)
        before = self.saved(t.on), t.on.run("ip", "rule").stdout
        mode = ("--mode", "tproxy", *args)
        for what, n, change in (("mode", 2, ("--port", 1082)), ("mode", 2, ("--port", 1082, "--dry-run")),
                                ("tproxy_mark", 2, (*mode, "--tproxy-mark", "0x20/0x20")),
                                ("family", 1, (*mode, "--family", "ipv4")),
                                ("family", 1, (*mode, "--family", "ipv4", "--confirm", "1s"))):
            error = self.rules(t.on, "install", *change, code=1).stderr
            self.assertIn(f"another {what} cuts {n} live redirected flow", error)
        self.assertEqual((self.saved(t.on), t.on.run("ip", "rule").stdout), before)
        self.both_ways(live)
        with t.client.connect("10.91.3.1", 7) as private:
            self.assertTrue(talk(private))
        for address in ("10.91.0.2", "fd91::2") if kind == "host" else ("10.91.1.1", "fd91:0:1::1"):
            with self.assertRaises(ConnectionRefusedError):
                t.client.connect(address, 1081)
        self.assertIn('"flows":2,', self.rules(t.on, "status", "--mode", "tproxy", "--json",
                                               *args).stdout)
        self.rules(t.on, "flush", "--drain", "0", code=6)
        direct = self.opened(t)
        self.both_ways(live)
        for client, peer in live:
            client.close()
            peer.close()
        for change in (("--tproxy-mark", "0x20/0x20"), ("--tproxy-mark", "0x20/0x20", "--family", "ipv4")):
            self.assertNotIn("cuts", self.rules(t.on, "install", "--mode", "tproxy", *change, *args).stderr)
        self.rules(t.on, "flush")
        self.assertTrue(all(map(talk, old + direct)))
        self.opened(t)
        self.assertNotIn("1081", t.on.run("ip", "rule").stdout)

    @lab.needs_uids
    def test_tproxy_of_the_host(self):
        self.tproxy("host")

    def test_tproxy_at_the_gateway(self):
        self.tproxy("gateway", "--gateway", "lan0")


class LegacyTraffic(Traffic):
    variant = "legacy"


class NftTraffic(Traffic):
    variant = "nft"


del IptablesCase, Traffic  # what is left are the cases of a variant


if __name__ == "__main__":
    lab.main()
