# SPDX-License-Identifier: MIT
"""watch by iptables, with iptables-legacy and iptables-nft: what others change is told, and put back if so told."""
import json
import signal
import time

import lab
from iptables import IptablesCase

WAIT = 20  # seconds; it looks every second


class Watch(IptablesCase):
    def watch(self, host, *args):
        argv = ("watch", "--json", "--backend", "iptables", "--uid", "0" if lab.ONE_UID else "transocks", *args)
        proc = host.spawn(*self.argv(argv), env={"PATH": str(self.path)})
        self.events(proc, 1)
        return proc

    def events(self, proc, n):
        """The first `n` events, and that there are no more."""
        def told():
            return [json.loads(x) for x in proc.log().splitlines() if x.startswith("{")]
        lab.wait_until(lambda: len(told()) >= n, WAIT, lambda: proc.log())
        self.assertEqual(len(told()), n, proc.log())
        return told()

    def told_until(self, proc, n, event, before):
        """Behind the first `n`: the last one, and which may come before it, where it looks in the middle of a change.
        Returns how many there are."""
        def told():
            return [json.loads(x)["event"] for x in proc.log().splitlines() if x.startswith("{")]
        lab.wait_until(lambda: told()[n:][-1:] == [event], WAIT, proc.log)
        self.assertLessEqual(set(told()[n:]), before | {event})
        return len(told())

    def last(self, proc, n, event):
        found = self.events(proc, n)[-1]
        self.assertEqual((found["event"], found["backend"], found["by"]), (event, "iptables", []))
        return found

    def foreign(self, host, text, program="iptables-restore"):
        self.tables(host, program, "--noflush", stdin=text)

    def unmeant(self, host):
        """All of ours is gone, by others."""
        text = "*filter\n-F\n-X\nCOMMIT\n*nat\n-F\n-X\nCOMMIT\n"
        for program in ("iptables-restore", "ip6tables-restore"):
            self.foreign(host, text, program)

    def test_tells(self):
        """A person, who watches from before, and a program."""
        host = self.lonely()
        person = host.spawn(*self.argv(("watch", "--backend", "iptables")), env={"PATH": str(self.path)})
        person.wait_log(r"^[-0-9]+ [:0-9]+ watching rules of iptables, which are not there$", WAIT)
        self.rules(host, "install")
        proc = self.watch(host)
        person.wait_log(r"^[-0-9]+ [:0-9]+ rules of iptables installed by transocks-rules$", WAIT)
        self.assertEqual(self.last(proc, 1, "watching")["text"], "watching rules of iptables")
        self.foreign(host, "*nat\n-A TRANSOCKS_TAKE -p udp -j RETURN\nCOMMIT\n")
        changed = self.last(proc, 2, "changed")
        self.assertEqual(changed["differences"], [
            {"kind": "extra", "object": "rule", "family": "IPv4", "table": "nat",
             "chain": "TRANSOCKS_TAKE", "rule": "-p udp -j RETURN"}])
        person.wait_log(r"rules of iptables changed: not configured in table nat of IPv4: "
                        r"-A TRANSOCKS_TAKE -p udp -j RETURN$", WAIT)
        self.foreign(host, "*nat\n-D TRANSOCKS_TAKE -p udp -j RETURN\nCOMMIT\n")
        self.last(proc, 3, "in_sync")
        # A live exception is no difference, and neither is what is not ours.
        self.foreign(host, "*nat\n-I TRANSOCKS_BYPASS -d 11.9.0.0/16 -j RETURN\n-A OUTPUT -p udp -j ACCEPT\nCOMMIT\n")
        self.unmeant(host)
        self.told_until(proc, 3, "removed", {"changed"})
        proc.popen.send_signal(signal.SIGTERM)
        self.assertEqual(proc.wait(WAIT), 0)
        self.assertNotIn("TRANSOCKS", self.saved(host))

    def test_repairs(self):
        """With the live exceptions that were there, and what transocks-rules has made of it last."""
        host = self.lonely()
        self.rules(host, "install")
        proc = self.watch(host, "--repair")
        self.rules(host, "install", "--port", 1082, "--quic", "reject")
        self.last(proc, 2, "installed")
        self.rules(host, "bypass", "add", "11.9.0.0/16")
        time.sleep(1.2)  # another look: nothing is told of it
        wanted = self.saved(host)
        self.unmeant(host)
        lab.wait_until(lambda: self.saved(host) == wanted, WAIT, proc.log)
        n = self.told_until(proc, 2, "repaired", {"changed", "removed"})
        self.foreign(host, "*nat\n-D TRANSOCKS_TAKE 1\nCOMMIT\n")
        n = self.told_until(proc, n, "repaired", {"changed"})
        self.assertEqual(self.saved(host), wanted)
        self.rules(host, "flush")
        n = self.told_until(proc, n, "removed", {"draining"})
        time.sleep(1.2)  # another look
        self.assertNotIn("TRANSOCKS", self.saved(host))
        self.events(proc, n)

    def test_trial(self):
        """It is meant, and so is its end."""
        host = self.lonely()
        self.rules(host, "install")
        before = self.saved(host)
        proc = self.watch(host, "--repair")
        self.rules(host, "install", "--port", 1082, "--confirm", "2s")
        self.last(proc, 2, "installed")
        self.last(proc, 3, "trial_ended")
        lab.wait_until(lambda: self.forgetful(self.saved(host)) == before, WAIT)
        self.rules(host, "install", "--port", 1082, "--confirm", "50s")
        self.last(proc, 4, "installed")
        self.rules(host, "confirm")
        self.last(proc, 5, "confirmed")
        self.assertIn("1082", self.saved(host))


class LegacyWatch(Watch):
    variant = "legacy"
    test_trial = None  # one variant does, here and below


class NftWatch(Watch):
    variant = "nft"
    test_repairs = None


del IptablesCase, Watch  # what is left are the cases of a variant


if __name__ == "__main__":
    lab.main()
