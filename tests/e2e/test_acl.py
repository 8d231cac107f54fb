# SPDX-License-Identifier: MIT
"""Who may use usocksd and for what, with a row for each refusal and each known way around one."""
import ipaddress
import signal
import struct

import lab
import test_usocksd

CLIENTS = 'allow_from = ["10.91.0.0/16", "fd91::/32"]\n'
ZONE = ("www.evil.test", "evil.test", "a.below.test", "b.a.below.test", "below.test", "www.good.test",
        "bad.good.test", "good.test", "other.test")

# What no client may reach unless it is opened.
SPECIAL = ("127.0.0.1", "127.1.2.3", "0.0.0.0", "0.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16",
           "192.0.0.192", "224.0.0.1", "255.255.255.255", "10.91.3.2", "::1", "::", "fe80::1", "fec0::1",
           "fd00:ec2::254", "fd20:ce::254", "ff02::1", "2001::1", "64:ff9b:1::1", "fd91:0:3::2")
EMBEDDED = ("127.0.0.1", "169.254.169.254", "10.91.3.2", "0.0.0.0")

REFUSED, SERVED, NO_NAME = 2, 0, 4


def by_name(name, port=80):
    """A request by name, whatever it spells."""
    raw = name if isinstance(name, bytes) else name.encode()
    return struct.pack("!BBBBB", 5, 1, 0, 3, len(raw)) + raw + struct.pack("!H", port)


def by_address(address, port=80):
    """A request by address; a mapped one goes out as it is written."""
    return test_usocksd.request(address, port)


def spellings(address):
    """The same address as other literals."""
    a = ipaddress.ip_address(address)
    yield address
    if a.version == 4:
        number = int(a)
        yield f"::ffff:{address}"
        yield f"::ffff:{number >> 16:x}:{number & 0xffff:x}"
        yield f"0:0:0:0:0:FFFF:{address}"
    else:
        yield a.exploded
        yield a.exploded.upper()


def embedding(address):
    """IPv6 addresses that a translator takes for this one, or that hold it."""
    number = int(ipaddress.ip_address(address))
    yield f"::{address}"
    yield f"64:ff9b::{address}"
    yield f"64:ff9b::{number >> 16:x}:{number & 0xffff:x}"
    yield f"2002:{number >> 16:x}:{number & 0xffff:x}::1"


class Acl(lab.TestCase):
    """usocksd on `proxy`, its clients on `host`."""

    def start(self, outgoing="", incoming=CLIENTS, names=()):
        t = self.build("host")
        t.inet.peer("dns", "11.0.0.53", 53, *(f"{name}=11.0.0.1" for name in ZONE), *names)
        t.inet.peer("banner", "::", 80, 0)
        t.here = t.proxy.peer("banner", "::", 81, 0)
        t.count = 0
        t.usocksd = t.proxy.usocksd(
            f'workers = 1\n[incoming]\n{incoming}[outgoing]\n{outgoing}\n[dns]\nservers = ["11.0.0.53"]\n')
        return t

    def code(self, t, request, to="10.91.3.2", source=None):
        """The reply code, and where the client came from."""
        with t.host.connect(to, 1080, source=source) as sock:
            client = sock.getsockname()
            sock.sendall(test_usocksd.GREETING + request)
            reply = b""
            while data := sock.recv(100):
                reply += data
        self.assertEqual(reply[:3], b"\x05\x00\x05")
        t.count += 1
        return reply[3], f"{client[0]}:{client[1]}"

    def table(self, t, rows):
        """(request, code, end) each."""
        rows = list(rows)
        got = [self.code(t, row[0]) for row in rows]
        records = {r["client_addr"]: r for r in t.usocksd.wait_records(t.count)}
        for (request, code, end), (answer, client) in zip(rows, got):
            with self.subTest(request[3:]):
                self.assertEqual((answer, records[client]["end"]), (code, end))


class Sites(Acl):
    def test_denied_names_in_every_spelling(self):
        t = self.start('deny_sites = ["WWW.evil.test", ".below.test"]')
        self.table(t, (
            *((by_name(name), REFUSED, "site-refused") for name in (
                "www.evil.test", "www.evil.test.", "WWW.EVIL.TEST", "wWw.eViL.tEsT.",
                "a.below.test", "a.below.test.", "A.Below.TEST", "b.a.below.test", "B.A.BELOW.TEST.")),
            # Not these: ".x" is what is below x.
            *((by_name(name), SERVED, "done") for name in ("evil.test", "below.test", "below.test.", "other.test")),
            (by_address("11.0.0.1"), SERVED, "done"),
            # No name at all.
            *((by_name(name), NO_NAME, "bad-name") for name in (
                "", ".", "www.evil.test..", ".www.evil.test", "www..evil.test", "www.evil.test\0", "www.evil.test\0.x",
                "www.evil.test ", " www.evil.test", "www.evil.test\n", "www%2eevil.test", "www.evil.test/", "*",
                "www\u3002evil\u3002test", "www.evil.test:80", b"www.evil.te\xc5\xbft"))))
        self.assertEqual(t.usocksd.lines(type="access")[0]["error"], "in outgoing.deny_sites")
        self.assertEqual(t.usocksd.lines(type="access")[0]["dest_host"], "www.evil.test")

    def test_requests_by_address_denied(self):
        t = self.start('deny_sites = [""]')
        self.table(t, (
            (by_name("other.test"), SERVED, "done"),
            *((by_address(a), REFUSED, "site-refused") for a in ("11.0.0.1", "2a00:1::1", "::ffff:11.0.0.1")),
            *((by_name(name), REFUSED, "site-refused") for name in (
                "11.0.0.1", "2a00:1::1", "[2a00:1::1]", "::ffff:11.0.0.1", "[::ffff:11.0.0.1]", "2A00:1:0:0::1")),
            # inet_aton(3) would take these; nothing here does.
            *((by_name(name), NO_NAME, "bad-name") for name in (
                "", "184549377", "0x0b000001", "0xb.0.0.1", "11.1", "11.0.1", "013.0.0.1", "11.0.0.01",
                "11.0.0.1.", "11.0.0.0x1", "[11.0.0.1", "2a00:1::1%lo", "11.0.0.1/32"))))

    def test_allowed_alone(self):
        t = self.start('allow_sites = [".good.test", "11.0.0.1"]\ndeny_sites = ["bad.good.test"]')
        self.table(t, (
            (by_name("www.good.test"), SERVED, "done"),
            (by_name("WWW.good.test."), SERVED, "done"),
            (by_address("11.0.0.1"), SERVED, "done"),
            (by_name("11.0.0.1"), SERVED, "done"),
            *((by_name(name), REFUSED, "site-refused") for name in (
                "good.test", "other.test", "bad.good.test", "BAD.good.test.", "11.0.0.2", "xgood.test")),
            *((by_address(a), REFUSED, "site-refused") for a in ("11.0.0.2", "2a00:1::1"))))
        errors = {r["error"] for r in t.usocksd.lines(type="access", end="site-refused")}
        self.assertEqual(errors, {"not in outgoing.allow_sites", "in outgoing.deny_sites"})

    def test_ports(self):
        t = self.start('deny_ports = [25, "8000-8999"]')
        self.table(t, (
            *((by_address("11.0.0.1", port), REFUSED, "port-refused") for port in (25, 8000, 8080, 8999)),
            (by_name("other.test", 25), REFUSED, "port-refused"),
            (by_address("11.0.0.1", 80), SERVED, "done"),
            *((by_address("11.0.0.1", port), 5, "connect-failed") for port in (24, 26, 7999, 9000))))


class Networks(Acl):
    def test_special_addresses_in_every_spelling(self):
        targets = [*SPECIAL, *(e for a in EMBEDDED for e in embedding(a))]
        t = self.start(names=[f"n{i}.test={a}" for i, a in enumerate(targets)])
        rows = [by_name("localhost", 81), by_name("LocalHost.", 81)]
        for i, address in enumerate(targets):
            rows.append(by_name(f"n{i}.test", 81))
            for spelling in spellings(address):
                rows += [by_address(spelling, 81), by_name(spelling, 81)]
                if ":" in spelling:
                    rows.append(by_name(f"[{spelling}]", 81))
        self.assertGreater(len(rows), 200)
        self.table(t, ((row, REFUSED, "network-refused") for row in rows))
        self.assertEqual(t.here.log(), "ready\n")
        record = t.usocksd.lines(dest_host="n10.test")[0]
        self.assertEqual((record["dest_addr"], record["error"]),
                         ("10.91.3.2:81", "an address of this host, and not in outgoing.allow_anyway"))

    def test_opened(self):
        t = self.start('allow_anyway = ["127.0.0.0/24", "::1", "10.91.3.2"]\ndeny_networks = ["127.0.0.53"]')
        self.table(t, (
            *((by_address(a, 81), SERVED, "done") for a in ("127.0.0.1", "::1", "10.91.3.2", "::ffff:127.0.0.1")),
            (by_name("localhost", 81), SERVED, "done"),
            *((by_address(a, 81), REFUSED, "network-refused") for a in (
                "127.0.0.53", "127.0.1.1", "fd91:0:3::2", "::ffff:127.0.0.53", "0.0.0.0"))))

    def test_denied(self):
        """On what is dialled: names and translated addresses lead nowhere else."""
        t = self.start('deny_networks = ["11.0.0.0/8", "2a00:1:5::/48"]', names=(
            "four.test=11.0.0.1", "six.test=2a00:1::1", "denied6.test=2a00:1:5::1", "both.test=11.0.0.1",
            "both.test=2a00:1::1", "alias.test=11.0.0.2", "alias.test=11.0.0.3"))
        self.table(t, (
            *((by_address(a), REFUSED, "network-refused") for a in (
                "11.0.0.1", "::ffff:11.0.0.1", "64:ff9b::11.0.0.1", "2002:b00:1::1", "2a00:1:5::1")),
            *((by_name(name), REFUSED, "network-refused") for name in (
                "four.test", "denied6.test", "alias.test", "11.0.0.1", "::ffff:11.0.0.1")),
            (by_address("2a00:1::1"), SERVED, "done"),
            (by_name("six.test"), SERVED, "done"),
            (by_name("both.test"), SERVED, "done"),
            (by_name("nosuch.test"), 4, "resolve-failed")))
        self.assertEqual(t.usocksd.lines(dest_host="both.test")[0]["dest_addr"], "[2a00:1::1]:80")
        self.assertEqual(t.usocksd.lines(dest_host="four.test")[0]["error"], "in outgoing.deny_networks")

    def test_names_with_addresses_of_both_kinds(self):
        """Rebinding: beside an address that is allowed, none that is refused is ever tried."""
        names = [f"m{i}.test={a}" for i in range(40) for a in ("127.0.0.1", "::1", "10.91.3.2", "11.0.0.1")]
        t = self.start(names=names)
        self.table(t, ((by_name(f"m{i}.test"), SERVED, "done") for i in range(40)))
        self.assertEqual({r["dest_addr"] for r in t.usocksd.lines(type="access")}, {"11.0.0.1:80"})
        # Nor is it when the allowed one fails: 81 is served at 127.0.0.1 alone.
        self.table(t, [(by_name("m1.test", 81), 5, "connect-failed")])
        self.assertEqual(t.here.log(), "ready\n")

    def test_an_address_that_comes_and_goes(self):
        t = self.start()
        request = by_address("11.0.0.77")
        self.table(t, [(request, SERVED, "done")])
        t.proxy.ip("addr add 11.0.0.77/32 dev lo")
        self.table(t, [(request, REFUSED, "network-refused")])
        t.proxy.ip("addr del 11.0.0.77/32 dev lo")
        self.table(t, [(request, SERVED, "done")])
        t.proxy.ip("addr add 2a00:1::77/128 dev lo nodad")
        self.table(t, [(by_address("2a00:1::77"), REFUSED, "network-refused")])


class Clients(Acl):
    def closed(self, t, to, source=None):
        """Without a word, and before one of the client's is read."""
        with self.assertRaises(ConnectionResetError):
            with t.host.connect(to, 1080, source=source) as sock:
                got = sock.recv(100)
                raise AssertionError(f"not reset: {got}")
        t.count += 1
        record = t.usocksd.wait_records(t.count)[-1]
        self.assertEqual((record["end"], record["phase"], record["error"]),
                         ("client-refused", "accept", "the client is not in incoming.allow_from"))

    def test_networks_of_both_families(self):
        t = self.start(incoming='allow_from = ["10.91.0.9/24", "fd91::7", "fd91:5::/32"]\n')
        t.host.ip("addr add 10.91.9.2/24 dev eth0\naddr add fd91::7/64 dev eth0 nodad")
        t.inet.ip("route add 10.91.9.0/24 dev host0")
        request = by_address("11.0.0.1")
        self.assertEqual(self.code(t, request)[0], SERVED)
        self.assertEqual(self.code(t, request, "fd91:0:3::2", ("fd91::7", 0))[0], SERVED)
        self.closed(t, "10.91.3.2", ("10.91.9.2", 0))
        # One address, not a /32 of them.
        self.closed(t, "fd91:0:3::2", ("fd91::2", 0))

    def test_this_host_is_no_exception(self):
        t = self.start()
        with self.assertRaises(ConnectionResetError):
            with t.proxy.connect("127.0.0.1", 1080) as sock:
                sock.recv(1)

    def test_where_it_listens(self):
        for incoming, address, loopback in (("", False, True), (CLIENTS, True, True),
                                            ('addresses = ["127.0.0.1"]\n', False, True),
                                            ('addresses = ["10.91.3.2"]\n' + CLIENTS, True, False)):
            with self.subTest(incoming):
                host = self.lonely()
                host.ip("addr add 10.91.3.2/32 dev lo")
                daemon = host.usocksd(f"[incoming]\n{incoming}")
                every = host.listening(1080, "0.0.0.0")
                self.assertEqual((every or host.listening(1080, "10.91.3.2"),
                                  every or host.listening(1080, "127.0.0.1")), (address, loopback))
                daemon.wait_line(message="ready")
                alone = daemon.lines(message="serving this host alone: incoming.allow_from names no clients")
                self.assertEqual(len(alone), 0 if "allow_from" in incoming else 1)

    def test_an_open_relay_does_not_start(self):
        t = self.build("host")
        for addresses in ('"0.0.0.0"', '"::"', '"10.91.0.2"', '"127.0.0.1", "fd91::2"'):
            with self.subTest(addresses):
                proc = t.host.usocksd(f"[incoming]\naddresses = [{addresses}]\n", wait=False)
                self.assertEqual(proc.wait(), 78)
                self.assertRegex(proc.log(), 'is an open relay: write .* such as allow_from = ')

    def test_reloads(self):
        """What a reload takes away is refused, also where the listeners are still those of before."""
        t = self.start()
        config = t.usocksd.config
        before = config.read_text()
        self.assertEqual(self.code(t, by_address("11.0.0.1"))[0], SERVED)
        for number, (text, check) in enumerate((
                (before.replace("[outgoing]", "[outgoing]\ndeny_ports = [80]"),
                 lambda: self.assertEqual(self.code(t, by_address("11.0.0.1"))[0], REFUSED)),
                (before.replace("10.91.0.0/16", "10.92.0.0/16"), lambda: self.closed(t, "10.91.3.2")),
                (before.replace(CLIENTS, ""), lambda: self.closed(t, "10.91.3.2")),
                (before, lambda: self.assertEqual(self.code(t, by_address("11.0.0.1"))[0], SERVED)))):
            config.write_text(text)
            t.usocksd.signal(signal.SIGHUP)
            t.usocksd.wait_line(number + 1, message="configuration reloaded")
            check()


if __name__ == "__main__":
    lab.main()
