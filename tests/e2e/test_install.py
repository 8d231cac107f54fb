# SPDX-License-Identifier: MIT
"""What transocks-rules reads before it installs, where it works, what it refuses and what it warns of."""
import os
import pathlib
import re
import socket
import time

import lab
from rules import RulesCase

RULES = lab.BUILD / "transocks-rules"
FILE = pathlib.Path("/etc/transocks.toml")  # of the test's own /etc
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
DROPINS = pathlib.Path("/etc/transocks.d")


class InstallCase(RulesCase):
    def write(self, path, text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.addCleanup(path.unlink, missing_ok=True)
        return path


class Configuration(InstallCase):
    def test_without_a_file(self):
        host = self.lonely()
        self.assertEqual(self.json(host, "install")["port"], 1081)
        self.assertIn("No such file", self.refused(host, "install", "-f", "/nowhere", code=78))

    def test_file_and_drop_ins(self):
        host = self.lonely()
        self.write(FILE, 'listen = [":99", "127.0.0.1:98"]\nmark = "0x2/0x2"\n')
        self.assertEqual(self.json(host, "install")["port"], 99)
        self.write(DROPINS / "a.toml", 'listen = "localhost:97"\n')
        result = self.json(host, "install")
        self.assertEqual((result["port"], result["mark"]), (97, "0x2/0x2"))
        other = self.write(lab.WORK / "other.toml", 'listen = "localhost:96"\n')
        result = self.json(host, "install", "-f", other)  # alone
        self.assertEqual((result["port"], result["mark"]), (96, "0x1000/0x1000"))

    def test_flags_stand_above_the_file(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1")
        self.write(FILE, 'listen = ":99"\nuser = "no-such-user"\nmark = "0x2/0x2"\n'
                         '[redirect]\ngateway = ["no-such-if"]\n')
        flags = ("--port", 7, "-m", "5", "--uid", 0, "-g", "lan0,lan1", "--force")
        result = self.json(host, "install", *flags)
        self.assertEqual(result["port"], 7)
        self.assertEqual(result["uid"], 0)
        self.assertEqual(result["mark"], "0x5/0xffffffff")
        self.assertEqual(result["gateway"], ["lan0", "lan1"])
        self.assertEqual(self.json(host, "install", "-g", "")["gateway"], [])

    def test_options_arrive_in_the_table(self):
        host = self.lonely()
        self.write(FILE, """
            proxy_url = "socks5://11.9.9.9:1088"
            [redirect]
            bypass = ["11.66.0.0/16", "2a00:66::/32"]
            redirect_anyway = ["198.18.0.0/15"]
            ports = [443, "8000-8999"]
            exempt_uids = ["root", 4711]
            exempt_marks = ["0x20000/0x20000"]
            priority = -77
            share = 5""")
        host.rules("install")
        text = host.ruleset()
        for word in ("11.66.0.0/16", "2a00:66::/32", "8000-8999", "11.9.9.9 . 1088", "4711", "0x00020000",
                     "priority -77", "mod 100 "):
            self.assertIn(word, text)
        self.assertNotIn("198.18.0.0", text)
        host.rules("install", "--bypass", "11.67.0.0/16", "--ports", "", "--share", 100, "--redirect-anyway", "",
                   "--exempt-marks", "", "--exempt-uids", "4712", "--priority", -99)
        text = host.ruleset()
        for word in ("11.66.0.0/16", "8000", "4711", "0x00020000", "priority -77", "mod 100 "):
            self.assertNotIn(word, text)
        for word in ("11.67.0.0/16", "11.9.9.9 . 1088", "4712", "198.18.0.0"):
            self.assertIn(word, text)

    def test_broken_file(self):
        host = self.lonely()
        for text, why in (
            ("\n[redirect]\nshare = 500\n", '/etc/transocks.toml:3: option "redirect.share": 500 is out'),
            ("[redirect]\n\nshares = 5\n", ':3: unknown option "redirect.shares"; did you mean'),
            ("listen = \n", "/etc/transocks.toml:1: "),
        ):
            self.write(FILE, text)
            self.assertIn(why, self.refused(host, "install", code=78))
            self.assertIn(why, self.json(host, "install", code=78)["error"])
            host.rules("flush")  # does not ask
        self.assertEqual(host.ruleset(), "")

    def test_broken_flag(self):
        host = self.lonely()
        self.assertIn("--share: 500 is out of range (0..100)",
                      self.refused(host, "install", "--share", 500, code=64))
        self.assertIn('"x" is not a network', self.refused(host, "install", "--bypass", "x", code=64))
        self.assertIn("no user", self.refused(host, "install", "--exempt-uids", "x", code=78))

    def test_cgroups(self):
        host = self.lonely()
        args = ("install", "--exempt-cgroups", "a/b")
        here = f"mount -t tmpfs none /sys/fs/cgroup && exec {RULES} install --uid 0 --exempt-cgroups a/b"
        done = host.run("unshare", "-m", "sh", "-c", here, check=False)
        if "mount:" in done.stderr:
            self.skipTest("cannot mount over /sys/fs/cgroup")
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("no control groups v2", done.stderr)
        self.assertNotEqual(host.rules(*args, check=False).returncode, 0)

    def test_cgroup_is_found(self):
        host = self.lonely()
        script = f"""mount -t cgroup2 none /sys/fs/cgroup || exit 99
            {RULES} install --uid 0 --exempt-cgroups lab-none/x && exit 98
            d=/sys/fs/cgroup/lab-{os.getpid()}; mkdir $d || exit 99
            {RULES} install --uid 0 --exempt-cgroups ${{d##*/}}; code=$?
            rmdir $d; exit $code"""
        done = host.run("unshare", "-m", "sh", "-c", script, check=False)
        if done.returncode == 99:
            self.skipTest("cannot mount cgroup2 here, or make a group")
        self.assertIn("no control group /sys/fs/cgroup/lab-none/x", done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)


class Namespace(InstallCase):
    def namespaces(self, host):
        """The three ways to name it."""
        path = pathlib.Path("/run/netns/lab-host")
        path.parent.mkdir(exist_ok=True)
        path.touch()
        where = f"/proc/{os.getpid()}/fd/{host.fd}"
        lab._mount(where, path, None, lab.MS_BIND)
        self.addCleanup(lab._libc.umount2, os.fsencode(path), 2)
        return "lab-host", path, where, host.spawn("sleep", 60).pid

    def test_every_form(self):
        t = lab.Topology("host", "other")
        lab.TestCase.live.append(t)
        self.addCleanup(self._close, t)
        t.host.ip("link add only-there type veth peer name z")
        with t.host.inside():
            both = socket.create_server(("::", 1081), family=socket.AF_INET6, dualstack_ipv6=True)
        with both:
            for name in self.namespaces(t.host):
                with self.subTest(name):
                    args = ("--netns", name)
                    result = self.json(t.other, "install", *args, "-g", "only-there")
                    self.assertEqual(result["gateway"], ["only-there"])
                    self.assertFalse([w for w in result["warnings"] if "nobody listens" in w])
                    self.assertIn("transocks", t.host.ruleset())
                    self.assertEqual(t.other.ruleset(), "")
                    self.assertTrue(self.json(t.other, "flush", *args)["installed"])
                    self.assertEqual(t.host.ruleset(), "")

    def test_mistakes(self):
        host = self.lonely()
        for name, why in (("nothing", "there is no /run/netns/nothing"), ("/none", "there is no /none"),
                          ("4000000", "no such process"), ("/etc/passwd", "is not a network namespace"),
                          ("", "empty")):
            self.assertIn(why, self.refused(host, "install", "--netns", name, code=1))
            self.assertIn(why, self.refused(host, "flush", "--netns", name, code=1))

    @lab.needs_uids
    def test_without_privilege(self):
        host = self.lonely()
        pid = host.spawn("sleep", 60).pid
        done = host.run(RULES, "flush", "--netns", pid, user="transocks", check=False)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("needs root", done.stderr)


class Preflight(InstallCase):
    """Each refusal and each warning, provoked; and its absence where there is nothing to say."""

    def listen(self, host, *addresses, port=1081, transparent=False):
        for address in addresses:
            with host.inside():
                sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            self.addCleanup(sock.close)
            if ":" in address:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transparent:
                level = socket.IPPROTO_IPV6 if ":" in address else socket.IPPROTO_IP
                sock.setsockopt(level, IPV6_TRANSPARENT if ":" in address else IP_TRANSPARENT, 1)
            sock.bind((address, port))
            sock.listen()

    def warnings(self, host, *args):
        return self.json(host, "install", *args)["warnings"]

    def warned(self, host, pattern, *args, count=1):
        """Exactly `count` of the warnings match; returns them."""
        warnings = self.warnings(host, *args)
        found = [w for w in warnings if re.search(pattern, w)]
        self.assertEqual(len(found), count, warnings)
        return found

    def healthy(self, kind="host"):
        t = self.build(kind)
        host = t.host if kind == "host" else t.gateway
        self.listen(host, "0.0.0.0", "::")
        return host

    def test_nothing_to_say(self):
        self.assertEqual(self.warnings(self.healthy()), [])
        self.assertEqual(self.warnings(self.healthy("gateway"), "--gateway", "lan0"), [])

    def test_family_without_listener(self):
        for address, missing, family in (("127.0.0.1", "[::1]:1081", "ipv4"), ("::1", "127.0.0.1:1081", "ipv6")):
            host = self.lonely()
            self.warned(host, "nobody listens", count=2)
            self.listen(host, address)
            error = self.refused(host, "install", code=1)
            self.assertIn(f"nobody listens on {missing}", error)
            self.assertIn(f"--family {family} (--force", error)
            self.warned(host, "nobody listens", "--force")
            self.assertEqual(self.warnings(host, "--family", family), [])

    def test_gateway_without_listener(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1\nlink set lan0 up\naddr add 10.91.0.1/24 dev lan0")
        self.listen(host, "127.0.0.1", "::1")
        error = self.refused(host, "install", "-g", "lan0", code=1)
        self.assertIn('listen = ":1081" first (--force', error)
        self.assertIn("transocks", host.rules("install", "-g", "lan0", "--force").stdout)
        self.listen(host, "0.0.0.0", port=1082)
        self.listen(host, "::1", port=1082)
        args = ("-g", "lan0", "--port", 1082)
        self.assertIn("all IPv6 addresses", self.refused(host, "install", *args, code=1))
        self.warned(host, "nobody listens", *args, "--family", "ipv4", count=0)

    def test_listener_that_comes_meanwhile(self):
        """The daemon's unit and ours may start together; a daemon binds one address after the other."""
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1\nlink set lan0 up\naddr add 10.91.0.1/24 dev lan0")
        for first in ((), ("127.0.0.1",)):
            more = ("-g", "lan0") if not first else ()
            for port in range(1083 + len(first), 1183, 2):
                self.listen(host, *first, port=port)
                begun = time.monotonic()
                install = host.spawn(RULES, "install", *more, "--port", port, "--uid", lab.RULES_UID)
                time.sleep(0.3)
                alive = install.alive()
                self.listen(host, *(("::1",) if first else ("0.0.0.0", "::")), port=port)
                if time.monotonic() < begun + 1:
                    break  # else we may have been too late, so once more
                install.wait(20)
            self.assertTrue(alive, install.log())
            self.assertEqual(install.wait(20), 0, install.log())
            self.assertIn("transocks", host.ruleset())
            self.assertNotIn("nobody listens", install.log())

    def test_listener_that_comes_too_late(self):
        """Who listens otherwise for a whole second is not a daemon that is starting."""
        host = self.lonely()
        self.listen(host, "127.0.0.1", port=1083)
        install = host.spawn(RULES, "install", "--port", 1083, "--uid", lab.RULES_UID)
        self.assertEqual(install.wait(20), 1, install.log())
        self.assertIn("nobody listens on [::1]:1083, though somebody does for IPv4", install.log())

    def test_listener_of_the_other_mode(self):
        host = self.healthy()
        error = self.refused(host, "install", "--mode", "tproxy", code=1)
        self.assertIn("port 1081 does not take what comes by TPROXY", error)
        self.assertIn('mode = "tproxy" first (--force', error)
        self.warned(host, "comes by TPROXY", "--mode", "tproxy", "--force")
        self.listen(host, "0.0.0.0", "::", port=1082, transparent=True)
        self.assertEqual(self.warnings(host, "--mode", "tproxy", "--port", 1082), [])
        # The same the other way round, and both refuse one family alone.
        error = self.refused(host, "install", "--port", 1082, code=1)
        self.assertIn("port 1082 takes what comes by TPROXY alone", error)
        self.assertIn('mode = "redirect" first (--force', error)
        self.warned(host, "by TPROXY alone", "--port", 1082, "--force")
        self.listen(host, "0.0.0.0", port=1083)
        self.listen(host, "::", port=1083, transparent=True)
        self.assertIn("all new IPv6", self.refused(host, "install", "--port", 1083, code=1))
        self.assertEqual(self.warnings(host, "--port", 1083, "--family", "ipv4"), [])
        self.assertEqual(self.warnings(host, "--port", 1083, "--family", "ipv6", "--mode", "tproxy"), [])

    def test_nat_chain_before_ours(self):
        host = self.healthy()
        host.nft("""table ip early {
            chain out { type nat hook output priority -100; tcp dport 1 counter; }
            chain empty { type nat hook output priority -120; }
            chain late { type nat hook output priority -98; tcp dport 1 counter; }
            chain same { type nat hook output priority -99; tcp dport 1 counter; }
            chain pre { type nat hook prerouting priority -100; tcp dport 1 counter; }
            chain filter { type filter hook output priority -150; tcp dport 1 counter; }
        }""")
        self.warned(host, r"ip early out \(priority -100\) comes before ours \(-99\) on hook output")
        self.warned(host, "ip early same .* at the priority of ours")
        self.warned(host, "chain ip early", count=2)
        self.warned(host, "chain ip early", "--priority", -110, count=0)
        self.warned(host, "chain ip early", "--priority", -98, count=3)
        self.warned(host, "chain ip early", "--family", "ipv6", count=0)
        self.warned(host, "chain ip early", "--mode", "tproxy", "--force", count=0)
        gateway = self.healthy("gateway")
        gateway.nft("table ip6 early { chain pre { type nat hook prerouting priority -100; counter; } ; }")
        self.warned(gateway, "early", count=0)
        self.warned(gateway, "ip6 early pre .* on hook prerouting", "-g", "lan0")

    @lab.needs_program("iptables-legacy")
    def test_nat_chain_of_legacy_iptables(self):
        host = self.healthy()
        if host.run("iptables-legacy", "-t", "nat", "-L", check=False).returncode != 0:
            self.skipTest("this kernel has no legacy tables")
        self.warned(host, "iptables-legacy", count=0)
        host.run("iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "1", "-j", "RETURN")
        host.run("ip6tables-legacy", "-P", "INPUT", "DROP")
        self.warned(host, r"iptables-legacy ip nat OUTPUT \(priority -100\) comes before ours")
        self.warned(host, "iptables-legacy ip6 filter INPUT .* policy drop and no rule")
        self.warned(host, "iptables-legacy", count=2)

    def test_reading_loads_no_legacy_table(self):
        host = self.healthy()
        host.rules("install")
        names = host.run("sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names", check=False)
        self.assertEqual(names.stdout, "")

    def test_firewall(self):
        host = self.healthy()
        host.nft("table inet fw { chain in { type filter hook input priority 0; policy drop; } ; }")
        found = self.warned(host, "firewall drops all redirected flows: chain inet fw in")[0]
        self.assertIn("tcp dport 1081 ct status dnat accept", found)
        host.nft("add rule inet fw in iif lo accept")
        self.warned(host, "firewall", count=0)
        gateway = self.healthy("gateway")
        gateway.nft("table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; } ; }")
        self.warned(gateway, "firewall", count=0)
        found = self.warned(gateway, "firewall may drop the flows from lan0", "-g", "lan0")[0]
        self.assertIn('iifname "lan0" tcp dport 1081 ct status dnat accept', found)
        gateway.nft("flush chain inet fw in")
        gateway.nft("chain inet fw in { policy accept; }")
        self.warned(gateway, "firewall", "-g", "lan0", count=0)

    def test_proposed_firewall_rule_works(self):
        t = self.build("gateway")
        self.listen(t.gateway, "0.0.0.0", "::")
        t.gateway.nft("table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; } ; }")
        found = self.warned(t.gateway, "firewall may drop", "-g", "lan0")[0]
        with self.assertRaises(TimeoutError):
            t.client.connect("11.1.2.3", 80, seconds=0.5)
        t.gateway.nft("add rule inet fw in " + found.split("such as: ")[1])
        t.gateway.nft("add rule inet fw in ct state established accept")
        t.client.connect("11.1.2.3", 80).close()

    def test_gateway_without_address(self):
        host = self.healthy("gateway")
        args = ("-g", "lan0")
        self.warned(host, "has no", *args, count=0)
        host.ip("addr flush dev lan0")
        self.warned(host, "lan0 has no IPv4 address", *args)
        self.warned(host, "lan0 has no IPv6 address: .*--family ipv4", *args)
        self.warned(host, "has no", *args, "--family", "ipv4")
        self.warned(host, "has no", *args, "--mode", "tproxy", "--force", count=0)

    def test_no_route(self):
        host = self.healthy()
        host.ip("route del default")
        host.run("ip", "-6", "route", "del", "default")
        found = self.warned(host, "no IPv4 route to the Internet")[0]
        self.warned(host, "no IPv6 route to the Internet")
        self.warned(host, "route to the Internet", "--family", "ipv6")
        host.run(*re.search("`(.*?)`", found)[1].split())  # the remedy
        self.warned(host, "no IPv4 route", count=0)
        host.ip("addr del fd91::2/64 dev eth0")
        self.warned(host, "no IPv6 route", count=0)  # nobody expects one

    def test_dns_over_tls(self):
        t = self.build("host")
        self.listen(t.host, "0.0.0.0", "::")
        server = t.inet.listen("11.1.2.3", 853)
        self.addCleanup(server.close)
        self.warned(t.host, "over TLS", count=0)
        client = t.host.connect("11.1.2.3", 853)
        self.addCleanup(client.close)
        self.warned(t.host, "root is connected to a name server: .* --exempt-uids root lets")
        self.warned(t.host, "over TLS", "--exempt-uids", "root", count=0)
        self.warned(t.host, "over TLS", "--ports", "80,443", count=0)
        self.warned(t.host, "over TLS", "--ports", "80-900")

    @lab.needs_uids
    def test_local_resolver(self):
        host = self.healthy()
        passwd = pathlib.Path("/etc/passwd")
        before = passwd.read_text()
        self.addCleanup(passwd.write_text, before)
        passwd.write_text("".join(x for x in before.splitlines(True) if not x.startswith("unbound:"))
                          + "unbound:x:4711:4711::/:/bin/false\n")
        code = ("import os, socket, time; s = socket.create_server(('127.0.0.53', 53)); os.fchown(s.fileno(), "
                "4711, 4711); print('ready', flush=True); time.sleep(60)")
        self.warned(host, "unbound", count=0)
        host.spawn(lab.PYTHON, "-c", code).wait_log("^ready$")
        self.warned(host, "unbound answers name queries on this host: .*--exempt-uids unbound")
        self.warned(host, "unbound", "--exempt-uids", "unbound", count=0)

    @lab.needs_uids
    def test_upstream_on_this_host(self):
        """A proxy whose own flows would come back; not one that is exempt in some way."""
        t = self.build("host")
        self.listen(t.host, "0.0.0.0", "::")
        what = r"the upstream 10.91.0.2:1080 is on this host.*--exempt-uids"
        self.write(FILE, 'proxy_url = "socks5://10.91.0.2:1080"\n')
        self.warned(t.host, "on this host", count=0)  # nobody there yet
        peer = t.host.peer("echo", "0.0.0.0", 1080)
        (warning,) = self.warned(t.host, what)
        self.assertIn("(python3", warning)
        self.assertIn(", uid 0) would be redirected", warning)
        self.warned(t.host, what, "--exempt-uids", "root", count=0)
        self.warned(t.host, what, "--uid", 0, count=0)
        self.write(FILE, 'proxy_url = "socks5://10.91.3.2:1080"\n')  # of another host
        self.warned(t.host, what, count=0)
        peer.kill()
        self.write(FILE, 'proxy_url = "socks5://127.0.0.1:1080"\n')
        with t.host.listen("127.0.0.1", 1080) as sock:
            self.warned(t.host, "the upstream 127.0.0.1:1080 is on this host")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x1000)
            self.warned(t.host, "is on this host", count=0)
        t.host.usocksd('user = "nobody"\n')
        self.warned(t.host, "is on this host", count=0)

    def test_marks_of_others(self):
        host = self.healthy()
        host.nft("""table inet m {
            chain clear { meta mark & 0xc000 == 0x4000 counter; ct mark 0x1000 counter; meta priority 4096 counter; }
            chain masked { meta mark & 0x3000 == 0x2000 counter; }
            chain mapped { meta mark and 0xff00 vmap { 0x100 : accept }; }
            chain setter { meta mark set 0x1000; }
            chain both { ip saddr 11.0.0.1 tcp dport 5 meta mark and 0x10 == 0 counter; }
        }""")
        self.warned(host, "table inet m, chain masked, tests bits 0x1000 .* option mark")
        self.warned(host, "table inet m, chain mapped, tests bits 0x1000 ")
        self.warned(host, "table inet m", count=2)
        self.warned(host, "chain both, tests bits 0x10 .* option tproxy_mark", "--mode", "tproxy", "--force")
        self.warned(host, "tests bits", "-m", "0x20000/0x20000", count=0)
        self.warned(host, "tests bits", "-m", "0/0", count=0)
        self.warned(host, "tests bits", "-m", "0x8000/0x8000", count=2)  # clear, vmap
        host.nft("delete table inet m")
        self.warned(host, "tests bits", count=0)
        for rule in ("-4 rule add fwmark 0x1000/0xf000 lookup 99 priority 77",
                     "-6 rule add fwmark 0x4000 lookup 99 priority 78",
                     "-4 rule add fwmark 0x4000/0x4000 lookup 99 priority 79",
                     "-4 rule add fwmark 0x1000/0x1000 lookup 1081 priority 1081 protocol 84"):
            host.run("ip", *rule.split())
        self.warned(host, "`ip rule` 77 tests bits 0x1000 ")
        self.warned(host, "`ip -6 rule` 78 tests bits 0x1000 ")
        self.warned(host, "tests bits", count=2)

    @lab.needs_program("iptables-nft")
    def test_marks_of_iptables(self):
        host = self.healthy()
        host.run("iptables-nft", "-t", "mangle", "-A", "OUTPUT", "-m", "mark", "--mark", "0x4000/0x4000")
        self.warned(host, "tests bits", count=0)
        host.run("iptables-nft", "-t", "mangle", "-A", "OUTPUT", "-m", "mark", "!", "--mark", "0x5000/0x5000")
        self.warned(host, "table ip mangle, chain OUTPUT, tests bits 0x1000 ")

    def test_more_warnings_than_fit(self):
        host = self.healthy()
        chains = "".join(f"chain c{i} {{ type nat hook output priority -150; counter; }}\n" for i in range(50))
        host.nft(f"table ip many {{ {chains} }}")
        warnings = self.warnings(host)
        self.assertIn("there are more warnings", warnings[-1])


if __name__ == "__main__":
    lab.main()
