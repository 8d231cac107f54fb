# SPDX-License-Identifier: MIT
"""
Many flows at once: what they cost, and that nothing is left of them.

By hand, a storm can be repeated or made smaller: SEED=... FLOWS=...
"""
import os
import pathlib
import re
import resource
import selectors
import signal
import time

import flow
import lab
import peers
import storm

ADDRESSES = ("11.0.0.1", "2a00:1::1")
SANITIZED = b"__asan_init" in (lab.BUILD / "transocksd").read_bytes()
# What transocksd.8 promises, in KiB: for each flow, and for each direction that holds what nobody takes.
FLOW_KIB, BACKLOG_KIB = 1, 64
# What is there once, not for each flow: set-up states, the log, whole pages.
SLACK_KIB = 2048


def setUpModule():
    """Both ends of all flows are in this process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pss_kib(proc):
    text = pathlib.Path(f"/proc/{proc.pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+) kB", text, re.M)[1])


def descriptors(proc):
    return len(os.listdir(f"/proc/{proc.pid}/fd"))


class Many(lab.TestCase):
    def start(self):
        """A chain of both daemons, and what each holds before there is a flow."""
        t = self.build("host")
        t.usocksd = t.proxy.usocksd('[incoming]\naddresses = ["10.91.3.2"]\nallow_from = ["10.91.0.0/16"]\n')
        t.transocksd = t.host.transocksd('proxy_url = "socks5://10.91.3.2:1080"\n')
        t.host.rules("install")
        t.daemons = ((t.host, t.transocksd), (t.proxy, t.usocksd))
        for _, proc in t.daemons:
            proc.wait_line(message="ready")  # whatever it opens is open
        t.before = [self.holds(host, proc) for host, proc in t.daemons]
        return t

    def holds(self, host, proc):
        """What must be back when all flows have ended. Idle pipes are kept, two descriptors each."""
        workers = flow.status(host, proc)["workers"]
        held = {name: sum(worker[name] for worker in workers)
                for name in workers[0] if not name.endswith("_idle")}
        idle = sum(worker["pipes_idle"] for worker in workers)
        return {**held, "descriptors": descriptors(proc) - 2 * idle}

    def all_is_back(self, t):
        for (host, proc), before in zip(t.daemons, t.before):
            try:
                lab.wait_until(lambda h=host, p=proc, b=before: self.holds(h, p) == b)
            except AssertionError:
                self.assertEqual(self.holds(host, proc), before, proc.name)

    def end(self, t):
        """The daemons' own checks, of each pool when it is freed."""
        for _, proc in t.daemons:
            proc.signal(signal.SIGTERM)
            self.assertEqual(proc.wait(20), 0)

    def test_storm(self):
        """2,000 flows of random sizes, half-closes and resets: nobody gets a wrong byte, nor a clean end before
        the last one, and both daemons hold what they held before."""
        seed = int(os.environ.get("SEED", time.time_ns() % 2**32))
        count = int(os.environ.get("FLOWS", 2000))
        t = self.start()
        flows = storm.Storm(seed, count)
        flows.open(t, ADDRESSES, 120)
        for host, proc in t.daemons:
            self.assertEqual(flow.status(host, proc)["flows"], count)
        flows.run(200)
        bad = [f"{why}: {f}" for f in flows.flows if (why := f.verdict())]
        self.assertEqual(bad[:10], [], f"{len(bad)} of {count} flows; again with SEED={seed}")
        self.all_is_back(t)
        whole = sum(not f.was_reset() for f in flows.flows)
        for host, proc in t.daemons:
            ended = {word: n for word, n in flow.status(host, proc)["ended"].items() if n > 0}
            self.assertGreaterEqual(ended.pop("done"), whole)
            self.assertLessEqual(set(ended), {"client-lost", "remote-lost"})
        self.end(t)

    def test_slow_readers(self):
        """500 endless streams that nobody reads: the senders stop, and memory stays within what the manual
        promises. Then they are read, and all go on."""
        t = self.start()
        for host in (t.host, t.inet, t.proxy):  # else it is 2 GB that the kernel takes
            host.sysctl("net.ipv4.tcp_rmem", "4096 65536 131072")
            host.sysctl("net.ipv4.tcp_wmem", "4096 16384 131072")
        pss = [pss_kib(proc) for _, proc in t.daemons]
        flows = Streams(self, t, 500)
        flows.stop()
        for (host, proc), before in zip(t.daemons, pss):
            now = self.holds(host, proc)
            workers = len(flow.status(host, proc)["workers"])
            self.assertLessEqual(now["buffers_live"] + now["pipes_live"], 500 + workers)
            if not SANITIZED:  # that has a memory of its own for what is freed
                grown = pss_kib(proc) - before
                self.assertLessEqual(grown, 500 * (FLOW_KIB + BACKLOG_KIB) + SLACK_KIB, proc.name)
        flows.read(2 * max(flows.count.values()))
        flows.close()
        self.all_is_back(t)
        self.end(t)


class Streams:
    """Far ends that send without end, each of them the pattern; the other ends in `clients`."""

    def __init__(self, case, t, count):
        self.clients, self.count = [], {}
        listener = t.inet.listen("11.0.0.1", flow.PORT, 1024)
        with listener:
            for _ in range(count):
                self.clients.append(t.client.connect("11.0.0.1", flow.PORT))
                case.addCleanup(self.clients[-1].close)
            for _ in range(count):
                sock = listener.accept()[0]
                case.addCleanup(sock.close)
                sock.setblocking(False)
                self.count[sock] = 0
        self.selector = selectors.EpollSelector()
        for sock in self.count:
            self.selector.register(sock, selectors.EVENT_WRITE)

    def sent(self):
        return sum(self.count.values())

    def send(self, seconds):
        """False: nobody has taken anything for so long."""
        ready = self.selector.select(seconds)
        for key, _ in ready:
            sock = key.fileobj
            self.count[sock] += sock.send(peers.pattern(0, self.count[sock], 60000))
        return bool(ready)

    def stop(self):
        """Sends until nobody has taken anything for a second, nor another, but for what a closed window opens now and
        then."""
        end, before, now = time.monotonic() + 150, 0, 1
        while now - before > now / 100:
            while self.send(1):
                if time.monotonic() > end:
                    raise AssertionError(f"the senders do not stop: {self.sent()} bytes")
            before, now = now, self.sent()

    def read(self, length):
        """Each client reads so much, and compares it, while the far ends go on."""
        left = dict.fromkeys(self.clients, 0)
        for sock in left:
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ)
        while left:
            for key, events in self.selector.select(lab.LONG):
                sock = key.fileobj
                if events & selectors.EVENT_WRITE:
                    self.count[sock] += sock.send(peers.pattern(0, self.count[sock], 60000))
                    continue
                data = sock.recv(60000)
                if not data or data != peers.pattern(0, left[sock], len(data)):
                    raise AssertionError(f"wrong bytes or end of file at {left[sock]}")
                left[sock] += len(data)
                if left[sock] >= length:
                    self.selector.unregister(sock)
                    del left[sock]

    def close(self):
        self.selector.close()
        for sock in [*self.clients, *self.count]:
            flow.reset(sock)


if __name__ == "__main__":
    lab.main()
