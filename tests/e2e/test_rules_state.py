# SPDX-License-Identifier: MIT
"""transocks-rules compares what is there with what should be: round trips, status, diff, print, exceptions."""
import ipaddress
import json
import pathlib
import resource

import lab
from rules import RulesCase

RULES = lab.BUILD / "transocks-rules"
DAEMON_UID = int(lab.RULES_UID) if lab.RULES_UID.isdigit() else lab.DAEMON_UID
DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
GATEWAY = ("--gateway", "lo")
EVERYTHING = (
    *GATEWAY, "--bypass", "11.5.0.0/16,11.6.0.0/16,11.5.3.0/24,2a00:1::/32,11.7.0.1", "--redirect-anyway",
    "198.18.0.0/15,10.20.0.0/16", "--ports", "80,443,8000-8999,8990-9010", "--share", 5, "--quic", "reject",
    "--exempt-uids", "1,70,64000", "--exempt-marks", "0x20/0x20,7",
)
TPROXY = ("--mode", "tproxy")
HINT = "installed with other flags, or another -f? status and diff need the same ones"

# Each of these is installed, listed, loaded again, and compared.
CONFIGURATIONS = (
    (), ("--port", 1), ("--port", 65535), ("--uid", 0), ("--uid", 4294967294), ("--mark", "0/0"), ("--mark", 5),
    ("--mark", "0xff000000/0xff000000"), ("--mark", "0x40/0xf0"), ("--priority", -101), ("--priority", 60),
    ("--family", "ipv4"), ("--family", "ipv6"), ("--share", 0), ("--share", 1), ("--share", 99),
    ("--quic", "reject"), ("--ports", "1-65535"), ("--ports", "1,3,5,7,9,11,13,65535"),
    ("--bypass", "0.0.0.0/0,::/0"), ("--bypass", "128.0.0.0/1,8000::/1,::/128,0.0.0.0"),
    ("--bypass", "11.0.0.0/9,11.128.0.0/9,11.3.0.0/16,2a00::/17,2a00:8000::/17"), ("--redirect-anyway", "0.0.0.0/0"),
    ("--redirect-anyway", "10.1.2.0/24,::ffff:0:0/96,fe80::/10"), ("--exempt-marks", "1,2/3,0xffffffff"),
    ("--exempt-uids", "0,1,2,3,4,5,6,65535,100000"), GATEWAY, EVERYTHING, TPROXY, (*TPROXY, *EVERYTHING),
    (*TPROXY, "--tproxy-mark", "0x30/0xf0"), (*TPROXY, "--tproxy-mark", "9", "-m", "0/0"),
    (*TPROXY, "--tproxy-mark", "0x80000000/0x80000000", "--family", "ipv4"),
)
GOLDEN = {"default": (), "everything": EVERYTHING, "tproxy": (*TPROXY, *EVERYTHING)}


class StateCase(RulesCase):
    def table(self, host):
        return host.run("nft", "list", "table", "inet", "transocks").stdout

    def upstreams(self):
        """A configuration file with what no flag can say."""
        path = lab.WORK / "upstreams.toml"
        path.write_text('listen = ":1081"\nproxy_url = "socks5://11.99.0.1:1080"\n')
        return path


class RoundTrip(StateCase):
    def check(self, host, args):
        host.rules("flush")
        host.rules("install", *args, "--force")
        text = self.table(host)
        self.assertEqual(host.rules("print", *args).stdout, text)
        self.assertEqual(host.rules("diff", *args).stdout, "")
        for loaded in (text, host.rules("print", *args).stdout):
            host.run("nft", "flush", "ruleset")
            host.nft(loaded)
            self.assertEqual(self.table(host), text)
            self.assertEqual(host.rules("diff", *args).stdout, "")  # expression by expression

    def test_configurations(self):
        self.assertGreaterEqual(len(CONFIGURATIONS), 20)
        host = self.lonely()
        for args in CONFIGURATIONS:
            with self.subTest(args):
                self.check(host, args)

    def test_upstreams(self):
        host = self.lonely()
        for url in ("socks5://11.99.0.1:1080", "socks5://[2a00:99::1]:65535"):
            path = self.upstreams()
            path.write_text(path.read_text().replace("socks5://11.99.0.1:1080", url))
            for mode in ((), TPROXY):
                with self.subTest((url, mode)):
                    self.check(host, ("-f", path, "--quic", "reject", *mode))
            self.assertIn("upstream", self.table(host))

    def test_many_networks(self):
        """20,000 of each family; how much CPU that takes is printed, and only then."""
        host = self.lonely()
        path = lab.WORK / "many.toml"
        four = [str(ipaddress.ip_network((0x0b000000 + i * 512, 24))) for i in range(20000)]
        six = [str(ipaddress.ip_network((0x2a00 << 112 | i << 81, 48))) for i in range(20000)]
        path.write_text(f'listen = ":1081"\nproxy_url = "direct://"\n[redirect]\nbypass = {json.dumps(four + six)}\n')
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        host.rules("install", "-f", path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"  | 40,000 networks: {after.ru_utime - before.ru_utime:.2f} s user, "
              f"{after.ru_stime - before.ru_stime:.2f} s system")
        self.assertEqual(host.rules("diff", "-f", path).stdout, "")
        for name, networks in (("configured4", four), ("configured6", six)):
            done = host.run("nft", "-j", "list", "set", "inet", "transocks", name)
            elements = next(x["set"]["elem"] for x in json.loads(done.stdout)["nftables"] if "set" in x)
            found = {f"{x['prefix']['addr']}/{x['prefix']['len']}" for x in elements}
            self.assertEqual(found, set(networks))
        host.run("nft", "delete", "element", "inet", "transocks", "configured4", "{ %s }" % four[12345])
        differences = self.json(host, "diff", "-f", path, code=4)["differences"]
        self.assertEqual([(x["kind"], x["element"]) for x in differences], [("missing", four[12345])])


class Print(StateCase):
    """Golden files under tests/data/: what print says must be looked at when it changes."""

    def test_golden(self):
        host = self.lonely()
        for name, args in GOLDEN.items():
            for form in ("nft", "iptables", "json"):
                with self.subTest((name, form)):
                    text = host.rules("print", "-f", self.upstreams(), "--uid", 990, "--format", form, *args).stdout
                    if form == "json":
                        text = json.dumps(json.loads(text), indent=1) + "\n"
                    path = DATA / f"rules-{name}.{form}"
                    self.assertEqual(text, path.read_text())

    def test_kernel_is_not_asked(self):
        host = self.lonely()
        host.rules("install")
        before = host.ruleset()
        done = host.run("unshare", "-U", RULES, "print", "--uid", 0, "--json")
        self.assertIn("skuid 0 ", json.loads(done.stdout)["text"])
        self.assertEqual(host.ruleset(), before)
        self.assertEqual(host.rules("print", "--format", "xml", check=False).returncode, 64)


class Status(StateCase):
    def test_exit_codes(self):
        host = self.lonely()
        for command in ("status", "diff"):
            result = self.json(host, command, code=3)
            self.assertFalse(result["installed"])
            self.assertIn("not installed", result["error"])
        host.rules("install")
        self.assertEqual(self.json(host, "diff")["differences"], [])
        result = self.json(host, "status", code=5)
        self.assertTrue(result["in_sync"])
        self.assertEqual(result["listening"], {"IPv4": False, "IPv6": False})
        for address in ("127.0.0.1", "::1"):
            self.addCleanup(host.listen(address, 1081).close)
        result = self.json(host, "status")
        self.assertEqual(result["listening"], {"IPv4": True, "IPv6": True})
        self.assertEqual((result["flows"], result["exceptions"], result["before_us"]), (0, 0, []))
        self.assertEqual(result["when_daemon_down"], "closed")
        self.assertEqual(self.json(host, "status", "--port", 99, code=4)["in_sync"], False)
        self.assertEqual(host.run("unshare", "-U", RULES, "status", "--uid", 0, check=False).returncode, 77)

    def test_foreign_table_of_our_name(self):
        host = self.lonely()
        host.nft("table inet transocks { chain x { counter; } ; }")
        for args in (("status",), ("diff",), ("bypass", "list"), ("bypass", "add", "11.0.0.0/8")):
            self.assertIn("not ours", self.json(host, *args, code=1)["error"])

    def test_comments_that_steer_a_terminal(self):
        evil, shown = "\x1b]0;x\x07\x1b[2J\x7f\u009b2J\n", r'"\u001b]0;x\u0007\u001b[2J\u007f\u009b2J\n'
        host = self.build("host").host
        host.nft(f'table inet transocks {{ comment "{evil}1"; }}')
        commands = [("status",), ("diff",), ("bypass", "list"), ("flush", "--now")]
        for args in commands:
            self.assertIn(f'(its comment is {shown}1")', host.run(RULES, *args, check=False).stderr)
        host.run("nft", "delete", "table", "inet", "transocks")
        host.rules("install")
        host.nft(f'add rule inet transocks output counter comment "{evil}2"\n'
                 f'add element inet transocks bypass4 {{ 11.7.0.0/16 comment "{evil}3" }}\n'
                 'table inet foreign { chain o { type filter hook output priority -150; '
                 f'ip daddr 11.5.5.5 tcp dport 80 drop comment "{evil}4"; }}; }}')
        texts = [host.run(RULES, *args, check=False) for args in (
            ("status", "--uid", lab.RULES_UID), ("diff", "--uid", lab.RULES_UID), ("bypass", "list"),
            ("test", "11.7.1.1:80"), ("test", "11.5.5.5:80"))]
        for done in texts:
            self.assertNotRegex(done.stdout + done.stderr, "[\x00-\x08\x0b-\x1f\x7f-\x9f]")
        for number, where in ((2, 0), (2, 1), (3, 2), (3, 3), (4, 4)):
            self.assertIn(f'{shown}{number}"', texts[where].stdout)

    def test_drift(self):
        """What somebody does to our table, and what status and diff make of it."""
        host = self.lonely()
        cases = (
            ("add rule inet transocks output counter accept", "rule 11 without comment of chain output: there, but not configured"),
            ("insert rule inet transocks guard limit rate 5/second accept",
             "rule 1 without comment of chain guard: there, but not configured"),
            ("add chain inet transocks more", "chain more: there, but not configured"),
            ("add set inet transocks more { type mark; }", "set more: there, but not configured"),
            ("add map inet transocks more { type mark : verdict; }", "set more: there, but not configured"),
            ("add element inet transocks special4 { 12.0.0.0/8 }", "element 12.0.0.0/8 of set special4: there, but not configured"),
            ("add element inet transocks special4 { 11.0.0.0/8 }",
             "element 10.0.0.0/8 of set special4: range is 10.0.0.0/7, configured: 10.0.0.0/8"),
            ("delete element inet transocks special4 { 127.0.0.0/8 }", "element 127.0.0.0/8 of set special4: missing"),
            ("flush chain inet transocks guard",
             'rule 1 "direct connection to the redirect port" of chain guard: missing'),
            ('add table inet transocks { flags dormant; }', "table inet transocks: flags is 0x1, configured: 0x0"),
            ("add counter inet transocks more", "table inet transocks: other objects is 1, configured: 0"),
            ("add chain inet transocks output { policy drop; }", "chain output: policy is drop, configured: accept"),
        )
        for change, expected in cases:
            with self.subTest(change):
                host.rules("install")
                host.run("nft", change)
                done = host.rules("diff", check=False)
                self.assertEqual((done.returncode, done.stdout), (4, f"{expected}\n{HINT}\n"))
                self.assertIn("1 place", done.stderr)
                self.assertIn(expected, host.rules("status", check=False).stdout)
                host.rules("install")
                self.assertEqual(host.rules("diff").stdout, "")
        host.rules("install")
        handle = next(line.split()[-1] for line in host.run("nft", "-a", "list", "ruleset").stdout.splitlines()
                      if "skuid" in line)
        host.run("nft", f"replace rule inet transocks output handle {handle} meta skuid 0x3e6 counter return "
                        'comment "user of transocksd and usocksd"')
        self.assertEqual(host.rules("diff", check=False).stdout,
                         'rule 4 "user of transocksd and usocksd" of chain output: is about uid 998, '
                         f"configured: {DAEMON_UID}\n{HINT}\n")
        host.run("nft", f"delete rule inet transocks output handle {handle}")
        difference, = self.json(host, "diff", code=4)["differences"]
        self.assertEqual((difference["kind"], difference["object"], difference["number"]), ("missing", "rule", 4))

    def test_who_comes_first(self):
        host = self.lonely()
        host.nft("""table ip docker { chain out { type nat hook output priority -100; tcp dport 99 redirect to :9; }
                                      chain late { type nat hook output priority -98; tcp dport 99 redirect to :9; }
                                      chain pre { type nat hook prerouting priority -100; tcp dport 1 redirect to :9; }
                                      chain filter { type filter hook output priority -100; tcp dport 1 accept; }
                    }""")
        host.rules("install")
        others = self.json(host, "status", code=5)["before_us"]
        self.assertEqual(len(others), 1, others)
        self.assertIn("docker out", others[0])

    def test_counters_and_flows(self):
        t = self.build("host")
        server = t.host.listen("127.0.0.1", 1081)
        self.addCleanup(server.close)
        t.host.rules("install", "--family", "ipv4")
        client = t.host.connect("11.1.2.3", 80)
        self.addCleanup(client.close)
        self.addCleanup(server.accept()[0].close)
        result = self.json(t.host, "status", "--family", "ipv4")
        self.assertEqual(result["flows"], 1)
        counted = {(x["chain"], x["rule"]): x["packets"] for x in result["counters"]}
        self.assertEqual(counted["output", "to transocksd"], 1)
        self.assertEqual(counted["output", "user of transocksd and usocksd"], 0)
        text = t.host.rules("status", "--family", "ipv4").stdout
        self.assertIn('"to transocksd" of chain "output"', text)
        self.assertIn("1 flow redirected now", text)
        self.assertEqual(t.host.rules("flush", "--drain", 0, check=False).returncode, 6)
        text = t.host.rules("status", "--family", "ipv4", check=False).stdout
        self.assertIn("chain output: there because of `flush`", text)
        self.assertNotIn(HINT, text)
        t.host.rules("flush", "--now")


class Bypass(StateCase):
    def listed(self, host):
        return [(x["network"], x.get("comment")) for x in self.json(host, "bypass", "list")["networks"]]

    def test_add_del_list(self):
        host = self.lonely()
        for args in (("list",), ("add", "11.0.0.0/8"), ("del", "11.0.0.0/8")):
            self.json(host, "bypass", *args, code=3)
        host.rules("install")
        self.assertEqual(self.listed(host), [])
        host.rules("bypass", "add", "11.5.0.0/16", "--comment", "why not")
        host.rules("bypass", "add", "2a00:5::/32")
        host.rules("bypass", "add", "255.0.0.0/8")
        self.assertEqual(self.listed(host), [("11.5.0.0/16", "why not"), ("255.0.0.0/8", None), ("2a00:5::/32", None)])
        self.assertTrue(self.json(host, "bypass", "add", "11.5.3.0/24")["already"])
        self.assertFalse(self.json(host, "bypass", "add", "11.6.0.0/16", "-c", "more", "--dry-run")["already"])
        host.rules("bypass", "add", "11.6.0.0/16", "-c", "more")
        self.assertEqual(self.listed(host)[0], ("11.5.0.0-11.6.255.255", "why not; more"))
        self.assertIn("comment is not kept: 11.5.3.0/24 is inside of 11.5.0.0-11.6.255.255",
                      self.json(host, "bypass", "add", "11.5.3.0/24", "-c", "mine")["warnings"][0])
        host.rules("bypass", "del", "11.5.8.0/24")
        self.assertEqual([x for x, _ in self.listed(host)],
                         ["11.5.0.0/21", "11.5.9.0-11.6.255.255", "255.0.0.0/8", "2a00:5::/32"])
        self.assertEqual(host.rules("diff").stdout, "")
        before = self.listed(host)
        for args in ((), ("--port", 99), GATEWAY):
            host.rules("install", *args, "--force")
            self.assertEqual(self.listed(host), before)
        text = self.table(host)
        host.run("nft", "flush", "ruleset")
        host.nft(text)
        self.assertEqual(self.listed(host), before)
        host.rules("bypass", "del", "255.0.0.0/8")
        host.rules("bypass", "del", "2a00:5::/32")
        self.assertEqual(len(self.listed(host)), 2)

    def test_what_is_listed_can_be_taken_out(self):
        host = self.lonely()
        host.rules("install")
        added = ("11.5.1.0-11.5.255.255", "11.7.0.1-11.7.0.9", "2a00:1::1-2a00:1::7")
        for network in added:
            host.rules("bypass", "add", network)
        self.assertEqual([x for x, _ in self.listed(host)], list(added))
        self.assertIn("all of its addresses", self.json(host, "bypass", "add", "0.0.0.0/0")["warnings"][0])
        self.assertIn("IPv6", self.json(host, "bypass", "add", "::/0")["warnings"][0])
        for network, _ in self.listed(host):
            self.assertEqual(self.json(host, "bypass", "del", network)["warnings"], [])
        self.assertEqual(self.listed(host), [])

    def test_same_network_gets_the_new_comment(self):
        host = self.lonely()
        host.rules("install")
        host.rules("bypass", "add", "11.5.0.0/16", "-c", "first")
        host.rules("bypass", "add", "11.5.0.0/16")
        self.assertEqual(self.listed(host), [("11.5.0.0/16", "first")])
        host.rules("bypass", "add", "11.5.0.0/16", "-c", "second")
        self.assertEqual(self.listed(host), [("11.5.0.0/16", "second")])

    def test_what_others_add_is_kept(self):
        host = self.lonely()
        host.rules("install")
        host.run("nft", "add element inet transocks bypass4 { 11.7.0.0/16 comment \"theirs\", 11.9.0.1-11.9.0.77 }")
        host.run("nft", "add element inet transocks bypass6 { 2a00::/16, ffff::/16 }")
        before = self.listed(host)
        self.assertEqual(len(before), 4)
        self.assertIn(("11.7.0.0/16", "theirs"), before)
        for _ in range(3):
            host.rules("install")
        self.assertEqual(self.listed(host), before)
        self.assertEqual(self.json(host, "status", code=5)["exceptions"], 4)
        host.rules("flush")
        host.rules("install")
        self.assertEqual(self.listed(host), [])

    def test_long_names_of_others(self):
        """As long as the kernel takes them."""
        long = "a" * 255
        host = self.lonely()
        host.rules("install")
        foreign = f"add set inet transocks {long} {{ type ipv4_addr; elements = {{ 1.2.3.4 }}; }}\n"
        foreign += f"add chain inet transocks {long}\nadd chain inet transocks {long[:-1]}b\n"
        foreign += f"add rule inet transocks {long} ip daddr @{long} return"
        host.nft(foreign)
        names = [x.get("set") or x.get("chain") for x in self.json(host, "diff", code=4)["differences"]]
        self.assertEqual(names, [long, long, long[:-1] + "b"])
        self.json(host, "status", code=4)
        host.rules("bypass", "add", "11.5.0.0/16")
        self.assertEqual(self.listed(host), [("11.5.0.0/16", None)])
        self.json(host, "install", "--confirm", "9s", code=1)
        host.rules("install")
        self.assertEqual(host.rules("diff").stdout, "")
        host.nft(foreign)
        host.rules("flush", "--drain", "0")
        host.rules("install")
        host.nft(foreign)
        host.rules("flush", "--now")
        self.assertEqual(host.ruleset(), "")

    def test_comments_beyond_ascii(self):
        host = self.lonely()
        host.rules("install")
        host.rules("bypass", "add", "11.5.0.0/16", "-c", "Biro €")
        self.assertEqual(host.rules("bypass", "list").stdout, '11.5.0.0/16 "Biro €"\n')
        self.assertEqual(self.listed(host), [("11.5.0.0/16", "Biro €")])
        host.rules("bypass", "add", "11.6.0.0/16", "-c", "ü" * 63)
        network, comment = self.listed(host)[0]
        self.assertEqual(network, "11.5.0.0-11.6.255.255")
        self.assertEqual(comment, "Biro €; " + "ü" * 58)  # no half of the next

    def test_another_set_of_that_name(self):
        """What others have made is refused as a whole, until install replaces it."""
        host = self.lonely()
        for definition in ("set bypass4 { type ipv4_addr; elements = { 11.1.1.1 }; }",
                           "set bypass4 { type ipv6_addr; flags interval; elements = { ::1 }; }",
                           "set bypass4 { type ipv4_addr . inet_service; flags interval; }",
                           "map bypass4 { type ipv4_addr : verdict; flags interval; elements = { 11.1.1.1 : accept }; }"):
            with self.subTest(definition):
                host.nft(f'table inet transocks {{ comment "transocks-rules 1"; {definition}; }}')
                before = host.ruleset()
                for verb in ("add", "del"):
                    done = self.json(host, "bypass", verb, "11.1.1.1", code=1)
                    self.assertIn("bypass4 of table inet transocks is not ours", done["error"])
                self.assertEqual(host.ruleset(), before)
                host.rules("install")
                host.rules("bypass", "add", "11.9.0.0/16")
                self.assertEqual(self.listed(host), [("11.9.0.0/16", None)])
                host.rules("flush")

    def test_mistakes(self):
        host = self.lonely()
        host.rules("install")
        for args in ((), ("add",), ("list", "x"), ("add", "11.0.0.0/8", "x"), ("put", "11.0.0.0/8"), ("add", "eleven"),
                     ("add", "11.0.0.1/8"), ("add", "11.0.0.9-11.0.0.1"),
                     ("add", "11.0.0.1-::1"), ("add", "-"), ("add", "11.0.0.0/8-11.0.0.9"), ("add", "11.0.0.0/8", "-c", 'a "b"'), ("add", "11.0.0.0/8", "-c", "x" * 128),
                     ("add", "11.0.0.0/8", "-c", "a\nb")):
            with self.subTest(args):
                self.json(host, "bypass", *args, code=64)
        self.assertIn("12.0.0.0/8", self.json(host, "bypass", "del", "12.0.0.0/8", code=1)["error"])
        self.assertEqual(self.listed(host), [])

    def test_many_at_once(self):
        """Everybody's exception is there in the end, also those made during installs."""
        host = self.lonely()
        host.rules("install")
        adding = "for i in $(seq 25); do $0 bypass add 11.$1.$i.1 >/dev/null && echo 11.$1.$i.1; done; true"
        installing = "for i in $(seq 25); do $0 install --uid $1 >/dev/null 2>&1; [ $? = 0 -o $? = 6 ] || exit 1; done"
        adders = [host.spawn("sh", "-c", adding, RULES, str(n)) for n in range(3)]
        installers = [host.spawn("sh", "-c", installing, RULES, lab.RULES_UID) for _ in range(2)]
        self.assertEqual([proc.wait(60) for proc in adders + installers], [0] * 5)
        added = {line for proc in adders for line in proc.log().splitlines() if line.startswith("11.")}
        self.assertGreater(len(added), 10)
        self.assertEqual({x for x, _ in self.listed(host)}, added)
        self.assertEqual(host.rules("diff").stdout, "")

    def test_direct_at_once(self):
        t = self.build("host")
        t.host.rules("install")
        for address, network in (("11.1.2.3", "11.1.0.0/16"), ("2a00:1:5::7", "2a00:1:5::/48")):
            with t.inet.listen(address, 8080) as server:
                with self.assertRaises(ConnectionRefusedError):
                    t.host.connect(address, 8080)
                t.host.rules("bypass", "add", network)
                t.host.connect(address, 8080).close()
                server.accept()[0].close()
                t.host.rules("bypass", "del", network)
                with self.assertRaises(ConnectionRefusedError):
                    t.host.connect(address, 8080)


if __name__ == "__main__":
    lab.main()
