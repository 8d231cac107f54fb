# SPDX-License-Identifier: MIT
"""The header of PROXY protocol v2 as haproxy reads what we write, and we read what haproxy writes."""
import lab

OURS = lab.BUILD / "tests" / "test_proxy_v2"
PAGE = "GET / HTTP/1.1\r\nHost: haproxy\r\nConnection: close\r\n\r\n"
SAYS = "%[src] %[src_port] to %[dst] %[dst_port] for %[fc_pp_authority]"
CONFIG = f"""
global
    maxconn 100
defaults
    timeout client 10s
    timeout server 10s
    timeout connect 10s
frontend says
    mode http
    bind 127.0.0.1:8001 accept-proxy
    http-request return status 200 content-type text/plain lf-string "says {SAYS}."
listen passes_on
    mode tcp
    bind 127.0.0.1:8002 accept-proxy
    unique-id-format id-%[src_port]
    server next 127.0.0.1:8003 send-proxy-v2 proxy-v2-options authority,unique-id,crc32c
listen looks
    mode tcp
    bind 127.0.0.1:8004
    server next 127.0.0.1:8005 send-proxy-v2 check inter 200ms
"""


class ProxyV2(lab.TestCase):
    def start(self):
        t = self.build("host")
        config = lab.WORK / "haproxy.cfg"
        config.write_text(CONFIG)
        haproxy = t.host.spawn("haproxy", "-db", "-f", config)
        for port in (8001, 8002, 8004):
            t.host.wait_port(port, alive=haproxy)
        return t

    def header(self, t, *words):
        return bytes.fromhex(t.host.run(OURS, "write", *words).stdout)

    def parse(self, t, data):
        *says, length = t.host.run(OURS, "parse", data.hex()).stdout.split()
        return says, data[int(length):]

    def ask(self, t, data):
        """What haproxy says of a connection that begins so, and the port it came from."""
        with t.host.connect("127.0.0.1", 8001) as sock:
            port = sock.getsockname()[1]
            sock.sendall(data + PAGE.encode())
            return self.read(sock, b"").decode(), port

    def read(self, sock, enough):
        data = b""
        sock.settimeout(lab.LONG)
        while not enough or enough not in data:
            try:
                more = sock.recv(65536)
            except ConnectionResetError:
                break
            if not more:
                break
            data += more
        return data

    @lab.needs_program("haproxy")
    def test_haproxy_reads_what_we_write(self):
        t = self.start()
        cases = (
            (("192.0.2.1:40000", "11.0.0.1:443"), "192.0.2.1 40000 to 11.0.0.1 443 for "),
            (("192.0.2.1:40000", "11.0.0.1:443", "a.example"),
             "192.0.2.1 40000 to 11.0.0.1 443 for a.example"),
            (("[fd91::5]:1", "[2a00:1::7]:65535", "a.example"),
             "fd91::5 1 to 2a00:1::7 65535 for a.example"),
            (("192.0.2.1:40000", "[2a00:1::7]:443", "a.example"),
             "::ffff:192.0.2.1 40000 to 2a00:1::7 443 for a.example"),
            (("[fd91::5]:40000", "11.0.0.1:443"), "fd91::5 40000 to ::ffff:11.0.0.1 443 for "),
            (("192.0.2.1:40000", "11.0.0.1:443", "a" * 49 + ("." + "a" * 50) * 4),
             "192.0.2.1 40000 to 11.0.0.1 443 for " + "a" * 49 + ("." + "a" * 50) * 4),
        )
        for words, says in cases:
            with self.subTest(words=words):
                answer = self.ask(t, self.header(t, *words))[0]
                self.assertTrue(answer.startswith("HTTP/1.1 200"), answer)
                self.assertIn(f"says {says}.", answer)

    @lab.needs_program("haproxy")
    def test_haproxy_takes_a_local_connection_as_it_is(self):
        t = self.start()
        answer, port = self.ask(t, self.header(t, "local"))
        self.assertIn(f"says 127.0.0.1 {port} to 127.0.0.1 8001 for .", answer)

    @lab.needs_program("haproxy")
    def test_haproxy_wants_a_header(self):
        t = self.start()
        spoiled = bytearray(self.header(t, "192.0.2.1:40000", "11.0.0.1:443"))
        spoiled[12] = 0x31
        for begin in (b"", bytes(spoiled)):
            self.assertNotIn("says", self.ask(t, begin)[0])

    @lab.needs_program("haproxy")
    def test_we_read_what_haproxy_writes(self):
        t = self.start()
        cases = (
            ("192.0.2.1:40000", "11.0.0.1:443", "a.example"),
            ("[fd91::5]:1", "[2a00:1::7]:65535", "a.example"),
            ("192.0.2.1:40000", "11.0.0.1:443"),
        )
        with t.host.listen("127.0.0.1", 8003) as server:
            for words in cases:
                with t.host.connect("127.0.0.1", 8002) as sock:
                    sock.sendall(self.header(t, *words) + b"payload")
                    with server.accept()[0] as connection:
                        data = self.read(connection, b"payload")
                says, rest = self.parse(t, data)
                self.assertEqual(says, [*words, "-"][:3])
                self.assertEqual(rest, b"payload")
                self.assertIn(b"id-" + words[0].rsplit(":")[-1].encode(), data)

    @lab.needs_program("haproxy")
    def test_we_read_the_header_of_a_health_check(self):
        t = self.start()
        with t.host.listen("127.0.0.1", 8005) as server, server.accept()[0] as connection:
            says, rest = self.parse(t, self.read(connection, b""))
        self.assertEqual((says, rest), (["local", "local", "-"], b""))


if __name__ == "__main__":
    lab.main()
