# SPDX-License-Identifier: MIT
"""
Servers that speak first, through usocksd. Its last ACK towards a destination waits for the client's first bytes; where these do
not come it must go by itself, long before the kernel would send it (200 ms).
"""
import time

import lab

DESTINATIONS = 40
KERNEL_SENDS = 0.2  # TCP_DELACK_MAX


class ServerFirst(lab.TestCase):
    def greeted(self, t, n):
        """What the server at 11.0.0.`n` says, read by a client that is silent."""
        with t.host.connect("127.0.0.1", 1080) as sock:
            sock.sendall(b"\x05\x01\x00\x05\x01\x00\x01" + bytes([11, 0, 0, n, 0, 80]))
            got = b""
            while data := sock.recv(100):
                got += data
        return got

    def test_silent_clients_are_greeted_soon(self):
        t = self.build("host")
        t.inet.peer("banner", "::", 80, 5)
        t.usocksd = t.host.usocksd()
        began = time.monotonic()
        for n in range(1, DESTINATIONS + 1):
            self.assertEqual(len(self.greeted(t, n)), 2 + 10 + 5)
        self.assertLess(time.monotonic() - began, DESTINATIONS * KERNEL_SENDS)
        began = time.monotonic()
        for _ in range(DESTINATIONS):  # known by now
            self.assertEqual(len(self.greeted(t, 1)), 2 + 10 + 5)
        self.assertLess(time.monotonic() - began, DESTINATIONS * KERNEL_SENDS)


if __name__ == "__main__":
    lab.main()
