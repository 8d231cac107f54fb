# SPDX-License-Identifier: MIT
"""usocksd as its clients see it: names, families, reply codes, and RFC 8305."""
import ipaddress
import json
import struct
import time

import lab
import peers

ZONE = ("four.test=11.0.0.1", "six.test=2a00:1::1", "both.test=11.0.0.1", "both.test=2a00:1::1",
        "dead6.test=2a00:1:8::1", "dead6.test=11.0.0.1", "dead4.test=11.8.0.1",
        "dead4.test=2a00:1::1", "silent.test=silent",
        *(f"many.test=11.8.0.{n}" for n in range(1, 8)), "many.test=11.0.0.1")

GREETING = b"\x05\x01\x00"


def request(destination, port, command=1, kind=None):
    """The bytes of a SOCKS5 request, RFC 1928 section 4."""
    try:
        raw = ipaddress.ip_address(destination).packed
        natural = 1 if len(raw) == 4 else 4
    except ValueError:
        raw = bytes([len(destination)]) + destination.encode()
        natural = 3
    kind = natural if kind is None else kind
    return struct.pack("!BBBB", 5, command, 0, kind) + raw + struct.pack("!H", port)


class Usocksd(lab.TestCase):
    def start(self, config=""):
        t = self.build("host")
        t.web = t.inet.peer("http", "::", 80)
        t.dns = t.inet.peer("dns", "10.91.0.1", 53, *ZONE)
        t.usocksd = t.host.usocksd(config + '[dns]\nservers = ["10.91.0.1"]\n')
        return t

    def ask(self, t, bytes_of_request):
        """Greeting and request by the book: (reply code, what else was in the reply, socket)."""
        sock = t.host.connect("127.0.0.1", 1080)
        self.addCleanup(sock.close)
        sock.sendall(GREETING)
        self.assertEqual(sock.recv(2), b"\x05\x00")
        sock.sendall(bytes_of_request)
        return (*self.reply(sock), sock)

    def reply(self, sock):
        head = self.exactly(sock, 4)
        self.assertEqual((head[0], head[2]), (5, 0))
        self.assertIn(head[3], (1, 4), "an address, never a name")
        bound = ipaddress.ip_address(self.exactly(sock, 4 if head[3] == 1 else 16))
        return head[1], (str(bound), struct.unpack("!H", self.exactly(sock, 2))[0])

    def exactly(self, sock, length):
        data = b""
        while len(data) < length:
            more = sock.recv(length - len(data))
            if not more:
                raise AssertionError(f"end of file after {data!r}")
            data += more
        return data

    def code(self, t, destination, port=80, command=1, kind=None):
        """The reply code; a failure must be followed by the end of file, not by a reset."""
        code, _, sock = self.ask(t, request(destination, port, command, kind))
        if code != 0:
            self.assertEqual(sock.recv(100), b"")
        return code

    def test_curl(self):
        t = self.start()
        for listener in ("127.0.0.1:1080", "[::1]:1080"):
            for option, url, source in (("--socks5", "http://11.0.0.1/", "10.91.0.2"),
                                        ("--socks5", "http://[2a00:1::1]/", "fd91::2"),
                                        ("--socks5-hostname", "http://four.test/", "10.91.0.2"),
                                        ("--socks5-hostname", "http://six.test/", "fd91::2"),
                                        ("--socks5-hostname", "http://both.test/", "fd91::2")):
                with self.subTest(listener=listener, option=option, url=url):
                    page = t.host.curl(option, listener, url).stdout
                    self.assertIn(f"you came from {source}.", page)
        records = t.usocksd.wait_records(10)
        self.assertEqual({r["end"] for r in records}, {"done"})
        self.assertIn("four.test", [r.get("dest_host") for r in records])
        self.assertIn("11.0.0.1:80", [r.get("dest_addr") for r in records])

    def test_bound_address_of_the_reply(self):
        t = self.start()
        for destination, own in (("11.0.0.1", "10.91.0.2"), ("2a00:1::1", "fd91::2"),
                                 ("four.test", "10.91.0.2")):
            code, bound, _ = self.ask(t, request(destination, 80))
            self.assertEqual((code, bound[0]), (0, own))
            self.assertIn(bound[1], [s[1] for s in t.host.sockets() if s[3] == 80])

    def test_reply_codes(self):
        # An ICMP error that comes while the kernel is still in connect(2) counts only at the next
        # SYN, a second later.
        t = self.start('[timeouts]\nconnect = "2500ms"\n')
        for destination, port, expected in (("11.0.0.1", 80, (0,)), ("11.0.0.1", 81, (5,)),
                                            ("2a00:1::1", 81, (5,)), ("both.test", 81, (5,)),
                                            ("nosuch.test", 80, (4,)),
                                            ("11.9.0.1", 80, (3, 4)), ("2a00:1:9::1", 80, (3, 4)),
                                            ("11.8.0.1", 80, (6,))):
            with self.subTest(destination=destination, port=port):
                self.assertIn(self.code(t, destination, port), expected)

    def test_wrong_command_and_address_type(self):
        t = self.start()
        for command in (0, 4, 9, 255):
            self.assertEqual(self.code(t, "11.0.0.1", command=command), 7, command)
        for kind in (0, 2, 5, 255):
            self.assertEqual(self.code(t, "11.0.0.1", kind=kind), 8, kind)

    def test_commands_that_are_not_served(self):
        for written, refused in ((["connect"], {2: "BIND", 3: "UDP ASSOCIATE"}),
                                 (["bind", "udp-associate"], {1: "CONNECT"})):
            t = self.start(f"[incoming]\ncommands = {json.dumps(written)}\n")
            for command in refused:
                self.assertEqual(self.code(t, "11.0.0.1", command=command), 7)
            with t.host.connect("127.0.0.1", 1080) as sock:
                sock.sendall(struct.pack("!BBH4sx", 4, min(refused), 80, b"\x0b\0\0\1"))
                self.assertEqual(self.exactly(sock, 8)[:2], b"\0\x5b")
            if "connect" in written:
                self.assertEqual(self.code(t, "11.0.0.1"), 0)
            t.usocksd.wait_line(len(refused) + 1, type="access", end="command-refused")
            records = t.usocksd.lines(type="access", end="command-refused")
            self.assertEqual({r["error"] for r in records}, {"not in incoming.commands"})
            self.assertEqual({r["command"] for r in records}, set(refused.values()))

    def test_no_acceptable_method(self):
        t = self.start()
        for methods in (b"\x01", b"\x01\x02", b""):
            with t.host.connect("127.0.0.1", 1080) as sock:
                sock.sendall(bytes([5, len(methods)]) + methods)
                self.assertEqual(self.exactly(sock, 2), b"\x05\xff")
                self.assertEqual(sock.recv(1), b"")

    def test_what_is_no_socks_is_closed(self):
        t = self.start()
        for junk in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
                     b"\x00"):
            with t.host.connect("127.0.0.1", 1080) as sock:
                sock.sendall(junk)
                try:
                    self.assertLess(len(sock.recv(100)), 11)
                except ConnectionResetError:
                    pass
        self.assertEqual({r["end"] for r in t.usocksd.wait_records(3)}, {"bad-request"})

    def test_names_that_are_none(self):
        t = self.start()
        for name in ("", "a..b", "four.test\0.evil", "a" * 64 + ".test", "x y"):
            with self.subTest(name=name):
                self.assertIn(self.code(t, name), (1, 4))
        self.assertNotIn("evil", t.dns.log())
        self.assertEqual(self.code(t, "four.test."), 0)
        self.assertEqual(self.code(t, "FOUR.Test"), 0)

    def test_byte_by_byte(self):
        t = self.start()
        with t.host.connect("127.0.0.1", 1080) as sock:
            sock.setsockopt(lab.socket.IPPROTO_TCP, lab.socket.TCP_NODELAY, 1)
            for byte in GREETING + request("four.test", 80) + b"GET / HTTP/1.0\r\n\r\n":
                sock.sendall(bytes([byte]))
                time.sleep(0.005)
            self.assertEqual(self.exactly(sock, 2), b"\x05\x00")
            self.assertEqual(self.reply(sock)[0], 0)
            self.assertTrue(self.exactly(sock, 15).startswith(b"HTTP/1.1 200 OK"))

    def test_everything_in_one_segment(self):
        t = self.start()
        with t.host.connect("127.0.0.1", 1080) as sock:
            sock.sendall(GREETING + request("both.test", 80) +
                         b"GET /bytes/100000 HTTP/1.0\r\n\r\n")
            self.assertEqual(self.exactly(sock, 2), b"\x05\x00")
            self.assertEqual(self.reply(sock)[0], 0)
            data = b""
            while more := sock.recv(65536):
                data += more
            self.assertEqual(len(data.partition(b"\r\n\r\n")[2]), 100000)

    def test_happy_eyeballs(self):
        t = self.start()
        t.four = t.inet.listen("11.0.0.1", 81)  # so that [2a00:1::1]:81 refuses
        self.addCleanup(t.four.close)
        # A dead first address costs the 250 ms of RFC 8305, none of them the connect timeout of 10 s.
        for name, port, source, least in (("dead6.test", 80, "10.91.0.2", 0.25), ("dead4.test", 80, "fd91::2", 0),
                                          ("both.test", 81, "10.91.0.2", 0), ("many.test", 80, "10.91.0.2", 0)):
            with self.subTest(name=name, port=port):
                started = time.monotonic()
                code, bound, sock = self.ask(t, request(name, port))
                took = time.monotonic() - started
                self.assertEqual((code, bound[0]), (0, source))
                self.assertTrue(least <= took < 9, f"{took:.3f} s")
                sock.close()
        lab.wait_until(lambda: not [s for s in t.host.sockets() if s[4] == 2], 2,
                       "an attempt is left over")

    def test_dead_name_server(self):
        t = self.start('[timeouts]\nconnect = "1s"\n')
        self.assertEqual(self.code(t, "silent.test"), 4)
        self.assertEqual(self.code(t, "11.0.0.1"), 0)
        self.assertEqual(t.usocksd.wait_records(1)[0]["phase"], "resolve")

    def test_resolv_conf_and_hosts(self):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.inet.peer("dns", "10.91.0.1", 53, *ZONE)
        resolv, hosts = lab.pathlib.Path("/etc/resolv.conf"), lab.pathlib.Path("/etc/hosts")
        before = resolv.read_text(), hosts.read_text()
        self.addCleanup(lambda: (resolv.write_text(before[0]), hosts.write_text(before[1])))
        resolv.write_text("nameserver 10.91.0.1\nsearch wrong.example\n")
        hosts.write_text(before[1] + "11.0.0.1 local.test\n")
        t.usocksd = t.host.usocksd()
        for name in ("four.test", "six.test", "local.test"):
            self.assertEqual(self.code(t, name), 0, name)

    def test_silent_client_is_closed(self):
        t = self.start('[timeouts]\nhandshake = "500ms"\n')
        for sent in (b"", GREETING, GREETING + b"\x05\x01"):
            started = time.monotonic()
            with t.host.connect("127.0.0.1", 1080) as sock:
                sock.sendall(sent)
                try:
                    while sock.recv(100):
                        pass
                except ConnectionResetError:
                    pass
                self.assertTrue(0.3 <= time.monotonic() - started < 9)  # the default is 10 s
        self.assertEqual({r["end"] for r in t.usocksd.wait_records(3)}, {"request-timeout"})

    def test_default_listens_on_loopback_only(self):
        t = self.start()
        for address in ("10.91.0.2", "fd91::2"):
            with self.assertRaises(ConnectionRefusedError):
                t.inet.connect(address, 1080).close()

    def test_half_close_both_ways(self):
        t = self.start()
        t.inet.peer("transfer", "::", 7000)
        for order in (0, 1, 2):
            number, up, down = 40 + order, 300_000, 500_000
            code, _, sock = self.ask(t, request("four.test", 7000))
            self.assertEqual(code, 0)
            sock.sendall(struct.pack("!IBQQ", number, order, up, down))
            if order == 1:
                self.assertIsNone(peers.download(sock, number, down))
            peers.upload(sock, number, up)
            if order != 1:
                self.assertIsNone(peers.download(sock, number, down))
        t.inet.procs[-1].wait_log("^transfer 42 ok$")
        self.assertEqual(t.inet.procs[-1].log().count(" ok\n"), 3)


if __name__ == "__main__":
    lab.main()
