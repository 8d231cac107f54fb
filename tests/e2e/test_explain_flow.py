# SPDX-License-Identifier: MIT
"""transocksd --explain: what the configuration would do with a flow, without a daemon."""
import json

import lab

CONFIG = """\
[sniff]
ports = [80, 443]

[[upstream]]
name = "tokyo-1"
url = "socks5://me:secret@10.20.30.40:1080"
group = "tokyo"
address = "auto"

[[upstream]]
name = "tokyo-2"
url = "http://10.20.30.41:3128"
group = "tokyo"
address = "ip"

[[upstream]]
url = "socks4a://you@proxy.example:1080"

[[upstream]]
name = "second"
url = "socks5://10.20.30.42:1080"

[[upstream]]
name = "turn-1"
url = "socks5://10.20.30.43:1080"
group = "turns"

[[upstream]]
name = "out"
url = "direct://"
group = "turns"

[group.default]
choose = "failover"
when_all_down = "direct"

[group.turns]
choose = "round-robin"

[[rule]]
name = "trial"
domains = [".example.com"]
action = "refuse"
observe = true

[[rule]]
domains = ["www.example.com"]
clients = ["10.0.0.0/8"]
group = "tokyo"

[[rule]]
name = "inside"
networks = ["11.0.0.0/8"]
action = "direct"

[[rule]]
name = "blocked"
domains_file = "WORK/blocked.txt"
ports = [443]
action = "refuse"

[[rule]]
name = "turning"
networks_file = "WORK/turning.txt"
group = "turns"

[[rule]]
name = "named"
domains = ["named.example"]
action = "direct"

[redirect]
bypass = ["198.18.9.0/24"]
redirect_anyway = ["198.18.0.0/15"]
ports = ["1-1023"]
"""

DEFAULT = """\
group      default (failover)
upstreams  1. socks4a://proxy.example:1080 is told {0}
           2. second socks5://10.20.30.42:1080 is told {0}
all down   direct
"""

# question, answer
CASES = (
    ("client=10.0.0.5 dest=12.0.0.2:443 name=www.example.com", """\
verdict    proxy
rule       {file}:46
observed   trial ({file}:40) would refuse
group      tokyo (hash-client)
upstreams  1. tokyo-1 socks5://10.20.30.40:1080 is told www.example.com:443
           2. tokyo-2 http://10.20.30.41:3128 is told 12.0.0.2:443
all down   refuse
"""),
    # Another client, another order; the words in another order, and the name in another spelling.
    ("name=WWW.Example.COM.  dest=[2a00:1::1]:80   client=10.0.0.3", """\
verdict    proxy
rule       {file}:46
observed   trial ({file}:40) would refuse
group      tokyo (hash-client)
upstreams  1. tokyo-2 http://10.20.30.41:3128 is told [2a00:1::1]:80
           2. tokyo-1 socks5://10.20.30.40:1080 is told www.example.com:80
all down   refuse
"""),
    ("client=192.0.2.9 dest=12.0.0.2:80 name=www.example.com", """\
verdict    proxy
rule       no rule matched
observed   trial ({file}:40) would refuse
""" + DEFAULT.format("www.example.com:80")),
    ("client=::1 dest=11.0.0.1:443 name=else.example", """\
verdict    direct
rule       inside ({file}:51)
to         11.0.0.1:443
"""),
    ("client=::1 dest=11.0.0.1:22", """\
verdict    direct
rule       inside ({file}:51)
name       not known: none is looked for on port 22 (sniff.ports)
to         11.0.0.1:22
"""),
    ("client=10.0.0.5 dest=12.0.0.1:22 name=www.example.com", """\
verdict    proxy
rule       no rule matched
name       not known: none is looked for on port 22 (sniff.ports); the one that you gave is not used
""" + DEFAULT.format("12.0.0.1:22")),
    ("client=10.0.0.5 dest=12.0.0.1:443 name=a.bad.example", """\
verdict    refuse
rule       blocked ({file}:56)
"""),
    # A refusal also takes what has no name where one is expected.
    ("client=10.0.0.5 dest=12.0.0.1:443", """\
verdict    refuse
rule       blocked ({file}:56)
observed   trial ({file}:40) would refuse
name       not known, though expected on this port; with one, another rule could decide
"""),
    ("client=10.0.0.5 dest=12.0.0.1:80", """\
verdict    proxy
rule       no rule matched
observed   trial ({file}:40) would refuse
name       not known, though expected on this port; with one, another rule could decide
""" + DEFAULT.format("12.0.0.1:80")),
    ("client=10.0.0.5 dest=10.1.2.3:22", """\
verdict    proxy
rule       no rule matched
name       not known: none is looked for on port 22 (sniff.ports)
but        transocks-rules does not redirect this flow: its destination is special-purpose (private)
""" + DEFAULT.format("10.1.2.3:22")),
    ("client=10.0.0.5 dest=[2001:db8::1]:80 name=else.example", """\
verdict    proxy
rule       no rule matched
but        transocks-rules does not redirect this flow: its destination is special-purpose (documentation)
""" + DEFAULT.format("else.example:80")),
    ("client=10.0.0.5 dest=198.18.0.1:80 name=else.example", """\
verdict    proxy
rule       no rule matched
""" + DEFAULT.format("else.example:80")),
    ("client=10.0.0.5 dest=198.18.9.1:80 name=else.example", """\
verdict    proxy
rule       no rule matched
but        transocks-rules does not redirect this flow: its destination is in "redirect.bypass"
""" + DEFAULT.format("else.example:80")),
    ("client=10.0.0.5 dest=12.0.0.1:9999", """\
verdict    proxy
rule       no rule matched
name       not known: none is looked for on port 9999 (sniff.ports)
but        transocks-rules does not redirect this flow: its port is none of "redirect.ports"
""" + DEFAULT.format("12.0.0.1:9999")),
    ("client=10.0.0.5 dest=13.0.0.1:22", """\
verdict    proxy
rule       turning ({file}:62)
name       not known: none is looked for on port 22 (sniff.ports)
group      turns (round-robin: this is one turn of many)
upstreams  1. turn-1 socks5://10.20.30.43:1080 is told 13.0.0.1:22
           2. out direct:// to 13.0.0.1:22
all down   refuse
"""),
    ("client=10.0.0.5 dest=12.0.0.1:80 name=named.example", """\
verdict    direct
rule       named ({file}:67)
to         the addresses of named.example, port 80
"""),
)

# question, what the error says
MALFORMED = (
    ("", "client= is missing"),
    ("client=10.0.0.5", "dest= is missing"),
    ("dest=192.0.2.1:443", "client= is missing"),
    ("client=10.0.0.5 dest=192.0.2.1", r'dest="192\.0\.2\.1" is not ADDRESS:PORT'),
    ("client=10.0.0.5 dest=192.0.2.1:0", "is not ADDRESS:PORT"),
    ("client=10.0.0.5 dest=2001:db8::1:443", "is not ADDRESS:PORT"),
    ("client=10.0.0.5 dest=www.example.com:443", "is not ADDRESS:PORT"),
    ("client=10.0.0.5:1 dest=192.0.2.1:443", r'client="10\.0\.0\.5:1" is not an IP address'),
    ("client= dest=192.0.2.1:443", 'client="" is not an IP address'),
    ("client=" + "1" * 300 + " dest=192.0.2.1:443", "is not an IP address"),
    ("client=10.0.0.5 client=10.0.0.6 dest=192.0.2.1:443", "client= is there twice"),
    ("clint=10.0.0.5 dest=192.0.2.1:443", "did you mean client="),
    ("client=10.0.0.5 dest=192.0.2.1:443 www.example.com", '"www.example.com" is none of'),
    ("client=10.0.0.5 dest=192.0.2.1:443 port=443", '"port=443" is none of'),
    ("client=10.0.0.5 dest=192.0.2.1:443 name=192.0.2.1", 'name="192.0.2.1" is not a domain name: to a'),
    ("client=10.0.0.5 dest=192.0.2.1:443 name=b\xfccher.example", r'on the wire, in the form "xn--\.\.\."'),
    ("client=10.0.0.5 dest=192.0.2.1:443 name=", 'name="" is not a domain name'),
    ("client=10.0.0.5 dest=192.0.2.1:443 name=a\x1b[31m", r'name="a\\u001b\[31m" is not a domain name'),
)


class ExplainFlow(lab.TestCase):
    def setUp(self):
        self.t = self.build("host")
        self.file = lab.WORK / "explain.toml"
        self.file.write_text(CONFIG.replace("WORK", str(lab.WORK)))
        (lab.WORK / "blocked.txt").write_text("\ufeff# bad ones\r\n.bad.example\r\n", "utf-8")
        (lab.WORK / "turning.txt").write_text("13.0.0.0/8\n")

    def ask(self, *args, program="transocksd"):
        done = self.t.host.run(lab.BUILD / program, *args, check=False,
                               env={"ASAN_OPTIONS": "detect_leaks=1"})
        return done.returncode, done.stdout, done.stderr

    def explain(self, question, *flags):
        code, out, err = self.ask("-f", self.file, "--explain", question, *flags)
        self.assertEqual((code, err), (0, ""))
        self.assertNotIn("secret", out)
        return out

    def test_answers(self):
        for question, answer in CASES:
            with self.subTest(question=question):
                self.assertEqual(self.explain(question), answer.replace("{file}", str(self.file)))

    def test_json(self):
        """The same, for programs: every line of the text is there."""
        for question, answer in CASES:
            with self.subTest(question=question):
                told = json.loads(self.explain(question, "--json"))
                lines = answer.replace("{file}", str(self.file)).splitlines()
                self.assertEqual(f"verdict    {told['verdict']}", lines[0])
                said = [line for line in lines if line.startswith("but ")]
                self.assertEqual([line.split(": ", 1)[1] for line in said],
                                 [told["not_redirected"]] if "not_redirected" in told else [])
                rule = told.get("rule")
                if rule is not None:
                    self.assertIn(f"{rule['file']}:{rule['line']}", lines[1])
                else:
                    self.assertIn("no rule matched", lines[1])
                self.assertEqual([r["name"] for r in told["observed"]],
                                 [line.split()[1] for line in lines if line.startswith("observed")])
                for number, upstream in enumerate(told.get("upstreams", []), 1):
                    line = next(x for x in lines if f" {number}. " in x)
                    self.assertIn(upstream["name"], line)
                    self.assertIn(upstream["url"], line)
                    self.assertTrue(line.endswith(f" {upstream['dest']}"), line)
                if told["verdict"] == "direct":
                    self.assertEqual(lines[-1], f"to         {told['dest']}")

    def test_many_upstreams(self):
        """A flow tries 32 of them at most, each client its own."""
        self.file.write_text("".join(f'[[upstream]]\nname = "u{i}"\nurl = "socks5://10.1.1.{i}:1080"\n'
                                     for i in range(1, 41)))
        seen = set()
        for client in range(1, 40):
            told = json.loads(self.explain(f"client=10.0.0.{client} dest=192.0.2.1:443", "--json"))
            self.assertEqual(len({u["name"] for u in told["upstreams"]}), 32)
            seen.add(told["upstreams"][0]["name"])
        self.assertGreater(len(seen), 10)

    def test_malformed_questions(self):
        for question, says in MALFORMED:
            with self.subTest(question=question):
                code, out, err = self.ask("-f", self.file, "--explain", question)
                self.assertEqual((code, out), (64, ""))
                self.assertRegex(err, says)
                self.assertRegex(err, r"^transocksd: --explain: [^\n]*\n$")

    def test_errors(self):
        question = "client=10.0.0.5 dest=192.0.2.1:443"
        self.assertEqual(self.ask("--explain")[0], 64)
        self.assertEqual(self.ask("--explain", question, program="usocksd")[0], 64)
        code, out, err = self.ask("-f", "/nonexistent.toml", "--explain", question)
        self.assertEqual((code, out), (78, ""))
        self.assertIn("/nonexistent.toml", err)
        (lab.WORK / "blocked.txt").write_text("good.example\n*.bad.example\n")
        code, out, err = self.ask("-f", self.file, "--explain", question)
        self.assertEqual((code, out), (78, ""))
        self.assertRegex(err, r'blocked\.txt:2: "\*\.bad\.example"')


if __name__ == "__main__":
    lab.main()
