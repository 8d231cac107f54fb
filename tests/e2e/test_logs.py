# SPDX-License-Identifier: MIT
"""The access record in each format, and the levels."""
import json
import re
import shlex

import lab

HEAD = {"topic": "transocksd", "severity": "info", "message": "flow ended"}
FIELDS = {"type": "access", "client_addr": r"10\.91\.0\.2:\d+", "dest_addr": r"11\.0\.0\.1:80",
          "upstream": r"socks5://10\.91\.3\.2:1080", "bytes_up": r"\d+", "bytes_down": r"\d+",
          "elapsed": r"\d+\.\d{3}", "end": "done"}
TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def pairs(text):
    """key=value or key="value" words, as a dictionary."""
    return dict(word.split("=", 1) for word in shlex.split(text) if "=" in word)


class Logs(lab.TestCase):
    def flow(self, form):
        """The log of transocksd after one flow."""
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        daemon = t.host.transocksd('proxy_url = "socks5://10.91.3.2:1080"\n', "-logformat", form)
        t.host.rules("install")
        t.page = t.host.curl("http://11.0.0.1/").stdout
        daemon.wait_log("flow ended")
        return t, next(line for line in daemon.log().splitlines() if "flow ended" in line)

    def check(self, t, record):
        for name, pattern in FIELDS.items():
            self.assertRegex(str(record[name]), f"^{pattern}$", name)
        self.assertGreater(int(record["bytes_up"]), 40)
        self.assertGreater(int(record["bytes_down"]), len(t.page))

    def test_plain(self):
        t, line = self.flow("plain")
        head = re.match(rf'({TIME}) (\S+) transocksd info: "flow ended" (.*)$', line)
        self.assertIsNotNone(head, line)
        self.check(t, pairs(head[3]))

    def test_logfmt(self):
        t, line = self.flow("logfmt")
        record = pairs(line)
        self.assertRegex(record["logged_at"], f"^{TIME}$")
        self.assertEqual(record, {**record, **HEAD})
        self.check(t, record)

    def test_json(self):
        t, line = self.flow("json")
        record = json.loads(line, parse_float=str)
        self.assertRegex(record["logged_at"], f"^{TIME}$")
        self.assertEqual(record, {**record, **HEAD})
        self.assertEqual(list(record)[:5], ["topic", "logged_at", "severity", "utsname", "message"])
        self.check(t, record)
        self.assertIsInstance(record["bytes_up"], int)

    def test_levels(self):
        for level, ended, failed in (("info", 1, 1), ("warning", 0, 1), ("error", 0, 0)):
            with self.subTest(level=level):
                t = self.build("host")
                t.inet.peer("http", "::", 80)
                daemon = t.host.transocksd('proxy_url = "direct://"\n', "-loglevel", level)
                t.host.rules("install")
                t.host.curl("http://11.0.0.1/")
                t.host.expect_reset("11.0.0.1", 81)
                daemon.signal(lab.signal.SIGTERM)
                self.assertEqual(daemon.wait(5), 0)
                self.assertEqual(len(daemon.lines(message="flow ended")), ended)
                self.assertEqual(len(daemon.lines(message="flow failed")), failed)

    def test_names_from_outside_are_escaped(self):
        t = self.build("host")
        for form in ("plain", "logfmt", "json"):
            daemon = t.host.usocksd("", "-logformat", form)
            with t.host.connect("127.0.0.1", 1080) as sock:
                name = b'x"\r\n\x1b[31m\xff fake'
                sock.sendall(b"\x05\x01\x00" b"\x05\x01\x00\x03" + bytes([len(name)]) + name +
                             b"\0\x50")
                while sock.recv(100):
                    pass
            daemon.wait_log("flow failed")
            daemon.kill()
            raw = daemon.path.read_bytes()
            self.assertIn(b"\\u001b[31m\\u00ff fake", raw)
            self.assertNotIn(b"\x1b", raw)
            self.assertNotIn(b"\r", raw)
            self.assertEqual(sum(b"flow failed" in line for line in raw.splitlines()), 1)
            self.assertFalse(any(line.lstrip().startswith(b"[31m") for line in raw.splitlines()))


if __name__ == "__main__":
    lab.main()
