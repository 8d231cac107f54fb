# SPDX-License-Identifier: MIT
"""transocks-rules on a real kernel: what it installs, takes, leaves alone, removes, refuses and says."""
import json
import os
import pathlib
import re
import socket
import struct

import lab
from rules import RulesCase

RULES = lab.BUILD / "transocks-rules"
SO_MARK, SO_ORIGINAL_DST = 36, 80
FOREIGN = """
table inet filter {
    set blocked { type ipv4_addr; flags interval; auto-merge; elements = { 11.200.0.0/16, 11.202.0.1 } }
    chain input { type filter hook input priority 0; policy accept; ip saddr @blocked drop; }
}
table ip nat {
    chain postrouting { type nat hook postrouting priority 100; oifname "none0" masquerade; }
}
table ip6 transocks {
    comment "another family"
    chain x { tcp dport 1081 accept; }
}
"""


def original_destination(sock):
    """(address, port) that the client wanted."""
    if sock.family == socket.AF_INET:
        raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]
    raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]


class FlowCase(RulesCase):
    def server(self, host, address, port):
        sock = host.listen(address, port)
        self.addCleanup(sock.close)
        return sock

    def proxied(self, host, server, address, port=80):
        """A connection of `host` that must arrive at `server`: (client's end, server's end)."""
        client = host.connect(address, port)
        self.addCleanup(client.close)
        peer = server.accept()[0]
        self.addCleanup(peer.close)
        self.assertEqual(original_destination(peer), (address, port))
        return client, peer

    def passes(self, one, other):
        for a, b in ((one, other), (other, one)):
            a.sendall(b"alive")
            self.assertEqual(b.recv(5, socket.MSG_WAITALL), b"alive")


class Text(FlowCase):
    """What nft(8) shows."""

    def test_round_trip(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name z\nlink add a.100 type veth peer name interface-of-15")
        self.server(host, "0.0.0.0", 1081)
        listener = self.server(host, "::1", 1081)
        for args in (
            (), ("--port", 1), ("--port", 65535), ("--uid", 0), ("--uid", 4294967294), ("--mark", "0/0"),
            ("--mark", "5"), ("--mark", "0xff000000/0xff000000"), ("--mark", "0x10/0xf0"),
        ):
            with self.subTest(args):
                host.rules("install", *args)
                self.reload(host)
        listener.close()
        with host.inside():
            both = socket.create_server(("::", 1081), family=socket.AF_INET6)
        self.addCleanup(both.close)
        for names in (["lan0"], ["z", "interface-of-15", "lan0", "a.100"]):
            with self.subTest(names):
                host.rules("install", *(x for n in names for x in ("--gateway", n)))
                self.reload(host)
                for name in names:
                    self.assertIn(f'"{name}" comment', host.ruleset())

    def reload(self, host):
        text = host.ruleset()
        host.run("nft", "flush", "ruleset")
        host.nft(text)
        self.assertEqual(host.ruleset(), text)

    def test_every_rule_is_counted_and_commented(self):
        host = self.lonely()
        host.rules("install")
        text = host.ruleset()
        rules = re.findall(r"^\t\t(?!type|comment|flags|auto-merge|elements)(\S.*)$", text, re.M)
        self.assertEqual(len(rules), 11, text)
        for rule in rules:
            self.assertRegex(rule, r'counter packets \d+ bytes \d+ .* ?comment "[^"]+"$')
        elements = re.findall(r"elements = \{(.*?)\}", text, re.S)
        self.assertEqual(len(elements), 2)
        for element in re.split(r",\s*(?=[0-9a-f:.]+[/-])", " ".join(elements[0].split())):
            self.assertRegex(element, r'comment ".+, RFC \d+')

    def test_install_twice_leaves_one_copy(self):
        host = self.lonely()
        self.assertFalse(self.json(host, "install")["replaced"])
        once = host.ruleset()
        self.assertTrue(self.json(host, "install")["replaced"])
        self.assertEqual(host.ruleset(), once)

    def test_tells_what_was_asked_for(self):
        host = self.lonely()
        conf = lab.WORK / "asked.toml"
        conf.write_text('[redirect]\nshare = 0\nbypass = ["11.5.0.0/16", "11.6.0.0/16"]\n')
        plain = host.rules("install", "-f", conf, "--share", 100, "--bypass", "").stdout
        self.assertEqual(plain.splitlines()[1:], [f"  configuration: {conf}"])
        args = ("-f", conf, "--ports", "80,8000-8999", "--family", "ipv4", "--quic", "reject", "--exempt-uids", "7",
                "--mode", "tproxy")
        lines = host.rules("install", *args).stdout.splitlines()
        for line in ("  share = 0: nobody is taken", "  bypass = 2 networks", '  ports = [80, "8000-8999"]',
                     '  family = "ipv4"', '  quic = "reject"', '  exempt_uids = ["7"]', '  mode = "tproxy"'):
            self.assertIn(line, lines)
        added = [line for line in lines if line.startswith("  added: ip ")]
        self.assertEqual(len(added), 2, lines)
        result = self.json(host, "install", *args, "--dry-run")
        told = {key: result[key] for key in ("mode", "family", "share", "ports", "quic", "when_daemon_down", "bypass",
                                             "exempt_uids", "files", "routes")}
        self.assertEqual(told, {"mode": "tproxy", "family": "ipv4", "share": 0, "ports": ["80", "8000-8999"],
                                "quic": "reject", "when_daemon_down": "closed", "bypass": 2, "exempt_uids": ["7"],
                                "files": [str(conf)], "routes": []})
        host.rules("flush")

    def test_replaces_what_was_there(self):
        host = self.lonely()
        host.rules("install", "--port", 1234)
        host.nft("add rule inet transocks output drop\nadd chain inet transocks more")
        host.rules("install")
        replaced = host.ruleset()
        self.assertIn(", earlier ports 1234", replaced)
        host.rules("flush")
        host.rules("install")
        self.assertEqual(host.ruleset(), replaced.replace(", earlier ports 1234", ""))

    def test_flush(self):
        host = self.lonely()
        host.rules("install")
        self.assertRegex(host.rules("flush").stdout, r"^removed table inet transocks; 0 redirected flows cut\n$")
        self.assertEqual(host.ruleset(), "")
        self.assertIn("nothing to remove", host.rules("flush").stdout)
        result = self.json(host, "flush")
        self.assertEqual((result["installed"], result["flows_cut"]), (False, 0))

    def test_dry_run_changes_nothing(self):
        host = self.lonely()
        self.assertIn("would install", host.rules("install", "--dry-run").stdout)
        self.assertEqual(host.ruleset(), "")
        self.assertIn("nothing to remove", host.rules("flush", "--dry-run").stdout)
        host.rules("install")
        before = host.ruleset()
        self.assertIn("would replace", host.rules("install", "--dry-run", "--port", 99).stdout)
        self.assertIn("would remove", host.rules("flush", "--dry-run").stdout)
        self.assertTrue(self.json(host, "install", "--dry-run")["dry_run"])
        self.assertTrue(self.json(host, "flush", "--dry-run")["dry_run"])
        self.assertEqual(host.ruleset(), before)

    def test_foreign_tables_stay(self):
        host = self.lonely()
        host.nft(FOREIGN)
        before = host.ruleset()
        host.rules("install")
        host.rules("install")
        installed = host.ruleset()
        self.assertTrue(installed.startswith(before))
        host.rules("install", "--dry-run")
        self.assertEqual(host.ruleset(), installed)
        host.rules("flush")
        self.assertEqual(host.ruleset(), before)

    def test_foreign_table_of_our_name(self):
        host = self.lonely()
        for comment in ("", 'comment "somebody else";', 'comment "transocks";'):
            host.nft(f"table inet transocks {{ {comment} chain x {{ counter; }} ; }}")
            before = host.ruleset()
            for args in (("install",), ("flush",), ("install", "--dry-run"), ("flush", "--dry-run")):
                self.assertIn("not ours", self.json(host, *args, code=1)["error"])
            self.assertEqual(host.ruleset(), before)
            host.run("nft", "flush", "ruleset")

    def test_many_installers_at_once(self):
        host = self.lonely()
        host.rules("install")
        expected = host.ruleset()
        many = [host.spawn(RULES, "install", "--uid", lab.RULES_UID) for _ in range(20)]
        for proc in many:
            self.assertIn(proc.wait(20), (0, 6), proc.log())
        self.assertIn(0, [proc.wait() for proc in many])
        self.assertEqual(host.ruleset(), expected)


class Mistakes(FlowCase):
    def test_without_privilege(self):
        host = self.lonely()
        for args in (("install", "--uid", "0"), ("install",), ("flush",), ("flush", "--json")):
            done = host.run("unshare", "-U", RULES, *args, check=False)
            self.assertEqual(done.returncode, 77, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
            self.assertIn("CAP_NET_ADMIN", done.stderr)

    def test_users(self):
        host = self.lonely()
        self.assertIn("--uid", self.refused(host, "install", "--uid", "nosuch", code=78))
        passwd = pathlib.Path("/etc/passwd")
        text = passwd.read_text()
        self.addCleanup(passwd.write_text, text)
        passwd.write_text(re.sub(r"^transocks:.*\n", "", text, flags=re.M))
        line = self.refused(host, "install", code=78)
        self.assertIn("--uid NAME", line)
        self.assertIn("useradd", line)
        passwd.write_text(text)
        self.assertEqual(host.ruleset(), "")
        self.assertEqual(json.loads(host.run(RULES, "install", "--json").stdout)["uid"], lab.DAEMON_UID)
        self.assertIn(f"skuid {lab.DAEMON_UID} ", host.ruleset())

    def test_usage(self):
        host = self.lonely()
        for args in ((), ("nosuch",), ("install", "now"), ("install", "--port", "0"), ("flush", "--port", "1"),
                     ("install", "--mark", "1/0"), ("install", "--gateway")):
            self.refused(host, *args, code=64)
        self.json(host, "flush", "--nosuch", code=64)
        for args in (("--json",), ("nosuch", "--json"), ("--json", "install"), ("install", "-nj", "-p"),
                     ("install", "--js", "-p"), ("install", "--json=1")):
            done = host.run(RULES, *args, check=False)
            self.assertEqual(done.returncode, 64)
            self.assertEqual(json.loads(done.stdout)["exit"], 64)
        done = host.run("sh", "-c", f"{RULES} flush --json >/dev/full", check=False)
        self.assertEqual((done.returncode, done.stderr.count("No space left")), (1, 1))

    def test_help_and_version(self):
        host = self.lonely()
        text = host.run(RULES, "--help").stdout
        for command in ("install", "flush"):
            own = host.run(RULES, command, "--help").stdout
            self.assertIn("--json", own)
            self.assertIn(own, text)
        self.assertRegex(host.run(RULES, "--version").stdout, r"^transocks-rules \d+\.\d+\.\d+\n$")

    def test_nobody_listens(self):
        host = self.lonely()
        self.assertEqual(len(self.json(host, "install")["warnings"]), 2)
        self.server(host, "127.0.0.1", 1081)
        self.assertIn("[::1]:1081", self.json(host, "install", code=1)["error"])
        warnings = self.json(host, "install", "--force")["warnings"]
        self.assertEqual(len(warnings), 1)
        self.assertIn("[::1]:1081", warnings[0])
        self.server(host, "::1", 1081)
        done = host.rules("install")
        self.assertEqual(done.stderr, "")
        self.assertIn("warning: nobody listens on 127.0.0.1:99", host.rules("install", "--port", 99).stderr)

    def test_nobody_listens_without_ipv6(self):
        host = self.lonely()
        host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        self.assertEqual(len(self.json(host, "install")["warnings"]), 1)

    def test_gateway_is_refused_without_listener(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1")
        args = ("install", "--uid", "1", "--gateway", "lan0")
        self.server(host, "127.0.0.1", 1081)
        self.server(host, "::1", 1081)
        self.assertIn("IPv4", self.refused(host, *args))
        self.server(host, "0.0.0.0", 1082)
        self.assertIn("IPv6", self.refused(host, *args, "--port", "1082"))
        self.assertEqual(host.ruleset(), "")
        with host.inside():
            only6 = socket.create_server(("::", 1082), family=socket.AF_INET6)
            both = socket.create_server(("::", 1083), family=socket.AF_INET6, dualstack_ipv6=True)
        self.addCleanup(only6.close)
        self.addCleanup(both.close)
        for port in (1082, 1083):
            self.assertEqual(self.json(host, *args, "--port", port)["gateway"], ["lan0"])

    def test_gateway_names(self):
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1")
        with host.inside():
            both = socket.create_server(("::", 1081), family=socket.AF_INET6, dualstack_ipv6=True)
        self.addCleanup(both.close)
        self.assertIn("nosuch0", self.refused(host, "install", "--uid", "1", "--gateway", "nosuch0"))
        host.ip("link property add dev lan0 altname inside")
        names = self.json(host, "install", "--gateway", "inside", "--gateway", "lan0", "--gateway", "lan1")["gateway"]
        self.assertEqual(names, ["lan0", "lan1"])

    def test_gateway_that_is_gone(self):
        """Its name is still in the rules: they are compared, and whoever asks is told."""
        host = self.lonely()
        host.ip("link add lan0 type veth peer name lan1")
        args = ("--gateway", "lan0", "--uid", "1")
        host.rules("install", *args, "--force")
        host.ip("link del lan0")
        gone = "gateway lan0: no such interface"
        for command, code in (("status", 5), ("diff", 0)):
            done = host.rules(command, *args, check=False)
            self.assertEqual((done.returncode, done.stderr.count(gone)), (code, 1), done.stderr)
        self.assertEqual(host.rules("diff", *args, "--priority", "-50", check=False).returncode, 4)
        self.assertIn(gone, self.refused(host, "install", *args, "--force"))


class Traffic(FlowCase):
    """What is taken, by connections."""

    def test_host(self):
        t = self.build("host")
        four, six = self.server(t.host, "127.0.0.1", 1081), self.server(t.host, "::1", 1081)
        t.host.rules("install")
        for server, address in ((four, "11.1.2.3"), (six, "2a00:1:5::7")):
            self.passes(*self.proxied(t.host, server, address, 443))

    def direct(self, t, server, address, mark=0, uid=0):
        """A connection of `host`, which must not be redirected, to `server`."""
        with t.host.inside():
            os.seteuid(uid)  # rules see the uid that made the socket
            try:
                client = socket.socket(server.family, socket.SOCK_STREAM)
            finally:
                os.seteuid(0)
        self.addCleanup(client.close)
        if mark:
            client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        client.settimeout(lab.LONG)
        client.connect((address, server.getsockname()[1]))
        peer = server.accept()[0]
        self.addCleanup(peer.close)
        self.passes(client, peer)

    def test_left_alone(self):
        t = self.build("host")
        t.host.rules("install")
        for address, private, local in (("11.1.2.3", "10.91.0.1", "10.91.0.2"), ("2a00:1:5::7", "fd91::1", "fd91::2")):
            server = self.server(t.inet, address, 0)
            with self.assertRaises(ConnectionRefusedError):  # taken, and nobody is there
                self.direct(t, server, address)
            self.direct(t, server, address, mark=0x1000)
            self.direct(t, server, address, mark=0x31000)
            with self.assertRaises(ConnectionRefusedError):
                self.direct(t, server, address, mark=0x2000)
            self.direct(t, self.server(t.inet, private, 0), private)
            here = self.server(t.host, local, 0)
            self.direct(t, here, local)

    @lab.needs_uids
    def test_uid_is_left_alone(self):
        t = self.build("host")
        t.host.rules("install", "--uid", "transocks")
        for address in ("11.1.2.3", "2a00:1:5::7"):
            server = self.server(t.inet, address, 0)
            self.direct(t, server, address, uid=lab.DAEMON_UID)
            with self.assertRaises(ConnectionRefusedError):
                self.direct(t, server, address, uid=lab.DAEMON_UID + 1)

    def test_guard(self):
        t = self.build("host")
        for address in ("0.0.0.0", "::"):
            with t.host.inside():
                server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            self.addCleanup(server.close)
            if server.family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.bind((address, 1081))
            server.listen()
        addresses = ("10.91.0.2", "fd91::2")
        for address in addresses:
            t.inet.connect(address, 1081).close()  # open before
        t.host.rules("install")
        for address in ("127.0.0.1", "::1", *addresses):
            with self.assertRaises(ConnectionRefusedError):
                t.host.connect(address, 1081)
        for address in addresses:
            with self.assertRaises(ConnectionRefusedError):
                t.inet.connect(address, 1081)
        for address in ("11.1.2.3", "2a00:1:5::7"):
            t.host.connect(address, 80).close()

    def test_gateway(self):
        t = self.build("gateway")
        four = self.server(t.gateway, "0.0.0.0", 1081)
        with t.gateway.inside():
            six = socket.create_server(("::", 1081), family=socket.AF_INET6)
        six.settimeout(lab.LONG)
        self.addCleanup(six.close)
        t.gateway.rules("install", "--gateway", "lan0")
        for server, address, near, far in ((four, "11.1.2.3", "10.91.1.1", "10.91.1.2"),
                                           (six, "2a00:1:5::7", "fd91:0:1::1", "fd91:0:1::2")):
            self.passes(*self.proxied(t.client, server, address))
            with self.assertRaises(ConnectionRefusedError):
                t.client.connect(near, 1081)
            # What comes in from elsewhere is forwarded as ever.
            with t.client.listen(far, 8080) as inside, t.inet.connect(far, 8080) as outside:
                self.passes(inside.accept()[0], outside)

    def test_live_connections_survive(self):
        """From before the rules (conntrack idle) through install and reinstall; a proxied one too."""
        t = self.build("host")
        servers = self.server(t.host, "127.0.0.1", 1081), self.server(t.host, "::1", 1081)
        live = []
        for address in ("11.1.2.3", "2a00:1:5::7"):
            far = self.server(t.inet, address, 0)
            live.append((t.host.connect(address, far.getsockname()[1]), far.accept()[0]))
        for address in ("10.91.0.2", "fd91::2"):
            near = self.server(t.host, address, 0)
            live.append((near, t.inet.connect(address, near.getsockname()[1])))
            live[-1] = (near.accept()[0], live[-1][1])
        for pair in live:
            self.addCleanup(pair[0].close)
            self.addCleanup(pair[1].close)
        t.host.rules("install")
        live += [self.proxied(t.host, servers[0], "11.1.2.3"), self.proxied(t.host, servers[1], "2a00:1:5::7")]
        for _ in range(3):
            for pair in live:
                self.passes(*pair)
            t.host.rules("install")
        t.host.rules("install", "--dry-run")
        t.host.rules("flush", "--dry-run")
        for pair in live:
            self.passes(*pair)

    def test_own_port_of_a_live_connection(self):
        """A connection whose own port is the redirect port is none to it: the guard leaves it alone."""
        t = self.build("host")
        self.server(t.host, "127.0.0.1", 1081), self.server(t.host, "::1", 1081)
        live = []
        for source, address in ((("10.91.0.2", 1081), "11.1.2.3"), (("fd91::2", 1081), "2a00:1:5::7")):
            far = self.server(t.inet, address, 0)
            client = t.host.connect(address, far.getsockname()[1], source=source)
            live.append((client, far.accept()[0]))
        for pair in live:
            self.addCleanup(pair[0].close)
            self.addCleanup(pair[1].close)
        t.host.rules("install")
        for client, server in live:
            self.passes(server, client)  # the server speaks first

    def test_flush_counts_flows_of_an_earlier_port(self):
        t = self.build("host")
        first, second = (self.server(t.host, "127.0.0.1", port) for port in (1081, 1082))
        for port in (1081, 1082):
            self.server(t.host, "::1", port)
        t.host.rules("install")
        old = self.proxied(t.host, first, "11.1.2.3")
        t.host.rules("install", "--port", 1082)
        self.proxied(t.host, second, "11.1.2.3", 81)
        t.host.rules("install", "--port", 1082)
        self.passes(*old)
        self.assertEqual(self.json(t.host, "flush", "--now")["flows_cut"], 2)
        t.host.rules("install")
        self.assertNotIn("earlier", t.host.ruleset())

    def test_flush_counts_what_it_cuts(self):
        t = self.build("host")
        four, six = self.server(t.host, "127.0.0.1", 2222), self.server(t.host, "::1", 2222)
        t.host.rules("install", "--port", 2222)
        alive = [self.proxied(t.host, four, "11.1.2.3", port) for port in (80, 81)]
        alive.append(self.proxied(t.host, six, "2a00:1:5::7"))
        alive[0][0].shutdown(socket.SHUT_WR)  # half-closed is alive
        ended = self.proxied(t.host, four, "11.1.2.4")
        for end in ended:
            end.close()
        far = self.server(t.inet, "10.91.0.1", 2222)  # direct, to the same port elsewhere
        direct = t.host.connect("10.91.0.1", 2222)
        self.addCleanup(direct.close)
        self.addCleanup(far.accept()[0].close)
        self.assertEqual(self.json(t.host, "flush", "--dry-run", "--now")["flows_cut"], 3)
        for client, server in alive[1:]:
            self.passes(client, server)
        self.assertIn("3 redirected flows cut", t.host.rules("flush", "--now").stdout)


if __name__ == "__main__":
    lab.main()
