# SPDX-License-Identifier: MIT
"""flush: live connections end by themselves, new ones go direct at once; --now cuts, and only what is ours."""
import json
import signal
import socket
import struct

import lab
from test_rules import FlowCase, RULES, original_destination

DRAIN = 'comment "draining: new flows go direct"'
NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET = 1, 1
NETLINK_NETFILTER, NLM_F_REQUEST, NLM_F_DUMP, NLMSG_DONE = 12, 1, 0x300, 3

FOREIGN = """
table inet foreign {
    chain output {
        type nat hook output priority -150; policy accept;
        ip daddr 11.5.0.1 tcp dport 80 dnat ip to 10.91.0.1:1081
        ip daddr 11.6.0.1 tcp dport 80 redirect to :2222
    }
}
"""


def conntrack_entries(host):
    """How many there are, from the kernel."""
    with host.inside():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    count = 0
    with sock:
        kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET
        sock.send(struct.pack("=IHHIIBBH", 20, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0, 0, 0, 0))
        while True:
            data = sock.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_DONE:
                    return count
                count += 1
                data = data[(length + 3) & ~3:]


class FlushCase(FlowCase):
    def start(self, kind="host"):
        """A topology with our rules, and sockets in the place of transocksd and of servers on the Internet."""
        t = self.build(kind)
        t.router = t.gateway if kind == "gateway" else t.host
        t.arguments = ("--gateway", "lan0") if kind == "gateway" else ()
        four = self.server(t.router, "0.0.0.0", 1081)
        with t.router.inside():
            six = socket.create_server(("::", 1081), family=socket.AF_INET6)
        six.settimeout(lab.LONG)
        self.addCleanup(six.close)
        t.proxies = {"11.1.2.3": four, "2a00:1:5::7": six}
        t.servers = {address: self.server(t.inet, address, 80) for address in t.proxies}
        return t

    def live(self, t):
        """Proxied flows of both families."""
        return [self.proxied(t.client, server, address) for address, server in t.proxies.items()]

    def direct(self, t):
        """New flows of both families, which must arrive at the servers themselves."""
        found = []
        for address, server in t.servers.items():
            client = t.client.connect(address, 80)
            self.addCleanup(client.close)
            found.append((client, server.accept()[0]))
            self.addCleanup(found[-1][1].close)
            self.passes(*found[-1])
        return found

    def all_pass(self, pairs):
        for pair in pairs:
            self.passes(*pair)

    def flush(self, t, *args):
        """Starts it and waits until it drains."""
        proc = t.router.spawn(RULES, "flush", *args)
        lab.wait_until(lambda: DRAIN in t.router.ruleset(), 10, "the table is not drained", alive=proc)
        return proc

    def end(self, pairs):
        for pair in pairs:
            for sock in pair:
                sock.close()


class Drain(FlushCase):
    def through(self, kind):
        t = self.start(kind)
        before = self.direct(t)
        with t.router.inside():
            own = self.server(t.router, "fd91::2" if kind == "host" else "fd91:0:2::2", 22)
        inbound = t.inet.connect(own.getsockname()[0], 22)
        self.addCleanup(inbound.close)
        before.append((own.accept()[0], inbound))
        self.addCleanup(before[-1][0].close)
        self.assertEqual(conntrack_entries(t.router), 0)
        t.router.rules("install", *t.arguments)
        self.all_pass(before)
        live = self.live(t)
        flush = self.flush(t, "--drain", "40s")
        flush.wait_log(r"^[12] redirected flows? left, [34]\d s$")
        before += self.direct(t)
        self.all_pass(before + live)
        self.assertTrue(flush.alive())
        self.end(live[:1])
        self.all_pass(before + live[1:])
        self.assertTrue(flush.alive())
        self.end(live[1:])
        self.assertEqual(flush.wait(20), 0)
        self.assertIn("removed table inet transocks; 0 redirected flows cut\n", flush.log())
        self.assertEqual(t.router.ruleset(), "")
        self.all_pass(before + self.direct(t))

    def test_host(self):
        self.through("host")

    def test_gateway(self):
        self.through("gateway")

    def test_what_is_left_is_named(self):
        t = self.start()
        t.host.rules("install")
        server = t.proxies["11.1.2.3"]
        live = self.live(t) + [self.proxied(t.host, server, f"11.1.3.{n}", 4000 + n) for n in range(11)]
        done = t.host.rules("flush", "--drain", "0", check=False)
        self.assertEqual(done.returncode, 6)
        for word in ("13 redirected flows are left", "go direct already", "flush --now", "install"):
            self.assertIn(word, done.stderr)
        six = live[1][0].getsockname()
        self.assertIn(f"  [fd91::2]:{six[1]} -> [2a00:1:5::7]:80\n", done.stdout)
        self.assertEqual(done.stdout.count(" -> 11.1."), 10)
        self.assertIn("and 2 more by IPv4\n", done.stdout)
        drained = t.host.ruleset()
        status = self.json(t.host, "status", "--uid", lab.RULES_UID, code=4)
        self.assertEqual((status["draining"], status["flows"]), (True, 13))
        result = self.json(t.host, "flush", "--drain", "300ms", code=6)
        self.assertEqual((result["flows_left"], result["flows_cut"], result["removed"]), (13, 0, False))
        self.assertEqual(len(result["left"]), 11)
        self.assertIn({"client": f"[fd91::2]:{six[1]}", "dest": "[2a00:1:5::7]:80"}, result["left"])
        self.assertEqual(t.host.ruleset(), drained)
        self.assertEqual(drained.count(DRAIN), 1)
        self.all_pass(live)
        # An installation makes it whole again.
        t.host.rules("install")
        self.assertNotIn(DRAIN, t.host.ruleset())
        live += [self.proxied(t.host, server, "11.1.2.3", 81)]
        self.all_pass(live)
        self.end(live)
        self.assertIn("; 0 redirected flows cut", t.host.rules("flush").stdout)

    def test_killed(self):
        t = self.start()
        t.host.rules("install")
        live = self.live(t)
        flush = self.flush(t)
        flush.kill()
        self.all_pass(live + self.direct(t))
        again = self.flush(t)
        self.assertEqual(t.host.ruleset().count(DRAIN), 1)
        self.end(live)
        self.assertEqual(again.wait(20), 0)
        self.assertEqual(t.host.ruleset(), "")

    def test_signals(self):
        t = self.start()
        t.host.rules("install")
        live = self.live(t)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            t.host.rules("install")
            flush = self.flush(t, "--json")
            flush.signal(number)
            self.assertEqual(flush.wait(10), 128 + number, flush.log())
            log = flush.log().splitlines()
            self.assertEqual(len(log), 2, log)  # no progress beside the object
            self.assertEqual(json.loads(log[1] if log[1][0] == "{" else log[0])["flows_left"], 2)
            self.assertIn("stopped waiting for 2 redirected flows", flush.log())
        self.all_pass(live + self.direct(t))

    def test_many_ports(self):
        """Of all ports that there have been, the present one and the latest are those that it waits for."""
        t = self.start()
        for port in range(2001, 2013):
            t.host.rules("install", "--port", port)
        last = self.proxied(t.client, self.server(t.host, "127.0.0.1", 2012), "11.1.2.3")
        t.host.rules("install", "--port", 2011)
        before = self.proxied(t.client, self.server(t.host, "127.0.0.1", 2011), "11.1.2.3")
        self.assertIn('earlier ports 2012 2010 2009 2008 2007 2006 2005"', t.host.ruleset())
        self.assertEqual(self.json(t.host, "flush", "--drain", "0", code=6)["flows_left"], 2)
        self.all_pass([last, before])

    def test_installed_again_meanwhile(self):
        t = self.start()
        t.host.rules("install")
        live = self.live(t)
        flush = self.flush(t)
        t.host.rules("install")
        self.assertEqual(flush.wait(20), 1)
        self.assertIn("installed again meanwhile", flush.log())
        self.assertNotIn(DRAIN, t.host.ruleset())
        self.all_pass(live + self.live(t))

    def test_removed_meanwhile(self):
        t = self.start()
        t.host.rules("install")
        self.live(t)
        flush = self.flush(t)
        t.host.run("nft", "delete", "table", "inet", "transocks")
        self.assertEqual(flush.wait(20), 0)
        self.assertIn("table inet transocks went meanwhile", flush.log())

    def test_two_at_once(self):
        t = self.start()
        t.host.rules("install")
        live = self.live(t)
        two = [self.flush(t) for _ in range(2)]
        self.end(live)
        self.assertEqual([flush.wait(20) for flush in two], [0, 0], [flush.log() for flush in two])
        self.assertEqual(t.host.ruleset(), "")

    def test_ended_flows_do_not_hold_it_up(self):
        t = self.start()
        t.host.rules("install")
        self.end(self.live(t))
        self.assertIn("removed table", t.host.rules("flush", "--drain", "0").stdout)

    def test_usage(self):
        host = self.lonely()
        for args in (("--drain", "5"), ("--drain", "x"), ("--drain", "25h"), ("--drain", "1s", "--now"), ("--drain",)):
            self.refused(host, "flush", *args, code=64)


class Tproxy(FlushCase):
    """The same where flows are taken without NAT: conntrack does not know those of a gateway's clients."""

    ROUTES = ("rule add pref 1081 fwmark 0x10/0x10 lookup 1081 protocol 84",
              "route replace local default dev lo table 1081 protocol 84")

    def start(self, kind="host"):
        t = self.build(kind)
        t.router = t.gateway if kind == "gateway" else t.host
        t.arguments = ("--gateway", "lan0") if kind == "gateway" else ()
        t.daemon = t.router.transocksd('listen = ":1081"\nmode = "tproxy"\nproxy_url = "direct://"\n')
        t.servers = {address: self.server(t.inet, address, 80) for address in ("11.1.2.3", "2a00:1:5::7")}
        for family in ("-4", "-6"):
            for words in self.ROUTES:
                if "1081" not in t.router.run("ip", family, words.split()[0], "show", "table", "all",
                                              check=False).stdout:
                    t.router.run("ip", family, *words.split())
        t.router.rules("install", "--mode", "tproxy", *t.arguments)
        return t

    def through(self, kind):
        t = self.start(kind)
        live = self.direct(t)  # through the daemon, to the servers themselves
        left = self.json(t.router, "flush", "--drain", "0", code=6)["left"]
        self.assertEqual({f["dest"] for f in left}, {"11.1.2.3:80", "[2a00:1:5::7]:80"})
        self.assertEqual([f["client"].rpartition(":")[0].strip("[]") for f in left],
                         [pair[0].getsockname()[0] for pair in live])
        flush = self.flush(t, "--drain", "40s")
        direct = self.direct(t)
        self.all_pass(live + direct)
        self.assertEqual(t.daemon.lines(type="access"), [])
        self.assertTrue(flush.alive())
        self.end(live)
        self.assertEqual(len(t.daemon.wait_records(2)), 2)
        self.assertEqual(flush.wait(20), 0)
        self.assertEqual(t.router.ruleset(), "")
        for family in ("-4", "-6"):
            self.assertNotIn("1081", t.router.run("ip", family, "rule").stdout)
        self.all_pass(direct + self.direct(t))
        self.assertEqual(len(t.daemon.lines(type="access")), 2)

    def test_host(self):
        self.through("host")

    def test_gateway(self):
        self.through("gateway")


class Now(FlushCase):
    def test_cuts_ours_alone(self):
        t = self.start()
        t.host.nft(FOREIGN)
        foreign_text = t.host.ruleset()
        t.host.rules("install")
        far, near = self.server(t.inet, "10.91.0.1", 1081), self.server(t.host, "127.0.0.1", 2222)
        foreign = []
        for address, server in (("11.5.0.1", far), ("11.6.0.1", near)):
            client = t.host.connect(address, 80)
            foreign.append((client, server.accept()[0]))
            self.addCleanup(client.close)
            self.addCleanup(foreign[-1][1].close)
        self.assertEqual(original_destination(foreign[1][1]), ("11.6.0.1", 80))
        others = conntrack_entries(t.host)
        live = self.live(t)
        ended = self.proxied(t.host, t.proxies["11.1.2.3"], "11.1.2.9")
        self.end([ended])
        dry = self.json(t.host, "flush", "--dry-run", "--now")
        self.assertEqual((dry["flows_cut"], dry["removed"]), (2, False))
        self.all_pass(live)
        self.assertEqual(conntrack_entries(t.host), others + 3)
        done = t.host.rules("flush", "--now")
        self.assertIn("removed table inet transocks; 2 redirected flows cut; 3 conntrack entries removed\n", done.stdout)
        self.assertEqual(t.host.ruleset(), foreign_text)
        self.assertEqual(conntrack_entries(t.host), others)
        self.all_pass(foreign)
        for pair in live:
            with self.assertRaises(ConnectionResetError):  # by the server, who knows of no such connection
                pair[0].sendall(b"x")
                pair[0].recv(1)

    def test_while_another_waits(self):
        t = self.start()
        t.host.rules("install")
        self.live(t)
        flush = self.flush(t)
        self.assertEqual(self.json(t.host, "flush", "--now")["flows_cut"], 2)
        self.assertEqual(flush.wait(20), 0)
        self.assertEqual(t.host.ruleset(), "")


if __name__ == "__main__":
    lab.main()
