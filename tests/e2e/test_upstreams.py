# SPDX-License-Identifier: MIT
"""Every protocol that an upstream may speak, with servers of others: what passes, and what they refuse."""
import pathlib
import re
import signal
import time

import flow
import lab

FAMILIES = (("11.0.0.1", "http://11.0.0.1/", "10.91.3.2"),
            ("2a00:1::1", "http://[2a00:1::1]/", "fd91:0:3::2"))
BLOCKED = "11.0.0.66"
# "secret", as crypt(3) has it.
SECRET = "$5$89HBgsAZbDTAHkOI$8ASuOsdthOH318XQDO4JfONJUnT84qArv/5m1AzarO5"
NOBODY = "root" if lab.ONE_UID else "nobody"
NCSA = "/usr/lib/squid/basic_ncsa_auth"

DANTED = f"""
logoutput: stderr
internal: 10.91.3.2 port = 1080
external: wan0
clientmethod: none
socksmethod: %s
user.privileged: root
user.unprivileged: {NOBODY}
client pass {{ from: 0/0 to: 0/0 }}
socks block {{ from: 0/0 to: {BLOCKED}/32 }}
socks pass {{ from: 0/0 to: 0/0 }}
"""

SQUID = f"""
http_port 10.91.3.2:3128
visible_hostname proxy.test
pid_filename none
cache_effective_user {NOBODY}
cache_log /dev/null
access_log none
cache deny all
pinger_enable off
shutdown_lifetime 0
connect_timeout 5 seconds
%s
acl blocked dst {BLOCKED}
http_access deny blocked
http_access allow all
"""

SQUID_USERS = f"""
auth_param basic program {NCSA} %s
auth_param basic children 1
acl users proxy_auth REQUIRED
http_access deny !users
"""

TINYPROXY = f"""
User {NOBODY}
Port 8888
Listen 10.91.3.2
Timeout 10
ConnectPort 80
ConnectPort 9
ConnectPort {flow.PORT}
"""


class Upstreams(lab.TestCase):
    def start(self, upstream, timeouts=""):
        t = self.build("host")
        t.flows = 0
        t.transocksd = t.host.transocksd(f'proxy_url = "{upstream}"\n[timeouts]\n{timeouts}\n')
        t.host.rules("install")
        return t

    def squid(self, t, users=False):
        more = ""
        if users:
            passwords = lab.WORK / "squid.users"
            passwords.write_text(f"bob:{SECRET}\n")
            more = SQUID_USERS % passwords
        config = lab.WORK / "squid.conf"
        config.write_text(SQUID % more)
        proc = t.proxy.spawn("squid", "-N", "-f", config)
        t.proxy.wait_port(3128, alive=proc)

    def tinyproxy(self, t, more=""):
        config = lab.WORK / "tinyproxy.conf"
        config.write_text(TINYPROXY + more)
        proc = t.proxy.spawn("tinyproxy", "-d", "-c", config)
        t.proxy.wait_port(8888, alive=proc)

    def danted(self, t, method="none"):
        config = lab.WORK / "danted.conf"
        config.write_text(DANTED % method)
        proc = t.proxy.spawn("danted", "-f", config)
        t.proxy.wait_port(1080, alive=proc)

    def microsocks(self, t):
        t.proxy.spawn("microsocks", "-i", "10.91.3.2", "-p", "1080", "-u", "bob", "-P", "secret")
        t.proxy.wait_port(1080)

    def ended(self, t, count=1):
        """The record of the last flow, once `count` more have ended."""
        t.flows += count
        return t.transocksd.wait_records(t.flows)[-1]

    def pages(self, t, families=FAMILIES):
        """By each family; the server must have seen the proxy, not the client."""
        t.inet.peer("http", "::", 80)
        for address, url, source in families:
            page = t.host.curl(url).stdout
            self.assertEqual(page, f"This is {address}, and you came from {source}.\n")
            self.assertEqual(self.ended(t)["end"], "done")

    def speaks_first(self, t, length=1_000_000):
        """What the server says at once, byte for byte, and its end."""
        t.inet.peer("banner", "::", flow.PORT, length)
        with t.host.connect("11.0.0.1", flow.PORT) as sock:
            flow.read_pattern(sock, length)
            self.assertEqual(sock.recv(1), b"")
        self.assertEqual(self.ended(t)["end"], "done")

    def refused(self, t, error, address="11.0.0.1", port=80, end="reply-refused", hint=None):
        """A flow that ends with a reset, and what the log says of it; `hint` is part of what it has to say."""
        self.assertEqual(t.host.expect_reset(address, port, b"GET / HTTP/1.0\r\n\r\n"), b"")
        record = self.ended(t)
        self.assertEqual((record["end"], record.get("error")), (end, error))
        self.assertIn(hint or "", record.get("hint", ""))
        self.assertEqual("hint" in record, hint is not None, record)

    # SOCKS5

    @lab.needs_uids  # dante asks the system, and that an account is there
    @lab.needs_program("danted")
    def test_danted_with_a_password(self):
        passwd, shadow = pathlib.Path("/etc/passwd"), pathlib.Path("/etc/shadow")
        passwd.write_text(passwd.read_text() + "bob:x:64322:64322::/:/usr/sbin/nologin\n")
        shadow.write_text(f"bob:{SECRET}:19000:0:99999:7:::\n")
        t = self.start("socks5://bob:secret@10.91.3.2:1080")
        self.danted(t, "username")
        self.pages(t, FAMILIES[:1])
        self.refused(t, "connection not allowed by ruleset", BLOCKED)

    @lab.needs_program("danted")
    def test_danted_refuses(self):
        t = self.start("socks5://10.91.3.2:1080")
        self.danted(t)
        self.refused(t, "connection not allowed by ruleset", BLOCKED)
        self.refused(t, "connection refused", port=9)

    @lab.needs_program("microsocks")
    def test_microsocks_with_a_password(self):
        t = self.start("socks5://bob:secret@10.91.3.2:1080")
        self.microsocks(t)
        self.pages(t)

    @lab.needs_program("microsocks")
    def test_microsocks_wants_a_password(self):
        t = self.start("socks5://10.91.3.2:1080")
        self.microsocks(t)
        self.refused(t, "the upstream wants authentication, and no user is configured",
                     end="greeting-failed", hint="upstream.auth_file")

    @lab.needs_program("microsocks")
    def test_microsocks_wants_another_password(self):
        t = self.start("socks5://bob:sesame@10.91.3.2:1080")
        self.microsocks(t)
        self.refused(t, "the upstream refused the user name or password", end="reply-failed",
                     hint="upstream.auth_file")

    # HTTP CONNECT

    @lab.needs_uids  # squid gives up its groups
    @lab.needs_program("squid")
    def test_squid(self):
        t = self.start("http://10.91.3.2:3128")
        self.squid(t)
        self.pages(t)
        self.speaks_first(t)

    @lab.needs_uids  # squid gives up its groups
    @lab.needs_program("squid")
    def test_squid_refuses(self):
        t = self.start("http://10.91.3.2:3128")
        self.squid(t)
        self.refused(t, "403 Forbidden", BLOCKED)
        self.refused(t, "503 Service Unavailable", port=9)

    @lab.needs_uids  # squid gives up its groups
    @lab.needs_program("squid")
    def test_squid_with_a_password(self):
        t = self.start("http://bob:secret@10.91.3.2:3128")
        self.squid(t, users=True)
        self.pages(t)

    @lab.needs_uids  # squid gives up its groups
    @lab.needs_program("squid")
    def test_squid_wants_a_password(self):
        for user, error in (("", "the upstream asks for Basic, and no user is configured"),
                            ("bob:sesame@", "the user name or password is not accepted")):
            with self.subTest(user=user):
                t = self.start(f"http://{user}10.91.3.2:3128")
                self.squid(t, users=True)
                self.refused(t, f"407 Proxy Authentication Required: {error}", hint="upstream.auth_file")

    @lab.needs_program("tinyproxy")
    def test_tinyproxy(self):
        t = self.start("http://10.91.3.2:8888")
        self.tinyproxy(t)
        self.pages(t)
        self.speaks_first(t)

    @lab.needs_program("tinyproxy")
    def test_tinyproxy_refuses(self):
        t = self.start("http://10.91.3.2:8888")
        self.tinyproxy(t)
        self.refused(t, "403 Forbidden", port=22)
        self.refused(t, "500 Internal Server Error", port=9)

    @lab.needs_program("tinyproxy")
    def test_tinyproxy_with_a_password(self):
        t = self.start("http://bob:secret@10.91.3.2:8888")
        self.tinyproxy(t, "BasicAuth bob secret\n")
        self.pages(t)

    @lab.needs_program("tinyproxy")
    def test_tinyproxy_wants_a_password(self):
        t = self.start("http://10.91.3.2:8888")
        self.tinyproxy(t, "BasicAuth bob secret\n")
        self.refused(t, "407 Proxy Authentication Required: the upstream asks for Basic, and no "
                        "user is configured", hint="upstream.auth_file")

    def test_what_is_said_to_a_proxy(self):
        t = self.start("http://bob:secret@10.91.3.2:8080")
        proxy = t.proxy.peer("connect", "10.91.3.2", 8080, "reply", r"HTTP/1.1 200 OK\n\nhello")
        for address, authority in (("11.0.0.1", "11.0.0.1:80"), ("2a00:1::1", "[2a00:1::1]:80")):
            with t.host.connect(address, 80) as sock:
                self.assertEqual(sock.recv(100), b"hello")
                sock.sendall(b"ping")
                self.assertEqual(sock.recv(100), b"ping")
            proxy.wait_log(rf"^connect CONNECT {re.escape(authority)} HTTP/1\.1 \| "
                           rf"Host: {re.escape(authority)} \| "
                           r"Proxy-Authorization: Basic Ym9iOnNlY3JldA==$")

    def test_no_greeting_is_waited_for(self):
        """A destination may take longer than a greeting."""
        t = self.start("http://10.91.3.2:8080", 'greeting = "100ms"\nreply = "400ms"')
        t.proxy.peer("connect", "10.91.3.2", 8080)
        self.refused(t, "Connection timed out", end="reply-timeout")

    # SOCKS4 and 4a

    @lab.needs_program("danted")
    def test_danted_by_socks4(self):
        t = self.start("socks4a://bob@10.91.3.2:1080")
        self.danted(t)
        self.pages(t, FAMILIES[:1])
        self.speaks_first(t)
        self.refused(t, "request rejected or failed", BLOCKED)

    def test_socks4a(self):
        t = self.start("socks4a://bob@10.91.3.2:1080")
        proxy = t.proxy.peer("socks4", "10.91.3.2", 1080)
        self.pages(t)
        proxy.wait_log(r"^socks4 4 1 user=bob 11\.0\.0\.1 80$")
        proxy.wait_log(r"^socks4 4 1 user=bob 2a00:1::1 80$")

    def test_socks4_codes(self):
        for code, end, error in (
                (91, "reply-refused", "request rejected or failed"),
                (92, "reply-refused", "the upstream asks for identd, which does not run here"),
                (93, "reply-refused", "identd here reports another user id"),
                (1, "reply-failed", "the upstream's reply has an unknown code")):
            with self.subTest(code=code):
                t = self.start("socks4a://10.91.3.2:1080")
                t.proxy.peer("socks4", "10.91.3.2", 1080, "code", code)
                self.refused(t, error, end=end, hint="scheme" if end == "reply-failed" else None)

    # One for another

    def test_another_protocol(self):
        """None of them answers in the upstream's own words."""
        for scheme, answer, end, error in (
                ("http", "no-method", "reply-failed", "the upstream does not speak HTTP"),
                ("socks4a", "no-method", "reply-failed", "the upstream does not speak SOCKS4"),
                ("socks4a", "garbage", "reply-failed", "the upstream does not speak SOCKS4"),
                ("socks5", "garbage", "greeting-failed", "the upstream does not speak SOCKS5")):
            with self.subTest(scheme=scheme, answer=answer):
                t = self.start(f"{scheme}://10.91.3.2:1080")
                t.proxy.peer("socks", "10.91.3.2", 1080, answer)
                self.refused(t, error, end=end, hint="scheme")

    def test_proxy_protocol_where_it_is_not_expected(self):
        t = self.build("host")
        t.flows = 0
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.transocksd = t.host.transocksd('[[upstream]]\nurl = "socks5://10.91.3.2:1080"\n'
                                         'proxy_protocol = true\n')
        t.host.rules("install")
        self.refused(t, "the upstream closed the connection during the handshake",
                     end="greeting-failed", hint="upstream.proxy_protocol")

    # By name

    def by_name(self, *names):
        """An upstream of that name, asked for by one worker."""
        t = self.build("host")
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\n'
                        'allow_from = ["10.91.0.0/16"]\n')
        t.inet.peer("echo", "::", 7)
        t.dns = t.inet.peer("dns", "10.91.0.1", 53, *names)
        t.transocksd = t.host.transocksd('workers = 1\nproxy_url = "socks5://proxy.test:1080"\n'
                                         '[dns]\nservers = ["10.91.0.1"]\n')
        t.host.rules("install")
        return t

    def echoes(self, t, count=1):
        for _ in range(count):
            with t.host.connect("11.0.0.1", 7) as sock:
                self.assertTrue(flow.talk(sock))

    def test_a_name_is_asked_for_once(self):
        t = self.by_name("proxy.test=10.91.3.2")
        self.echoes(t, 20)
        self.assertEqual(sorted(re.findall(r"^dns proxy.test (\w+)$", t.dns.log(), re.M)),
                         ["A", "AAAA"])

    def test_name_servers_gone(self):
        """The address serves on beyond its time, and the log says so once."""
        t = self.by_name("proxy.test=10.91.3.2", "proxy.test=brief")
        self.echoes(t)
        t.dns.kill()
        time.sleep(1.2)
        self.echoes(t, 5)
        said = [line for line in t.transocksd.lines(severity="warning") if "name" in line]
        self.assertEqual([(line["name"], line["error"]) for line in said],
                         [("proxy.test", "the name servers refuse or fail")])

    # From several addresses

    def from_sources(self, *sources):
        t = self.build("host")
        t.host.ip("addr add 10.91.0.3/24 dev eth0\naddr add 10.91.0.4/24 dev eth0")
        t.usocksd = t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\n'
                                    'allow_from = ["10.91.0.0/16"]\n')
        t.inet.peer("echo", "::", 7)
        t.transocksd = t.host.transocksd('[[upstream]]\nurl = "socks5://10.91.3.2:1080"\n'
                                         f'source = {list(sources)}\n'.replace("'", '"'))
        t.host.rules("install")
        return t

    def flows(self, t, count, first=1):
        """Sockets of so many flows, each to an address of its own."""
        socks = []
        for number in range(first, first + count):
            socks.append(t.host.connect(f"11.0.1.{number}", 7))
            self.addCleanup(socks[-1].close)
            self.assertTrue(flow.talk(socks[-1]))
        return socks

    def test_source_addresses_take_turns(self):
        t = self.from_sources("10.91.0.3", "10.91.0.9", "10.91.0.4")  # one is not ours
        for sock in self.flows(t, 12):
            sock.close()
        clients = [r["client_addr"].rpartition(":")[0] for r in t.usocksd.wait_records(12)]
        self.assertEqual(set(clients), {"10.91.0.3", "10.91.0.4"})
        self.assertEqual(t.transocksd.lines(message="flow failed"), [])
        # Who has written it is told: at the start, at a reload, and before.
        foreign = 'option "upstream.source": 10.91.0.9 is not an address of this host'
        said, = t.transocksd.lines(severity="warning")
        self.assertRegex(said["message"], rf"^{t.transocksd.config}:\d+: {foreign}")
        check = t.host.run(lab.BUILD / "transocksd", "-f", t.transocksd.config, "--check").stdout
        self.assertRegex(check, rf"^{t.transocksd.config}:\d+: note: {foreign}.*\nconfiguration OK\n$")
        t.transocksd.signal(signal.SIGHUP)
        t.transocksd.wait_line(message="configuration reloaded")
        self.assertEqual([x["message"] for x in t.transocksd.lines(severity="warning")],
                         [said["message"]] * 2)

    def test_no_source_address_of_this_host(self):
        t = self.from_sources("10.91.0.9")
        t.flows = 0
        self.refused(t, "no source address is one of this host", end="connect-failed")
        self.assertEqual(flow.status(t.host, t.transocksd)["upstreams"][0]["state"], "up")

    def test_no_source_address_of_the_family(self):
        t = self.build("host")
        t.flows = 0
        t.inet.peer("dns", "10.91.0.1", 53, "proxy.test=10.91.3.2")
        t.transocksd = t.host.transocksd('[[upstream]]\nurl = "socks5://proxy.test:1080"\n'
                                         'source = ["fd91::2"]\n'
                                         '[dns]\nservers = ["10.91.0.1"]\n')
        t.host.rules("install")
        self.refused(t, "no source address is of the upstream's family", end="connect-failed")

    def test_ports_of_all_source_addresses(self):
        """One address takes as many flows as there are ports; then the next; then none."""
        t = self.from_sources("10.91.0.3", "10.91.0.4")
        t.host.sysctl("net.ipv4.ip_local_port_range", "40000 40003")
        socks = self.flows(t, 8)
        for _ in range(2):
            t.host.expect_reset("11.0.1.100", 7, b"ping")
        for record in t.transocksd.wait_records(2):
            self.assertEqual((record["end"], record["error"]),
                             ("connect-failed", "no source address has a port left towards the "
                                                "upstream"))
        flow.reset(socks[3])
        t.transocksd.wait_records(3)
        self.flows(t, 1, first=50)
        self.assertEqual(len(t.transocksd.lines(type="access")), 3)


if __name__ == "__main__":
    lab.main()
