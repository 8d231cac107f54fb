# SPDX-License-Identifier: MIT
"""Groups of upstreams: who is chosen, what a client sees when one fails, and what counts as failing."""
import collections
import json
import re
import signal
import socket

import flow
import lab

NAMES = ("a", "b", "c")
PORT = {"a": 1080, "b": 1082, "c": 1083}
SITE = "11.0.0.1"
RATE = 500  # flows a second
ARRIVALS = re.compile(r"^arrivals (\d+) ok, (\d+) bad, .*$", re.M)


def flow_end(sock):
    try:
        return "a byte" if sock.recv(1) else "end of file"
    except ConnectionResetError:
        return "reset"


class Groups(lab.TestCase):
    def start(self, group, config="", workers=1, schemes=None):
        """Three upstreams on `proxy`, an echo server on the Internet."""
        schemes = schemes or {}
        t = self.build("host")
        t.usocksd = {}
        for name in NAMES:
            self.up(t, name)
        upstreams = "\n".join(
            f'[[upstream]]\nname = "{name}"\n'
            f'url = "{schemes.get(name, "socks5")}://10.91.3.2:{PORT[name]}"\n'
            for name in NAMES)
        t.daemon = t.host.transocksd(
            f"workers = {workers}\n{config}\n{upstreams}\n[group.default]\n{group}\n")
        t.daemon.wait_line(message="ready")
        t.host.rules("install")
        t.echo = t.inet.peer("echo", "::", 7)
        return t

    def up(self, t, name):
        t.usocksd[name] = t.proxy.usocksd(
            f'control = ""\nworkers = 1\n[timeouts]\nconnect = "500ms"\n'
            f'[incoming]\nport = {PORT[name]}\naddresses = ["10.91.3.2"]\n'
            'allow_from = ["10.91.0.0/16"]\n', ports=(PORT[name],))

    def status(self):
        """What the daemon says of itself. A program that asks would cost the flows too much."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(lab.LONG)
            sock.connect("/run/transocks/transocksd.sock")
            sock.sendall(b"status\n")
            with sock.makefile("rb") as stream:
                return json.loads(stream.read())

    def upstreams(self):
        return {u["name"]: u for u in self.status()["upstreams"]}

    def wait_state(self, t, name, *states, seconds=10):
        lab.wait_until(lambda: self.upstreams()[name]["state"] in states, seconds,
                       lambda: f"{name} is not {states}: {self.upstreams()}")

    def echoes(self, sock):
        sock.sendall(b"x")
        self.assertEqual(sock.recv(1), b"x")

    def flows(self, t, count, sources=None):
        """So many flows, one after the other: the upstream of each, as the records say."""
        before = len(t.daemon.lines(type="access"))
        for i in range(count):
            source = None if sources is None else (sources[i % len(sources)], 0)
            with t.host.connect(SITE, 7, source=source) as sock:
                self.echoes(sock)
        records = t.daemon.wait_records(before + count)[before:]
        self.assertEqual({r["end"] for r in records}, {"done"})
        if sources is None:
            return [r["upstream"] for r in records]
        return {r["client_addr"].rsplit(":", 1)[0]: r["upstream"] for r in records}

    # --- under load

    def held(self, t):
        """Flows that stay: by upstream, three each."""
        held = collections.defaultdict(list)
        for _ in range(3 * len(NAMES)):
            before = {name: u["flows"] for name, u in self.upstreams().items()}
            sock = t.host.connect(SITE, 7)
            self.addCleanup(sock.close)
            self.echoes(sock)
            now = self.upstreams()
            name, = [name for name in NAMES if now[name]["flows"] > before[name]]
            held[name].append(sock)
        self.assertEqual({name: len(socks) for name, socks in held.items()},
                         {name: 3 for name in NAMES})
        return held

    def under_load(self, t, *steps):
        """The client's view of new flows while `steps` are taken. How many were bad."""
        client = t.host.peer("arrivals", SITE, 7, RATE, 30)
        for step in steps:
            step()
        client.signal(signal.SIGTERM)
        self.assertEqual(client.wait(30), 0)
        result = ARRIVALS.search(client.log())
        print(f"{self.id().rsplit('.', 1)[-1]}: {result[0]}")
        self.assertGreater(int(result[1]), RATE // 2)
        # Each flow has its record before it is looked at.
        records = lab.wait_until(lambda: self.all_records(t, int(result[1]) + int(result[2])), 20)
        return int(result[2]), records

    def all_records(self, t, least):
        found = t.daemon.lines(type="access")
        return found if len(found) >= least else None

    def expect_no_failure(self, bad, records, killed):
        """No flow failed in set-up. Those that had just got through are lost with their upstream."""
        ends = collections.Counter((r["end"], r["upstream"]) for r in records)
        self.assertLessEqual({end for end, _ in ends}, {"done", "remote-lost"}, ends)
        self.assertEqual({name for end, name in ends if end != "done"} - {killed}, set(), ends)
        half = [r for r in records if r["bytes_down"] < 8]
        self.assertEqual({r["upstream"] for r in half} - {killed}, set())
        self.assertEqual(bad, len(half))

    def test_killed_and_restarted_under_load(self):
        t = self.start('choose = "round-robin"', workers=2)
        held = self.held(t)

        def kill():
            self.wait_flows(t, 200)
            t.usocksd["b"].kill()
            self.wait_state(t, "b", "ejected", "trying")
            self.wait_flows(t, 700)

        def restart():
            self.up(t, "b")
            self.wait_state(t, "b", "returning", "up", seconds=20)
            self.wait_flows(t, 300)

        bad, records = self.under_load(t, kill, restart)
        self.expect_no_failure(bad, [r for r in records if r["bytes_up"] == 8], "b")
        for name in ("a", "c"):
            for sock in held[name]:
                self.echoes(sock)
        for sock in held["b"]:  # nobody sends for it any more
            self.assertIn(flow_end(sock), ("end of file", "reset"))
        ejected = t.daemon.lines(message="upstream ejected")
        self.assertEqual({r["upstream"] for r in ejected}, {"b"})
        self.assertEqual(len(t.daemon.lines(message="upstream works again, returning slowly")),
                         len(ejected))

    def wait_flows(self, t, more):
        """Until so many more flows have been begun."""
        def count():
            return sum(self.status()["ended"].values())

        goal = count() + more
        lab.wait_until(lambda: count() >= goal, 30)

    def test_silent_under_load(self):
        t = self.start('choose = "round-robin"', '[timeouts]\ngreeting = "1s"', workers=2)
        held = self.held(t)

        def stop():
            self.wait_flows(t, 200)
            t.usocksd["b"].stop()
            self.wait_state(t, "b", "ejected", "trying")
            self.wait_flows(t, 700)

        def go_on():  # those that it was just about to serve
            for name in ("a", "c"):
                for sock in held[name]:
                    self.echoes(sock)
            t.usocksd["b"].signal(signal.SIGCONT)

        bad, records = self.under_load(t, stop, go_on)
        self.assertEqual((bad, {r["end"] for r in records}), (0, {"done"}))
        for sock in held["b"]:
            self.echoes(sock)

    def test_killed_while_a_reply_is_awaited(self):
        """No byte of the client is lost with it: the next one is asked."""
        t = self.start('choose = "failover"', 'handshake = "strict"')
        t.usocksd["a"].kill()
        t.usocksd["a"] = t.proxy.peer("socks", "10.91.3.2", PORT["a"], "greeting")
        sock = t.host.connect(SITE, 7)
        self.addCleanup(sock.close)
        sock.sendall(b"x")
        t.usocksd["a"].wait_log("socks request")
        t.usocksd["a"].kill()
        self.assertEqual(sock.recv(1), b"x")
        self.assertEqual([u["flows"] for u in self.upstreams().values()], [0, 1, 0])

    # --- who is chosen

    def test_round_robin(self):
        t = self.start('choose = "round-robin"')
        self.assertEqual(collections.Counter(self.flows(t, 30)), {name: 10 for name in NAMES})

    def test_least_flows(self):
        t = self.start('choose = "least-flows"')
        socks = []
        for _ in range(30):
            socks.append(t.host.connect(SITE, 7))
            self.addCleanup(socks[-1].close)
            self.echoes(socks[-1])
        self.assertEqual({u["flows"] for u in self.upstreams().values()}, {10})
        # Those of one end: the next ones go where there is room.
        for sock in socks[::3]:
            sock.close()
        lab.wait_until(lambda: sum(u["flows"] for u in self.upstreams().values()) == 20)
        for _ in range(10):
            sock = t.host.connect(SITE, 7)
            self.addCleanup(sock.close)
            self.echoes(sock)
        self.assertEqual({u["flows"] for u in self.upstreams().values()}, {10})

    def test_failover_and_back(self):
        t = self.start('choose = "failover"')
        self.assertEqual(set(self.flows(t, 5)), {"a"})
        t.usocksd["a"].kill()
        self.assertEqual(set(self.flows(t, 5)), {"b"})
        record = t.daemon.lines(type="access")[5]
        self.assertEqual((record["tries"], record["failed_upstream"], record["failed_error"]),
                         (2, "a", "connect: Connection refused"))
        self.assertNotIn("failed_upstream", t.daemon.lines(type="access")[0])
        text = t.host.run(lab.BUILD / "transocksd", "-f", t.daemon.config, "--status").stdout
        self.assertRegex(text, r"(?m)^ +socks5://10.91.3.2:1080; replies: 5 done; failures: [3-5] connect, ")
        self.assertRegex(text, r"(?m)^ +socks5://10.91.3.2:1082; replies: 5 done$")
        self.assertRegex(text, r"(?m)^ +socks5://10.91.3.2:1083$")
        t.usocksd["b"].kill()
        self.assertEqual(set(self.flows(t, 5)), {"c"})
        self.up(t, "a")
        lab.wait_until(lambda: "a" in self.flows(t, 1), 20)
        self.assertIn(self.upstreams()["a"]["state"], ("returning", "up"))

    def test_only_the_clients_of_the_dead_one_move(self):
        t = self.start('choose = "hash-client"')
        clients = [f"10.91.0.{n}" for n in range(10, 40)]
        t.host.ip("\n".join(f"addr add {a}/24 dev eth0" for a in clients))
        before = self.flows(t, 2 * len(clients), clients)
        self.assertEqual(set(before.values()), set(NAMES))
        t.usocksd["b"].kill()
        self.flows(t, len(clients), clients)  # finds out
        after = self.flows(t, len(clients), clients)
        moved = {c for c in clients if before[c] != after[c]}
        self.assertEqual(moved, {c for c in clients if before[c] == "b"})
        self.assertNotIn("b", after.values())
        self.assertEqual({after[c] for c in moved}, {"a", "c"})

    def test_one_of_twenty(self):
        """However many have gone: a flow finds the one that is left, though nobody has been ejected yet."""
        t = self.build("host")
        t.usocksd = {}
        self.up(t, "a")
        t.daemon = t.host.transocksd("workers = 1\n" + "".join(
            f'[[upstream]]\nname = "{n}"\nurl = "socks5://10.91.3.2:{PORT["a"] + n}"\n' for n in range(19, -1, -1)) +
            '[group.default]\nchoose = "failover"\n')
        t.daemon.wait_line(message="ready")
        t.host.rules("install")
        t.inet.peer("echo", "::", 7)
        self.assertEqual(self.flows(t, 1), ["0"])
        self.assertEqual(t.daemon.lines(type="access")[0]["tries"], 20)

    # --- nobody is left

    def test_all_down_refuse(self):
        t = self.start('choose = "round-robin"')
        for name in NAMES:
            t.usocksd[name].kill()
        for _ in range(5):
            t.host.expect_reset(SITE, 7)
        records = t.daemon.wait_records(5)
        self.assertEqual({r["end"] for r in records}, {"connect-failed"})
        self.assertEqual(len(t.daemon.lines(severity="error", group="default")), 1)
        found = self.upstreams().values()
        self.assertEqual({u["state"] for u in found}, {"ejected"})
        for upstream in found:
            self.assertLessEqual(upstream["ejected_ms"], 60000)
            self.assertEqual(upstream["share"], 0)
        # It is still tried: never worse than without any health.
        self.up(t, "c")
        self.assertEqual(self.flows(t, 1), ["c"])
        # It is told once, as that they were all gone was.
        found, = t.daemon.lines(severity="info", group="default",
                                message="an upstream of the group works again")
        self.assertEqual(found["upstream"], "c")
        self.assertEqual(len(t.daemon.lines(severity="error", group="default")), 1)

    def test_all_down_direct(self):
        t = self.start('choose = "round-robin"\nwhen_all_down = "direct"')
        for name in NAMES:
            t.usocksd[name].kill()
        # One failure, or two, is not known to be more than that.
        for _ in range(2):
            t.host.expect_reset(SITE, 7)
        self.assertEqual({r["end"] for r in t.daemon.wait_records(2)}, {"connect-failed"})
        self.assertEqual(set(self.flows(t, 12)), {"direct"})
        for record in t.daemon.lines(type="access", end="done"):
            self.assertEqual(record["direct_because"], "when_all_down")
        self.assertIn("echo 10.91.0.2\n", t.echo.log())
        self.assertNotIn("echo 10.91.3.2\n", t.echo.log())
        self.assertEqual(len(t.daemon.lines(severity="error", group="default")), 1)

    def expect_never_direct(self, t, flows, end):
        for _ in range(flows):
            t.host.expect_reset(SITE, 7, b"x")
        self.assertEqual({(r["end"], r["upstream"]) for r in t.daemon.wait_records(flows)}, {end})
        self.assertEqual(t.echo.log(), "ready\n")

    def test_direct_is_not_for_what_an_upstream_that_is_up_does_not_carry(self):
        """One closes the connection at the request, which may be its way to refuse; the next one is down."""
        t = self.build("host")
        t.proxy.peer("socks", "10.91.3.2", 1080, "cut")
        t.daemon = t.host.transocksd("""
            workers = 1
            handshake = "strict"
            [[upstream]]
            name = "cuts"
            url = "socks5://10.91.3.2:1080"
            [[upstream]]
            name = "down"
            url = "socks5://10.91.3.2:1081"
            [group.default]
            choose = "failover"
            when_all_down = "direct"
            """)
        t.host.rules("install")
        t.echo = t.inet.peer("echo", "::", 7)
        self.expect_never_direct(t, 1, ("connect-failed", "down"))

    def test_direct_is_not_for_want_of_ports(self):
        t = self.build("host")
        t.daemon = t.host.transocksd("""
            workers = 1
            [[upstream]]
            name = "a"
            url = "socks5://10.91.3.2:1080"
            source = ["10.91.0.99"]
            [group.default]
            when_all_down = "direct"
            """)
        t.host.rules("install")
        t.echo = t.inet.peer("echo", "::", 7)
        self.expect_never_direct(t, 5, ("connect-failed", "a"))

    # --- source addresses

    def test_ports_of_two_source_addresses(self):
        """Twice as many flows as one address has ports; the next one fails, and nobody is blamed."""
        t = self.build("host")
        t.host.ip("\n".join(f"addr add 10.91.0.{n}/24 dev eth0" for n in (3, 4, 5)))
        t.host.sysctl("net.ipv4.ip_local_port_range", "40000 40019")
        t.usocksd = {}
        self.up(t, "a")
        t.daemon = t.host.transocksd("""
            workers = 1
            [[upstream]]
            name = "a"
            url = "socks5://10.91.3.2:1080"
            source = ["10.91.0.3", "10.91.0.4"]""")
        t.daemon.wait_line(message="ready")
        t.host.rules("install")
        t.inet.peer("echo", "::", 7)
        socks = []
        for i in range(40):
            socks.append(t.host.connect(SITE, 7, source=("10.91.0.5", 50000 + i)))
            self.addCleanup(socks[-1].close)
            self.echoes(socks[-1])
        self.assertEqual(self.upstreams()["a"]["sources"],
                         [{"address": f"10.91.0.{n}", "ports": 20, "max_ports": 20} for n in (3, 4)])
        said = t.daemon.lines(severity="warning")
        self.assertEqual([(x["source"], x["ports"], x["max_ports"]) for x in said],
                         [("10.91.0.3", 16, 20), ("10.91.0.4", 16, 20)])
        with self.assertRaises(ConnectionResetError):
            with t.host.connect(SITE, 7, source=("10.91.0.5", 51000)) as sock:
                sock.recv(1)
        record, = t.daemon.wait_records(1)
        self.assertEqual(record["end"], "connect-failed")
        self.assertIn("no source address has a port left", record["error"])
        self.assertEqual(self.upstreams()["a"]["state"], "up")
        for sock in socks:
            sock.close()
        lab.wait_until(lambda: [s["ports"] for s in self.upstreams()["a"]["sources"]] == [0, 0])

    # --- what counts

    def test_a_scanner_ejects_nobody(self):
        t = self.start('choose = "round-robin"', '[timeouts]\nreply = "700ms"')
        socks = []
        for i in range(60):
            with t.host.inside():
                socks.append(socket.socket())
            self.addCleanup(socks[-1].close)
            socks[-1].setblocking(False)
            # refused, without an answer, unreachable
            socks[-1].connect_ex((f"11.{(0, 8, 9)[i % 3]}.{i}.1", 9))
        t.daemon.wait_records(60, seconds=20)
        self.assertEqual(t.daemon.lines(message="upstream ejected"), [])
        for upstream in self.upstreams().values():
            self.assertEqual(upstream["state"], "up")
            self.assertEqual(upstream["failed_connect"] + upstream["failed_greeting"], 0)
            self.assertEqual(upstream["reply_done"], 0)
        self.assertEqual(len(self.flows_after(t, 60, 6)), 6)

    def flows_after(self, t, before, count):
        for _ in range(count):
            with t.host.connect(SITE, 7) as sock:
                self.echoes(sock)
        return t.daemon.wait_records(before + count)[before:]

    def test_a_reload_keeps_what_is_known(self):
        t = self.start('choose = "failover"')
        t.usocksd["a"].kill()
        self.flows(t, 5)
        before = self.upstreams()["a"]
        self.assertIn(before["state"], ("ejected", "trying"))
        t.daemon.signal(signal.SIGHUP)
        t.daemon.wait_line(message="configuration reloaded")
        after = self.upstreams()["a"]
        self.assertIn(after["state"], ("ejected", "trying"))
        self.assertEqual((after["failed_connect"], after["last_failure"]),
                         (before["failed_connect"], "connect: Connection refused"))
        self.assertEqual(set(self.flows(t, 3)), {"b"})

    def test_probes_need_no_traffic(self):
        t = self.start('choose = "failover"\nprobe_interval = "1s"')
        t.usocksd["b"].kill()
        self.wait_state(t, "b", "ejected", "trying")
        self.up(t, "b")
        self.wait_state(t, "b", "returning", "up", seconds=20)
        self.assertEqual(t.daemon.lines(type="access"), [])
        self.assertEqual({u["flows"] for u in self.upstreams().values()}, {0})

    def test_full_probes(self):
        """All the way: an upstream that greets, and can reach nothing."""
        t = self.start(f'choose = "failover"\nprobe_interval = "1s"\nprobe_dest = "{SITE}:7"')
        self.wait_state(t, "a", "up")
        t.echo.wait_log("echo 10.91.3.2")
        t.usocksd["a"].kill()
        t.usocksd["a"] = t.proxy.peer("socks", "10.91.3.2", PORT["a"], "code", 1)
        self.wait_state(t, "a", "ejected", "trying")
        found = self.upstreams()["a"]
        self.assertGreaterEqual(found["failed_probe"], 1)
        self.assertRegex(found["last_failure"], "^probe: ")
        self.assertEqual(set(self.flows(t, 3)), {"b"})

    def test_a_probed_destination_that_is_gone(self):
        """No upstream reaches it: that is said once, and they are as good as before."""
        t = self.start(f'choose = "failover"\nprobe_interval = "1s"\nprobe_dest = "{SITE}:9"')
        site = t.inet.peer("echo", "::", 9)
        for _ in range(2):
            site.wait_log("echo 10.91.3.2")
        said = len(t.daemon.lines(severity="warning"))  # the probes may have come before the site
        site.kill()
        t.daemon.wait_line(said + 1, severity="warning", group="default", probe_dest=f"{SITE}:9",
                           error="connection refused")
        before = len(t.usocksd["a"].lines(type="access"))
        t.usocksd["a"].wait_records(before + 4)
        self.assertEqual({u["state"] for u in self.upstreams().values()}, {"up"})
        self.assertEqual(len(t.daemon.lines(severity="warning")), said + 1)
        self.assertEqual(set(self.flows(t, 3)), {"a"})

    def test_an_http_proxy_that_hangs(self):
        """Its kernel goes on to accept connections, of probes and of flows: that is no sign of life."""
        t = self.start(f'choose = "failover"\nprobe_interval = "1s"\nprobe_dest = "{SITE}:7"',
                       '[timeouts]\nreply = "300ms"', schemes={"a": "http"})
        t.usocksd["a"].kill()
        hangs = t.proxy.peer("silent", "10.91.3.2", PORT["a"])
        client = t.host.peer("arrivals", SITE, 7, 50, 30)
        self.wait_state(t, "a", "ejected", "trying")
        self.assertRegex(self.upstreams()["a"]["last_failure"], "^probe: ")
        client.signal(signal.SIGTERM)
        client.wait(30)
        hangs.kill()
        t.proxy.peer("connect", "10.91.3.2", PORT["a"], "reply", r"HTTP/1.1 200 OK\n\n")
        self.wait_state(t, "a", "returning", "up", seconds=20)


if __name__ == "__main__":
    lab.main()
