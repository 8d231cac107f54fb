# SPDX-License-Identifier: MIT
"""What both daemons tell monitoring by HTTP: it is what happened, in the format that Prometheus reads."""
import json
import os
import resource
import signal
import socket
import threading

import exposition
import lab
import test_auth
import test_usocksd

PROXY = "10.91.3.2"
EGRESS = "10.91.3.11"
PORT = 7000
# Up and down, in bytes; at a bound of a bucket and past it, and enough for splice(2).
EXCHANGES = ((0, 0), (1, 0), (0, 1), (1024, 1025), (3, 4096), (70000, 300), (2000000, 20), (5, 3000000))
MANY = 1000
# What clients may say, and the codes that answer it; 0: an end without an answer.
REQUESTS = ((b"\r\n\r\n\r\n", (0, 400)), (b"\0" * 100 + b"\r\n\r\n", (0, 400)),
            (b"GET /metrics\r\n\r\n", (0, 200, 400, 505)),
            (b"GET /" + b"x" * 30000 + b" HTTP/1.1\r\n\r\n", (0, 413, 414, 431)),
            (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", (0, 413, 431)),
            (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\nxxx", (405,)),
            (b"DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n", (405,)),
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2, (200,)))


def setUpModule():
    """Both ends of all flows are in this process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors(proc):
    return len(os.listdir(f"/proc/{proc.pid}/fd"))


def read_all(sock):
    got = 0
    while data := sock.recv(65536):
        got += len(data)
    return got


class Usocksd(lab.TestCase):
    def start(self, more="", **options):
        t = self.build("host")
        self.t = t
        t.proxy.ip(f"addr add {EGRESS}/24 dev wan0\naddr add 10.91.3.12/24 dev wan0")
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        t.dns = t.inet.peer("dns", "11.0.0.53", 53, "four.test=11.0.0.1")
        t.far = t.inet.listen("11.0.0.1", PORT, 2048)
        self.addCleanup(t.far.close)
        t.config = ('workers = 2\n[incoming]\nallow_from = ["10.91.0.2"]\n[outgoing]\n'
                    f'addresses = ["{EGRESS}"]\ndeny_ports = [81]\ndeny_sites = ["bad.test"]\n'
                    f'deny_networks = ["11.7.0.0/16"]\n[dns]\nservers = ["11.0.0.53"]\n[metrics]\nlisten = ":1082"\n')
        t.usocksd = t.proxy.usocksd(t.config + more, **options)
        t.usocksd.wait_line(message="ready")
        return t

    def scrape(self):
        return exposition.scrape(self.t.host, PROXY, "usocksd_")

    def ended(self):
        return sum(self.scrape().nonzero("flows_ended_total").values())

    def flow(self, request=test_usocksd.request("11.0.0.1", PORT), greeting=test_usocksd.GREETING):
        """A flow whose destination was reached: both ends of it."""
        sock = self.t.host.connect(PROXY, 1080, source=("10.91.0.2", 0))
        self.addCleanup(sock.close)
        sock.sendall(greeting + request)
        wanted = 12 if greeting else 8
        while wanted > 0:
            data = sock.recv(wanted)
            self.assertNotEqual(data, b"")
            wanted -= len(data)
        far = self.t.far.accept()[0]
        self.addCleanup(far.close)
        far.settimeout(20)
        return sock, far

    def exchange(self, up, down, **how):
        def serve():
            with far:
                result.append(read_all(far))
                far.sendall(bytes(down))

        result = []
        sock, far = self.flow(**how)
        thread = threading.Thread(target=serve)
        thread.start()
        with sock:
            sock.sendall(bytes(up))
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(sock), down)
        thread.join()
        self.assertEqual(result, [up])

    def refused(self, *sent, source="10.91.0.2"):
        try:
            with self.t.host.connect(PROXY, 1080, source=(source, 0)) as sock:
                for part in sent:
                    sock.sendall(part)
                read_all(sock)
        except ConnectionResetError:
            pass

    def test_numbers_are_what_happened(self):
        t = self.start()
        for up, down in EXCHANGES:
            self.exchange(up, down)
        self.exchange(7, 9, request=test_usocksd.request("four.test", PORT))
        self.exchange(7, 9, request=test_usocksd.request("four.test", PORT))
        self.exchange(11, 12, greeting=b"", request=b"\x04\x01" + PORT.to_bytes(2, "big") + b"\x0b\0\0\x01me\0")
        greeting, request = test_usocksd.GREETING, test_usocksd.request
        for bad in (request("11.0.0.1", 9), request("11.0.0.1", 81), request("bad.test", 80), request("11.7.0.1", 80),
                    request("no.test", 80), request("127.0.0.1", 80), request("11.0.0.1", 80, command=9),
                    request("11.0.0.1", 80, kind=7)):
            self.refused(greeting + bad)
        self.refused(b"\x05\x01\x02")
        self.refused(b"\x04\x01\x00\x51\x0b\0\0\x01\0")
        self.refused(b"GET / HTTP/1.0\r\n\r\n")
        self.refused(source="10.91.0.3")
        with t.host.connect(PROXY, 1080, source=("10.91.0.2", 0)) as sock:
            sock.sendall(greeting + b"\x05\x01")
            sock.recv(2)
        exchanges = [*EXCHANGES, (7, 9), (7, 9), (11, 12)]
        up, down = (sum(sizes) for sizes in zip(*exchanges))
        lab.wait_until(lambda: self.ended() == len(exchanges) + 13, 20)
        lab.wait_until(lambda: self.scrape().value("flows") == 0)
        m = self.scrape()
        self.assertEqual(m.nonzero("connections_total"), {
            ("granted", "SOCKS5"): len(exchanges) - 1, ("granted", "SOCKS4_4a"): 1,
            ("connection_refused", "SOCKS5"): 1, ("not_allowed", "SOCKS5"): 4, ("host_unreachable", "SOCKS5"): 1,
            ("command_not_supported", "SOCKS5"): 1, ("address_read_failure", "SOCKS5"): 1,
            ("invalid_request", "SOCKS5"): 1, ("rejected", "SOCKS4_4a"): 1, ("unknown_version", "unknown"): 1,
            ("not_allowed", "unknown"): 1, ("client_gone", "SOCKS5"): 1})
        self.assertEqual(m.nonzero("socks5_auth_negotiated_total"),
                         {("ok", "no_auth"): len(exchanges) + 8, ("failed", "no_auth"): 1})
        self.assertEqual(m.nonzero("socks5_address_read_total"), {
            ("ok", "IPv4"): len(EXCHANGES) + 5, ("ok", "Domain_name"): 4, ("failed", "unknown"): 2})
        self.assertEqual(m.nonzero("acl_refused_total"), {
            ("deny_ports",): 2, ("deny_sites",): 1, ("deny_networks",): 1, ("special",): 1, ("allow_from",): 1})
        self.assertEqual(m.nonzero("requests_total"), {("connect",): len(exchanges) + 7})
        self.assertEqual(m.nonzero("bytes_total"), {("up",): up, ("down",): down})
        self.assertEqual(m.nonzero("egress_bytes_total"), {(EGRESS, "up"): up, (EGRESS, "down"): down})
        self.assertEqual(m.nonzero("egress_connects_total"), {(EGRESS,): len(exchanges)})
        self.assertEqual(m.nonzero("egress_failed_total"), {(EGRESS,): 1})
        self.assertEqual(m.nonzero("egress_state"), {(EGRESS, "ok"): 1})
        for name, sizes in (("tx", [u for u, _ in exchanges]), ("rx", [d for _, d in exchanges])):
            self.assertEqual(m.value(f"proxy_{name}_bytes_sum"), sum(sizes))
            self.assertEqual(m.value(f"proxy_{name}_bytes_count"), len(sizes))
            self.assertEqual(m.value(f"proxy_{name}_seconds_count"), len(sizes))
            self.assertEqual(m.value(f"proxy_{name}_errors_total"), 0)
            for le in (1024, 4096, 1048576, 4194304):
                self.assertEqual(m.value(f"proxy_{name}_bytes_bucket", le=str(le)), sum(n <= le for n in sizes))
        self.assertEqual(m.value("proxy_inflight_requests"), 0)
        self.assertEqual(m.value("egress_flows", address=EGRESS), 0)
        self.assertEqual(m.value("proxy_elapsed_seconds_count", result="success"), len(exchanges))
        self.assertEqual(m.value("proxy_elapsed_seconds_count", result="error"), 0)
        self.assertEqual(m.value("setup_seconds_count"), len(exchanges))
        self.assertEqual(m.nonzero("dial_seconds_count"), {("connected",): len(exchanges), ("failed",): 1})
        # Each worker asks for itself.
        self.assertEqual(sum(m.nonzero("dns_queries_total").values()), 2 * 3)
        asked = t.dns.log().count("\ndns ")
        self.assertEqual(m.value("dns_queries_total", **{"from": "servers"}), asked)
        self.assertEqual(sum(m.nonzero("dns_seconds_count").values()), asked)
        self.assertEqual(m.value("dns_seconds_count", result="found"), t.dns.log().count("\ndns four.test A\n"))
        self.assert_like_status(m)
        # An association, and a datagram of it that is dropped.
        with t.host.connect(PROXY, 1080, source=("10.91.0.2", 0)) as sock, t.host.datagrams("10.91.0.2") as sender:
            sock.sendall(greeting + request("0.0.0.0", 0, command=3))
            reply = b""
            while len(reply) < 12 and (more := sock.recv(12)):
                reply += more
            self.assertEqual(reply[:4], b"\x05\x00\x05\x00")
            sender.sendto(b"\0\0\x01\x01\x0b\0\0\x01\0\x50fragment", (PROXY, int.from_bytes(reply[10:12], "big")))
            lab.wait_until(lambda: self.scrape().nonzero("udp_dropped_total") == {("fragment",): 1})
            self.assertEqual(self.scrape().value("udp_associations"), 1)
        lab.wait_until(lambda: self.scrape().value("udp_associations") == 0)

    def assert_like_status(self, m):
        """The same from another mouth: --status --json is /status."""
        t = self.t
        said = json.loads(t.proxy.run(lab.BUILD / "usocksd", "-f", t.usocksd.config, "--status", "--json").stdout)
        code, headers, body = exposition.ask(t.host, PROXY, path="/status")
        self.assertEqual((code, headers["content-type"]), (200, "application/json"))
        for one in (said, json.loads(body)):
            self.assertEqual(m.nonzero("flows_ended_total"), {(k,): n for k, n in one["ended"].items() if n > 0})
            self.assertEqual(m.value("max_flows"), one["max_flows"])
            self.assertEqual(m.value("build_info", version=one["version"]), 1)

    def test_logins(self):
        users = test_auth.users_file(test_auth.line("bob", "secret"))
        t = self.start(f'[auth]\nfile = "{users}"\n')
        request = test_usocksd.request("11.0.0.1", 9)
        for password in ("secret", "guess", "secret"):
            self.refused(test_auth.OFFER + test_auth.login("bob", password) + request)
        self.refused(test_usocksd.GREETING + request)
        with t.host.connect(PROXY, 1080) as sock:
            sock.sendall(test_auth.OFFER)
            sock.recv(2)
        lab.wait_until(lambda: self.ended() == 5)
        m = self.scrape()
        self.assertEqual(m.nonzero("socks5_auth_negotiated_total"),
                         {("ok", "basic"): 2, ("failed", "basic"): 2, ("failed", "no_auth"): 1})
        self.assertEqual(m.nonzero("connections_total"), {
            ("connection_refused", "SOCKS5"): 2, ("authentication_failure", "SOCKS5"): 2, ("client_gone", "SOCKS5"): 1})
        said = json.loads(t.proxy.run(lab.BUILD / "usocksd", "-f", t.usocksd.config, "--status", "--json").stdout)["logins"]
        self.assertEqual(m.value("logins_checked_total"), said["checked"])
        self.assertEqual(m.value("logins_refused_total"), said["refused"])
        self.assertEqual(m.nonzero("logins"), {})

    def test_many_live_flows(self):
        t = self.start()
        flows = [self.flow() for _ in range(MANY)]
        for i, (sock, far) in enumerate(flows):
            sock.sendall(bytes(i % 7))
            far.sendall(bytes(3))
        up, down = sum(i % 7 for i in range(MANY)), 3 * MANY
        lab.wait_until(lambda: self.scrape().nonzero("bytes_total") == {("up",): up, ("down",): down}, 20)
        m = self.scrape()
        self.assertEqual(m.value("proxy_inflight_requests"), MANY)
        self.assertEqual(m.value("flows"), MANY)
        self.assertEqual(m.value("egress_flows", address=EGRESS), MANY)
        self.assertEqual(sum(v for k, v in m.nonzero("worker_status").items() if k[0] == "flows"), MANY)
        self.assertEqual(m.value("proxy_tx_bytes_count"), 0)
        # All goes on under another configuration; another address is not among what can change.
        t.usocksd.config.write_text(t.usocksd.config.read_text().replace(f'"{EGRESS}"', f'"{EGRESS}", "10.91.3.12"')
                                    .replace(":1082", ":1083"))
        t.usocksd.signal(signal.SIGHUP)
        t.usocksd.wait_line(message="configuration reloaded")
        self.assertIn("metrics.listen", json.dumps(t.usocksd.lines(severity="warning")))
        after = self.scrape()
        self.assertEqual(after.value("egress_connects_total", address="10.91.3.12"), 0)
        for name in ("connections_total", "bytes_total", "proxy_inflight_requests", "egress_connects_total",
                     "dial_seconds_count", "setup_seconds_count", "socks5_address_read_total"):
            self.assertEqual(after.nonzero(name), m.nonzero(name), name)
        t.usocksd.config.write_text("nonsense")
        t.usocksd.signal(signal.SIGHUP)
        lab.wait_until(lambda: self.scrape().value("reload_failed") == 1)
        for sock, far in flows[:MANY // 2]:  # ends well
            sock.close()
            far.close()
        for sock, _ in flows[MANY // 2:]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        lab.wait_until(lambda: self.scrape().value("flows") == 0, 20)
        m = self.scrape()
        self.assertEqual(m.value("proxy_inflight_requests"), 0)
        self.assertEqual(m.nonzero("bytes_total"), {("up",): up, ("down",): down})
        for way, total in (("tx", up), ("rx", down)):
            self.assertEqual((m.value(f"proxy_{way}_bytes_sum"), m.value(f"proxy_{way}_bytes_count")), (total, MANY))
            self.assertGreaterEqual(m.value(f"proxy_{way}_errors_total"), 1)
        self.assertEqual(sum(m.nonzero("proxy_elapsed_seconds_count").values()), MANY)
        self.assertGreaterEqual(m.value("proxy_elapsed_seconds_count", result="error"), 1)

    def test_bad_clients(self):
        """More silent ones than there may be, one that says a byte now and then, some that say nonsense: flows go on,
        and who asks gets an answer. Nothing is left of any."""
        t = self.start()
        before = descriptors(t.usocksd)
        asked = [(self.asked(raw), raw, codes) for raw, codes in REQUESTS]
        silent = [t.host.connect(PROXY, 1082) for _ in range(40)]
        silent[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # without its end
        self.exchange(10, 10)
        self.assertEqual(self.scrape().value("flows_ended_total", end="done"), 1)
        silent[1].setblocking(False)
        lab.wait_until(lambda: self.drips(silent[1]), 30)
        for sock, raw, codes in asked:
            with self.subTest(raw=raw[:40]):
                self.assertIn(self.code(sock), codes)
        for sock in silent:
            sock.close()
        lab.wait_until(lambda: descriptors(t.usocksd) == before)
        self.exchange(10, 10)
        self.scrape()

    def drips(self, sock):
        """One byte more; true once the other end has closed."""
        try:
            sock.send(b"G")
            sock.recv(1000)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def asked(self, raw):
        sock = self.t.host.connect(PROXY, 1082, 30)
        self.addCleanup(sock.close)
        try:
            sock.sendall(raw)
        except OSError:  # it is answered before it is all there
            pass
        return sock

    def code(self, sock):
        """0: an end without an answer."""
        got = b""
        try:
            while data := sock.recv(65536):
                got += data
        except ConnectionResetError:
            pass
        sock.close()
        return int(got.split()[1]) if got.startswith(b"HTTP/") else 0

    def test_pages(self):
        t = self.start()
        code, headers, body = exposition.ask(t.host, PROXY, path="/")
        self.assertEqual((code, headers["content-type"]), (200, "text/html"))
        self.assertIn(b"/metrics", body)
        for path in ("/metric", "/metrics/", "/status.json", "/../etc/passwd"):
            self.assertEqual(exposition.ask(t.host, PROXY, path=path)[0], 404)
        self.assertEqual(exposition.ask(t.host, PROXY, path="/metrics?x=y")[0], 200)
        code, headers, body = exposition.ask(t.host, PROXY, method="HEAD")
        self.assertEqual((code, headers["connection"], body), (200, "close", b""))
        self.assertGreater(int(headers["content-length"]), 1000)
        code, headers, _ = exposition.ask(t.host, PROXY, method="PUT")
        self.assertEqual((code, headers["allow"]), (405, "GET, HEAD"))
        self.assertEqual(exposition.scrape(t.host, "fd91:0:3::2", "usocksd_").value("flows"), 0)

    def test_few_descriptors(self):
        """Flows take all that is theirs; there is still room for who asks."""
        udp = "[limits]\nmax_udp_associations = 1\n"
        t = self.start(udp, nofile=256)
        most = self.scrape().value("max_flows")
        without = t.host.usocksd(f"workers = 2\n{udp}", nofile=256).wait_line(message="ready")["max_flows"]
        self.assertGreaterEqual(2 * (without - most), 32)
        flows = [sock for _ in range(most) for sock in self.flow()]
        asking = [t.host.connect(PROXY, 1082) for _ in range(30)]
        waiting = [t.host.connect(PROXY, 1080, source=("10.91.0.2", 0)) for _ in range(20)]
        lab.wait_until(lambda: self.scrape().value("accept_paused") == 1)
        m = self.scrape()
        self.assertGreaterEqual(m.value("flows"), most)
        self.assertGreaterEqual(m.value("accept_pauses_total"), 1)
        for sock in waiting + flows + asking:
            sock.close()
        lab.wait_until(lambda: self.scrape().value("flows") == 0, 20)
        self.assertEqual(self.scrape().value("accept_paused"), 0)
        self.assertEqual(t.usocksd.lines(message="cannot accept, trying again"), [])


class Start(lab.TestCase):
    def test_where(self):
        """Nowhere unless that is written; where it is, or not at all. usocksd's old option is for this host alone."""
        t = self.build("host")
        plain = t.host.usocksd()
        plain.wait_line(message="ready")
        self.assertEqual({s[1] for s in t.host.sockets() if s[4] == 10}, {1080})
        plain.signal(signal.SIGTERM)
        self.assertEqual(plain.wait(), 0)
        with t.host.listen("127.0.0.1", 1082):
            started = [t.host.usocksd('[metrics]\nlisten = "localhost:1082"\n', wait=False),
                       t.host.transocksd('proxy_url = "direct://"\n[metrics]\nlisten = "127.0.0.1:1082"\n', wait=False)]
            for proc in started:
                self.assertEqual(proc.wait(), 69)
                self.assertIn("127.0.0.1:1082", proc.log())
        proc = t.host.usocksd("[incoming]\nmetrics_port = 1085\n", ports=(1080, 1085))
        for address in ("127.0.0.1", "::1"):
            exposition.scrape(t.host, address, "usocksd_", 1085)
        self.assertFalse(t.host.listening(1085, "10.91.0.2") or t.host.listening(1085, "0.0.0.0"))
        # What drains leaves the port to the next one.
        with t.host.connect("127.0.0.1", 1080):
            lab.wait_until(lambda: exposition.scrape(t.host, "::1", "usocksd_", 1085).value("flows") == 1)
            proc.signal(signal.SIGTERM)
            lab.wait_until(lambda: not t.host.listening(1085) and not t.host.listening(1080))
            t.host.usocksd('control = ""\n[incoming]\nmetrics_port = 1085\n', ports=(1080, 1085))
            self.assertEqual(exposition.scrape(t.host, "::1", "usocksd_", 1085).value("flows"), 0)
            self.assertTrue(proc.alive())
        self.assertEqual(proc.wait(), 0)

    def test_family_that_the_host_lacks(self):
        host = self.lonely()
        host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        proc = host.usocksd('[metrics]\nlisten = ["localhost:1082"]\n')
        exposition.scrape(host, "127.0.0.1", "usocksd_")
        self.assertIn("metrics: ", json.dumps(proc.lines(severity="warning")))


class Transocksd(lab.TestCase):
    def test_upstreams_and_rules(self):
        """Names are the operator's, whatever is in them."""
        name, dead, rule = 'the "good" \\ \u00e9{one},', "dead\\", 'no "ads"\\n'
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\nallow_from = ["10.91.0.0/16"]\n')
        t.transocksd = t.host.transocksd(
            f'[[upstream]]\nname = {json.dumps(dead)}\nurl = "socks5://10.91.3.2:9"\n'
            f'[[upstream]]\nname = {json.dumps(name)}\nurl = "socks5://10.91.3.2:1080"\n'
            '[group.default]\nchoose = "failover"\n'
            f'[[rule]]\nname = {json.dumps(rule)}\nports = [81]\naction = "refuse"\n'
            '[metrics]\nlisten = "localhost:1082"\n')
        t.host.rules("install")
        for _ in range(3):
            self.assertIn("11.0.0.1", t.host.curl("http://11.0.0.1/").stdout)
        t.host.expect_reset("11.0.0.1", 81)
        t.transocksd.wait_records(4)
        lab.wait_until(lambda: self.scrape(t).value("flows") == 0)
        m = self.scrape(t)
        self.assertEqual(m.nonzero("upstream_connects_total"), {(name,): 3})
        self.assertEqual(m.nonzero("upstream_failures_total"), {("connect", dead): 3})
        self.assertEqual(m.nonzero("upstream_replies_total"), {("done", name): 3})
        self.assertEqual(m.nonzero("upstream_state"), {("ejected", dead): 1, ("up", name): 1})
        self.assertEqual(m.nonzero("upstream_share"), {(name,): 1})
        self.assertEqual(m.nonzero("rule_decided_total"), {("refuse", rule): 1})
        self.assertEqual(m.value("rule_observed_total", rule=rule, action="refuse"), 0)
        self.assertEqual(m.value("rule_none_total"), 3)
        self.assertEqual(m.nonzero("flows_ended_total"), {("done",): 3, ("rule-refused",): 1})
        self.assertEqual(m.nonzero("dial_seconds_count"), {("connected",): 3, ("failed",): 3})
        self.assertEqual(m.value("setup_seconds_count"), 3)
        self.assertEqual(m.value("proxy_inflight_requests"), 0)
        records = t.transocksd.wait_records(4)
        for way, direction, histogram in (("bytes_up", "up", "tx"), ("bytes_down", "down", "rx")):
            total = sum(r[way] for r in records)
            self.assertGreater(total, 0)
            self.assertEqual(m.value("bytes_total", direction=direction), total)
            self.assertEqual(m.value(f"proxy_{histogram}_bytes_sum"), total)
        self.assertFalse(any("connections_total" in n or "egress" in n for n in m.types))

    def scrape(self, t):
        return exposition.scrape(t.host, "127.0.0.1", "transocksd_")


if __name__ == "__main__":
    lab.main()
