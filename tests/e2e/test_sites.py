# SPDX-License-Identifier: MIT
"""
Two sites on one address, of which the proxy forbids one by its name. The client knows of no proxy: what it says to
the site, in TLS or HTTP, is all there is, and transocksd tells it to the upstream.
"""
import pathlib

import lab
import test_upstreams

ADDRESS = "11.0.0.1"
OPEN, CLOSED = "www.open.test", "www.closed.test"

DANTED = f"""
logoutput: stderr
internal: 10.91.3.2 port = 1080
external: wan0
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: {test_upstreams.NOBODY}
client pass {{ from: 0/0 to: 0/0 }}
# A whole name would be compared by address as well, and both sites have the same.
socks block {{ from: 0/0 to: .closed.test }}
socks pass {{ from: 0/0 to: 0/0 }}
"""

USOCKSD = f"""
[incoming]
addresses = ["10.91.3.2"]
allow_from = ["10.91.0.0/16"]
[outgoing]
deny_sites = ["{CLOSED}"]
"""


def certificate(host):
    """Files with a certificate for both names, signed by itself, and its key."""
    cert, key = lab.WORK / "sites.pem", lab.WORK / "sites.key"
    host.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=sites.test", "-addext", f"subjectAltName=DNS:{OPEN},DNS:{CLOSED}",
             "-out", cert, "-keyout", key)
    return cert, key


@lab.needs_program("openssl")
class Sites(lab.TestCase):
    def start(self, upstream):
        t = self.build("host")
        resolv = pathlib.Path("/etc/resolv.conf")
        self.addCleanup(resolv.write_text, resolv.read_text())
        resolv.write_text("nameserver 11.0.0.53\n")
        t.inet.peer("dns", "11.0.0.53", 53, f"{OPEN}={ADDRESS}", f"{CLOSED}={ADDRESS}")
        t.cert, key = certificate(t.inet)
        t.sites = t.inet.peer("http", ADDRESS, 80), t.inet.peer("https", ADDRESS, 443, t.cert, key)
        t.transocksd = t.host.transocksd(f'proxy_url = "{upstream}"\n')
        t.host.rules("install")
        t.flows = 0
        return t

    def get(self, t, url, *options):
        """curl, and how its flow ended."""
        done = t.host.curl("--cacert", t.cert, "--connect-to", f"::{ADDRESS}:", *options, url, check=False)
        t.flows += 1
        return done, t.transocksd.wait_records(t.flows)[-1]

    def check(self, t, error):
        """Each of the two by each protocol; `error` is how the log calls the upstream's refusal."""
        for scheme in ("http", "https"):
            with self.subTest(scheme):
                done, record = self.get(t, f"{scheme}://{OPEN}/")
                self.assertEqual(done.stdout, f"This is {ADDRESS}, and you came from 10.91.3.2.\n", done.stderr)
                # By TLS both ends say goodbye at once, and curl may be gone before it has read the other's.
                self.assertIn(record["end"], ("done", "client-lost"))
                self.assertEqual(record["dest_host"], OPEN)
                for name in (CLOSED, CLOSED.upper(), f"{CLOSED}."):
                    done, record = self.get(t, f"{scheme}://{name}/")
                    self.assertIn(done.returncode, (35, 52, 55, 56), done.stderr)
                    self.assertEqual((record["end"], record.get("error"), record["dest_host"]),
                                     ("reply-refused", error, CLOSED))
        for server in t.sites:
            self.assertEqual(server.log().count("\nhttp"), 1, server.log())

    def test_usocksd(self):
        t = self.start("socks5://10.91.3.2:1080")
        proxy = t.proxy.usocksd(USOCKSD)
        self.check(t, "connection not allowed by ruleset")
        refused = proxy.lines(end="site-refused")
        # What is refused in one flight, while a worker tries that out, is asked for once more.
        self.assertIn(len(refused), range(6, 13))
        self.assertEqual({(r["dest_host"], r["dest_port"]) for r in refused}, {(CLOSED, 80), (CLOSED, 443)})

    def test_usocksd_that_allows_one(self):
        t = self.start("socks5://10.91.3.2:1080")
        t.proxy.usocksd(USOCKSD.replace(f'deny_sites = ["{CLOSED}"]', f'allow_sites = ["{OPEN}"]'))
        self.check(t, "connection not allowed by ruleset")
        # A client that says no name does not get there either.
        done, record = self.get(t, f"http://{ADDRESS}/")
        self.assertEqual((done.stdout, record["end"]), ("", "reply-refused"))

    def test_a_name_of_one_and_the_request_of_the_other(self):
        """What is asked for inside TLS is between client and site: the name that is told decides where it goes."""
        t = self.start("socks5://10.91.3.2:1080")
        t.proxy.usocksd(USOCKSD)
        done, record = self.get(t, f"https://{OPEN}/", "-H", f"Host: {CLOSED}")
        self.assertIn("came from 10.91.3.2", done.stdout)
        self.assertEqual(record["dest_host"], OPEN)
        done, record = self.get(t, f"http://{OPEN}/", "-H", f"Host: {CLOSED}")
        self.assertEqual((done.stdout, record["end"], record["dest_host"]), ("", "reply-refused", CLOSED))

    @lab.needs_program("danted")
    def test_danted(self):
        t = self.start("socks5://10.91.3.2:1080")
        config = lab.WORK / "danted-sites.conf"
        config.write_text(DANTED)
        t.proxy.wait_port(1080, alive=t.proxy.spawn("danted", "-f", config))
        self.check(t, "connection not allowed by ruleset")

    @lab.needs_program("tinyproxy")
    def test_tinyproxy(self):
        t = self.start("http://10.91.3.2:8888")
        config, names = lab.WORK / "tinyproxy-sites.conf", lab.WORK / "tinyproxy-names"
        names.write_text(f"^{CLOSED.replace('.', '[.]')}$\n")
        config.write_text(f"{test_upstreams.TINYPROXY}ConnectPort 443\nFilter \"{names}\"\nFilterType ere\n")
        t.proxy.wait_port(8888, alive=t.proxy.spawn("tinyproxy", "-d", "-c", config))
        self.check(t, "403 Forbidden")

    @lab.needs_uids  # squid gives up its groups
    @lab.needs_program("squid")
    def test_squid(self):
        t = self.start("http://10.91.3.2:3128")
        config = lab.WORK / "squid-sites.conf"
        config.write_text(test_upstreams.SQUID % f"acl closed dstdomain {CLOSED}\nhttp_access deny closed\n")
        t.proxy.wait_port(3128, alive=t.proxy.spawn("squid", "-N", "-f", config))
        self.check(t, "403 Forbidden")


if __name__ == "__main__":
    lab.main()
