# SPDX-License-Identifier: MIT
"""Rules of others, made up from a seed: nf_tables tables, and what either variant of iptables holds."""

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge")
# type: the families, and for each hook its usual priorities
HOOKS = {
    "filter": (("ip", "ip6", "inet", "bridge"), ("prerouting", "input", "forward", "output", "postrouting")),
    "nat": (("ip", "ip6", "inet"), ("prerouting", "input", "output", "postrouting")),
    "route": (("ip", "ip6", "inet"), ("output",)),
}
# By nfproto where it matters; {n} is a number and {set} the name of a set.
ANY = (
    "meta mark {n} counter accept", "meta mark set mark or 0x{n:x}", "tcp dport {n} drop", 'iifname "if{n}" counter',
    "udp sport {n}-65535 return", "meta l4proto {{ tcp, udp }} th dport {n} accept", "tcp flags syn / syn,ack counter",
    "limit rate {n}/second accept", "meta skuid {n} counter", 'meta priority {n} comment "rule {n}"',
)
TRACKED = ("ct state established,related accept", "ct mark {n} drop", "ct status dnat tcp dport {n} accept",
           "fib daddr type local counter")
OF_FAMILY = {
    "ip": ("ip saddr 10.{b}.0.0/16 accept", "ip daddr @{set} tcp dport {n} counter", "icmp type echo-request drop"),
    "ip6": ("ip6 saddr fd00:{b:x}::/32 drop", "ip6 nexthdr icmpv6 accept"),
    "inet": ("ip daddr 11.{b}.1.0/24 tcp dport {n} return", "ip6 daddr 2a00:{b:x}::/32 counter"),
    "arp": ("arp operation request counter", "arp saddr ip 10.{b}.0.1 drop"),
    "bridge": ("ether type ip counter", "ether saddr 02:00:00:00:00:{b:02x} drop"),
}
NAT = {
    "ip": {"output": "ip daddr 11.{b}.0.1 tcp dport {n} dnat to 10.0.0.1:{n}",
           "prerouting": "tcp dport {n} redirect to :1081", "postrouting": "ip saddr 172.{b}.0.0/16 masquerade"},
    "ip6": {"output": "ip6 daddr 2a00:{b:x}::1 tcp dport {n} dnat to [fd00::1]:{n}",
            "prerouting": "tcp dport {n} redirect to :1081", "postrouting": "ip6 saddr fd00:{b:x}::/32 masquerade"},
    "inet": {"output": "meta nfproto ipv4 tcp dport {n} redirect to :1081", "prerouting": "tcp dport {n} redirect",
             "postrouting": 'oifname "if{n}" masquerade'},
}
NAMES = ("transocks", "transocks2", "filter", "nat", "mangle", "fw", "a-b", "x_1")


def _rule(rng, family, kind, hook):
    rules = ANY + OF_FAMILY[family]
    if family == "arp":
        rules = OF_FAMILY[family]
    elif family != "bridge":
        rules += TRACKED
    if kind == "nat" and hook in NAT[family] and rng.random() < 0.5:
        rules = (NAT[family][hook],)
    return rng.choice(rules).format(n=rng.randrange(1, 60000), b=rng.randrange(1, 250), set="s0")


def _chain(rng, family, number):
    kinds = [kind for kind, (families, _) in HOOKS.items() if family in families]
    if not kinds or rng.random() < 0.25:  # no base chain
        kind, hook, head = "filter", "none", ""
    else:
        kind = rng.choice(kinds)
        hook = rng.choice(HOOKS[kind][1])
        policy = rng.choice(("accept", "drop")) if kind == "filter" else "accept"
        head = f"type {kind} hook {hook} priority {rng.choice((-150, -100, -99, -1, 0, 10, 100))}; policy {policy};\n"
    rules = "\n".join(_rule(rng, family, kind, hook) for _ in range(rng.randrange(6)))
    return f"chain c{number} {{\n{head}{rules}\n}}\n"


def _table(rng, family, name):
    elements = ", ".join(f"10.{n}.0.0/16" + rng.choice(("", f' comment "net {n}"'))
                         for n in rng.sample(range(256), rng.randrange(1, 30)))
    sets = f"set s0 {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}\n"
    if rng.random() < 0.4:
        sets += "map m0 { type inet_service : verdict; elements = { 22 : accept, 81 : drop }; }\n"
    if rng.random() < 0.4:
        sets += "set bypass4 { type ipv4_addr; timeout 1d; size 99; }\ncounter n0 { packets 7 bytes 700; }\n"
    comment = rng.choice(("", 'comment "transocks";\n', 'comment "somebody else";\n'))
    chains = "".join(_chain(rng, family, number) for number in range(rng.randrange(1, 5)))
    return f"table {family} {name} {{\n{comment}{sets}{chains}}}\n"


def tables(rng):
    """Text for nft(8): up to eight tables, none of them inet transocks."""
    places = [(family, name) for family in FAMILIES for name in NAMES if (family, name) != ("inet", "transocks")]
    return "".join(_table(rng, *place) for place in rng.sample(places, rng.randrange(1, 9)))


# For each table of iptables: its chains, and targets that may stand there.
IPTABLES = {
    "filter": (("INPUT", "FORWARD", "OUTPUT"), ("ACCEPT", "DROP", "OWN", "REJECT")),
    "nat": (("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), ("RETURN", "ACCEPT", "OWN")),
    "mangle": (("PREROUTING", "FORWARD", "OUTPUT"), ("MARK --set-xmark 0x10/0x10", "RETURN", "OWN")),
    "raw": (("PREROUTING", "OUTPUT"), ("ACCEPT", "OWN")),
}
MATCHES = ("-p tcp -m tcp --dport {n}", "-p udp -m udp --sport {n}", "-i if{b}", "-m mark --mark 0x{b:x}/0xff",
           "-m conntrack --ctstate RELATED,ESTABLISHED", "-p tcp -m multiport --dports 80,{n}",
           '-m comment --comment "rule {n}"', "-s {net}", "")


def iptables(rng, v6, wanted=()):
    """Text for iptables-restore: some tables, those that are wanted among them."""
    text = ""
    for table, (chains, targets) in IPTABLES.items():
        if table not in wanted and rng.random() < 0.4:
            continue
        text += f"*{table}\n" + "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains) + ":OWN - [0:0]\n"
        for _ in range(rng.randrange(1, 8)):
            chain, target = rng.choice((*chains, "OWN")), rng.choice(targets)
            if (chain, target) == ("OWN", "OWN") or chain in ("PREROUTING", "INPUT") and target == "REJECT":
                target = "ACCEPT"
            match = rng.choice(MATCHES)
            if chain in ("OWN", "OUTPUT", "POSTROUTING") and match.startswith("-i"):
                match = ""
            net = f"fd00:{rng.randrange(1, 999):x}::/32" if v6 else f"10.{rng.randrange(256)}.0.0/16"
            match = match.format(n=rng.randrange(1, 60000), b=rng.randrange(1, 250), net=net)
            text += f"-A {chain} {match} -j {target}\n"
        text += "COMMIT\n"
    return text
