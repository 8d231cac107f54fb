# SPDX-License-Identifier: MIT
"""
Whether the SOCKS clients that Debian has can use usocksd: each in the versions it speaks, to IPv4, IPv6 and names.

A test for each row and target. All share one set of namespaces; every row has destinations of its own, by which its
access records are found: 11.0.ROW.1 and 2a00:1::ROW:1, and the names nROW.test (11.0.ROW.2) and sROW.test
(2a00:1::ROW:2).
"""
import re
import shlex
import shutil
import subprocess
import typing

import lab
import peers
import test_auth

PROXY, WITH_LOGIN = "10.91.3.2:1080", "10.91.3.2:1081"
WORK = str(lab.WORK)
LENGTH = 100_000

# What is asked for, and the name that usocksd is told, if any. Some clients ask a name server themselves, and some tell
# an address as if it were a name (`literal4`).
TARGETS = {"ipv4": ("11.0.{row}.1", None), "ipv6": ("2a00:1::{row:x}:1", None), "literal4": ("11.0.{row}.1", None),
           "name4": ("n{row}.test", "n{row}.test"), "name6": ("s{row}.test", "s{row}.test"),
           "own-name4": ("n{row}.test", None), "own-name6": ("s{row}.test", None)}
SERVED_BY = {"ipv4": "11.0.{row}.1", "ipv6": "2a00:1::{row:x}:1", "literal4": "11.0.{row}.1",
             "name4": "11.0.{row}.2", "name6": "2a00:1::{row:x}:2"}

ALL5 = "ipv4 ipv6 name4 name6"


class Row(typing.NamedTuple):
    name: str
    command: str  # {host}, {url}, {row}; HTTP is spoken by its standard input and output where there is no {url}
    version: int
    targets: str
    user: str = None
    front: str = None  # a proxy of the client's host, of FRONTS
    ssh: bool = False


def through_ssh(proxy_command):
    return (f"ssh -F /dev/null -i {WORK}/key -o UserKnownHostsFile={WORK}/known -o GlobalKnownHostsFile=/dev/null "
            f"-o BatchMode=yes -o 'ProxyCommand={proxy_command}' guest@{{host}} 'echo $SSH_CONNECTION; cat'")


CURL = "curl -sS -m 20 --noproxy '' {url} "
PYSOCKS = f"{lab.PYTHON} {WORK}/pysocks.py {{host}} "
NCAT = "ncat --proxy {} --proxy-type {} {{host}} 80"
CONNECT = "connect-proxy -{} -S {} -R {} {{host}} 80"
APT = ("sh -c '/usr/lib/apt/apt-helper -o APT::Sandbox::User=root -o Acquire::http::Proxy={} download-file {{url}} "
       f"{WORK}/apt-{{{{row}}}} >&2 && cat {WORK}/apt-{{{{row}}}}'")

ROWS = (
    Row("curl socks4", CURL + f"-x socks4://{PROXY}", 4, "ipv4 own-name4"),
    Row("curl socks4a", CURL + f"-x socks4a://{PROXY}", 4, "literal4 name4 name6"),
    Row("curl socks4a user", CURL + f"-x socks4a://bob@{PROXY}", 4, "literal4 name4", "bob"),
    Row("curl socks5", CURL + f"-x socks5://{PROXY}", 5, "ipv4 ipv6 own-name4 own-name6"),
    Row("curl socks5h", CURL + f"-x socks5h://{PROXY}", 5, ALL5),
    Row("curl socks5 login", CURL + f"-x socks5://bob:secret@{WITH_LOGIN}", 5, "ipv4 ipv6", "bob"),
    Row("curl socks5h login", CURL + f"-x socks5h://bob:secret@{WITH_LOGIN}", 5, ALL5, "bob"),

    Row("ncat socks4", NCAT.format(PROXY, "socks4"), 4, "ipv4 name4 name6"),
    Row("ncat socks4 user", NCAT.format(PROXY, "socks4 --proxy-auth bob"), 4, "ipv4 name4", "bob"),
    Row("ncat socks5", NCAT.format(PROXY, "socks5"), 5, ALL5),
    Row("ncat socks5 login", NCAT.format(WITH_LOGIN, "socks5 --proxy-auth bob:secret"), 5, ALL5, "bob"),

    Row("nc.openbsd socks4", f"nc.openbsd -X 4 -x {PROXY} {{host}} 80", 4, "ipv4 own-name4"),
    Row("nc.openbsd socks5", f"nc.openbsd -X 5 -x {PROXY} {{host}} 80", 5, ALL5),

    Row("ssh nc socks4", through_ssh(f"nc.openbsd -X 4 -x {PROXY} %h %p"), 4, "ipv4", ssh=True),
    Row("ssh nc socks5", through_ssh(f"nc.openbsd -X 5 -x {PROXY} %h %p"), 5, ALL5, ssh=True),
    Row("ssh ncat socks4", through_ssh(f"ncat --proxy {PROXY} --proxy-type socks4 %h %p"), 4, "name4", ssh=True),
    Row("ssh ncat socks5 login",
        through_ssh(f"ncat --proxy {WITH_LOGIN} --proxy-type socks5 --proxy-auth bob:secret %h %p"), 5,
        "ipv4 name6", "bob", ssh=True),

    Row("pysocks socks4", PYSOCKS + f"4 {PROXY}", 4, "ipv4 own-name4"),
    Row("pysocks socks4a", PYSOCKS + f"4a {PROXY}", 4, "ipv4 name4 name6"),
    Row("pysocks socks5", PYSOCKS + f"5 {PROXY}", 5, "ipv4 ipv6 own-name4"),
    Row("pysocks socks5h", PYSOCKS + f"5h {PROXY}", 5, ALL5),
    Row("pysocks socks5h login", PYSOCKS + f"5h {WITH_LOGIN} bob secret", 5, ALL5, "bob"),

    Row("connect-proxy socks4", CONNECT.format(4, PROXY, "local"), 4, "ipv4 own-name4", "bob"),
    Row("connect-proxy socks4a", CONNECT.format(4, PROXY, "remote"), 4, "name4 name6", "bob"),
    Row("connect-proxy socks5", CONNECT.format(5, PROXY, "both"), 5, "ipv4 name4 name6"),
    Row("connect-proxy socks5 login", CONNECT.format(5, f"bob@{WITH_LOGIN}", "remote"), 5, "name4 name6", "bob"),

    Row("socat socks4", f"socat - SOCKS4:10.91.3.2:{{host}}:80,socksport=1080,socksuser=bob", 4,
        "ipv4 own-name4", "bob"),
    Row("socat socks4a", f"socat - SOCKS4A:10.91.3.2:{{host}}:80,socksport=1080,socksuser=bob", 4,
        "name4 name6", "bob"),

    Row("proxychains4 socks4", f"proxychains4 -q -f {WORK}/proxychains-4 {CURL}", 4, "ipv4 name4"),
    Row("proxychains4 socks5", f"proxychains4 -q -f {WORK}/proxychains-5 {CURL}", 5, "ipv4 ipv6 name4"),
    Row("proxychains4 socks5 login", f"proxychains4 -q -f {WORK}/proxychains-login {CURL}", 5,
        "ipv4 ipv6 name4", "bob"),

    Row("tsocks socks4", "tsocks nc.openbsd {host} 80", 4, "ipv4 own-name4", "root"),
    Row("tsocks socks5", "tsocks nc.openbsd {host} 80", 5, "ipv4 own-name4"),
    Row("tsocks socks5 login", "tsocks nc.openbsd {host} 80", 5, "ipv4 own-name4", "bob"),

    Row("torsocks socks5", f"torsocks {CURL}", 5, "ipv4"),  # names by a command that Tor alone has

    Row("socksify socks4", "socksify nc.openbsd {host} 80", 4, "ipv4 own-name4"),
    Row("socksify socks5", "socksify nc.openbsd {host} 80", 5, "ipv4 name4"),
    Row("socksify socks5 login", "socksify nc.openbsd {host} 80", 5, "ipv4 name4", "bob"),

    Row("apt socks5h", APT.format(f"socks5h://{PROXY}"), 5, "ipv4 name4 name6"),
    Row("apt socks5h login", APT.format(f"socks5h://bob:secret@{WITH_LOGIN}"), 5, "name4", "bob"),

    Row("redsocks socks4", CURL, 4, "ipv4 own-name4", front="redsocks"),
    Row("redsocks socks5", CURL, 5, "ipv4 own-name4", front="redsocks"),
    Row("redsocks socks5 login", CURL, 5, "ipv4 own-name4", "bob", front="redsocks"),

    Row("transocksd socks4a", CURL, 4, "ipv4 name4 name6", front="transocksd"),
    Row("transocksd socks5", CURL, 5, ALL5, front="transocksd"),
    Row("transocksd socks5 login", CURL, 5, ALL5, "bob", front="transocksd"),

    Row("haproxy socks4", CURL + "--connect-to ::127.0.0.1:8080", 4, "ipv4", "HAProxy", "haproxy"),

    Row("tinyproxy socks4", CURL + "-x http://127.0.0.1:8888", 4, "literal4 name4", front="tinyproxy"),
    Row("tinyproxy socks5", CURL + "-x http://127.0.0.1:8888", 5, "ipv4 name4 name6", front="tinyproxy"),
    Row("tinyproxy socks5 login", CURL + "-x http://127.0.0.1:8888", 5, "ipv4 name4", "bob", front="tinyproxy"),
)
PROGRAMS = {"curl", "ncat", "nc.openbsd", "ssh", "connect-proxy", "socat", "proxychains4", "tsocks", "torsocks",
            "socksify", "/usr/lib/apt/apt-helper"}
NUMBER = {row.name: n for n, row in enumerate(ROWS, 1)}


def number(name):
    return NUMBER[name]


def proxychains(line):
    return f"strict_chain\nproxy_dns\nremote_dns_subnet 224\n[ProxyList]\n{line}\n"


def tsocks(port, version):
    return (f"local = 10.0.0.0/255.0.0.0\nserver = 10.91.3.2\nserver_port = {port}\nserver_type = {version}\n"
            "default_user = bob\ndefault_pass = secret\n")


def dante(port, version, methods, resolve="fake"):
    return (f"resolveprotocol: {resolve}\nroute {{\n from: 0.0.0.0/0 to: 0.0.0.0/0 via: 10.91.3.2 port = {port}\n"
            f" protocol: tcp\n command: connect\n proxyprotocol: socks_v{version}\n method: {methods}\n}}\n")


def redsocks(port, kind, more=""):
    return (f"redsocks {{ local_ip = 127.0.0.1; local_port = {port}; ip = 10.91.3.2; "
            f"port = {1081 if more else 1080}; type = {kind}; {more} }}\n")


def tinyproxy(row, kind, proxy, login=""):
    return "".join(f'Upstream {kind} {login}{proxy} "{target}"\n' for target in (
        f"11.0.{row}.1", f"n{row}.test", f"s{row}.test"))


def transocksd():
    ways = (("socks5", f"socks5://{PROXY}"), ("socks4a", f"socks4a://{PROXY}"),
            ("socks5 login", f"socks5://bob:secret@{WITH_LOGIN}"))
    text = ""
    for way, url in ways:
        row = number(f"transocksd {way}")
        text += (f'[[upstream]]\ngroup = "of-{row}"\nurl = "{url}"\n[[rule]]\naction = "proxy"\ngroup = "of-{row}"\n'
                 f'networks = ["11.0.{row}.0/24", "2a00:1::{row:x}:0/112"]\n')
    return text + '[[rule]]\naction = "refuse"\n'


FILES = {
    "proxychains-4": proxychains("socks4 10.91.3.2 1080"),
    "proxychains-5": proxychains("socks5 10.91.3.2 1080"),
    "proxychains-login": proxychains("socks5 10.91.3.2 1081 bob secret"),
    "tsocks-socks4": tsocks(1080, 4), "tsocks-socks5": tsocks(1080, 5), "tsocks-login": tsocks(1081, 5),
    "torsocks": "TorAddress 10.91.3.2\nTorPort 1080\n",
    "dante-socks4": dante(1080, 4, "none", "udp"), "dante-socks5": dante(1080, 5, "none"),
    "dante-login": dante(1081, 5, "username"),
    "redsocks": ('base { log = "stderr"; daemon = off; redirector = iptables; }\n' + redsocks(12344, "socks4") +
                 redsocks(12345, "socks5") + redsocks(12346, "socks5", 'login = "bob"; password = "secret";')),
    "haproxy": (f"defaults\n mode tcp\n timeout connect 20s\n timeout client 20s\n timeout server 20s\nlisten l\n"
                f" bind 127.0.0.1:8080\n server s 11.0.{number('haproxy socks4')}.1:80 socks4 {PROXY}\n"),
    "tinyproxy": ("Port 8888\nListen 127.0.0.1\nTimeout 20\nMaxClients 10\nDisableViaHeader Yes\n" +
                  tinyproxy(number("tinyproxy socks4"), "socks4", PROXY) +
                  tinyproxy(number("tinyproxy socks5"), "socks5", PROXY) +
                  tinyproxy(number("tinyproxy socks5 login"), "socks5", WITH_LOGIN, "bob:secret@")),
    "pysocks.py": """
import socket, sys
import socks
host, version, proxy, *login = sys.argv[1:]
sock = socks.socksocket()
kind = socks.SOCKS4 if version.startswith("4") else socks.SOCKS5
address, port = proxy.split(":")
sock.set_proxy(kind, address, int(port), version in ("4a", "5h"), *login)
sock.connect((host, 80))
sock.sendall(sys.stdin.buffer.read())
while data := sock.recv(65536):
    sys.stdout.buffer.write(data)
""",
    "sshd": f"""
ListenAddress 0.0.0.0
ListenAddress ::
HostKey {WORK}/key
AuthorizedKeysFile {WORK}/key.pub
AuthenticationMethods publickey
StrictModes no
UsePAM no
UseDNS no
PidFile none
""",
}
FRONTS = {"redsocks": (12346, "redsocks", "-c", f"{WORK}/redsocks"),
          "transocksd": (1081,),
          "haproxy": (8080, "haproxy", "-db", "-f", f"{WORK}/haproxy"),
          "tinyproxy": (8888, "tinyproxy", "-d", "-c", f"{WORK}/tinyproxy")}
# What is redirected to a port of the client's host.
REDIRECTED = ((12344, "redsocks socks4"), (12345, "redsocks socks5"), (12346, "redsocks socks5 login"),
              (1081, "transocksd socks4a"), (1081, "transocksd socks5"), (1081, "transocksd socks5 login"))


def redirects():
    rules = "".join(f"ip daddr 11.0.{number(name)}.0/24 tcp dport 80 redirect to :{port}\n"
                    f"ip6 daddr 2a00:1::{number(name):x}:0/112 tcp dport 80 redirect to :{port}\n"
                    for port, name in REDIRECTED)
    return f"table inet fronts {{\nchain output {{\ntype nat hook output priority -100\n{rules}}}\n}}\n"


def zone():
    return (word for n in NUMBER.values() for word in (f"n{n}.test=11.0.{n}.2", f"s{n}.test=2a00:1::{n:x}:2"))


def environment(row):
    kind = row.name.split()[-1]
    return {"SOCKS4_USER": "bob", "SOCKS5_USER": "bob", "SOCKS5_PASSWD": "secret", "SOCKS5_PASSWORD": "secret",
            "TSOCKS_CONF_FILE": f"{WORK}/tsocks-{kind}", "TORSOCKS_CONF_FILE": f"{WORK}/torsocks",
            "SOCKS_CONF": f"{WORK}/dante-{kind}", "SOCKS_USERNAME": "bob", "SOCKS_PASSWORD": "secret"}


class Clients(lab.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.t = t = lab.Topology.host()
        cls.live.append(t)
        cls.addClassCleanup(cls.close)
        cls.started = {}
        for name, text in FILES.items():
            (lab.WORK / name).write_text(text)
        users = test_auth.users_file(test_auth.line("bob", "secret"))
        outgoing = '[dns]\nservers = ["11.0.0.53"]\n'
        t.open = t.proxy.usocksd('[incoming]\nallow_from = ["10.91.0.0/16"]\n[outgoing]\n'
                                 'deny_ports = [25]\n' + outgoing)
        t.closed = t.proxy.usocksd('control = ""\n[incoming]\nport = 1081\n' + outgoing +
                                   f'[auth]\nfile = "{users}"\n', ports=(1081,))
        t.host.nft(redirects())
        t.inet.peer("dns", "11.0.0.53", 53, *zone())
        t.host.peer("dns", "127.0.0.1", 53, *zone())
        t.inet.peer("http", "::", 80)

    @classmethod
    def close(cls):
        cls.t.close()
        cls.live.remove(cls.t)
        trouble = [f"{p.name}: {p.trouble()}\n{p.log()}" for p in cls.t.procs() if p.trouble() is not None]
        if trouble:
            raise AssertionError("\n".join(trouble))

    def need(self, *programs):
        for program in programs:
            if shutil.which(program, path=lab.PATH) is None:
                self.skipTest(f"{program} is not installed")

    def front(self, name):
        """Starts it at the first row that needs it."""
        if name in self.started:
            return
        port, *argv = FRONTS[name]
        if name == "transocksd":
            proc = self.t.host.transocksd(transocksd())
        else:
            self.need(name)
            proc = self.t.host.spawn(*argv)
        self.t.host.wait_port(port, alive=proc)
        self.started[name] = proc

    def sshd(self):
        if "sshd" in self.started:
            return
        self.need("sshd")
        self.t.inet.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.WORK / "key")
        (lab.WORK / "known").write_text("* " + (lab.WORK / "key.pub").read_text())
        with open("/etc/passwd", "a", encoding="utf-8") as file:  # ours alone
            file.write(f"guest:x:64322:64322::{WORK}:/bin/sh\n")
        lab.pathlib.Path("/run/sshd").mkdir(mode=0o755)
        self.started["sshd"] = self.t.inet.spawn("/usr/sbin/sshd", "-D", "-e", "-f", lab.WORK / "sshd")
        self.t.inet.wait_port(22, alive=self.started["sshd"])

    def run_client(self, row, target):
        """The page, or what makes up for it with ssh: who has asked whom, and the bytes that it got."""
        n = NUMBER[row.name]
        host = TARGETS[target][0].format(row=n)
        path = f"/both/{LENGTH}"
        url = f"http://[{host}]:80{path}" if ":" in host else f"http://{host}{path}"
        stdin = peers.pattern(0, 0, LENGTH) if row.ssh else f"GET {path} HTTP/1.0\r\n\r\n".encode()
        argv = [word.format(host=host, url=url, row=n) for word in shlex.split(row.command)]
        done = subprocess.run(argv, input=stdin, capture_output=True, cwd="/", timeout=50, check=False,
                              env={**lab.ENV, **environment(row)}, preexec_fn=self.t.host.entry())
        self.assertEqual(done.returncode, 0, (argv, done.stderr.decode(errors="replace"), done.stdout[:200]))
        if row.ssh:
            connection, _, data = done.stdout.partition(b"\n")
            client, _, server, _ = connection.decode().split()
            return peers.who(server, client) + data
        return done.stdout if "{url}" in row.command else done.stdout.partition(b"\r\n\r\n")[2]

    def check(self, row, target):
        self.need(*PROGRAMS.intersection(re.split(r"[ '=]", row.command)))
        if "pysocks" in row.command and not lab.pathlib.Path("/usr/lib/python3/dist-packages/socks.py").exists():
            self.skipTest("python3-socks is not installed")
        if row.front is not None:
            self.front(row.front)
        if row.ssh:
            self.sshd()
        served_by = SERVED_BY[target.removeprefix("own-")].format(row=NUMBER[row.name])
        own = "fd91:0:3::2" if ":" in served_by else "10.91.3.2"
        got = self.run_client(row, target)
        expected = peers.who(served_by, own) + peers.pattern(0, 0, LENGTH)
        self.assertEqual(len(got), len(expected), got[:200])
        self.assertTrue(got == expected, "wrong bytes")
        self.check_record(row, target, served_by, own)

    def check_record(self, row, target, served_by, own):
        bracketed = f"[{served_by}]" if ":" in served_by else served_by
        usocksd = self.t.closed if row.name.endswith("login") else self.t.open
        dest = f"{bracketed}:{22 if row.ssh else 80}"
        host = TARGETS[target][1]
        usocksd.wait_line(type="access", dest_addr=dest, seconds=20,
                          **({} if host is None else {"dest_host": host.format(row=NUMBER[row.name])}))
        records = [r for r in usocksd.lines(type="access", dest_addr=dest) if ("dest_host" in r) == (host is not None)]
        self.assertEqual(len(records), 1, records)
        record = records[0]
        by_name = host is not None or target == "literal4"
        protocol = "SOCKS5" if row.version == 5 else "SOCKS4a" if by_name else "SOCKS4"
        told = (record["protocol"], record["command"], record["end"], record.get("user"))
        self.assertEqual(told, (protocol, "CONNECT", "done", row.user))
        self.assertEqual(record["client_addr"].rpartition(":")[0], "10.91.0.2")
        self.assertEqual(record["src_addr"].rpartition(":")[0].strip("[]"), own)
        self.assertGreater(record["bytes_down"], LENGTH)

    def test_refusals(self):
        """Each client gets the answer that tells why, and ends; none waits."""
        self.need("curl", "ncat", "nc.openbsd", "socat", "connect-proxy")
        curl5, curl4 = CURL + f"-x socks5h://{PROXY}", CURL + f"-x socks4a://{PROXY}"
        rejected = r"\(91\), request rejected or failed"
        for command, host, says in (
                (curl5, "11.0.0.1:81", r"\(5\)"), (curl5, "11.0.0.1:25", r"\(2\)"), (curl5, "127.0.0.1", r"\(2\)"),
                (curl5, "none.test", r"\(4\)"), (curl5, "[2a00:1::1]:81", r"\(5\)"),
                (curl4, "11.0.0.1:81", rejected), (curl4, "none.test", rejected), (curl4, "127.0.0.1", rejected),
                (CURL + f"-x socks4://{WITH_LOGIN}", "11.0.0.1", rejected),
                (CURL + f"-x socks5://{WITH_LOGIN}", "11.0.0.1", "No authentication method was acceptable"),
                (CURL + f"-x socks5://bob:wrong@{WITH_LOGIN}", "11.0.0.1", "User was rejected by the SOCKS5 server"),
                (NCAT.format(PROXY, "socks5"), "none.test", "Host unreachable"),
                (NCAT.format(PROXY, "socks4"), "127.0.0.1", "Proxy connection failed"),
                (f"nc.openbsd -X 5 -x {PROXY} {{host}} 25", "11.0.0.1", "Connection not allowed by ruleset"),
                (f"nc.openbsd -X 4 -x {PROXY} {{host}} 25", "11.0.0.1", "Request rejected or failed"),
                ("socat - SOCKS4A:10.91.3.2:{host}:80,socksport=1080", "none.test", "rejected or failed"),
                (CONNECT.format(5, PROXY, "remote"), "none.test", "Host unreachable")):
            with self.subTest(command=command, host=host):
                argv = [word.format(host=host, url=f"http://{host}/") for word in shlex.split(command)]
                done = self.t.host.run(*argv, check=False, stdin="GET / HTTP/1.0\r\n\r\n")
                self.assertNotEqual(done.returncode, 0)
                self.assertRegex(done.stderr, says)


def add_tests():
    for row in ROWS:
        for target in row.targets.split():
            def test(self, row=row, target=target):
                self.check(row, target)
            name = re.sub(r"\W", "_", f"test {row.name} {target}")
            if row.ssh:
                test = lab.needs_uids(test)
            setattr(Clients, name, test)


add_tests()


if __name__ == "__main__":
    lab.main()
