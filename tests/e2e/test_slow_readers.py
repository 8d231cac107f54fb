# SPDX-License-Identifier: MIT
"""Endings that meet a client which reads slowly, or not at all: what has come before them still arrives."""
import threading
import time

import flow
import lab

LENGTH = 1_200_000
RATE = 400_000  # bytes a second; so LENGTH takes three seconds


class SlowReaders(lab.TestCase):
    def sent_all(self, t):
        """(client, far) of a flow whose far end has sent LENGTH bytes that the daemon has taken."""
        client, far = flow.pair(self, t)
        sender = threading.Thread(target=flow.send_pattern, args=(far, LENGTH))
        sender.start()
        sender.join(lab.LONG)
        lab.wait_until(lambda: flow.unsent(far) == 0)
        return client, far

    def read_slowly(self, client):
        for position in range(0, LENGTH, 40_000):
            flow.read_pattern(client, 40_000, position)
            time.sleep(40_000 / RATE)

    def test_reset_of_the_far_end(self):
        t = flow.start(self)
        client, far = self.sent_all(t)
        flow.reset(far)
        self.read_slowly(client)
        flow.ends_by_reset(self, client, 5)

    def test_clean_end_and_then_a_byte_of_the_client(self):
        """The far end is closed, so that byte is answered by a reset; its stream was complete."""
        t = flow.start(self)
        client, far = self.sent_all(t)
        far.close()
        time.sleep(0.2)
        client.sendall(b"x")
        self.read_slowly(client)

    def test_half_close_limit_counts_what_arrives(self):
        t = flow.start(self, '[timeouts]\nhalf_close = "1s"\n')
        client, far = self.sent_all(t)
        far.close()
        self.read_slowly(client)
        self.assertEqual(client.recv(1), b"")

    def test_idle_limit_counts_what_arrives(self):
        t = flow.start(self, '[timeouts]\nidle = "1s"\n')
        client, _ = self.sent_all(t)
        self.read_slowly(client)
        flow.ends_by_reset(self, client, 5)
        self.assertEqual(t.daemon.wait_records()[0]["end"], "idle-timeout")

    def test_limit_ends_who_reads_nothing(self):
        t = flow.start(self, '[timeouts]\nidle = "4s"\n')
        client, far = flow.pair(self, t)
        flow.fill(far)
        self.assertEqual(t.daemon.wait_records(seconds=10)[0]["end"], "idle-timeout")
        client.close()

    def test_client_that_does_not_read_learns_of_a_reset(self):
        """It only writes. Nobody can deliver what it does not take, and it must not wait for ever."""
        t = flow.start(self)
        client, far = flow.pair(self, t)
        flow.fill(far)
        flow.reset(far)
        with self.assertRaises(OSError):
            for _ in range(1000):
                client.sendall(b"x" * 100)
                time.sleep(0.1)
        self.assertEqual(t.daemon.wait_records()[0]["end"], "remote-lost")

    def test_vanished_client_with_bytes_that_nobody_reads(self):
        t = flow.start(self, '[timeouts]\nkeepalive = "1s"\n', kind="gateway")
        client, far = flow.pair(self, t)
        flow.fill(client)
        t.client.ip("link set eth0 down")
        far.settimeout(0.2)
        with self.assertRaises(ConnectionResetError):
            for _ in range(500):
                try:
                    far.send(b"x" * 100)
                except TimeoutError:
                    pass
                time.sleep(0.2)
        record = t.daemon.wait_records()[0]
        self.assertEqual((record["end"], record["error"]), ("client-lost", "Connection timed out"))


if __name__ == "__main__":
    lab.main()
