# SPDX-License-Identifier: MIT
"""when_daemon_down: what becomes of rules and flows when transocksd is killed, with both policies."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import time

import lab
from flow import talk

CONTROL = pathlib.Path("/run/transocks/transocksd.sock")
UPSTREAM = "socks5://10.91.3.2:1080"
ADDRESSES = ("11.0.0.1", "2a00:1::1")
OWNED = "\tflags owner"


class OpenCase(lab.TestCase):
    def setUp(self):
        self.addCleanup(shutil.rmtree, CONTROL.parent, ignore_errors=True)

    def daemon(self, host, config="", **options):
        daemon = host.transocksd(f'listen = ":1081"\nproxy_url = "{UPSTREAM}"\n{config}', **options)
        daemon.wait_line(message="ready")
        return daemon

    def start(self, kind="host", config=""):
        t = self.build(kind)
        t.daemon_host = t.gateway if kind == "gateway" else t.host
        t.inet.peer("echo", "::", 7)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.daemon = self.daemon(t.daemon_host, config)
        return t

    def rules(self, host, *args, code=0):
        """The result of a command, as JSON."""
        done = host.rules(*args, "--json", check=False)
        if code is not None:
            self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def open(self, host, *args, code=0):
        return self.rules(host, "install", "--when-daemon-down", "open", *args, code=code)

    def owners(self, host):
        status = self.rules(host, "status", "--when-daemon-down", "open", code=None)
        return set(status["owner"].split(" and "))

    def answered(self):
        """Whether somebody listens at the control socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(CONTROL)) == 0

    def drain(self, t):
        """Tells the daemon to end, which its flows keep it from."""
        t.daemon.signal(signal.SIGTERM)
        lab.wait_until(lambda: not t.daemon_host.listening(1081))
        return t.daemon

    def flows(self, t):
        """A connection of each family."""
        made = [t.client.connect(address, 7) for address in ADDRESSES]
        for sock in made:
            self.addCleanup(sock.close)
        self.assertTrue(all(map(talk, made)))
        return made

    def taken(self, t):
        """How many of two new flows, one for each family, the daemon saw."""
        before = len(t.daemon.lines(type="access"))
        for sock in self.flows(t):
            sock.close()
        return len(t.daemon.wait_records(before + 2)) - before

    def refused(self, t):
        for address in ADDRESSES:
            with self.assertRaises(ConnectionRefusedError):
                t.client.connect(address, 7)

    def kill(self, t):
        t.daemon.kill()


class Policy(OpenCase):
    def test_killed_open(self):
        """New flows go direct at once, direct ones live on; a restart and an install take flows again."""
        for kind in ("host", "gateway"):
            with self.subTest(kind):
                t = self.start(kind)
                host, more = t.daemon_host, ("--gateway", "lan0") if kind == "gateway" else ()
                old = self.flows(t)
                self.open(host, *more)
                self.assertIn(OWNED, host.ruleset())
                self.assertEqual(self.taken(t), 2)
                proxied = self.flows(t)
                self.kill(t)
                self.assertEqual(host.ruleset(), "")
                self.assertFalse(any(map(talk, proxied)))
                self.assertTrue(all(map(talk, old + self.flows(t))), "direct ones, old and new")
                t.daemon = self.daemon(host)
                self.assertTrue(all(map(talk, self.flows(t))), "nothing is taken before install")
                self.open(host, *more)
                self.assertEqual(self.taken(t), 2)
                self.assertTrue(all(map(talk, old)))
                for proc in t.procs():
                    proc.kill()

    def test_killed_closed(self):
        t = self.start()
        old = self.flows(t)
        self.rules(t.host, "install")
        self.assertEqual(self.taken(t), 2)
        self.kill(t)
        self.assertNotIn(OWNED, t.host.ruleset())
        self.refused(t)
        self.assertTrue(all(map(talk, old)))
        t.daemon = self.daemon(t.host)
        self.assertEqual(self.taken(t), 2)

    def test_terminated(self):
        """The table lives as long as the daemon waits for its last flow."""
        t = self.start()
        self.open(t.host)
        flows = self.flows(t)
        t.daemon.signal(signal.SIGTERM)
        lab.wait_until(lambda: not t.host.listening(1081))
        self.assertIn(OWNED, t.host.ruleset())
        self.assertTrue(all(map(talk, flows)))
        for sock in flows:
            sock.close()
        self.assertEqual(t.daemon.wait(), 0)
        self.assertEqual(t.host.ruleset(), "")
        self.assertTrue(all(map(talk, self.flows(t))))

    def test_successor(self):
        """A daemon beside one that drains takes its rules over; there is no moment without them."""
        t = self.start()
        self.open(t.host)
        flows, old = self.flows(t), self.drain(t)
        t.daemon = self.daemon(t.host)
        self.assertEqual(self.taken(t), 2)
        self.assertTrue(all(map(talk, flows)))
        both = {f"transocksd (pid {pid})" for pid in (old.pid, t.daemon.pid)}
        lab.wait_until(lambda: both == self.owners(t.host))
        for sock in flows:
            sock.close()
        self.assertEqual(old.wait(), 0)
        self.assertEqual(self.owners(t.host), {f"transocksd (pid {t.daemon.pid})"})
        self.assertIn(OWNED, t.host.ruleset())
        self.assertEqual(self.taken(t), 2)
        self.open(t.host, "--bypass", "11.7.0.0/16")  # it can be changed
        self.assertEqual(self.taken(t), 2)
        self.kill(t)
        self.assertEqual(t.host.ruleset(), "")

    def test_successor_ends_first(self):
        """However it ends, what the first one still has lives on, and there is somebody to ask for the rules."""
        for kind in ("host", "gateway"):
            with self.subTest(kind):
                t = self.start(kind)
                host, more = t.daemon_host, ("--gateway", "lan0") if kind == "gateway" else ()
                self.open(host, *more)
                flows, old = self.flows(t), self.drain(t)
                for end in ("terminate", "kill"):
                    t.daemon = self.daemon(host)
                    lab.wait_until(lambda: len(self.owners(host)) == 2)
                    if end == "kill":
                        self.kill(t)
                    else:
                        t.daemon.signal(signal.SIGTERM)
                        self.assertEqual(t.daemon.wait(), 0)
                    self.assertEqual(self.owners(host), {f"transocksd (pid {old.pid})"})
                    self.assertTrue(all(map(talk, flows)), end)
                t.daemon = self.daemon(host)
                self.assertEqual(self.taken(t), 2)
                newer, second = self.flows(t), self.drain(t)
                t.daemon = self.daemon(host)
                self.assertEqual(self.taken(t), 2)
                for sock in newer:
                    sock.close()
                self.assertEqual(second.wait(), 0)
                self.assertEqual(self.taken(t), 2)
                self.kill(t)
                lab.wait_until(self.answered)
                self.rules(host, "flush", "--drain", "0", code=6)
                self.assertTrue(all(map(talk, flows + self.flows(t))), "new ones go direct")
                for sock in flows:
                    sock.close()
                self.assertEqual(old.wait(), 0)
                self.assertEqual(host.ruleset(), "")
                self.assertFalse(CONTROL.exists())
                for proc in t.procs():
                    proc.kill()

    @lab.needs_uids
    def test_successor_that_cannot_start(self):
        """It has taken the rules over before it gives up root, which fails here."""
        t = self.start()
        self.open(t.host)
        flows = self.flows(t)
        self.drain(t)
        file = lab.WORK / "no-setuid.toml"
        file.write_text(f'user = "transocks"\nlisten = ":1081"\nproxy_url = "{UPSTREAM}"\n')
        failing = t.host.spawn("setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid",
                               lab.BUILD / "transocksd", "-f", file)
        self.assertNotEqual(failing.wait(), 0)
        self.assertTrue(all(map(talk, flows)))
        t.daemon = self.daemon(t.host)
        self.assertEqual(self.taken(t), 2)

    def test_successor_at_another_port(self):
        """The rules lead to the old port: they are not for it, and go with the old daemon."""
        t = self.start()
        self.open(t.host)
        flows, old = self.flows(t), self.drain(t)
        t.daemon = t.host.transocksd(f'listen = ":1082"\nproxy_url = "{UPSTREAM}"\n', ports=(1082,))
        self.assertIn(OWNED, t.host.ruleset())
        self.assertTrue(all(map(talk, flows)))
        for sock in flows:
            sock.close()
        self.assertEqual(old.wait(), 0)
        self.assertEqual(t.host.ruleset(), "")
        self.open(t.host, "--port", 1082)
        self.assertEqual(self.taken(t), 2)

    def test_install_while_draining(self):
        """Rules for a daemon that is ending would soon be gone: wait for the next one, or say so."""
        t = self.start()
        self.open(t.host)
        flows, old = self.flows(t), self.drain(t)
        self.assertIn("this daemon is ending", self.open(t.host, code=5)["error"])
        self.assertIn(OWNED, t.host.ruleset())
        installer = t.host.spawn(lab.BUILD / "transocks-rules", "install", "--uid", lab.RULES_UID,
                                 "--when-daemon-down", "open", "--bypass", "11.7.0.0/16")
        t.daemon = self.daemon(t.host)
        self.assertEqual(installer.wait(20), 0, installer.log())
        for sock in flows:
            sock.close()
        self.assertEqual(old.wait(), 0)
        self.assertIn(OWNED, t.host.ruleset())
        t.daemon.signal(signal.SIGTERM)  # nothing holds it
        self.assertEqual(t.daemon.wait(), 0)
        self.assertEqual(t.host.ruleset(), "")

    def test_flush_while_draining(self):
        t = self.start()
        self.open(t.host)
        flows = self.flows(t)
        t.daemon.signal(signal.SIGTERM)
        lab.wait_until(lambda: not t.host.listening(1081))
        self.rules(t.host, "flush", "--drain", "0", code=6)
        self.assertTrue(all(map(talk, self.flows(t) + flows)), "new ones go direct")

    def test_switches_keep_flows(self):
        t = self.start()
        live = self.flows(t)
        steps = ("closed", "open", "open", "closed", "closed", "open", "closed")
        for policy in steps:
            self.rules(t.host, "install", "--when-daemon-down", policy)
            self.assertEqual(OWNED in t.host.ruleset(), policy == "open")
            self.assertEqual(t.host.ruleset().count("table inet"), 1)
            live += self.flows(t)
            self.assertTrue(all(map(talk, live)), policy)
        for sock in live:
            sock.close()
        self.assertEqual({r["end"] for r in t.daemon.wait_records(2 * len(steps))}, {"done"})
        self.kill(t)
        self.assertIn("table inet transocks", t.host.ruleset())  # nothing of the open ones is left
        self.refused(t)

    def test_flush(self):
        t = self.start()
        self.open(t.host)
        self.assertTrue(self.rules(t.host, "flush", "--dry-run")["installed"])
        self.assertIn(OWNED, t.host.ruleset())
        self.assertTrue(self.rules(t.host, "flush")["installed"])
        self.assertEqual(t.host.ruleset(), "")
        self.assertTrue(all(map(talk, self.flows(t))))
        self.open(t.host)
        self.assertEqual(self.taken(t), 2)


    def test_killed_while_flush_waits(self):
        """The table is gone, and with it what flush waits for; the ip rules are not."""
        t = self.build("host")
        t.inet.peer("echo", "::", 7)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.daemon = self.daemon(t.host, 'mode = "tproxy"\n')
        self.open(t.host, "--mode", "tproxy")
        self.flows(t)
        flush = t.host.spawn(lab.BUILD / "transocks-rules", "flush", "--drain", "50s")
        lab.wait_until(lambda: "draining" in t.host.ruleset())
        self.kill(t)
        self.assertEqual(flush.wait(20), 0, flush.log())
        self.assertIn("table inet transocks went meanwhile", flush.log())
        self.assertNotIn("1081", t.host.run("ip", "rule").stdout)

    def test_status_diff_and_print(self):
        t = self.start()
        want = ("--when-daemon-down", "open", "--uid", lab.RULES_UID)
        self.open(t.host)
        status = self.rules(t.host, "status", *want)
        self.assertEqual((status["when_daemon_down"], status["owner"]),
                         ("open", f"transocksd (pid {t.daemon.pid})"))
        self.assertIn(f"goes when transocksd (pid {t.daemon.pid}) ends\n", t.host.rules("status", *want).stdout)
        drift = self.rules(t.host, "status", "--uid", lab.RULES_UID, code=4)
        self.assertEqual([(d["property"], d["want"], d["have"]) for d in drift["differences"]],
                         [("when_daemon_down", "closed", "open")])
        # What is printed can be loaded by anybody, so it has no owner.
        for more in ((), ("--mode", "tproxy", "--tproxy-mark", "0x30/0xf0", "--force")):
            self.open(t.host, *more)
            self.assertEqual(t.host.rules("diff", *want, *(m for m in more if m != "--force")).stdout, "")
            text = t.host.run("nft", "list", "table", "inet", "transocks").stdout
            text = re.sub(r"packets \d+ bytes \d+", "packets 0 bytes 0", text)
            # Behind flags, nft(8) leaves a line empty.
            for head, plain in (("{ # progname transocksd", "{"), (OWNED + "\n", ""), ("\n\n", "\n")):
                text = text.replace(head, plain, 1)
            self.assertEqual(t.host.rules("print", *want, *(m for m in more if m != "--force")).stdout, text)

    def test_trial(self):
        """On trial, confirmed; on trial, not confirmed; and no trial of another policy."""
        t = self.start()
        self.open(t.host, "--confirm", "60s")
        self.assertIn(OWNED, t.host.ruleset())
        self.assertEqual(self.taken(t), 2)
        self.rules(t.host, "confirm")
        self.assertEqual(self.taken(t), 2)
        self.assertIn("when_daemon_down", self.rules(t.host, "install", "--confirm", "60s", code=1)["error"])
        self.open(t.host, "--confirm", "1s", "--bypass", "11.0.0.0/16,2a00:1::/32")
        lab.wait_until(lambda: "previous_" not in t.host.ruleset(), 20)
        self.assertIn(OWNED, t.host.ruleset())
        self.assertEqual(self.taken(t), 2)

    def test_bypass(self):
        """An owned table takes exceptions only through us; a reinstall and a change of policy keep them."""
        t = self.start()
        self.open(t.host)
        self.rules(t.host, "bypass", "add", "11.0.0.0/16", "--comment", "test")
        self.assertEqual(len(t.daemon.lines(type="access")), 0)
        with t.host.connect("11.0.0.1", 7) as direct:
            self.assertTrue(talk(direct))
        self.open(t.host)
        self.rules(t.host, "install")
        self.open(t.host)
        listed = self.rules(t.host, "bypass", "list")["networks"]
        self.assertEqual(listed, [{"network": "11.0.0.0/16", "comment": "test"}])
        self.rules(t.host, "bypass", "del", "11.0.0.0/16")
        self.assertEqual(self.taken(t), 2)


class Owner(OpenCase):
    def test_others_are_refused(self):
        t = self.start()
        self.open(t.host)
        before = t.host.ruleset()
        for command in ("delete table inet transocks", "flush table inet transocks",
                        "add element inet transocks bypass4 { 11.5.0.0/16 }"):
            done = t.host.run("nft", command, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("Operation not permitted", done.stderr)
        t.host.run("nft", "flush", "ruleset")
        self.assertEqual(t.host.ruleset(), before)

    def test_no_daemon(self):
        t = self.build("host")
        error = self.open(t.host, code=5)["error"]
        self.assertIn(f"no transocksd answers at {CONTROL}", error)
        self.assertIn("Start it first", error)
        self.assertEqual(t.host.ruleset(), "")
        self.open(t.host, "--dry-run")
        file = lab.WORK / "no-control.toml"
        file.write_text('control = ""\n')
        self.assertIn("option control", self.open(t.host, "-f", file, code=5)["error"])
        # A table that is there stays.
        self.rules(t.host, "install")
        before = t.host.ruleset()
        self.open(t.host, code=5)
        self.assertEqual(t.host.ruleset(), before)

    def test_a_daemon_that_is_starting(self):
        t = self.build("host")
        installer = t.host.spawn(lab.BUILD / "transocks-rules", "install", "--uid", lab.RULES_UID,
                                 "--when-daemon-down", "open")
        self.daemon(t.host)
        self.assertEqual(installer.wait(20), 0, installer.log())
        self.assertIn(OWNED, t.host.ruleset())

    def test_control_of_the_file(self):
        t = self.start(config=f'control = "{lab.WORK}/other.sock"\n[redirect]\nwhen_daemon_down = "open"\n')
        file = ("-f", t.daemon.config)
        self.rules(t.host, "install", *file)
        self.assertIn(OWNED, t.host.ruleset())
        error = self.rules(t.host, "flush", code=1)["error"]
        self.assertIn(f"owned by transocksd (pid {t.daemon.pid})", error)
        self.assertIn(str(CONTROL), error)
        self.rules(t.host, "flush", *file)
        self.assertEqual(t.host.ruleset(), "")

    def test_owned_by_another(self):
        """Somebody has loaded a listing of ours, and holds the socket."""
        t = self.start()
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        nft = t.host.spawn("nft", "-i", stdin=reader)
        os.close(reader)
        os.write(writer, b'table inet transocks { comment "transocks-rules 9"; flags owner; }\n')
        lab.wait_until(lambda: OWNED in t.host.ruleset())
        for args in (("flush",), ("install",), ("install", "--when-daemon-down", "open")):
            error = self.rules(t.host, *args, code=1)["error"]
            self.assertIn(f"owned by nft (pid {nft.pid})", error)
        nft.kill()
        lab.wait_until(lambda: t.host.ruleset() == "")
        self.open(t.host)

    def test_on_loan(self):
        """Who comes second waits, and gives up after some seconds."""
        t = self.start()
        self.open(t.host)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(CONTROL))
            sock.sendall(b"rules lend\n")
            data, fds, _, _ = socket.recv_fds(sock, 4096, 1)
            self.assertEqual(data, b"{}\n")
            with socket.socket(fileno=fds[0]) as lent:  # leaves an error behind for the next one
                lent.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 99, 5, 1, 0, 0, 0, 0))
            self.assertIn("somebody else is changing", self.rules(t.host, "flush", code=6)["error"])
            waits = t.host.spawn(lab.BUILD / "transocks-rules", "flush")
            time.sleep(0.5)
            self.assertTrue(waits.alive(), waits.log())
        self.assertEqual(waits.wait(20), 0, waits.log())
        self.assertEqual(t.host.ruleset(), "")

    def test_many_at_once(self):
        t = self.start()
        many = [t.host.spawn(lab.BUILD / "transocks-rules", "install", "--uid", lab.RULES_UID,
                             "--when-daemon-down", "open" if i % 3 else "closed") for i in range(9)]
        for proc in many:
            self.assertIn(proc.wait(30), (0, 6), proc.log())
        self.open(t.host)
        self.assertEqual(t.host.ruleset().count("table inet"), 1)
        self.assertEqual(self.taken(t), 2)

    def test_another_namespace(self):
        t = self.start()
        self.open(t.host)
        error = self.open(t.inet, code=1)["error"]
        self.assertIn("another network namespace", error)
        self.assertIn(OWNED, t.host.ruleset())
        self.assertEqual(t.inet.ruleset(), "")


if __name__ == "__main__":
    lab.main()
