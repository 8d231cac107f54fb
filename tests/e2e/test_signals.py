# SPDX-License-Identifier: MIT
"""Both daemons: privileges, drain, reload."""
import os
import pathlib
import re
import signal
import time

import lab

CAP_NET_RAW = 1 << 13


def talk(sock, text=b"ping"):
    sock.sendall(text)
    return sock.recv(100) == text


class Signals(lab.TestCase):
    """A flow through transocksd to an echo server, direct or by a usocksd on `proxy`."""

    def start(self, config='proxy_url = "direct://"\n'):
        t = self.build("host")
        t.inet.peer("echo", "::", 7)
        t.daemon = t.host.transocksd(config)
        t.host.rules("install")
        t.live = self.open(t)
        return t

    def open(self, t):
        sock = t.host.connect("11.0.0.1", 7)
        self.addCleanup(sock.close)
        self.assertTrue(talk(sock))
        return sock

    def refused(self, t):
        with self.assertRaises(ConnectionRefusedError):
            t.host.connect("11.0.0.1", 7).close()

    def drain(self, t, number=signal.SIGTERM):
        t.daemon.signal(number)
        t.daemon.wait_log("draining")
        lab.wait_until(lambda: not t.host.listening(1081), 5, "still listening")

    def test_term_drains(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                t = self.start()
                self.drain(t, number)
                self.refused(t)
                self.assertTrue(talk(t.live))
                t.live.shutdown(lab.socket.SHUT_WR)
                self.assertEqual(t.live.recv(1), b"")
                self.assertEqual(t.daemon.wait(5), 0)
                self.assertEqual([r["end"] for r in t.daemon.wait_records(1)], ["done"])

    def test_term_without_flows_exits(self):
        t = self.start()
        t.live.close()
        t.daemon.wait_records(1)
        t.daemon.signal(signal.SIGTERM)
        self.assertEqual(t.daemon.wait(5), 0)

    def cut(self, t):
        with self.assertRaises(ConnectionResetError):
            t.live.recv(1)
        self.assertEqual(t.daemon.wait(5), 0)
        self.assertEqual([r["end"] for r in t.daemon.wait_records(1)], ["cut"])

    def test_second_term_exits_now(self):
        t = self.start()
        self.drain(t)
        t.daemon.signal(signal.SIGTERM)
        self.cut(t)

    def test_quit_exits_now(self):
        t = self.start()
        t.daemon.signal(signal.SIGQUIT)
        self.cut(t)

    def test_drain_has_an_end(self):
        t = self.start('proxy_url = "direct://"\n[timeouts]\ndrain = "500ms"\n')
        self.drain(t)
        self.cut(t)

    def rewrite(self, t, text):
        t.daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\n{text}')
        t.daemon.signal(signal.SIGHUP)

    def test_reload_of_a_bad_file_changes_nothing(self):
        for text, line in (('proxy_url = "socks5://10.91.3.2:1080"\nnonsense = 1\n', 3),
                           ('proxy_url = \n', 2),
                           ('proxy_url = "direct://"\n[timeouts]\nconnect = "never"\n', 4)):
            with self.subTest(text=text):
                t = self.start()
                self.rewrite(t, text)
                t.daemon.wait_log(rf"reload failed.*{re.escape(str(t.daemon.config))}:{line}\b")
                self.assertTrue(talk(t.live))
                self.open(t)
                self.assertTrue(t.daemon.alive())

    def test_reload_of_a_file_that_is_gone(self):
        t = self.start()
        t.daemon.config.unlink()
        t.daemon.signal(signal.SIGHUP)
        t.daemon.wait_log("reload failed")
        self.open(t)

    def test_reload_takes_new_flows_elsewhere(self):
        t = self.start()
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        echo = t.inet.procs[0]
        self.rewrite(t, 'proxy_url = "socks5://10.91.3.2:1080"\n')
        t.daemon.wait_log("configuration reloaded")
        second = self.open(t)
        echo.wait_log("^echo 10.91.3.2$")
        self.assertTrue(talk(t.live), "the old flow goes on")
        for sock in (t.live, second):
            sock.close()
        upstreams = [r["upstream"] for r in t.daemon.wait_records(2)]
        self.assertEqual(sorted(upstreams), ["direct", "socks5://10.91.3.2:1080"])

    def test_reload_says_what_there_is(self):
        t = self.start()
        lists = t.daemon.config.with_suffix(".list")
        lists.write_text("a.example\n.b.example # and below\n\nc.example\n")
        lists.chmod(0o644)
        self.rewrite(t, 'proxy_url = "direct://"\n[[rule]]\naction = "refuse"\n'
                        f'domains_file = "{lists}"\nports = [81]\n'
                        '[[rule]]\naction = "direct"\nnetworks = ["192.0.2.0/24", "2001:db8::/32"]\n')
        said = t.daemon.wait_line(message="configuration reloaded")
        self.assertEqual([said[x] for x in ("files", "upstreams", "rules", "domains", "networks")],
                         [2, 1, 2, 3, 2])

    def test_reload_names_what_needs_a_restart(self):
        """The options that differ, as that program calls them, with the value in force; no others."""
        t = self.build("host")
        old = 'control = ""\nworkers = 2\n'
        said = "a reload cannot change these options, restart for that: "
        daemons = (
            (t.host.transocksd(old + 'proxy_url = "direct://"\n'),
             'listen = "127.0.0.1:1082"\nproxy_url = "direct://"\n' + old,
             'listen (still ["127.0.0.1:1081", "[::1]:1081"])'),
            (t.host.usocksd(old), 'control = ""\nworkers = 1\n[incoming]\nport = 1082\naddresses = ["127.0.0.1"]\n',
             "workers (still 2), incoming.port (still 1080), incoming.addresses (still [])"),
        )
        for daemon, text, named in daemons:
            daemon.signal(signal.SIGHUP)
            daemon.wait_line(message="configuration reloaded")
            self.assertEqual(daemon.lines(severity="warning"), [])
            daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\n{text}')
            daemon.signal(signal.SIGHUP)
            daemon.wait_line(severity="warning", message=said + named)

    def test_many_reloads_under_load(self):
        t = self.start()
        t.inet.peer("transfer", "::", 7000)
        load = t.host.spawn(lab.PYTHON, lab.PEERS, "load", "11.0.0.1", 7000, 60, 9)
        for number in range(20):
            t.daemon.signal(signal.SIGHUP)
            t.daemon.wait_line(number + 1, message="configuration reloaded")
        self.assertEqual(load.wait(40), 0, load.log())
        self.assertTrue(talk(t.live))

    def test_reload_of_keepalive_reaches_both_legs(self):
        t = self.build("host")
        text = 'proxy_url = "direct://"\n[timeouts]\nkeepalive = "%s"\n'
        daemon = t.host.transocksd(text % "60s")
        t.host.rules("install")
        t.inet.peer("echo", "::", 7)
        daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\n' + text % "7200s")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("configuration reloaded")

        with t.host.connect("11.0.0.1", 7) as sock:
            sock.sendall(b"x")
            self.assertEqual(sock.recv(10), b"x")

            def timers():
                return t.host.run("ss", "-tnoH", "state", "established").stdout

            # Which needs some seconds: a younger flow is not watched over yet.
            lab.wait_until(lambda: len(re.findall(r"keepalive,(?:119min|120min|2h)", timers())) == 2, message=timers)

    def test_usr1_opens_the_log_again(self):
        t = self.build("host")
        logs = lab.WORK / "logs"
        logs.mkdir(exist_ok=True)
        logs.chmod(0o777)
        path = logs / "transocksd.log"
        path.unlink(missing_ok=True)
        daemon = t.host.transocksd('proxy_url = "direct://"\n', "-logfile", path)
        path.rename(logs / "old.log")
        daemon.signal(signal.SIGUSR1)
        lab.wait_until(path.exists)
        t.host.expect_reset("127.0.0.1", 1081)
        lab.wait_until(lambda: "not-redirected" in path.read_text())


    def test_usr1_that_fails(self):
        """It names the file, and the log goes on where it was."""
        t = self.build("host")
        logs = lab.WORK / "blocked"
        logs.mkdir(exist_ok=True)
        path, old = logs / "transocksd.log", logs / "old.log"
        daemon = t.host.transocksd('proxy_url = "direct://"\n', "-logfile", path)
        path.rename(old)
        path.mkdir()
        daemon.signal(signal.SIGUSR1)
        lab.wait_until(lambda: f"{path}: cannot open the log file: Is a directory; the log goes on in the "
                       "file that was open before" in old.read_text())

    def test_end_with_a_log_that_nobody_reads(self):
        """A stalled reader of the log costs the rest of the log, not the end of the program."""
        t = self.build("host")
        fifo = lab.WORK / "log.fifo"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        os.chmod(fifo, 0o666)
        reader = os.open(fifo, os.O_RDWR)  # its end, never read
        self.addCleanup(os.close, reader)
        daemon = t.host.transocksd('workers = 1\nproxy_url = "direct://"\n', "-logfile", fifo)
        for _ in range(500):
            t.host.expect_reset("127.0.0.1", 1081)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(10), 0)


class Privileges(lab.TestCase):
    def status(self, proc):
        text = pathlib.Path(f"/proc/{proc.pid}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    @lab.needs_uids
    def test_user_and_capabilities_after_start(self):
        t = self.build("host")
        for proc in (t.host.transocksd('proxy_url = "direct://"\n'), t.host.usocksd()):
            proc.wait_line(message="ready")  # it listens before it has become that user
            status = self.status(proc)
            self.assertEqual(status["Uid"].split(), [str(lab.DAEMON_UID)] * 4)
            self.assertEqual(status["Gid"].split(), [str(lab.DAEMON_UID)] * 4)
            self.assertEqual(status["Groups"].split(), [])
            for name in ("CapEff", "CapPrm"):
                self.assertEqual(int(status[name], 16), CAP_NET_RAW, name)
            self.assertEqual(int(status["CapInh"], 16) | int(status["CapAmb"], 16), 0)
            self.assertEqual(int(status["CapBnd"], 16) & ~CAP_NET_RAW, 0)

    @lab.needs_uids
    def test_started_as_that_user(self):
        """Without privileges it runs, and says once that it cannot set its mark."""
        t = self.build("host")
        proc = t.host.transocksd('proxy_url = "direct://"\n', user="transocks")
        proc.wait_log("cannot set mark")
        self.assertEqual(proc.log().count("cannot set mark"), 1)

    @lab.needs_uids
    def test_reload_as_that_user(self):
        """A log that only root could make is no obstacle to a reload; a file it cannot read is named at start."""
        t = self.build("host")
        logs = lab.WORK / "rootlogs"
        logs.mkdir(exist_ok=True)
        log = logs / "transocksd.log"
        log.unlink(missing_ok=True)
        daemon = t.host.transocksd('proxy_url = "direct://"\n', "-logfile", log)
        daemon.signal(signal.SIGHUP)
        lab.wait_until(lambda: "configuration reloaded" in log.read_text())
        log.rename(logs / "old.log")
        log.write_text("")  # as logrotate's `create` does
        os.chown(log, lab.DAEMON_UID, lab.DAEMON_UID)
        daemon.signal(signal.SIGUSR1)

        def logs_there():
            t.host.expect_reset("127.0.0.1", 1081)
            return "not-redirected" in log.read_text()

        lab.wait_until(logs_there)
        self.assertNotIn("may not read", (logs / "old.log").read_text())

    @lab.needs_uids
    def test_a_link_is_no_log_file_for_root(self):
        """A directory that others write to must not make root write to, or give away, what they name."""
        t = self.build("host")
        secret, link = lab.WORK / "secret", lab.WORK / "link.log"
        secret.write_text("s")
        secret.chmod(0o600)
        link.unlink(missing_ok=True)
        link.symlink_to(secret)
        daemon = t.host.transocksd('proxy_url = "direct://"\n', "-logfile", link, wait=False)
        self.assertEqual(daemon.wait(5), 78)
        self.assertIn("link.log: cannot open the log file", daemon.log())
        other = lab.WORK / "other.log"
        other.unlink(missing_ok=True)
        other.hardlink_to(secret)
        t.host.transocksd('proxy_url = "direct://"\n', "-logfile", other)
        self.assertEqual(secret.stat().st_uid, 0)

    @lab.needs_uids
    def test_file_that_the_user_cannot_read(self):
        t = self.build("host")
        file = lab.WORK / "secret.toml"
        file.write_text('proxy_url = "direct://"\n')
        file.chmod(0o600)
        daemon = t.host.spawn(lab.BUILD / "transocksd", "-f", file)
        daemon.wait_log("may not read .*secret.toml.*chgrp transocks")
        daemon.wait_log("ready")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("reload failed, the old configuration stays: .*secret.toml: cannot open: Permission denied")

    @lab.needs_uids
    def test_user_that_does_not_exist(self):
        t = self.build("host")
        for start, text in ((t.host.transocksd, 'proxy_url = "direct://"\n'), (t.host.usocksd, "")):
            proc = start(f'user = "nosuchuser"\n{text}', wait=False)
            self.assertEqual(proc.wait(5), 77)
            self.assertRegex(proc.log(), "nosuchuser")


if __name__ == "__main__":
    lab.main()
