# SPDX-License-Identifier: MIT
"""The handshake in one flight, with upstreams that change, differ from each other, or do not answer."""
import socket
import threading

import flow
import lab

UPSTREAM = "10.91.3.2"
GREETING, REQUEST = 3, 10
GRANTED = b"\5\0\0\1\0\0\0\0\0\0"


class Upstream(threading.Thread):
    """
    A SOCKS5 server that says "hello" in the destination's place; with `header`, behind one of the PROXY protocol. Its
    next connections are served in `mode`:

        one         takes whatever comes together
        lossy       what came with the greeting is lost
        closes      the same, and then it closes
        garbage     takes the rest of the flight for something else
        refuses     a request that came with the greeting is refused
        no          every request is refused
        addresses   a request for a name is refused
        hole        no request is answered
        silent      no greeting is answered
        drops       no greeting is answered, and it closes
    """

    def __init__(self, host, *modes, header=False):
        super().__init__(daemon=True)
        self.header = header
        self.modes, self.served = modes, []
        self.listener = host.listen(UPSTREAM, 1080)
        self.listener.settimeout(None)
        self.start()

    def run(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            sock.settimeout(lab.LONG)
            mode = self.modes[len(self.served) % len(self.modes)]
            entry = [mode, 0]
            self.served.append(entry)
            threading.Thread(target=self.serve, args=(sock, mode, entry), daemon=True).start()

    def serve(self, sock, mode, entry):
        with sock:
            try:
                self.answer(sock, mode, entry)
                while sock.recv(100):
                    pass
            except OSError:
                pass

    def answer(self, sock, mode, entry):
        if self.header:
            length = sock.recv(16, socket.MSG_WAITALL)[14:]
            sock.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
        first = sock.recv(512)
        entry[1] = len(first)
        if mode == "drops":
            return sock.shutdown(socket.SHUT_RDWR)
        rest = first[GREETING:]
        if mode == "silent":
            return
        if rest and mode == "garbage":
            sock.sendall(b"\5\0HTTP/1.0 400 Bad Request")
            return
        sock.sendall(b"\5\0")
        if rest and mode == "closes":
            sock.shutdown(socket.SHUT_RDWR)
            return
        if rest and mode == "refuses" or mode == "no":
            sock.sendall(b"\5\1\0\1\0\0\0\0\0\0")
            return
        if mode == "addresses":
            rest = rest or sock.recv(512)
            sock.sendall(GRANTED + b"hello" if rest[3] == 1 else b"\5\4\0\1\0\0\0\0\0\0")
            return
        if mode in ("lossy", "closes"):
            rest = b""
        while len(rest) < REQUEST:
            if not (more := sock.recv(REQUEST - len(rest))):
                return
            rest += more
        if mode != "hole":
            sock.sendall(GRANTED + b"hello")

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Flight(lab.TestCase):
    def start(self, *modes, timeouts="", handshake="auto", upstream=""):
        t = self.build("host")
        self.upstream = Upstream(t.proxy, *modes, header="proxy_protocol = true" in upstream)
        self.addCleanup(self.upstream.close)
        t.transocksd = t.host.transocksd(f'workers = 1\nhandshake = "{handshake}"\n'
                                         f'[timeouts]\n{timeouts}\n'
                                         f'[[upstream]]\nurl = "socks5://{UPSTREAM}:1080"\n{upstream}\n')
        t.host.rules("install")
        self.t, self.count = t, 0
        return t

    def turns(self, *modes):
        """The upstream serves so from now on, the first of `modes` first."""
        self.upstream.served.clear()
        self.upstream.modes = modes

    def flow(self, seconds=20):
        """True: carried, False: reset."""
        self.count += 1
        try:
            with self.t.host.connect("11.0.0.1", 80, seconds) as sock:
                self.assertEqual(sock.recv(10), b"hello")
                return True
        except ConnectionResetError:
            return False

    def flows(self, count):
        return [self.flow() for _ in range(count)]

    def together(self, count):
        done = []

        def one():
            try:
                done.append(self.flow())
            except OSError as error:
                done.append(error)

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return done

    def ways(self):
        """How the connections that the upstream has had were used: "1" for one flight, "s" for strictly."""
        letters = {GREETING: "s", GREETING + REQUEST: "1"}
        return "".join(letters.get(length, "?") for _, length in self.upstream.served if length > 0)

    def learn(self):
        self.assertEqual(self.flows(2), [True] * 2)
        self.assertEqual(self.ways(), "11")

    def last(self):
        """End and seconds of the last flow."""
        record = self.t.transocksd.wait_records(self.count)[-1]
        return record["end"], float(record["elapsed"])

    # --- what was learned is true no longer ---

    def test_upstream_changes(self):
        """Flows begun before it is known go again, the first one that comes then finds out, others lose nothing."""
        self.start("one")
        self.learn()
        self.turns("lossy")
        self.assertEqual(self.together(5), [True] * 5)
        self.assertEqual(sorted(self.ways()), sorted("1" * 5 + "s" * 5))
        self.turns("lossy")
        self.assertEqual(self.flows(3), [True] * 3)
        self.assertEqual(self.ways(), "1sss")

    def test_upstream_changes_and_closes(self):
        for mode in ("closes", "garbage"):
            with self.subTest(mode=mode):
                self.start("one")
                self.learn()
                self.turns(mode)
                self.assertEqual(self.flows(4), [True] * 4)
                self.assertEqual(self.ways(), "1s" "1s" "s" "s")

    def test_upstreams_behind_one_address(self):
        """Some connections lose what comes early, others do not."""
        for modes in (("one", "lossy"), ("one", "one", "closes"), ("one", "one", "lossy")):
            with self.subTest(modes=modes):
                self.start(*modes, timeouts='reply = "1s"')
                self.assertEqual(self.flows(16), [True] * 16)
                # It has been seen twice, or by the one that was to find out.
                self.turns(*modes)
                self.assertEqual(self.flows(3), [True] * 3)
                self.assertEqual(self.ways(), "sss")

    def test_slow_destination(self):
        """It costs a second connection, and is no reason to give one flight up, however often it happens."""
        self.start("one", timeouts='reply = "1600ms"')
        self.learn()
        for _ in range(2):
            self.turns("hole")
            self.assertFalse(self.flow())
            self.assertEqual(self.ways(), "1s")
            end, seconds = self.last()
            self.assertEqual(end, "reply-timeout")
            self.assertGreater(seconds, 1.5)
            self.assertLess(seconds, 2.3, "the second attempt has what is left of timeouts.reply")
            self.turns("one")
            self.learn()

    def test_set_up_is_bounded(self):
        self.start("one", timeouts='flow_setup = "1s"')
        self.learn()
        self.turns("hole")
        self.assertFalse(self.flow())
        self.assertEqual(self.ways(), "1s")
        self.assertEqual(self.last()[0], "setup-timeout")
        self.turns("lossy")
        self.assertTrue(self.flow(), "half of the time is left for the second attempt")

    def test_told_to_use_one_flight(self):
        """Nothing is tried again."""
        self.start("one", handshake="one-flight", timeouts='reply = "500ms"')
        self.learn()
        for mode, end in (("lossy", "reply-timeout"), ("closes", "reply-failed"),
                          ("garbage", "reply-failed"), ("refuses", "reply-refused")):
            self.turns(mode)
            self.assertFalse(self.flow())
            self.assertEqual(self.ways(), "1")
            self.assertEqual(self.last()[0], end)

    # --- the flow that finds out ---

    def test_refusal_proves_nothing(self):
        """What the flow that tries is refused it may get strictly, and that it is refused says nothing of flights."""
        self.start("refuses")
        self.assertEqual(self.flows(3), [True] * 3)
        self.assertEqual(self.ways(), "1sss")
        self.start("no")
        self.assertEqual(self.flows(2), [False] * 2)
        self.assertEqual(self.ways(), "1s" "1s")
        self.assertEqual(self.last()[0], "reply-refused")
        self.turns("one")
        self.learn()
        self.turns("no")
        self.assertFalse(self.flow())
        self.assertEqual(self.ways(), "1")

    def test_refusal_of_a_name_proves_nothing(self):
        """The attempt by address that follows it is another question, and finds out by itself."""
        t = self.start("addresses", upstream="name_fallback = true")
        for _ in range(2):
            self.count += 1
            with t.host.connect("11.0.0.1", 80) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
                self.assertEqual(sock.recv(10), b"hello")
        t.transocksd.wait_records(self.count)
        self.assertNotIn("does not take the handshake in one flight", t.transocksd.log())
        self.turns("one")
        self.learn()

    def test_silence_proves_nothing(self):
        """No answer to the greeting: the upstream has timeouts.greeting, once."""
        self.start("silent", timeouts='greeting = "800ms"')
        self.assertFalse(self.flow())
        self.assertEqual(self.ways(), "1")
        end, seconds = self.last()
        self.assertEqual(end, "greeting-timeout")
        self.assertLess(seconds, 1.5)
        self.turns("one")
        self.learn()

    def test_silence_of_an_upstream_that_was_learned(self):
        self.start("one", timeouts='greeting = "300ms"')
        self.learn()
        self.turns("silent")
        self.assertFalse(self.flow())
        self.assertEqual(self.ways(), "1")
        self.turns("one")
        self.learn()

    def test_silence_again_and_again(self):
        """There may be servers that do not even answer the greeting of a flight: not every flow is lost."""
        self.start("silent", timeouts='greeting = "300ms"')
        self.assertEqual(self.flows(2), [False] * 2)
        self.turns("one")
        self.assertTrue(self.flow())
        self.assertEqual(self.ways(), "s")
        self.start("one", timeouts='greeting = "300ms"')
        self.learn()
        self.turns("silent")
        self.assertEqual(self.flows(3), [False] * 3)
        self.assertEqual(self.ways(), "11s")

    # --- over a connection that was kept ready, and not greeted yet ---

    def start_warm(self, first):
        """The first connection is such a one, and served in this mode."""
        self.start(first, *["one"] * 99, timeouts='greeting = "1s"', upstream="proxy_protocol = true\nwarm = 1\n")
        lab.wait_until(lambda: self.upstream.served)
        lab.wait_until(lambda: flow.status(self.t.host, self.t.transocksd)["upstreams"][0]["warm"])

    def test_the_one_that_tries_leaves_a_connection_that_was_kept_ready(self):
        """What it was to find out is found out by its next attempt, and not by nobody."""
        self.start_warm("drops")
        self.assertEqual(self.flows(3), [True] * 3)
        self.assertEqual(self.ways(), "1111")

    def test_silence_of_a_connection_that_was_kept_ready(self):
        """Its age may be the reason: nobody is blamed for that."""
        self.start_warm("silent")
        self.assertEqual(self.flows(2), [True] * 2)
        self.assertEqual(self.ways(), "111")
        upstream, = flow.status(self.t.host, self.t.transocksd)["upstreams"]
        self.assertEqual(upstream["failed_greeting"], 0)


if __name__ == "__main__":
    lab.main()
