# SPDX-License-Identifier: MIT
"""
Others at work on the same host: many installers at once, and foreign rules of every kind. By hand, the same foreign
rules again: SEED=...
"""
import os
import random
import re
import time

import foreign
import lab
import ways
from iptables import UID, IptablesCase

RULES = lab.BUILD / "transocks-rules"
PLACES = ((), ("--gateway", "lan0"))


def with_lan(case):
    """A host without a network, but with an interface that can be a gateway's."""
    host = case.lonely()
    host.ip("link add lan0 type veth peer name lan1")
    return host


class Installers(lab.TestCase):
    COUNT = 20

    def configuration(self, number, mode):
        """The arguments of one of them; no two are alike."""
        args = ["--mode", mode, "--bypass", f"11.{number}.0.0/16,2a00:1:{number:x}::/48", "--uid", lab.RULES_UID]
        args += ["--ports", f"80,{1000 + number}"] if number % 3 == 0 else []
        args += ["--quic", "reject"] if number % 4 == 0 else []
        args += ["--exempt-marks", f"{number * 0x100 + 0x100}/0xff00"] if number % 5 == 0 else []
        args += ["--share", number] if number % 7 == 0 else []
        return args

    def state(self, host):
        """The rules, and what leads marked packets to this host."""
        routes = [host.run("ip", *words.split()).stdout for words in (
            "-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all")]
        return host.ruleset(), *("\n".join(x for x in text.splitlines() if "1081" in x) for text in routes)

    def all_at_once(self, mode):
        """One of them has the last word, whole; and what it says of itself is true."""
        host = with_lan(self)
        host.transocksd(f'listen = ":1081"\nproxy_url = "direct://"\nmode = "{mode}"\n')
        configurations = [self.configuration(number, mode) for number in range(self.COUNT)]
        states = []
        for args in configurations:
            host.run(RULES, "install", *args)
            states.append(self.state(host))
            host.rules("flush")
        self.assertEqual(len(set(states)), self.COUNT)
        for _ in range(3):
            procs = [host.spawn(RULES, "install", *args) for args in configurations]
            codes = [proc.wait(30) for proc in procs]
            self.assertLessEqual(set(codes), {0, 6}, [proc.log() for proc in procs])
            self.assertIn(self.state(host), states)
            winner = states.index(self.state(host))
            self.assertEqual(codes[winner], 0)
            found = [host.run(RULES, "status", *args, check=False).returncode for args in configurations]
            self.assertEqual(found, [0 if number == winner else 4 for number in range(self.COUNT)])

    def test_redirect(self):
        self.all_at_once("redirect")

    def test_tproxy(self):
        self.all_at_once("tproxy")


class Seeded(lab.TestCase):
    def each_seed(self, count, test):
        """Each with its number in what is told of a failure."""
        first = int(os.environ.get("SEED", time.time_ns() % 2**32))
        for seed in range(first, first + (1 if "SEED" in os.environ else count)):
            with self.subTest(f"SEED={seed}"):
                test(with_lan(self), random.Random(seed))

    def through(self, rules, state):
        """Both modes, with and without a gateway: the others' rules are as before, at every step."""
        before = state()
        for mode in ways.MODES:
            for place in PLACES:
                rules("install", "--force", "--mode", mode, *place)
                rules("install", "--force", "--mode", mode, *place, "--quic", "reject")
                self.assertEqual(state(ours=True), before)
                rules("flush")
                self.assertEqual(state(), before)


class Foreign(Seeded):
    def test_tables_of_nft(self):
        self.each_seed(8, self.beside)

    def beside(self, host, rng):
        host.nft(foreign.tables(rng))

        def state(ours=False):
            text = host.run("nft", "-a", "list", "ruleset").stdout
            if ours:
                self.assertEqual(len(re.findall(r"^table inet transocks \{", text, re.M)), 1)
                text = re.sub(r"^table inet transocks \{.*?^\}.*\n", "", text, flags=re.M | re.S)
            return text

        self.through(host.rules, state)


class ForeignIptables(IptablesCase, Seeded):
    """Beside rules of this variant, with our own by nf_tables and by iptables."""

    def beside(self, host, rng, backend, wanted):
        for v6, program in enumerate(("iptables-restore", "ip6tables-restore")):
            self.tables(host, program, stdin=foreign.iptables(rng, v6, wanted))

        def state(ours=False):
            text = self.saved(host)
            if ours and backend == "iptables":
                self.assertIn("TRANSOCKS", text)
                text = "".join(x for x in text.splitlines(True) if "TRANSOCKS" not in x)
            return text

        def rules(command, *args):
            args += ("--uid", UID, "--backend", backend) if command == "install" else ()
            host.run(RULES, command, *args, env={"PATH": str(self.path)})

        self.through(rules, state)

    def test_and_ours_by_nft(self):
        self.each_seed(3, lambda host, rng: self.beside(host, rng, "nft", ()))

    def test_and_ours_by_iptables(self):
        # An empty table that iptables has made for us stays, so there is something in each from the beginning.
        wanted = ("filter", "nat", "mangle")
        self.each_seed(3, lambda host, rng: self.beside(host, rng, "iptables", wanted))


class ForeignLegacy(ForeignIptables):
    variant = "legacy"


class ForeignNft(ForeignIptables):
    variant = "nft"


del IptablesCase, ForeignIptables, Seeded


if __name__ == "__main__":
    lab.main()
