# SPDX-License-Identifier: MIT
"""The command BIND of usocksd: a peer that the client has named connects to a port that is opened for it."""
import ipaddress
import json
import os
import pathlib
import re
import signal
import socket
import struct

import flow
import lab
import peers
import test_egress
import test_socks4
import test_usocksd

ZONE = ("four.test=11.0.0.21", "six.test=2a00:1::21", "both.test=11.0.0.21", "both.test=2a00:1::21",
        "two.test=11.0.0.21", "two.test=11.0.0.22", "own.test=10.91.3.2", "any.test=0.0.0.0",
        "mixed.test=127.0.0.1", "mixed.test=11.0.0.21", "silent.test=silent", "fail.test=fail")
PEER, PEER6 = "11.0.0.21", "2a00:1::21"
USOCKSD = ("10.91.3.2", "fd91:0:3::2")
GONE = (ConnectionResetError, ConnectionRefusedError)


def by5(peer, port=0):
    return test_usocksd.GREETING + test_usocksd.request(peer, port, command=2)


def by4(peer, port=0):
    named = peer.endswith(".test") or ":" in peer
    return (test_socks4.by_name if named else test_socks4.by_address)(peer, port, command=2)


def exactly(sock, length):
    data = b""
    while len(data) < length and (more := sock.recv(length - len(data))):
        data += more
    return data


def reply(sock, version):
    """(code, address, port); None at the end of file."""
    if version == 4:
        data = exactly(sock, 8)
        return data and (data[1], str(ipaddress.ip_address(data[4:])), struct.unpack("!H", data[2:4])[0]) or None
    head = exactly(sock, 4)
    if not head:
        return None
    address = exactly(sock, 4 if head[3] == 1 else 16)
    return head[1], str(ipaddress.ip_address(address)), struct.unpack("!H", exactly(sock, 2))[0]


class Case(lab.TestCase):
    """usocksd on `proxy`, clients on `host`, peers on `inet`."""

    def start(self, config="", incoming="", outgoing="", timeouts="", addresses=()):
        t = self.build("host")
        self.t = t
        if addresses:
            t.proxy.ip("\n".join(f"addr add {a}/64 dev wan0 nodad" if ":" in a else f"addr add {a}/24 dev wan0"
                                 for a in addresses))
        t.dns = t.inet.peer("dns", "11.0.0.53", 53, *ZONE)
        t.usocksd = t.proxy.usocksd(
            f'workers = 1\n{config}[incoming]\nallow_from = ["10.91.0.0/16", "fd91::/32"]\n{incoming}'
            f'[outgoing]\n{outgoing}[timeouts]\n{timeouts}[dns]\nservers = ["11.0.0.53"]\n', "-loglevel", "debug")
        return t

    def ask(self, sent, source=None, to=USOCKSD[0]):
        """A client that has sent a request, and whatever `sent` has behind it; the method has been chosen."""
        sock = self.t.host.connect(to, 1080, source=source)
        self.addCleanup(sock.close)
        sock.sendall(sent)
        if sent[0] == 5:
            self.assertEqual(exactly(sock, 2), b"\x05\x00")
        return sock

    def bind(self, sent, **options):
        """The same: (socket, address and port that are open now)."""
        sock = self.ask(sent, **options)
        code, *bound = reply(sock, sent[0])
        self.assertEqual(code, 0 if sent[0] == 5 else 90)
        return sock, tuple(bound)

    def come(self, bound, peer=PEER, port=0):
        sock = self.t.inet.connect(*bound, source=(peer, port))
        self.addCleanup(sock.close)
        return sock

    def meet(self, sent, **options):
        """Both ends, once they are connected."""
        sock, bound = self.bind(sent, **options)
        far = self.come(bound)
        self.assertEqual(reply(sock, sent[0]), (0 if sent[0] == 5 else 90, *far.getsockname()[:2]))
        return sock, far

    def talk(self, near, far):
        """Bytes both ways, and each direction ends on its own."""
        near.sendall(b"up")
        self.assertEqual(exactly(far, 2), b"up")
        near.shutdown(socket.SHUT_WR)
        self.assertEqual(far.recv(1), b"")
        far.sendall(b"down")
        far.close()
        self.assertEqual(exactly(near, 5), b"down")

    def is_open(self, bound):
        return self.t.proxy.listening(bound[1], bound[0])

    def wait_closed(self, bound):
        lab.wait_until(lambda: not self.is_open(bound))

    def record(self, count=1):
        return self.t.usocksd.wait_records(count)[count - 1]

    def refused(self, sent, code, end):
        """One reply and the end of file; the record."""
        count = len(self.t.usocksd.lines(type="access"))
        sock = self.ask(sent)
        self.assertEqual(reply(sock, sent[0]), (code, "0.0.0.0", 0))
        self.assertIsNone(reply(sock, sent[0]))
        record = self.record(count + 1)
        self.assertEqual((record["end"], record["command"]), (end, "BIND"))
        return record


class Bind(Case):
    def test_versions_families_and_names(self):
        self.start()
        rows = ((by5(PEER), PEER, "SOCKS5"), (by5(PEER6, 21), PEER6, "SOCKS5"), (by5("four.test"), PEER, "SOCKS5"),
                (by5("six.test"), PEER6, "SOCKS5"), (by5("both.test"), PEER6, "SOCKS5"),
                (by5("two.test"), "11.0.0.22", "SOCKS5"), (by5("mixed.test"), PEER, "SOCKS5"),
                (by4(PEER), PEER, "SOCKS4"), (by4("both.test"), PEER, "SOCKS4a"))
        for number, (sent, peer, protocol) in enumerate(rows):
            with self.subTest(sent=sent):
                sock, bound = self.bind(sent, to=USOCKSD[number % 2])
                self.assertEqual(bound[0], USOCKSD[":" in peer])
                self.assertTrue(self.is_open(bound))
                far = self.come(bound, peer)
                came = far.getsockname()[:2]
                self.assertEqual(reply(sock, sent[0])[1:], came)
                self.assertFalse(self.is_open(bound))
                self.talk(sock, far)
                record = self.record(number + 1)
                self.assertEqual({k: record[k] for k in ("protocol", "command", "dest_addr", "src_addr", "upstream",
                                                         "bytes_up", "bytes_down", "end")},
                                 {"protocol": protocol, "command": "BIND", "upstream": "direct",
                                  "dest_addr": "{}:{}".format(*came) if number not in (1, 3, 4)
                                  else "[{}]:{}".format(*came),
                                  "src_addr": "{}:{}".format(*bound) if number not in (1, 3, 4)
                                  else "[{}]:{}".format(*bound),
                                  "bytes_up": 2, "bytes_down": 4, "end": "done"})

    def test_others_are_reset(self):
        t = self.start()
        sock, bound = self.bind(by5(PEER, 20))
        for stranger in ("11.0.0.22", "11.0.0.23", "10.91.3.1"):
            with self.assertRaises(GONE):
                self.come(bound, stranger).recv(1)
        # Nor is the client itself anybody that it has named.
        with self.assertRaises(GONE):
            t.host.connect(*bound).recv(1)
        far = self.come(bound, port=2020)
        self.assertEqual(reply(sock, 5), (0, PEER, 2020))
        self.talk(sock, far)
        t.usocksd.wait_line(4, message="not the peer that a BIND waits for")
        self.assertEqual(self.record()["dest_addr"], f"{PEER}:2020")

    def test_nobody_comes(self):
        t = self.start(timeouts='bind = "1500ms"\n')
        rows = ((4, *self.bind(by4(PEER, 21)), 91), (5, *self.bind(by5(PEER, 21)), 6))
        with self.assertRaises(GONE):
            self.come(rows[1][2], "11.0.0.22").recv(1)
        for version, sock, bound, code in rows:
            self.assertEqual(reply(sock, version), (code, "0.0.0.0", 0))
            self.assertIsNone(reply(sock, version))
            self.wait_closed(bound)
        for record in t.usocksd.wait_records(2):
            self.assertEqual((record["end"], record["phase"], record["dest_addr"]), ("bind-timeout", "bind", f"{PEER}:21"))
            self.assertEqual("hint" in record, record["protocol"] == "SOCKS5")

    def test_client_goes(self):
        self.start()
        sock, bound = self.bind(by5(PEER))
        flow.reset(sock)
        self.wait_closed(bound)
        self.assertEqual((self.record()["end"], self.record()["phase"]), ("client-gone", "bind"))
        # One that has said all that it has to say still reads.
        sock, bound = self.bind(by5(PEER))
        sock.shutdown(socket.SHUT_WR)
        far = self.come(bound)
        self.assertEqual(reply(sock, 5)[0], 0)
        self.assertEqual(far.recv(1), b"")
        far.sendall(b"x" * 1000)
        far.close()
        self.assertEqual(exactly(sock, 1001), b"x" * 1000)
        self.assertEqual(self.record(2)["end"], "done")
        # But its port is not kept for the rest of timeouts.bind: mostly it has gone.
        sock, bound = self.bind(by5(PEER))
        sock.close()
        self.wait_closed(bound)
        self.assertEqual(self.record(3)["end"], "bind-timeout")

    def test_peer_goes_at_once(self):
        self.start()
        sock, bound = self.bind(by5(PEER))
        flow.reset(self.come(bound))
        self.assertEqual(reply(sock, 5)[0], 0)
        with self.assertRaises(ConnectionResetError):
            sock.recv(1)
        self.assertEqual(self.record()["end"], "remote-lost")
        # With bytes and a clean end instead.
        sock, bound = self.bind(by5(PEER))
        far = self.come(bound)
        far.sendall(b"all of it")
        far.close()
        self.assertEqual(reply(sock, 5)[0], 0)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(exactly(sock, 10), b"all of it")

    def test_who_may_not_be_waited_for(self):
        self.start(outgoing='deny_networks = ["11.0.0.66"]\ndeny_ports = [25]\ndeny_sites = ["denied.test"]\n'
                   'allow_anyway = ["0.0.0.0/8", "::/128"]\n')
        for peer, code, end in (
                ("0.0.0.0", 2, "network-refused"), ("::", 2, "network-refused"), ("any.test", 2, "network-refused"),
                ("10.91.3.2", 2, "network-refused"), ("own.test", 2, "network-refused"), ("127.0.0.1", 2, "network-refused"),
                ("::1", 2, "network-refused"), ("224.0.0.1", 2, "network-refused"), ("11.0.0.66", 2, "network-refused"),
                ("denied.test", 2, "site-refused"), ("nosuch.test", 4, "resolve-failed"),
                ("fail.test", 4, "resolve-failed"), ("", 4, "bad-name")):
            with self.subTest(peer=peer):
                self.refused(by5(peer), code, end)
        self.refused(by5(PEER, 25), 2, "port-refused")
        self.refused(by4("127.0.0.1"), 91, "network-refused")
        self.refused(by4("six.test"), 91, "resolve-failed")
        self.refused(by4("2a00:1::21"), 91, "bind-failed")

    def test_name_servers_that_do_not_answer(self):
        self.start(timeouts='connect = "500ms"\n')
        self.assertEqual(self.refused(by5("silent.test"), 4, "resolve-timeout")["phase"], "resolve")

    def test_bytes_and_what_comes_early(self):
        """Nothing that the client sends before the peer is there gets lost, nor anything of either stream."""
        self.start()
        size = 3_000_000
        data = b"".join(peers.pattern(1, at, 50_000) for at in range(0, size, 50_000))
        sock, bound = self.bind(by5(PEER) + data[:1000])
        sock.sendall(data[1000:2000])
        far = self.come(bound)
        self.assertEqual(reply(sock, 5)[0], 0)
        for a, b in ((sock, far), (far, sock)):
            start, got = 2000 if a is sock else 0, b""
            a.settimeout(10)
            while len(got) < size:
                if start < size:
                    start += a.send(data[start:start + 100_000])
                    if start == size:
                        a.shutdown(socket.SHUT_WR)
                got += b.recv(200_000)
            self.assertEqual(got, data)
            self.assertEqual(b.recv(1), b"")
        self.assertEqual((self.record()["bytes_up"], self.record()["end"]), (size, "done"))


class Egress(Case):
    ADDRESSES = ("10.91.3.11", "10.91.3.12", "fd91:0:3::11")

    def start(self, addresses=(), more="", **options):
        t = super().start(outgoing=f"addresses = {json.dumps(addresses)}\n{more}", addresses=self.ADDRESSES, **options)
        t.clients = [f"10.91.0.{i}" for i in range(100, 110)]
        t.host.ip("\n".join(f"addr add {a}/24 dev eth0" for a in t.clients))
        return t

    def reload(self, more):
        config = pathlib.Path(self.t.usocksd.config)
        config.write_text(re.sub('(?m)^iface = .*\n', more, config.read_text()))
        done = len(self.t.usocksd.lines(message="configuration reloaded"))
        self.t.usocksd.signal(signal.SIGHUP)
        self.t.usocksd.wait_line(done + 1, message="configuration reloaded")

    def egress(self):
        return {e["address"]: e for e in flow.status(self.t.proxy, self.t.usocksd)["egress"]}

    def test_own_address_of_the_client(self):
        """That by which it goes out as well, as active FTP asks for; and the connection counts there."""
        t = self.start(self.ADDRESSES)
        t.inet.peer("banner", "::", 80, 0)
        seen = set()
        for client in t.clients:
            with self.ask(test_usocksd.GREETING + test_usocksd.request(PEER, 80), source=(client, 0)) as sock:
                out = reply(sock, 5)[1]
            sock, bound = self.bind(by5(PEER), source=(client, 0))
            self.assertEqual(bound[0], out)
            far = self.come(bound)
            self.assertEqual(far.getpeername()[0], out)
            self.assertEqual(reply(sock, 5)[0], 0)
            lab.wait_until(lambda a=out: self.egress()[a]["flows"] == 1)
            self.talk(sock, far)
            seen.add(out)
        self.assertEqual(seen, set(self.ADDRESSES[:2]))
        self.assertEqual(self.bind(by5(PEER6))[1][0], self.ADDRESSES[2])
        lab.wait_until(lambda: {e["flows"] for e in self.egress().values()} == {0})
        self.assertEqual(sum(e["connects"] for e in self.egress().values()), 2 * len(t.clients))

    def test_named_by_a_trusted_proxy(self):
        t = self.start(self.ADDRESSES, incoming='trusted_proxies = ["10.91.0.2"]\n')
        for client in t.clients:
            mine = self.bind(by5(PEER), source=(client, 0))[1][0]
            sock = t.host.connect(USOCKSD[0], 1080)
            self.addCleanup(sock.close)
            sock.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H4s4sHH", 12, socket.inet_aton(client),
                                                                      socket.inet_aton(PEER), 1, 2) + by5(PEER))
            self.assertEqual(exactly(sock, 2), b"\x05\x00")
            self.assertEqual(reply(sock, 5)[:2], (0, mine))

    def test_families_and_addresses_that_are_missing(self):
        t = self.start(("10.91.3.99", "10.91.3.11"))
        self.assertEqual(self.bind(by5(PEER))[1][0], "10.91.3.11")
        self.assertEqual(self.bind(by5("both.test"))[1][0], "10.91.3.11")
        self.refused(by5(PEER6), 3, "bind-failed")
        t.proxy.ip("addr del 10.91.3.11/24 dev wan0")
        self.assertIn("outgoing.addresses", self.refused(by5(PEER), 1, "bind-failed")["error"])

    def test_prefix(self):
        t = self.start(("fd91:0:33::/64",))
        t.proxy.ip("route add local fd91:0:33::/64 dev lo")
        t.inet.ip("route add fd91:0:33::/64 via fd91:0:3::2")
        sock, bound = self.bind(by5(PEER6))
        self.assertIn(ipaddress.ip_address(bound[0]), ipaddress.ip_network("fd91:0:33::/64"))
        far = self.come(bound, PEER6)
        self.assertEqual(reply(sock, 5)[1], PEER6)
        self.talk(sock, far)

    def test_interface_and_mark(self):
        """outgoing.iface is that of the port, and what leaves it has the mark of all sockets towards the network."""
        t = self.start(more='iface = "wan0"\n')
        t.proxy.nft("table inet marked { chain out { type filter hook output priority 0;"
                    " ip daddr 11.0.0.21 meta mark & 0x1000 != 0x1000 drop\n}\n}\n")
        sock, bound = self.bind(by5(PEER))
        far = self.come(bound)
        self.assertEqual(reply(sock, 5)[0], 0)
        self.talk(sock, far)
        self.reload('iface = "lo"\n')
        sock, bound = self.bind(by5(PEER))
        t.proxy.nft("delete table inet marked")
        with self.assertRaises(ConnectionRefusedError):
            self.come(bound)
        self.reload('iface = "tun7"\n')
        self.assertEqual(self.refused(by5(PEER), 1, "bind-failed")["error"], "No such device")

    def test_no_route(self):
        t = self.start()
        t.proxy.ip("route del default via fd91:0:3::1")
        self.refused(by5(PEER6), 3, "bind-failed")
        self.assertEqual(self.bind(by5("both.test"))[1][0], USOCKSD[0])


class Life(Case):
    def holds(self):
        worker, = flow.status(self.t.proxy, self.t.usocksd)["workers"]
        return (worker["sessions_live"], worker["setups_live"],
                len(os.listdir(f"/proc/{self.t.usocksd.pid}/fd")))

    def test_nothing_is_left(self):
        self.start()
        self.t.usocksd.wait_line(message="ready")
        before = self.holds()
        waiting = [self.bind(sent) for sent in (by5(PEER), by5("both.test"), by4(PEER)) for _ in range(10)]
        sessions, setups, descriptors = self.holds()
        self.assertEqual((sessions, setups), (30, 30))
        self.assertEqual(descriptors - before[2], 60)
        for number, (sock, bound) in enumerate(waiting):
            if number % 3 == 0:
                flow.reset(sock)
            elif number % 3 == 1:
                self.come(bound, PEER6 if ":" in bound[0] else PEER).close()
                sock.close()
            else:
                far = self.come(bound, PEER6 if ":" in bound[0] else PEER)
                reply(sock, 5 if number < 20 else 4)
                self.talk(sock, far)
        lab.wait_until(lambda: self.holds() == before)

    def test_signals(self):
        t = self.start()
        sock, bound = self.bind(by5(PEER))
        t.usocksd.signal(signal.SIGHUP)
        t.usocksd.wait_line(message="configuration reloaded")
        far = self.come(bound)
        self.assertEqual(reply(sock, 5)[0], 0)
        self.talk(sock, far)
        # A drain waits for the peer, and ends with the flow.
        sock, bound = self.bind(by5(PEER))
        late, late_bound = self.bind(by5(PEER))
        t.usocksd.signal(signal.SIGTERM)
        lab.wait_until(lambda: not t.proxy.listening(1080))
        far = self.come(bound)
        self.assertEqual(reply(sock, 5)[0], 0)
        self.talk(sock, far)
        t.usocksd.signal(signal.SIGTERM)
        with self.assertRaises(ConnectionResetError):
            late.recv(1)
        self.assertEqual(t.usocksd.wait(), 0)
        self.assertFalse(self.is_open(late_bound))
        self.assertEqual((self.record(3)["end"], self.record(3)["phase"]), ("cut", "bind"))

    def test_one_client_does_not_take_all_ports(self):
        """They are those that all clients' connections are made from."""
        t = self.start(config="[limits]\nmax_binds_per_client = 2\n")
        t.inet.peer("banner", "::", 80, 0)
        t.proxy.sysctl("net.ipv4.ip_local_port_range", "50000 50007")
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        for _ in range(2):  # those who are still reading that they get none have none
            self.refused(by5("127.0.0.1"), 2, "network-refused")
        met, far = self.meet(by5(PEER))
        waiting, _ = self.bind(by4(PEER))
        for sent, code in ((by5(PEER), 2), (by4("four.test"), 91)):
            self.assertIn("max_binds_per_client", self.refused(sent, code, "bind-limit")["error"])
        self.assertEqual(reply(self.ask(test_usocksd.GREETING + test_usocksd.request("11.0.0.9", 80)), 5)[0], 0)
        other = [self.bind(by5(PEER), source=("10.91.0.3", 0)) for _ in range(2)]
        self.talk(met, far)
        t.usocksd.wait_line(type="access", command="BIND", end="done")
        again, _ = self.bind(by5(PEER))
        for sock in (waiting, again, *(sock for sock, _ in other)):
            flow.reset(sock)
        t.usocksd.wait_line(4, type="access", end="client-gone")
        self.meet(by5(PEER))

    def test_requests_that_wait_for_name_servers(self):
        """Those by BIND are among them."""
        t = self.start(config="[limits]\nmax_resolving = 4\n")
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        waiting = self.ask(by5("silent.test"))
        lab.wait_until(lambda: "silent.test" in t.dns.log())
        self.refused(by5("both.test"), 1, "resolve-limit")
        # They are still asked for one whose client has gone.
        flow.reset(waiting)
        self.record(2)
        self.refused(by5("four.test"), 1, "resolve-limit")
        self.assertEqual(self.bind(by5("four.test"), source=("10.91.0.3", 0))[1][0], USOCKSD[0])

    def test_strangers_without_end(self):
        """So many as knock at an open port do no harm; whoever sends a thousand closes it."""
        self.start()
        sock, bound = self.bind(by5(PEER))
        for count in (300, 700):
            self.knock(bound, count)
            if count == 300:
                far = self.come(bound)
                self.assertEqual(reply(sock, 5)[0], 0)
                self.talk(sock, far)
                sock, bound = self.bind(by5(PEER))
                self.knock(bound, count)
        self.assertEqual(reply(sock, 5), (1, "0.0.0.0", 0))
        self.wait_closed(bound)
        self.assertIn("too many others", self.record(2)["error"])

    def knock(self, bound, count):
        for _ in range(count):
            with self.assertRaises(GONE), self.t.inet.connect(*bound, source=("11.0.0.22", 0)) as sock:
                sock.recv(1)

    def test_no_port_left(self):
        t = self.start()
        t.proxy.sysctl("net.ipv4.ip_local_port_range", "50000 50007")
        open_ports = [self.bind(by5(PEER)) for _ in range(8)]
        self.assertEqual({bound[1] for _, bound in open_ports}, set(range(50000, 50008)))
        self.assertEqual(self.refused(by5(PEER), 1, "bind-failed")["error"], "the own address has no port left")
        flow.reset(open_ports[3][0])
        self.record(2)
        self.assertEqual(self.bind(by5(PEER))[1], open_ports[3][1])

    def test_limits(self):
        """One that waits is a flow of its client's."""
        self.start(config="[limits]\nmax_flows_per_client = 2\n")
        waiting = [self.bind(by5(PEER)) for _ in range(2)]
        self.refused(by5(PEER), 2, "client-limit")
        flow.reset(waiting[0][0])
        self.record(2)
        self.meet(by5(PEER))


@lab.needs_uids
@lab.needs_program("vsftpd")
class Ftp(test_egress.Egress):
    """Active FTP: vsftpd connects to the client, and only to where its control connection comes from."""

    ROUTE = ("resolveprotocol: fake\nroute {\nfrom: 0.0.0.0/0 to: 0.0.0.0/0 via: 10.91.3.2 port = 1080\n"
             "proxyprotocol: socks_v%d\ncommand: bind connect\n}\n")
    @lab.needs_program("socksify")
    @lab.needs_program("tnftp")
    def test_client_that_knows_no_socks(self):
        """One from 4.4BSD, under Dante's library, at each of the addresses."""
        t = self.start(test_egress.toml(test_egress.EGRESS))
        test_egress.Ftp.serve(self)
        used = self.everybody()
        for number, address in enumerate(test_egress.EGRESS):
            client = next(c for c in t.clients if used[c] == address)
            t.host.ip(f"route replace 10.91.3.0/24 via 10.91.0.1 src {client}")
            route = lab.WORK / "socks.conf"
            route.write_text(self.ROUTE % (4 if number == 0 else 5))
            done = t.host.run("socksify", "tnftp", "-Aan", "11.0.0.21", env={"SOCKS_CONF": str(route)},
                              stdin="user anonymous x\n" + 2 * "get hello -\n")
            self.assertEqual(done.stdout.count("hello by ftp\n"), 2, done.stdout + done.stderr)
        log = (lab.WORK / "vsftpd.log").read_text()
        self.assertEqual(set(re.findall(r'OK DOWNLOAD: Client "([^"]+)"', log)), set(test_egress.EGRESS))
        t.usocksd.wait_line(8, type="access", command="BIND")
        binds = t.usocksd.lines(type="access", command="BIND")
        self.assertEqual(({r["end"] for r in binds}, len(binds)), ({"done"}, 8))
        self.assertEqual({r["protocol"] for r in binds}, {"SOCKS4", "SOCKS5"})
        self.assertEqual({r["src_addr"].split(":")[0] for r in binds}, set(test_egress.EGRESS))


if __name__ == "__main__":
    lab.main()
