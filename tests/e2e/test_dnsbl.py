# SPDX-License-Identifier: MIT
"""Own addresses that a DNS blocklist has: only their clients move, and nothing else is taken for an entry."""
import ipaddress

import flow
import lab
import test_usocksd
from test_egress import EGRESS, EGRESS6, Egress, toml

LIST = 'dnsbl_domain = "bl.test"\ndnsbl_interval = "1s"\n'


# A query that a blocklist has taken with it is asked again after two seconds, then four.
SECONDS = 20


def name_of(address):
    """As RFC 5782 has it."""
    reverse = ipaddress.ip_address(address).reverse_pointer
    return reverse.replace(".in-addr.arpa", "").replace(".ip6.arpa", "") + ".bl.test"


class Dnsbl(Egress):
    def answer(self, **answers):
        """From now on the blocklist has these: e1 is the second address of EGRESS, s1 of EGRESS6."""
        addresses = {f"e{i}": a for i, a in enumerate(EGRESS)} | {f"s{i}": a for i, a in enumerate(EGRESS6)}
        zone = []
        for key, values in answers.items():
            zone += [f"{name_of(addresses[key])}={value}" for value in (*values.split(), "brief")]
        self.t.dns.kill()
        self.t.dns = self.t.inet.peer("dns", "11.0.0.53", 53, *zone)

    def states(self):
        status = self.status()
        return [status[a]["state"] for a in status]

    def wait_states(self, *states):
        lab.wait_until(lambda: self.states() == list(states), SECONDS, lambda: f"{self.states()} is not {states}")

    def asked(self, rounds=1):
        """So many rounds have come to the blocklist as it is now."""
        names = [line.split()[1] for line in self.t.dns.log().splitlines() if line.count(" ") == 2]
        return all(names.count(name_of(a)) >= rounds for a in EGRESS)


class Entries(Dnsbl):
    def hold(self, client):
        """A flow that stays."""
        self.t.inet.peer("echo", "::", 7)
        sock = self.t.host.connect("10.91.3.2", 1080, source=(client, 0))
        self.addCleanup(sock.close)
        self.t.count += 1
        sock.sendall(test_usocksd.GREETING + test_usocksd.request("11.0.0.1", 7))
        reply = b""
        while len(reply) < 12:
            reply += sock.recv(12 - len(reply))
        self.assertEqual(ipaddress.ip_address(reply[6:10]), ipaddress.ip_address(EGRESS[1]))
        return sock

    def test_a_listed_address_moves_only_its_clients(self):
        t = self.start(toml(EGRESS))
        first = self.everybody()
        its_client = next(c for c in first if first[c] == EGRESS[1])
        live = self.hold(its_client)
        self.answer(e1="127.0.0.2")
        self.reload(toml(EGRESS) + LIST)
        self.wait_states("ok", "listed", "ok", "ok")
        after = self.everybody()
        self.assertNotIn(EGRESS[1], after.values())
        # To one address for all destinations; the flow that was there goes on.
        self.assertEqual({self.egress(its_client, f"11.0.0.{i}") for i in range(1, 51)}, {after[its_client]})
        self.assertTrue(flow.talk(live))
        self.assertEqual({c for c in first if after[c] != first[c]}, {c for c in first if first[c] == EGRESS[1]})
        line = t.usocksd.wait_line(egress=EGRESS[1], answer="127.0.0.2", dnsbl="bl.test", seconds=SECONDS)
        self.assertEqual(line["severity"], "warning")
        # The list fails: all stays as it is, also over a reload, which forgets what was answered.
        self.answer(e1="fail")
        lab.wait_until(lambda: name_of(EGRESS[1]) in t.dns.log(), SECONDS)
        self.assertEqual(self.everybody(), after)
        self.reload(toml(EGRESS) + LIST)
        lab.wait_until(self.asked, SECONDS)
        self.assertEqual(self.everybody(), after)
        # It goes off the list, and its clients come back.
        self.answer()
        t.usocksd.wait_line(egress=EGRESS[1], message="an egress address is off the blocklist", seconds=SECONDS)
        self.assertEqual(self.everybody(), first)
        self.assertEqual(len(t.usocksd.lines(egress=EGRESS[1])), 2)
        self.assertEqual(self.states(), ["ok"] * 4)

    def test_what_is_no_entry(self):
        t = self.start(toml(EGRESS))
        first = self.everybody()
        self.answer(e0="127.0.0.1", e1="127.255.255.254", e2="11.0.0.1", e3="fail")
        self.reload(toml(EGRESS) + LIST)
        lab.wait_until(self.asked, SECONDS)
        line = t.usocksd.wait_line(dnsbl="bl.test", seconds=SECONDS)
        self.assertEqual((line["egress"], line["answer"]), (EGRESS[0], "127.0.0.1"))
        self.assertEqual(self.everybody(), first)
        self.assertEqual(self.states(), ["ok"] * 4)
        self.assertEqual(len(t.usocksd.lines(dnsbl="bl.test")), 1, "said once")

    def test_all_listed(self):
        t = self.start(toml((*EGRESS, *EGRESS6[:2])))
        first = self.everybody()
        self.answer(**{f"e{i}": f"127.0.0.{i + 2}" for i in range(4)}, s1="127.0.0.9")
        self.reload(toml((*EGRESS, *EGRESS6[:2])) + LIST)
        self.wait_states("listed", "listed", "listed", "listed", "ok", "listed")
        said = t.usocksd.wait_line(message="every egress address is on the blocklist, going on with them")
        self.assertEqual((said["severity"], said["family"], said["addresses"]), ("error", "IPv4", "outgoing.addresses"))
        self.assertEqual(self.everybody(), first)
        self.assertEqual({self.egress(c, "2a00:1::1") for c in t.clients[:20]}, {EGRESS6[0]})
        lab.wait_until(lambda: self.asked(3), SECONDS)
        # One is off the list: all go there.
        self.answer(**{f"e{i}": f"127.0.0.{i + 2}" for i in range(3)})
        self.wait_states("listed", "listed", "listed", "ok", "ok", "ok")
        self.assertEqual(set(self.everybody().values()), {EGRESS[3]})
        self.assertEqual(len(t.usocksd.lines(severity="error")), 1)

    def test_another_list_or_none(self):
        t = self.start(toml(EGRESS))
        self.answer(e2="127.0.0.2")
        self.reload(toml(EGRESS) + LIST)
        self.wait_states("ok", "ok", "listed", "ok")
        self.reload(toml(EGRESS) + LIST.replace("bl.test", "other.test"))
        self.wait_states("ok", "ok", "ok", "ok")
        lab.wait_until(lambda: ".other.test A" in t.dns.log(), SECONDS)

    def test_configuration(self):
        host = self.lonely()
        for text, error in (('dnsbl_domain = "not a name"\n', "is not the name of a blocklist"),
                            (f'dnsbl_domain = "{"x" * 60 + "." + "y" * 60 + "." + "z" * 60 + ".abcdefghi"}"\n', "189"),
                            ('dnsbl_domain = "10.0.0.1"\n', "is not the name of a blocklist"),
                            ('dnsbl_interval = "500ms"\n', "dnsbl_interval")):
            with self.subTest(text):
                done = host.run(lab.BUILD / "usocksd", "--check", "-f", "/dev/stdin", check=False,
                                stdin="[outgoing]\n" + text)
                self.assertEqual(done.returncode, 78)
                self.assertIn(error, done.stderr)


if __name__ == "__main__":
    lab.main()
