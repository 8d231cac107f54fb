# SPDX-License-Identifier: MIT
"""install --confirm by iptables, with iptables-legacy and iptables-nft: the rules before are back by themselves."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket

import lab
from flow import talk
from iptables import IptablesCase, PROGRAMS

IP_TRANSPARENT = 19
LONG = "50s"
OVER = 20  # seconds that a trial of one second may take at most


class Trial(IptablesCase):
    def tearDown(self):
        self.kill_watchers()

    def watchers(self, wait=False):
        """Processes that an installation has left behind, by their own PATH."""
        def found():
            pids = []
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if (b"--confirm" in path.read_bytes() and
                            str(self.path).encode() in (path.parent / "environ").read_bytes()):
                        pids.append(int(path.parent.name))
            return pids
        return lab.wait_until(found, 5, "no watcher") if wait else found()

    def kill_watchers(self, wait=False):
        for pid in self.watchers(wait):
            os.kill(pid, signal.SIGKILL)

    def wait_over(self, host):
        lab.wait_until(lambda: not self.status(host)["on_trial"], OVER, "the trial does not end")

    def status(self, host, *args):
        done = host.run(*self.argv(("status", "--json", *args)), env={"PATH": str(self.path)},
                        check=False)
        return {"on_trial": False, **json.loads(done.stdout)}

    def taken(self, host, address="11.0.0.1", port=1081):
        """Whether a new connection gets to that port."""
        family_wide = "::1" if ":" in address else "127.0.0.1"
        with host.listen(family_wide, port) as server, host.connect(address, 7) as sock:
            server.settimeout(0.3)
            try:
                server.accept()[0].close()
                return True
            except TimeoutError:
                self.assertTrue(talk(sock))
                return False

    def start(self, kind="host"):
        t = self.build(kind)
        t.inet.peer("echo", "::", 7)
        return t

    def test_confirmed(self):
        host = self.lonely()
        self.rules(host, "install", "--quic", "reject")
        plain = self.saved(host)
        self.rules(host, "flush")
        done = self.rules(host, "install", "--quic", "reject", "--confirm", LONG)
        self.assertIn("on trial for 50s: unless `transocks-rules confirm` is run by then, new flows",
                      done.stdout)
        tried = self.saved(host)
        self.assertIn("would confirm", self.rules(host, "confirm", "--dry-run").stdout)
        self.assertEqual(self.saved(host), tried)
        self.assertEqual(self.rules(host, "confirm").stdout, "confirmed rules of iptables\n")
        self.assertEqual(self.forgetful(self.saved(host)), plain)
        self.assertIn("nothing waits", self.rules(host, "confirm", code=3).stderr)

    def test_what_status_says(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name z")
        self.rules(host, "install", "--gateway", "lan0", "--force", "--bypass", "11.5.0.0/16")
        self.rules(host, "bypass", "add", "11.9.0.0/16")
        new = ("--port", 1082, "--quic", "reject")
        done = self.rules(host, "install", *new, "--confirm", LONG)
        self.assertIn("what was there before is back by itself", done.stdout)
        for _ in range(2):
            status = self.status(host, *new)
            self.assertEqual((status["on_trial"], status["in_sync"], status["draining"],
                              status["exceptions"]), (True, True, False, 1))
            self.assertTrue(0 < status["trial_left_ms"] <= 52_000, status["trial_left_ms"])
            self.assertEqual(self.rules(host, "diff", *new).stdout, "")
            # Another one, with the same rules before.
            self.rules(host, "install", *new, "--confirm", LONG)
        self.assertRegex(self.rules(host, "status", *new, code=5).stdout,
                         r"(?m)^on trial for another \d+s: .*the rules before are back")
        self.rules(host, "confirm")
        confirmed = self.saved(host)
        self.assertNotIn("lan0", confirmed)
        self.assertEqual(self.status(host, *new)["exceptions"], 1)
        self.rules(host, "install", *new)
        self.assertEqual(self.saved(host), confirmed)

    def test_over(self):
        """What was there before is back to the letter, with what was added meanwhile."""
        host = self.lonely()
        host.ip("link add lan0 type veth peer name z")
        self.tables(host, "iptables-restore", "--noflush",
                    stdin="*nat\n-A OUTPUT -p tcp --dport 9 -j ACCEPT\nCOMMIT\n")
        self.rules(host, "install", "--bypass", "11.5.0.0/16")
        self.tables(host, "iptables-restore", "--noflush",
                    stdin="*nat\n-A OUTPUT -p tcp --dport 10 -j ACCEPT\nCOMMIT\n")
        self.rules(host, "bypass", "add", "11.9.0.0/16")
        before = self.saved(host)
        self.rules(host, "install", "--gateway", "lan0", "--port", 1082, "--force", "--confirm", "1s")
        self.assertNotEqual(self.saved(host), before)
        lab.wait_until(lambda: not self.watchers(), OVER, "the watcher does not end")
        self.assertEqual(self.empty_made(self.forgetful(self.saved(host))), self.empty_made(before))

    def empty_made(self, text):
        return re.sub(r":[A-Z]+ ACCEPT", "", text)

    @lab.needs_uids
    def test_killed(self):
        """Nobody of ours is left, and the previous rules decide; whoever comes next tidies up."""
        t = self.start()
        self.rules(t.host, "install", "--port", 1082)
        plain = self.saved(t.host)
        self.rules(t.host, "install", "--confirm", "3s")
        self.kill_watchers(wait=True)
        tried = self.saved(t.host)
        for address in ("11.0.0.1", "2a00:1::1"):
            self.assertTrue(self.taken(t.host, address, 1081))
        self.wait_over(t.host)
        for address in ("11.0.0.1", "2a00:1::1"):
            self.assertTrue(self.taken(t.host, address, 1082))
        self.assertEqual(self.saved(t.host), tried)
        self.assertIn("too late: the trial has ended, and the rules before are back",
                      self.rules(t.host, "confirm", code=3).stderr)
        self.assertEqual(self.forgetful(self.saved(t.host)), plain)

    def ours(self, host):
        return re.findall("^.*TRANSOCKS_.*$", self.forgetful(self.saved(host)), re.M)

    def first(self, t, *args, left=()):
        """What has no rules before: new flows go direct, live ones go on until they end."""
        on, left = t.gateway if t.client != t.host else t.host, list(left)
        self.rules(on, "install", *args, "--confirm", "3s")
        with on.listen("0.0.0.0", 1081) as server:
            server.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
            live = t.client.connect("11.0.0.1", 7)
            self.addCleanup(live.close)
            peer = server.accept()[0]
        lab.wait_until(lambda: "TRIAL_" in self.saved(on) and not self.status(on)["on_trial"], OVER)
        with t.client.connect("11.0.0.1", 7) as direct:
            self.assertTrue(talk(direct))
        live.sendall(b"on")
        self.assertEqual(peer.recv(2), b"on")
        peer.sendall(b"and on")
        self.assertEqual(live.recv(6), b"and on")
        self.assertTrue(self.watchers())
        self.assertIn("TRANSOCKS_TRIAL_", self.saved(on))
        live.close()
        peer.close()
        lab.wait_until(lambda: not self.watchers(), OVER, "the watcher does not end")
        self.assertEqual(self.ours(on), left)
        self.assertEqual("1081" in on.run("ip", "rule").stdout, left != [])

    @lab.needs_uids
    def test_first(self):
        self.first(self.start())

    @lab.needs_uids
    def test_first_by_tproxy(self):
        self.first(self.start(), "--mode", "tproxy", "--force")

    @lab.needs_uids
    def test_first_of_a_family_by_tproxy(self):
        t = self.start()
        self.rules(t.host, "install", "--mode", "tproxy", "--force", "--family", "ipv6")
        self.first(t, "--mode", "tproxy", "--force", left=self.ours(t.host))

    def test_a_family_more(self):
        """Back to the other one alone."""
        host = self.lonely()
        for family in ("ipv4", "ipv6"):
            self.rules(host, "install", "--family", family)
            before = self.ours(host)
            self.rules(host, "install", "--confirm", "1s")
            self.wait_over(host)
            self.assertEqual(self.status(host, "--family", family)["installed"], True)
            lab.wait_until(lambda: not self.watchers(), OVER, "the watcher does not end")
            self.assertEqual(self.ours(host), before)
            self.rules(host, "diff", "--family", family)
            self.rules(host, "flush")

    def test_flush_and_install(self):
        host = self.lonely()
        self.rules(host, "install", "--port", 1082)
        for args in ((), ("--now",)):
            self.rules(host, "install", "--confirm", LONG)
            self.rules(host, "flush", *args)
            self.assertNotIn("TRANSOCKS", self.saved(host))
        self.rules(host, "install")
        plain = self.saved(host)
        self.rules(host, "install", "--port", 1082, "--confirm", LONG)
        self.rules(host, "bypass", "add", "11.9.0.0/16")
        self.assertEqual(self.rules(host, "bypass", "list").stdout, "11.9.0.0/16\n")
        self.rules(host, "bypass", "del", "11.9.0.0/16")
        self.assertEqual(self.rules(host, "bypass", "list").stdout, "")
        self.rules(host, "install")
        self.assertEqual(self.forgetful(self.saved(host)), plain)

    def test_refused(self):
        host = self.lonely()
        self.rules(host, "install")
        before = self.saved(host)
        error = self.rules(host, "install", "--mode", "tproxy", "--force", "--confirm", LONG, code=1).stderr
        self.assertIn("--confirm cannot change mode or tproxy_mark", error)
        self.assertEqual(self.saved(host), before)
        self.assertNotIn("1081", host.run("ip", "rule").stdout)
        real = f"/usr/sbin/xtables-{self.variant}-multi"
        lacking = self.programs("lacking", [p for p in PROGRAMS if p != "iptables-restore"], [
            ("iptables-restore",
             f'case "$*" in *--version*) exec {real} iptables-restore "$@"; esac; text=$(cat); '
             'case "$text" in *"-m time"*) echo "Couldn\'t load match \\`time\'" >&2; exit 2; esac; '
             f'echo "$text" | {real} iptables-restore "$@"')])
        error = self.rules(host, "install", "--confirm", LONG, path=lacking, code=69).stderr
        self.assertIn("Couldn't load match `time'; --confirm takes the match time "
                      "(CONFIG_NETFILTER_XT_MATCH_TIME)", error)
        self.assertEqual(self.saved(host), before)
        self.assertEqual(self.watchers(), [])


class LegacyTrial(Trial):
    variant = "legacy"


class NftTrial(Trial):
    variant = "nft"


del IptablesCase, Trial  # what is left are the cases of a variant


if __name__ == "__main__":
    lab.main()
