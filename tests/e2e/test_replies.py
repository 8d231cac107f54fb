# SPDX-License-Identifier: MIT
"""What usocksd answers, byte by byte, and how the connection ends: a row for each kind of request."""
import collections
import concurrent.futures
import ipaddress
import socket
import struct
import threading
import time
import typing

import lab
import test_auth
import test_socks4

# The daemons of the table, by port.
OPEN, AUTH, HASTY, STRICT, HOMELESS, CALM = range(1080, 1680, 100)
PATIENCE = 10  # seconds: of a client, and what RFC 1928 section 6 leaves for the close after a failure
JOBS = 24

HERE, V4, V6 = "127.0.0.1", "11.0.0.1", "2a00:1::1"
ZONE = ("four.test=11.0.0.1", "six.test=2a00:1::1", "both.test=11.0.0.1", "both.test=2a00:1::1", "fail.test=fail",
        "silent.test=silent", "denied.test=11.0.0.1", "inner.test=127.0.0.1", "mixed.test=127.0.0.1",
        "mixed.test=11.0.0.1", "noroute.test=11.10.0.1", "unreachable.test=11.11.0.1", "prohibited.test=11.12.0.1",
        "blackhole.test=11.8.0.1", f"{'l' * 63}.{'m' * 63}.{'n' * 63}.{'o' * 61}=11.0.0.1")
DENIED = 'deny_sites = ["denied.test"]\ndeny_ports = [25]\ndeny_networks = ["11.13.0.0/16"]\n'
LONGEST = ZONE[-1].partition("=")[0]

FIN, RST = "end of file", "reset"
BOUND = b"<bound>"  # in what is expected: our end of the connection, as the destination has seen it
TOKEN = b"<token>"  # in what is sent: the first bytes of payload, for a client that does not wait


def served(bound=b"\x01" + BOUND):
    return b"\x05\x00\x00" + bound


def failed(code):
    return bytes([5, code, 0, 1]) + bytes(6)


def v5(dest, port=80, command=1, kind=None, version=5, reserved=0):
    """A request of SOCKS5; `dest` is an address, or a name as bytes."""
    if isinstance(dest, bytes):
        natural, raw = 3, bytes([len(dest)]) + dest
    else:
        raw = ipaddress.ip_address(dest).packed
        natural = 1 if len(raw) == 4 else 4
    return bytes([version, command, reserved, natural if kind is None else kind]) + raw + struct.pack("!H", port)


def login(user, password, version=1):
    return bytes([version, len(user)]) + user + bytes([len(password)]) + password


HELLO = (b"\x05\x01\x00", b"\x05\x00")
OFFER = (b"\x05\x01\x02", b"\x05\x02")
KNOWN = (login(b"bob", b"secret"), b"\x01\x00")
UNKNOWN = b"\x01\x01"
GRANTED4, REJECTED4 = b"\x00\x5a" + BOUND, b"\x00\x5b" + bytes(6)


class Row(typing.NamedTuple):
    what: str
    to: int  # which daemon
    steps: tuple  # of (what is sent, what is answered): the next is sent once that has come
    ends: str  # after that; a connection that was served by FIN
    why: str  # the access record's word
    dribble: bool = False


def ask(what, dest, gets, why, **request):
    """A SOCKS5 request by the book."""
    return Row(what, OPEN, (HELLO, (v5(dest, **request), gets)), FIN, why)


def connected():
    yield ask("IPv4", V4, served(), "done")
    yield ask("IPv6", V6, served(b"\x04" + BOUND), "done")
    yield ask("a name", b"four.test", served(), "done")
    yield ask("a name with IPv6 alone", b"six.test", served(b"\x04" + BOUND), "done")
    yield ask("RSV 1", V4, served(), "done", reserved=1)
    yield ask("RSV 255", b"four.test", served(), "done", reserved=255)
    yield ask("a mapped address", "::ffff:11.0.0.1", served(), "done")
    yield ask("the longest name", LONGEST.encode(), served(), "done")
    yield ask("a name of which one address is refused", b"mixed.test", served(), "done")
    for name in (b"four.test.", b"FOUR.Test", b"FOUR.TEST.", V4.encode()):
        yield ask(f"the name {name}", name, served(), "done")
    for name in (b"2a00:1::1", b"[2a00:1::1]", b"2A00:1:0:0::1"):
        yield ask(f"the name {name}", name, served(b"\x04" + BOUND), "done")
    for what, offer in (("00 and 02 offered", b"\x05\x02\x00\x02"), ("02 and 00 offered", b"\x05\x02\x02\x00"),
                        ("00 twice", b"\x05\x02\x00\x00"), ("every method", b"\x05\xff" + bytes(range(255)))):
        yield Row(what, OPEN, ((offer, b"\x05\x00"), (v5(V4), served())), FIN, "done")


def sent_otherwise():
    """The same bytes, in other pieces than one for each message."""
    hello = HELLO[0]
    yield Row("greeting and request at once", OPEN, ((hello + v5(b"four.test"), b"\x05\x00" + served()),), FIN,
              "done")
    yield Row("payload behind the request", OPEN, ((hello + v5(V4) + TOKEN, b"\x05\x00" + served()),), FIN, "done")
    yield Row("payload behind the request alone", OPEN, (HELLO, (v5(V4) + TOKEN, served())), FIN, "done")
    yield Row("byte by byte", OPEN, ((hello + v5(b"four.test"), b"\x05\x00" + served()),), FIN, "done", True)
    yield Row("byte by byte, IPv6", OPEN, (HELLO, (v5(V6), served(b"\x04" + BOUND))), FIN, "done", True)
    yield Row("at once, refused by the destination", OPEN,
              ((hello + v5(V4, 81) + b"payload", b"\x05\x00" + failed(5)),), FIN, "connect-failed")
    yield Row("user and password, all at once", AUTH,
              ((OFFER[0] + KNOWN[0] + v5(V4) + TOKEN, b"\x05\x02\x01\x00" + served()),), FIN, "done")
    yield Row("user and password, byte by byte", AUTH,
              ((OFFER[0] + KNOWN[0] + v5(V4), b"\x05\x02\x01\x00" + served()),), FIN, "done", True)


def greetings():
    for what, offer in (("nmethods 0", b"\x05\x00"), ("GSSAPI alone", b"\x05\x01\x01"), ("02 alone", b"\x05\x01\x02"),
                        ("what is not assigned", b"\x05\x03\x03\x7f\xff")):
        yield Row(what, OPEN, ((offer, b"\x05\xff"),), FIN, "bad-request")
        yield Row(what + ", with a request behind", OPEN, ((offer + v5(V4), b"\x05\xff"),), FIN, "bad-request")
    junk = {"HTTP": b"GET http://four.test/ HTTP/1.1\r\nHost: four.test\r\n\r\n", "CONNECT": b"CONNECT four.test:443",
            "TLS": bytes.fromhex("16030100c6010000c20303") + bytes(range(190)), "SSH": b"SSH-2.0-x\r\n", "NUL": b"\0",
            "PROXY v1": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "SOCKS6": b"\x06\x01\x00", "FF": b"\xff" * 300,
            "PROXY v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)}
    for what, sent in junk.items():
        yield Row(f"{what} instead of SOCKS", OPEN, ((sent, b""),), FIN, "bad-request")


def malformed():
    for version in (0, 1, 4, 6, 255):
        yield ask(f"VER {version} in a request", V4, failed(1), "bad-request", version=version)
    # BIND and UDP ASSOCIATE, 2 and 3, have a file of their own.
    for command in (0, 4, 9, 255):
        for dest in (V4, V6, b"four.test"):
            yield ask(f"CMD {command} for {dest}", dest, failed(7), "bad-request", command=command)
    for kind in (0, 2, 5, 255):
        yield ask(f"ATYP {kind}", V4, failed(8), "bad-request", kind=kind)
    yield ask("no name", b"", failed(4), "bad-name")
    for name in (b".", b"..", b"a..b", b".four.test", b"four.test..", b"four.test\0", b"four.test\0.evil.test", b"\0",
                 b"four.test\r\nX: y", b"four\ntest", b"x y", b" four.test", b"\xff" * 255, "fo\u00fcr.test".encode(),
                 b"four.test:80", b"a" * 64 + b".test", b"a." * 127 + b"a", b"0x7f.1", b"0x7f000001", b"127.1",
                 b"2130706433",
                 b"017700000001", b"127.0.0.01", b"11.0.0.1.", b"256.1.1.1", b"[2a00:1::1", b"2a00:1::1]",
                 b"[four.test]",
                 b"[11.0.0.1]", b"fe80::1%lo", b"2a00:1::1%1", b"11.0.0.1/32", b"http://four.test", b"*.test"):
        yield ask(f"the name {name[:40]}", name, failed(4), "bad-name")


def refused():
    for dest, port in ((V4, 81), (V6, 81), (b"both.test", 81)):
        yield ask(f"nobody listens at {dest}", dest, failed(5), "connect-failed", port=port)
    for dest in ("11.10.0.1", "2a00:1:10::1", b"noroute.test"):
        yield ask(f"no route to {dest}", dest, failed(3), "connect-failed")
    for dest in ("11.11.0.1", "2a00:1:11::1", b"unreachable.test"):
        yield ask(f"a host that is unreachable: {dest}", dest, failed(4), "connect-failed")
    for dest in ("11.12.0.1", "2a00:1:12::1", b"prohibited.test"):
        yield ask(f"a prohibited route to {dest}", dest, failed(2), "connect-failed")
    for dest in ("11.8.0.1", "2a00:1:8::1", b"blackhole.test"):
        yield ask(f"no answer from {dest}", dest, failed(6), "connect-timeout")
    yield Row("no answer, and the kernel gives up", CALM, (HELLO, (v5("11.8.0.1"), failed(6))), FIN, "connect-failed")
    yield Row("from an address that we do not have", HOMELESS, (HELLO, (v5(V4), failed(1))), FIN, "connect-failed")
    yield Row("a family that we have no address of", HOMELESS, (HELLO, (v5(V6), failed(3))), FIN, "connect-failed")
    yield ask("no such name", b"nosuch.test", failed(4), "resolve-failed")
    yield ask("a name server's error", b"fail.test", failed(4), "resolve-failed")
    yield ask("a name server that is silent", b"silent.test", failed(4), "resolve-timeout")


def not_allowed():
    yield ask("a port", V4, failed(2), "port-refused", port=25)
    yield ask("a port by name", b"four.test", failed(2), "port-refused", port=25)
    for name in (b"denied.test", b"denied.test.", b"DENIED.Test"):
        yield ask(f"the site {name}", name, failed(2), "site-refused")
    for dest in ("11.13.0.1", "::ffff:11.13.0.1", "64:ff9b::11.13.0.1", b"11.13.0.1", b"[::ffff:11.13.0.1]"):
        yield ask(f"the network of {dest}", dest, failed(2), "network-refused")
    for dest in (HERE, "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", b"localhost", b"inner.test",
                 b"127.0.0.1",
                 b"[::1]", "10.91.0.2", "fd91::2", b"10.91.0.2", "169.254.169.254", b"169.254.169.254",
                 "fd00:ec2::254", "224.0.0.1", "255.255.255.255", "ff02::1", "100.100.100.200"):
        for port in (80, OPEN):
            yield ask(f"{dest} port {port}", dest, failed(2), "network-refused", port=port)
    yield Row("a stranger", STRICT, ((HELLO[0] + v5(V4), b""),), RST, "client-refused")


def passwords():
    yield Row("user and password", AUTH, (OFFER, KNOWN, (v5(b"four.test"), served())), FIN, "done")
    yield Row("00 and 02 offered where passwords are asked for", AUTH,
              ((b"\x05\x02\x00\x02", b"\x05\x02"), KNOWN, (v5(V6), served(b"\x04" + BOUND))), FIN, "done")
    yield Row("a failure behind a password", AUTH, (OFFER, KNOWN, (v5(V4, 81), failed(5))), FIN, "connect-failed")
    yield Row("a wrong command behind a password", AUTH, (OFFER, KNOWN, (v5(V4, command=9), failed(7))), FIN,
              "bad-request")
    for what, sent in (("a wrong password", login(b"bob", b"Secret")), ("no password", login(b"bob", b"")),
                       ("no user", login(b"", b"secret")), ("neither user nor password", login(b"", b"")),
                       ("NUL and more behind the user", login(b"bob\0x", b"secret")),
                       ("a NUL behind the user", login(b"bob\0", b"secret")),
                       ("NUL and more behind the password", login(b"bob", b"secret\0y")),
                       ("a NUL behind the password", login(b"bob", b"secret\0")),
                       ("part of the password", login(b"bob", b"secre")),
                       ("an unknown user", login(b"eve", b"secret")), ("the longest", login(b"u" * 255, b"p" * 255)),
                       ("VER 5 of the password", login(b"bob", b"secret", 5)),
                       ("VER 0 of the password", login(b"bob", b"secret", 0)),
                       ("a request instead of a password", v5(V4))):
        yield Row(what, AUTH, (OFFER, (sent, UNKNOWN)), FIN, "auth-failed")
        yield Row(what + ", with a request behind", AUTH, (OFFER, (sent + v5(V4), UNKNOWN)), FIN, "auth-failed")
    for what, offer in (("00", b"\x05\x01\x00"), ("GSSAPI", b"\x05\x01\x01"), ("nothing", b"\x05\x00")):
        yield Row(f"{what} offered where passwords are asked for", AUTH,
                  ((offer + v5(V4), b"\x05\xff"),), FIN, "auth-failed")
    yield Row("SOCKS4 where passwords are asked for", AUTH, ((test_socks4.by_address(V4, user=b"bob"), REJECTED4),),
              FIN,
              "auth-failed")


def socks4():
    address, name = test_socks4.by_address, test_socks4.by_name
    for what, sent in (("an address", address(V4)), ("a user id", address(V4, user=b"bob")),
                       ("a long user id", address(V4, user=b"u" * 255)),
                       ("a name", name("four.test")), ("an address as name", name("11.0.0.1")),
                       ("a dot", name("FOUR.test."))):
        yield Row(f"SOCKS4 with {what}", OPEN, ((sent, GRANTED4),), FIN, "done")
    yield Row("SOCKS4 to IPv6, for which its reply has no room", OPEN, ((name("six.test"), b"\x00\x5a" + bytes(6)),),
              FIN, "done")
    yield Row("SOCKS4 with payload behind", OPEN, ((name("four.test") + TOKEN, GRANTED4),), FIN, "done")
    yield Row("SOCKS4 byte by byte", OPEN, ((name("four.test", user=b"bob"), GRANTED4),), FIN, "done", True)
    for what, sent, why in (
            ("refused by the destination", address(V4, 81), "connect-failed"),
            ("no route", address("11.10.0.1"), "connect-failed"),
            ("no answer", address("11.8.0.1"), "connect-timeout"), ("no such name", name("nosuch.test"),
                                                                    "resolve-failed"),
            ("0.0.0.0, which is no mark of 4a", address("0.0.0.0"), "network-refused"),
            ("loopback", address(HERE), "network-refused"),
            ("a site", name("denied.test"), "site-refused"), ("a port", address(V4, 25), "port-refused"),
            ("no name", name(""), "bad-name"),
            ("CR LF in a name", name("four.test\r\nX"), "bad-name"), ("0x7f.1", name("0x7f.1"), "bad-name"),
            ("a long name", name("n" * 255), "bad-name"), ("too long a name", name("n" * 256), "bad-request"),
            ("too long a user id", address(V4, user=b"u" * 256), "bad-request"),
            ("CD 0", address(V4, command=0), "bad-request"),
            ("an endless user id", address(V4)[:8] + b"u" * 50_000, "bad-request"),
            ("an endless user id of 4a", address("0.0.0.1")[:8] + b"u" * 50_000, "bad-request"),
            ("an endless name", name("n" * 50_000)[:-1], "bad-request"),
            ("CD 9", name("four.test", command=9), "bad-request")):
        yield Row(f"SOCKS4, {what}", OPEN, ((sent, REJECTED4),), FIN, why)


def unfinished():
    """Nothing can be answered to what is not complete."""
    for sent in (b"", b"\x05", b"\x05\x02\x00", b"\x04", b"\x04\x01\x00\x50", test_socks4.by_address(V4)[:-1],
                 test_socks4.by_name("four.test")[:-1]):
        yield Row(f"{sent} and no more", HASTY, ((sent, b""),), RST, "request-timeout")
    for n in (0, 1, 4, 5, 9):
        yield Row(f"{n} bytes of a request", HASTY, ((HELLO[0] + v5(b"four.test")[:n], b"\x05\x00"),), RST,
                  "request-timeout")


class Destination:
    """Port 80 of `inet`: takes all until the end of file, notes where that came from, and sends it back."""

    def __init__(self, host):
        self.listener = host.listen("::", 80)
        self.listener.settimeout(None)
        self.seen = {}
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.take, args=(connection, peer), daemon=True).start()

    def take(self, connection, peer):
        with connection:
            connection.settimeout(lab.TEST_SECONDS)
            data = receive(connection)
            address = ipaddress.ip_address(peer[0])
            address = address.ipv4_mapped or address
            self.seen[data] = (address.packed, struct.pack("!H", peer[1]))
            connection.sendall(data)


def receive(sock, enough=1 << 20):
    data = b""
    while len(data) < enough and (more := sock.recv(enough - len(data))):
        data += more
    return data


class Replies(lab.TestCase):
    def start(self):
        t = self.t = self.build("host")
        t.dns = t.inet.peer("dns", "10.91.0.1", 53, *ZONE)
        t.destination = Destination(t.inet)
        self.addCleanup(t.destination.listener.close)
        # `throw` goes on with the next table, which is empty: no route.
        t.host.ip("""
            route add throw 11.10.0.0/16
            route add unreachable 11.11.0.0/16
            route add prohibit 11.12.0.0/16
            route add throw 2a00:1:10::/48
            route add unreachable 2a00:1:11::/48
            route add prohibit 2a00:1:12::/48""")
        t.host.sysctl("net.ipv4.tcp_syn_retries", 1)
        path = test_auth.users_file(test_auth.line("bob", "secret"))
        t.daemons = {
            OPEN: self.daemon(OPEN, outgoing=DENIED),
            AUTH: self.daemon(AUTH, extra=f'[auth]\nfile = "{path}"\n'),
            HASTY: self.daemon(HASTY, timeouts='handshake = "2s"\n'),
            STRICT: self.daemon(STRICT, incoming='allow_from = ["10.92.0.0/16"]\n'),
            CALM: self.daemon(CALM, connect="9s"),
            HOMELESS: self.daemon(HOMELESS, outgoing='addresses = ["10.91.0.99"]\n')}
        return t

    def daemon(self, port, incoming="", outgoing="", timeouts="", extra="", connect="1500ms"):
        return self.t.host.usocksd(
            f'control = ""\nworkers = 1\n[incoming]\nport = {port}\n{incoming}[outgoing]\n{outgoing}'
            f'[timeouts]\nconnect = "{connect}"\n{timeouts}[dns]\nservers = ["10.91.0.1"]\n{extra}', ports=(port,))

    def send(self, sock, data, dribble):
        if not dribble:
            return sock.sendall(data)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(0.001)

    def talk(self, number, row):
        """What became of the row: (all that was received, what was to be, how it ended, who asked, seconds)."""
        token = f"token {number}".encode()
        got = wanted = b""
        started = time.monotonic()
        with self.t.host.inside():
            sock = socket.socket()
        with sock:
            sock.settimeout(PATIENCE)
            sock.bind((f"127.1.{number >> 8}.{number & 255}", 0))  # a port alone may come again
            client = "{}:{}".format(*sock.getsockname())
            try:
                sock.connect((HERE, row.to))
                for sends, gets in row.steps:
                    self.send(sock, sends.replace(TOKEN, token), row.dribble)
                    size = 18 if b"\x04" + BOUND in gets else 6
                    got += receive(sock, len(gets.replace(BOUND, bytes(size))))
                    wanted += gets
                if row.why == "done":
                    if TOKEN not in row.steps[-1][0]:
                        sock.sendall(token)
                    sock.shutdown(socket.SHUT_WR)
                    wanted += token
                got += receive(sock)
                ends = FIN
            except ConnectionError:
                wanted = b"".join(gets for _, gets in row.steps)
                ends = RST
            except TimeoutError:
                ends = "nothing"
        return got, wanted, ends, client, time.monotonic() - started, token

    def judge(self, row, became, records):
        """(what became of it, what was to be)."""
        got, wanted, ends, client, seconds, token = became
        if BOUND in wanted:
            address, port = self.t.destination.seen.get(token, (b"", b"nowhere"))
            bound = port + address if row.steps[-1][1] == GRANTED4 else address + port
            wanted = wanted.replace(BOUND, bound)
        why = records[client]["end"] if client in records else row.why  # not every refused one has a line
        return (got, ends, why, seconds < PATIENCE), (wanted, row.ends, row.why, True)

    def told(self, daemon, rows):
        """The access records by client, once the log tells of all rows: of some that were refused only their number."""
        def ends():
            sums = collections.Counter()
            for line in daemon.lines():
                sums[line.get("end")] += line.get("count", 1)
            return {why: sums[why] for why in sums if why is not None}

        lab.wait_until(lambda: sum(ends().values()) >= len(rows), 20, daemon.log)
        self.assertEqual(ends(), dict(collections.Counter(row.why for row in rows)), daemon.name)
        return {r["client_addr"]: r for r in daemon.lines(type="access")}

    def table(self, *kinds):
        t = self.start()
        rows = [row for kind in kinds for row in kind()]
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            became = list(pool.map(self.talk, range(len(rows)), rows))
        records = {}
        for port, daemon in t.daemons.items():
            if mine := [row for row in rows if row.to == port]:
                records[port] = self.told(daemon, mine)
        judged = ((row.what, *self.judge(row, one, records[row.to])) for row, one in zip(rows, became))
        self.assertEqual([row for row in judged if row[1] != row[2]], [])
        self.assertNotIn("secret", "".join(d.log() for d in t.daemons.values()))
        return t

    def test_table(self):
        t = self.table(unfinished, connected, sent_otherwise, greetings, malformed, refused, not_allowed, passwords,
                       socks4)
        # Nobody is asked what no name is.
        asked = {line.split()[1] for line in t.dns.log().splitlines() if line.startswith("dns ")}
        self.assertEqual(asked, {z.partition("=")[0] for z in ZONE} - {"denied.test"} | {"nosuch.test"})


if __name__ == "__main__":
    lab.main()
