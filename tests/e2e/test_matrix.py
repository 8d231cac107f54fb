# SPDX-License-Identifier: MIT
"""
What transocks-rules takes and what it leaves alone, by packets: a row for each reason, in both families, modes and
places. The destination tells: a flow that was taken comes from the SOCKS server, a direct one from the client.
"""
import contextlib
import errno
import os
import pathlib
import select
import socket
import struct
from typing import NamedTuple

import lab
import ways

SO_MARK = 36
SOL_IP, SOL_IPV6, IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 0, 41, 11, 25, 0x2000
PROXIED, DIRECT = "proxied", "direct"
REFUSED, PASSES = "refused", "passes"
# With one uid, the flows of the tests have the only uid there is, and other rows are installed for a uid of nobody.
UID = lab.DAEMON_UID
OTHER_UID = 0 if lab.ONE_UID else 1
LONG_HEADER = b"\xc3\x00\x00\x00\x01" + bytes(1195)  # RFC 9000 section 17.2.2, an Initial packet
SHORT_HEADER = b"\x43" + bytes(40)


class Row(NamedTuple):
    """`result` is for every way, or by place, or by family. `live` is added to the sets behind install."""

    name: str
    result: object
    install: tuple = ()
    to: tuple = tuple(ways.PUBLIC.values())
    port: int = None  # 80, or 443 of UDP
    mark: int = 0
    uid: int = None
    here: bool = False  # the destination is the host of the rules itself
    live: tuple = ()
    payload: bytes = LONG_HEADER  # of a datagram
    source: str = None

    def expected(self, kind, family):
        if isinstance(self.result, dict):
            return self.result.get(kind) or self.result[family]
        return self.result


BYPASS = ("11.5.0.0/16", "2a00:1:5::/48")
INSIDE, OUTSIDE = ("11.5.200.1", "2a00:1:5:f::1"), ("11.6.0.0", "2a00:1:6::")
BENCHMARKING, DOCUMENTATION = "198.18.0.1", "2001:db8::1"
UPSTREAM = ("11.0.0.9", "2a00:1::9")  # of upstream.test
SECOND, PROBED = ("11.0.0.10", "2a00:1::10"), ("11.0.0.11", "2a00:1::11")
SEVERAL = "\n".join(f'[[upstream]]\nurl = "{url}"\ngroup = "{group}"' for url, group in (
    ("socks5://upstream.test:1080", "default"), ("http://11.0.0.10:3128", "far"),
    ("socks4a://[2a00:1::10]:3128", "far"), ("direct://", "far"))) + """
[group.default]
probe_interval = "9s"
probe_dest = "11.0.0.11:443"
[group.far]
probe_interval = "9s"
probe_dest = "[2a00:1::11]:443"
"""
EXEMPT_MARKS = ("--exempt-marks", "0x40000/0xc0000")
HOST_ONLY = {"host": DIRECT, "gateway": PROXIED}  # a client's packets have no uid on its gateway
ONLY_IPV4, ONLY_IPV6 = {"ipv4": PROXIED, "ipv6": DIRECT}, {"ipv4": DIRECT, "ipv6": PROXIED}

TCP = (
    Row("nothing special", PROXIED),
    Row("any port", PROXIED, port=65535),
    Row("special-purpose: private", DIRECT, to=("10.91.3.1", "fd91:0:3::1")),
    Row("special-purpose: shared, documentation", DIRECT, to=("100.64.0.1", DOCUMENTATION)),
    Row("special-purpose: benchmarking, documentation", DIRECT, to=(BENCHMARKING, DOCUMENTATION)),
    Row("redirect_anyway", PROXIED, ("--redirect-anyway", "198.18.0.0/15,2001:db8::/32"),
        to=(BENCHMARKING, DOCUMENTATION)),
    Row("an address of the host itself", DIRECT, to=("11.44.0.1", "2a00:1:44::1"), here=True),
    Row("configured bypass", DIRECT, ("--bypass", ",".join(BYPASS)), to=INSIDE),
    Row("outside of the configured bypass", PROXIED, ("--bypass", ",".join(BYPASS)), to=OUTSIDE),
    Row("live exception", DIRECT, to=INSIDE, live=BYPASS),
    Row("outside of the live exception", PROXIED, to=OUTSIDE, live=BYPASS),
    Row("live exception that has gone", PROXIED, to=INSIDE),
    Row("uid of the daemons", HOST_ONLY, ("--uid", UID), uid=UID),
    Row("exempt uid", HOST_ONLY, ("--exempt-uids", OTHER_UID), uid=OTHER_UID),
    Row("no exempt uid", PROXIED, ("--exempt-uids", "4243"), uid=OTHER_UID),
    Row("mark of the daemons", DIRECT, mark=0x1000),
    Row("mark of the daemons and other bits", DIRECT, mark=0x11001),
    Row("another mark", PROXIED, mark=0x2000),
    Row("exempt mark", DIRECT, EXEMPT_MARKS, mark=0x40001),
    Row("no exempt mark", PROXIED, EXEMPT_MARKS, mark=0xc0000),
    Row("upstream", DIRECT, ("-f", "upstream"), to=UPSTREAM, port=1080),
    Row("another port of the upstream", PROXIED, ("-f", "upstream"), to=UPSTREAM, port=1081),
    Row("another address with the port of the upstream", PROXIED, ("-f", "upstream"), port=1080),
    Row("the first of several upstreams", DIRECT, ("-f", "upstreams"), to=UPSTREAM, port=1080),
    Row("another of them", DIRECT, ("-f", "upstreams"), to=SECOND, port=3128),
    Row("the port of another one", PROXIED, ("-f", "upstreams"), to=SECOND, port=1080),
    Row("what a probe asks for", PROXIED, ("-f", "upstreams"), to=PROBED, port=443),
    Row("in ports", PROXIED, ("--ports", "80,7000-7100"), port=7100),
    Row("not in ports", DIRECT, ("--ports", "80,7000-7100"), port=7101),
    Row("IPv4 only", ONLY_IPV4, ("--family", "ipv4")),
    Row("IPv6 only", ONLY_IPV6, ("--family", "ipv6")),
    Row("share 0", DIRECT, ("--share", "0")),
    Row("share 100", PROXIED, ("--share", "100")),
    Row("with quic = reject", PROXIED, ("--quic", "reject"), port=443),
)

QUIC = ("--quic", "reject")
HOST_PASSES = {"host": PASSES, "gateway": REFUSED}
UDP = (
    Row("connection attempt", REFUSED, QUIC),
    Row("live connection", PASSES, QUIC, payload=SHORT_HEADER),
    Row("one byte", PASSES, QUIC, payload=b"\x7f"),
    Row("no byte", PASSES, QUIC, payload=b""),
    Row("another port", PASSES, QUIC, port=444),
    Row("not asked for", PASSES),
    Row("special-purpose", PASSES, QUIC, to=("10.91.3.1", "fd91:0:3::1")),
    Row("configured bypass", PASSES, (*QUIC, "--bypass", ",".join(BYPASS)), to=INSIDE),
    Row("live exception", PASSES, QUIC, to=INSIDE, live=BYPASS),
    Row("outside of the live exception", REFUSED, QUIC, to=OUTSIDE, live=BYPASS),
    Row("uid of the daemons", HOST_PASSES, (*QUIC, "--uid", UID), uid=UID),
    Row("exempt uid", HOST_PASSES, (*QUIC, "--exempt-uids", OTHER_UID), uid=OTHER_UID),
    Row("mark of the daemons", PASSES, QUIC, mark=0x1000),
    Row("exempt mark", PASSES, (*QUIC, *EXEMPT_MARKS), mark=0x40000),
    Row("not in ports", PASSES, (*QUIC, "--ports", "80")),
    Row("in ports", REFUSED, (*QUIC, "--ports", "400-500")),
    Row("IPv4 only", {"ipv4": REFUSED, "ipv6": PASSES}, (*QUIC, "--family", "ipv4")),
    Row("IPv6 only", {"ipv4": PASSES, "ipv6": REFUSED}, (*QUIC, "--family", "ipv6")),
    Row("share 0", PASSES, (*QUIC, "--share", "0")),
)


class MatrixCase(lab.TestCase):
    def start(self, kind, mode):
        t = ways.start(self, kind, mode)
        t.inet.ip("""
            route add local 100.64.0.0/10 dev lo
            route add local 198.18.0.0/15 dev lo
            route add local 2001:db8::/32 dev lo""")
        t.on.ip("addr add 11.44.0.1/32 dev lo\naddr add 2a00:1:44::1/128 dev lo")
        for name in ("ipv4.icmp_ratelimit", "ipv6.icmp.ratelimit"):  # one client gets six, then one a second
            t.on.sysctl(f"net.{name}", 0)
        hosts = pathlib.Path("/etc/hosts")
        before = hosts.read_text()
        self.addCleanup(hosts.write_text, before)
        hosts.write_text(before + "".join(f"{address} upstream.test\n" for address in UPSTREAM))
        t.files = {name: lab.WORK / f"{name}.toml" for name in ("upstream", "upstreams")}
        t.files["upstream"].write_text('proxy_url = "socks5://upstream.test:1080"\n')
        t.files["upstreams"].write_text(SEVERAL)
        return t

    def install(self, t, row):
        ways.install(t, *(t.files.get(arg, arg) for arg in row.install))

    @contextlib.contextmanager
    def installed(self, t, row):
        """The rules of a row, and what it adds to them."""
        self.install(t, row)
        live = [f"element inet transocks bypass{number} {{ {net} }}" for number, net in zip((4, 6), row.live)]
        for element in live:
            t.on.nft(f"add {element}")
        if row.mark and t.kind == "gateway":  # no mark leaves a host: on a gateway it is that of an earlier rule
            t.on.nft(f"""table inet marks {{ chain prerouting {{
                type filter hook prerouting priority raw; iifname "lan0" meta mark set {row.mark}; }} ; }}""")
        try:
            yield
        finally:
            for element in live:
                t.on.nft(f"delete {element}")
            if row.mark and t.kind == "gateway":
                t.on.nft("delete table inet marks")

    def socket(self, t, row, family, kind):
        """One of the client, as the row wants it."""
        with t.client.inside():
            if row.uid is not None:
                os.seteuid(row.uid)  # rules see the uid that made the socket
            try:
                sock = socket.socket(socket.AF_INET6 if family == "ipv6" else socket.AF_INET, kind)
            finally:
                os.seteuid(0)
        sock.settimeout(lab.LONG)
        if row.source:
            sock.bind((row.source, 0))
        if row.mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, row.mark)
        return sock

    def tcp(self, t, row, family):
        """Where a flow came from that has carried bytes both ways."""
        port = row.port or 80
        to = row.to[ways.FAMILIES.index(family)]
        with (t.on if row.here else t.inet).listen(to, port) as server, \
                self.socket(t, row, family, socket.SOCK_STREAM) as client:
            client.connect((to, port))
            with server.accept()[0] as far:
                far.settimeout(lab.LONG)
                for a, b in ((client, far), (far, client)):
                    a.sendall(b"alive")
                    self.assertEqual(b.recv(5, socket.MSG_WAITALL), b"alive")
                source = far.getpeername()[0]
        if source == ways.PROXIED[family]:
            return PROXIED
        # On one host, a flow to an address of its own comes from that.
        return DIRECT if source in (ways.DIRECT[t.kind][family], to) else source

    def udp(self, t, row, family):
        """Whether a datagram arrives, or its sender is told that the port is closed."""
        port = row.port or 443
        to = row.to[ways.FAMILIES.index(family)]
        with self.socket(t, row, family, socket.SOCK_DGRAM) as client, t.inet.inside(), \
                socket.socket(client.family, socket.SOCK_DGRAM) as server:
            server.bind((to, port))
            client.setsockopt(SOL_IP if family == "ipv4" else SOL_IPV6,
                              IP_RECVERR if family == "ipv4" else IPV6_RECVERR, 1)
            client.connect((to, port))
            with contextlib.suppress(PermissionError, ConnectionRefusedError):  # a host tells itself even here
                client.send(row.payload)
            poll = select.poll()
            poll.register(server, select.POLLIN)
            poll.register(client, 0)
            found = dict(poll.poll(5000))
            self.assertEqual(len(found), 1, "neither arrived nor refused")
            if server.fileno() in found:
                self.assertEqual(server.recv(2000), row.payload)
                return PASSES
            return self.refusal(client, family)

    def refusal(self, client, family):
        """What ICMP has said (struct sock_extended_err)."""
        (_, _, data), *_ = client.recvmsg(2000, 512, MSG_ERRQUEUE)[1]
        why = struct.unpack_from("=IBBB", data)
        closed = (errno.ECONNREFUSED, 2, 3, 3) if family == "ipv4" else (errno.ECONNREFUSED, 3, 1, 4)
        return REFUSED if why == closed else why

    def matrix(self, kind, mode, rows, arrives):
        t = self.start(kind, mode)
        for row in rows:
            with self.installed(t, row):
                self.both(t, row, arrives)
                if row.live:
                    self.install(t, row)
                    self.both(t, row, arrives)

    def both(self, t, row, arrives):
        for family in ways.FAMILIES:
            with self.subTest(f"{row.name}, {family}"):
                self.assertEqual(arrives(t, row, family), row.expected(t.kind, family))


class Matrix(MatrixCase):
    def test_redirect_on_the_host(self):
        self.matrix("host", "redirect", TCP, self.tcp)

    def test_redirect_on_the_gateway(self):
        self.matrix("gateway", "redirect", TCP, self.tcp)

    def test_tproxy_on_the_host(self):
        self.matrix("host", "tproxy", TCP, self.tcp)

    def test_tproxy_on_the_gateway(self):
        self.matrix("gateway", "tproxy", TCP, self.tcp)


class Quic(MatrixCase):
    def test_redirect_on_the_host(self):
        self.matrix("host", "redirect", UDP, self.udp)

    def test_redirect_on_the_gateway(self):
        self.matrix("gateway", "redirect", UDP, self.udp)

    def test_tproxy_on_the_host(self):
        self.matrix("host", "tproxy", UDP, self.udp)

    def test_tproxy_on_the_gateway(self):
        self.matrix("gateway", "tproxy", UDP, self.udp)


class Share(MatrixCase):
    """Of many clients of a gateway: the same ones every time, more of them with a larger share, in both modes."""

    CLIENTS = {"ipv4": [f"10.91.1.{n}" for n in range(50, 250)], "ipv6": [f"fd91:0:1::1:{n:x}" for n in range(200)]}

    def taken(self, t, share):
        """The clients whose flows are taken."""
        ways.install(t, "--share", share, "--quic", "reject")
        found = {}
        for family, clients in self.CLIENTS.items():
            server = t.inet.listen(ways.PUBLIC[family], 8080, backlog=len(clients))
            with server:
                found[family] = {x for x in clients if self.source(t, server, x) == ways.PROXIED[family]}
        return found

    def source(self, t, server, client):
        with t.client.connect(*server.getsockname()[:2], source=(client, 0)), server.accept()[0] as far:
            source = far.getpeername()[0]
        self.assertIn(source, (client, ways.PROXIED[ways.family_of(client)]))
        return source

    def quic_refused(self, t, clients, family):
        row = UDP[0]
        return {x for x in clients if self.udp(t, row._replace(source=x), family) == REFUSED}

    def test_share(self):
        few = None
        for mode in ways.MODES:
            t = self.start("gateway", mode)
            t.client.ip("\n".join(f"addr add {x}/64 dev eth0 nodad" if ":" in x else f"addr add {x}/24 dev eth0"
                                  for x in sum(self.CLIENTS.values(), [])))
            for share in (5, 30, 5):
                found = self.taken(t, share)
                few = few or found
                for family, clients in found.items():
                    with self.subTest(f"{mode}, {family}, {share} percent"):
                        if share == 5:
                            self.assertEqual(clients, few[family])
                            self.assertIn(len(clients), range(1, 23))  # 10 of 200, four standard deviations
                        else:
                            self.assertLess(few[family], clients)
                            self.assertIn(len(clients), range(34, 87))  # 60 of 200
            for family in ways.FAMILIES:
                some = [*few[family], *(x for x in self.CLIENTS[family] if x not in few[family])][:30]
                self.assertEqual(self.quic_refused(t, some, family), few[family])


del MatrixCase


if __name__ == "__main__":
    lab.main()
