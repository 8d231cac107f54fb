# SPDX-License-Identifier: MIT
"""usocksd's UDP ASSOCIATE, RFC 1928 section 7."""
import contextlib
import ipaddress
import os
import signal
import socket
import struct
import time

import flow
import lab
import test_auth
import test_faults
import test_usocksd

ZONE = ("four.test=11.0.0.1", "six.test=2a00:1::1", "both.test=11.0.0.1", "both.test=2a00:1::1",
        "inner.test=127.0.0.1", "inner.test=10.91.3.2", "mixed.test=127.0.0.1", "mixed.test=11.0.0.1",
        "refused.test=11.66.0.1", "dns.test=10.91.3.1", "silent.test=silent", "denied.test=11.0.0.1")
CLIENTS = 'allow_from = ["10.91.0.0/16", "fd91::/32"]\n'
PORT = 4000  # of the destinations


def dest(address, port=PORT):
    """ATYP, address or name, and port."""
    try:
        raw = ipaddress.ip_address(address).packed
        kind = b"\1" if len(raw) == 4 else b"\4"
    except ValueError:
        raw = bytes([len(address)]) + address.encode()
        kind = b"\3"
    return kind + raw + struct.pack("!H", port)


def packet(address, payload=b"", port=PORT, frag=0):
    return bytes([0, 0, frag]) + dest(address, port) + payload


def unpacked(data):
    """(address, port, payload) of a datagram from the server."""
    size = {1: 4, 4: 16}[data[3]]
    assert data[:3] == b"\0\0\0", data
    port, = struct.unpack_from("!H", data, 4 + size)
    return str(ipaddress.ip_address(data[4:4 + size])), port, data[6 + size:]


class Association:
    """One client's: `tcp`, and `udp` that sends to where the reply says. `before` is called before the request is made."""

    def __init__(self, test, host, server="10.91.3.2", said="0.0.0.0", said_port=None, source=None, header=b"",
                 login=b"\5\1\0", before=lambda: None):
        self.tcp = host.connect(server, 1080, source=source and (source, 0))
        self.name = self.tcp.getsockname()[:2]
        test.addCleanup(self.tcp.close)
        self.udp = host.datagrams(source or self.tcp.getsockname()[0])
        test.addCleanup(self.udp.close)
        own = self.udp.getsockname()[1]
        self.tcp.sendall(header + login)
        test.assertIn(self.exactly(2 if login == b"\5\1\0" else 4), (b"\5\0", b"\5\2\1\0"))
        before()
        self.tcp.sendall(b"\5\3\0" + dest(said, own if said_port is None else said_port))
        head = self.exactly(4)
        self.code = head[1]
        bound = ipaddress.ip_address(self.exactly(4 if head[3] == 1 else 16))
        self.at = str(bound), struct.unpack("!H", self.exactly(2))[0]

    def exactly(self, length):
        data = b""
        while len(data) < length and (more := self.tcp.recv(length - len(data))):
            data += more
        return data

    def send(self, address, payload=b"", port=PORT, frag=0):
        self.udp.sendto(packet(address, payload, port, frag), self.at)

    def raw(self, data):
        self.udp.sendto(data, self.at)

    def receive(self):
        data, source = self.udp.recvfrom(65536)
        assert source[:2] == self.at, source
        return unpacked(data)


class Udp(lab.TestCase):
    def start(self, config="", incoming="", outgoing=""):
        t = self.build("host")
        t.dns = t.inet.peer("dns", "10.91.3.1", 53, *ZONE)
        t.usocksd = t.proxy.usocksd(f"[incoming]\n{CLIENTS}{incoming}[outgoing]\n{outgoing}{config}"
                                    '[dns]\nservers = ["10.91.3.1"]\n')
        t.four, t.six = (t.inet.datagrams(a, PORT) for a in ("11.0.0.1", "2a00:1::1"))
        self.addCleanup(t.four.close)
        self.addCleanup(t.six.close)
        return t

    def associate(self, t, **options):
        a = Association(self, t.host, **options)
        self.assertEqual(a.code, 0)
        return a

    def echo(self, a, target, address, payload):
        """Sends, answers as the target, and receives. What the target has seen as the source."""
        a.send(address, payload)
        seen, source = target.recvfrom(65536)
        self.assertEqual(seen, payload)
        target.sendto(b"re:" + payload[:65500], source)
        self.assertEqual(a.receive(), (*target.getsockname()[:2], b"re:" + payload[:65500]))
        return source[:2]

    def record(self, t, a):
        a.tcp.close()
        return t.usocksd.wait_records()[0]

    def record_of(self, t, a):
        a.tcp.close()
        return t.usocksd.wait_line(type="access", client_addr="{}:{}".format(*a.name))

    def status(self, t):
        return flow.status(t.proxy, t.usocksd)["udp"]

    def wait_dropped(self, t, **expected):
        lab.wait_until(lambda: expected.items() <= self.status(t)["dropped"].items(), 10,
                       lambda: f"dropped: {self.status(t)['dropped']}, not {expected}")

    def arrives(self, t, a):
        a.send("11.0.0.1", b"again")
        t.four.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            return t.four.recvfrom(10)

    def nothing(self, sock):
        sock.settimeout(0)
        self.assertRaises(BlockingIOError, sock.recv, 1)

    def test_both_families_and_names(self):
        t = self.start()
        for server in ("10.91.3.2", "fd91:0:3::2"):
            a = self.associate(t, server=server)
            self.assertEqual(a.at[0], server)
            for address, target, own in (("11.0.0.1", t.four, "10.91.3.2"), ("2a00:1::1", t.six, "fd91:0:3::2"),
                                         ("::ffff:11.0.0.1", t.four, "10.91.3.2"),
                                         ("four.test", t.four, "10.91.3.2"), ("six.test", t.six, "fd91:0:3::2"),
                                         ("both.test", t.six, "fd91:0:3::2"), ("Both.Test.", t.six, "fd91:0:3::2"),
                                         ("11.0.0.1", t.four, "10.91.3.2")):
                with self.subTest(server=server, address=address):
                    self.assertEqual(self.echo(a, target, address, os.urandom(100))[0], own)
            a.tcp.close()
        for r in t.usocksd.wait_records(2):
            self.assertEqual((r["end"], r["command"], r["bytes_up"], r["datagrams_up"], r["datagrams_down"]),
                             ("done", "UDP ASSOCIATE", 800, 8, 8), r)
            self.assertEqual((r["dest_addr"], r["src_addr"].split(":")[0]), ("11.0.0.1:4000", "10.91.3.2"))
            self.assertFalse([key for key in r if key.startswith(("dropped", "refused"))])

    def test_egress_and_interface(self):
        t = self.build("host")
        t.proxy.ip("addr add 10.91.3.11/24 dev wan0\naddr add 10.91.3.12/24 dev wan0")
        t.host.ip("addr add 10.91.0.77/24 dev eth0")
        t.usocksd = t.proxy.usocksd(
            f'[incoming]\n{CLIENTS}[outgoing]\niface = "wan0"\naddresses = ["10.91.3.12"]\n'
            '[[outgoing.users]]\nclients = ["10.91.0.77"]\naddresses = ["10.91.3.11"]\n')
        four, other, six = (t.inet.datagrams(a, PORT) for a in ("11.0.0.1", "11.0.0.2", "2a00:1::1"))
        for sock in (four, other, six):
            self.addCleanup(sock.close)
        for source, own in ((None, "10.91.3.12"), ("10.91.0.77", "10.91.3.11")):
            a = self.associate(t, source=source)
            seen = {self.echo(a, target, target.getsockname()[0], b"x") for target in (four, other)}
            self.assertEqual({s[0] for s in seen}, {own})
            self.assertEqual(len(seen), 1, "one port for all destinations")
            a.send("2a00:1::1")  # no address of that family
            self.echo(a, four, "11.0.0.1", b"y")
            flows = {e["address"]: e["flows"] for e in flow.status(t.proxy, t.usocksd)["egress"]}
            self.assertEqual(flows[own], 1)
            a.tcp.close()
            t.usocksd.wait_line(type="access", client_addr="{}:{}".format(*a.name))
        self.nothing(six)
        for r, own in zip(t.usocksd.wait_records(2), ("10.91.3.12", "10.91.3.11")):
            self.assertEqual((r["src_addr"].split(":")[0], r["dropped_unsent"]), (own, 1))
        self.assertEqual({e["flows"] for e in flow.status(t.proxy, t.usocksd)["egress"]}, {0})

    def test_egress_address_goes(self):
        """Another one is taken, by associations that live as well."""
        t = self.build("host")
        t.proxy.ip("addr add 10.91.3.11/24 dev wan0\naddr add 10.91.3.12/24 dev wan0")
        t.usocksd = t.proxy.usocksd(
            f'[incoming]\n{CLIENTS}[outgoing]\naddresses = ["10.91.3.11", "10.91.3.12"]\n')
        self.addCleanup((target := t.inet.datagrams("11.0.0.1", PORT)).close)
        a = self.associate(t)
        before, _ = self.echo(a, target, "11.0.0.1", b"x")
        t.proxy.ip(f"addr del {before}/24 dev wan0")
        self.echo(self.associate(t), target, "11.0.0.1", b"x")  # its socket finds out
        self.assertNotEqual(self.echo(a, target, "11.0.0.1", b"x")[0], before)
        flows = {e["address"]: e["flows"] for e in flow.status(t.proxy, t.usocksd)["egress"]}
        self.assertEqual(flows, {a: 2 * (a != before) for a in ("10.91.3.11", "10.91.3.12")})

    def test_egress_by_login(self):
        """From start to end, also where the file is another one by then."""
        t = self.build("host")
        t.proxy.ip("addr add 10.91.3.11/24 dev wan0\naddr add 10.91.3.12/24 dev wan0")
        path = test_auth.users_file("".join(test_auth.line(user, "secret") for user in ("alice", "bob")))
        t.usocksd = t.proxy.usocksd(
            f'[auth]\nfile = "{path}"\n[outgoing]\naddresses = ["10.91.3.11"]\n'
            '[[outgoing.users]]\nusers = ["alice"]\naddresses = ["10.91.3.12"]\n')
        self.addCleanup((target := t.inet.datagrams("11.0.0.1", PORT)).close)
        alice, bob = (self.associate(t, login=b"\5\1\2" + test_auth.login(user, "secret"))
                      for user in ("alice", "bob"))
        path.write_text(test_auth.line("alice", "other"))
        t.usocksd.signal(signal.SIGHUP)
        t.usocksd.wait_log("configuration reloaded")
        for a, own in ((alice, "10.91.3.12"), (bob, "10.91.3.11"), (alice, "10.91.3.12")):
            self.assertEqual(self.echo(a, target, "11.0.0.1", b"x")[0], own)
        self.assertEqual(self.record(t, alice)["user"], "alice")

    def test_only_the_client_may_send(self):
        t = self.start()
        t.host.ip("addr add 10.91.0.77/24 dev eth0")
        for said_port, said in ((0, "0.0.0.0"), (None, "0.0.0.0"), (None, "10.91.0.2"), (None, "::"),
                                (9, "192.168.1.7"), (9, "10.91.0.77"), (9, "four.test")):
            with self.subTest(said=said, said_port=said_port):
                a = self.associate(t, said=said, said_port=said_port)
                foreign, port = t.host.datagrams("10.91.0.77"), t.host.datagrams("10.91.0.2")
                inner = t.inet.datagrams("10.91.3.1")
                early = said_port is None  # the port is known from the request
                with foreign, port, inner:
                    foreign.sendto(packet("11.0.0.1", b"foreign"), a.at)
                    inner.sendto(packet("11.0.0.1", b"inner"), a.at)
                    if early:
                        port.sendto(packet("11.0.0.1", b"port"), a.at)
                    self.echo(a, t.four, "11.0.0.1", b"first")
                    for sock in (foreign, port, inner):
                        sock.sendto(packet("11.0.0.1", b"late"), a.at)
                    self.echo(a, t.four, "11.0.0.1", b"second")
                    for sock in (foreign, port, inner):
                        self.nothing(sock)
                record = self.record_of(t, a)
                self.assertEqual((record["dropped_sender"], record["datagrams_up"]), (5 + early, 2))

    def test_garbage(self):
        t = self.start()
        a = self.associate(t, said_port=0)
        good = packet("11.0.0.1", b"payload")
        named = packet("four.test", b"payload")
        six = packet("2a00:1::1")
        garbage = [good[:n] for n in range(10)] + [named[:n] for n in range(16)] + [six[:n] for n in range(22)]
        garbage += [b"\0\0\0" + bytes([kind]) + good[4:] for kind in range(256) if kind not in (1, 3, 4)]
        garbage += [packet("11.0.0.1", port=0), packet("four.test", port=0)]
        garbage += [packet(name) for name in ("", "a..b", "x y", "0x7f.1", "n" * 255)]
        with t.host.datagrams("10.91.0.2") as other:  # does not become the client's port by that
            other.sendto(garbage[5], a.at)
            other.sendto(packet("11.0.0.1", frag=1), a.at)
            other.sendto(b"", a.at)
        for number, data in enumerate(garbage):
            a.raw(data)
            if number % 50 == 0:
                self.echo(a, t.four, "11.0.0.1", b"%d" % number)
        for frag in (1, 2, 0x7f, 0x80, 0xff):
            a.send("11.0.0.1", b"part", frag=frag)
        self.echo(a, t.four, "11.0.0.1", b"whole")
        self.nothing(t.six)
        r = self.record(t, a)
        self.assertEqual((r["dropped_malformed"], r["dropped_fragment"]), (len(garbage) + 2, 6))
        self.assertEqual(self.status(t)["dropped"]["malformed"], len(garbage) + 2)

    def test_access_control(self):
        t = self.start(outgoing='deny_networks = ["11.66.0.0/16"]\ndeny_ports = [25]\ndeny_sites = ["denied.test"]\n')
        targets = [t.proxy.datagrams(address, PORT) for address in ("127.0.0.1", "10.91.3.2", "fd91:0:3::2", "::1")]
        targets += [t.inet.datagrams(*at) for at in (("11.66.0.1", PORT), ("11.0.0.1", 25))]
        for sock in targets:
            self.addCleanup(sock.close)
        a = self.associate(t)
        refused = [("11.66.0.1", PORT), ("127.0.0.1", PORT), ("10.91.3.2", PORT), ("fd91:0:3::2", PORT), ("::1", PORT),
                   ("::ffff:127.0.0.1", PORT), ("0.0.0.0", PORT), ("224.0.0.1", PORT), ("255.255.255.255", PORT),
                   ("64:ff9b::7f00:1", PORT), ("11.0.0.1", 25), ("four.test", 25), ("denied.test", PORT),
                   ("Denied.Test.", PORT), ("inner.test", PORT), ("refused.test", PORT),
                   ("169.254.169.254", 80)]
        for number, (address, port) in enumerate(refused):
            a.send(address, b"refused", port)
            self.wait_dropped(t, refused=2 * number + 1)
            a.send(address, b"refused", port)  # what is remembered of it says the same
            self.wait_dropped(t, refused=2 * number + 2)
            self.echo(a, t.four, "11.0.0.1", b"allowed")
        self.echo(a, t.four, "mixed.test", b"to the address that is allowed")
        for sock in targets:
            self.nothing(sock)
        r = self.record(t, a)
        self.assertEqual((r["refused_dest"], r["refused_error"], r["dropped_refused"]),
                         ("11.66.0.1:4000", "in outgoing.deny_networks", 2 * len(refused)))

    def test_an_address_that_becomes_our_own(self):
        """What is remembered of a destination does not open this host's own services."""
        t = self.start()
        a = self.associate(t)
        a.send("10.91.3.50", b"nobody has it")
        self.echo(a, t.four, "11.0.0.1", b"x")
        t.proxy.ip("addr add 10.91.3.50/24 dev wan0")
        self.addCleanup((own := t.proxy.datagrams("10.91.3.50", PORT)).close)
        with t.host.connect("10.91.3.2", 1080) as sock:  # the daemon knows of it
            sock.sendall(test_usocksd.GREETING + test_usocksd.request("10.91.3.50", PORT))
            answer = b""
            while len(answer) < 12 and (more := sock.recv(12)):
                answer += more
            self.assertEqual(answer[3], 2)
        a.send("10.91.3.50", b"refused")
        self.wait_dropped(t, refused=1)
        self.nothing(own)

    def test_answers(self):
        t = self.start()
        a = self.associate(t)
        self.addCleanup((same := t.inet.datagrams("11.0.0.1")).close)
        self.addCleanup((stranger := t.inet.datagrams("11.0.0.2", PORT)).close)
        own = self.echo(a, t.four, "11.0.0.1", b"x")
        stranger.sendto(b"stranger", own)
        same.sendto(b"from another port", own)
        self.assertEqual(a.receive(), ("11.0.0.1", same.getsockname()[1], b"from another port"))
        self.wait_dropped(t, stranger=1)
        self.echo(a, stranger, "11.0.0.2", b"y")  # none any more
        for _ in range(3):  # nobody listens there
            a.send("11.0.0.1", b"unreachable", 4001)
            self.echo(a, t.four, "11.0.0.1", b"z")
        with t.host.datagrams("10.91.0.2") as gone:  # nor, once it is closed, at the client's port
            b = self.associate(t, said_port=gone.getsockname()[1])
            gone.sendto(packet("11.0.0.1", b"bye"), b.at)
            _, source = t.four.recvfrom(100)
        for _ in range(3):
            t.four.sendto(b"late", source)
        self.echo(a, t.four, "11.0.0.1", b"z")
        a.send("11.9.0.1", b"no way")
        self.echo(a, t.four, "11.0.0.1", b"z")

    def test_sizes(self):
        t = self.start()
        for server, address, target, largest in (("10.91.3.2", "11.0.0.1", t.four, 65507 - 10),
                                                 ("fd91:0:3::2", "2a00:1::1", t.six, 65527 - 22)):
            a = self.associate(t, server=server)
            for size in (0, 1, 1400, 9000, 65000, largest):
                a.send(address, sent := os.urandom(size))
                data, source = target.recvfrom(70000)
                self.assertEqual(data, sent)
                target.sendto(data, source)
                self.assertEqual(a.receive()[2], sent)
            target.sendto(b"x" * (65507 if server == "10.91.3.2" else 65527), source)  # the header does not fit in any more
            self.wait_dropped(t, unsent=1 if server == "10.91.3.2" else 2)
            self.echo(a, target, address, b"")

    def test_end_of_the_connection(self):
        t = self.start()
        files = len(os.listdir(f"/proc/{t.usocksd.pid}/fd"))
        for way in ("close", "reset"):
            a = self.associate(t)
            self.echo(a, t.four, "11.0.0.1", b"x")
            self.echo(a, t.six, "2a00:1::1", b"x")
            a.tcp.sendall(b"nobody reads that" * 100_000)
            self.echo(a, t.four, "11.0.0.1", b"x")
            self.assertEqual((self.status(t)["associations"], self.udp_sockets(t)), (1, 3))
            if way == "reset":
                a.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            a.tcp.close()
            lab.wait_until(lambda: self.udp_sockets(t) == 0)
            self.assertEqual(self.status(t)["associations"], 0)
        self.assertEqual([r["end"] for r in t.usocksd.wait_records(2)], ["done", "client-lost"])
        lab.wait_until(lambda: len(os.listdir(f"/proc/{t.usocksd.pid}/fd")) == files)

    def udp_sockets(self, t):
        with t.proxy.inside():
            return sum(len(open(f"/proc/thread-self/net/{table}", encoding="ascii").readlines()) - 1
                       for table in ("udp", "udp6"))

    def test_idle(self):
        t = self.start('[timeouts]\nudp_idle = "500ms"\n')
        busy, idle = self.associate(t), self.associate(t)
        while not t.usocksd.lines(type="access"):
            self.echo(busy, t.four, "11.0.0.1", b"x")
        records = t.usocksd.wait_records(2)
        self.assertEqual({r["end"] for r in records}, {"idle-timeout"})
        self.assertEqual([r["datagrams_up"] > 0 for r in records], [False, True])
        for r in records:
            self.assertGreaterEqual(r["elapsed"], 0.5)
        for a in (busy, idle):
            with self.assertRaises(ConnectionResetError):
                a.tcp.recv(1)

    def test_limits(self):
        t = self.start("[limits]\nmax_udp_associations = 8\nmax_flows_per_client = 3\n")  # 2 for one client
        t.host.ip("addr add 10.91.0.77/24 dev eth0")
        a, b = self.associate(t), self.associate(t)
        over = Association(self, t.host)
        self.assertEqual((over.code, over.at, over.tcp.recv(1)), (1, ("0.0.0.0", 0), b""))
        lab.wait_until(lambda: len(t.usocksd.lines(type="access", end="udp-limit")) == 1)
        over.tcp.close()
        self.assertEqual(self.status(t)["max_associations"], 8)
        self.associate(t, source="10.91.0.77")  # others have their part
        a.tcp.close()
        lab.wait_until(lambda: self.status(t)["associations"] == 2)
        a = self.associate(t)
        with t.host.connect("10.91.3.2", 1080) as third:
            third.sendall(b"\5\1\0")
            self.assertEqual(third.recv(2), b"\5\0")
            self.assertEqual(Association(self, t.host).code, 2, "an association is a flow of its client")
        self.echo(b, t.four, "11.0.0.1", b"x")

    def test_all_have_one_limit(self):
        t = self.start("[limits]\nmax_udp_associations = 1\n")
        t.host.ip("addr add 10.91.0.77/24 dev eth0")
        self.associate(t)
        self.assertEqual(Association(self, t.host, source="10.91.0.77").code, 1)

    def test_a_thousand(self):
        t = self.start()
        files = len(os.listdir(f"/proc/{t.usocksd.pid}/fd"))
        for _ in range(10):
            with contextlib.ExitStack() as stack:
                for number in range(100):
                    tcp = stack.enter_context(t.host.connect("10.91.3.2", 1080))
                    tcp.sendall(b"\5\1\0" + b"\5\3\0" + dest("0.0.0.0", 0))
                    reply = b""
                    while len(reply) < 12:
                        reply += tcp.recv(12 - len(reply))
                    self.assertEqual(reply[3], 0)
                    if number % 10 == 0:
                        at = "10.91.3.2", struct.unpack("!H", reply[10:])[0]
                        with t.host.datagrams("10.91.0.2") as udp:
                            udp.sendto(packet("11.0.0.1", b"x"), at)
                            t.four.recv(1)
        lab.wait_until(lambda: self.status(t)["associations"] == 0)
        lab.wait_until(lambda: len(os.listdir(f"/proc/{t.usocksd.pid}/fd")) == files)
        self.assertEqual(len(t.usocksd.wait_records(1000)), 1000)

    def test_names_that_wait(self):
        t = self.start()
        a = self.associate(t)
        for number in range(12):
            a.send("silent.test", b"%d" % number)
        self.wait_dropped(t, waiting=4)
        self.echo(a, t.four, "11.0.0.1", b"others go on")
        a.send("nosuch.test")
        self.wait_dropped(t, unresolved=1)
        a.tcp.close()
        lab.wait_until(lambda: self.status(t)["associations"] == 0)
        b = self.associate(t)
        for number in range(12):  # no more places than names that are asked for
            b.send("silent.test", b"x" * 8000, 1000 + number)
        self.wait_dropped(t, waiting=4 + 4)
        c = self.associate(t)
        for number in range(3):
            c.send("silent.test", b"x" * 30000, 1000 + number)
        self.wait_dropped(t, waiting=4 + 4 + 1)  # bytes
        b.tcp.close()
        b = self.associate(t)
        for number in range(5):
            b.send("four.test", b"%d" % number)
        self.assertEqual([t.four.recv(10) for _ in range(5)], [b"%d" % n for n in range(5)])

    def test_names_have_their_limit(self):
        t = self.start("[limits]\nmax_resolving = 4\n")  # one for each client
        a = self.associate(t)
        a.send("silent.test")
        a.send("four.test", b"lost")
        self.wait_dropped(t, waiting=1)
        a.tcp.close()
        lab.wait_until(lambda: self.status(t)["associations"] == 0)
        b = self.associate(t)  # who goes away leaves the query behind
        b.send("four.test", b"lost")
        self.wait_dropped(t, waiting=2)
        self.echo(b, t.four, "11.0.0.1", b"by address")

    def test_drain_and_cut(self):
        t = self.start()
        a = self.associate(t)
        t.usocksd.signal(signal.SIGTERM)
        lab.wait_until(lambda: not t.proxy.listening(1080))
        self.echo(a, t.four, "11.0.0.1", b"x")
        a.tcp.close()
        self.assertEqual(t.usocksd.wait(), 0)
        self.assertEqual(t.usocksd.wait_records()[0]["end"], "done")
        t = self.start()
        a = self.associate(t)
        a.send("silent.test", b"waits")
        self.echo(a, t.four, "11.0.0.1", b"x")
        t.usocksd.signal(signal.SIGQUIT)
        self.assertEqual(t.usocksd.wait(), 0)
        r = t.usocksd.wait_records()[0]
        self.assertEqual((r["end"], r["phase"]), ("cut", "associate"))

    def test_behind_a_trusted_proxy(self):
        t = self.start(incoming='trusted_proxies = ["10.91.0.2"]\n')
        header = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" +
                  ipaddress.ip_address("10.91.44.5").packed + ipaddress.ip_address("11.0.0.1").packed + b"\0\1\0\2")
        a = Association(self, t.host, header=header)
        self.assertEqual(a.code, 0)
        self.echo(a, t.four, "11.0.0.1", b"x")
        r = self.record(t, a)
        self.assertEqual((r["client_addr"], r["via"].split(":")[0]), ("10.91.44.5:1", "10.91.0.2"))

    def test_pysocks(self):
        """Debian's PySocks asks a name server."""
        t = self.start()
        script = r"""
import socks, struct
s = socks.socksocket(type=socks.socket.SOCK_DGRAM)
s.set_proxy(socks.SOCKS5, "10.91.3.2", 1080)
s.settimeout(10)
for server in ("10.91.3.1", "dns.test"):
    s.sendto(struct.pack("!6H", 7, 256, 1, 0, 0, 0) + b"\4four\4test\0\0\1\0\1", (server, 53))
    data, source = s.recvfrom(512)
    print(source, data[-4:].hex())
"""
        done = t.host.run("/usr/bin/python3", "-c", script)
        self.assertEqual(done.stdout, "('10.91.3.1', 53) 0b000001\n" * 2)

    def faulty(self):
        t = self.build("host")
        t.faults = test_faults.Faults()
        t.usocksd = t.proxy.usocksd(f"workers = 1\n[incoming]\n{CLIENTS}", env=t.faults.env)
        t.four = t.inet.datagrams("11.0.0.1", PORT)
        self.addCleanup(t.four.close)
        return t

    def test_no_socket(self):
        t = self.faulty()
        for call, error, end in (("socket", "EMFILE", "no-memory"), ("socket", "ENOBUFS", "no-memory"),
                                 ("epoll_ctl.ADD", "ENOSPC", "no-memory"), ("bind", "EADDRINUSE", "udp-failed"),
                                 ("bind", "EADDRNOTAVAIL", "udp-failed"), ("getsockname", "ENOBUFS", "udp-failed")):
            with self.subTest(call=call, error=error), contextlib.ExitStack() as stack:
                a = Association(self, t.host, before=lambda: stack.enter_context(t.faults.active((call, error))))
                self.assertEqual((a.code, a.at, a.tcp.recv(1)), (1, ("0.0.0.0", 0), b""))
                record = t.usocksd.wait_line(type="access", client_addr="{}:{}".format(*a.name))
                self.assertEqual(record["end"], end)
        them = []
        for number, (call, error) in enumerate((("socket", "EMFILE"), ("setsockopt", "EPERM"),
                                                ("epoll_ctl.ADD", "ENOMEM"))):
            them.append(self.associate(t))
            with t.faults.active((call, error)):
                them[-1].send("11.0.0.1", b"lost")
                lab.wait_until(lambda: t.faults.hits() > 0)
            self.wait_dropped(t, unsent=number + 1)
        for a in them:  # it is tried again
            lab.wait_until(lambda: self.arrives(t, a))
        self.assertEqual(self.status(t)["dropped"]["busy"], 0)

    def test_calls_that_fail(self):
        t = self.faulty()
        a = self.associate(t)
        own = self.echo(a, t.four, "11.0.0.1", b"x")
        for error, why in (("ENOBUFS", "busy"), ("EAGAIN", "busy"), ("ENOMEM", "busy"), ("EPERM", "unsent"),
                           ("ENETUNREACH", "unsent"), ("EHOSTUNREACH", "unsent"), ("ECONNREFUSED", "unsent")):
            with self.subTest(error=error):
                before = self.status(t)["dropped"][why]
                with t.faults.active(("sendmsg", error)):
                    a.send("11.0.0.1", b"lost")
                    t.four.sendto(b"lost", own)
                    lab.wait_until(lambda: t.faults.hits() == 2)
                self.wait_dropped(t, **{why: before + 2})
                self.echo(a, t.four, "11.0.0.1", b"x")
        for every in (1, 3):
            for error in ("ENOMEM", "ECONNREFUSED", "EINTR", "EAGAIN", "EIO"):
                with self.subTest(error=error, every=every), t.faults.active(("recvfrom", error), every=every):
                    for _ in range(3):
                        a.send("11.0.0.1", b"late")
                        t.four.sendto(b"late", own)
                    lab.wait_until(lambda: t.faults.hits() > 0)
                # What has come before that comes with the next one.
                a.send("11.0.0.1", b"last")
                while t.four.recv(100) != b"last":
                    pass
                t.four.sendto(b"last", own)
                while a.receive()[2] != b"last":
                    pass
        with t.faults.active(("recv", "ENOMEM")):
            a.tcp.sendall(b"x")
            self.assertEqual(t.usocksd.wait_records()[0]["end"], "no-memory")

    def test_burst(self):
        """More than a turn moves: all of it comes, in its order."""
        t = self.start()
        a = self.associate(t)
        own = self.echo(a, t.four, "11.0.0.1", b"x")
        t.usocksd.signal(signal.SIGSTOP)
        for number in range(150):
            a.send("11.0.0.1", b"%d" % number)
            t.four.sendto(b"%d" % number, own)
        t.usocksd.signal(signal.SIGCONT)
        self.assertEqual([t.four.recv(10) for _ in range(150)], [b"%d" % n for n in range(150)])
        self.assertEqual([a.receive()[2] for _ in range(150)], [b"%d" % n for n in range(150)])

    def test_flood(self):
        """Flows of the same worker go on beside a client that sends more than can be passed on."""
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.usocksd = t.proxy.usocksd(f"workers = 1\n[incoming]\n{CLIENTS}")
        a = Association(self, t.proxy)  # over loopback in one piece, and on in 40 of them
        port = a.udp.getsockname()[1]
        a.udp.close()
        flood = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(("10.91.3.2", {port}))
s.connect({a.at})
data = {packet("11.0.0.1")} + bytes(60000)
while True:
    s.send(data)
"""
        procs = [t.proxy.spawn("/usr/bin/python3", "-c", flood) for _ in range(2)]
        for _ in range(5):
            page = t.host.curl("--socks5", "10.91.3.2:1080", "http://11.0.0.1/").stdout
            self.assertIn("you came from 10.91.3.2", page)
        for proc in procs:
            proc.kill()
        self.assertGreater(self.record_of(t, a)["datagrams_up"], 100)


if __name__ == "__main__":
    lab.main()
