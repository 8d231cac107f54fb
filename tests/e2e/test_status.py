# SPDX-License-Identifier: MIT
"""The control socket and --status of both daemons."""
import json
import os
import pathlib
import re
import signal
import socket
import stat
import time

import lab

RUN = pathlib.Path("/run/transocks")
MEMBERS = ["program", "version", "pid", "uptime_s", "configuration", "files", "reload_error",
           "draining",
           "listeners", "flows", "max_flows", "workers", "upstreams", "rules", "no_rule",
           "ended"]


class Status(lab.TestCase):
    def setUp(self):
        self.t = self.build("host")

    def tearDown(self):
        for proc in self.t.procs():
            proc.kill()
        lab.shutil.rmtree(RUN, ignore_errors=True)

    def transocksd(self, text="", *args, **options):
        return self.t.host.transocksd('proxy_url = "direct://"\n' + text, *args, **options)

    def status(self, proc, *flags, check=True, user=None):
        program = lab.BUILD / ("usocksd" if "usocksd" in str(proc.config) else "transocksd")
        return self.t.host.run(program, "-f", proc.config, "--status", *flags, check=check,
                               user=user)

    def json(self, proc):
        return json.loads(self.status(proc, "--json").stdout)

    def path(self, program="transocksd"):
        return RUN / f"{program}.sock"

    def connect(self, path=None):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(lab.LONG)
        sock.connect(str(path or self.path()))
        return sock

    def ask(self, request, end=True, path=None):
        """The whole answer."""
        with self.connect(path) as sock:
            sock.sendall(request)
            if end:
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            while data := sock.recv(65536):
                answer += data
        return answer.decode()

    def gone(self, config, code, pattern, program="transocksd", user=None):
        """--status that finds nobody: exit code and one line."""
        done = self.t.host.run(lab.BUILD / program, "-f", config, "--status", check=False,
                               user=user)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertRegex(done.stderr, rf"^{program}: .*{pattern}.*\n$")
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_json(self):
        daemon = self.transocksd("workers = 2\n[limits]\nmax_flows = 100\n"
                                 "max_flows_per_client = 3\n")
        self.t.host.rules("install")
        self.t.inet.peer("echo", "::", 7)
        before = self.json(daemon)
        self.assertEqual(list(before), MEMBERS)
        self.assertEqual((before["program"], before["pid"], before["max_flows"],
                          before["configuration"], before["draining"]),
                         ("transocksd", daemon.pid, 100, str(daemon.config), False))
        self.assertEqual(before["listeners"], [{"address": "127.0.0.1:1081", "paused": False},
                                               {"address": "[::1]:1081", "paused": False}])
        self.assertLess(before["uptime_s"], 30)
        self.assertEqual(sum(before["ended"].values()) + before["flows"], 0)
        flows = [self.t.host.connect("11.0.0.1", 7) for _ in range(3)]
        for sock in flows:
            self.addCleanup(sock.close)
            sock.sendall(b"x")
            self.assertEqual(sock.recv(1), b"x")
        for _ in range(2):
            self.t.host.expect_reset("11.0.0.1", 7)
        lab.wait_until(lambda: self.json(daemon)["flows"] == 3)
        now = self.json(daemon)
        self.assertEqual(len(now["workers"]), 2)

        def total(name):
            return sum(worker[name] for worker in now["workers"])

        self.assertEqual((total("flows"), total("sessions_live"), total("setups_live"),
                          total("buffers_live")), (3, 3, 0, 2))
        self.assertEqual(now["ended"]["client-limit"], 2)
        upstream, = now["upstreams"]
        self.assertEqual([upstream[x] for x in ("name", "group", "state", "share", "flows")],
                         ["direct", "default", "up", 100, 3])
        for sock in flows:
            sock.close()
        lab.wait_until(lambda: self.json(daemon)["ended"]["done"] == 3)
        lab.wait_until(lambda: self.json(daemon)["flows"] == 0)
        # The words are those of the log and of the manual.
        manual = (lab.ROOT / "man" / "transocksd.8").read_text()
        manual += (lab.ROOT / "man" / "usocksd.8").read_text()
        for word in now["ended"]:
            self.assertRegex(manual, rf"(?m)^\.It {word} Ta ")
        for name in now["workers"][0]:
            self.assertRegex(manual, rf"(?m)^\.It {name} Ta ")
        for name, value in upstream.items():
            kind = "It {} Ta" if isinstance(value, int) and name not in ("share", "ejected_ms") \
                else "(It )?Cm {}"
            self.assertRegex(manual, rf"(?m)^\.{kind.format(name)}\b")
        self.assertEqual(set(re.findall(r"\w+", " ".join(
            re.findall(r"^\.It Cm (.*)", manual[manual.index(".Sh STATUS"):], re.M)[:14]))),
            set(MEMBERS))

    def test_text(self):
        daemon = self.transocksd("workers = 2\n[limits]\nmax_flows = 1\n")
        self.t.host.rules("install")
        self.t.inet.peer("echo", "::", 7)
        with self.t.host.connect("11.0.0.1", 7) as sock:
            sock.sendall(b"x")
            self.assertEqual(sock.recv(1), b"x")
            text = self.status(daemon).stdout
            numbers = self.json(daemon)
        self.assertRegex(text, rf"^transocksd {numbers['version']}, process {daemon.pid}, up 00:00:")
        self.assertIn(f"\nconfiguration  {daemon.config}\n"
                      "listeners      127.0.0.1:1081 (paused)\n"
                      "               [::1]:1081 (paused)\n"
                      "flows          1 of 1\nworkers        2\n", text)
        table = text.split("\n\n")[1].splitlines()
        names = table[0].split()
        self.assertEqual(names, ["worker", *numbers["workers"][0]])
        for number, line in enumerate(table[1:]):
            self.assertEqual(line.split(),
                             [str(n) for n in (number, *numbers["workers"][number].values())])
            self.assertEqual(len(line), len(table[0]))
        self.assertTrue(text.endswith("\nnone\n"), text)
        lab.wait_until(lambda: self.json(daemon)["ended"]["done"] == 1)
        self.assertRegex(self.status(daemon).stdout, r"(?m)^done +1$")

    def test_a_reload_that_failed(self):
        """The files are not what is in force: that is told until they are, and which files that are."""
        domains = lab.WORK / "status.domains"
        domains.write_text("a.example\n")
        domains.chmod(0o644)
        daemon = self.transocksd(f'[[rule]]\naction = "refuse"\ndomains_file = "{domains}"\n')
        found = self.json(daemon)
        self.assertEqual((found["files"], found["reload_error"]), ([str(daemon.config), str(domains)], ""))
        self.assertIn(f"\nconfiguration  {daemon.config}\n               {domains}\nlisteners ",
                      self.status(daemon).stdout)
        good = daemon.config.read_text()
        daemon.config.write_text(good + "nonsense = 1\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("reload failed")
        error = self.json(daemon)["reload_error"]
        self.assertRegex(error, rf"^{daemon.config}:\d+: .*nonsense")
        # --status itself reads the file, too.
        self.assertIn(f"\nreload failed  {error}\n               what was read before that is in force\n",
                      self.ask(b"status text\n"))
        daemon.config.write_text(good)
        daemon.signal(signal.SIGHUP)
        daemon.wait_line(message="configuration reloaded")
        self.assertEqual(self.json(daemon)["reload_error"], "")

    def test_usocksd(self):
        """Beside transocksd, with a socket of its own."""
        first, second = self.transocksd(), self.t.host.usocksd("workers = 1\n")
        self.assertEqual((self.json(first)["program"], self.json(second)["program"]),
                         ("transocksd", "usocksd"))
        self.assertEqual(self.json(second)["pid"], second.pid)
        self.assertRegex(self.status(second).stdout, "^usocksd ")

    def test_file_and_directory(self):
        daemon = self.transocksd()
        user = (lab.DAEMON_UID, lab.DAEMON_UID)
        for path, mode in ((RUN, 0o40755), (self.path(), 0o140660)):
            found = path.stat()
            self.assertEqual(oct(found.st_mode), oct(mode))
            self.assertEqual((found.st_uid, found.st_gid), user)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertFalse(self.path().exists())
        self.gone(daemon.config, 69, "no daemon answers on /run/transocks/transocksd.sock: No such")

    def test_stale_socket(self):
        daemon = self.transocksd()
        daemon.kill()
        self.assertTrue(stat.S_ISSOCK(self.path().stat().st_mode))
        self.gone(daemon.config, 69, "refused")
        again = self.transocksd()
        self.assertEqual(self.json(again)["pid"], again.pid)
        self.assertNotIn("going on without it", again.log())

    def test_two_daemons(self):
        """The second says so, works without, and leaves the socket of the first alone when it ends."""
        first = self.transocksd()
        second = self.transocksd('listen = "127.0.0.1:2081"\n', ports=(2081,))
        second.wait_log("control socket /run/transocks/transocksd.sock: another daemon answers")
        self.assertEqual(len(second.lines(severity="warning")), 1)
        self.assertEqual(self.json(second)["pid"], first.pid)
        second.signal(signal.SIGTERM)
        self.assertEqual(second.wait(), 0)
        self.assertEqual(self.json(first)["pid"], first.pid)

    def flow(self):
        """One that keeps a draining daemon alive."""
        self.t.host.rules("install", "--force")
        self.t.inet.peer("echo", "::", 7)
        sock = self.t.host.connect("11.0.0.1", 7)
        self.addCleanup(sock.close)
        sock.sendall(b"x")
        self.assertEqual(sock.recv(1), b"x")
        return sock

    def test_successor_of_a_draining_daemon(self):
        """It has the path at once; the one that ends leaves it alone."""
        first = self.transocksd()
        flow = self.flow()
        first.signal(signal.SIGTERM)
        first.wait_log("draining")
        self.assertEqual(self.json(first)["pid"], first.pid)
        second = self.transocksd()
        self.assertEqual(self.json(second)["pid"], second.pid)
        self.assertEqual(second.lines(severity="warning"), [])
        flow.close()
        self.assertEqual(first.wait(), 0)
        self.assertEqual(self.json(second)["pid"], second.pid)
        second.signal(signal.SIGTERM)
        self.assertEqual(second.wait(), 0)
        self.assertFalse(self.path().exists())

    def test_successor_that_came_before(self):
        """Of a daemon that drains later, and of one that just dies."""
        for end in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(end=end.name):
                first = self.transocksd()
                flow = self.flow()
                second = self.transocksd('listen = "127.0.0.1:2081"\n', ports=(2081,))
                second.wait_log("another daemon answers there; trying again")
                if end == signal.SIGKILL:
                    first.kill()
                else:
                    first.signal(end)
                second.wait_log("the control socket /run/transocks/transocksd.sock is ours now")
                self.assertEqual(self.json(second)["pid"], second.pid)
                self.assertEqual(len(second.lines(severity="warning")), 1)
                flow.close()
                first.wait()
                self.assertEqual(self.json(second)["pid"], second.pid)
                for proc in self.t.procs():
                    proc.kill()

    def test_who_is_not_ending_does_not_give_way(self):
        daemon = self.transocksd()
        self.assertEqual(json.loads(self.ask(b"give way\n")), {"error": "this daemon is not ending"})
        self.assertEqual(self.json(daemon)["pid"], daemon.pid)

    def test_file_that_was_replaced_stays(self):
        daemon = self.transocksd()
        self.path().unlink()
        self.path().write_text("not ours")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        self.assertEqual(self.path().read_text(), "not ours")
        daemon = self.transocksd()
        daemon.wait_log("something else than a socket is there; going on without it")
        self.assertEqual(self.path().read_text(), "not ours")

    @lab.needs_uids
    def test_permissions(self):
        """Only that user and its group may ask; who may not make the socket goes on without it."""
        daemon = self.transocksd()
        self.assertEqual(self.status(daemon, user="transocks").returncode, 0)
        self.gone(daemon.config, 77, "you may not ask the daemon on /run/transocks/transocksd.sock: Permission "
                  r"denied \(socket mode 0660, owner transocks, group transocks\)", user="nobody")
        RUN.chmod(0o700)
        self.gone(daemon.config, 77, "you may not ask the daemon on .*: Permission denied", user="nobody")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        RUN.rmdir()
        daemon = self.transocksd(user="transocks")
        daemon.wait_line(severity="warning", message="cannot make the control socket "
                         "/run/transocks/transocksd.sock: Permission denied; going on without it")
        self.gone(daemon.config, 69, "No such file")

    def test_none(self):
        daemon = self.transocksd('control = ""\n')
        self.assertFalse(RUN.exists())
        self.gone(daemon.config, 69, "control.* is empty")

    def test_own_path(self):
        path = lab.WORK / "ctl" / "t.sock"
        daemon = self.transocksd(f'control = "{path}"\n')
        self.assertEqual(self.json(daemon)["pid"], daemon.pid)
        # It cannot change without a restart.
        daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\nproxy_url = "socks5://10.91.3.2:1"\n')
        daemon.signal(signal.SIGHUP)
        daemon.wait_line(severity="warning", message="a reload cannot change these options, restart "
                         f'for that: control (still "{path}")')
        daemon.wait_log("configuration reloaded")
        self.assertEqual(json.loads(self.ask(b"status\n", path=path))["pid"], daemon.pid)
        self.assertFalse(self.path().exists())

    def test_flags(self):
        for args, code in ((("--json",), 64), (("--status", "word"), 64),
                           (("--status", "-f", "/nonexistent.toml"), 69)):
            done = self.t.host.run(lab.BUILD / "transocksd", *args, check=False)
            self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)

    def test_file_that_cannot_be_read(self):
        """Then the default path is asked, and that is said; a wrong command line stays wrong."""
        for start, program, text in ((self.transocksd, "transocksd", "workers = 'many'\n"),
                                     (self.t.host.usocksd, "usocksd", "nonsense\n")):
            daemon = start()
            file = lab.WORK / "broken.toml"
            file.write_text(text)
            done = self.t.host.run(lab.BUILD / program, "-f", file, "--status", "--json", check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["pid"], daemon.pid)
            self.assertRegex(done.stderr, rf"^{program}: warning: {file}:1: .*\n{program}: warning: asking on the "
                                          rf"default control socket, {self.path(program)}\n$")
            done = self.t.host.run(lab.BUILD / program, "-f", file, "--check", check=False)
            self.assertEqual(done.returncode, 78)

    def test_requests(self):
        daemon = self.transocksd()
        for request in (b"status\n", b"status text\n"):
            for end in (True, False):
                self.assertIn("transocksd", self.ask(request, end))
        with self.connect() as sock:
            for byte in b"status\n":
                sock.sendall(bytes([byte]))
                time.sleep(0.02)
            self.assertTrue(sock.recv(65536).startswith(b'{"program":"transocksd"'))
        for junk in (b"nonsense\n", b"status", b"\0\0\0\0\n", b"status\nstatus\n", b"\n",
                     b"GET / HTTP/1.0\r\n\r\n", b"x" * 256, b"x" * 300, b"x" * 60000,
                     os.urandom(200) + b"\n"):
            with self.subTest(junk=junk[:20]):
                answer = json.loads(self.ask(junk))
                self.assertEqual(list(answer), ["error"])
        self.assertEqual(self.ask(b""), "")
        self.assertEqual(self.json(daemon)["pid"], daemon.pid)

    def test_clients_that_say_nothing(self):
        """20 of them hold the 21st back for as long as they may last, and the flows not at all."""
        daemon = self.transocksd()
        fds = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        silent = [self.connect() for _ in range(20)]
        lab.wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) == fds + 8)
        silent[8].sendall(b"stat")
        self.t.host.expect_reset("127.0.0.1", 1081)  # the daemon does its work meanwhile
        self.assertEqual(self.json(daemon)["pid"], daemon.pid)
        for sock in silent:
            self.assertEqual(sock.recv(1), b"")
        lab.wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) == fds)

    def test_many_workers(self):
        daemon = self.transocksd("workers = 256\n", nofile=20000)
        self.assertEqual(len(self.json(daemon)["workers"]), 256)
        self.assertRegex(self.status(daemon).stdout, r"(?m)^ +255 ")

    def test_while_draining(self):
        daemon = self.transocksd()
        self.t.host.rules("install")
        self.t.inet.peer("echo", "::", 7)
        with self.t.host.connect("11.0.0.1", 7) as sock:
            sock.sendall(b"x")
            self.assertEqual(sock.recv(1), b"x")
            daemon.signal(signal.SIGTERM)
            daemon.wait_log("draining")
            now = self.json(daemon)
            self.assertEqual((now["draining"], now["listeners"], now["flows"]), (True, [], 1))
            self.assertIn(", draining\n", self.status(daemon).stdout)
            silent = self.connect()  # is no reason to stay
        self.assertEqual(daemon.wait(2), 0)
        self.assertEqual(silent.recv(1), b"")
        self.assertFalse(self.path().exists())


if __name__ == "__main__":
    lab.main()
