# SPDX-License-Identifier: MIT
"""The main job: what is redirected reaches the Internet through an upstream, byte for byte."""
import re
import socket
import time

import lab

FAMILIES = (("11.0.0.1", "http://11.0.0.1/", "10.91.3.2"),
            ("2a00:1::1", "http://[2a00:1::1]/", "fd91:0:3::2"))

USOCKSD = """
[incoming]
addresses = ["10.91.3.2", "fd91:0:3::2"]
allow_from = ["10.91.0.0/16", "fd91::/32"]
"""

DANTED = """
logoutput: stderr
internal: 10.91.3.2 port = 1080
external: wan0
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: {user}
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 }}
"""


class Flows(lab.TestCase):
    def pages(self, t, families=FAMILIES):
        """Fetches a page by each family; the server must have seen the proxy, not the client."""
        for address, url, source in families:
            page = t.client.curl(url).stdout
            self.assertEqual(page, f"This is {address}, and you came from {source}.\n")

    def start_host(self, upstream="socks5://10.91.3.2:1080", more=""):
        t = self.build("host")
        t.web = t.inet.peer("http", "::", 80)
        t.transocksd = t.host.transocksd(f'proxy_url = "{upstream}"\n{more}\n')
        t.host.rules("install")
        return t

    def start_gateway(self, upstream="socks5://10.91.3.2:1080"):
        t = self.build("gateway")
        t.web = t.inet.peer("http", "::", 80)
        t.transocksd = t.gateway.transocksd(f'listen = ":1081"\nproxy_url = "{upstream}"\n')
        t.gateway.rules("install", "--gateway", "lan0")
        return t

    def start_usocksd(self, t):
        t.usocksd = t.proxy.usocksd(USOCKSD)

    def start_danted(self, t):
        config = lab.WORK / "danted.conf"
        config.write_text(DANTED.format(user="root" if lab.ONE_UID else "nobody"))
        t.proxy.spawn("danted", "-f", config)
        t.proxy.wait_port(1080)

    def start_microsocks(self, t):
        t.proxy.spawn("microsocks", "-i", "10.91.3.2", "-p", "1080")
        t.proxy.wait_port(1080)

    def test_output_to_usocksd(self):
        t = self.start_host()
        self.start_usocksd(t)
        self.pages(t)
        records = t.transocksd.wait_records(2)
        self.assertEqual([r["dest_addr"] for r in records], ["11.0.0.1:80", "[2a00:1::1]:80"])
        self.assertEqual([r["end"] for r in t.usocksd.wait_records(2)], ["done", "done"])

    def test_prerouting_to_usocksd(self):
        t = self.start_gateway()
        self.start_usocksd(t)
        self.pages(t)
        clients = [r["client_addr"].rpartition(":")[0] for r in t.transocksd.wait_records(2)]
        self.assertEqual(clients, ["10.91.1.2", "[fd91:0:1::2]"])

    def test_gateway_itself_is_redirected_too(self):
        t = self.start_gateway()
        self.start_usocksd(t)
        t.client = t.gateway
        self.pages(t)

    def test_upstream_by_ipv6(self):
        t = self.start_host("socks5://[fd91:0:3::2]:1080")
        self.start_usocksd(t)
        self.pages(t)

    def test_upstream_by_name(self):
        t = self.build("host")
        t.inet.peer("http", "::", 80)
        self.start_usocksd(t)
        t.inet.peer("dns", "10.91.0.1", 53, "proxy.test=10.91.3.2")
        t.host.transocksd('proxy_url = "socks5://proxy.test:1080"\n'
                          '[dns]\nservers = ["10.91.0.1"]\n')
        t.host.rules("install")
        self.pages(t)

    @lab.needs_program("microsocks")
    def test_output_to_microsocks(self):
        t = self.start_host()
        self.start_microsocks(t)
        self.pages(t)

    @lab.needs_program("microsocks")
    def test_prerouting_to_microsocks(self):
        t = self.start_gateway()
        self.start_microsocks(t)
        self.pages(t)

    @lab.needs_program("danted")
    def test_output_to_danted(self):
        t = self.start_host()
        self.start_danted(t)
        self.pages(t)

    @lab.needs_program("danted")
    def test_prerouting_to_danted(self):
        t = self.start_gateway()
        self.start_danted(t)
        self.pages(t)

    def first_messages(self, handshake):
        """How many bytes of the handshake an upstream gets at once, for three flows of one worker."""
        t = self.start_host(more=f'workers = 1\nhandshake = "{handshake}"')
        upstream = t.proxy.peer("socks", "10.91.3.2", 1080, "greedy")
        for _ in range(3):
            self.pages(t, FAMILIES[:1])
        self.assertEqual({r["end"] for r in t.transocksd.wait_records(3)}, {"done"})
        return re.findall(r"socks first (\d+) bytes", upstream.log())

    def test_handshake_in_one_flight(self):
        self.assertEqual(self.first_messages("one-flight"), ["13"] * 3)
        self.assertEqual(self.first_messages("auto"), ["13"] * 3)
        self.assertEqual(self.first_messages("strict"), ["3"] * 3)

    @lab.needs_program("microsocks")
    def test_handshake_that_the_upstream_loses(self):
        """microsocks reads one message at a time: one flow finds out, and arrives all the same."""
        t = self.start_host(more="workers = 1")
        self.start_microsocks(t)
        for _ in range(3):
            self.pages(t, FAMILIES[:1])
        first, *others = (float(r["elapsed"]) for r in t.transocksd.wait_records(3))
        self.assertGreater(first, 0.4)
        self.assertLess(max(others), 0.4)
        t.transocksd.wait_log("does not take the handshake in one flight")

    def test_upstream_that_answers_byte_by_byte(self):
        for handshake in ("auto", "strict", "one-flight"):
            with self.subTest(handshake=handshake):
                t = self.start_host(more=f'handshake = "{handshake}"')
                t.proxy.peer("socks", "10.91.3.2", 1080, "drip", 10)
                self.pages(t)

    def test_direct(self):
        t = self.start_host("direct://")
        self.pages(t, [("11.0.0.1", "http://11.0.0.1/", "10.91.0.2"),
                       ("2a00:1::1", "http://[2a00:1::1]/", "fd91::2")])
        self.assertEqual(t.transocksd.wait_records(2)[1]["upstream"], "direct")

    def banners(self, t):
        """The answer and its end are there as soon as the connection is: neither may be missed."""
        t.inet.peer("banner", "::", 7001, 20)
        for address in ["11.0.0.1", "2a00:1::1"] * 40:
            with t.client.connect(address, 7001, 5) as sock:
                got = b""
                while data := sock.recv(100):
                    got += data
                self.assertEqual(len(got), 20)

    def test_server_that_ends_at_once(self):
        t = self.start_host()
        self.start_usocksd(t)
        self.banners(t)

    def test_server_that_ends_at_once_direct(self):
        self.banners(self.start_host("direct://"))

    def test_reset_comes_behind_what_was_sent_before_it(self):
        """A slow client gets every byte that came before the upstream's reset, and then the reset."""
        t = self.start_host("direct://")
        t.inet.peer("reset", "::", 7003, 60000)
        for address in ("11.0.0.1", "2a00:1::1"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with t.client.inside():
                sock = socket.socket(family, socket.SOCK_STREAM)
            with sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.settimeout(lab.LONG)
                sock.connect((address, 7003))
                time.sleep(0.4)  # the far end has reset by now; most is still on its way to us
                got = 0
                with self.assertRaises(ConnectionResetError):
                    while data := sock.recv(65536):
                        got += len(data)
                self.assertEqual(got, 60000)

    def test_urgent_data(self):
        """The urgent byte stays where it was sent, and what is behind it is not held back."""
        t = self.start_host("direct://")
        for address in ("11.0.0.1", "2a00:1::1"):
            server = t.inet.listen(address, 7002)
            with t.client.connect(address, 7002) as client, server.accept()[0] as far:
                far.settimeout(lab.LONG)
                for one, other in [(client, far)] * 10 + [(far, client)] * 10:
                    one.send(b"a" * 100)
                    one.send(b"!", socket.MSG_OOB)
                    one.send(b"b" * 100)
                    got = b""
                    while len(got) < 200:
                        got += other.recv(1000)
                    self.assertEqual(got.replace(b"!", b""), b"a" * 100 + b"b" * 100)
                    if one is client:
                        self.assertEqual(got.count(b"!"), 1)
            server.close()

    def test_private_destinations_stay_direct(self):
        t = self.start_host()
        page = t.host.curl("http://10.91.3.1/").stdout
        self.assertIn("came from 10.91.0.2.", page)
        self.assertEqual(t.transocksd.lines(type="access"), [])

    def load(self, t, address):
        """200 transfers at once; every byte is compared, and counted again in the records."""
        t.inet.peer("transfer", "::", 7000)
        done = t.client.run(lab.PYTHON, lab.PEERS, "load", address, 7000, 200, 5, check=False,
                            seconds=55)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        up, down = (int(n) for n in re.search(r"(\d+) up, (\d+) down", done.stdout).groups())
        for daemon in (t.transocksd, t.usocksd):
            records = daemon.wait_records(200)
            self.assertEqual({r["end"] for r in records}, {"done"})
            self.assertEqual(sum(r["bytes_up"] for r in records), up)
            self.assertEqual(sum(r["bytes_down"] for r in records), down)
        transfers = re.findall(r"^transfer (\d+) (.*)$", t.inet.procs[-1].log(), re.M)
        self.assertEqual({why for _, why in transfers}, {"ok"})
        self.assertEqual(len(transfers), 200)

    def test_load_output_ipv4(self):
        t = self.start_host()
        self.start_usocksd(t)
        self.load(t, "11.0.0.1")

    def test_load_prerouting_ipv6(self):
        t = self.start_gateway()
        self.start_usocksd(t)
        self.load(t, "2a00:1::1")


if __name__ == "__main__":
    lab.main()
