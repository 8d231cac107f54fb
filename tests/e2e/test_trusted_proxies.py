# SPDX-License-Identifier: MIT
"""usocksd behind a gateway with transocksd: whoever is named in its PROXY v2 header is the client."""
import ipaddress
import json
import struct
import time

import flow
import lab
import test_usocksd

HOSTS = ("10.91.1.2", "10.91.1.3", "10.91.1.4")
GREETING, REQUEST = test_usocksd.GREETING, test_usocksd.request("11.0.0.1", 80)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
USOCKSD = """
[incoming]
allow_from = ["10.91.1.0/24", "fd91:0:1::/64"]
trusted_proxies = ["10.91.2.2", "fd91:0:2::2"]
"""


def header(client, port=40000, authority=None, dest="11.0.0.1"):
    """PROXY v2 over TCP, with an authority (type 2) if there is one."""
    a, b = ipaddress.ip_address(client).packed, ipaddress.ip_address(dest).packed
    body = a + b + struct.pack("!HH", port, 80)
    if authority is not None:
        body += struct.pack("!BH", 2, len(authority)) + authority
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + (b"\x11" if len(a) == 4 else b"\x21") + struct.pack("!H", len(body)) + body


class Behind(lab.TestCase):
    """usocksd on `proxy`, its clients behind `gateway`."""

    def start(self, usocksd=USOCKSD, names=(), egress=()):
        t = self.build("gateway")
        t.proxy.ip("".join(f"addr add {a}/24 dev wan0\n" for a in egress))
        t.client.ip("".join(f"addr add {a}/24 dev eth0\n" for a in HOSTS[1:]))
        t.inet.peer("http", "::", 80)
        t.inet.peer("echo", "11.0.0.1", 7)
        t.inet.peer("dns", "11.0.0.53", 53, *names)
        t.usocksd = t.proxy.usocksd("workers = 1\n" + usocksd + '[dns]\nservers = ["11.0.0.53"]\n')
        t.count = 0
        return t

    def talk(self, t, sent, host=None, to="10.91.3.2"):
        """What comes back until the end of file, or ten bytes behind the choice of method; "reset" for that."""
        got = b""
        t.count += 1
        try:
            with (host or t.gateway).connect(to, 1080) as sock:
                sock.sendall(sent)
                while len(got) < 12 and (data := sock.recv(12 - len(got))):
                    got += data
        except ConnectionResetError:
            return "reset"
        return got

    def record(self, t):
        return t.usocksd.wait_records(t.count)[-1]

    def gateway(self, t, more=""):
        t.transocksd = t.gateway.transocksd('listen = ":1081"\n[[upstream]]\nurl = "socks5://10.91.3.2:1080"\n'
                                            f'proxy_protocol = true\n{more}')
        t.gateway.rules("install", "--gateway", "lan0")


class Trusted(Behind):
    def test_three_clients(self):
        t = self.start()
        self.gateway(t)
        for number, host in enumerate(HOSTS):
            page = t.client.curl("--interface", host, "http://11.0.0.1/").stdout
            self.assertIn("you came from 10.91.3.2.", page)
            record = t.usocksd.wait_records(number + 1)[-1]
            self.assertEqual(record["client_addr"].rpartition(":")[0], host)
            self.assertEqual(record["via"].rpartition(":")[0], "10.91.2.2")
        t.client.curl("http://[2a00:1::1]/")
        self.assertIn("[fd91:0:1::", t.usocksd.wait_records(4)[-1]["client_addr"])

    def test_rules_are_of_the_client(self):
        t = self.start(USOCKSD.replace("10.91.1.0/24", "10.91.1.2"))
        self.gateway(t)
        self.assertIn("you came from", t.client.curl("--interface", HOSTS[0], "http://11.0.0.1/").stdout)
        self.assertNotEqual(t.client.curl("--interface", HOSTS[1], "http://11.0.0.1/", check=False).returncode, 0)
        record = t.usocksd.wait_line(end="client-refused")
        self.assertEqual((record["client_addr"].rpartition(":")[0], record["via"].rpartition(":")[0]),
                         (HOSTS[1], "10.91.2.2"))

    def test_probes_find_us(self):
        """A header without a client, from a proxy that is no client itself."""
        t = self.start()
        self.gateway(t, '[group.default]\nprobe_interval = "1s"\n')
        t.usocksd.wait_line(end="client-gone")
        self.assertIn("you came from", t.client.curl("http://11.0.0.1/").stdout)
        self.assertEqual([x for x in t.transocksd.log().splitlines() if "healthy" in x and "warning" in x], [])

    def test_headers(self):
        t = self.start()
        served, known = b"\x05\x00\x05\x00", b"\x05\x00"
        rows = (
            (header(HOSTS[0]), served, "done", f"{HOSTS[0]}:40000", True),
            (header("fd91:0:1::9", dest="2a00:1::1"), served, "done", "[fd91:0:1::9]:40000", True),
            (header("::ffff:10.91.1.7", dest="::ffff:11.0.0.1"), served, "done", "10.91.1.7:40000", True),
            # Not one of ours, and it learns nothing.
            (header("10.91.9.9"), "reset", "client-refused", "10.91.9.9:40000", True),
            (header("127.0.0.1"), "reset", "client-refused", "127.0.0.1:40000", True),
            # The proxy itself, which may look, but is no client.
            (LOCAL, known + b"\x05\x02", "client-refused", None, False),
            (b"", known + b"\x05\x02", "client-refused", None, False),
            # A second header is no SOCKS.
            (header(HOSTS[0]) * 2, b"", "bad-request", f"{HOSTS[0]}:40000", True),
            (b"PROXY TCP4 10.91.1.2 11.0.0.1 40000 80\r\n", b"", "bad-request", None, False),
            (LOCAL[:-4] + b"\x22\0\0\0", b"", "bad-request", None, False),
            (LOCAL[:12] + b"\x21\x11\x00\x04abcd", b"", "bad-request", None, False),
            (LOCAL[:12] + b"\x21\x11\xff\xff", b"", "bad-request", None, False))
        for sent, expected, end, client, named in rows:
            with self.subTest(sent):
                got = self.talk(t, sent + GREETING + REQUEST)
                self.assertEqual(got if expected in ("reset", b"") else got[:4], expected)
                record = self.record(t)
                self.assertEqual((record["end"], "via" in record), (end, named))
                if client is not None:
                    self.assertEqual(record["client_addr"], client)

    def test_from_nobody_who_is_trusted(self):
        t = self.start()
        for sent in (header("10.91.1.2"), LOCAL, b"PROXY TCP4 10.91.1.2 11.0.0.1 40000 80\r\n"):
            # It is a client, so that it is answered at all.
            self.assertEqual(self.talk(t, sent + GREETING + REQUEST, t.client), b"")
            record = self.record(t)
            self.assertEqual((record["end"], record["error"]), (
                "bad-request", "a PROXY protocol header, from nobody in incoming.trusted_proxies"))
            self.assertTrue(record["client_addr"].startswith("10.91.1."))
            self.assertNotIn("via", record)
        self.assertEqual(self.talk(t, GREETING + REQUEST, t.client)[:4], b"\x05\x00\x05\x00")
        # Nobody is, by default.
        t = self.start(USOCKSD.replace("trusted", "#trusted").replace('["10.91.1', '["10.91.2.2", "10.91.1'))
        self.assertEqual(self.talk(t, header("10.91.1.2") + GREETING + REQUEST), b"")
        self.assertEqual(self.talk(t, GREETING + REQUEST)[:4], b"\x05\x00\x05\x00")

    def test_in_pieces(self):
        t = self.start()
        with t.gateway.connect("10.91.3.2", 1080) as sock:
            sock.setsockopt(lab.socket.IPPROTO_TCP, lab.socket.TCP_NODELAY, 1)
            for byte in header(HOSTS[0], authority=b"www.test") + GREETING + REQUEST:
                sock.sendall(bytes([byte]))
            got = b""
            while len(got) < 12 and (data := sock.recv(12 - len(got))):
                got += data
        self.assertEqual(got[:4], b"\x05\x00\x05\x00")

    def test_the_name_is_a_claim(self):
        """It is enough to be refused, not to be let in."""
        names = ("good.test=11.0.0.1", "evil.test=11.0.0.1")
        t = self.start(USOCKSD + '[outgoing]\ndeny_sites = ["evil.test", ".evil.test"]\n', names)
        by_name = test_usocksd.request("good.test", 80)
        for authority, request, code, host, named_by in (
                (b"good.test", REQUEST, 0, "good.test", "proxy"), (b"evil.test", REQUEST, 2, "evil.test", "proxy"),
                (b"WWW.Evil.test.", REQUEST, 2, "www.evil.test", "proxy"), (b"evil.test", by_name, 2, "evil.test", "proxy"),
                (b"other.test", by_name, 0, "good.test", None), (b"no name!", REQUEST, 0, None, None),
                (b"good.test", test_usocksd.request("evil.test", 80), 2, "evil.test", None),
                (b"evil.test", test_usocksd.request("11.0.0.1", 80, kind=None), 2, "evil.test", "proxy")):
            with self.subTest((authority, request)):
                got = self.talk(t, header(HOSTS[0], authority=authority) + GREETING + request)
                self.assertEqual(got[:4], bytes([5, 0, 5, code]))
                record = self.record(t)
                self.assertEqual((record.get("dest_host"), record.get("name_from")), (host, named_by))
                self.assertEqual(record["end"], "done" if code == 0 else "site-refused")
        t = self.start(USOCKSD + '[outgoing]\nallow_sites = ["good.test"]\n', names)
        for authority, request, code in ((b"good.test", REQUEST, 2), (b"good.test", by_name, 0), (b"x.test", by_name, 0)):
            got = self.talk(t, header(HOSTS[0], authority=authority) + GREETING + request)
            self.assertEqual(got[:4], bytes([5, 0, 5, code]))

    def test_sniffed_name_from_transocksd(self):
        """What a client says in its first bytes, told beside the address."""
        t = self.start(USOCKSD + '[outgoing]\ndeny_sites = ["evil.test"]\n')
        self.gateway(t, 'address = "ip"\n')
        self.assertIn("you came from", t.client.curl("-H", "Host: good.test", "http://11.0.0.1/").stdout)
        self.assertNotEqual(t.client.curl("-H", "Host: evil.test", "http://11.0.0.1/", check=False).returncode, 0)
        t.usocksd.wait_line(end="site-refused")  # perhaps twice: transocksd may have tried one flight
        records = t.usocksd.lines(type="access")
        self.assertEqual({(r["dest_host"], r["dest_addr"], r["name_from"], r["end"]) for r in records}, {
            ("good.test", "11.0.0.1:80", "proxy", "done"), ("evil.test", "11.0.0.1:80", "proxy", "site-refused")})

    def test_kept_ready(self):
        """Longer than a client may take: with the greeting done, and without it where a header is to come first."""
        t = self.start(USOCKSD + '[timeouts]\nhandshake = "1s"\nrequest = "10m"\n')
        for first, then in ((GREETING, REQUEST), (LOCAL + GREETING, REQUEST), (b"", header(HOSTS[0]) + GREETING + REQUEST),
                            (header(HOSTS[0]) + GREETING, REQUEST)):
            with t.gateway.connect("10.91.3.2", 1080) as sock:
                sock.sendall(first)
                time.sleep(1.5)
                sock.sendall(then)
                got = b""
                while len(got) < 12 and (data := sock.recv(12 - len(got))):
                    got += data
                self.assertEqual(got[:3], b"\x05\x00\x05")
        # A client has no such time.
        self.assertEqual(t.usocksd.lines(end="request-timeout"), [])
        self.talk(t, b"", t.client)
        t.usocksd.wait_line(end="request-timeout")

    def test_warm_connections_from_transocksd(self):
        t = self.start(USOCKSD + '[timeouts]\nhandshake = "1s"\n')
        self.gateway(t, "warm = 4\n")
        t.client.curl("http://11.0.0.1/")
        time.sleep(1.5)
        self.assertEqual(t.usocksd.lines(end="request-timeout"), [])
        self.assertIn("you came from", t.client.curl("--interface", HOSTS[1], "http://11.0.0.1/").stdout)
        self.assertEqual([r["client_addr"].rpartition(":")[0] for r in t.usocksd.wait_records(2)], [HOSTS[0], HOSTS[1]])

    def test_silence_is_bounded(self):
        t = self.start(USOCKSD + '[timeouts]\nrequest = "300ms"\n')
        for sent in (b"", LOCAL, header(HOSTS[0]), header(HOSTS[0])[:20], header(HOSTS[0]) + GREETING):
            self.talk(t, sent)
            self.assertEqual(self.record(t)["end"], "request-timeout")


class Networks(Behind):
    """Three networks of clients behind one gateway, for usocksd with three addresses."""

    # By the hash of a client's address each of these has another one.
    CLIENTS = {"10.91.11.6": "10.91.3.11", "10.91.12.6": "10.91.3.13", "10.91.13.7": "10.91.3.12"}
    EGRESS = tuple(CLIENTS.values())
    INCOMING = '[incoming]\nallow_from = ["10.91.11.0/24", "10.91.12.0/23"]\ntrusted_proxies = ["10.91.2.2"]\n'

    def start_networks(self, outgoing="", more=""):
        t = self.start(f"{self.INCOMING}[outgoing]\naddresses = {json.dumps(self.EGRESS)}\n{outgoing}\n{more}",
                       egress=self.EGRESS)
        for net in (11, 12, 13):
            t.gateway.ip(f"addr add 10.91.{net}.1/24 dev lan0")
            t.client.ip("".join(f"addr add 10.91.{net}.{h}/24 dev eth0\n" for h in range(5, 10)))
        self.gateway(t)
        return t

    def came_from(self, t, client, dest="11.0.0.1"):
        page = t.client.curl("--interface", client, f"http://{dest}/").stdout
        self.assertTrue(page.startswith(f"This is {dest}, and you came from "), page)
        return page.split()[-1].rstrip(".")

    def test_three_egress_addresses(self):
        t = self.start_networks()
        for number, (client, egress) in enumerate(self.CLIENTS.items()):
            seen = {self.came_from(t, client, f"11.0.0.{i}") for i in range(1, 6)}
            self.assertEqual(seen, {egress})
            for record in t.usocksd.wait_records(5 * (number + 1))[-5:]:
                hosts = [record[k].rpartition(":")[0] for k in ("client_addr", "via", "src_addr")]
                self.assertEqual(hosts, [client, "10.91.2.2", egress])

    def test_limits_are_of_each(self):
        t = self.start_networks(more="[limits]\nmax_flows_per_client = 2\n")
        held = {client: [self.flow(t, client) for _ in range(2)] for client in self.CLIENTS}
        # Six flows of one gateway; each client is at its limit, and one more of any is its own matter.
        self.assertEqual({e["address"]: e["flows"] for e in flow.status(t.proxy, t.usocksd)["egress"]},
                         dict.fromkeys(self.EGRESS, 2))
        for client in self.CLIENTS:
            self.assertRaises(ConnectionResetError, self.flow, t, client)
        refused = t.usocksd.wait_line(type="access", end="client-limit")  # of those that follow at once, the number
        self.assertEqual([refused[k].rpartition(":")[0] for k in ("client_addr", "via")],
                         [next(iter(self.CLIENTS)), "10.91.2.2"])
        # One ends, and it is that client's.
        first, *others = self.CLIENTS
        held[first][0].close()
        t.usocksd.wait_line(type="access", end="done")
        self.flow(t, first)
        for client in others:
            self.assertRaises(ConnectionResetError, self.flow, t, client)

    def flow(self, t, client):
        """One that has carried bytes both ways, and stays."""
        sock = t.client.connect("11.0.0.1", 7, source=(client, 0))
        self.addCleanup(sock.close)
        sock.sendall(client.encode())
        got = sock.recv(100)
        self.assertEqual(got, client.encode())
        return sock

    def test_a_network_with_an_address_of_its_own(self):
        users = "".join(f'[[outgoing.users]]\nclients = ["10.91.{net}.0/24"]\naddresses = ["{egress}"]\n'
                        for net, egress in zip((11, 12, 13), reversed(self.EGRESS)))
        t = self.start_networks(users)
        for net, egress in zip((11, 12, 13), reversed(self.EGRESS)):
            self.assertEqual({self.came_from(t, f"10.91.{net}.{h}") for h in range(5, 10)}, {egress})


if __name__ == "__main__":
    lab.main()
