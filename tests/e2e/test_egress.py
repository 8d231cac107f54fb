# SPDX-License-Identifier: MIT
"""From which of its own addresses usocksd connects: the same for a client, whatever it connects to."""
import collections
import ipaddress
import json
import re
import signal
import socket

import lab
import test_auth
import test_usocksd

CLIENTS = 60
EGRESS = tuple(f"10.91.3.1{i}" for i in range(1, 5))
EGRESS6 = tuple(f"fd91:0:3::1{i}" for i in range(1, 5))
PREFIX = "fd91:0:33::/64"
INCOMING = '[incoming]\nallow_from = ["10.91.0.0/16", "fd91::/32"]\n'


def toml(addresses):
    return f"addresses = {json.dumps(list(addresses))}\n"


class Egress(lab.TestCase):
    """usocksd on `proxy` with addresses of its own, many clients on `host`."""

    def start(self, outgoing, wait=True):
        t = self.build("host")
        self.t = t
        t.proxy.ip("\n".join((*(f"addr add {a}/24 dev wan0" for a in EGRESS),
                              *(f"addr add {a}/64 dev wan0 nodad" for a in EGRESS6))))
        t.clients = [f"10.91.0.{100 + i}" for i in range(CLIENTS)]
        t.host.ip("\n".join(f"addr add {a}/24 dev eth0" for a in t.clients))
        t.web = t.inet.peer("banner", "::", 80, 0)
        t.dns = t.inet.peer("dns", "11.0.0.53", 53, "both.test=11.0.0.7", "both.test=2a00:1::7", "six.test=2a00:1::7",
                            *(f"n{i}.test=11.0.0.{i}" for i in range(1, 60)))
        t.config = self.config(outgoing)
        t.count = 0
        t.usocksd = t.proxy.usocksd(t.config, wait=wait)
        return t

    def config(self, outgoing):
        return (f'workers = 2\n{INCOMING}[outgoing]\n{outgoing}\n[dns]\nservers = ["11.0.0.53"]\n'
                '[timeouts]\nconnect = "3s"\n')

    def reload(self, outgoing):
        with open(self.t.usocksd.config, "w", encoding="utf-8") as file:
            file.write(self.config(outgoing))
        done = len(self.t.usocksd.lines(message="configuration reloaded"))
        self.t.usocksd.signal(signal.SIGHUP)
        self.t.usocksd.wait_line(message="configuration reloaded", count=done + 1)

    def ask(self, client, destination, port=80):
        """The reply code, and the address that the reply names."""
        self.t.count += 1
        with self.t.host.connect("10.91.3.2", 1080, source=(client, 0)) as sock:
            sock.sendall(test_usocksd.GREETING + test_usocksd.request(destination, port))
            reply = b""
            while data := sock.recv(100):
                reply += data
        size = 4 if reply[5] == 1 else 16
        return reply[3], str(ipaddress.ip_address(reply[6:6 + size]))

    def egress(self, client, destination="11.0.0.1"):
        """The address that the client goes out by, as the destination has seen it; and so says the reply."""
        before = len(self.seen())
        code, bound = self.ask(client, destination)
        self.assertEqual(code, 0)
        lab.wait_until(lambda: len(self.seen()) > before)
        seen = self.seen()[before]
        self.assertEqual(seen, bound)
        return seen

    def seen(self):
        return re.findall(r"^banner (\S+)\n", self.t.web.log(), re.M)

    def everybody(self):
        return {client: self.egress(client) for client in self.t.clients}

    def status(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(lab.LONG)
            sock.connect("/run/transocks/usocksd.sock")
            sock.sendall(b"status\n")
            with sock.makefile("rb") as stream:
                return {e["address"]: e for e in json.loads(stream.read())["egress"]}


class Addresses(Egress):
    def test_one_client_fifty_destinations(self):
        t = self.start(toml(EGRESS))
        for client in t.clients[:3]:
            seen = {self.egress(client, f"11.0.0.{i}") for i in range(1, 51)}
            seen |= {self.egress(client, f"n{i}.test") for i in range(1, 51)}
            self.assertEqual(len(seen), 1, seen)
        records = t.usocksd.wait_records(t.count)
        for client in t.clients[:3]:
            own = {r["src_addr"].split(":")[0] for r in records if r["client_addr"].startswith(client + ":")}
            self.assertEqual(own, {self.egress(client)})

    def test_all_addresses_are_used_and_kept(self):
        t = self.start(toml(EGRESS))
        first = self.everybody()
        self.assertEqual(set(first.values()), set(EGRESS))
        # Over a reload that reorders the list, and a restart.
        self.reload(toml(reversed(EGRESS)))
        self.assertEqual(self.everybody(), first)
        t.usocksd.signal(signal.SIGTERM)
        self.assertEqual(t.usocksd.wait(), 0)
        t.usocksd = t.proxy.usocksd(t.config)
        self.assertEqual(self.everybody(), first)

    def test_an_address_that_goes_moves_only_its_clients(self):
        t = self.start(toml(EGRESS))
        first = self.everybody()
        t.proxy.ip(f"addr del {EGRESS[1]}/24 dev wan0")
        after = self.everybody()
        self.assertNotIn(EGRESS[1], after.values())
        moved = {c for c in t.clients if after[c] != first[c]}
        self.assertEqual(moved, {c for c in t.clients if first[c] == EGRESS[1]})
        t.usocksd.wait_line(egress=EGRESS[1])
        self.assertEqual([x["error"] for x in t.usocksd.lines(egress=EGRESS[1])], ["no address of this host"])
        self.assertEqual(self.status()[EGRESS[1]]["state"], "not-local")
        # A reload knows it still.
        self.reload(toml(EGRESS))
        self.assertEqual(self.everybody(), after)
        t.proxy.ip(f"addr add {EGRESS[1]}/24 dev wan0")
        t.usocksd.wait_line(egress=EGRESS[1], message="an egress address can be used again", seconds=20)
        self.assertEqual(self.everybody(), first)
        self.assertEqual(len(t.usocksd.lines(egress=EGRESS[1])), 2)
        status = self.status()
        self.assertEqual({a: status[a]["state"] for a in EGRESS}, dict.fromkeys(EGRESS, "ok"))
        self.assertGreaterEqual(status[EGRESS[1]]["failed_binds"], 1)

    def test_an_address_that_never_was(self):
        t = self.start(toml((*EGRESS, "10.91.3.99")))
        t.usocksd.wait_line(egress="10.91.3.99", message="an egress address cannot be used, its clients go out by others")
        self.assertEqual(set(self.everybody().values()), set(EGRESS))
        self.assertEqual(self.status()["10.91.3.99"]["failed_binds"], 0)
        # Who has written it can be told before. Of a prefix no interface need have an address.
        t.usocksd.config.write_text(self.config(toml((*EGRESS, "10.91.3.99", "fd91:0:3:9::/64"))) +
                                    '[[outgoing.users]]\nclients = ["10.91.0.7"]\naddresses = ["10.91.3.98"]\n')
        check = t.proxy.run(lab.BUILD / "usocksd", "-f", t.usocksd.config, "--check").stdout
        self.assertEqual([(x.split('"')[1], x.split('": ')[1]) for x in check.splitlines()[:-1]], [
            (f"outgoing.{option}", f"{address} is not an address of this host, so no connection comes from it")
            for option, address in (("addresses", "10.91.3.99"), ("users.addresses", "10.91.3.98"))])

    def test_none_left(self):
        t = self.start(toml(("10.91.3.98", "10.91.3.99")))
        code, _ = self.ask(t.clients[0], "11.0.0.1")
        self.assertEqual(code, 1)
        record = t.usocksd.wait_records(1)[0]
        self.assertEqual(record["end"], "connect-failed")
        self.assertIn("outgoing.addresses", record["error"])
        self.assertNotIn("src_addr", record)
        # One comes: no flow has to find that out.
        t.proxy.ip("addr add 10.91.3.98/24 dev wan0")
        t.usocksd.wait_line(egress="10.91.3.98", message="an egress address can be used again", seconds=20)
        self.assertEqual(set(self.everybody().values()), {"10.91.3.98"})

    def test_families(self):
        t = self.start(toml((*EGRESS, *EGRESS6)))
        for client in t.clients[:20]:
            four = {self.egress(client, d) for d in ("11.0.0.1", "n5.test", "11.0.0.9")}
            six = {self.egress(client, d) for d in ("2a00:1::1", "six.test", "2a00:1::9")}
            self.assertEqual((len(four), len(six)), (1, 1))
            self.assertTrue(four < set(EGRESS) and six < set(EGRESS6))
        # Without an address of a family nothing goes out in it.
        self.reload(toml(EGRESS))
        code, _ = self.ask(t.clients[0], "2a00:1::1")
        self.assertEqual(code, 3)
        t.usocksd.wait_line(end="connect-failed", error="the client's own addresses have none of the destination's family")
        self.assertIn(self.egress(t.clients[0], "both.test"), EGRESS)

    def test_weights(self):
        t = self.start(toml((f"{EGRESS[0]} weight=20", EGRESS[1])))
        seen = collections.Counter(self.everybody().values())
        self.assertGreater(seen[EGRESS[0]], CLIENTS * 3 // 4)
        text = t.proxy.run(lab.BUILD / "usocksd", "-f", t.usocksd.config, "--dump-config").stdout
        self.assertIn(f'addresses = ["{EGRESS[0]} weight=20", "{EGRESS[1]}"]', text)

    def test_prefix(self):
        """Each client has an address of its own in it, that no interface has."""
        t = self.start(toml((PREFIX,)))
        t.proxy.ip(f"route add local {PREFIX} dev lo")
        t.inet.ip(f"route add {PREFIX} via fd91:0:3::2")
        seen = {client: self.egress(client, "2a00:1::1") for client in t.clients[:20]}
        self.assertEqual(len(set(seen.values())), 20)
        for address in seen.values():
            self.assertIn(ipaddress.ip_address(address), ipaddress.ip_network(PREFIX))
        self.assertEqual({c: self.egress(c, "six.test") for c in seen}, seen)
        # It leads back to this host, where clients have nothing to do.
        self.assertEqual(self.ask(t.clients[0], "fd91:0:33::1", 1080)[0], 2)
        t.usocksd.wait_line(end="network-refused")
        self.assertEqual(self.status()[PREFIX]["connects"], 40)

    def test_live_flows_are_counted(self):
        t = self.start(toml(EGRESS[:1]))
        t.inet.peer("echo", "::", 7)
        with t.host.connect("10.91.3.2", 1080) as sock:
            sock.sendall(test_usocksd.GREETING + test_usocksd.request("11.0.0.1", 7) + b"x")
            reply = b""
            while len(reply) < 13:
                reply += sock.recv(100)
            self.assertEqual(self.status()[EGRESS[0]], {
                "address": EGRESS[0], "state": "ok", "flows": 1, "connects": 1, "failed": 0, "failed_binds": 0,
                "bytes_up": 0, "bytes_down": 0})
        lab.wait_until(lambda: self.status()[EGRESS[0]]["flows"] == 0)
        ended = self.status()[EGRESS[0]]
        self.assertEqual((ended["bytes_up"], ended["bytes_down"]), (1, 1))
        self.assertEqual(self.ask("10.91.0.2", "11.0.0.1", 9)[0], 5)
        self.assertEqual(self.status()[EGRESS[0]]["failed"], 1)
        text = t.proxy.run(lab.BUILD / "usocksd", "-f", t.usocksd.config, "--status").stdout
        self.assertRegex(text, rf"(?m)^ +0 +1 +1 +ok +{re.escape(EGRESS[0])}$")

    def test_without_addresses(self):
        t = self.start("")
        self.assertEqual(self.egress(t.clients[0]), "10.91.3.2")
        self.assertEqual(self.status(), {})
        self.assertTrue(t.usocksd.wait_records(1)[0]["src_addr"].startswith("10.91.3.2:"))


class Users(Egress):
    OUTGOING = toml(EGRESS[:2]) + """
[[outgoing.users]]
clients = ["10.91.0.110", "10.91.0.128/26"]
addresses = ["10.91.3.13", "fd91:0:3::13"]
[[outgoing.users]]
Clients = ["10.91.0.0/24"]
addresses = ["fd91:0:33::/64"]
"""

    def test_who_has_which(self):
        t = self.start(toml(EGRESS[:2]) + self.OUTGOING.split("\n", 1)[1].rsplit("[[", 1)[0])
        for client, seen in self.everybody().items():
            last = int(client.split(".")[3])
            if last == 110 or last >= 128:
                self.assertEqual(seen, EGRESS[2])
            else:
                self.assertIn(seen, EGRESS[:2])
        # Of those, and not of the others.
        self.assertEqual(self.egress(t.clients[10], "2a00:1::1"), EGRESS6[2])
        self.assertEqual(self.ask(t.clients[0], "2a00:1::1")[0], 3)
        self.reload(self.OUTGOING)
        self.assertEqual(self.egress(t.clients[10]), EGRESS[2])
        self.assertEqual(self.ask(t.clients[0], "11.0.0.1")[0], 3)

    def test_by_login(self):
        """Which user has which, from wherever; and who from some clients alone."""
        path = test_auth.users_file("".join(test_auth.line(user, "secret") for user in ("alice", "bob", "carol")))
        text = f"""
[[outgoing.users]]
users = ["carol", "alice"]
addresses = ["10.91.3.13"]
[[outgoing.users]]
users = ["bob"]
clients = ["10.91.0.128/26"]
addresses = ["10.91.3.14"]
"""
        auth = f'[auth]\nfile = "{path}"\n'
        t = self.start(toml(EGRESS[:2]) + text + auth)
        near, far = t.clients[0], t.clients[-1]  # 10.91.0.100, 10.91.0.159

        def egress(client, user):
            with t.host.connect("10.91.3.2", 1080, source=(client, 0)) as sock:
                sock.sendall(b"\x05\x01\x02" + test_auth.login(user, "secret") + test_usocksd.request("11.0.0.1", 80))
                reply = b""
                while data := sock.recv(100):
                    reply += data
            self.assertEqual(reply[:8], b"\x05\x02\x01\x00\x05\x00\x00\x01")
            return str(ipaddress.ip_address(reply[8:12]))
        for client in (near, far):
            self.assertEqual((egress(client, "alice"), egress(client, "carol")), (EGRESS[2], EGRESS[2]))
        self.assertEqual(egress(far, "bob"), EGRESS[3])
        self.assertIn(egress(near, "bob"), EGRESS[:2])
        self.assertEqual({(r["user"], r["src_addr"].split(":")[0]) for r in t.usocksd.wait_records(6)
                          if r["user"] != "bob"}, {("alice", EGRESS[2]), ("carol", EGRESS[2])})
        # A user who goes is missed.
        path.write_text(test_auth.line("bob", "secret"))
        t.usocksd.signal(signal.SIGHUP)
        t.usocksd.wait_log("reload failed.*there is no user .*alice.* in the file that .*auth.file.* names")
        self.assertEqual(egress(near, "alice"), EGRESS[2])

    def test_configuration(self):
        host = self.lonely()

        def run(flag, text):
            return host.run(lab.BUILD / "usocksd", flag, "-f", "/dev/stdin", check=False, stdin="[outgoing]\n" + text)
        dumped = run("--dump-config", self.OUTGOING).stdout
        self.assertIn('\n[[outgoing.users]]\nclients = ["10.91.0.110/32", "10.91.0.128/26"]\n#users =\n'
                      'addresses = ["10.91.3.13", "fd91:0:3::13"]\n', dumped)
        again = host.run(lab.BUILD / "usocksd", "--dump-config", "-f", "/dev/stdin", stdin=dumped).stdout
        self.assertEqual(again, dumped)
        for text, error in (
                ('[[outgoing.users]]\nclients = ["10.0.0.0/8"]\n', 'without "addresses"'),
                ('[[outgoing.users]]\naddresses = ["10.0.0.1"]\n', 'without "clients"'),
                ('[[outgoing.users]]\nusers = ["bob"]\naddresses = ["10.0.0.1"]\n', 'without "auth.file" nobody logs in'),
                ('[[outgoing.users]]\nusers = ["a:b"]\n', "is not a user of auth.file"),
                ('[[outgoing.users]]\nusers = [7]\n', "strings in its list"),
                ('[[outgoing.user]]\nclients = ["10.0.0.0/8"]\n', "did you mean [[outgoing.users]]?"),
                ('[outgoing.users]\nclients = ["10.0.0.0/8"]\n', "write [[outgoing.users]]"),
                ('users = ["10.0.0.0/8"]\n', "write [[outgoing.users]]"),
                ('[[outgoing.users]]\nclient = ["10.0.0.0/8"]\n', 'did you mean "clients"?'),
                ('addresses = ["10.0.0.0/8"]\n', "write IPv4 addresses one by one"),
                ('addresses = ["0.0.0.0"]\n', "the kernel chooses"),
                ('addresses = ["10.0.0.1 weight=0"]\n', "a weight 1..1000")):
            with self.subTest(text):
                done = run("--check", text)
                self.assertEqual(done.returncode, 78)
                self.assertIn(error, done.stderr)


@lab.needs_uids
@lab.needs_program("vsftpd")
class Ftp(Egress):
    """vsftpd refuses a data connection that does not come from where its control connection comes from."""

    def serve(self):
        root, empty = lab.WORK / "ftp", lab.WORK / "ftp-empty"
        for path in (lab.WORK, root, empty):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        (root / "hello").write_text("hello by ftp\n")
        config = lab.WORK / "vsftpd.conf"
        config.write_text(f"listen=YES\nlisten_address=11.0.0.21\nbackground=NO\nanonymous_enable=YES\n"
                          f"no_anon_password=YES\nanon_root={root}\nsecure_chroot_dir={empty}\n"
                          f"seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\npasv_promiscuous=NO\n"
                          f"xferlog_enable=YES\nvsftpd_log_file={lab.WORK / 'vsftpd.log'}\n")
        ftp = self.t.inet.spawn("vsftpd", config)
        self.t.inet.wait_port(21, alive=ftp)

    def test_passive(self):
        """Control by name and data by address, at each of the addresses."""
        t = self.start(toml(EGRESS))
        t.dns.kill()
        t.inet.peer("dns", "11.0.0.53", 53, "ftp.test=11.0.0.21")
        self.serve()
        used = self.everybody()
        for address in EGRESS:
            client = next(c for c in t.clients if used[c] == address)
            for way in ("--disable-epsv", "--ftp-pasv"):
                done = t.host.curl("-sS", "--interface", client, "--socks5-hostname", "10.91.3.2:1080", way,
                                   "--no-ftp-skip-pasv-ip", "ftp://ftp.test/hello")
                self.assertEqual(done.stdout, "hello by ftp\n")
        log = (lab.WORK / "vsftpd.log").read_text()
        self.assertEqual(set(re.findall(r'OK DOWNLOAD: Client "([^"]+)"', log)), set(EGRESS))


class Iface(Egress):
    def test_interface(self):
        """Beside addresses, which it leaves in force."""
        t = self.start('iface = "wan0"\nallow_anyway = ["127.0.0.0/8"]\n' + toml(EGRESS[:1]))
        self.assertEqual(self.egress(t.clients[0]), EGRESS[0])
        self.reload('iface = "lo"\nallow_anyway = ["127.0.0.0/8"]\n')
        self.assertNotEqual(self.ask(t.clients[0], "11.0.0.1")[0], 0)
        # What is on this host goes there whatever the interface.
        self.reload('iface = "wan0"\nallow_anyway = ["127.0.0.0/8"]\n')
        t.proxy.peer("banner", "127.0.0.1", 80, 0)
        self.assertEqual(self.ask(t.clients[0], "127.0.0.1")[0], 0)

    def test_one_that_is_missing(self):
        t = self.start('iface = "tun7"\n')
        t.usocksd.wait_line(iface="tun7", severity="error")
        self.assertEqual(self.ask(t.clients[0], "11.0.0.1")[0], 1)
        self.assertEqual(t.usocksd.wait_records(1)[0]["error"], "No such device")
        t.proxy.ip("link add tun7 type veth peer name tun8")
        t.usocksd.wait_line(iface="tun7", message="the interface is there again", seconds=20)
        self.assertEqual(len(t.usocksd.lines(iface="tun7")), 2)

    def test_not_a_name(self):
        done = self.lonely().run(lab.BUILD / "usocksd", "--check", "-f", "/dev/stdin", check=False,
                                 stdin='[outgoing]\niface = "a/b"\n')
        self.assertEqual(done.returncode, 78)
        self.assertIn('"a/b" is not the name of an interface', done.stderr)


if __name__ == "__main__":
    lab.main()
