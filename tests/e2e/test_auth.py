# SPDX-License-Identifier: MIT
"""usocksd with users: RFC 1929 as its clients see it, and what becomes of those who guess."""
import os
import pathlib
import signal
import struct
import time
import warnings

import flow
import lab
import test_usocksd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypt

REQUEST = test_usocksd.request("11.0.0.1", 80)
OFFER, CHOSEN, KNOWN = b"\x05\x01\x02", b"\x05\x02", b"\x01\x00"
SERVED = CHOSEN + KNOWN + b"\x05\x00\x00\x01"
WRONG = CHOSEN + b"\x01\x01"
# The formats of crypt(5); cheap ones, where they can be told to be.
SALTS = {"bob": "$6$rounds=1000$salt", "alice": "$5$rounds=1000$salt", "yes": "$y$j75$salt",
         "blow": "$2b$04$abcdefghijklmnopqrstuu", "gost": "$gy$j75$salt", "scrypt": "$7$5/..../....salt$"}


def login(user, password):
    user, password = (x if isinstance(x, bytes) else x.encode() for x in (user, password))
    return bytes([1, len(user)]) + user + bytes([len(password)]) + password


def line(user, password, salt="$5$rounds=1000$salt"):
    return f"{user}:{crypt.crypt(password, salt)}\n"


def users_file(text):
    """What auth.file may name."""
    path = lab.WORK / f"users-{lab.Proc.count}"
    path.write_text(text)
    path.chmod(0o640)
    if lab.DAEMON_USER != "root":
        os.chown(path, 0, lab.DAEMON_UID)
    return path


class Auth(lab.TestCase):
    def start(self, text=None, config="", workers=1):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.file = users_file(text or "# users\n\n" + "".join(
            line(user, f"{user}'s secret", salt) for user, salt in SALTS.items()))
        t.usocksd = t.proxy.usocksd(f'workers = {workers}\n[auth]\nfile = "{t.file}"\n{config}')
        return t

    def talk(self, t, sent, pieces=False, enough=14):
        """All that comes back, until that is enough or the end of file, which no reset comes instead of; and who asked."""
        with t.host.connect("10.91.3.2", 1080) as sock:
            sock.setsockopt(lab.socket.IPPROTO_TCP, lab.socket.TCP_NODELAY, 1)
            for part in ([bytes([b]) for b in sent] if pieces else [sent]):
                sock.sendall(part)
                time.sleep(0.001 if pieces else 0)
            got = b""
            while len(got) < enough and (data := sock.recv(enough - len(got))):
                got += data
            return got, "{}:{}".format(*sock.getsockname())

    def test_every_format(self):
        t = self.start()
        for user in SALTS:
            with self.subTest(user):
                for password, expected in ((f"{user}'s secret", SERVED), (f"{user}'s secre", WRONG), ("", WRONG)):
                    got, _ = self.talk(t, OFFER + login(user, password) + REQUEST)
                    self.assertEqual(got[:8], expected)
        records = t.usocksd.wait_records(3 * len(SALTS))
        self.assertEqual(sorted(r["user"] for r in records), sorted(3 * list(SALTS)))

    def test_who_is_let_in(self):
        t = self.start()
        right = login("bob", "bob's secret")
        rows = (
            (OFFER + right + REQUEST, SERVED, "done", "bob", None),
            (b"\x05\x03\x00\x01\x02" + right + REQUEST, SERVED, "done", "bob", None),
            (OFFER + login("bob", "Bob's secret") + REQUEST, WRONG, "auth-failed", "bob", "wrong password"),
            (OFFER + login("bob", "bob's secret\0"), WRONG, "auth-failed", "bob", "wrong password"),
            (OFFER + login("bob", "bob's secret\0y"), WRONG, "auth-failed", "bob", "wrong password"),
            (OFFER + login("bob\0", "bob's secret"), WRONG, "auth-failed", None, "no such user"),
            (OFFER + login("bob\0x", "bob's secret"), WRONG, "auth-failed", None, "no such user"),
            (OFFER + login("Bob", "bob's secret"), WRONG, "auth-failed", None, "no such user"),
            (OFFER + login("", ""), WRONG, "auth-failed", None, "no such user"),
            (OFFER + login("# users", ""), WRONG, "auth-failed", None, "no such user"),
            (OFFER + login("x" * 255, "y" * 255), WRONG, "auth-failed", None, "no such user"),
            # Somebody's password, typed in the wrong place.
            (OFFER + login("bob's secret", "bob"), WRONG, "auth-failed", None, "no such user"),
            (OFFER + REQUEST, WRONG, "auth-failed", None, "the client sends no user and password"),
            (OFFER + b"\x05" + right[1:], WRONG, "auth-failed", None, "the client sends no user and password"),
            *((offer + REQUEST, b"\x05\xff", "auth-failed", None, "the client offers no password")
              for offer in (b"\x05\x01\x00", b"\x05\x01\x01", b"\x05\x00", b"\x05\x02\x00\x01")),
            # A user id of SOCKS4 is no proof.
            (b"\x04\x01\x00\x50\x0b\x00\x00\x01bob\0", b"\x00\x5b" + bytes(6), "auth-failed", "bob",
             "SOCKS4 has no passwords"),
            (OFFER + right + b"\x05\x09" + REQUEST[2:], CHOSEN + KNOWN + b"\x05\x07\x00\x01", "bad-request", "bob",
             "the request has an unknown command"))
        wanted = {}
        for sent, expected, *rest in rows:
            with self.subTest(sent):
                got, client = self.talk(t, sent)
                self.assertEqual(got[:8], expected)
                wanted[client] = rest
        records = t.usocksd.wait_records(len(rows))
        self.assertEqual({r["client_addr"]: [r["end"], r.get("user"), r.get("error")] for r in records}, wanted)
        self.assertEqual({r["phase"] for r in records if r["end"] == "auth-failed"}, {"auth"})
        self.assertNotIn("secret", t.usocksd.log())

    def test_in_pieces_and_with_payload(self):
        t = self.start()
        sent = OFFER + login("bob", "bob's secret") + REQUEST + b"GET / HTTP/1.0\r\n\r\n"
        for pieces in (True, False, True, False):
            self.assertEqual(self.talk(t, sent, pieces)[0][:8], SERVED)

    def test_real_clients(self):
        t = self.start()
        for scheme in ("socks5", "socks5h"):
            page = t.host.curl("-x", f"{scheme}://bob:bob's%20secret@10.91.3.2:1080", "http://11.0.0.1/").stdout
            self.assertIn("you came from 10.91.3.2.", page)
        for proxy in ("socks5://10.91.3.2:1080", "socks5://bob:wrong@10.91.3.2:1080", "socks4://bob@10.91.3.2:1080"):
            self.assertEqual(t.host.curl("-x", proxy, "http://11.0.0.1/", check=False).returncode, 97)

    def test_transocksd_in_front(self):
        t = self.start()
        t.host.transocksd('proxy_url = "socks5://bob:bob%27s%20secret@10.91.3.2:1080"\n')
        t.host.rules("install")
        for _ in range(5):
            self.assertIn("you came from 10.91.3.2.", t.host.curl("http://11.0.0.1/").stdout)
        self.assertEqual({(r["user"], r["end"]) for r in t.usocksd.wait_records(5)}, {("bob", "done")})

    def test_method_without_users(self):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\nallow_from = ["10.91.0.0/16"]\n')
        for offer, expected in ((b"\x05\x02\x02\x00", b"\x05\x00\x05\x00"), (b"\x05\x01\x00", b"\x05\x00\x05\x00"),
                                (b"\x05\x01\x02", b"\x05\xff")):
            self.assertEqual(self.talk(t, offer + REQUEST, enough=12)[0][:4], expected)

    def test_everywhere_but_not_without_a_password(self):
        """Who has to log in may come from everywhere, unless allow_from says more."""
        t = self.start()
        t.usocksd.wait_line(message="ready")
        self.assertEqual(t.usocksd.lines(message="serving this host alone: incoming.allow_from names no clients"), [])
        self.assertEqual(self.talk(t, OFFER + login("bob", "bob's secret") + REQUEST)[0][:8], SERVED)
        t.usocksd.config.write_text(t.usocksd.config.read_text().replace(f'file = "{t.file}"', ""))
        t.usocksd.signal(signal.SIGHUP)
        t.usocksd.wait_line(message="configuration reloaded")
        with self.assertRaises(ConnectionResetError):
            self.talk(t, b"\x05\x01\x00" + REQUEST)
        t.usocksd.wait_line(type="access", end="client-refused")

    def test_reload(self):
        t = self.start(line("bob", "old") + line("alice", "hers"))
        ask = lambda user, password: self.talk(t, OFFER + login(user, password) + REQUEST)[0][:8]
        for _ in range(2):  # now remembered
            self.assertEqual((ask("bob", "old"), ask("alice", "hers")), (SERVED, SERVED))
        t.file.write_text(line("bob", "new"))
        t.usocksd.signal(signal.SIGHUP)
        t.usocksd.wait_line(message="configuration reloaded")
        self.assertEqual((ask("bob", "old"), ask("bob", "new"), ask("alice", "hers")), (WRONG, SERVED, WRONG))
        # A file that is wrong changes nothing.
        for text, mode in (("bob:plain\n", 0o640), ("", 0o640), (line("eve", "x"), 0o644)):
            t.file.write_text(text)
            t.file.chmod(mode)
            failed = len([x for x in t.usocksd.log().splitlines() if "reload failed" in x])
            t.usocksd.signal(signal.SIGHUP)
            lab.wait_until(lambda: t.usocksd.log().count("reload failed") > failed, 5, "no word of it")
            self.assertEqual((ask("bob", "new"), ask("eve", "x")), (SERVED, WRONG))
        self.assertNotIn("plain", t.usocksd.log().replace('"plain"', ""))

    def test_files_that_are_refused(self):
        host = self.lonely()
        good = line("bob", "secret")
        for text, mode, says in ((good, 0o644, r"is open to everybody \(mode 0644\): chmod o-rwx "),
                                 (good, 0o601, "is open to everybody"),
                                 ("bob:secret\n", 0o600, r":1: .*no hash of crypt\(5\)"),
                                 ("# none\n", 0o600, "nobody could log in"),
                                 (good + good, 0o600, r'the user \\?"bob\\?" is there twice')):
            with self.subTest(says):
                path = users_file(text)
                path.chmod(mode)
                done = host.run(lab.BUILD / "usocksd", "--check", "-f", self.config(path), check=False)
                self.assertEqual(done.returncode, 78)
                self.assertRegex(done.stderr, says)
                self.assertNotIn("secret", done.stderr)
        done = host.run(lab.BUILD / "usocksd", "--check", "-f", self.config(pathlib.Path("/nonexistent")), check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn("/nonexistent", done.stderr)

    def config(self, users):
        path = lab.WORK / "check.toml"
        path.write_text(f'[auth]\nfile = "{users}"\n')
        return path

    def test_a_flood_of_wrong_passwords(self):
        """Slow hashes, one worker: whoever is known is served all the same, whoever is new gets a turn, nothing piles up."""
        slow = "$6$rounds=150000$salt"
        t = self.start(line("bob", "bob's", slow) + line("alice", "hers", slow), "[timeouts]\nhandshake = \"50s\"\n")
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        self.assertEqual(self.talk(t, OFFER + login("bob", "bob's") + REQUEST)[0][:8], SERVED)
        flood = []
        for number in range(60):
            sock = t.host.connect("10.91.3.2", 1080, source=("10.91.0.3", 0))
            self.addCleanup(sock.close)
            sock.sendall(OFFER + login("alice", f"guess {number}") + REQUEST)
            flood.append(sock)
        # Bob has been here.
        for _ in range(20):
            self.assertEqual(self.talk(t, OFFER + login("bob", "bob's") + REQUEST)[0][:8], SERVED)
        logins = flow.status(t.proxy, t.usocksd)["logins"]
        self.assertLessEqual(logins["waiting"] + logins["running"], 8)
        # Alice has not; only so many guesses are before her.
        self.assertEqual(self.talk(t, OFFER + login("alice", "hers") + REQUEST)[0][:8], SERVED)
        for sock in flood:
            got = b""
            while len(got) < 4 and (data := sock.recv(4)):
                got += data
            self.assertEqual(got, WRONG)
        t.usocksd.wait_line(22, end="done")
        status = flow.status(t.proxy, t.usocksd)
        self.assertEqual(status["ended"]["auth-failed"], 60)
        logins = status["logins"]
        self.assertEqual((logins["waiting"], logins["running"]), (0, 0))
        self.assertEqual(logins["checked"] + logins["refused"], 62)  # bob once and alice once are right
        self.assertGreater(logins["refused"], 20)
        # Lines for the first of them, and for one a second.
        errors = [r["error"] for r in t.usocksd.lines(type="access", end="auth-failed")]
        self.assertLess(len(errors), 60)
        self.assertLessEqual(set(errors), {"wrong password", "too many passwords are waiting to be checked"})
        self.assertGreater(errors.count("too many passwords are waiting to be checked"), 10)

    def test_client_over_its_limit(self):
        """Hears it as the answer to its request, as one that need not log in does."""
        t = self.start(line("bob", "bob's"), config="[limits]\nmax_flows_per_client = 1\n")
        with t.host.connect("10.91.3.2", 1080) as first:
            first.sendall(OFFER)
            self.assertEqual(first.recv(2), CHOSEN)
            self.assertEqual(self.talk(t, OFFER + login("bob", "bob's") + REQUEST)[0][:6], CHOSEN + KNOWN + b"\x05\x02")
        record = t.usocksd.wait_line(end="client-limit")
        self.assertNotIn("error", record)

    def test_clients_that_leave_meanwhile(self):
        t = self.start(line("bob", "bob's", "$6$rounds=150000$salt"))
        for number in range(30):
            sock = t.host.connect("10.91.3.2", 1080)
            sock.sendall(OFFER + login("bob", f"guess {number}") + REQUEST)
            sock.setsockopt(lab.socket.SOL_SOCKET, lab.socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self.assertEqual(self.talk(t, OFFER + login("bob", "bob's") + REQUEST)[0][:8], SERVED)
        lab.wait_until(lambda: sum(r.get("count", 1) for r in t.usocksd.lines(end="client-gone")) == 30, 10,
                       t.usocksd.log)

    def test_ends_while_a_password_is_checked(self):
        t = self.start(line("bob", "bob's", "$6$rounds=400000$salt"), workers=2)
        for number in range(4):
            sock = t.host.connect("10.91.3.2", 1080)
            self.addCleanup(sock.close)
            sock.sendall(OFFER + login("bob", f"guess {number}") + REQUEST)
            self.assertEqual(sock.recv(2), CHOSEN)
        t.usocksd.signal(signal.SIGQUIT)
        self.assertEqual(t.usocksd.wait(), 0)


if __name__ == "__main__":
    lab.main()
