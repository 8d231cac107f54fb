# SPDX-License-Identifier: MIT
"""
usocksd among clients and name servers that mean ill. REBINDS and FUZZED, in the environment, say how much of it; more
than `make check` has time for is for now and then.
"""
import collections
import concurrent.futures
import json
import os
import random
import re
import socket
import struct
import threading
import time

import lab
import test_auth
import test_replies
import test_socks4

REBINDS = int(os.environ.get("REBINDS", "600"))
FUZZED = int(os.environ.get("FUZZED", "2000"))
SPLITS = 500
PASSWORD = b"hunter2-not-for-the-log"
LINE_MAX = 2048
# Of SOCKS5: the method, the verdict on a password, one reply or, of BIND, two. Of SOCKS4 the reply or both.
FAILED = rb"\x05[\x01-\x08]\x00\x01\x00{6}"
BOUND = rb"\x05\x00\x00(\x01.{6}|\x04.{18})"
ANSWER = re.compile(rb"\A(\x05\xff|(\x05[\x00\x02](\x01[\x00\x01])?)?(" + BOUND + rb")?(" + FAILED + rb")?|"
                    rb"(\x00\x5a.{6})?\x00\x5b\x00{6})\Z", re.S)


def batches(n, jobs, function):
    """Calls function(number) for each below n, on some threads; the results."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, range(n)))


class Hits:
    """Listens on all addresses and answers with a byte that says who it is; how often it was reached."""

    def __init__(self, test, host, port, byte):
        self.listener = host.listen("::", port, 1024)
        self.listener.settimeout(None)
        test.addCleanup(self.listener.close)
        self.byte, self.count = byte, 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            with connection:
                connection.sendall(self.byte)


class Hostile(lab.TestCase):
    seconds = lab.TEST_SECONDS + (REBINDS + FUZZED) // 100

    def daemon(self, t, config=""):
        return t.host.usocksd(f'workers = 2\n{config}[timeouts]\nconnect = "300ms"\nbind = "300ms"\n[dns]\nservers = ["10.91.0.1"]\n')

    def exchange(self, t, pieces, enough=1 << 16):
        """All that comes back for these bytes, and how it ended."""
        got = b""
        with t.host.connect(test_replies.HERE, 1080) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for number, piece in enumerate(pieces):
                    if number > 0:
                        time.sleep(0.001)
                    sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                while len(got) < enough and (data := sock.recv(enough)):
                    got += data
                return got, "end"
            except ConnectionError:
                return got, "reset"
            except TimeoutError:
                return got, "nothing"

    def test_rebinding(self):
        """A name that leads to us every other time, by the answer or by the request, never does."""
        t = self.build("host")
        allowed, inner = Hits(self, t.inet, 80, b"A"), Hits(self, t.host, 80, b"B")
        t.inet.peer("dns", "10.91.0.1", 53, *(f"{name}={value}" for name in ("*.turns.test", "same.test", "longer.test")
                                              for value in ("turns", "11.0.0.1", "127.0.0.1", "11.0.0.1", "10.91.0.2")))
        daemon = self.daemon(t)

        def ask(number):
            name = (f"n{number}.turns.test", "same.test", f"n{number // 3}.turns.test", "longer.test")[number % 4]
            return self.exchange(t, [b"\x05\x01\x00" + test_replies.v5(name.encode())])
        became = collections.Counter((got[:4] + got[12:], end) for got, end in batches(REBINDS, 8, ask))
        served, refused = (b"\x05\x00\x05\x00A", "end"), (b"\x05\x00\x05\x02", "end")
        self.assertEqual(set(became), {served, refused})
        self.assertEqual((allowed.count, inner.count), (became[served], 0))
        self.assertGreater(min(became.values()), REBINDS // 10)
        records = daemon.wait_records(REBINDS, 30)
        self.assertEqual({r["dest_addr"] for r in records if r["end"] == "done"}, {"11.0.0.1:80"})
        self.assertEqual({r["end"] for r in records}, {"done", "network-refused"})

    def handshakes(self):
        """(what is sent, what is answered), of both versions."""
        hello, v5, v4 = b"\x05\x01\x00", test_replies.v5, test_socks4
        for dest, port, reply in (("11.0.0.1", 81, 5), ("2a00:1::1", 81, 5), (b"four.test", 81, 5), (b"x y", 80, 4),
                                  ("127.0.0.1", 80, 2), (b"nosuch.test", 80, 4), (b"", 80, 4)):
            yield hello + v5(dest, port), b"\x05\x00" + test_replies.failed(reply)
        yield hello + v5("11.0.0.1", command=9), b"\x05\x00" + test_replies.failed(7)
        yield hello + v5("11.0.0.1", kind=5), b"\x05\x00" + test_replies.failed(8)
        yield b"\x05\x03\x01\x02\x03", b"\x05\xff"
        for request in (v4.by_address("11.0.0.1", 81), v4.by_address("11.0.0.1", 81, user=b"bob"),
                        v4.by_name("four.test", 81), v4.by_name("x y"), v4.by_address("127.0.0.1")):
            yield request, test_replies.REJECTED4

    def test_every_split(self):
        """Of each handshake: at every one place, and at as many two as there is time for."""
        t = self.build("host")
        t.inet.peer("dns", "10.91.0.1", 53, "four.test=11.0.0.1")
        self.daemon(t)
        choice = random.Random(1928)
        rows = []
        for sent, wanted in self.handshakes():
            rows += [(sent, wanted, (at, at)) for at in range(1, len(sent))]
        while len(rows) < SPLITS:
            sent, wanted = choice.choice(list(self.handshakes()))
            rows.append((sent, wanted, sorted(choice.sample(range(len(sent)), 2))))

        def ask(number):
            sent, wanted, (i, j) = rows[number]
            return self.exchange(t, [p for p in (sent[:i], sent[i:j], sent[j:]) if p]), (wanted, "end")
        for row, (got, wanted) in zip(rows, batches(len(rows), 16, ask)):
            self.assertEqual(got, wanted, row)

    def mutations(self, seed):
        """One malformed thing after the other, the same ones for the same seed."""
        choice = random.Random(seed)
        hello, login = b"\x05\x01\x00", b"\x05\x01\x02" + test_replies.login(b"bob", PASSWORD)
        bases = [sent for sent, _ in self.handshakes()]
        bases += [login + test_replies.v5("11.0.0.1", 81), b"\x05\x01\x02" + test_replies.login(PASSWORD, b"bob")]
        odd = b"\x00\x01\x02\x03\x04\x05\x08\x0a\x0d\x1b\x22\x5c\x7f\x80\x9b\xc2\xe2\xf4\xfe\xff"
        while True:
            kind = choice.randrange(6)
            if kind == 0:  # what is in the record of a flow that has a destination: a user id of anything
                yield test_socks4.by_address("11.0.0.1", 81, bytes(choice.choices(range(1, 256), k=choice.randrange(256))))
            elif kind == 1:  # the same, of UTF-8 that is right
                text = "".join(chr(choice.choice((choice.randrange(1, 0x300), choice.randrange(0x2000, 0x2100), 0xfeff,
                                                  0x10ffff))) for _ in range(choice.randrange(80)))
                yield test_socks4.by_address("11.0.0.1", 81, text.encode()[:255])
            elif kind == 2:
                yield hello + test_replies.v5(bytes(choice.choices(range(256), k=choice.randrange(256))), 81)
            else:
                sent = bytearray(choice.choice(bases))
                for _ in range(choice.randrange(1, 4)):
                    at = choice.randrange(len(sent))
                    what = choice.randrange(4)
                    if what == 0:
                        sent[at] = choice.choice(odd)
                    elif what == 1:
                        sent[at:at] = bytes(choice.choices(odd, k=choice.randrange(1, 40)))
                    elif what == 2 and len(sent) > 2:
                        del sent[at]
                    else:
                        sent = sent[:at + 1]
                yield bytes(sent)

    def test_nonsense(self):
        """Each is answered from the table and ended; every line of the log stays a line, and has no password."""
        t = self.build("host")
        t.inet.peer("dns", "10.91.0.1", 53, "four.test=11.0.0.1")
        users = test_auth.users_file(test_auth.line("bob", PASSWORD.decode()))
        jobs = 16
        for number, config in enumerate(("", f'[auth]\nfile = "{users}"\n')):
            daemon = self.daemon(t, config)
            streams = [self.mutations(100 * number + job) for job in range(jobs)]
            locks = [threading.Lock() for _ in streams]

            def ask(n):
                with locks[n % jobs]:
                    sent = next(streams[n % jobs])
                return sent, *self.exchange(t, [sent])
            for sent, got, end in batches(FUZZED // 2, jobs, ask):
                self.assertRegex(got, ANSWER, sent)
                self.assertNotEqual(end, "nothing", sent)
            daemon.signal(lab.signal.SIGTERM)
            self.assertEqual(daemon.wait(30), 0)
            self.check_log(daemon, FUZZED // 2)

    def check_log(self, daemon, flows):
        text = daemon.path.read_bytes()
        count = 0
        for line in text.splitlines():
            entry = json.loads(line)
            count += entry.get("count", 1) if "end" in entry else 0
            self.assertLessEqual(len(line), LINE_MAX)
        self.assertIsNone(re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", text))
        text.decode()
        self.assertNotIn(PASSWORD, text)
        self.assertEqual(count, flows)


if __name__ == "__main__":
    lab.main()
