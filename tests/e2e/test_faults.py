# SPDX-License-Identifier: MIT
"""
System calls and allocations that fail in the running daemon, one after the other: what fails ends in
a reset with a reason or is not noticed, nothing spins, nothing is lost, and it serves again at once.
"""
import collections
import contextlib
import errno
import fcntl
import ipaddress
import json
import mmap
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import exposition
import lab
import peers

UPSTREAM = "socks5://10.91.3.2:1080"
ADDRESSES = ("11.0.0.1", "2a00:1::1")
ECHO, TRANSFER, RESET, HALF = 7, 8, 9, 10

LOST = {"client-lost", "remote-lost"}

# (call as tests/faults/faults.c names it, errno, how a flow may end: "done" is one that did not notice)
SET_UP = (
    ("socket", "EMFILE", {"no-memory"}),
    ("socket", "ENFILE", {"no-memory"}),
    ("socket", "ENOBUFS", {"no-memory"}),
    ("socket", "ENOMEM", {"no-memory"}),
    ("connect", "ENOBUFS", {"no-memory"}),
    ("connect", "ENOMEM", {"no-memory"}),
    ("connect", "EADDRNOTAVAIL", {"connect-failed"}),
    ("connect", "EAGAIN", {"connect-failed"}),
    ("setsockopt", "ENOMEM", {"no-memory"}),
    ("setsockopt", "ENOBUFS", {"no-memory"}),
    ("setsockopt", "EPERM", {"connect-failed"}),
    ("getsockopt", "ENOBUFS", {"no-destination"}),
    ("getsockopt", "ENOMEM", {"no-destination"}),
    ("epoll_ctl.ADD", "ENOMEM", {"no-memory"}),
    ("epoll_ctl.ADD", "ENOSPC", {"no-memory"}),
    ("send", "ENOBUFS", {"no-memory"}),
    ("send", "ENOMEM", {"no-memory"}),
    ("recv", "ENOBUFS", {"no-memory"}),
    ("recv", "ENOMEM", {"no-memory"}),
    ("malloc", "ENOMEM", {"done", "no-memory"}),
)

# The same for a flow that has exchanged bytes already.
RELAY = (
    ("send", "ENOBUFS", {"no-memory"}),
    ("send", "ENOMEM", {"no-memory"}),
    ("send", "EPERM", LOST),
    ("recv", "ENOBUFS", {"no-memory"}),
    ("recv", "ENOMEM", {"no-memory"}),
    ("recv", "EPERM", LOST),
    ("shutdown", "ENOBUFS", {"no-memory"}),
    ("shutdown", "EPERM", LOST),
    ("malloc", "ENOMEM", {"done", "no-memory"}),
)

# A large transfer is exact whatever these do.
BULK = (
    ("pipe2", "EMFILE"),
    ("pipe2", "ENFILE"),
    ("pipe2", "ENOMEM"),
    ("fcntl.F_SETPIPE_SZ", "EPERM"),
    ("fcntl.F_SETPIPE_SZ", "ENOMEM"),
    ("fcntl.F_SETPIPE_SZ", "EBUSY"),
    ("fcntl.F_GETPIPE_SZ", "EINVAL"),
    ("splice.IN", "ENOMEM"),
    ("splice.IN", "EINVAL"),
    ("splice.IN", "ENOSYS"),
    ("splice.OUT", "ENOMEM"),
    ("splice.OUT", "EINVAL"),
    ("splice.OUT", "EPERM"),
)

# accept4() again and again: the daemon must look away. "at once": an error of one connection.
ACCEPT = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM", "ENETDOWN", "ECONNABORTED", "EINTR", "EINVAL")
ACCEPT_AT_ONCE = ("ECONNABORTED", "EINTR", "EPROTO", "ENETDOWN", "EHOSTUNREACH", "ETIMEDOUT")
ACCEPT_SECONDS = 0.6


def runtime():
    """The library of AddressSanitizer, if the daemon was built with it. It must be loaded first."""
    libraries = subprocess.run(["ldd", lab.BUILD / "transocksd"], capture_output=True, text=True,
                               check=True).stdout
    found = re.search(r"=> (\S*/libasan\S*)", libraries)
    return found[1] if found else ""


ASAN = runtime()


def allocates(test):
    """AddressSanitizer brings an allocator of its own, that cannot be made to fail: no such test with it."""
    return None if ASAN else test


F_GETPIPE_SZ = 1032  # linux/fcntl.h

# Has so many pages in pipes until it is killed.
HOG = """
import fcntl, os, sys, time
pages, pipes = int(sys.argv[1]), []
while pages > 0:
    size = 256
    while size > pages:
        size //= 2
    pipes.append(os.pipe())
    fcntl.fcntl(pipes[-1][0], 1031, size * 4096)
    pages -= size
print("ready", flush=True)
time.sleep(1000)
"""


class Faults:
    """The rows of struct fault in tests/faults/faults.c."""

    ROW = struct.Struct("=24sIIII")
    COUNT = 8

    def __init__(self):
        path = lab.WORK / f"faults-{lab.Proc.count}"
        path.write_bytes(bytes(self.COUNT * self.ROW.size))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)
        self.used = 0  # rows
        self.env = {"FAULTS": str(path), "LD_PRELOAD": f"{ASAN} {lab.BUILD / 'faults.so'}"}

    def _set_error(self, number, error):
        struct.pack_into("=I", self.map, number * self.ROW.size + 24, error)

    @contextlib.contextmanager
    def active(self, *rows, every=1):
        """(call, errno) fails meanwhile, each `every`-th time."""
        first, self.used = self.used, self.used + len(rows)
        for number, (call, _) in enumerate(rows, first):
            self.ROW.pack_into(self.map, number * self.ROW.size, call.encode(), 0, every, 0, 0)
        for number, (_, name) in enumerate(rows, first):
            self._set_error(number, getattr(errno, name))
        try:
            yield self
        finally:
            self.used = first
            for number in range(first, first + len(rows)):
                self._set_error(number, 0)

    def hits(self):
        """How many calls have failed since the rows were set, all together."""
        rows = [self.ROW.unpack_from(self.map, n * self.ROW.size) for n in range(self.COUNT)]
        return sum(row[4] for row in rows)


class Case(lab.TestCase):
    def start(self, more="", upstream=UPSTREAM, user=None):
        t = self.build("host")
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        for kind, port in (("echo", ECHO), ("transfer", TRANSFER)):
            t.inet.peer(kind, "::", port)
        t.inet.peer("reset", "::", RESET, 3000)
        self.t = t
        self.restart(more, upstream)
        t.host.rules("install", *(() if user is None else ("--uid", user)))

    def restart(self, more="", upstream=UPSTREAM):
        self.faults = Faults()
        url = f'proxy_url = "{upstream}"\n' if upstream else ""
        self.daemon = self.t.host.transocksd(f"workers = 1\n{url}{more}", env=self.faults.env)

    def status(self):
        done = self.t.host.run(lab.BUILD / self.daemon.name, "-f", self.daemon.config,
                               "--status", "--json")
        return json.loads(done.stdout)

    def rest(self, flows=0):
        """What it holds when it has nothing to do."""
        lab.wait_until(lambda: self.holds()["sessions_live"] == flows)
        return self.holds()

    def holds(self):
        """What the daemon holds, less the pipes that it keeps for later."""
        worker = self.status()["workers"][0]
        live = {name: n for name, n in worker.items() if not name.endswith("_idle")}
        fds = len(os.listdir(f"/proc/{self.daemon.pid}/fd"))
        live["descriptors"] = fds - 2 * (worker["pipes_idle"] + worker["pipes_live"])
        return live

    def settles(self, before):
        lab.wait_until(lambda: self.holds() == before, 5, lambda: f"{before}\n{self.holds()}")

    def cpu(self):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.daemon.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def open(self, address=ADDRESSES[0], port=ECHO):
        """A flow that has exchanged a byte."""
        sock = self.t.host.connect(address, port)
        self.addCleanup(sock.close)
        sock.sendall(b"x")
        self.assertEqual(sock.recv(1), b"x")
        return sock

    def echo(self, address=ADDRESSES[0], sock=None):
        """One flow: "done", or "reset"; what the daemon may never do is an AssertionError."""
        text = random.randbytes(3000)
        got = b""
        try:
            with sock or self.t.host.connect(address, ECHO) as sock:
                sock.settimeout(lab.LONG)
                sock.sendall(text)
                sock.shutdown(socket.SHUT_WR)
                while data := sock.recv(65536):
                    got += data
        except (ConnectionResetError, BrokenPipeError):
            return "reset"
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # shutdown() after a reset
                return "reset"
            if isinstance(error, TimeoutError):
                raise AssertionError(f"a flow hangs after {len(got)} bytes") from None
            raise
        self.assertEqual(got, text, "a clean end of file after other bytes than all")
        return "done"

    def records(self):
        return collections.Counter(r["end"] for r in self.daemon.lines(type="access"))

    def count(self, outcomes, ends, before):
        """The records since `before` fit what clients saw."""
        def new():
            return self.records() - before

        lab.wait_until(lambda: sum(new().values()) >= len(outcomes), 5,
                       lambda: f"{outcomes}\n{self.daemon.log()}")
        found = new()
        self.assertEqual(sum(found.values()), len(outcomes), (outcomes, found))
        self.assertEqual(found["done"], outcomes.count("done"), (outcomes, found))
        self.assertLessEqual(set(found), ends | {"done"}, found)
        return found

    def transfer(self, number=1, up=3_000_000, down=3_000_000, address=ADDRESSES[0]):
        """A large transfer, both ways at once; what was wrong with it."""
        bad = []

        def upload(sock):
            try:
                peers.upload(sock, number, up)
            except OSError as error:
                bad.append(f"upload: {error}")

        with self.t.host.connect(address, TRANSFER) as sock:
            sock.settimeout(lab.LONG)
            sock.sendall(peers.HEADER.pack(number, peers.BOTH_AT_ONCE, up, down))
            thread = threading.Thread(target=upload, args=(sock,))
            thread.start()
            try:
                bad.append(peers.download(sock, number, down))
            except OSError as error:
                bad.append(f"download: {error}")
            thread.join()
        return [x for x in bad if x is not None]

    def row(self, call, name, ends, make):
        """Each call fails, then each second, then each third; then none."""
        hits = 0
        for every, count in ((1, 2), (2, 4), (3, 6)):
            before = self.records()
            flows = [make(ADDRESSES[n % 2]) for n in range(count)]
            with self.faults.active((call, name), every=every):
                outcomes = [flow() for flow in flows]
            hits += self.faults.hits()
            found = self.count(outcomes, ends, before)
            if every == 1 and "done" not in ends:
                self.assertEqual(found["done"], 0)
            before = self.records()
            self.count([self.echo()], set(), before)
        # Allocations are few: that is what the pools are for.
        self.assertTrue(hits > 0 or call == "malloc", "never called")


class Flows(Case):
    def test_set_up(self):
        self.start()
        for address in ADDRESSES:
            self.assertEqual(self.echo(address), "done")
        before = self.rest()
        for call, name, ends in SET_UP:
            with self.subTest(call=call, errno=name):
                self.row(call, name, ends, lambda address: lambda: self.echo(address))
        self.settles(before)

    def test_log(self):
        """Flows do not depend on it; what was lost is counted."""
        self.start()
        for name in ("ENOSPC", "EIO", "ENOBUFS"):
            before = self.records()
            with self.faults.active(("write", name)):
                for address in ADDRESSES:
                    self.assertEqual(self.echo(address), "done")
                lab.wait_until(lambda: self.faults.hits() > 0)
            self.assertEqual(self.echo(), "done")
            lab.wait_until(lambda: self.records() != before)
        lines = self.daemon.lines(message="log lines dropped")
        lost = sum(line["dropped"] for line in lines)
        self.assertGreaterEqual(lost, 3)
        lab.wait_until(lambda: self.records()["done"] == 9 - lost)

    def test_relay(self):
        self.start()

        def make(address):
            sock = self.open(address)
            return lambda: self.echo(sock=sock)

        make(ADDRESSES[0])()
        before = self.rest()
        for call, name, ends in RELAY:
            with self.subTest(call=call, errno=name):
                self.row(call, name, ends, make)
        self.settles(before)

    def test_source_address(self):
        self.start(f'[[upstream]]\nurl = "{UPSTREAM}"\nsource = ["10.91.0.2"]\n', None)
        self.assertEqual(self.echo(), "done")
        before = self.rest()
        for name, ends in (("ENOMEM", {"no-memory"}), ("ENOBUFS", {"no-memory"}),
                           ("EADDRNOTAVAIL", {"connect-failed"}), ("EACCES", {"connect-failed"})):
            with self.subTest(errno=name):
                self.row("bind", name, ends, lambda address: lambda: self.echo(address))
        self.settles(before)

    def test_direct(self):
        """Without an upstream the flow's first calls are others, and each flow is looked at for loops."""
        self.start('listen = ":1081"\n', "direct://")
        with self.faults.active(("socket.NETLINK", "EMFILE")):
            self.assertEqual([self.echo(address) for address in ADDRESSES], ["done"] * 2)
            self.assertEqual(self.faults.hits(), 2)
        self.assertEqual(self.echo(), "done")
        self.daemon.wait_records(3)
        before = self.rest()
        for call, name, ends in (
                ("socket", "EMFILE", {"no-memory"}),
                ("send", "ENOMEM", {"done", "no-memory"}),
                ("recv", "ENOMEM", {"done", "no-memory"}),
                ("getsockname", "ENOBUFS", {"done", "no-destination"})):
            with self.subTest(call=call, errno=name):
                self.row(call, name, ends, lambda address: lambda: self.echo(address))
        self.settles(before)

    def test_reset_without_linger(self):
        """The reset of the server reaches the client also where SO_LINGER cannot be set."""
        self.start()
        with self.faults.active(("setsockopt.LINGER", "ENOMEM")):
            for address in ADDRESSES:
                got = self.t.host.expect_reset(address, RESET)
                self.assertEqual(len(got), 3000)
            self.assertEqual(self.faults.hits(), 4)
        self.assertEqual({r["end"] for r in self.daemon.wait_records(2)}, {"remote-lost"})

    def test_names(self):
        """A name server out of reach for want of descriptors."""
        self.t = t = self.build("host")
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.inet.peer("dns", "10.91.0.1", 53, "proxy.test=10.91.3.2")
        t.inet.peer("echo", "::", ECHO)
        self.restart('[dns]\nservers = ["10.91.0.1"]\n[timeouts]\nconnect = "400ms"\n',
                     "socks5://proxy.test:1080")
        t.host.rules("install")
        self.assertEqual(self.echo(), "done")
        before = self.rest()
        ends = {"resolve-failed", "resolve-timeout", "connect-failed", "no-memory"}
        for call, name, may in (
                ("socket", "EMFILE", ends), ("socket", "ENFILE", ends),
                ("malloc", "ENOMEM", ends | {"done"}),
                ("connect", "ENOBUFS", ends), ("epoll_ctl.ADD", "ENOSPC", ends)):
            with self.subTest(call=call, errno=name):
                self.row(call, name, may, lambda address: self.echo)
        self.settles(before)

    @allocates
    def test_no_memory_for_more_flows(self):
        """The pools cannot grow: what they have serves, who comes beyond that is reset."""
        self.start(upstream="direct://")
        self.assertEqual(self.echo(), "done")
        before = self.rest()
        flows = []
        with self.faults.active(("mmap", "ENOMEM"), ("malloc", "ENOMEM")):
            for number in range(400):
                with contextlib.suppress(ConnectionResetError):
                    flows.append(self.t.host.connect(ADDRESSES[number % 2], ECHO))
                    self.addCleanup(flows[-1].close)
            served = [sock for sock in flows if self.answers(sock)]
            self.assertGreater(self.faults.hits(), 0)
            self.assertLess(len(served), 400)
            lab.wait_until(lambda: self.records()["no-memory"] == 400 - len(served), 5,
                           lambda: f"{len(served)} {self.records()}")
        self.assertEqual(self.echo(), "done")
        for sock in served:
            sock.close()
        self.settles(before)

    def answers(self, sock):
        try:
            sock.sendall(b"x")
            return sock.recv(1) == b"x"
        except OSError as error:
            self.assertIn(error.errno, (errno.ECONNRESET, errno.EPIPE))
            return False


class Usocksd(Case):
    """The same engine with another way in. A client that can be told is told, by a reply that is no success."""

    SET_UP = (
        ("socket", "EMFILE", {"no-memory"}),
        ("connect", "ENOBUFS", {"no-memory"}),
        ("setsockopt", "ENOMEM", {"no-memory"}),
        ("epoll_ctl.ADD", "ENOSPC", {"no-memory"}),
        ("getsockname", "ENOBUFS", {"done"}),
        ("send", "ENOBUFS", {"no-memory"}),
        ("send", "EPERM", {"client-gone"} | LOST),
        ("recv", "ENOMEM", {"no-memory"}),
        ("malloc", "ENOMEM", {"done", "no-memory"}),
    )

    def test_rows(self):
        self.t = t = self.build("host")
        t.inet.peer("echo", "::", ECHO)
        self.faults = Faults()
        self.daemon = t.host.usocksd("workers = 1\n", env=self.faults.env)
        self.assertEqual(self.echo(), "done")
        before = self.rest()
        for call, name, ends in self.SET_UP:
            with self.subTest(call=call, errno=name):
                self.row(call, name, ends, lambda address: lambda: self.echo(address))
        self.settles(before)

    BIND = (
        ("socket", "EMFILE", {"no-memory"}),
        ("bind", "EADDRNOTAVAIL", {"bind-failed"}),
        ("bind", "ENOMEM", {"no-memory"}),
        ("listen", "EADDRINUSE", {"bind-failed"}),
        ("listen", "ENOBUFS", {"no-memory"}),
        ("connect", "ENETUNREACH", {"bind-failed"}),
        ("setsockopt", "ENOMEM", {"no-memory"}),
        ("getsockname", "ENOBUFS", {"no-memory"}),
        ("epoll_ctl.ADD", "ENOSPC", {"no-memory"}),
        ("send", "ENOBUFS", {"no-memory"}),
        ("recv", "ENOMEM", {"no-memory"}),
    )

    def test_bind(self):
        """Also where the peer of a BIND cannot be accepted for a while."""
        self.t = t = self.build("host")
        t.inet.peer("echo", "::", ECHO)
        self.faults = Faults()
        self.daemon = t.host.usocksd("workers = 1\n", env=self.faults.env)
        self.assertEqual((self.echo(), self.bind()), ("done", "done"))
        before = self.rest()
        for call, name, ends in self.BIND:
            with self.subTest(call=call, errno=name):
                self.row(call, name, ends, lambda address: lambda: self.bind(address))
        with contextlib.ExitStack() as stack:
            def look_away():
                stack.enter_context(self.faults.active(("accept4", "EMFILE")))

            def look_again():
                lab.wait_until(lambda: self.faults.hits() > 0)
                stack.close()
            self.assertEqual(self.bind(opened=look_away, came=look_again), "done")
        self.settles(before)

    def bind(self, address=ADDRESSES[0], opened=lambda: None, came=lambda: None):
        """One flow by BIND: "done", "told" or "reset"."""
        raw, text = ipaddress.ip_address(address).packed, random.randbytes(3000)
        try:
            sock = self.t.host.connect("127.0.0.1", 1080)
            self.addCleanup(sock.close)
            sock.sendall(b"\5\1\0" + b"\5\2\0" + (b"\1" if len(raw) == 4 else b"\4") + raw + b"\0\0")
            self.assertEqual(self.exactly(sock, 2), b"\5\0")
            code, bound = self.reply(sock)
            if code == 0:
                opened()
                far = self.t.inet.connect(*bound, source=(address, 0))
                self.addCleanup(far.close)
                came()
                code, bound = self.reply(sock)
            if code != 0:
                self.assertEqual(sock.recv(1), b"")
                return "told"
            for one, other in ((sock, far), (far, sock)):
                one.sendall(text)
                one.shutdown(socket.SHUT_WR)
                self.assertEqual(self.exactly(other, len(text) + 1), text)
        except (ConnectionResetError, BrokenPipeError):
            return "reset"
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # shutdown() after a reset
                return "reset"
            raise
        return "done"

    def reply(self, sock):
        """The code of a reply, and the address and port in it."""
        head = self.exactly(sock, 4)
        self.assertEqual(head[0], 5)
        address = self.exactly(sock, 4 if head[3] == 1 else 16)
        return head[1], (str(ipaddress.ip_address(address)), int.from_bytes(self.exactly(sock, 2), "big"))

    def exactly(self, sock, length):
        """So many bytes, or what there is before the end."""
        data = b""
        while len(data) < length and (more := sock.recv(length - len(data))):
            data += more
        return data

    def test_own_addresses(self):
        """While they cannot be read those that were known last are refused, and then the new ones."""
        self.t = t = self.build("host")
        t.inet.peer("echo", "::", ECHO)
        self.faults = Faults()
        self.daemon = t.host.usocksd("workers = 1\n", env=self.faults.env)
        t.host.ip("addr add 11.0.0.8/32 dev lo")
        self.assertEqual((self.echo("11.0.0.8"), self.echo("11.0.0.9")), ("told", "done"))
        with self.faults.active(("getifaddrs", "ENOBUFS")):
            t.host.ip("addr add 11.0.0.7/32 dev lo")
            self.assertEqual((self.echo("11.0.0.8"), self.echo("11.0.0.9")), ("told", "done"))
            self.assertGreaterEqual(self.faults.hits(), 1)
        lab.wait_until(lambda: self.echo("11.0.0.7") == "told" and self.daemon.lines(
            type="access", dest_addr=f"11.0.0.7:{ECHO}", end="network-refused"))
        self.assertEqual((self.echo("11.0.0.8"), self.echo("11.0.0.9")), ("told", "done"))

    def test_own_addresses_that_nobody_tells_of(self):
        """Without news from the kernel they are read again after a second."""
        self.t = t = self.build("host")
        t.inet.peer("echo", "::", ECHO)
        self.faults = Faults()
        with self.faults.active(("socket.NETLINK", "EMFILE")):
            self.daemon = t.host.usocksd("workers = 1\n", env=self.faults.env)
            self.daemon.wait_line(message="ready")
        t.host.ip("addr add 11.0.0.8/32 dev lo")
        lab.wait_until(lambda: self.echo("11.0.0.8") == "told" and self.daemon.lines(
            type="access", dest_addr=f"11.0.0.8:{ECHO}", end="network-refused"))
        self.assertEqual(self.echo("11.0.0.9"), "done")

    def test_own_addresses_cannot_be_read_at_start(self):
        t = self.build("host")
        self.faults = Faults()
        with self.faults.active(("getifaddrs", "ENOBUFS")):
            daemon = t.host.usocksd("workers = 1\n", env=self.faults.env, wait=False)
            self.assertNotEqual(daemon.wait(), 0)
        self.assertIn("cannot read the addresses of this host: No buffer space", daemon.log())

    def echo(self, address=ADDRESSES[0], sock=None):
        raw = ipaddress.ip_address(address).packed
        ask = b"\5\1\0" + b"\5\1\0" + (b"\1" if len(raw) == 4 else b"\4") + raw
        answer = b""
        try:
            sock = self.t.host.connect("127.0.0.1", 1080, 5)
            self.addCleanup(sock.close)
            sock.sendall(ask + struct.pack("!H", ECHO))
            while len(answer) < 6 or len(answer) < (24 if answer[5] == 4 else 12):
                more = sock.recv(100)
                if more == b"":
                    raise AssertionError(f"a clean end of file after {answer!r}")
                answer += more
        except ConnectionResetError:
            return "reset"
        if answer[3] == 0:
            return super().echo(sock=sock)
        self.assertEqual(sock.recv(1), b"")
        return "told"


class Metrics(Case):
    ROWS = (("accept4", "EMFILE"), ("epoll_ctl.ADD", "ENOSPC"), ("recv", "ENOMEM"), ("recv", "EPERM"),
            ("sendmsg", "ENOBUFS"), ("sendmsg", "EPIPE"), ("malloc", "ENOMEM"))

    def test_rows(self):
        """Who asks meanwhile gets an answer or an end; afterwards all is as before."""
        self.t = t = self.build("host")
        self.faults = Faults()
        self.daemon = t.host.usocksd('workers = 1\n[metrics]\nlisten = "localhost:1082"\n', env=self.faults.env)
        exposition.scrape(t.host, "127.0.0.1", "usocksd_")
        before = self.rest()
        for call, name in self.ROWS:
            for every in (1, 2, 3):
                with self.subTest(call=call, errno=name, every=every):
                    with self.faults.active((call, name), every=every):
                        # As many as there may be, of those that go wrong at once.
                        n = 40 if every == 1 and call in ("epoll_ctl.ADD", "malloc") else 3
                        asked = [t.host.connect("127.0.0.1", 1082) for _ in range(n)]
                        for sock in asked:
                            self.ask(sock)
                        self.assertTrue(self.faults.hits() > 0 or (call == "malloc" and ASAN), "never called")
                    exposition.scrape(t.host, "127.0.0.1", "usocksd_")
        self.settles(before)

    def ask(self, sock):
        with sock:
            sock.settimeout(0.2)  # not accepted yet, or forgotten: for the next rows that must not matter
            try:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                while sock.recv(65536):
                    pass
            except (TimeoutError, ConnectionResetError, BrokenPipeError):
                pass


class Accept(Case):
    def test_again_and_again(self):
        """Nobody is accepted for a while: no spin, few lines, those who are there are served."""
        self.start()
        old = self.open()
        before, started = self.rest(1), time.monotonic()
        for name in ACCEPT:
            with self.subTest(errno=name):
                self.again_and_again(name, old)
        seconds = time.monotonic() - started
        self.settles(before)
        said = self.daemon.lines(message="cannot accept, trying again")
        self.assertGreaterEqual(len(said), 2)
        self.assertLessEqual(len(said), seconds + 1)

    def again_and_again(self, name, old):
        with self.faults.active(("accept4", name)):
            waiting = [self.t.host.connect(address, ECHO) for address in ADDRESSES]
            begin = time.monotonic()
            while time.monotonic() < begin + ACCEPT_SECONDS:
                old.sendall(b"still")
                self.assertEqual(old.recv(10), b"still")
                time.sleep(0.1)
            # Ten times a second for each of two listeners; without a pause it would be a hundred thousand.
            self.assertIn(self.faults.hits(), range(2, int(1000 * (time.monotonic() - begin))))
        self.assertEqual([self.echo(sock=sock) for sock in waiting], ["done", "done"])

    def test_errors_of_one_connection(self):
        """They are no reason to wait, nor for a line."""
        self.start()
        for name in ACCEPT_AT_ONCE:
            with self.subTest(errno=name), self.faults.active(("accept4", name), every=3):
                self.assertEqual([self.echo(ADDRESSES[n % 2]) for n in range(6)], ["done"] * 6)
                self.assertGreater(self.faults.hits(), 0)
        self.assertEqual(self.daemon.lines(message="cannot accept, trying again"), [])

    def test_listener_is_not_forgotten(self):
        """Looking at it again fails at first, too."""
        self.start()
        with self.faults.active(("epoll_ctl.MOD", "ENOMEM")):
            with self.faults.active(("accept4", "EMFILE")):
                pass
        with self.faults.active(("accept4", "EMFILE")):
            sock = self.t.host.connect(ADDRESSES[0], ECHO)
            lab.wait_until(lambda: self.faults.hits() > 0)
            with self.faults.active(("epoll_ctl.MOD", "ENOMEM")):
                time.sleep(0.3)
        self.assertEqual(self.echo(sock=sock), "done")


class Bulk(Case):
    def pipes(self):
        worker = self.status()["workers"][0]
        return worker["pipes_live"] + worker["pipes_idle"]

    def test_exact(self):
        self.start()
        self.assertEqual(self.transfer(), [])
        self.assertGreater(self.pipes(), 0, "the control: pipes are used where nothing fails")
        for call, name in BULK:
            with self.subTest(call=call, errno=name):
                self.daemon.kill()
                self.restart()
                self.bulk(call, name)

    def bulk(self, call, name):
        self.assertEqual(self.echo(), "done")
        before = self.rest()
        for number, every in enumerate((1, 3, 7)):
            with self.faults.active((call, name), every=every):
                self.assertEqual(self.transfer(number, address=ADDRESSES[number % 2]), [])
                if every == 1:
                    self.assertGreater(self.faults.hits(), 0)
        self.daemon.wait_records(4)
        self.assertEqual(self.records(), {"done": 4})
        self.settles(before)


    @lab.needs_uids
    def test_limit_of_a_user(self):
        """fs.pipe-user-pages-soft for real: another program of this user leaves few pages, or none."""
        with open("/proc/sys/fs/pipe-user-pages-soft", encoding="ascii") as f:
            limit = int(f.read()) or self.skipTest("there is no limit on this host")
        uid = random.randrange(100_000, 2_000_000_000)  # pages are counted for the whole machine
        for path, line in (("passwd", f"hungry:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n"),
                           ("group", f"hungry:x:{uid}:\n")):
            with open(f"/etc/{path}", "a", encoding="ascii") as f:
                f.write(line)
        self.start(user=uid)
        for left, sizes in ((40, {128 * 1024}), (0, set())):
            self.daemon.kill()
            hog = self.t.host.spawn(lab.PYTHON, "-c", HOG, limit - left, user="hungry")
            hog.wait_log("^ready$")
            self.restart('user = "hungry"\n')
            for number, address in enumerate(ADDRESSES):
                self.assertEqual(self.transfer(number, address=address), [])
            self.assertEqual(set(self.pipe_sizes()), sizes)
            self.daemon.wait_records(2)
            self.assertEqual(self.records(), {"done": 2})
            hog.kill()

    def pipe_sizes(self):
        directory = f"/proc/{self.daemon.pid}/fd"
        for name in os.listdir(directory):
            if os.readlink(f"{directory}/{name}").startswith("pipe:"):
                fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NONBLOCK)
                yield fcntl.fcntl(fd, F_GETPIPE_SZ)
                os.close(fd)


class Signals(Case):
    @allocates
    def test_drain_without_memory(self):
        self.start()
        self.open()
        with self.faults.active(("malloc", "ENOMEM")):
            self.daemon.signal(signal.SIGTERM)
            self.daemon.wait_line(message="draining: no new flows, those under way may finish")
            self.daemon.signal(signal.SIGTERM)
            self.assertEqual(self.daemon.wait(), 0)

    @allocates
    def test_reload_without_memory(self):
        """At whatever allocation that is: the old configuration stays, and the next one is taken."""
        self.start()
        self.assertEqual(self.echo(), "done")
        for every in [*range(1, 40), *range(40, 400, 9)]:
            lines = len(self.daemon.lines())
            with self.faults.active(("malloc", "ENOMEM"), every=every):
                self.daemon.signal(signal.SIGHUP)
                lab.wait_until(lambda: len(self.daemon.lines()) > lines, alive=self.daemon)
        for _ in range(2):
            done = len(self.daemon.lines(message="configuration reloaded"))
            self.daemon.signal(signal.SIGHUP)
            self.daemon.wait_line(done + 1, message="configuration reloaded")
        self.assertEqual(self.echo(), "done")


if __name__ == "__main__":
    lab.main()
