# SPDX-License-Identifier: MIT
"""The ways to be taken: by which mode, on the host itself or on the gateway of a client, in either family."""

MODES = ("redirect", "tproxy")
FAMILIES = ("ipv4", "ipv6")
PUBLIC = {"ipv4": "11.0.0.1", "ipv6": "2a00:1::1"}

# Where a flow that arrives at its destination comes from.
PROXIED = {"ipv4": "10.91.3.2", "ipv6": "fd91:0:3::2"}
DIRECT = {"host": {"ipv4": "10.91.0.2", "ipv6": "fd91::2"}, "gateway": {"ipv4": "10.91.1.2", "ipv6": "fd91:0:1::2"}}


def start(case, kind, mode, upstream=None):
    """
    transocksd in that mode on t.on, with a SOCKS server on another host as its upstream; no rules yet. `upstream`
    starts that server on the host it is given.
    """
    t = case.build(kind)
    t.kind, t.mode = kind, mode
    t.on = t.gateway if kind == "gateway" else t.host
    if upstream is None:
        t.upstream = t.proxy.peer("socks", "::", 1080, "drip", 0)
    else:
        t.upstream = upstream(t.proxy)
    t.transocksd = t.on.transocksd(f'listen = ":1081"\nmode = "{mode}"\nproxy_url = "socks5://10.91.3.2:1080"\n')
    t.transocksd.wait_line(message="ready")
    return t


def usocksd(host):
    """An upstream that keeps up with a storm."""
    return host.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')


def arguments(t):
    """What install needs for this way."""
    gateway = ("--gateway", "lan0") if t.kind == "gateway" else ()
    return ("--mode", t.mode, *gateway)


def install(t, *args):
    return t.on.rules("install", *arguments(t), *args)


def family_of(address):
    return "ipv6" if ":" in address else "ipv4"
