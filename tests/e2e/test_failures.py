# SPDX-License-Identifier: MIT
"""What the client sees and the log says where a flow cannot be carried."""
import select
import signal
import time

import flow
import lab

UPSTREAM = "socks5://10.91.3.2:1080"


class Failures(lab.TestCase):
    def start(self, upstream=UPSTREAM, timeouts=""):
        t = self.build("host")
        t.transocksd = t.host.transocksd(f'proxy_url = "{upstream}"\n[timeouts]\n{timeouts}\n')
        t.host.rules("install")
        return t

    def refused(self, t, end, phase, address="11.0.0.1", error=None, upstream=UPSTREAM):
        """One flow that must end with a reset, long before all time is over; returns its record."""
        self.assertEqual(t.host.expect_reset(address, 80, b"GET / HTTP/1.0\r\n\r\n"), b"")
        record = t.transocksd.wait_records(1)[0]
        self.assertLess(float(record["elapsed"]), 20)  # flow_setup would end it, 45 s
        self.assertEqual((record["end"], record["phase"]), (end, phase))
        self.assertEqual(record["upstream"], upstream)
        if error is not None:
            self.assertRegex(record["error"].lower(), error)
        return record

    def test_upstream_down(self):
        t = self.start()
        self.refused(t, "connect-failed", "connect", error="refused")

    def test_upstream_unreachable(self):
        upstream = "socks5://11.9.0.1:1080"
        t = self.start(upstream)
        self.refused(t, "connect-failed", "connect", error="(no route|unreachable)",
                     upstream=upstream)

    def test_upstream_does_not_answer_to_syn(self):
        t = self.start("socks5://11.8.0.1:1080", 'connect = "300ms"')
        record = self.refused(t, "connect-timeout", "connect", upstream="socks5://11.8.0.1:1080")
        self.assertGreaterEqual(float(record["elapsed"]), 0.3)

    def test_upstream_silent(self):
        t = self.start(timeouts='greeting = "300ms"')
        t.proxy.peer("silent", "10.91.3.2", 1080)
        record = self.refused(t, "greeting-timeout", "greeting")
        self.assertGreaterEqual(float(record["elapsed"]), 0.3)

    def test_upstream_silent_after_the_request(self):
        t = self.start(timeouts='reply = "300ms"')
        t.proxy.peer("socks", "10.91.3.2", 1080, "greeting")
        self.refused(t, "reply-timeout", "reply")

    def test_set_up_has_one_limit_over_all_phases(self):
        t = self.start(timeouts='flow_setup = "300ms"')
        t.proxy.peer("socks", "10.91.3.2", 1080, "greeting")
        self.refused(t, "setup-timeout", "reply")

    def test_upstream_takes_no_method(self):
        t = self.start()
        t.proxy.peer("socks", "10.91.3.2", 1080, "no-method")
        self.refused(t, "greeting-failed", "greeting")

    def test_upstream_is_no_socks_server(self):
        t = self.start()
        t.proxy.peer("socks", "10.91.3.2", 1080, "garbage")
        self.refused(t, "greeting-failed", "greeting")

    def test_upstream_resets(self):
        t = self.start()
        t.proxy.peer("reset", "10.91.3.2", 1080, 0)
        self.refused(t, "greeting-failed", "greeting", error="reset")

    def test_upstream_refuses_the_destination(self):
        for code, text in ((1, "general"), (2, "not allowed"), (3, "network"), (4, "host"),
                           (5, "refused")):
            with self.subTest(code=code):
                t = self.start()
                t.proxy.peer("socks", "10.91.3.2", 1080, "code", code)
                self.refused(t, "reply-refused", "reply", error=text)

    def test_destination_refuses(self):
        t = self.start()
        usocksd = t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        self.refused(t, "reply-refused", "reply", error="refused")
        # Twice: the first flow of a worker asks again without one flight.
        for record in usocksd.wait_records(2):
            self.assertEqual((record["end"], record["phase"]), ("connect-failed", "connect"))
            self.assertRegex(record["error"].lower(), "refused")

    def test_destination_refuses_direct(self):
        t = self.start("direct://")
        self.refused(t, "connect-failed", "connect", error="refused", upstream="direct")

    def test_upstream_name_unknown(self):
        t = self.build("host")
        t.inet.peer("dns", "10.91.0.1", 53)
        t.transocksd = t.host.transocksd('proxy_url = "socks5://proxy.test:1080"\n'
                                         '[dns]\nservers = ["10.91.0.1"]\n')
        t.host.rules("install")
        self.refused(t, "resolve-failed", "resolve", upstream="socks5://proxy.test:1080")

    def test_reset_of_the_server_reaches_the_client(self):
        t = self.start("direct://")
        t.inet.peer("reset", "::", 80, 5000)
        self.assertEqual(len(t.host.expect_reset("11.0.0.1", 80)), 5000)
        self.assertEqual(t.transocksd.wait_records(1)[0]["end"], "remote-lost")

    def test_reset_of_the_client_reaches_the_server(self):
        t = self.start("direct://")
        with t.inet.listen("11.0.0.1", 80) as server:
            sock = t.host.connect("11.0.0.1", 80)
            sock.sendall(b"x")
            far = server.accept()[0]
            far.settimeout(lab.LONG)
            self.assertEqual(far.recv(1), b"x")
            sock.setsockopt(lab.socket.SOL_SOCKET, lab.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            with far, self.assertRaises(ConnectionResetError):
                far.recv(1)
        self.assertEqual(t.transocksd.wait_records(1)[0]["end"], "client-lost")

    def test_a_failed_flow_harms_no_other(self):
        t = self.start()
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.inet.peer("echo", "::", 7)
        with t.host.connect("11.0.0.1", 7) as good:
            for _ in range(20):
                t.host.expect_reset("11.0.0.1", 80)
            good.sendall(b"still here")
            self.assertEqual(good.recv(100), b"still here")


class DirectConnections(lab.TestCase):
    """Who connects to the port itself is refused, and no connection of ours leads back to us."""

    LISTENERS = (('listen = "localhost:1081"\n', ("127.0.0.1", "::1")),
                 ('listen = ":1081"\n', ("127.0.0.1", "::1", "10.91.0.2", "fd91::2")))

    def refused_by_daemon(self, conntrack):
        for listen, addresses in self.LISTENERS:
            t = self.build("host")
            if conntrack:
                t.host.nft("table inet other { chain c { type filter hook input priority 0;"
                           " ct state new counter; }; }")
            upstream = t.proxy.peer("silent", "10.91.3.2", 1080)
            daemon = t.host.transocksd(f'{listen}proxy_url = "{UPSTREAM}"\n')
            for number, address in enumerate(addresses, 1):
                with self.subTest(listen=listen, address=address):
                    t.host.expect_reset(address, 1081)
                    record = daemon.wait_records(number)[-1]
                    self.assertEqual((record["end"], record["phase"]), ("not-redirected", "accept"))
            self.assertNotIn("silent 10", upstream.log())

    def test_refused_without_rules(self):
        self.refused_by_daemon(conntrack=False)

    def test_refused_without_rules_where_conntrack_is_active(self):
        self.refused_by_daemon(conntrack=True)

    def test_refused_by_the_guard_rule(self):
        t = self.build("gateway")
        t.inet.peer("http", "::", 80)
        t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        daemon = t.gateway.transocksd(f'listen = ":1081"\nproxy_url = "{UPSTREAM}"\n')
        t.gateway.rules("install", "--gateway", "lan0")
        for host, address in ((t.gateway, "127.0.0.1"), (t.gateway, "::1"),
                              (t.gateway, "10.91.1.1"), (t.client, "10.91.1.1"),
                              (t.client, "fd91:0:1::1"), (t.inet, "10.91.2.2"),
                              (t.inet, "fd91:0:2::2")):
            with self.subTest(host=host.name, address=address):
                with self.assertRaises(ConnectionRefusedError):
                    host.connect(address, 1081).close()
        self.assertIn("came from 10.91.3.2", t.client.curl("http://11.0.0.1/").stdout)
        daemon.wait_records(1)

    def test_own_port_as_upstream(self):
        t = self.build("host")
        daemon = t.host.transocksd('proxy_url = "socks5://127.0.0.1:1081"\n')
        t.host.rules("install")
        t.host.expect_reset("11.0.0.1", 80)
        self.assertEqual(daemon.wait_records(1)[0]["end"], "connect-failed")
        self.assertEqual(flow.status(t.host, daemon)["ended"]["connect-failed"], 1)


class Loops(lab.TestCase):
    """Rules that know neither the daemon's mark nor its user: its own connections come back to it."""

    def start(self, upstream):
        t = self.build("host")
        t.transocksd = t.host.transocksd(f'mark = "0/0"\nproxy_url = "{upstream}"\n')
        t.host.rules("install", "--uid", 4242)
        return t

    def check(self, upstream, address="11.0.0.1"):
        t = self.start(upstream)
        t.host.expect_reset(address, 80, b"GET / HTTP/1.0\r\n\r\n")
        t.transocksd.wait_line(end="loop", type="access")
        time.sleep(0.3)  # for more, which must not come
        # Another one or two may have been accepted before the first was looked at.
        self.assertLess(len(t.transocksd.lines(type="access")), 5)

    def test_direct(self):
        self.check("direct://")
        self.check("direct://", "2a00:1::1")

    def test_upstream(self):
        self.check("socks5://11.1.1.9:1080")
        self.check("socks5://[2a00:1:5::9]:1080")

    def test_upstream_by_name(self):
        with open("/etc/hosts", "a", encoding="ascii") as f:
            f.write("11.1.1.9 upstream.test\n")
        self.check("socks5://upstream.test:1080")

    def test_other_programs_may_use_the_upstream(self):
        """The same destination, but not our connection: it is carried like any other."""
        t = self.build("host")
        t.inet.peer("socks", "11.1.1.9", 1080, "drip", 0)
        t.inet.peer("http", "11.0.0.1", 80)
        t.transocksd = t.host.transocksd('proxy_url = "socks5://11.1.1.9:1080"\n')
        t.host.rules("install", "--uid", lab.RULES_UID)
        page = t.host.run("curl", "-sS", "-m", lab.LONG, "--socks5", "11.1.1.9:1080", "http://11.0.0.1/").stdout
        self.assertIn("This is 11.0.0.1", page)
        record = t.transocksd.wait_records(1)[0]
        self.assertEqual((record["dest_addr"], record["end"]), ("11.1.1.9:1080", "done"))


class Limits(lab.TestCase):
    def test_more_flows_than_descriptors(self):
        """Those beyond the limit wait, the log says so now and then, nothing spins, and it goes on at once."""
        begun = time.monotonic()
        t = self.start((2, ""), nofile=64)
        limit = t.daemon.wait_line(message="ready")["max_flows"]
        flows = self.open(t, limit + 5)  # those that wait will all have room at once
        t.daemon.wait_log("new ones wait")
        served, waiting = self.sorted(t, flows, limit, workers=2)
        before = self.cpu(t.daemon)
        time.sleep(1)
        self.assertLess(self.cpu(t.daemon) - before, 0.5)
        said = t.daemon.log().count("new ones wait")
        self.assertLessEqual(said, time.monotonic() - begun + 1)
        for sock in served:
            sock.close()
        self.all_served(waiting)

    def start(self, limits, **options):
        t = self.build("host")
        t.config = 'workers = {}\nproxy_url = "direct://"\n[limits]\n{}\n'
        t.daemon = t.host.transocksd(t.config.format(*limits), **options)
        t.host.rules("install")
        t.inet.peer("echo", "::", 7)
        return t

    def open(self, t, count, source=None):
        flows = [t.host.connect("11.0.0.1", 7, source=source) for _ in range(count)]
        for sock in flows:
            self.addCleanup(sock.close)
        return flows

    def reload(self, t, *limits):
        count = len(t.daemon.lines(message="configuration reloaded"))
        t.daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\n{t.config.format(*limits)}')
        t.daemon.signal(signal.SIGHUP)
        t.daemon.wait_line(count + 1, message="configuration reloaded")

    def served(self, flows, count):
        """Those whose byte comes back, which are `count` sooner or later; more of them may follow."""
        for sock in flows:
            sock.sendall(b"y")
        answered = []

        def look():
            for sock in select.select([s for s in flows if s not in answered], [], [], 0)[0]:
                self.assertNotEqual(sock.recv(100), b"")
                answered.append(sock)
            return len(answered) >= count

        lab.wait_until(look, message=lambda: f"{len(answered)} of {len(flows)} are served, not {count}")
        return answered

    def all_served(self, flows):
        self.served(flows, len(flows))

    def none_served(self, flows):
        for sock in flows:
            sock.sendall(b"y")
        self.assertEqual(select.select(flows, [], [], 0.2)[0], [])

    def live(self, t, count):
        """As many flows are there as soon as the daemon has got to it."""
        lab.wait_until(lambda: flow.status(t.host, t.daemon)["flows"] == count, message=t.daemon.log)

    def sorted(self, t, flows, limit, workers=1):
        """
        Those that are served and those that wait. A worker sees that the limit is reached when it accepts, so each
        of the others may be over by one.
        """
        self.served(flows, limit)
        count = flow.status(t.host, t.daemon)["flows"]
        self.assertIn(count, range(limit, limit + workers))
        served = self.served(flows, count)
        waiting = [sock for sock in flows if sock not in served]
        self.none_served(waiting)
        self.live(t, count)
        return served, waiting

    def test_max_flows(self):
        t = self.start((1, "max_flows = 5"))
        self.assertEqual(t.daemon.lines(message="ready")[0]["max_flows"], 5)
        flows = self.open(t, 8)
        t.daemon.wait_line(message="as many flows as there may be, new ones wait", max_flows=5)
        served, waiting = self.sorted(t, flows, 5)
        served[0].close()
        self.sorted(t, [*served[1:], *waiting], 5)
        for sock in served[1:]:
            sock.close()
        self.all_served(waiting)

    def test_term_cuts_those_that_wait(self):
        """They are connected as far as they know: each has its record, and those under way go on."""
        t = self.start((2, "max_flows = 3"))
        flows = self.open(t, 9)
        t.daemon.wait_log("new ones wait")
        served, waiting = self.sorted(t, flows, 3, workers=2)
        self.assertGreaterEqual(len(waiting), 5)
        t.daemon.signal(signal.SIGTERM)
        for sock in waiting:
            with self.assertRaises(ConnectionResetError):
                sock.recv(1)
        records = t.daemon.wait_records(len(waiting))
        self.assertEqual({(r["end"], r["phase"]) for r in records}, {("cut", "accept")})
        self.assertEqual({r["client_addr"] for r in records},
                         {"%s:%d" % sock.getsockname() for sock in waiting})
        self.all_served(served)
        for sock in served:
            sock.close()
        self.assertEqual(t.daemon.wait(5), 0)

    def test_max_flows_changes_at_a_reload(self):
        t = self.start((1, "max_flows = 2"))
        flows = self.open(t, 8)
        self.sorted(t, flows, 2)
        self.reload(t, 1, "max_flows = 6")
        self.sorted(t, flows, 6)
        self.reload(t, 1, "max_flows = 20")
        self.all_served(flows)
        # Fewer than there are: those go on, and nobody comes in until there is room again.
        self.reload(t, 1, "max_flows = 3")
        waiting = self.open(t, 3)
        self.none_served(waiting)
        self.all_served(flows)
        for sock in flows[:5]:
            sock.close()
        self.live(t, 3)
        self.none_served(waiting)
        flows[5].close()
        self.sorted(t, [*flows[6:], *waiting], 3)
        self.reload(t, 1, "max_flows = 0")
        self.all_served(waiting)

    def test_max_flows_above_the_descriptor_limit(self):
        t = self.build("host")
        text = 'workers = 1\nproxy_url = "direct://"\n[limits]\nmax_flows = {}\n'
        daemon = t.host.transocksd(text.format(0), nofile=64)
        possible = daemon.wait_line(message="ready")["max_flows"]
        wrong = text.format(possible + 1)
        message = rf"max_flows.*\b{possible + 1} is more than the {possible} flows"
        daemon.config.write_text(f'user = "{lab.DAEMON_USER}"\n{wrong}')
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("reload failed.*" + message)
        daemon.signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)
        daemon = t.host.transocksd(wrong, nofile=64, wait=False)
        self.assertEqual(daemon.wait(), 78)
        self.assertRegex(daemon.log(), message)
        t.host.transocksd(text.format(possible), nofile=64)

    def refused(self, t, count, source=None):
        for _ in range(count):
            with self.assertRaises(ConnectionResetError), \
                    t.host.connect("11.0.0.1", 7, source=source) as sock:
                sock.recv(1)

    def test_max_flows_per_client(self):
        """Counted over both workers; another address has its own; the log has each, but few lines."""
        t = self.start((2, "max_flows_per_client = 5"))
        t.host.ip("addr add 10.91.0.3/24 dev eth0")
        started = time.monotonic()
        flows = self.open(t, 5)
        self.all_served(flows)
        self.refused(t, 100)
        others = self.open(t, 5, source=("10.91.0.3", 0))
        self.all_served(others)
        self.refused(t, 1, source=("10.91.0.3", 0))

        def logged():
            return t.daemon.lines(end="client-limit", phase="accept")

        def count():
            return sum(line.get("count", 1) for line in logged())

        lab.wait_until(lambda: count() == 101, 10, lambda: f"{count()}:\n{t.daemon.log()}")
        self.assertEqual({line["severity"] for line in logged()}, {"warning"})
        # Of each worker: 20, and then one a second and another one with the number of the rest.
        self.assertLessEqual(len(logged()), 2 * (20 + 2 * (time.monotonic() - started + 1)))
        # All of them were given back, whichever worker had them.
        for sock in flows:
            sock.close()
        t.daemon.wait_line(5, type="access", end="done")
        flows = self.open(t, 5)
        self.all_served(flows)
        self.refused(t, 1)
        # At a reload it changes for new flows.
        self.reload(t, 2, "max_flows_per_client = 6")
        flows += self.open(t, 1)
        self.all_served(flows)
        self.refused(t, 1)
        self.reload(t, 2, "max_flows_per_client = 0")
        self.all_served(self.open(t, 20))
        self.reload(t, 2, "max_flows_per_client = 6")
        self.refused(t, 1)

    def test_max_flows_per_client_of_usocksd(self):
        """Who is over it is told by a reply; so many at once that it could hurt are closed."""
        t = self.build("host")
        t.inet.peer("echo", "::", 7)
        daemon = t.host.usocksd("workers = 1\n[limits]\nmax_flows_per_client = 2\n")
        ask = b"\5\1\0" + b"\5\1\0\1" + bytes((11, 0, 0, 1, 0, 7))

        def code():
            sock = t.host.connect("127.0.0.1", 1080)
            self.addCleanup(sock.close)
            sock.sendall(ask)
            with sock.makefile("rb", buffering=0) as stream:
                answer = b""
                while len(answer) < 12:
                    more = stream.read(12 - len(answer))
                    self.assertNotEqual(more, b"", answer)
                    answer += more
            self.assertEqual(answer[:3], b"\5\0\5")
            return answer[3], sock

        served = [code() for _ in range(2)]
        self.assertEqual([x[0] for x in served], [0, 0])
        refused, sock = code()
        self.assertEqual(refused, 2)
        self.assertEqual(sock.recv(1), b"")  # the end of file, no reset
        # One that was refused and lingers is not in the way of the next that may come.
        served[0][1].close()
        daemon.wait_line(type="access", end="done")
        self.assertEqual(code()[0], 0)
        daemon.wait_line(end="client-limit", phase="accept", type="access")
        sock.close()
        lab.wait_until(lambda: not self.lingering(t))
        rounds = self.refused_in_silence(t, daemon)

        def logged():
            return daemon.lines(end="client-limit")

        lab.wait_until(lambda: sum(line.get("count", 1) for line in logged()) == 1 + 40 * rounds, 10,
                       daemon.log)
        self.assertLess(len(logged()), 1 + 40 * rounds)

    def lingering(self, t):
        """Whether usocksd has a connection that it has ended on its side (FIN_WAIT2)."""
        return any(local == 1080 and state == 5 for _, local, _, _, state, _ in t.host.sockets())

    def refused_in_silence(self, t, daemon):
        """
        40 at once that make no request: 32 have a moment for it, a second. Once more where we look too late. How often
        it was.
        """
        for rounds in range(1, 11):
            daemon.stop()  # it shall find all of them in its queue
            silent = [t.host.connect("127.0.0.1", 1080) for _ in range(40)]
            started = time.monotonic()
            daemon.signal(signal.SIGCONT)
            lab.wait_until(lambda: len(select.select(silent, [], [], 0)[0]) >= 8)
            reset = select.select(silent, [], [], 0.1)[0]
            in_time = time.monotonic() < started + 1
            for sock in silent:
                with sock, self.assertRaises(ConnectionResetError):
                    sock.recv(1)
            self.assertGreater(time.monotonic() - started, 1)
            if in_time:
                self.assertEqual(len(reset), 8)
                break
        return rounds

    def cpu(self, proc):
        """Seconds of processor time so far."""
        with open(f"/proc/{proc.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    lab.main()
