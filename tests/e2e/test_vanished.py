# SPDX-License-Identifier: MIT
"""
Peers that vanish: their link goes down, and nobody says a word. The kernel alone would try for a quarter of
an hour. Slow readers, who are silent too but answer when asked, are left alone.
"""
import time

import flow
import lab

CONFIG = '[timeouts]\nkeepalive = "1s"\n'


class Vanished(lab.TestCase):
    def record(self, t, end):
        """Of each flow there was."""
        for record in t.daemon.lines(type="access"):
            self.assertEqual((record["end"], record["phase"]), (end, "relay"))
            self.assertIn("timed out", record["error"])

    def test_far_end(self):
        """The upstream's machine, or our own way to it, with a byte on its way."""
        for name in ("proxy", "gateway"):
            with self.subTest(down=name):
                t = flow.start(self, CONFIG, "socks5://10.91.3.2:1080", "gateway")
                t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
                clients = [flow.pair(self, t, address)[0] for address in ("11.0.0.1", "2a00:1::1")]
                t.hosts[name].ip("link set wan0 down")
                for client in clients:
                    client.sendall(b"lost")
                for client in clients:
                    flow.ends_by_reset(self, client, 10)
                t.daemon.wait_records(2)
                self.record(t, "remote-lost")

    def test_client(self):
        """In whatever state the flow is."""
        t = flow.start(self, CONFIG, kind="gateway")
        t.gateway.sysctl("net.ipv4.tcp_keepalive_probes", 3)  # instead of 9
        with_data, data6, not_reading, busy, idle = (
            flow.pair(self, t, address)[1]
            for address in ("11.0.0.1", "2a00:1::1", "11.0.0.1", "11.0.0.1", "11.0.0.1"))
        flow.fill(not_reading)  # it is the probes of the closed window that are not answered
        t.client.ip("link set eth0 down")
        started = time.monotonic()
        with_data.sendall(b"lost")
        data6.sendall(b"lost")
        # Bytes still move, into the kernel's buffers; that is no sign of life.
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            while time.monotonic() - started < 8:
                busy.sendall(b"y")
                time.sleep(0.05)
        self.assertGreater(time.monotonic() - started, 1)
        for far in (with_data, data6):
            flow.ends_by_reset(self, far, 8)
        flow.ends_by_reset(self, not_reading, 25)
        flow.ends_by_reset(self, idle, 15)  # that is the kernel's keepalive
        t.daemon.wait_records(5)
        self.record(t, "client-lost")

    def test_slow_readers_live_on(self):
        """Windows that stay closed for much longer than twice the keepalive, on both legs, but whose owners
        answer: nothing is ended, and everything arrives. So do idle ones. One probe that is lost is no sign."""
        t = flow.start(self, CONFIG, kind="gateway")
        idle = flow.pair(self, t)
        flows = [flow.pair(self, t, address) for address in ("11.0.0.1", "2a00:1::1", "11.0.0.1")]
        ways = ((True, True), (False, True), (True, False))
        counts = [(flow.fill(client) if up else 0, flow.fill(far) if down else 0)
                  for (client, far), (up, down) in zip(flows, ways)]
        time.sleep(4)
        # By now the kernel's probes are three seconds apart, or more.
        t.client.nft("table inet cut { chain c { type filter hook input priority 0; policy drop; }; }")
        time.sleep(5)
        t.client.nft("delete table inet cut")
        self.assertEqual(t.daemon.lines(type="access"), [])
        for (client, far), (up, down) in zip(flows, counts):
            flow.read_pattern(far, up)
            flow.read_pattern(client, down)
        for client, far in [idle, *flows]:
            client.sendall(b"still here")
            self.assertEqual(far.recv(100), b"still here")


if __name__ == "__main__":
    lab.main()
