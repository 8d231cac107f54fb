# SPDX-License-Identifier: MIT
"""What is compared: a network for each way, and the programs that may be in its middle."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import lab

TOOLS = lab.BUILD / "bench"
SERVER, SOCKS_PORT = "10.91.2.1", 1080
DEST = "11.0.0.1"  # and those after it
SOURCES = ["10.91.1.2", "10.91.1.3", "10.91.1.4", "10.91.1.5"]  # as many clients, a destination each
PORT = 1081
GATEWAY = "10.91.1.1"  # as the clients see it
REDSOCKS_MAX_IDLE = 2400  # it takes 2,500 flows where there are 20,000 descriptors
DANTED_MAX_IDLE = 400  # each process of it carries a few

NAT = """
table ip bench {
    chain post {
        type nat hook postrouting priority 100
        oifname "wan0" masquerade
    }
}
"""
REDIRECT = f"""
table ip bench {{
    chain pre {{
        type nat hook prerouting priority -100
        iifname "lan0" meta l4proto tcp redirect to :{PORT}
    }}
}}
"""
REDSOCKS = """
base {{
    log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables;
    rlimit_nofile = {nofile};
}}
redsocks {{
    local_ip = 0.0.0.0; local_port = {port}; ip = {server}; port = {socks}; type = socks5;
    listenq = 4096; splice = true;
}}
"""
TRANSOCKSD = """
listen = ":{port}"
proxy_url = "socks5://{server}:{socks}"
workers = {workers}
[log]
filename = "{file}"
level = "{level}"
"""
DANTED = """
logoutput: stderr
internal: {gateway} port = {socks}
external: wan0
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""
USOCKSD = """
workers = {workers}
[incoming]
commands = ["connect"]
addresses = ["{gateway}"]
allow_from = ["10.91.1.0/24"]
[log]
level = "warning"
"""


class Failed(Exception):
    """A measurement that is not one: errors, or nothing came through."""


# --------------------------------------------------------------------------------------------------
# The network, and what is in its middle


def processes(pid):
    """The process, and those below it."""
    found = [pid]
    for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text(encoding="ascii").split():
            found += processes(int(child))
    return found


def runs(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Net(lab.Topology):
    """client --- gateway --- server, which answers for every address of 11.0.0.0/8."""

    def __init__(self, congestion):
        super().__init__("client", "gateway", "server")
        try:
            self._build(congestion)
        except BaseException:
            self.close()
            raise

    def _build(self, congestion):
        client, gateway, server = self.client, self.gateway, self.server
        for a, name_a, b, name_b in ((client, "eth0", gateway, "lan0"),
                                     (gateway, "wan0", server, "eth0")):
            a.ip(f"link add {name_a} type veth peer name {name_b} netns /proc/self/fd/{b.fd}")
        gateway.sysctl("net.ipv4.ip_forward", 1)
        client.ip("\n".join(["link set eth0 up", *(f"addr add {a}/24 dev eth0" for a in SOURCES),
                             "route add default via 10.91.1.1"]))
        gateway.ip(f"""
            link set lan0 up
            link set wan0 up
            addr add 10.91.1.1/24 dev lan0
            addr add 10.91.2.2/24 dev wan0
            route add default via {SERVER}""")
        server.ip(f"""
            link set eth0 up
            addr add {SERVER}/24 dev eth0
            route add local 11.0.0.0/8 dev lo""")
        for host in (client, gateway, server):
            host.sysctl("net.ipv4.tcp_congestion_control", congestion)
        # Tens of thousands of connections a second end here, and whoever closes first keeps the
        # port for a minute. All ways get the same remedy.
        for host in (client, gateway):
            host.sysctl("net.ipv4.ip_local_port_range", "10000 65535")
            host.sysctl("net.ipv4.tcp_tw_reuse", 1)
        proc = server.spawn(TOOLS / "endpoint", len(os.sched_getaffinity(0)))
        proc.wait_log("^ready$")

    def shorten_conntrack(self):
        """As above, for the gateway's table; it is there once a rule needs it."""
        self.gateway.sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", 2)


class Way:
    """What is on the gateway. Its network lives as long as it does, a proxy as long as one case."""

    name = "nat"
    table = "transocksd"
    port = PORT
    socks = None  # where clients have to ask; None: they need not
    half_close = True
    max_idle = None

    def __init__(self, congestion="reno"):
        self.net = Net(congestion)
        with self.proxy():  # transocks-rules insists that there is one
            self.rules()

    def rules(self):
        self.net.gateway.nft(NAT)
        self.net.shorten_conntrack()

    def start(self):
        """The proxy, or None."""
        return None

    def stop(self, proc):
        proc.kill()

    def wait_port(self, proc):
        def listening():
            return self.net.gateway.run("ss", "-Hltn", f"sport = :{self.port}").stdout
        lab.wait_until(listening, 10, f"nobody listens on port {self.port}", proc)
        return proc

    @contextlib.contextmanager
    def proxy(self):
        proc = self.start()
        try:
            yield proc
            if proc is not None and not proc.alive():
                raise Failed(f"{proc.name} ended with {proc.popen.returncode}:\n{proc.tail()}")
        finally:
            if proc is not None:
                self.stop(proc)
                self.net.gateway.procs.remove(proc)
                trouble = proc.trouble()
                if trouble:
                    raise Failed(f"{proc.name}: {trouble}\n{proc.log()}")
                proc.path.unlink()


class Redsocks(Way):
    name = "redsocks"
    max_idle = REDSOCKS_MAX_IDLE

    def rules(self):
        self.net.gateway.nft(REDIRECT)
        self.net.shorten_conntrack()

    def start(self):
        nofile = int(subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True,
                                    check=True).stdout.replace("unlimited", "1000000"))
        config = lab.WORK / "redsocks.conf"
        config.write_text(REDSOCKS.format(port=PORT, server=SERVER, socks=SOCKS_PORT,
                                          nofile=min(nofile, 20000)))
        return self.wait_port(self.net.gateway.spawn("redsocks", "-c", config))


class Transocksd(Way):
    name = "transocksd-1"
    workers, level = 1, "warning"

    def rules(self):
        self.net.gateway.rules("install", "--gateway", "lan0")
        self.net.shorten_conntrack()

    def start(self):
        log = lab.WORK / "transocksd.log"
        log.unlink(missing_ok=True)
        text = TRANSOCKSD.format(port=PORT, server=SERVER, socks=SOCKS_PORT, workers=self.workers,
                                 level=self.level, file=log)
        return self.wait_port(self.net.gateway.transocksd(text, "-logformat", "plain", wait=False))


class TwoWorkers(Transocksd):
    name = "transocksd-2"
    workers = 2


class AccessLog(Transocksd):
    name = "transocksd-1-info"
    level = "info"


# The same network without a rule in it: clients ask a SOCKS server on the gateway.


class Microsocks(Way):
    """A thread for each connection. Ends both directions with the first one."""

    name = "microsocks"
    half_close = False
    table = "usocksd"
    port = SOCKS_PORT
    socks = f"{GATEWAY}:{SOCKS_PORT}"

    def rules(self):
        pass

    def start(self):
        # It writes a line for each connection, which cannot be turned off.
        return self.wait_port(self.net.gateway.spawn(
            "sh", "-c", f"exec microsocks -i {GATEWAY} -p {self.port} 2>/dev/null"))


class Danted(Microsocks):
    """With a main process for each CPU, which is what its manual advises for many clients; each makes its children itself."""

    name = "danted"
    half_close = True
    max_idle = DANTED_MAX_IDLE

    def start(self):
        config = lab.WORK / "danted.conf"
        config.write_text(DANTED.format(gateway=GATEWAY, socks=self.port))
        cpus = len(os.sched_getaffinity(0))
        return self.wait_port(self.net.gateway.spawn("danted", "-N", cpus, "-f", config))

    def stop(self, proc):
        """With its children, which outlive it, and hold the port."""
        pids = processes(proc.pid)
        proc.kill()
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        lab.wait_until(lambda: not any(map(runs, pids)), 20, "a process of danted does not end")


class Usocksd(Microsocks):
    name = "usocksd-1"
    half_close = True
    workers = 1

    def start(self):
        text = USOCKSD.format(gateway=GATEWAY, workers=self.workers)
        return self.wait_port(self.net.gateway.usocksd(text, "-logformat", "plain", wait=False))


class UsocksdTwo(Usocksd):
    name = "usocksd-2"
    workers = 2


WAYS = {way.name: way for way in (Way, Redsocks, Transocksd, TwoWorkers, AccessLog,
                                  Microsocks, Danted, Usocksd, UsocksdTwo)}
# Whose ratio to whom is of interest.
PEERS = {"transocksd": (Redsocks.name, Way.name), "usocksd": (Microsocks.name, Danted.name)}
