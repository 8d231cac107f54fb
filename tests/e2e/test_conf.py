# SPDX-License-Identifier: MIT
"""Files that the configuration names: who may read them, at start and at a reload, and that no secret gets out."""
import os
import signal

import flow
import lab

SECRET = "hunter:2#%40"
UPSTREAM = '[[upstream]]\nname = "proxy"\nurl = "socks5://10.91.3.2:1080"\nauth_file = "{}"\n'


class Files(lab.TestCase):
    def named(self, name, text, mode=0o640):
        """A file that the daemon's user may read, if its mode says so."""
        path = lab.WORK / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)
        if not lab.ONE_UID:
            os.chown(path, 0, lab.DAEMON_UID)
        return path

    def program(self, t, path, *args):
        return t.host.run(lab.BUILD / "transocksd", "-f", path, *args, check=False)

    def page(self, t, check=True):
        return t.host.curl("http://11.0.0.1/", check=check).returncode

    @lab.needs_program("microsocks")
    def test_credentials(self):
        """They reach the upstream, are read again at a reload, and nothing that is printed has them."""
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.proxy.spawn("microsocks", "-i", "10.91.3.2", "-p", "1080", "-u", "me", "-P", SECRET)
        t.proxy.wait_port(1080)
        auth = self.named("auth", f"me:{SECRET}\n")
        daemon = t.host.transocksd(UPSTREAM.format(auth), "-loglevel", "debug")
        t.host.rules("install")
        self.page(t)
        said = daemon.wait_records(1)[0]
        self.assertEqual(said["end"], "done")

        self.named("auth", f"me:{SECRET}x\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("configuration reloaded")
        self.assertNotEqual(self.page(t, check=False), 0)
        self.assertNotEqual(daemon.wait_records(2)[1]["end"], "done")

        self.named("auth", f"me:{SECRET}\n", 0o644)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("the old configuration stays: .*auth: .*open to everybody.*chmod o-rwx")
        self.named("auth", f"me:{SECRET}\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_line(2, message="configuration reloaded")
        self.page(t)
        shown = self.program(t, daemon.config, "--dump-config").stdout
        self.assertIn(f'auth_file = "{auth}"', shown)
        for text in (shown, daemon.log(), str(flow.status(t.host, daemon))):
            self.assertNotIn("hunter", text)

    def test_refused_at_start(self):
        """Each with the file, what is wrong, and exit code 78; nothing of the file itself."""
        t = self.build("host")
        auth, conf = lab.WORK / "auth", lab.WORK / "refused.toml"
        conf.write_text(UPSTREAM.format(auth))
        for text, mode, what in ((f"me:{SECRET}\n", 0o644, f"auth: .*chmod o-rwx {auth}"),
                                 ("hunter\n", 0o600, "auth:1: .*user:password"),
                                 ("hunter:2\nhunter:3\n", 0o600, "auth:2: .*one line")):
            self.named("auth", text, mode)
            for flag in ("--check", "--dump-config"):
                done = self.program(t, conf, flag)
                self.assertEqual(done.returncode, 78)
                self.assertRegex(done.stderr, what)
                self.assertNotIn("hunter", done.stderr + done.stdout)

    def test_lists(self):
        t = self.build("host")
        conf = lab.WORK / "lists.toml"
        domains = self.named("domains", "a.test\n.b.test # ours\n\n*.c.test\n")
        conf.write_text(f'proxy_url = "direct://"\n[[rule]]\ndomains_file = "{domains}"\nunknown_name = "skip"\n'
                        'action = "refuse"\n')
        done = self.program(t, conf, "--check")
        self.assertEqual(done.returncode, 78)
        self.assertIn(f"{domains}:4: ", done.stderr)
        self.named("domains", "a.test\n.b.test # ours\n")
        done = self.program(t, conf, "--check")
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (0, "configuration OK"))
        self.assertNotIn(str(conf), done.stdout)

    @lab.needs_uids
    def test_what_a_reload_cannot_read(self):
        t = self.build("host")
        auth = self.named("auth", f"me:{SECRET}\n", 0o600)
        conf = lab.WORK / "closed.toml"
        conf.write_text(UPSTREAM.format(auth))
        done = self.program(t, conf, "--check")
        said = f'note: user "transocks" may not read {auth}, so SIGHUP cannot either; give it the group'
        self.assertEqual((done.returncode, done.stdout.startswith(said)), (0, True), done.stdout)
        conf.write_text('user = "nobody-here"\n' + UPSTREAM.format(auth))
        done = self.program(t, conf, "--check")
        self.assertEqual(done.returncode, 0)
        self.assertIn('configuration OK, but transocksd will not start on this host: user "nobody-here" does not exist; '
                      'create it with `useradd ', done.stdout.splitlines()[-1])
        daemon = t.host.transocksd(UPSTREAM.format(auth))
        daemon.wait_log(f"may not read {auth}, so SIGHUP cannot either; give it the group: chgrp transocks")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("reload failed, the old configuration stays: .*auth: cannot open: Permission denied")


if __name__ == "__main__":
    lab.main()
