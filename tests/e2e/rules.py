# SPDX-License-Identifier: MIT
"""What the tests of transocks-rules share: how its answers look, whatever they say."""
import json

import lab


class RulesCase(lab.TestCase):
    def json(self, host, *args, code=0):
        """Runs it with --json, expects that exit code and one object in the usual form; returns it."""
        done = host.rules(*args, "--json", check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("\n"), 1)
        result = json.loads(done.stdout)
        verb = args[1:2] if args[0] == "bypass" and args[1:2] in (("add",), ("del",), ("list",)) else ()
        self.assertEqual(result["command"], " ".join((args[0], *verb)))
        self.assertEqual(result["exit"], code)
        self.assertEqual("error" in result, code != 0)
        if code != 0:
            self.assertIn(result["error"], done.stderr)
        return result

    def refused(self, host, *args, code=1):
        """Runs it, expects that exit code and, but for warnings, one line on standard error; returns the line."""
        done = host.rules(*args, check=False)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        lines = [x for x in done.stderr.splitlines(True) if not x.startswith("transocks-rules: warning: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0]
