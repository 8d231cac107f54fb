# SPDX-License-Identifier: MIT
"""The case that the tests of the iptables backend share: a host with one variant of iptables."""
import contextlib
import os
import re

import lab

RULES = lab.BUILD / "transocks-rules"
# The owner match takes no uid that the user namespace does not map.
UID = "0" if lab.ONE_UID else "transocks"
PROGRAMS = ("iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore")


class IptablesCase(lab.TestCase):
    variant = None

    def setUp(self):
        multi = f"/usr/sbin/xtables-{self.variant}-multi"
        if not os.path.exists(multi):
            self.skipTest(f"{multi} is not installed")
        self.path = self.programs("all", PROGRAMS)

    def programs(self, name, programs, scripts=()):
        """A directory with these programs of the variant under their plain names."""
        path = lab.WORK / f"{self.variant}-{name}"
        path.mkdir(exist_ok=True)
        for program in programs:
            with contextlib.suppress(FileExistsError):
                (path / program).symlink_to(f"/usr/sbin/xtables-{self.variant}-multi")
        for program, text in scripts:
            (path / program).write_text(f"#!/bin/sh\n{text}\n")
            (path / program).chmod(0o755)
        return path

    def argv(self, args, backend="iptables"):
        if args[0] in ("install", "status", "diff"):
            args += ("--backend", backend) if backend else ()
            args += () if "--uid" in args else ("--uid", UID)
        return [RULES, *args]

    def rules(self, host, *args, path=None, code=0, backend="iptables"):
        done = host.run(*self.argv(args, backend), env={"PATH": str(path or self.path)}, check=False)
        if code is not None:
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def tables(self, host, program, *args, stdin="", check=True):
        return host.run(self.path / program, *args, stdin=stdin, check=check)

    def saved(self, host, *programs):
        """What is there, without remarks and counters."""
        text = ""
        for program in programs or ("iptables-save", "ip6tables-save"):
            lines = self.tables(host, program).stdout.splitlines(True)
            text += "".join(x for x in lines if not x.startswith("#"))
        return re.sub(r" \[\d+:\d+\]$", "", text, flags=re.M)

    def forgetful(self, text):
        """The same without earlier ports."""
        return re.sub(r"^(:|-A )TRANSOCKS_KEEP .*\n", "", text, flags=re.M)
