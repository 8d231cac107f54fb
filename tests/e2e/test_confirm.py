# SPDX-License-Identifier: MIT
"""install --confirm: the rules before are back by themselves, whoever was killed; confirm keeps the new ones."""
import contextlib
import fcntl
import os
import pathlib
import re
import signal
import time

import lab
from test_flush import DRAIN, FlushCase
from test_rules import RULES

LONG = "50s"


def without_counters(text):
    return re.sub(r"packets \d+ bytes \d+", "packets 0 bytes 0", text)


class ConfirmCase(FlushCase):
    def watchers(self):
        """Processes that an installation has left behind."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if b"--confirm" in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                pass
        return found

    def tearDown(self):
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)

    def kill_watchers(self):
        lab.wait_until(self.watchers, 5, "no watcher")
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)

    def wait_ruleset(self, host, condition, what):
        return lab.wait_until(lambda: condition(without_counters(host.ruleset())), 15, what)

    def wait_over(self, host):
        """Until the elements that keep the time have expired."""
        def is_over():
            text = host.run("nft", "list", "set", "inet", "transocks", "trial", check=False).stdout
            return "elements" not in text
        lab.wait_until(is_over, 15, "the trial does not end")

    def start(self, kind="host"):
        """With a second transocksd's port."""
        t = super().start(kind)
        t.second = {"11.1.2.3": self.server(t.router, "127.0.0.1", 1082),
                    "2a00:1:5::7": self.server(t.router, "::1", 1082)}
        return t

    def remembering(self, port, text):
        """The ruleset once it has forgotten nothing of a trial on another port."""
        return re.sub(r'(comment "transocks-rules [^",]+)"', rf'\1, earlier ports {port}"', text, count=1)

    def asks(self, host, target, what, chain, becomes):
        """What `test` says."""
        answer = self.json(host, "test", target)
        self.assertRegex(answer["why"], f"^{what} by .* of {chain}, table inet transocks$")
        self.assertEqual(answer["becomes"], becomes)

    def taken_by(self, t, servers):
        return [self.proxied(t.client, server, address) for address, server in servers.items()]


class Confirmed(ConfirmCase):
    def test_first_installation(self):
        t = self.start()
        t.host.rules("install")
        plain = t.host.ruleset()
        t.host.rules("flush")
        done = t.host.rules("install", "--confirm", LONG)
        self.assertIn("on trial for 50s: unless `transocks-rules confirm`", done.stdout)
        live = self.live(t)
        self.assertEqual(t.host.rules("confirm").stdout, "confirmed table inet transocks\n")
        self.assertEqual(without_counters(t.host.ruleset()), plain)
        self.assertNotEqual(t.host.ruleset(), plain)  # the counters went on
        self.all_pass(live + self.live(t))
        self.assertIn("nothing waits", self.refused(t.host, "confirm", code=3))

    def test_replacement(self):
        t = self.start()
        t.host.rules("install")
        t.host.nft("add element inet transocks bypass4 { 11.9.9.0/24 }")
        old = self.live(t)
        t.host.rules("install", "--port", 1082, "--confirm", LONG)
        new = self.taken_by(t, t.second)
        self.all_pass(old + new)
        args = ("status", "--uid", lab.RULES_UID, "--port", 1082)
        status = self.json(t.host, *args)
        self.assertTrue(status["on_trial"])
        self.assertTrue(0 < status["trial_left_ms"] <= 50_000, status["trial_left_ms"])
        self.assertRegex(t.host.rules(*args, check=False).stdout, r"(?m)^on trial for another \d+s: .*the rules before")
        self.assertEqual(self.json(t.host, "confirm")["confirmed"], True)
        status = self.json(t.host, *args)
        self.assertEqual((status["on_trial"], status["flows"], status["exceptions"]), (False, 4, 1))
        text = t.host.ruleset()
        self.assertNotIn("previous_", text)
        self.assertNotIn("trial", text)
        self.assertEqual(text.count("11.9.9.0/24"), 1)
        self.assertNotIn("redirect to :1081", text)
        self.all_pass(old + new + self.taken_by(t, t.second))

    def test_dry_run(self):
        host = self.lonely()
        self.assertIn("would install", host.rules("install", "--confirm", LONG, "--dry-run").stdout)
        self.assertEqual((host.ruleset(), self.watchers()), ("", []))
        host.rules("install", "--confirm", LONG)
        before = without_counters(re.sub(r" expires \w+", "", host.ruleset()))
        self.assertIn("would confirm", host.rules("confirm", "--dry-run").stdout)
        self.assertEqual(without_counters(re.sub(r" expires \w+", "", host.ruleset())), before)

    def test_live_exceptions(self):
        """Those of the trial go with it, those before come back, and an installation after it carries them on."""
        host = self.lonely()
        host.rules("install")
        host.nft("add element inet transocks bypass4 { 11.9.9.0/24 }")
        host.rules("install", "--confirm", "1s")
        self.kill_watchers()
        host.nft("add element inet transocks bypass4 { 11.8.8.0/24 }")
        self.wait_over(host)
        host.rules("install")
        text = host.ruleset()
        self.assertEqual((text.count("11.9.9.0/24"), text.count("11.8.8.0/24"), text.count("trial")), (1, 0, 0))

    def test_exceptions_when_it_is_over(self):
        """They are those of the table before, which is back in full; without one there is no table."""
        host = self.lonely()
        host.rules("install", "--bypass", "11.3.0.0/16")
        host.rules("bypass", "add", "11.9.9.0/24")
        host.rules("install", "--confirm", "1s")
        self.kill_watchers()
        self.wait_over(host)
        self.assertEqual(host.rules("bypass", "list").stdout, "11.9.9.0/24\n")
        self.assertIn("without --dry-run", self.refused(host, "bypass", "add", "11.8.8.0/24", "-n", code=1))
        host.rules("bypass", "add", "11.8.8.0/24")
        text = host.ruleset()
        self.assertEqual((text.count("11.9.9.0/24"), text.count("11.8.8.0/24"), text.count("trial")), (1, 1, 0))
        self.assertIn("11.3.0.0/16", text)
        host.rules("flush")
        host.rules("install", "--confirm", "1s")
        self.kill_watchers()
        self.wait_over(host)
        for args in (("add", "11.8.8.0/24"), ("list",)):
            self.assertIn("is not installed", self.refused(host, "bypass", *args, code=3))

    def test_usage(self):
        host = self.lonely()
        for args in (("install", "--confirm", "0"), ("install", "--confirm", "60"), ("install", "--confirm"),
                     ("install", "--confirm", "48h"), ("confirm", "now")):
            self.refused(host, *args, code=64)
        self.assertIn("nothing waits", self.refused(host, "confirm", code=3))


class TimedOut(ConfirmCase):
    def test_first_installation(self):
        t = self.start()
        before = self.direct(t)
        t.host.rules("install", "--confirm", "1s")
        live = self.live(t)
        self.wait_over(t.host)
        before += self.direct(t)
        self.all_pass(before + live)  # the table waits for these
        self.end(live)
        self.wait_ruleset(t.host, lambda text: text == "", "the table is still there")
        self.all_pass(before + self.direct(t))
        lab.wait_until(lambda: not self.watchers(), 5, "the watcher has not ended")

    def test_replacement(self):
        t = self.start()
        t.host.rules("install", "--bypass", "11.7.0.0/16", "--quic", "reject", "--exempt-uids", "7")
        t.host.nft('add element inet transocks bypass4 { 11.9.9.0/24 comment "mine" }')
        before = without_counters(t.host.ruleset())
        old = self.live(t)
        t.host.rules("install", "--port", 1082, "--share", 100, "--confirm", "1s")
        new = self.taken_by(t, t.second)
        self.all_pass(old + new)
        before = self.remembering(1082, before)
        self.wait_ruleset(t.host, lambda text: text == before, "the table before is not back")
        self.all_pass(old + new + self.live(t))
        lab.wait_until(lambda: not self.watchers(), 5, "the watcher has not ended")

    def test_flush_after_another_port(self):
        """It waits for the connections that went to the port of the trial."""
        t = self.start()
        t.host.rules("install")
        t.host.rules("install", "--port", 1082, "--confirm", "1s")
        new = self.taken_by(t, t.second)
        self.wait_ruleset(t.host, lambda text: "previous_" not in text, "the table before is not back")
        left = self.json(t.host, "flush", "--drain", "0", code=6)
        self.assertEqual(left["flows_left"], 2)
        self.all_pass(new)

    def test_everything_killed(self):
        """The kernel goes back by itself, and the next command tidies up."""
        t = self.start()
        t.host.rules("install")
        before = without_counters(t.host.ruleset())
        old = self.live(t)
        t.host.rules("install", "--port", 1082, "--confirm", "3s")
        self.kill_watchers()
        new = self.taken_by(t, t.second)
        self.asks(t.host, "11.1.2.3:80", "redirected", "chain output", "127.0.0.1:1082")
        self.asks(t.host, "10.91.0.1:80", "left alone", "chain output", "10.91.0.1:80")
        self.wait_over(t.host)
        self.asks(t.host, "11.1.2.3:80", "redirected", "chain previous_output", "127.0.0.1:1081")
        self.asks(t.host, "10.91.0.1:80", "left alone", "chain previous_output", "10.91.0.1:80")
        self.assertFalse(self.json(t.host, "status", "--uid", lab.RULES_UID)["on_trial"])
        self.all_pass(old + new + self.live(t))
        for address in ("127.0.0.1", "::1"):  # the guard of the trial's port has gone as well
            t.host.connect(address, 1082).close()
            with self.assertRaises(ConnectionRefusedError):
                t.host.connect(address, 1081)
        self.assertIn("the trial has ended, and the rules before are back", self.refused(t.host, "confirm", code=3))
        self.assertEqual(without_counters(t.host.ruleset()), self.remembering(1082, before))
        self.all_pass(old + new + self.live(t))

    def test_everything_killed_at_the_first_installation(self):
        t = self.start()
        t.host.rules("install", "--confirm", "1500ms")
        self.kill_watchers()
        live = self.live(t)
        self.wait_over(t.host)
        self.json(t.host, "status", "--uid", lab.RULES_UID, code=3)
        self.all_pass(live + self.direct(t))
        self.assertIn("the trial has ended, and new flows go direct", self.refused(t.host, "confirm", code=3))
        self.end(live)
        t.host.rules("flush")
        self.assertEqual(t.host.ruleset(), "")

    def test_installer_and_its_session_killed(self):
        """Like a lost SSH connection: all processes of the session get SIGHUP, then SIGKILL."""
        t = self.start()
        shell = t.host.spawn("setsid", "sh", "-c", f"{RULES} install --uid 4242 --confirm 1s; echo done; sleep 60")
        shell.wait_log("^done$")
        self.assertIn("trial", t.host.ruleset())
        for number in (signal.SIGHUP, signal.SIGKILL):
            os.killpg(shell.pid, number)
        shell.killed = True
        self.wait_ruleset(t.host, lambda text: text == "", "the table is still there")

    def test_gateway(self):
        t = self.start("gateway")
        t.gateway.rules("install", "--gateway", "lan0", "--confirm", "1s")
        live = self.live(t)
        self.wait_over(t.gateway)
        self.all_pass(live + self.direct(t))

    def test_nobody_waits_for_the_watcher(self):
        """It holds no pipe of the caller, and no terminal."""
        host = self.lonely()
        host.run("sh", "-c", f"{RULES} install --uid 4242 --confirm {LONG} | cat", seconds=10)
        pid = lab.wait_until(self.watchers, 5)[0]

        def held():
            """None: a descriptor has been closed while we looked."""
            with contextlib.suppress(FileNotFoundError):
                return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        # It may not have let go of them yet.
        lab.wait_until(lambda: held() == {"/dev/null"}, 5, lambda: f"the watcher holds {held()}")
        self.assertEqual(os.getsid(pid), pid)


class WhilePending(ConfirmCase):
    def test_another_trial(self):
        t = self.start()
        t.host.rules("install")
        before = without_counters(t.host.ruleset())
        t.host.rules("install", "--port", 1082, "--confirm", LONG)
        third = self.server(t.host, "127.0.0.1", 1083)
        self.server(t.host, "::1", 1083)
        t.host.rules("install", "--port", 1083, "--confirm", "1500ms")
        self.assertNotIn("redirect to :1082", t.host.ruleset())
        self.passes(*self.proxied(t.host, third, "11.1.2.3"))
        before = self.remembering("1083 1082", before)
        self.wait_ruleset(t.host, lambda text: text == before, "the table before is not back")
        self.all_pass(self.live(t))

    def test_installation_for_good(self):
        t = self.start()
        t.host.rules("install", "--confirm", "1s")
        t.host.rules("install", "--port", 1082)
        text = t.host.ruleset()
        self.assertNotIn("trial", text)
        lab.wait_until(lambda: not self.watchers(), 15, "the watcher has not ended")
        self.assertEqual(t.host.ruleset(), text)
        self.all_pass(self.taken_by(t, t.second))

    def test_flush(self):
        t = self.start()
        t.host.rules("install")
        old = self.live(t)
        t.host.rules("install", "--port", 1082, "--confirm", "3s")
        live = old + self.taken_by(t, t.second)
        flush = self.flush(t)
        self.assertEqual(t.host.ruleset().count(DRAIN), 2)
        self.wait_over(t.host)
        self.all_pass(live + self.direct(t))
        self.end(live)
        self.assertEqual(flush.wait(30), 0, flush.log())
        self.assertEqual(t.host.ruleset(), "")
        lab.wait_until(lambda: not self.watchers(), 15, "the watcher has not ended")

    def test_what_cannot_be_put_back(self):
        host = self.lonely()
        host.rules("install")
        host.nft("add rule inet transocks output limit rate 5/second counter")
        before = host.ruleset()
        result = self.json(host, "install", "--uid", "1", "--confirm", LONG, code=1)
        self.assertIn("could not be put back", result["error"])
        self.assertEqual((host.ruleset(), self.watchers()), (before, []))
        for part in ("add counter inet transocks mine",
                     "add set inet transocks mine { type inet_service; size 77; elements = { 80 }; }",
                     "add set inet transocks mine { type ipv4_addr; flags interval; elements = { 11.0.0.0/8 }; }",
                     "add table inet transocks { flags dormant; }"):
            host.run("nft", "delete", "table", "inet", "transocks")
            host.rules("install")
            host.run("nft", part)
            before = host.ruleset()
            result = self.json(host, "install", "--uid", lab.RULES_UID, "--confirm", LONG, code=1)
            self.assertIn("dormant" if "dormant" in part else "could not be put back", result["error"])
            self.assertEqual((host.ruleset(), self.watchers()), (before, []))

    def test_what_others_have_put_in(self):
        """Without a comment it stays without."""
        host = self.lonely()
        host.rules("install")
        host.run("nft", "insert", "rule", "inet", "transocks", "output", "tcp", "dport", "99", "counter", "return")
        host.run("nft", "add chain inet transocks mine { type filter hook input priority 7; }")
        before = without_counters(host.ruleset())
        host.rules("install", "--confirm", "500ms")
        self.wait_ruleset(host, lambda text: text == before, "the table before is not back")


class Tproxy(ConfirmCase):
    def build_with_daemon(self):
        t = self.build("host")
        t.router = t.host
        t.daemon = t.host.transocksd('mode = "tproxy"\nproxy_url = "direct://"\n')
        t.servers = {address: self.server(t.inet, address, 80) for address in ("11.1.2.3", "2a00:1:5::7")}
        return t

    def rules_of_routing(self, t):
        return [t.host.run("ip", family, "rule").stdout.count("1081:") for family in ("-4", "-6")]

    def records(self, t):
        return len(t.daemon.lines(type="access"))

    def test_there_and_back(self):
        t = self.build_with_daemon()
        t.host.rules("install", "--mode", "tproxy")
        before = without_counters(t.host.ruleset())
        old = self.direct(t)
        t.host.rules("install", "--mode", "tproxy", "--bypass", "11.1.2.0/24", "--family", "ipv4", "--confirm", "1s")
        new = self.direct(t)
        self.all_pass(old + new)
        self.end(new)  # none of these was taken
        self.wait_ruleset(t.host, lambda text: text == before, "the table before is not back")
        again = self.direct(t)
        self.all_pass(old + again)
        self.assertEqual((self.rules_of_routing(t), self.records(t)), ([1, 1], 0))
        self.end(old + again)
        t.daemon.wait_records(4)

    def test_first_installation(self):
        t = self.build_with_daemon()
        t.host.rules("install", "--mode", "tproxy", "--confirm", "1s")
        taken = self.direct(t)
        self.wait_over(t.host)
        self.all_pass(taken + self.direct(t))
        self.end(taken)
        t.daemon.wait_records(2)
        self.wait_ruleset(t.host, lambda text: text == "", "the table is still there")
        lab.wait_until(lambda: self.rules_of_routing(t) == [0, 0], 10, "the ip rules are still there")

    def test_end_beside_somebody_at_work(self):
        """Who installs at the end of a trial needs the ip rules: what is left is tidied up before, or after."""
        host = self.lonely()
        host.rules("install", "--mode", "tproxy", "--confirm", "1s")
        with open("/run/transocks-rules.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.wait_over(host)
            time.sleep(1.5)  # three looks of the watcher
            self.assertIn("table inet transocks", host.ruleset())
            self.assertIn("1081:", host.run("ip", "rule").stdout)
        self.wait_ruleset(host, lambda text: text == "", "the table is still there")
        lab.wait_until(lambda: "1081:" not in host.run("ip", "rule").stdout, 10, "the ip rules are still there")

    def test_another_mode_is_refused(self):
        host = self.lonely()
        for one, other in (("tproxy", "redirect"), ("redirect", "tproxy")):
            host.rules("install", "--mode", one)
            before = host.ruleset(), host.run("ip", "rule").stdout
            result = self.json(host, "install", "--uid", lab.RULES_UID, "--mode", other, "--confirm", LONG, code=1)
            self.assertIn("cannot change mode", result["error"])
            self.assertEqual((host.ruleset(), host.run("ip", "rule").stdout), before)


if __name__ == "__main__":
    lab.main()
