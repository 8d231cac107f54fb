# SPDX-License-Identifier: MIT
"""The networks that the other tests stand on."""
import os

import lab


class Lab(lab.TestCase):
    def test_host_reaches_the_internet(self):
        t = self.build("host")
        for address in ("11.1.2.3", "2a00:1:5::7"):
            with t.inet.listen(address) as server:
                port = server.getsockname()[1]
                with t.host.connect(address, port), server.accept()[0] as peer:
                    self.assertIn(peer.getpeername()[0], ("10.91.0.2", "fd91::2"))

    def test_gateway_forwards(self):
        t = self.build("gateway")
        for address in ("11.1.2.3", "2a00:1:5::7"):
            with t.inet.listen(address) as server:
                port = server.getsockname()[1]
                with t.client.connect(address, port), server.accept()[0] as peer:
                    self.assertIn(peer.getpeername()[0], ("10.91.1.2", "fd91:0:1::2"))

    def test_proxy_reaches_the_internet(self):
        t = self.build("host")
        for address, source in (("11.1.2.3", "10.91.3.2"), ("2a00:1:5::7", "fd91:0:3::2")):
            with t.inet.listen(address) as server:
                with t.proxy.connect(address, server.getsockname()[1]), server.accept()[0] as peer:
                    self.assertEqual(peer.getpeername()[0], source)

    def test_dead_places_of_the_internet(self):
        t = self.build("host")
        for address in ("11.9.0.1", "2a00:1:9::1"):
            with self.assertRaises(OSError) as error:
                t.host.connect(address, 80)
            self.assertIn(error.exception.errno, (101, 113))
        for address in ("11.8.0.1", "2a00:1:8::1"):
            with self.assertRaises(TimeoutError):
                t.host.connect(address, 80, seconds=0.3)
        for address in ("11.7.0.1", "2a00:1:7::1"):
            with self.assertRaises(ConnectionRefusedError):
                t.host.connect(address, 80)

    def test_two_labs_side_by_side(self):
        one, two = self.build("host"), self.build("host")
        with one.inet.listen("11.0.0.1", 80), self.assertRaises(ConnectionRefusedError):
            two.host.connect("11.0.0.1", 80)

    def test_log_and_exit_code_of_a_program(self):
        t = self.build("host")
        proc = t.host.spawn("sh", "-c", "echo first; echo second >&2; exit 3")
        proc.wait_log("^second$")
        self.assertEqual(proc.wait(), 3)
        with self.assertRaises(AssertionError):
            proc.wait_log("third", 0.1)

    def test_listening_is_seen_without_connecting(self):
        t = self.build("host")
        for address in ("127.0.0.1", "::1"):
            with t.host.listen(address) as server:
                port = server.getsockname()[1]
                self.assertTrue(t.host.listening(port, address))
                self.assertFalse(t.inet.listening(port))
            self.assertFalse(t.host.listening(port))

    @lab.needs_uids
    def test_user_of_a_program(self):
        t = self.build("host")
        uid = t.host.run("id", "-u", user="transocks").stdout
        self.assertEqual(uid, f"{lab.DAEMON_UID}\n")

    def test_load_and_its_far_end(self):
        t = self.build("host")
        server = t.inet.peer("transfer", "::", 7000)
        t.host.run(lab.PYTHON, lab.PEERS, "load", "2a00:1::5", 7000, 60, 1)
        lab.wait_until(lambda: server.log().count(" ok\n") == 60)

    def test_load_finds_a_truncated_answer(self):
        t = self.build("host")
        t.inet.peer("reset", "::", 7000, 100)
        done = t.host.run(lab.PYTHON, lab.PEERS, "load", "11.0.0.1", 7000, 3, 1, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)

    def test_nothing_of_the_machine_is_there(self):
        self.assertEqual(os.listdir("/run"), ["lab"])
        self.assertEqual(os.getpid(), 1)
        t = self.build("host")
        self.assertEqual(t.host.ruleset(), "")


if __name__ == "__main__":
    lab.main()
