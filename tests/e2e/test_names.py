# SPDX-License-Identifier: MIT
"""What transocksd learns of a flow's name, what it tells upstreams, and what rules make of it."""
import signal
import socket
import ssl
import time
import unittest

import flow
import lab
import peers

SITE = "11.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"


def tls_hello(name):
    """The first bytes of a TLS client that wants `name` (None: it says none)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


class Upstream(lab.TestCase):
    """An upstream that writes down what it is asked for, and then refuses."""

    def start(self, config="", upstream="", kind="host"):
        t = self.build(kind)
        t.asked = t.proxy.peer("socks", "10.91.3.2", 1080, "code", 2)
        t.daemon = t.host.transocksd(f"""
            workers = 1
            handshake = "strict"
            {config}
            [[upstream]]
            name = "proxy"
            url = "socks5://10.91.3.2:1080"
            {upstream}""")
        t.host.rules("install")
        return t

    def asks(self, t, sends, port=80, address=SITE):
        """What the upstream is asked for by a client that sends this."""
        since = len(t.asked.log())
        t.host.expect_reset(address, port, sends)
        t.asked.wait_log("socks request", since=since)
        words = t.asked.log()[since:].split("socks request ")[1].split()
        return words[0], int(words[1])

    def record(self, t, count=1):
        return t.daemon.wait_records(count)[-1]


class Told(Upstream):
    def test_the_name_of_an_http_request(self):
        t = self.start()
        self.assertEqual(self.asks(t, REQUEST % b"www.Example.COM."), ("www.example.com", 80))
        record = self.record(t)
        self.assertEqual(record["dest_host"], "www.example.com")
        self.assertEqual(record["name_from"], "http")
        self.assertEqual(record["dest_addr"], f"{SITE}:80")
        self.assertEqual(record["upstream"], "proxy")

    def test_the_server_name_of_tls(self):
        t = self.start()
        self.assertEqual(self.asks(t, tls_hello("www.example.com"), 443), ("www.example.com", 443))
        self.assertEqual(self.record(t)["name_from"], "tls")

    def test_the_same_over_ipv6(self):
        t = self.start()
        asked = self.asks(t, tls_hello("six.example"), 443, "2a00:1::1")
        self.assertEqual(asked, ("six.example", 443))

    def test_the_address_where_there_is_no_name(self):
        t = self.start()
        for sends, port in ((tls_hello(None), 443), (REQUEST % b"11.0.0.9", 80),
                            (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", 80),
                            (b"GET http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", 80),
                            (b"GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 80),
                            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 80), (b"SSH-2.0-x\r\n", 443)):
            with self.subTest(sends[:20]):
                self.assertEqual(self.asks(t, sends, port), (SITE, port))
        self.assertNotIn("dest_host", self.record(t, 7))

    def test_a_target_with_the_site_in_it(self):
        """As a proxy is asked; where the port is the flow's own it may as well be the site."""
        t = self.start()
        for target in (b"http://a.example/", b"http://a.example:80/"):
            with self.subTest(target):
                sends = b"GET " + target + b" HTTP/1.1\r\nHost: a.example\r\n\r\n"
                self.assertEqual(self.asks(t, sends), ("a.example", 80))

    def test_other_ports_are_not_looked_at(self):
        t = self.start()
        self.assertEqual(self.asks(t, REQUEST % b"www.example.com", 8080), (SITE, 8080))

    def test_a_hello_in_pieces(self):
        t = self.start()
        hello = tls_hello("pieces.example")
        client = t.host.connect(SITE, 443)
        self.addCleanup(client.close)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in hello:
            client.sendall(bytes([byte]))
        t.asked.wait_log("socks request pieces.example 443")

    def test_address_ip_never_tells_the_name(self):
        t = self.start(upstream='address = "ip"')
        self.assertEqual(self.asks(t, REQUEST % b"www.example.com"), (SITE, 80))
        self.assertEqual(self.record(t)["dest_host"], "www.example.com")

    def test_address_auto_tells_it_where_a_rule_decided_on_it(self):
        t = self.start("""
            [[rule]]
            networks = ["11.0.0.1"]
            domains = [".example.com"]
            action = "proxy"
            """, 'address = "auto"')
        for name in (b"www.example.com", b"www.example.org"):  # which one it is decides
            self.assertEqual(self.asks(t, REQUEST % name), (name.decode(), 80))
        self.assertEqual(self.asks(t, REQUEST % b"www.example.com", 80, "11.0.0.2"),
                         ("11.0.0.2", 80))

    def test_a_name_that_the_upstream_refuses_is_not_replaced_by_the_address(self):
        t = self.start()
        self.asks(t, REQUEST % b"www.example.com")
        self.assertEqual(t.asked.log().count("socks request"), 1)

    def test_the_log_names_the_option_where_the_name_may_be_the_reason(self):
        t = self.build("host")
        t.asked = t.proxy.peer("socks", "10.91.3.2", 1080, "code", 4)
        t.daemon = t.host.transocksd('workers = 1\nhandshake = "strict"\nproxy_url = "socks5://10.91.3.2:1080"\n')
        t.host.rules("install")
        self.asks(t, REQUEST % b"www.example.com")
        record = self.record(t)
        self.assertEqual(record["error"], "host unreachable")
        self.assertIn("name_fallback", record["hint"])

    def test_name_fallback_is_for_replies_that_may_mean_the_name(self):
        """Not where a destination was found and refused, was not reached, or is forbidden."""
        def socks(code):
            return "socks5", ("socks", "code", code), "socks request"

        def http(status):
            return "http", ("connect", "reply", f"HTTP/1.1 {status} No\\r\\nContent-Length: 0\\r\\n\\r\\n"), "connect CONNECT"

        cases = (*((socks(code), 2) for code in (1, 4, 8)), *((socks(code), 1) for code in (2, 3, 5, 6)),
                 (("socks5", ("socks", "cut"), "socks request"), 1),
                 (("socks4a", ("socks4", "code", 91), "socks4 4"), 2),
                 *((http(status), 2) for status in (502, 503)), *((http(status), 1) for status in (403, 410)))
        t = self.build("host")
        upstreams, rules = '[[upstream]]\nurl = "direct://"\n', ""
        for i, ((scheme, (kind, *args), _), _) in enumerate(cases):
            t.proxy.peer(kind, "10.91.3.2", 2000 + i, *args)
            upstreams += (f'[[upstream]]\nname = "u{i}"\ngroup = "g{i}"\nurl = "{scheme}://10.91.3.2:{2000 + i}"\n'
                          'name_fallback = true\n')
            rules += f'[[rule]]\nports = [{3000 + i}]\ngroup = "g{i}"\n'
        t.daemon = t.host.transocksd('workers = 1\nhandshake = "strict"\n[sniff]\nports = ["3000-3999"]\n' +
                                     upstreams + rules)
        t.host.rules("install")
        for i, (((_, args, asked), count), peer) in enumerate(zip(cases, t.proxy.procs)):
            with self.subTest(args):
                t.host.expect_reset(SITE, 3000 + i, REQUEST % b"www.example.com")
                t.daemon.wait_records(i + 1)
                self.assertEqual(peer.log().count(asked), count, peer.log())

    def test_name_fallback(self):
        t = self.build("host")
        t.asked = t.proxy.peer("socks", "10.91.3.2", 1080, "code", 4)
        t.daemon = t.host.transocksd("""
            workers = 1
            handshake = "strict"
            [[upstream]]
            url = "socks5://10.91.3.2:1080"
            name_fallback = true""")
        t.host.rules("install")
        t.host.expect_reset(SITE, 80, REQUEST % b"www.example.com")
        t.asked.wait_log("socks request www.example.com 80(.|\n)*socks request 11.0.0.1 80")
        t.daemon.wait_records(1)
        self.assertEqual(t.asked.log().count("socks request"), 2)


class Waiting(lab.TestCase):
    """A client that says nothing first."""

    def start(self, config):
        t = self.build("host")
        t.daemon = t.host.transocksd(f'workers = 1\nproxy_url = "direct://"\n{config}')
        t.host.rules("install")
        return t

    def first_byte(self, t, port=80):
        started = time.monotonic()
        with t.host.connect(SITE, port) as client:
            client.settimeout(lab.LONG)
            self.assertEqual(len(client.recv(1)), 1)
            elapsed = time.monotonic() - started
            while client.recv(65536):
                pass
        return elapsed

    def test_a_server_that_speaks_first_is_held_up_once(self):
        t = self.start('[sniff]\ntimeout = "4s"\n')
        t.inet.peer("banner", SITE, 80, 100)
        self.assertGreaterEqual(self.first_byte(t), 3.9)
        self.assertLess(self.first_byte(t), 3.9)

    def test_a_rule_on_names_is_not_switched_off_by_that(self):
        t = self.start("""
            [sniff]
            timeout = "2s"
            [[rule]]
            domains = ["denied.example"]
            unknown_name = "skip"
            action = "refuse"
            """)
        t.inet.peer("banner", SITE, 80, 100)
        for _ in range(2):
            self.assertGreaterEqual(self.first_byte(t), 1.9)
        t.host.expect_reset(SITE, 80, REQUEST % b"denied.example")

    def test_a_server_that_tires_of_a_silent_client_does_not_speak_first(self):
        """Else one silent flow would let the next ones pass without a name."""
        t = self.start('[sniff]\ntimeout = "2s"\n')
        t.inet.peer("banner", SITE, 80, 100, 2500)
        self.first_byte(t)
        with t.host.connect(SITE, 80) as client:
            client.sendall(REQUEST % b"www.example.com")
            while client.recv(4096):
                pass
        self.assertEqual(t.daemon.wait_records(2)[-1].get("dest_host"), "www.example.com")

    def test_a_silent_client_is_not_a_server_that_speaks_first(self):
        t = self.start('[sniff]\ntimeout = "1s"\n')
        t.inet.peer("echo", SITE, 80)
        with t.host.connect(SITE, 80) as client:
            time.sleep(1.5)
            self.assertTrue(flow.talk(client))
        t.daemon.wait_records(1)
        with t.host.connect(SITE, 80) as client:
            client.sendall(REQUEST % b"www.example.com")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.makefile("rb").read(), REQUEST % b"www.example.com")
        self.assertEqual(t.daemon.wait_records(2)[-1]["dest_host"], "www.example.com")

    def test_a_client_that_ends_or_breaks_while_it_is_waited_for(self):
        t = self.start('[sniff]\ntimeout = "8s"\n')
        t.inet.peer("echo", SITE, 80)
        with t.host.connect(SITE, 80) as client:
            client.sendall(b"GET / HT")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.makefile("rb").read(), b"GET / HT")
        flow.reset(t.host.connect(SITE, 80))
        client = t.host.connect(SITE, 80)
        client.sendall(b"GET / HT")
        time.sleep(0.2)
        flow.reset(client)
        ends = [record["end"] for record in t.daemon.wait_records(3)]
        self.assertEqual(ends, ["done", "client-gone", "client-gone"])

    def test_what_was_read_goes_on_unchanged(self):
        t = self.start("")
        t.inet.peer("echo", SITE, 443)
        sends = tls_hello("www.example.com") + peers.pattern(1, 0, 32768)
        with t.host.connect(SITE, 443) as client:
            client.sendall(sends)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.makefile("rb").read(), sends)


class Rules(lab.TestCase):
    """Verdicts, by real destinations: which of two sites answers tells where a flow went."""

    def start(self, rules, config=""):
        t = self.build("host")
        dns = ["here.example=11.0.0.1", "there.example=11.0.0.2", "denied.example=11.0.0.1",
               "loop.example=127.0.0.1", "lan.example=10.91.3.2", "own.example=11.0.0.77",
               "closed.example=11.0.0.9", "both.example=127.0.0.1", "both.example=11.0.0.2"]
        t.inet.peer("dns", "11.0.0.53", 53, *dns)
        t.inet.peer("http", "11.0.0.1", 80)
        t.inet.peer("http", "11.0.0.2", 80)
        t.proxy.usocksd("""
            [incoming]
            addresses = ["10.91.3.2"]
            allow_from = ["10.91.0.0/16"]
            [dns]
            servers = ["11.0.0.53"]""")
        t.daemon = t.host.transocksd(f"""
            workers = 1
            proxy_url = "socks5://10.91.3.2:1080"
            {config}
            [dns]
            servers = ["11.0.0.53"]
            {rules}""")
        t.host.rules("install")
        return t

    def get(self, t, name, address=SITE, check=True):
        return t.host.curl("--resolve", f"{name}:80:{address}", f"http://{name}/", check=check)

    def record(self, t, count=1):
        return t.daemon.wait_records(count)[-1]

    def test_a_forged_name_reaches_the_site_that_it_names(self):
        t = self.start("")
        self.assertIn("This is 11.0.0.2, and you came from 10.91.3.2",
                      self.get(t, "there.example", "11.0.0.1").stdout)

    def test_refused_by_name(self):
        t = self.start("""
            [[rule]]
            name = "no"
            domains = [".denied.example"]
            action = "refuse"
            """)
        self.assertIn("This is 11.0.0.1", self.get(t, "here.example").stdout)
        for spelling in ("denied.example", "WWW.Denied.Example", "denied.example."):
            with self.subTest(spelling):
                self.assertNotEqual(self.get(t, spelling, check=False).returncode, 0)
        record = self.record(t, 4)
        self.assertEqual((record["end"], record["rule"]), ("rule-refused", "no"))
        self.assertNotIn("hint", record)
        self.assertNotIn("upstream", record)

    def test_an_unknown_name_does_not_pass_a_refusal(self):
        t = self.start("""
            [[rule]]
            domains = [".denied.example"]
            action = "refuse"
            """)
        t.host.expect_reset(SITE, 80, REQUEST % b"11.0.0.1")
        record = self.record(t)
        self.assertEqual(record["end"], "rule-refused")
        self.assertEqual(record["hint"], "no name was known; see option rule.unknown_name")

    def test_where_no_name_is_expected_it_does(self):
        t = self.start("""
            [[rule]]
            domains = [".denied.example"]
            action = "refuse"
            """)
        t.inet.peer("echo", SITE, 22)
        with t.host.connect(SITE, 22) as client:
            self.assertTrue(flow.talk(client))

    def test_direct_by_address(self):
        t = self.start("""
            [[rule]]
            networks = ["11.0.0.1"]
            ports = [80]
            action = "direct"
            """)
        self.assertIn("came from 10.91.0.2", self.get(t, "here.example").stdout)
        self.assertIn("came from 10.91.3.2", self.get(t, "there.example", "11.0.0.2").stdout)
        record = t.daemon.wait_records(2)[0]
        self.assertEqual((record["upstream"], record["dest_addr"]), ("direct", "11.0.0.1:80"))
        self.assertNotIn("dialled", record)
        self.assertNotIn("direct_because", record)

    def test_direct_by_name_goes_only_where_the_name_leads(self):
        t = self.start("""
            [[rule]]
            domains = ["there.example"]
            action = "direct"
            """)
        page = self.get(t, "there.example", "11.0.0.1").stdout
        self.assertIn("This is 11.0.0.2, and you came from 10.91.0.2", page)
        record = self.record(t)
        self.assertEqual((record["dest_addr"], record["dialled"]), ("11.0.0.1:80", "11.0.0.2:80"))

    def test_a_forged_name_does_not_open_the_way_to_an_address(self):
        """The name passes the refusal, so it is where the flow goes, though another rule sends it direct."""
        t = self.start("""
            [[rule]]
            domains = ["here.example"]
            action = "refuse"
            [[rule]]
            networks = ["11.0.0.0/24"]
            action = "direct"
            """)
        self.assertIn("This is 11.0.0.2", self.get(t, "there.example", "11.0.0.1").stdout)

    def direct_by_name(self, config=""):
        t = self.start("""
            [[rule]]
            networks = ["11.0.0.9"]
            action = "refuse"
            [[rule]]
            domains = [".example", "localhost"]
            action = "direct"
            """, config)
        t.host.ip("addr add 11.0.0.77/32 dev lo")
        for host, addresses in (t.host, ("127.0.0.1", "11.0.0.77")), (t.proxy, ("10.91.3.2",)), \
                               (t.inet, ("11.0.0.9",)):
            for address in addresses:
                host.peer("http", address, 80)
        return t

    def test_direct_by_a_name_that_leads_where_no_flow_may_go(self):
        """Its own name server says what it likes, and localhost needs none."""
        t = self.direct_by_name()
        special = "the name leads to a special-purpose address, which is not in redirect.redirect_anyway"
        for count, (name, address, error) in enumerate((
                ("localhost", "::1", special), ("loop.example", "127.0.0.1", special),
                ("lan.example", "10.91.3.2", special),
                ("own.example", "11.0.0.77", "the name leads to an address of this host"),
                ("closed.example", "11.0.0.9", "a rule refuses the address that the name leads to")), 1):
            with self.subTest(name):
                self.assertNotEqual(self.get(t, name, check=False).returncode, 0)
                record = self.record(t, count)
                self.assertEqual((record["end"], record["phase"], record["error"]),
                                 ("network-refused", "rules", error))
                self.assertEqual(record["dest_addr"], f"{SITE}:80")
                self.assertIn(address, record["dialled"])
        self.assertIn("This is 11.0.0.2", self.get(t, "both.example").stdout)

    def test_direct_by_a_name_that_leads_to_what_is_redirected_anyway(self):
        t = self.direct_by_name('[redirect]\nredirect_anyway = ["10.91.3.0/24", "127.0.0.0/8"]\n')
        self.assertIn("This is 10.91.3.2", self.get(t, "lan.example").stdout)
        self.assertNotEqual(self.get(t, "loop.example", check=False).returncode, 0)
        self.assertEqual(self.record(t, 2)["error"], "the name leads to an address of this host")

    def test_direct_by_a_name_that_does_not_exist(self):
        t = self.start("""
            [[rule]]
            domains = [".nowhere.example"]
            action = "direct"
            """)
        self.assertNotEqual(self.get(t, "x.nowhere.example", check=False).returncode, 0)
        self.assertEqual(self.record(t)["end"], "resolve-failed")

    def test_by_client(self):
        t = self.start("""
            [[rule]]
            clients = ["10.91.0.2"]
            action = "refuse"
            """)
        self.assertNotEqual(self.get(t, "here.example", check=False).returncode, 0)

    def test_observing_changes_nothing_and_is_told(self):
        t = self.start("""
            [[rule]]
            name = "watch"
            domains = ["here.example"]
            observe = true
            action = "refuse"
            """)
        self.assertIn("This is 11.0.0.1", self.get(t, "here.example").stdout)
        record = self.record(t)
        self.assertEqual(record["end"], "done")
        self.assertEqual((record["observed_rule"], record["observed_action"]), ("watch", "refuse"))
        rules = flow.status(t.host, t.daemon)["rules"]
        self.assertEqual((rules[0]["name"], rules[0]["decided"], rules[0]["observed"]), ("watch", 0, 1))

    def enforce(self, t, observe):
        """Has the rule enforced, behind what is suggested; which is returned."""
        program = lab.BUILD / "transocksd"
        suggested = t.host.run(program, "-f", t.daemon.config, "--suggest").stdout
        config = t.daemon.config.read_text()
        enforced = suggested + observe.replace("observe = true", "observe = false")
        t.daemon.config.write_text(config.replace(observe, enforced))
        t.daemon.signal(signal.SIGHUP)
        t.daemon.wait_log("configuration reloaded")
        return suggested

    def test_what_was_observed_becomes_rules_that_enforce(self):
        observe = """
            [[rule]]
            name = "watch"
            ports = [80, 443]
            observe = true
            action = "refuse"
            """
        t = self.start(observe)
        for _ in range(3):
            self.get(t, "here.example")
        self.get(t, "there.example")
        self.assertIn("here.example", self.enforce(t, observe))
        self.assertIn("This is 11.0.0.1", self.get(t, "here.example").stdout)
        self.assertIn("This is 11.0.0.2", self.get(t, "there.example").stdout)
        self.assertNotEqual(self.get(t, "denied.example", check=False).returncode, 0)

    def test_what_was_observed_to_go_to_an_address_goes_there(self):
        """By a name that leads elsewhere; beside others that go by their names."""
        observe = """
            [[rule]]
            observe = true
            action = "refuse"
            """
        t = self.start(observe + """
            [[rule]]
            networks = ["11.0.0.1"]
            action = "direct"
            """)
        for enforced in False, True:
            if enforced:
                self.enforce(t, observe)
            page = self.get(t, "there.example", "11.0.0.1").stdout
            self.assertIn("This is 11.0.0.1, and you came from 10.91.0.2", page)
            page = self.get(t, "here.example", "11.0.0.2").stdout
            self.assertIn("This is 11.0.0.1, and you came from 10.91.3.2", page)
        self.assertNotEqual(self.get(t, "denied.example", "11.0.0.3", check=False).returncode, 0)

    def test_direct_flows_carry_the_mark(self):
        t = self.start("[[rule]]\naction = 'direct'\n")
        t.host.nft("""
            table inet seen {
              chain out {
                type filter hook output priority 0
                meta mark 0x1000 ip daddr 11.0.0.1 tcp dport 80 counter
              }
            }""")
        self.assertIn("came from 10.91.0.2", self.get(t, "here.example").stdout)
        self.assertNotIn("counter packets 0 ", t.host.run("nft", "list", "table", "inet", "seen").stdout)


if __name__ == "__main__":
    lab.main()
