# SPDX-License-Identifier: MIT
"""usocksd where names are slow: name servers that do not answer, and names with many dead addresses."""
import signal

import flow
import lab
import test_limits
import test_udp
import test_usocksd

SILENT = [f"s{number}.test" for number in range(6)]
ZONE = ("known.test=11.0.0.1", *(f"half{n}.test={value}" for n in range(3) for value in ("11.0.0.1", "half")), *(f"{name}=silent" for name in SILENT),
        *(f"thirty.test=11.8.0.{number}" for number in range(1, 30)), "thirty.test=11.0.0.1")


class Resolving(test_limits.Clients):
    def start(self, config=""):
        t = super().start(f'{test_limits.USOCKSD}[dns]\nservers = ["10.91.0.1"]\n{config}')
        t.dns = t.inet.peer("dns", "10.91.0.1", 53, *ZONE)
        t.host.ip("".join(f"addr add 10.91.0.{number}/24 dev eth0\n" for number in range(10, 15)))
        return t

    def ask(self, t, name, source=None):
        return self.connect(t, test_usocksd.GREETING + test_usocksd.request(name, 80), source)

    def code(self, sock):
        """The reply code; what waits for a name server may take its time."""
        sock.settimeout(30)
        return self.read(sock, 12)[3]

    def connecting(self, t):
        """Attempts on their way (SYN_SENT)."""
        return sum(state == 2 for _, _, _, _, state, _ in t.proxy.sockets())

    def test_dead_name_servers(self):
        """So many wait, a quarter of them of one client; the others hear that at once. What is known is served, and so are
        addresses. Then those who wait are told, and it goes on."""
        t = self.start("[limits]\nmax_resolving = 4\n")
        self.assertEqual(self.code(self.ask(t, "known.test")), 0)
        sources = [(f"10.91.0.{number}", 0) for number in range(10, 14)]
        many = self.ask(t, "thirty.test")
        lab.wait_until(lambda: self.connecting(t) > 0)  # it waits for no name server any more
        waiting = [self.ask(t, name, source) for name, source in zip(SILENT, sources)]
        lab.wait_until(lambda: self.number(t, "resolving") == 4)
        for source in (None, sources[0]):
            self.assertEqual(self.code(self.ask(t, SILENT[4], source)), 1)
            self.assertEqual(self.code(self.ask(t, "known.test", source)), 0)
            self.assertEqual(self.code(self.ask(t, "127.0.0.1", source)), 2)
            self.served(t, source)
        flow.reset(waiting[0])  # the name servers are asked on, so that there is no room for the next
        t.usocksd.wait_line(end="client-gone")
        self.assertEqual(self.code(self.ask(t, SILENT[4])), 1)
        self.assertEqual(self.number(t, "resolving"), 4)
        lab.wait_until(lambda: self.connecting(t) == 8, 20)
        self.assertEqual([self.code(sock) for sock in waiting[1:]], [4] * 3)
        # Meanwhile a flow is trying 29 dead addresses, a quarter of a second for each but few at once. The last one is good.
        self.assertLessEqual(self.connecting(t), 8)
        self.assertEqual(self.code(many), 0)
        self.assertEqual(self.connecting(t), 0)
        many.close()
        record = t.usocksd.wait_line(dest_host="thirty.test", type="access")
        self.assertEqual((record["end"], record["dest_addr"]), ("done", "11.0.0.1:80"))
        lab.wait_until(lambda: self.number(t, "resolving") == 0)
        self.assertEqual((self.ended(t, "resolve-limit"), self.ended(t, "resolve-timeout")), (3, 3))
        self.assertEqual(t.usocksd.lines(end="resolve-limit")[0]["error"], "limits.max_resolving is reached")
        self.assertEqual(self.code(self.ask(t, "nosuch.test", sources[0])), 4)
        # One that has gone holds up neither a new configuration nor the end.
        for number in (1, 2):
            sock = self.ask(t, SILENT[3 + number], sources[number])
            lab.wait_until(lambda n=number: self.number(t, "resolving") == n)
            flow.reset(sock)
            t.usocksd.wait_line(1 + number, end="client-gone")
            t.usocksd.signal(signal.SIGHUP)
            t.usocksd.wait_line(number, message="configuration reloaded")
        self.assertEqual(self.number(t, "resolving"), 2)
        t.usocksd.signal(signal.SIGQUIT)
        self.assertEqual(t.usocksd.wait(), 0)

    def test_half_an_answer(self):
        """A flow goes on with the addresses of one family; its place is free when the other one is known not to come."""
        t = self.start("[limits]\nmax_resolving = 4\n")
        sock = self.ask(t, "half0.test")
        self.assertEqual(self.code(sock), 0)
        self.assertEqual(self.number(t, "resolving"), 1)
        self.assertEqual(self.code(self.ask(t, "half1.test")), 1)  # a quarter of four
        lab.wait_until(lambda: self.number(t, "resolving") == 0, 20)
        self.assertEqual(self.code(self.ask(t, "half2.test")), 0)

    def test_datagrams(self):
        """To names, of one association: it has its client's places and no more."""
        t = self.start("[limits]\nmax_resolving = 8\n")
        association = test_udp.Association(self, t.host)
        for name in SILENT:
            association.send(name, b"x")
        lab.wait_until(lambda: self.number(t, "resolving") == 2)
        t.dns.wait_log("s1.test A$")
        self.assertNotIn("s2.test", t.dns.log())
        association.tcp.close()  # the name servers are asked on
        t.usocksd.wait_line(type="access")
        self.assertEqual(self.number(t, "resolving"), 2)
        t.usocksd.signal(signal.SIGTERM)
        self.assertEqual(t.usocksd.wait(), 0)


if __name__ == "__main__":
    lab.main()
