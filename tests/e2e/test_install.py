# SPDX-License-Identifier: MIT
"""What transocks-rules reads before it installs, where it works, what it refuses and what it warns of."""
import json
import os
import pathlib

import lab

RULES = lab.BUILD / "transocks-rules"
FILE = pathlib.Path("/etc/transocks.toml")  # of the test's own /etc
DROPINS = pathlib.Path("/etc/transocks.d")


class InstallCase(lab.TestCase):
    def lonely(self):
        """A host without a network."""
        t = lab.Topology("host")
        lab.TestCase.live.append(t)
        self.addCleanup(self._close, t)
        return t.host

    def json(self, host, *args, code=0):
        done = host.rules(*args, "--json", check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def refused(self, host, *args, code):
        done = host.rules(*args, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def write(self, path, text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.addCleanup(path.unlink, missing_ok=True)
        return path


class Configuration(InstallCase):
    def test_without_a_file(self):
        host = self.lonely()
        self.assertEqual(self.json(host, "install")["port"], 1081)
        self.assertIn("No such file", self.refused(host, "install", "-f", "/nowhere", code=78))

    def test_file_and_drop_ins(self):
        host = self.lonely()
        self.write(FILE, 'listen = [":99", "127.0.0.1:98"]\nmark = "0x2/0x2"\n')
        self.assertEqual(self.json(host, "install")["port"], 99)
        self.write(DROPINS / "a.toml", 'listen = "localhost:97"\n')
        result = self.json(host, "install")
        self.assertEqual((result["port"], result["mark"]), (97, "0x2/0x2"))
        other = self.write(lab.WORK / "other.toml", 'listen = "localhost:96"\n')
        result = self.json(host, "install", "-f", other)  # alone
        self.assertEqual((result["port"], result["mark"]), (96, "0x1000/0x1000"))

    def test_flags_stand_above_the_file(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1")
        self.write(FILE, 'listen = ":99"\nuser = "no-such-user"\nmark = "0x2/0x2"\n'
                         '[redirect]\ngateway = ["no-such-if"]\n')
        flags = ("--port", 7, "-m", "5", "--uid", 0, "-g", "lan0,lan1", "--force")
        result = self.json(host, "install", *flags)
        self.assertEqual(result["port"], 7)
        self.assertEqual(result["uid"], 0)
        self.assertEqual(result["mark"], "0x5/0xffffffff")
        self.assertEqual(result["gateway"], ["lan0", "lan1"])
        self.assertEqual(self.json(host, "install", "-g", "")["gateway"], [])

    def test_broken_file(self):
        host = self.lonely()
        for text, why in (
            ("\n[redirect]\nshare = 500\n", '/etc/transocks.toml:3: option "redirect.share": 500 is out'),
            ("[redirect]\n\nshares = 5\n", ':3: unknown option "redirect.shares"; did you mean'),
            ("listen = \n", "/etc/transocks.toml:1: "),
        ):
            self.write(FILE, text)
            self.assertIn(why, self.refused(host, "install", code=78))
            self.assertIn(why, self.json(host, "install", code=78)["error"])
            host.rules("flush")  # does not ask
        self.assertEqual(host.ruleset(), "")

    def test_broken_flag(self):
        host = self.lonely()
        self.assertIn("--share: 500 is out of range (0..100)",
                      self.refused(host, "install", "--share", 500, code=64))
        self.assertIn('"x" is not a network', self.refused(host, "install", "--bypass", "x", code=64))
        self.assertIn("no user", self.refused(host, "install", "--exempt-uids", "x", code=78))

    def test_cgroups(self):
        host = self.lonely()
        args = ("install", "--exempt-cgroups", "a/b")
        here = f"mount -t tmpfs none /sys/fs/cgroup && exec {RULES} install --uid 0 --exempt-cgroups a/b"
        done = host.run("unshare", "-m", "sh", "-c", here, check=False)
        if "mount:" in done.stderr:
            self.skipTest("cannot mount over /sys/fs/cgroup")
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("no control groups v2", done.stderr)
        self.assertNotEqual(host.rules(*args, check=False).returncode, 0)

    def test_cgroup_is_found(self):
        host = self.lonely()
        script = f"""mount -t cgroup2 none /sys/fs/cgroup || exit 99
            {RULES} install --uid 0 --exempt-cgroups lab-none/x && exit 98
            d=/sys/fs/cgroup/lab-{os.getpid()}; mkdir $d || exit 99
            {RULES} install --uid 0 --exempt-cgroups ${{d##*/}}; code=$?
            rmdir $d; exit $code"""
        done = host.run("unshare", "-m", "sh", "-c", script, check=False)
        if done.returncode == 99:
            self.skipTest("cannot mount cgroup2 here, or make a group")
        self.assertIn("no control group /sys/fs/cgroup/lab-none/x", done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)


class Namespace(InstallCase):
    def namespaces(self, host):
        """The three ways to name it."""
        path = pathlib.Path("/run/netns/lab-host")
        path.parent.mkdir(exist_ok=True)
        path.touch()
        where = f"/proc/{os.getpid()}/fd/{host.fd}"
        lab._mount(where, path, None, lab.MS_BIND)
        self.addCleanup(lab._libc.umount2, os.fsencode(path), 2)
        return "lab-host", path, where, host.spawn("sleep", 60).pid

    def test_every_form(self):
        t = lab.Topology("host", "other")
        lab.TestCase.live.append(t)
        self.addCleanup(self._close, t)
        t.host.ip("link add only-there type veth peer name z")
        with t.host.listen("0.0.0.0", 1081), t.host.listen("::1", 1081):
            for name in self.namespaces(t.host):
                with self.subTest(name):
                    args = ("--netns", name)
                    result = self.json(t.other, "install", *args, "-g", "only-there", "--force")
                    self.assertEqual(result["gateway"], ["only-there"])
                    self.assertFalse([w for w in result["warnings"] if "nobody listens" in w])
                    self.assertIn("transocks", t.host.ruleset())
                    self.assertEqual(t.other.ruleset(), "")
                    self.assertTrue(self.json(t.other, "flush", *args)["installed"])
                    self.assertEqual(t.host.ruleset(), "")

    def test_mistakes(self):
        host = self.lonely()
        for name, why in (("nothing", "there is no /run/netns/nothing"), ("/none", "there is no /none"),
                          ("4000000", "no such process"), ("/etc/passwd", "is not a network namespace"),
                          ("", "empty")):
            self.assertIn(why, self.refused(host, "install", "--netns", name, code=1))
            self.assertIn(why, self.refused(host, "flush", "--netns", name, code=1))

    @lab.needs_uids
    def test_without_privilege(self):
        host = self.lonely()
        pid = host.spawn("sleep", 60).pid
        done = host.run(RULES, "flush", "--netns", pid, user="transocks", check=False)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("needs root", done.stderr)


if __name__ == "__main__":
    lab.main()
