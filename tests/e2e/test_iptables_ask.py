# SPDX-License-Identifier: MIT
"""test and check by iptables, with iptables-legacy and iptables-nft: what they say is what the kernel does, nothing
leaves the host, and nothing stays behind."""
import contextlib
import json
import threading

import lab
from iptables import IptablesCase, PROGRAMS
from test_explain import Wire, needs_tun

TARGETS = {"IPv4": "11.0.0.1:80", "IPv6": "[2a00:1::1]:80"}
LOOPBACK = {"IPv4": "127.0.0.1:1081", "IPv6": "[::1]:1081"}
SKIPPED = {"IPv4": "11.5.0.1:80", "IPv6": "[2a00:1:5::1]:80"}
CLIENT = {"IPv4": "10.91.1.2", "IPv6": "fd91:0:1::2"}
GATEWAY = {"IPv4": "10.91.1.1:1081", "IPv6": "[fd91:0:1::1]:1081"}
BYPASS = ("--bypass", "11.5.0.0/16,2a00:1:5::/48,11.77.0.0/16")
# What others do between our rules and the wire.
COPY = "*mangle\n-A OUTPUT -p tcp -d 11.0.0.0/8 -j TEE --gateway 10.91.0.1\nCOMMIT\n"
DROP = "*filter\n-A OUTPUT -p tcp -d 11.6.0.0/16 -j DROP\nCOMMIT\n"
ELSEWHERE = "*nat\n-I OUTPUT -p tcp -d 11.7.0.0/16 -j DNAT --to-destination 11.8.0.1\nCOMMIT\n"


class Ask(IptablesCase):
    def start(self, kind, *args, mode="redirect", daemon=True):
        t = self.build(kind)
        t.on = t.gateway if kind == "gateway" else t.host
        t.wires = [Wire(t.inet, "gw0" if kind == "gateway" else "host0")]
        if kind == "gateway":
            t.wires.append(Wire(t.client, "eth0"))
        for wire in t.wires:
            self.addCleanup(wire.close)
        if daemon:
            t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
            t.on.transocksd(f'listen = ":1081"\nmode = "{mode}"\n'
                            'proxy_url = "socks5://10.91.3.2:1080"\n')
        self.rules(t.on, "install", "--mode", mode, *BYPASS, *args)
        return t

    def clean(self, t, what):
        self.assertNotIn("PROBE", self.saved(t.on))
        for wire in t.wires:
            self.assertEqual(wire.packets(), [], f"a probe to {what} is on the wire")

    def ask(self, t, *args, **expected):
        for wire in t.wires:
            wire.packets()
        answer = json.loads(self.rules(t.on, "test", *args, "--json").stdout)
        self.clean(t, args)
        self.assertEqual({name: answer.get(name) for name in expected}, expected, answer)
        self.assertEqual(answer["taken"], answer["verdict"] == "taken")
        return answer

    def host(self, mode):
        t = self.start("host", "--force", mode=mode, daemon=False)
        for family, target in TARGETS.items():
            becomes = LOOPBACK[family] if mode == "redirect" else target
            answer = self.ask(t, target, verdict="taken", rule="to transocksd", becomes=becomes,
                              uid=0, mark=0, backend="iptables")
            self.assertIn(" of chain TRANSOCKS_TAKE, table ", answer["why"])
            self.ask(t, target, "--mark", "0x1000", verdict="left-alone", mark=0x1000,
                     rule="marked by transocksd or usocksd")
            self.ask(t, target, "--uid", "transocks", verdict="left-alone",
                     rule="user of transocksd and usocksd")
            self.ask(t, target, "--uid", "nobody", verdict="taken")
            self.ask(t, SKIPPED[family], verdict="left-alone", rule="option bypass")
        self.ask(t, "10.91.0.2:80", verdict="left-alone", rule="to an address of this host")
        for text in (COPY, DROP, ELSEWHERE):
            self.tables(t.on, "iptables-restore", "--noflush", stdin=text)
        self.ask(t, TARGETS["IPv4"], verdict="taken", rule="to transocksd")
        self.ask(t, SKIPPED["IPv4"], verdict="left-alone", rule="option bypass")
        self.ask(t, "11.6.0.1:80", verdict="taken" if mode == "redirect" else "lost")
        # Under TPROXY ours comes first, and takes it.
        self.ask(t, "11.7.0.1:80", verdict="left-alone", rule="")
        t.on.ip("route add unreachable 11.78.0.0/16")
        self.ask(t, "11.78.0.1:80", verdict="no-route")

    @lab.needs_uids
    def test_host(self):
        self.host("redirect")

    @lab.needs_uids
    def test_host_by_tproxy(self):
        self.host("tproxy")

    def gateway(self, mode):
        t = self.start("gateway", "--gateway", "lan0", mode=mode)
        for family, target in TARGETS.items():
            client = ("--in", "lan0", "--from", CLIENT[family])
            self.ask(t, target, *client, verdict="taken", rule="to transocksd", **{"in": "lan0"},
                     becomes=GATEWAY[family] if mode == "redirect" else target)
            self.ask(t, SKIPPED[family], *client, verdict="left-alone", rule="option bypass")
        client = ("--in", "lan0", "--from", CLIENT["IPv4"])
        # The kernel would tell the client.
        t.on.ip("route add unreachable 11.77.0.0/16")
        self.ask(t, "11.77.0.1:80", *client, verdict="lost")
        with contextlib.suppress(OSError):
            t.client.connect("11.77.0.1", 80)
        self.assertNotEqual(t.wires[1].packets(), [])
        self.check(t, {(f, s): "ok" for f in TARGETS for s in self.steps(mode, "forwarded")})

    @needs_tun
    @lab.needs_uids
    def test_gateway(self):
        self.gateway("redirect")

    @needs_tun
    @lab.needs_uids
    def test_gateway_by_tproxy(self):
        self.gateway("tproxy")

    def steps(self, mode, *more):
        return ("reached", "user", "mark") + (() if mode == "tproxy" else ("guard",)) + more

    def check(self, t, expected, *args, code=0):
        """`expected`: results by family and step; those of "reached" may be doubtful instead of ok."""
        result = json.loads(self.rules(t.on, "check", "--backend", "iptables", *args, "--json", code=code).stdout)
        self.assertNotIn("PROBE", self.saved(t.on))
        found = {(s["family"], s["step"]): s["result"] for s in result["steps"]}
        for key, value in found.items():
            if key[1] == "reached" and value == "doubtful":
                found[key] = "ok"
        self.assertEqual(found, expected, result)
        return result

    @lab.needs_uids
    def test_check_finds(self):
        t = self.start("host")
        self.check(t, {(f, s): "ok" for f in TARGETS for s in self.steps("redirect")})
        steps = self.steps("redirect")
        fine = {(f, s): "ok" for f in TARGETS for s in steps}
        self.tables(t.on, "iptables-restore", "--noflush",
                    stdin="*filter\n-F TRANSOCKS_GUARD\nCOMMIT\n*nat\n-D TRANSOCKS_OUTPUT 4\nCOMMIT\n")
        self.assertNotIn("--uid-owner", self.saved(t.on, "iptables-save"))
        self.check(t, {**fine, ("IPv4", "guard"): "failed", ("IPv4", "user"): "failed"}, code=1)
        self.rules(t.on, "install", *BYPASS, "--family", "ipv4")
        four = {key: "ok" for key in fine if key[0] == "IPv4"}
        self.check(t, {**four, ("IPv6", "taken"): "skipped"})
        self.tables(t.on, "iptables-restore", "--noflush", stdin="*nat\n-F OUTPUT\nCOMMIT\n")
        self.check(t, {("IPv4", "taken"): "failed", ("IPv6", "taken"): "skipped"}, code=1)

    @lab.needs_uids
    def test_nobody_listens(self):
        t = self.start("host", daemon=False)
        self.check(t, {(f, s): "failed" if s == "reached" else "ok"
                       for f in TARGETS for s in ("reached", "mark", "guard")}, code=5)

    def test_not_installed(self):
        host = self.lonely()
        self.rules(host, "check", "--backend", "iptables", code=3)
        self.rules(host, "install", "--family", "ipv4")
        self.assertIn("no rules of iptables are installed for IPv6",
                      self.rules(host, "test", "[2a00:1::1]:80", code=3).stderr)

    @lab.needs_uids
    def test_killed(self):
        """What a killed one leaves behind is no difference, and goes with the next."""
        t = self.start("host", daemon=False)
        real = f"/usr/sbin/xtables-{self.variant}-multi"
        hangs = self.programs("hang", [p for p in PROGRAMS if p != "iptables-save"], [
            ("iptables-save", f'text=$({real} iptables-save "$@"); '
                              'case "$text" in *TRANSOCKS_PROBE*) exec sleep 60;; esac; echo "$text"')])
        for sweep in (("test", TARGETS["IPv4"]), ("install", *BYPASS)):
            proc = t.on.spawn(*self.argv(("test", TARGETS["IPv4"])), env={"PATH": str(hangs)})
            lab.wait_until(lambda: "TRANSOCKS_PROBE" in self.saved(t.on))
            proc.kill()
            self.rules(t.on, "diff", *BYPASS)
            self.rules(t.on, *sweep)
            self.clean(t, sweep)
        left = ":TRANSOCKS_PROBE - [0:0]\n-A POSTROUTING -p tcp -j TRANSOCKS_PROBE\n-A TRANSOCKS_PROBE -j DROP\n"
        self.rules(t.on, "flush")
        for program in ("iptables-restore", "ip6tables-restore"):
            self.tables(t.on, program, "--noflush", stdin=f"*mangle\n{left}COMMIT\n")
        self.assertIn("would remove what a probe has left", self.rules(t.on, "flush", "--dry-run").stdout)
        self.assertIn("PROBE", self.saved(t.on))
        self.assertIn("removed what a probe has left", self.rules(t.on, "flush").stdout)
        self.clean(t, "flush")
        self.assertNotIn("probe", self.rules(t.on, "flush").stdout)

    @lab.needs_uids
    def test_busy(self):
        """Others who connect at the same time do not change the answer."""
        t = self.start("host", daemon=False)
        stop = threading.Event()

        def connect():
            while not stop.is_set():
                for address in ("11.0.0.1", "11.5.0.1"):
                    with contextlib.suppress(OSError):
                        t.on.connect(address, 80).close()

        thread = threading.Thread(target=connect)
        thread.start()
        try:
            for _ in range(2):
                for target, verdict, rule in (("11.0.0.1:81", "taken", "to transocksd"),
                                              ("10.91.0.2:81", "left-alone", "to an address of this host")):
                    done = self.rules(t.on, "test", target, "--json")
                    answer = json.loads(done.stdout)
                    self.assertEqual(answer["verdict"], verdict)
                    self.assertIn(answer["rule"], (rule, ""), answer)
        finally:
            stop.set()
            thread.join()


class LegacyAsk(Ask):
    variant = "legacy"
    test_busy = None  # the other variant does as well


class NftAsk(Ask):
    variant = "nft"
    test_check_finds = None  # check itself is in test_gateway and test_nobody_listens


del IptablesCase, Ask  # what is left are the cases of a variant


if __name__ == "__main__":
    lab.main()
