# SPDX-License-Identifier: MIT
"""How flows end: half-close, resets, clients that go early, peers that only wait."""
import signal
import socket
import threading
import time

import flow
import lab

MB = 1 << 20
ADDRESSES = ("11.0.0.1", "2a00:1::1")
SYN_SENT = 2


class Ending(lab.TestCase):
    def orders(self, t):
        """(first, second): the client and the far end, and the other way round; by each family."""
        for address in ADDRESSES:
            for swap in (False, True):
                client, far = flow.pair(self, t, address)
                yield (far, client) if swap else (client, far)
                client.close()
                far.close()

    def worker(self, t):
        return flow.status(t.daemon_host, t.daemon)["workers"][0]

    def record(self, t, end, phase="relay", count=1):
        record = t.daemon.wait_records(count)[-1]
        self.assertEqual((record["end"], record["phase"]), (end, phase), record)
        return record


class HalfClose(Ending):
    def test_data_after_it(self):
        """Who has ended first gets 1 MB after that, and then the other's end."""
        t = flow.start(self)
        for first, second in self.orders(t):
            flow.send_pattern(first, 5000)
            first.shutdown(socket.SHUT_WR)
            flow.read_pattern(second, 5000)
            self.assertEqual(second.recv(1), b"")
            writer = threading.Thread(target=flow.send_pattern, args=(second, MB))
            writer.start()
            flow.read_pattern(first, MB)
            writer.join()
            second.shutdown(socket.SHUT_WR)
            self.assertEqual(first.recv(1), b"")
        records = t.daemon.wait_records(4)
        self.assertEqual({r["end"] for r in records}, {"done"})
        sums = sorted((r["bytes_up"], r["bytes_down"]) for r in records)
        self.assertEqual(sums, [(5001, MB)] * 2 + [(MB + 1, 5000)] * 2)

    def trickle(self, sock, other, limit):
        """A byte now and then for more than twice the limit, then nothing: that ends it."""
        until = time.monotonic() + 2.2 * limit
        while time.monotonic() < until:
            sock.sendall(b"y")
            self.assertEqual(other.recv(10), b"y")
            time.sleep(limit / 10)
        flow.ends_by_reset(self, other, 5)
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            while True:
                sock.sendall(b"y")

    def test_limit_counts_from_the_last_byte(self):
        t = flow.start(self, '[timeouts]\nhalf_close = "1s"\n')
        for number, (address, server_first) in enumerate(zip(ADDRESSES, (False, True)), 1):
            client, far = flow.pair(self, t, address)
            first, second = (far, client) if server_first else (client, far)
            first.shutdown(socket.SHUT_WR)
            self.assertEqual(second.recv(1), b"")
            self.trickle(second, first, 1)
            record = self.record(t, "half-close-timeout", count=number)
            self.assertGreater(float(record["elapsed"]), 2.9)

    def test_idle_limit_counts_from_the_last_byte(self):
        t = flow.start(self, '[timeouts]\nidle = "1s"\nhalf_close = "60s"\n')
        self.trickle(*flow.pair(self, t), 1)
        self.assertGreater(float(self.record(t, "idle-timeout")["elapsed"]), 2.9)

    def test_each_has_its_own_limit(self):
        """Half-closed, timeouts.half_close alone counts."""
        t = flow.start(self, '[timeouts]\nidle = "1s"\nhalf_close = "60s"\n')
        client, far = flow.pair(self, t)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(far.recv(1), b"")
        time.sleep(1.5)
        far.sendall(b"y")
        self.assertEqual(client.recv(10), b"y")
        far.close()
        self.assertEqual(t.daemon.wait_records(1)[0]["end"], "done")


class Resets(Ending):
    def make_bulky(self, t, sender, receiver):
        """So much in one direction that a pipe carries it."""
        writer = threading.Thread(target=flow.send_pattern, args=(sender, 16 * MB))
        writer.start()
        seen = 0
        for position in range(0, 16 * MB, MB):  # on a slow machine not at once, nor all the time
            flow.read_pattern(receiver, MB, position)
            seen = seen or self.worker(t)["pipes_live"]
        writer.join()
        self.assertEqual(seen, 1)

    def test_of_the_client_while_the_far_end_is_silent(self):
        t = flow.start(self)
        for number, address in enumerate(ADDRESSES, 1):
            client, far = flow.pair(self, t, address)
            flow.reset(client)
            flow.ends_by_reset(self, far, 1)
            self.record(t, "client-lost", count=number)

    def test_of_a_bulky_flow(self):
        """Of either end, where a pipe carries what it sends or what it gets."""
        t = flow.start(self)
        number = 0
        for down in (False, True):
            for client_resets in (False, True):
                client, far = flow.pair(self, t, ADDRESSES[number % 2])
                self.make_bulky(t, *((far, client) if down else (client, far)))
                first, second = (client, far) if client_resets else (far, client)
                flow.reset(first)
                flow.ends_by_reset(self, second, 2)
                number += 1
                self.record(t, "client-lost" if client_resets else "remote-lost", count=number)
        lab.wait_until(lambda: self.worker(t)["pipes_live"] == 0)

    def test_bytes_before_it_come_through_a_pipe(self):
        """The far end sends more than the client takes, then resets: what has left its kernel arrives."""
        t = flow.start(self, kind="gateway")
        t.client.sysctl("net.ipv4.tcp_rmem", "4096 16384 65536")
        t.gateway.sysctl("net.ipv4.tcp_wmem", "4096 16384 65536")
        client, far = flow.pair(self, t)
        left = 400_000
        writer = threading.Thread(target=flow.send_pattern, args=(far, 4 * MB))
        writer.start()
        flow.read_pattern(client, 4 * MB - left)
        writer.join()
        lab.wait_until(lambda: flow.unsent(far) == 0)
        self.assertEqual(self.worker(t)["pipes_live"], 1)
        flow.reset(far)
        time.sleep(0.3)
        flow.read_pattern(client, left, 4 * MB - left)
        flow.ends_by_reset(self, client, 2)
        self.assertEqual(self.record(t, "remote-lost")["bytes_down"], 4 * MB)

    def test_of_the_client_while_the_far_end_does_not_read(self):
        """What we still hold for the far end does not keep the flow; while it reads, it gets that."""
        t = flow.start(self)
        client, far = flow.pair(self, t)
        flow.fill(client)
        flow.reset(client)
        self.record(t, "client-lost")
        flow.ends_by_reset(self, far, 1)


class EarlyClients(Ending):
    def dialling(self, t):
        return [s for s in t.host.sockets() if s[4] == SYN_SENT]

    def test_reset_ends_the_dial(self):
        t = flow.start(self, '[timeouts]\nconnect = "20s"\n', "socks5://11.8.0.1:1080")
        client = t.host.connect("11.0.0.1", 80)
        lab.wait_until(lambda: self.dialling(t))
        flow.reset(client)
        self.record(t, "client-gone", "connect")
        lab.wait_until(lambda: not self.dialling(t))

    def test_reset_ends_the_handshake(self):
        t = flow.start(self, '[timeouts]\ngreeting = "20s"\n', "socks5://10.91.3.2:1080")
        upstream = t.proxy.peer("silent", "10.91.3.2", 1080)
        client = t.host.connect("11.0.0.1", 80)
        upstream.wait_log("^silent 10")
        flow.reset(client)
        self.record(t, "client-gone", "greeting")
        upstream.wait_log("^silent (end|error)")

    def test_fin_during_set_up_is_a_half_close(self):
        """Everything that it had to say was said before we had even connected."""
        t = flow.start(self, upstream="socks5://10.91.3.2:1080")
        t.inet.peer("echo", "::", 7)
        t.proxy.peer("socks", "10.91.3.2", 1080, "drip", 30)
        with t.host.connect("11.0.0.1", 7) as client:
            client.sendall(b"all of it")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.makefile("rb").read(), b"all of it")
        self.assertEqual(t.daemon.wait_records(1)[0]["end"], "done")


class Waiting(Ending):
    """Peers that say nothing are in nobody's way, in one worker."""

    def test_twenty_flows_in_a_silent_handshake(self):
        t = flow.start(self, '[timeouts]\ngreeting = "50s"\n', "socks5://10.91.3.2:1080")
        t.proxy.peer("silent", "10.91.3.2", 1080)
        t.proxy.usocksd('[incoming]\nport = 1081\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n',
                        ports=(1081,))
        t.inet.peer("echo", "::", 7)
        waiting = [t.host.connect("11.0.0.1", 7) for _ in range(20)]
        lab.wait_until(lambda: self.worker(t)["setups_live"] == 20)
        t.daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\n' +
                                   t.config % "socks5://10.91.3.2:1081")
        t.daemon.signal(signal.SIGHUP)
        t.daemon.wait_line(message="configuration reloaded")
        with t.host.connect("11.0.0.1", 7) as sock:
            sock.sendall(b"x")
            self.assertEqual(sock.recv(1), b"x")
            self.assertEqual(self.worker(t)["setups_live"], 20)
        self.assertEqual(t.daemon.wait_records(1)[0]["end"], "done")
        for sock in waiting:
            flow.reset(sock)
        self.record(t, "client-gone", "greeting", count=21)

    def test_twenty_silent_clients_of_usocksd(self):
        t = self.build("host")
        t.inet.peer("echo", "::", 7)
        daemon = t.host.usocksd('workers = 1\n[timeouts]\nhandshake = "50s"\n')
        said = (b"", b"\5", b"\5\1\0", b"\5\1\0\5\1\0\3\xff")
        for number in range(20):
            sock = t.host.connect("127.0.0.1", 1080)
            self.addCleanup(sock.close)
            sock.sendall(said[number % len(said)])
        with t.host.connect("127.0.0.1", 1080) as sock:
            sock.sendall(b"\5\1\0" + b"\5\1\0\1" + bytes((11, 0, 0, 1, 0, 7)) + b"x")
            got = b""
            while len(got) < 13:
                got += sock.recv(100)
            self.assertEqual((got[:4], got[-1:]), (b"\5\0\5\0", b"x"))
        self.assertEqual(daemon.wait_records(1)[0]["end"], "done")


if __name__ == "__main__":
    lab.main()
