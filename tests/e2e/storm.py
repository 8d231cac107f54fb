# SPDX-License-Identifier: MIT
"""
Many flows at once, of which this process holds both ends: random sizes, half-closes in either order, and resets by
either end, all from one seed. Each side says how it ended, and verdict() whether it may end so:

    done    it has sent everything, and read to the end of file
    error   the connection was reset, or nobody took what it sent
    reset   it has reset the connection itself, as planned
"""
import random
import selectors
import socket
import time

import flow
import peers

SIZES = ((0, 1), (1, 2), (1, 2000), (2000, 40_000), (40_000, 300_000))
PIECES = (1, 100, 1460, 16384, 60000)
RESETS = 0.3  # of all flows
TOGETHER, CLIENT_FIRST, SERVER_FIRST = range(3)
HEADER_BYTES = 4  # of the client: the number of the flow
BURST = 8  # pieces in one go


class Side:
    """One end of a flow. What it sends is a pattern of its own; what it gets is compared at once."""

    def __init__(self, rng, number, role, length, expects):
        self.number, self.role, self.length, self.expects = number, role, length, expects
        self.sent = self.received = 0
        self.may_send = self.finished_sending = self.eof = False
        self.end = self.bad = self.sock = None
        self.reset_sent = self.reset_received = None  # resets once it has sent or received so much
        self.pieces = [rng.choice(PIECES) for _ in range(4)]
        self.turn = 0

    def piece(self):
        self.turn += 1
        return self.pieces[self.turn % len(self.pieces)]

    def wants(self):
        events = 0 if self.eof else selectors.EVENT_READ
        return events | (selectors.EVENT_WRITE if self.may_send and not self.finished_sending else 0)

    def close(self, end):
        if end == "reset":
            flow.reset(self.sock)
        else:
            self.sock.close()
        self.end = end

    def read(self):
        for _ in range(BURST):
            data = self.sock.recv(max(1000, self.piece()))
            if not data:
                self.eof = self.may_send = True
                return
            if data != peers.pattern(self.number * 2 + 1 - self.role, self.received, len(data)):
                self.bad = f"wrong byte in [{self.received}, {self.received + len(data)})"
            self.received += len(data)

    def write(self):
        for _ in range(BURST):
            if self.sent == self.length:
                self.sock.shutdown(socket.SHUT_WR)
                self.finished_sending = True
                return
            size = min(self.piece(), self.length - self.sent)
            self.sent += self.sock.send(peers.pattern(self.number * 2 + self.role, self.sent, size))

    def resets_now(self):
        return ((self.reset_sent is not None and self.sent >= self.reset_sent) or
                (self.reset_received is not None and self.received >= self.reset_received))

    def step(self, events):
        """Does what it can; true when it has ended."""
        try:
            if events & selectors.EVENT_READ and not self.eof:
                self.read()
            if self.may_send and not self.finished_sending and not self.resets_now():
                self.write()
        except BlockingIOError:
            pass
        except OSError:
            self.close("error")
            return True
        if self.resets_now():
            self.close("reset")
        elif self.eof and self.finished_sending:
            self.close("done")
        return self.end is not None


class Flow:
    def __init__(self, rng, number):
        up, down = (rng.randrange(*rng.choice(SIZES)) for _ in range(2))
        self.client, self.server = Side(rng, number, 0, up, down), Side(rng, number, 1, down, up)
        self.sides = (self.client, self.server)
        order = rng.choice((TOGETHER, CLIENT_FIRST, SERVER_FIRST))
        self.client.may_send = order != SERVER_FIRST
        self.server.may_send = order != CLIENT_FIRST
        self.order = order
        if rng.random() < RESETS:
            side = rng.choice(self.sides)
            if rng.random() < 0.5:
                side.reset_sent = rng.randint(0, side.length)
            else:
                side.reset_received = rng.randint(0, side.expects)

    def was_reset(self):
        return "reset" in (self.client.end, self.server.end)

    def verdict(self):
        """None, or what is wrong."""
        for side, other in (self.sides, self.sides[::-1]):
            if side.bad:
                return side.bad
            if side.end is None:
                return "has not ended"
            if side.eof and not (other.finished_sending and side.received == other.length):
                return f"a clean end at {side.received} of {other.length}"
            if side.end == "error" and not self.was_reset():
                return "an error, though nobody has reset"
        return None

    def __str__(self):
        return f"flow {self.client.number} (order {self.order}): " + ", ".join(
            f"{name} {side.end}, sent {side.sent} of {side.length}, received {side.received}, resets at "
            f"{side.reset_sent}/{side.reset_received}"
            for name, side in (("client", self.client), ("server", self.server)))


class Storm:
    """open() connects all flows and returns when each has both its ends; run() carries them to their ends."""

    def __init__(self, seed, count):
        rng = random.Random(seed)
        self.flows = [Flow(rng, number) for number in range(count)]
        self.selector = selectors.EpollSelector()

    def open(self, t, addresses, seconds):
        listeners = [t.inet.listen(address, flow.PORT, 4096) for address in addresses]
        with t.client.inside():
            for number, f in enumerate(self.flows):
                v6 = ":" in addresses[number % len(addresses)]
                f.client.sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        for number, f in enumerate(self.flows):
            f.client.sock.settimeout(seconds)
            f.client.sock.connect((addresses[number % len(addresses)], flow.PORT))
            f.client.sock.sendall(number.to_bytes(HEADER_BYTES, "big"))
        for number in range(len(self.flows)):
            sock = listeners[number % len(listeners)].accept()[0]
            sock.settimeout(seconds)
            named = int.from_bytes(sock.recv(HEADER_BYTES, socket.MSG_WAITALL), "big")
            self.flows[named].server.sock = sock
        for listener in listeners:
            listener.close()

    def run(self, seconds):
        end = time.monotonic() + seconds
        sides = [side for f in self.flows for side in f.sides]
        left = len(sides)
        for side in sides:
            side.sock.setblocking(False)
            self.selector.register(side.sock, side.wants(), side)
        for side in sides:  # what is to be reset before anything has come
            left -= self.step(side, 0)
        while left > 0 and time.monotonic() < end:
            for key, events in self.selector.select(1):
                left -= self.step(key.data, events)
        for side in sides:
            if side.end is None:
                side.sock.close()
        self.selector.close()

    def step(self, side, events):
        before, sock = side.wants(), side.sock
        fd = sock.fileno()
        if side.step(events):
            self.selector.unregister(fd)
            return 1
        if side.wants() != before:
            self.selector.modify(sock, side.wants(), side)
        return 0
