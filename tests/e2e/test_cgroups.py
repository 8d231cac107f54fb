# SPDX-License-Identifier: MIT
"""exempt_cgroups: what a process in such a control group connects to goes direct, whatever its user."""
import contextlib
import os
import pathlib
import time
import unittest

import lab

ROOT = pathlib.Path("/sys/fs/cgroup")
URLS = ("http://11.0.0.1/", "http://[2a00:1::1]/")


@unittest.skipIf(lab.ONE_UID, "makes control groups, which takes root")
class Cgroups(lab.TestCase):
    def setUp(self):
        """The mount is ours alone. The groups are the machine's: they carry our namespace's number."""
        lab._mount("none", ROOT, "cgroup2")
        self.addCleanup(lab._libc.umount2, os.fsencode(ROOT), 2)
        self.top = f"lab-{os.readlink('/proc/self/ns/net')[5:-1]}"
        self.made = []
        self.addCleanup(self.remove)

    def remove(self):
        """A group is empty a moment after its last process has ended."""
        for group in reversed(self.made):
            def gone(path=ROOT / group):
                with contextlib.suppress(OSError):
                    path.rmdir()
                return not path.exists()
            lab.wait_until(gone, message=f"{group} is not empty")

    def group(self, *names):
        group = "/".join((self.top, *names))
        for i, _ in enumerate(group.split("/"), 1):
            path = "/".join(group.split("/")[:i])
            if not (ROOT / path).exists():
                (ROOT / path).mkdir()
                self.made.append(path)
        return group

    def start(self, *args):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.daemon = t.host.transocksd(f'mode = "{args[1]}"\nproxy_url = "direct://"\n')
        t.host.rules("install", *args)
        t.taken = 0
        return t

    def get(self, t, group, taken):
        """By both families, as a process of the group."""
        for url in URLS:
            enter = f'echo 0 > "{ROOT}/{group}/cgroup.procs" && exec curl -sS -m 10 "{url}"'
            page = t.host.run("sh", "-c", enter)
            self.assertIn("you came from", page.stdout)
        t.taken += len(URLS) if taken else 0
        if t.taken > 0:
            t.daemon.wait_records(t.taken)
        time.sleep(0 if taken else 0.1)  # for a record that must not come
        self.assertEqual(len(t.daemon.lines(type="access")), t.taken)

    def matrix(self, mode):
        exempt, inside = self.group("a", "exempt"), self.group("a", "exempt", "inside")
        shallow = self.group("shallow")
        beside, above = self.group("a", "beside"), self.group("a")
        t = self.start("--mode", mode, "--exempt-cgroups", f"{exempt},{shallow}")
        for group, taken in ((beside, True), (exempt, False), (inside, False), (above, True),
                             (shallow, False)):
            with self.subTest(group=group):
                self.get(t, group, taken)

    def test_redirect(self):
        self.matrix("redirect")

    def test_tproxy(self):
        self.matrix("tproxy")

    def test_what_others_have_added_stays(self):
        """As systemd's NFTSet= adds a service when it starts."""
        ours, added = self.group("ours"), self.group("added")
        args = ("--mode", "redirect", "--exempt-cgroups", ours)
        t = self.start(*args)
        self.get(t, added, True)
        t.host.run("nft", "add", "element", "inet", "transocks", "exempt_cgroups", f'{{ "{added}" }}')
        self.get(t, added, False)
        t.host.rules("install", *args, "--share", 99)
        t.host.rules("install", *args)
        self.assertIn("in sync", t.host.rules("status", *args).stdout)
        for group in (ours, added):
            self.get(t, group, False)
        t.host.rules("flush", "--now")
        t.host.rules("install", *args)
        self.get(t, added, True)


if __name__ == "__main__":
    lab.main()
