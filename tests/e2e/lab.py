# SPDX-License-Identifier: MIT
"""
Networks to test in, made of namespaces, the same as root and without.

main() moves the whole test process into namespaces of its own (net, mount, pid, and user where it
is not root) before a test runs. Hosts are further network namespaces, held open by descriptors of
that process only, and every program it starts lives in its pid namespace: whatever way the process
ends, the kernel takes all of it away. Nothing of the machine is touched, so tests run side by side.

Private in there: /run (an empty tmpfs, so the xtables lock is ours too), /proc, and a copy of /etc
that has the system user `transocks` and that a test may write to.

Inside addresses are from 10.91.0.0/16 and fd91::/32; "the Internet" is 11.0.0.0/8 and 2a00:1::/32,
of which the host `inet` answers for every address.
"""
import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD_DIR", ROOT / "build")).resolve()
PEERS = pathlib.Path(__file__).with_name("peers.py")
PYTHON = "/usr/bin/python3"
WORK = pathlib.Path("/run/lab")  # ours alone, gone with the namespace

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40  # linux/sockios.h, linux/if.h

# A slow machine with much else to do may take longer for everything. So what must come has many times as long as it
# usually takes, and a test that waits for nothing else loses no time by that.
PATIENCE = 10
LONG = 60  # seconds, for a socket on which something must come
TEST_SECONDS = 300  # a test that takes longer has hung
EXIT_CANNOT = 75  # main(): this kernel gives us no namespaces

SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error: |^BUG: ", re.M)

_libc = ctypes.CDLL(None, use_errno=True)


def _one_uid():
    """Whether this process, or the user namespace it will make, maps one uid only."""
    if os.geteuid() != 0:
        return True
    with open("/proc/self/uid_map", encoding="ascii") as f:
        return sum(int(line.split()[2]) for line in f) < 65536


ONE_UID = _one_uid()
# What the daemons become, and whose flows the rules skip. With one uid the client programs have it
# as well, so there the rules are given a uid that nobody has and the mark alone prevents loops.
DAEMON_USER = "root" if ONE_UID else "transocks"
# Each test process has its own: the kernel counts the pages of pipes, and more, by uid over all namespaces.
DAEMON_UID = 0 if ONE_UID else 20000 + os.getpid() % 40000
RULES_UID = "4242" if ONE_UID else "transocks"

needs_uids = unittest.skipIf(
    ONE_UID, "needs a second uid; a user namespace made without root has only one")


def needs_program(name):
    """Skips a test where a peer that it talks to is not installed."""
    return unittest.skipIf(shutil.which(name, path=PATH) is None, f"{name} is not installed")


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENV = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
for _name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
    if _name in os.environ:
        ENV[_name] = os.environ[_name]


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _unshare(flags):
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def _setns(fd):
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)), "setns")


def _mount(source, target, fstype=None, flags=0, data=None):
    args = [None if a is None else os.fsencode(a) for a in (source, target, fstype, data)]
    result = _libc.mount(args[0], args[1], args[2], ctypes.c_ulong(flags), args[3])
    _check(result, f"mount {target}")


# --------------------------------------------------------------------------------------------------
# The namespace of the whole process


def enter():
    """Moves this process's only child into new namespaces and returns in that child."""
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET
    _unshare(flags | (CLONE_NEWUSER if uid != 0 else 0))
    if uid != 0:
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    sys.stdout.flush()
    child = os.fork()
    if child != 0:
        _wait_and_exit(child)
    # The first process of a pid namespace: when it dies, the kernel kills all others in it.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _private_files()
    os.umask(0o022)


def _wait_and_exit(child):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGKILL))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(status if status >= 0 else 128 - status)


def _private_files():
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    with contextlib.suppress(OSError):  # a container may mask parts of /proc; the old one serves
        _mount("proc", "/proc", "proc")
    WORK.mkdir()
    etc = WORK / "etc"
    _copy_tree("/etc", etc)
    _add_user(etc)
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
    for name in ("resolv.conf", "transocks.toml", "usocksd.toml"):
        (etc / name).unlink(missing_ok=True)
    for name in ("transocks.d", "usocksd.d"):
        shutil.rmtree(etc / name, ignore_errors=True)
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    _mount(etc, "/etc", None, MS_BIND)


def _copy_tree(source, target):
    """Copies what can be read; what cannot (shadow, keys) no test needs."""

    def copy(src, dst, **_):
        with contextlib.suppress(OSError):
            shutil.copy2(src, dst, follow_symlinks=False)
        return dst

    with contextlib.suppress(shutil.Error):
        shutil.copytree(source, target, symlinks=True, copy_function=copy)


def _add_user(etc):
    passwd, group = etc / "passwd", etc / "group"
    for path, line in (
        (passwd, f"transocks:x:{DAEMON_UID}:{DAEMON_UID}::/nonexistent:/usr/sbin/nologin\n"),
        (group, f"transocks:x:{DAEMON_UID}:\n"),
    ):
        kept = [x for x in path.read_text().splitlines(True) if not x.startswith("transocks:")]
        path.write_text("".join(kept) + line)


# --------------------------------------------------------------------------------------------------
# Hosts and the programs on them


class Proc:
    """A program on a host. Its output goes to a file; log() is what it has written so far."""

    count = 0

    def __init__(self, host, argv, user=None, env=None, stdin=None, pass_fds=()):
        Proc.count += 1
        self.argv = [str(a) for a in argv]
        self.name = pathlib.Path(self.argv[0]).name
        if self.argv[0] == PYTHON:
            self.name = " ".join([pathlib.Path(self.argv[1]).name, *self.argv[2:4]])
        self.host = host
        self.killed = False  # by us
        self.path = WORK / f"{Proc.count:04d}-{pathlib.Path(self.argv[0]).name}.log"
        with open(self.path, "wb") as out:
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                env={**ENV, **(env or {})}, preexec_fn=host.entry(user), pass_fds=pass_fds)

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return self.path.read_text(errors="replace")

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def stop(self):
        """SIGSTOP; on return all its threads have stopped, until SIGCONT. The signal alone stops the first one."""
        self.signal(signal.SIGSTOP)
        stats = list(pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat"))
        wait_until(lambda: all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in stats))

    def wait(self, seconds=10):
        """The exit code; an AssertionError if it has not ended by then, and PATIENCE."""
        try:
            return self.popen.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds * PATIENCE} s\n{self.log()}") from None

    def wait_log(self, pattern, seconds=5, since=0):
        """The first match of a regular expression in the log, from offset `since` on."""

        def look():
            return re.search(pattern, self.log()[since:], re.M)

        def missing():
            return f"no /{pattern}/ in the log of {self.name}:\n{self.log()[since:]}"

        return wait_until(look, seconds, missing, alive=self)

    def lines(self, **fields):
        """The lines of a JSON log, as dictionaries, that have all these fields and values."""
        found = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if all(entry.get(k) == v for k, v in fields.items()):
                    found.append(entry)
        return found

    def wait_line(self, count=1, seconds=5, **fields):
        """The last of `count` such lines."""
        def look():
            found = self.lines(**fields)
            return found if len(found) >= count else None

        def missing():
            return f"not {count} of {fields} in the log of {self.name}:\n{self.log()}"

        return wait_until(look, seconds, missing)[count - 1]

    def wait_records(self, count=1, seconds=5):
        """The access records, once there are `count`; an AssertionError where there are more."""
        self.wait_line(count, seconds, type="access")
        found = self.lines(type="access")
        if len(found) > count:
            raise AssertionError(
                f"{len(found)} access records of {self.name}, not {count}:\n{self.log()}")
        return found

    def kill(self):
        if self.alive():
            self.killed = True
            self.popen.kill()
        self.popen.wait()

    def trouble(self):
        """What no program may do in any test: be ended by a signal, or by its own checks."""
        found = SANITIZER.search(self.log())
        if found:
            return found[0]
        if not self.killed and self.popen.poll() is not None and self.popen.returncode < 0:
            return f"ended by signal {-self.popen.returncode}"
        return None

    def tail(self, lines=30):
        text = self.log().splitlines()
        return "\n".join(text[-lines:])


def wait_until(condition, seconds=5, message="condition not met in time", alive=None):
    """Polls until `condition()` is true and returns its value; `seconds` are multiplied by PATIENCE."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        dead = alive is not None and not alive.alive()
        value = condition()
        if value:
            return value
        if dead:
            code = alive.popen.returncode
            raise AssertionError(f"{alive.name} ended with {code}:\n{alive.tail()}")
        if time.monotonic() > end:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(0.01)


class Host:
    """A network namespace, and what runs in it."""

    def __init__(self, name):
        self.name = name
        self.procs = []
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _unshare(CLONE_NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _setns(home)
            os.close(home)
        with self.inside():
            # An address must be usable the moment it is added.
            for scope in ("all", "default"):
                self.sysctl(f"net.ipv6.conf.{scope}.accept_dad", 0)
                self.sysctl(f"net.ipv6.conf.{scope}.router_solicitations", 0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:  # one program less than by ip(8)
                fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))

    def close(self):
        for proc in self.procs:
            proc.kill()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the namespace meanwhile; a socket made there stays there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.fd)
            yield self
        finally:
            _setns(home)
            os.close(home)

    def entry(self, user=None):
        """What a child does before it executes a program on this host."""
        ids = None
        if user is not None:
            import pwd
            entry = pwd.getpwnam(user)
            ids = (entry.pw_uid, entry.pw_gid)

        def enter_host():
            _setns(self.fd)
            if ids is not None:
                os.setgroups([])
                os.setgid(ids[1])
                os.setuid(ids[0])

        return enter_host

    def run(self, *argv, check=True, user=None, env=None, stdin="", seconds=120):
        """Runs a program to its end: a CompletedProcess with text in stdout and stderr."""
        argv = [str(a) for a in argv]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace",
                              cwd="/", timeout=seconds, env={**ENV, **(env or {})},
                              preexec_fn=self.entry(user), check=False)
        if SANITIZER.search(done.stderr):
            raise AssertionError(f"{argv[0]} on {self.name}:\n{done.stderr}")
        if check and done.returncode != 0:
            what = f"{' '.join(argv)} on {self.name} ended with {done.returncode}"
            raise AssertionError(f"{what}:\n{done.stdout}{done.stderr}")
        return done

    def spawn(self, *argv, **options):
        proc = Proc(self, argv, **options)
        self.procs.append(proc)
        return proc

    def peer(self, *argv):
        """Starts a server of peers.py and waits until it listens."""
        proc = self.spawn(PYTHON, PEERS, *argv)
        proc.wait_log(r"^ready$")
        return proc

    def ip(self, commands):
        """Runs lines of ip(8) in one batch; /proc/self/fd/N there may name another host."""
        lines = [x.strip() for x in commands.strip().splitlines()]
        fds = [int(n) for n in re.findall(r"/proc/self/fd/(\d+)", commands)]
        done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                              capture_output=True, env=ENV, preexec_fn=self.entry(), pass_fds=fds,
                              check=False)
        if done.returncode != 0:
            raise AssertionError(f"ip on {self.name}: {done.stderr}\n{commands}")

    def nft(self, text):
        self.run("nft", "-f", "-", stdin=text)

    def ruleset(self):
        return self.run("nft", "list", "ruleset").stdout

    def sysctl(self, name, value):
        with self.inside():
            pathlib.Path("/proc/sys", name.replace(".", "/")).write_text(str(value))

    # Sockets of the test itself

    def connect(self, address, port, seconds=LONG, source=None):
        """A connected socket on this host; `source` is an (address, port) to bind it to."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(seconds)
        try:
            if source is not None:
                sock.bind(source)
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def expect_reset(self, address, port, sends=b"", seconds=LONG):
        """Connects, sends, reads: must end in a reset, wherever that is seen. What was read."""
        got = b""
        try:
            with self.connect(address, port, seconds) as sock:
                sock.sendall(sends)
                while data := sock.recv(65536):
                    got += data
        except ConnectionResetError:
            return got
        raise AssertionError(f"{address} port {port} from {self.name}: no reset, but end of file "
                             f"after {got!r}")

    def listen(self, address, port=0, backlog=128):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(backlog)
        sock.settimeout(LONG)
        return sock

    def datagrams(self, address, port=0, seconds=10):
        """A UDP socket on this host."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.settimeout(seconds)
        sock.bind((address, port))
        return sock

    def sockets(self):
        """(local, port, peer, port, state, uid) of each TCP socket, from /proc/net/tcp and tcp6."""
        found = []
        with self.inside():
            for table in ("tcp", "tcp6"):
                with open(f"/proc/thread-self/net/{table}", encoding="ascii") as f:
                    lines = f.readlines()[1:]
                for line in lines:
                    field = line.split()
                    found.append((*_kernel_address(field[1]), *_kernel_address(field[2]),
                                  int(field[3], 16), int(field[7])))
        return found

    def listening(self, port, address=None):
        return any(s[1] == port and s[4] == 10 and address in (None, s[0]) for s in self.sockets())

    def wait_port(self, port, address=None, seconds=10, alive=None):
        """Waits until somebody listens, without a connection that would show in a log."""
        wait_until(lambda: self.listening(port, address), seconds,
                   f"nobody listens on port {port} of {self.name}", alive)

    # The programs under test

    def _daemon(self, program, text, ports, args, wait, user, nofile=None, env=None):
        if not re.search(r"^user\s*=", text, re.M):
            text = f'user = "{DAEMON_USER}"\n' + text
        config = WORK / f"{program}-{Proc.count}.toml"
        config.write_text(text)
        if "-logformat" not in args:
            args = ("-logformat", "json", *args)
        limits = [] if nofile is None else ["prlimit", f"--nofile={nofile}:{nofile}"]
        proc = self.spawn(*limits, BUILD / program, "-f", config, *args, user=user, env=env)
        proc.config = config
        for port in ports if wait else ():
            self.wait_port(port, alive=proc)
        return proc

    def transocksd(self, text, *args, ports=(1081,), wait=True, user=None, nofile=None, env=None):
        """
        Starts it with this configuration and `user`, logging in JSON; waits until it listens.
        `nofile`: how many descriptors it may have.
        """
        return self._daemon("transocksd", text, ports, args, wait, user, nofile, env)

    def usocksd(self, text="", *args, ports=(1080,), wait=True, user=None, nofile=None, env=None):
        return self._daemon("usocksd", text, ports, args, wait, user, nofile, env)

    def rules(self, *args, check=True, user=None):
        """Runs transocks-rules; it gets the uid of the daemons unless the test names one."""
        args = [str(a) for a in args]
        if args and args[0] in ("install", "status", "diff", "print") and "--uid" not in args:
            args += ["--uid", RULES_UID]
        return self.run(BUILD / "transocks-rules", *args, check=check, user=user)

    def curl(self, *args, check=True, user=None, seconds=LONG):
        return self.run("curl", "-sS", "-m", seconds, *args, check=check, user=user)


def _kernel_address(text):
    address, port = text.split(":")
    words = [bytes.fromhex(address[i:i + 8])[::-1] for i in range(0, len(address), 8)]
    raw = b"".join(words) if sys.byteorder == "little" else bytes.fromhex(address)
    return str(ipaddress.ip_address(raw)), int(port, 16)


# --------------------------------------------------------------------------------------------------
# Topologies


def _link(a, name_a, b, name_b):
    a.ip(f"link add {name_a} type veth peer name {name_b} netns /proc/self/fd/{b.fd}")


class Topology:
    """
    The hosts of one test, as attributes.

    host():     host --- inet --- proxy            client programs and daemons on `host`
    gateway():  client --- gateway --- inet --- proxy

    `proxy` is where an upstream runs: a server on `inet` sees its address for a redirected flow, and
    the client's own for a direct one. `inet` answers on every address of 11.0.0.0/8 and 2a00:1::/32
    except 11.8.0.0/16 and 2a00:1:8::/48, which swallow everything, and 11.9.0.0/16 and
    2a00:1:9::/48, which are unreachable.
    """

    def __init__(self, *names):
        self.hosts = {}
        for name in names:
            self.hosts[name] = Host(name)
            setattr(self, name, self.hosts[name])

    def close(self):
        for host in self.hosts.values():
            host.close()

    def procs(self):
        return [p for host in self.hosts.values() for p in host.procs]

    def _internet(self):
        _link(self.inet, "proxy0", self.proxy, "wan0")
        self.proxy.ip("""
            link set wan0 up
            addr add 10.91.3.2/24 dev wan0
            addr add fd91:0:3::2/64 dev wan0 nodad
            route add default via 10.91.3.1
            route add default via fd91:0:3::1""")
        self.inet.sysctl("net.ipv4.ip_forward", 1)
        self.inet.sysctl("net.ipv6.conf.all.forwarding", 1)
        self.inet.sysctl("net.ipv6.ip_nonlocal_bind", 1)  # a local route is not enough for bind()
        self.inet.ip("""
            link set proxy0 up
            addr add 10.91.3.1/24 dev proxy0
            addr add fd91:0:3::1/64 dev proxy0 nodad
            route add local 11.0.0.0/8 dev lo
            route add local 2a00:1::/32 dev lo
            route add blackhole 11.8.0.0/16 table local
            route add blackhole 2a00:1:8::/48 table local
            route add unreachable 11.9.0.0/16 table local
            route add unreachable 2a00:1:9::/48 table local""")

    @classmethod
    def host(cls):
        t = cls("host", "inet", "proxy")
        t.client = t.host
        t._internet()
        _link(t.host, "eth0", t.inet, "host0")
        t.host.ip("""
            link set eth0 up
            addr add 10.91.0.2/24 dev eth0
            addr add fd91::2/64 dev eth0 nodad""")
        t.inet.ip("""
            link set host0 up
            addr add 10.91.0.1/24 dev host0
            addr add fd91::1/64 dev host0 nodad""")
        t.host.ip("route add default via 10.91.0.1\nroute add default via fd91::1")
        return t

    @classmethod
    def gateway(cls):
        t = cls("client", "gateway", "inet", "proxy")
        t._internet()
        _link(t.client, "eth0", t.gateway, "lan0")
        _link(t.gateway, "wan0", t.inet, "gw0")
        t.gateway.sysctl("net.ipv4.ip_forward", 1)
        t.gateway.sysctl("net.ipv6.conf.all.forwarding", 1)
        t.client.ip("""
            link set eth0 up
            addr add 10.91.1.2/24 dev eth0
            addr add fd91:0:1::2/64 dev eth0 nodad""")
        t.gateway.ip("""
            link set lan0 up
            link set wan0 up
            addr add 10.91.1.1/24 dev lan0
            addr add fd91:0:1::1/64 dev lan0 nodad
            addr add 10.91.2.2/24 dev wan0
            addr add fd91:0:2::2/64 dev wan0 nodad""")
        t.inet.ip("""
            link set gw0 up
            addr add 10.91.2.1/24 dev gw0
            addr add fd91:0:2::1/64 dev gw0 nodad
            route add 10.91.1.0/24 via 10.91.2.2
            route add fd91:0:1::/64 via fd91:0:2::2""")
        t.gateway.ip("route add default via 10.91.2.1\nroute add default via fd91:0:2::1")
        t.client.ip("route add default via 10.91.1.1\nroute add default via fd91:0:1::1")
        return t


# --------------------------------------------------------------------------------------------------
# Running tests


class TestCase(unittest.TestCase):
    """Builds topologies that go when the test ends, and fails it where a program misbehaved."""

    live = []  # of the running test, for the logs shown when it fails

    def build(self, kind):
        """kind: "host" or "gateway"."""
        return self._keep(getattr(Topology, kind)())

    def lonely(self):
        """A host without a network: nothing counts packets there."""
        return self._keep(Topology("host")).host

    def _keep(self, topology):
        TestCase.live.append(topology)
        self.addCleanup(self._close, topology)
        return topology

    def _close(self, topology):
        topology.close()
        TestCase.live.remove(topology)
        for proc in topology.procs():
            trouble = proc.trouble()
            self.assertIsNone(trouble, f"{proc.name}: {trouble}\n{proc.log()}")


class Result(unittest.TestResult):
    """One line a test: PASS, FAIL or SKIP, its name, and why. Failures come with the logs."""

    def __init__(self, prefix):
        super().__init__()
        self.prefix = prefix
        self.bad = False

    def startTest(self, test):
        super().startTest(test)
        self.bad = False
        self.started = time.monotonic()
        limit = getattr(test, "seconds", TEST_SECONDS)

        def too_long(*_):
            raise AssertionError(f"hung: {limit} s")

        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(limit)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def _say(self, word, test, rest=""):
        name = test.id().split(".", 1)[-1]
        print(f"{word} {self.prefix}.{name}{rest}", flush=True)

    def addSuccess(self, test):
        if not self.bad:
            self._say("PASS", test, f" ({time.monotonic() - self.started:.1f} s)")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say("SKIP", test, f": {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._failed(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._failed(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, err, subtest._subDescription())

    def _failed(self, test, err, what=""):
        if not self.bad:
            self._say("FAIL", test)
        self.bad = True
        text = "".join(traceback.format_exception(*err))
        print(_indent(what + "\n" + text if what else text))
        for topology in TestCase.live:
            for proc in topology.procs():
                state = "running" if proc.alive() else f"ended with {proc.popen.returncode}"
                print(_indent(f"--- {proc.name} on {proc.host.name}, {state}:\n{proc.tail()}"))
        sys.stdout.flush()


def _indent(text):
    return "".join(f"  | {line}\n" for line in text.rstrip().splitlines()).rstrip()


def main():
    """What a test file ends with. Words on its command line choose tests by a part of the name."""
    file = pathlib.Path(sys.modules["__main__"].__file__)
    try:
        enter()
    except OSError as error:
        print(f"cannot make namespaces: {error}")
        sys.exit(EXIT_CANNOT)
    suite = unittest.TestSuite()
    words = sys.argv[1:] or [""]
    for case in unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]):
        for test in case:
            if any(word in f"{file.stem}.{test.id().partition('.')[2]}" for word in words):
                suite.addTest(test)
    result = Result(file.stem)
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
