# SPDX-License-Identifier: MIT
"""usocksd under clients that want more than their share: what is refused, what is told of it, and who is served meanwhile."""
import os
import resource
import select
import time

import flow
import lab
import test_many
import test_usocksd

# A flood by hand may be larger: FLOOD=5000 tests/e2e/test_limits.py test_flood
FLOOD = int(os.environ.get("FLOOD", 2000))
GREETING, REQUEST = test_usocksd.GREETING, test_usocksd.request("11.0.0.1", 80)
USOCKSD = '[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n'


LIMITS = USOCKSD + '[timeouts]\nhandshake = "50s"\n[limits]\n'
MORE = ("10.91.0.3", 0)  # another client


def setUpModule():
    """Both ends of a flood are in this process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def ended(socks):
    """Those whose other end has closed or reset them."""
    poll = select.poll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(0)]


class Clients(lab.TestCase):
    """usocksd on `proxy`, its clients on `host`."""

    def start(self, config="", workers=1):
        t = self.build("host")
        t.web = t.inet.peer("http", "::", 80)
        t.usocksd = t.proxy.usocksd(f'workers = {workers}\n{config}')
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        return t

    def connect(self, t, sent=b"", source=None):
        sock = t.host.connect("10.91.3.2", 1080, source=source)
        self.addCleanup(sock.close)
        sock.sendall(sent)
        return sock

    def read(self, sock, length):
        """So many bytes, or fewer up to the end of file; "reset" for that."""
        got = b""
        try:
            while len(got) < length and (data := sock.recv(length - len(got))):
                got += data
        except ConnectionResetError:
            return "reset"
        return got

    def served(self, t, source=None):
        with self.connect(t, GREETING + REQUEST, source) as sock:
            self.assertEqual(self.read(sock, 12)[:4], b"\5\0\5\0")

    def refused(self, t, source=None):
        """Reset before anything is read, perhaps within connect(2)."""
        with self.assertRaises(ConnectionResetError), t.host.connect("10.91.3.2", 1080, source=source) as sock:
            sock.recv(1)

    def ended(self, t, word):
        return flow.status(t.proxy, t.usocksd)["ended"][word]

    def told(self, t, word):
        """How many flows the log says have ended so."""
        return sum(line.get("count", 1) for line in t.usocksd.lines(end=word))

    def number(self, t, name):
        """One of the workers' numbers, of all of them."""
        return sum(worker[name] for worker in flow.status(t.proxy, t.usocksd)["workers"])

    def half_open(self, t):
        return self.number(t, "half_open")


class Limits(Clients):
    def test_few_lines_about_the_refused(self):
        """Whoever knocks writes few lines, but all of them count; flows that are served have their lines."""
        t = self.start(USOCKSD.replace("10.91.0.0/16", "10.91.0.2"), workers=2)
        for _ in range(100):
            self.refused(t, MORE)
            with self.connect(t, b"GET /"):
                pass
            with self.connect(t, b"\5"):
                pass
            self.served(t)
        t.usocksd.wait_line(100, end="done", seconds=20)
        for word in ("client-refused", "bad-request", "client-gone"):
            with self.subTest(word):
                lab.wait_until(lambda w=word: self.told(t, w) == 100, 20, lambda w=word: f"{self.told(t, w)} of {w}")
                self.assertEqual(self.ended(t, word), 100)
                self.assertLess(len(t.usocksd.lines(end=word, type="access")), 100)

    def test_slow_clients(self):
        """More than so many of one client are not waited for. It is closed at once as long as it has that many; another
        one is served, and the same one once it has fewer."""
        t = self.start(LIMITS + "max_handshakes_per_client = 5\n", workers=2)
        slow = [self.connect(t, GREETING[:number % 3], MORE) for number in range(8)]
        lab.wait_until(lambda: len(ended(slow)) == 3, 20, lambda: f"{len(ended(slow))} closed")
        self.assertEqual(self.half_open(t), 5)
        for _ in range(10):
            self.refused(t, MORE)
        self.served(t)
        self.assertEqual(len(ended(slow)), 3)
        open_ones = [sock for sock in slow if sock not in ended(slow)]
        open_ones[0].close()
        lab.wait_until(lambda: self.half_open(t) == 4)
        self.served(t, MORE)
        # One whose request comes at last is served, and does not count any more.
        open_ones[1].sendall(GREETING[slow.index(open_ones[1]) % 3:] + REQUEST)
        self.assertEqual(self.read(open_ones[1], 12)[:4], b"\5\0\5\0")
        self.served(t, MORE)
        self.assertEqual(self.half_open(t), 3)
        self.assertEqual(self.ended(t, "handshake-limit"), 13)
        record = t.usocksd.lines(type="access", end="handshake-limit")[-1]
        self.assertEqual((record["phase"], record["error"]), ("request", "limits.max_handshakes_per_client is reached"))

    def test_bursts(self):
        """Many at once of one client, whose requests come within a second: all are served."""
        t = self.start(LIMITS + "max_handshakes_per_client = 5\n")
        socks = [self.connect(t, GREETING) for _ in range(40)]
        for sock in socks:
            sock.sendall(REQUEST)
        # Where this took us more than a second, some have been slow.
        codes = [self.read(sock, 12)[:4] for sock in socks]
        slow = self.ended(t, "handshake-limit")
        self.assertEqual(codes.count(b"\5\0\5\0"), 40 - slow)

    def test_the_oldest_makes_room(self):
        t = self.start(LIMITS + "max_handshakes = 4\n")
        silent = []
        for number in range(12):
            silent.append(self.connect(t))
            lab.wait_until(lambda n=number: self.half_open(t) == min(n + 1, 4))
            lab.wait_until(lambda n=number: len(ended(silent)) == max(0, n - 3))
            self.assertEqual(ended(silent), silent[:-4])
        self.served(t)
        self.assertEqual(ended(silent), silent[:-3])
        record = t.usocksd.wait_line(type="access", end="handshake-limit")
        self.assertIn("max_handshakes is reached", record["error"])
        # Whoever is told what was wrong may read that, and counts until it is gone.
        for _ in range(12):
            silent.append(self.connect(t, b"GET / HTTP/1.1\r\n"))
            lab.wait_until(lambda: self.half_open(t) <= 4)
        self.assertLessEqual(flow.status(t.proxy, t.usocksd)["flows"], 4)
        self.served(t)

    def test_trusted_proxies_may_wait(self):
        t = self.start(LIMITS.replace("allow_from", 'trusted_proxies = ["10.91.0.3"]\nallow_from') +
                       "max_handshakes = 4\nmax_handshakes_per_client = 2\n")
        ready = [self.connect(t, GREETING if number % 2 else b"", MORE) for number in range(20)]
        silent = [self.connect(t) for _ in range(8)]
        lab.wait_until(lambda: self.half_open(t) == 2, 20)  # once they are slow
        self.assertEqual(ended([sock for sock in ready if sock not in ready[1::2]]), [])
        self.assertEqual(len(ended(silent)), 6)
        for number, sock in enumerate(ready):
            sock.sendall(REQUEST if number % 2 else GREETING + REQUEST)
            self.assertEqual(self.read(sock, 12)[:4], b"\5\0\5\0")

    def test_flood(self):
        """Silent and dripping clients from ten addresses beside one that is served: each of its connections."""
        t = self.start(LIMITS + f"max_flows = {FLOOD // 2}\nmax_handshakes_per_client = 10\n", workers=2)
        sources = [f"10.91.0.{number}" for number in range(10, 20)]
        t.host.ip("".join(f"addr add {source}/24 dev eth0\n" for source in sources))
        before, flood, times = test_many.pss_kib(t.usocksd), [], []
        for number in range(FLOOD):
            try:
                flood.append(self.connect(t, b"\5"[:number % 2], (sources[number % 10], 0)))
            except ConnectionResetError:
                pass
            if number % 20 == 0:
                times.append(self.serve_in(t))
        most = self.half_open(t)
        self.assertLessEqual(most, FLOOD // 8 + 1)
        self.assertEqual(self.number(t, "buffers_live"), 2)  # nobody has one for half a message
        used = test_many.pss_kib(t.usocksd) - before
        drip = [sock for sock in flood[::2] if sock not in ended(flood)]
        for _ in range(5):
            for sock in drip:
                try:
                    sock.send(b"\5")
                except OSError:
                    pass
            times += [self.serve_in(t) for _ in range(10)]
        lab.wait_until(lambda: self.half_open(t) <= 10 * 10, 20)  # as soon as they are slow
        lab.wait_until(lambda: self.ended(t, "done") + self.ended(t, "client-lost") == len(times), 20)
        times.sort()
        print(f"  flood of {FLOOD}: at most {most} half-open, {used} KiB; {len(times)} connections served, "
              f"half within {times[len(times) // 2]:.1f} ms, 99 % within {times[len(times) * 99 // 100]:.1f} ms")

    def serve_in(self, t):
        """How many milliseconds that took."""
        started = time.monotonic()
        self.served(t)
        return 1000 * (time.monotonic() - started)


if __name__ == "__main__":
    lab.main()
