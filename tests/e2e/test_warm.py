# SPDX-License-Identifier: MIT
"""Connections kept ready: what they save, and that nobody notices when they have died."""
import re
import signal
import time

import flow
import lab

SITE = "11.0.0.1"
DELAY_MS = 20
# Patient: what dies in these tests does not die of that.
USOCKSD = """
control = ""
workers = 1
[timeouts]
handshake = "60s"
[incoming]
addresses = ["10.91.3.2"]
allow_from = ["10.91.0.0/16"]
"""


class Warm(lab.TestCase):
    def start(self, upstream, config="", port=1080):
        t = self.build("host")
        t.usocksd = t.proxy.usocksd(USOCKSD)
        t.inet.peer("echo", "::", 7)
        t.config = (f'workers = 1\nhandshake = "strict"\n{config}\n[[upstream]]\nname = "a"\n'
                    f'url = "socks5://10.91.3.2:{port}"\n{upstream}\n')
        return t

    def go(self, t):
        t.daemon = t.host.transocksd(t.config)
        t.daemon.wait_line(message="ready")
        t.host.rules("install")

    def upstream(self, t):
        return flow.status(t.host, t.daemon)["upstreams"][0]

    def wait_warm(self, t, count=1):
        lab.wait_until(lambda: self.upstream(t)["warm"] >= count, 20)

    def one(self, t):
        """A flow, from connect to the first byte back: how long it took."""
        begun = time.monotonic()
        with t.host.connect(SITE, 7) as sock:
            sock.sendall(b"x")
            self.assertEqual(sock.recv(1), b"x")
        return 1000 * (time.monotonic() - begun)

    def measure(self, warm):
        """
        Five flows over a relay that takes its time: ms to the first byte of the middle one; how
        often each flow has spoken on its connection, and whether that was there before.
        """
        t = self.start(f"warm = {warm}", port=1090)
        relay = t.proxy.peer("relay", "10.91.3.2", 1090, DELAY_MS, "10.91.3.2", 1080)
        self.go(t)
        took, turns = [], []
        for _ in range(5):
            if warm > 0:
                self.wait_warm(t)
            known = relay.log()
            took.append(self.one(t))
            t.daemon.wait_records(len(took))
            last = re.findall(r"relay (\d+) turn 3", relay.log())[-1]
            turns.append((relay.log()[len(known):].count(f"relay {last} turn"),
                          f"relay {last} " in known))
        self.assertEqual({r["end"] for r in t.daemon.wait_records(5)}, {"done"})
        self.assertEqual(relay.log().count("turn 3"), 5)
        t.daemon.kill()  # the next one wants its control socket
        return sorted(took)[2], turns

    def test_first_byte_warm_against_cold(self):
        cold, cold_turns = self.measure(0)
        warm, warm_turns = self.measure(2)
        print(f"first byte, {2 * DELAY_MS} ms there and back: cold {cold:.0f} ms, warm {warm:.0f} ms "
              "(the relay delays bytes, so the round trip of TCP's own handshake is in neither)")
        # Greeting, request, payload; or, on a connection that is there, request and payload.
        self.assertEqual(cold_turns, [(3, False)] * 5)
        self.assertEqual(warm_turns, [(2, True)] * 5)

    def test_killed_by_the_upstream(self):
        """Whether or not the daemon has heard of it: no client does."""
        t = self.start("warm = 4")
        self.go(t)
        for _ in range(2):
            self.wait_warm(t)
            t.usocksd.kill()
            t.usocksd = t.proxy.usocksd(USOCKSD)
            for _ in range(5):
                self.one(t)
        self.assertEqual({r["end"] for r in t.daemon.wait_records(10)}, {"done"})
        self.assertEqual({r.get("tries", 1) for r in t.daemon.lines(type="access")}, {1})

    def test_gone_without_a_word(self):
        """The upstream's host forgets its connections: TCP finds out, and the flow goes again."""
        t = self.start("warm = 1")
        self.go(t)
        self.wait_warm(t)
        # What is sent over the old ones vanishes; new ones get through.
        t.proxy.nft("""table inet gone {
            chain in { type filter hook input priority 0;
                tcp dport 1080 tcp flags & (syn | ack) == syn ct mark set 1 accept
                tcp dport 1080 ct mark != 1 drop
            }
            chain out { type filter hook output priority 0;
                tcp sport 1080 ct mark != 1 drop
            }
        }""")
        self.one(t)
        record, = t.daemon.wait_records(1)
        self.assertEqual(record["end"], "done")

    def test_an_upstream_that_stops(self):
        """Its kernel acknowledges all: over a connection that is there nothing tells, over a new one the greeting does."""
        t = self.start("""
            warm = 1
            [[upstream]]
            name = "b"
            url = "socks5://10.91.3.2:1082"
            [group.default]
            choose = "failover"
            """, '[timeouts]\ngreeting = "1s"\n')
        t.proxy.usocksd(USOCKSD + "port = 1082\n", ports=(1082,))
        self.go(t)
        self.wait_warm(t)
        t.usocksd.stop()
        self.one(t)
        t.usocksd.signal(signal.SIGCONT)
        record, = t.daemon.wait_records(1)
        self.assertEqual((record["end"], record["upstream"], record["tries"]), ("done", "b", 2))

    def test_a_slow_destination(self):
        """It looks the same, for a while: the next attempt has all the rest of the time."""
        t = self.start("warm = 1", port=1090)
        t.proxy.peer("socks", "10.91.3.2", 1090, "drip", 300)
        self.go(t)
        self.wait_warm(t)
        self.one(t)
        record, = t.daemon.wait_records(1)
        self.assertEqual((record["end"], record["upstream"]), ("done", "a"))

    def test_reload_and_drain_close_them(self):
        t = self.start("warm = 3")
        self.go(t)
        self.wait_warm(t)

        def established():
            return sum(s[3] == 1080 and s[4] == 1 for s in t.host.sockets())

        held = t.host.connect(SITE, 7)  # a flow keeps the configuration that it began with
        self.addCleanup(held.close)
        held.sendall(b"x")
        self.assertEqual(held.recv(1), b"x")
        lab.wait_until(lambda: established() >= 2)
        t.daemon.config.write_text(t.daemon.config.read_text().replace("warm = 3", "warm = 0"))
        t.daemon.signal(signal.SIGHUP)
        t.daemon.wait_line(message="configuration reloaded")
        lab.wait_until(lambda: established() == 1)
        self.assertEqual(self.upstream(t)["warm"], 0)
        t.daemon.config.write_text(t.daemon.config.read_text().replace("warm = 0", "warm = 3"))
        t.daemon.signal(signal.SIGHUP)
        self.wait_warm(t)
        t.daemon.signal(signal.SIGTERM)
        lab.wait_until(lambda: established() == 1)
        held.sendall(b"x")
        self.assertEqual(held.recv(1), b"x")
        held.close()
        self.assertEqual(t.daemon.wait(), 0)

    def test_they_have_the_mark(self):
        """So rules that redirect everything else leave them alone, whoever the user is."""
        t = self.start("warm = 1")
        t.host.nft("""table inet marks {
            counter plain { }
            counter marked { }
            chain out { type filter hook output priority 0;
                tcp dport 1080 meta mark & 0x1000 == 0 counter name "plain"
                tcp dport 1080 meta mark & 0x1000 != 0 counter name "marked"
            }
        }""")
        self.go(t)
        self.wait_warm(t)
        counters = t.host.run("nft", "list", "counters", "table", "inet", "marks").stdout
        self.assertRegex(counters, r"counter plain \{\s+packets 0 ")
        self.assertRegex(counters, r"counter marked \{\s+packets [1-9]")

    def test_too_many_for_the_descriptors(self):
        t = self.start("warm = 500")
        daemon = t.host.transocksd(t.config, wait=False, nofile=256)
        self.assertEqual(daemon.wait(), 78)
        self.assertIn("500 connections kept ready", daemon.log())


if __name__ == "__main__":
    lab.main()
