# SPDX-License-Identifier: MIT
"""The netlink socket that owns rules, kept by transocksd and lent on its control socket."""
import json
import os
import pathlib
import socket

import lab

PATH = pathlib.Path("/run/transocks/transocksd.sock")
NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
BUSY = {"error": "somebody else is changing the rules"}
WRONG = {"error": "not a netlink socket to netfilter"}
NONE = {"error": "no rules are kept here"}


class Lend(lab.TestCase):
    def setUp(self):
        self.t = self.build("host")
        self.daemon = self.t.host.transocksd('proxy_url = "direct://"\n')
        self.before = self.descriptors()

    def tearDown(self):
        self.daemon.kill()
        lab.shutil.rmtree(PATH.parent, ignore_errors=True)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def back_to_the_start(self):
        lab.wait_until(lambda: self.descriptors() == self.before)

    def netlink(self, protocol):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self.addCleanup(sock.close)
        return sock

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(lab.LONG)
        sock.connect(str(PATH))
        return sock

    def ask(self, request, *passed):
        """The answer to a request that comes with these sockets."""
        with self.connect() as sock:
            socket.send_fds(sock, [request + b"\n"], [p.fileno() for p in passed])
            data, fds, _, _ = socket.recv_fds(sock, 65536, 2)
            for fd in fds:
                os.close(fd)
            return json.loads(data)

    def lend(self):
        """The connection of the loan, the answer, and the inodes of what came with it."""
        sock = self.connect()
        sock.sendall(b"rules lend\n")
        data, fds, _, _ = socket.recv_fds(sock, 4096, 2)
        inodes = [os.fstat(fd).st_ino for fd in fds]
        for fd in fds:
            os.close(fd)
        return sock, json.loads(data), inodes

    def test_keep_lend_drop(self):
        sock = self.netlink(NETLINK_NETFILTER)
        self.assertEqual(self.ask(b"rules lend"), NONE)
        self.assertEqual(self.ask(b"rules keep", sock), {})
        loan, answer, inodes = self.lend()
        self.assertEqual((answer, inodes), ({}, [os.fstat(sock.fileno()).st_ino]))
        self.assertEqual(self.ask(b"rules lend"), BUSY)
        self.assertEqual(self.ask(b"rules drop"), BUSY)
        self.assertEqual(self.ask(b"rules keep", sock), BUSY)
        loan.close()
        lab.wait_until(lambda: self.ask(b"rules lend") == {})
        lab.wait_until(lambda: self.ask(b"rules drop") == {})
        self.assertEqual(self.ask(b"rules lend"), NONE)
        self.back_to_the_start()

    def test_the_last_one_is_kept(self):
        first, second = self.netlink(NETLINK_NETFILTER), self.netlink(NETLINK_NETFILTER)
        for sock in (first, second):
            self.assertEqual(self.ask(b"rules keep", sock), {})
        self.assertEqual(self.lend()[2], [os.fstat(second.fileno()).st_ino])
        lab.wait_until(lambda: self.descriptors() <= self.before + 2)  # the second, and a loan

    def test_what_is_not_kept(self):
        sock = self.netlink(NETLINK_NETFILTER)
        self.assertEqual(self.ask(b"rules keep"), WRONG)
        self.assertEqual(self.ask(b"rules keep", self.netlink(NETLINK_ROUTE)), WRONG)
        with open("/dev/null", encoding="ascii") as other:
            self.assertEqual(self.ask(b"rules keep", other), WRONG)
        self.assertIn("flows", self.ask(b"status", sock))
        self.assertEqual(self.ask(b"rules lend"), NONE)
        with self.connect() as silent:
            socket.send_fds(silent, [b"rules ke"], [sock.fileno()])
        self.back_to_the_start()

    def test_more_than_one_that_comes_along(self):
        sock = self.netlink(NETLINK_NETFILTER)
        with open("/dev/zero", encoding="ascii") as other:
            for passed in ((other, other), (sock, other), (sock, other, other, other)):
                self.ask(b"rules keep", *passed)
        self.ask(b"rules drop")
        self.back_to_the_start()

    @lab.needs_uids
    def test_for_root_only(self):
        PATH.chmod(0o666)
        program = ("import socket; s = socket.socket(socket.AF_UNIX); s.connect(%r);"
                   "s.sendall(b'rules lend\\n'); print(s.recv(999).decode())" % str(PATH))
        done = self.t.host.run(lab.PYTHON, "-c", program, user="nobody")
        self.assertEqual(json.loads(done.stdout),
                         {"error": "only root and the daemon's user may do that"})


if __name__ == "__main__":
    lab.main()
