# SPDX-License-Identifier: MIT
"""usocksd as clients of SOCKS4 and SOCKS4a see it."""
import ipaddress
import struct
import time

import lab

ZONE = ("four.test=11.0.0.1", "six.test=2a00:1::1", "both.test=11.0.0.1", "both.test=2a00:1::1")
GRANTED, REJECTED = 90, 91


def by_address(address, port=80, user=b"", command=1):
    return struct.pack("!BBH", 4, command, port) + ipaddress.ip_address(address).packed + user + b"\0"


def by_name(name, port=80, user=b"", command=1):
    name = name if isinstance(name, bytes) else name.encode()
    return by_address("0.0.0.1", port, user, command) + name + b"\0"


class Socks4(lab.TestCase):
    def start(self, config=""):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.dns = t.inet.peer("dns", "10.91.0.1", 53, *ZONE)
        t.usocksd = t.host.usocksd(config + '[dns]\nservers = ["10.91.0.1"]\n')
        return t

    def ask(self, t, request):
        """(code, (address, port)) of the reply, which is whole, and the socket."""
        sock = t.host.connect("127.0.0.1", 1080)
        self.addCleanup(sock.close)
        sock.sendall(request)
        return (*self.reply(sock), sock)

    def reply(self, sock):
        data = b""
        while len(data) < 8 and (more := sock.recv(8 - len(data))):
            data += more
        self.assertEqual((len(data), data[0]), (8, 0), data)
        return data[1], (str(ipaddress.ip_address(data[4:])), struct.unpack("!H", data[2:4])[0])

    def test_curl(self):
        t = self.start()
        for listener in ("127.0.0.1:1080", "[::1]:1080"):
            for option, url, source in (("--socks4", "http://11.0.0.1/", "10.91.0.2"),
                                        ("--socks4a", "http://11.0.0.1/", "10.91.0.2"),
                                        ("--socks4a", "http://four.test/", "10.91.0.2"),
                                        ("--socks4a", "http://six.test/", "fd91::2"),
                                        ("--socks4a", "http://both.test/", "fd91::2")):
                with self.subTest(listener=listener, option=option, url=url):
                    page = t.host.curl(option, listener, url).stdout
                    self.assertIn(f"you came from {source}.", page)
        self.assertEqual({r["end"] for r in t.usocksd.wait_records(10)}, {"done"})

    def test_replies(self):
        t = self.start('[outgoing]\ndeny_sites = ["denied.test"]\ndeny_ports = [25]\n')
        rows = (
            (by_address("11.0.0.1"), GRANTED, "done"),
            (by_name("four.test"), GRANTED, "done"),
            (by_name("FOUR.test."), GRANTED, "done"),
            (by_name("11.0.0.1"), GRANTED, "done"),
            (by_name("2a00:1::1"), GRANTED, "done"),
            (by_name("[2a00:1::1]"), GRANTED, "done"),
            (by_address("11.0.0.1", 81), REJECTED, "connect-failed"),
            (by_address("11.9.0.1"), REJECTED, "connect-failed"),
            (by_name("nosuch.test"), REJECTED, "resolve-failed"),
            (by_name("denied.test"), REJECTED, "site-refused"),
            (by_name("Denied.Test."), REJECTED, "site-refused"),
            (by_address("11.0.0.1", 25), REJECTED, "port-refused"),
            (by_address("127.0.0.1"), REJECTED, "network-refused"),
            (by_address("0.0.0.0"), REJECTED, "network-refused"),
            (by_name("127.0.0.1"), REJECTED, "network-refused"),
            *((by_name(name), REJECTED, "bad-name") for name in (
                "", "a..b", "x y", "0x7f.1", "11.1", "four.test\r\n", b"\xff", "x" * 255)),
            *((by_address("11.0.0.1", command=c), REJECTED, "bad-request") for c in (0, 3, 255)),
            (by_address("11.0.0.1", user=b"u" * 255), GRANTED, "done"),
            (by_address("11.0.0.1", user=b"u" * 256), REJECTED, "bad-request"),
            (by_name("n" * 256), REJECTED, "bad-request"),
            # No end of the user id, and far more than anybody reads of it.
            (by_address("11.0.0.1")[:8] + b"u" * 100_000, REJECTED, "bad-request"))
        ends = {}
        for request, code, end in rows:
            with self.subTest(request[:80]):
                got, bound, sock = self.ask(t, request)
                self.assertEqual(got, code)
                if code == REJECTED:
                    self.assertEqual(bound, ("0.0.0.0", 0))
                    self.assertEqual(sock.recv(100), b"", "end of file, not a reset")
                ends["{}:{}".format(*sock.getsockname())] = end
                sock.close()
        records = t.usocksd.wait_records(len(rows))
        self.assertEqual({r["client_addr"]: r["end"] for r in records}, ends)

    def test_bound_address(self):
        t = self.start()
        code, bound, _ = self.ask(t, by_name("four.test"))
        self.assertEqual((code, bound[0]), (GRANTED, "10.91.0.2"))
        self.assertIn(bound[1], [s[1] for s in t.host.sockets() if s[3] == 80])
        self.assertEqual(self.ask(t, by_name("six.test"))[:2], (GRANTED, ("0.0.0.0", 0)))

    def test_user_in_the_log(self):
        t = self.start()
        users = (("bob", "bob"), ("", None), ("Jürgen Ö", "Jürgen Ö"), ("u" * 255, "u" * 255),
                 (b"\xff\xfe", None), ("a\nb", None), ("\x1b[31m", None), ("a\u0085b", None), ("\x7f", None),
                 ("a\u202eb", None), ("a\u2028b", None), ("a\u2066b", None), ("\ufeffa", None))
        for number, (user, _) in enumerate(users):
            raw = user if isinstance(user, bytes) else user.encode()
            self.ask(t, by_address("11.0.0.1", user=raw))[2].close()
            t.usocksd.wait_records(number + 1)
        self.assertEqual([r.get("user") for r in t.usocksd.lines(type="access")], [u[1] for u in users])

    def test_in_pieces_and_at_once(self):
        t = self.start()
        sent = by_name("both.test", user=b"bob") + b"GET / HTTP/1.0\r\n\r\n"
        for pieces in ([sent], [bytes([b]) for b in sent]):
            with t.host.connect("127.0.0.1", 1080) as sock:
                sock.setsockopt(lab.socket.IPPROTO_TCP, lab.socket.TCP_NODELAY, 1)
                for piece in pieces:
                    sock.sendall(piece)
                    time.sleep(0.003)
                self.assertEqual(self.reply(sock)[0], GRANTED)
                self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 200 OK"))

    def test_client_over_its_limit(self):
        t = self.start("[limits]\nmax_flows_per_client = 1\n")
        _, _, first = self.ask(t, by_address("11.0.0.1"))
        code, _, second = self.ask(t, by_address("11.0.0.1"))
        self.assertEqual((code, second.recv(1)), (REJECTED, b""))
        first.close()
        self.assertEqual(sorted(r["end"] for r in t.usocksd.wait_records(2)), ["client-limit", "done"])

    def test_our_own_client(self):
        """transocksd in front, which speaks SOCKS4a."""
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        clients = '[incoming]\nallow_from = ["10.91.0.0/16", "fd91::/32"]\n'
        t.usocksd = t.proxy.usocksd(clients)
        t.host.transocksd('proxy_url = "socks4a://bob@10.91.3.2:1080"\n')
        t.host.rules("install")
        for url in ("http://11.0.0.1/", "http://[2a00:1::1]/"):
            self.assertIn("you came from", t.host.curl(url).stdout)
        self.assertEqual({r["user"] for r in t.usocksd.wait_records(2)}, {"bob"})


if __name__ == "__main__":
    lab.main()
