# SPDX-License-Identifier: MIT
"""
Connections at full speed while the rules come, are replaced a hundred times, and go: each arrives at its destination,
by the way that the rules of its moment say.
"""
import contextlib
import errno
import selectors
import socket
import time

import lab
import ways

PORTS = range(7200, 7204)
AT_ONCE = 12  # connections that are under way
REINSTALLS = 100
# Two configurations in turn, so that each replacement is a different table.
SCRIPT = f"""
for i in $(seq {REINSTALLS // 2}); do
    "$@" --bypass 11.200.0.0/16,2a00:1:200::/48 --quic reject || exit 1
    "$@" || exit 1
done >/dev/null
"""
DIRECT, PROXIED = {"direct"}, {"proxied"}
# What may become of a connection, by what happens to the rules when it begins.
BEFORE, INSTALL, REINSTALL, FLUSH, AFTER = range(5)
ALLOWED = {BEFORE: DIRECT, INSTALL: DIRECT | PROXIED, REINSTALL: PROXIED, FLUSH: DIRECT | PROXIED, AFTER: DIRECT}


# Of the sockets that begin before the rules are there, while they are, and from flush on: no port is used again. What
# the kernel has tracked of an unproxied flow it knows for minutes, and a new one with the same addresses and ports for
# that one; and a gateway drops what is forwarded but belongs to a TIME_WAIT socket, one of TPROXY, of its own.
LOCAL_PORTS = "20000 27999", "28000 51999", "52000 60999"


class Connection:
    def __init__(self, storm, address, port):
        self.storm, self.family, self.began = storm, ways.family_of(address), storm.phase
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                                  socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        error = self.sock.connect_ex((address, port))
        self.answer = None if error in (0, errno.EINPROGRESS) else errno.errorcode[error]

    def step(self, _):
        """Waits for the word of the server, and then for its end."""
        try:
            data = self.sock.recv(100)
        except OSError as error:
            data, self.answer = b"", repr(error)
        if data:
            self.answer = (self.answer or "") + data.decode()
        else:
            self.storm.ended(self)

    def way(self):
        known = {ways.PROXIED[self.family]: "proxied", self.storm.direct[self.family]: "direct"}
        return known.get(self.answer, f"lost: {self.answer}")


class Server:
    """Tells who connects where the connection came from, and ends."""

    def __init__(self, sock):
        self.sock = sock
        sock.setblocking(False)

    def step(self, _):
        with contextlib.suppress(BlockingIOError):
            while True:
                peer, (address, *_) = self.sock.accept()
                peer.send(address.encode())
                peer.close()


class Storm:
    """All ends of all connections, in one loop of this process."""

    def __init__(self, t):
        self.t, self.direct, self.phase = t, ways.DIRECT[t.kind], BEFORE
        self.selector = selectors.EpollSelector()
        self.targets = [(address, port) for port in PORTS for address in ways.PUBLIC.values()]
        self.servers = [Server(t.inet.listen(*target, backlog=1024)) for target in self.targets]
        for server in self.servers:
            self.selector.register(server.sock, selectors.EVENT_READ, server)
        self.count, self.live, self.results = 0, 0, []

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()

    def ended(self, connection):
        self.selector.unregister(connection.sock)
        connection.sock.close()
        self.live -= 1
        self.results.append((connection.began, self.phase, connection.way()))

    def open(self):
        with self.t.client.inside():
            while self.live < AT_ONCE:
                connection = Connection(self, *self.targets[self.count % len(self.targets)])
                self.selector.register(connection.sock, selectors.EVENT_READ, connection)
                self.count += 1
                self.live += 1

    def turn(self):
        for key, events in self.selector.select(0.05):
            key.data.step(events)

    def during(self, phase, proc=None, least=300, seconds=200):
        """Connections, one after another, until the program has ended and so many have begun and ended meanwhile."""
        self.phase, begin, end = phase, len(self.results), time.monotonic() + seconds
        while (proc is not None and proc.alive()) or len(self.results) - begin < least:
            self.open()
            self.turn()
            if time.monotonic() > end:
                raise AssertionError(f"{len(self.results) - begin} connections, and it has not ended")
        if proc is not None and proc.wait() != 0:
            raise AssertionError(proc.log())

    def finish(self, seconds=lab.LONG):
        end = time.monotonic() + seconds
        while self.live > 0 and time.monotonic() < end:
            self.turn()

    def wrong(self):
        """Those that did not go a way that one of their moments allows."""
        return [result for result in self.results
                if not any(result[2] in ALLOWED[phase] for phase in range(result[0], result[1] + 1))]


class StormCase(lab.TestCase):
    def storm(self, kind, mode):
        t = ways.start(self, kind, mode, ways.usocksd)
        argv = [lab.BUILD / "transocks-rules", "install", "--uid", lab.RULES_UID, *ways.arguments(t)]
        t.client.sysctl("net.ipv4.ip_local_port_range", LOCAL_PORTS[0])
        storm = Storm(t)
        self.addCleanup(storm.close)
        storm.during(BEFORE)
        storm.during(INSTALL, t.on.spawn(*argv), least=0)
        t.client.sysctl("net.ipv4.ip_local_port_range", LOCAL_PORTS[1])
        storm.during(REINSTALL, t.on.spawn("sh", "-c", SCRIPT, "sh", *argv), least=1000)
        t.client.sysctl("net.ipv4.ip_local_port_range", LOCAL_PORTS[2])
        storm.during(FLUSH, t.on.spawn(lab.BUILD / "transocks-rules", "flush"), least=0)
        storm.during(AFTER)
        storm.finish()
        self.assertEqual((storm.live, storm.wrong()), (0, []))
        proxied = sum(result[2] == "proxied" for result in storm.results)
        self.assertGreater(proxied, 900)
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(proxied, 20)}, {"done"})

    def test_redirect_on_the_host(self):
        self.storm("host", "redirect")

    def test_redirect_on_the_gateway(self):
        self.storm("gateway", "redirect")

    def test_tproxy_on_the_host(self):
        self.storm("host", "tproxy")

    def test_tproxy_on_the_gateway(self):
        self.storm("gateway", "tproxy")


if __name__ == "__main__":
    lab.main()
