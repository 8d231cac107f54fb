# SPDX-License-Identifier: MIT
"""usocksd under clients that want more than their share: what is refused, what is told of it, and who is served meanwhile."""
import flow
import lab
import test_usocksd

GREETING, REQUEST = test_usocksd.GREETING, test_usocksd.request("11.0.0.1", 80)
USOCKSD = '[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n'


class Limits(lab.TestCase):
    """usocksd on `proxy`, its clients on `host`."""

    def start(self, config="", workers=1):
        t = self.build("host")
        t.web = t.inet.peer("http", "::", 80)
        t.usocksd = t.proxy.usocksd(f'workers = {workers}\n{config}')
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

    def test_few_lines_about_the_refused(self):
        """Whoever knocks writes few lines, but all of them count; flows that are served have their lines."""
        t = self.start(USOCKSD.replace("10.91.0.0/16", "10.91.0.2"), workers=2)
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        for _ in range(100):
            self.refused(t, ("10.91.0.3", 0))
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


if __name__ == "__main__":
    lab.main()
