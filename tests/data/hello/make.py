#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Makes the samples of this directory again: the first bytes that real clients send, a file each, and
some that none of them would send. `table` says what is to be made of them.

    unshare -mn tests/data/hello/make.py [--root DIR] [WORD]

Root, in namespaces of its own, which it checks. DIR is where packages are unpacked that are not
installed. A row whose client is not there keeps its file; with WORD only the rows are made whose
file has it in its name. The table itself is always written.
"""
import argparse
import os
import pathlib
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
QUIET_SECONDS = 0.4  # nothing more comes then
CLIENT_SECONDS = 20
KEPT_BYTES = 6000

NAME = "www.example.com"
CURL = "curl -sk --max-time 3"
OPENSSL = "openssl s_client -connect localhost:443"
CHROMIUM = "{root}/usr/lib/chromium/chromium-headless-shell --no-sandbox --disable-gpu " \
           "--user-data-dir={tmp}/chromium --ignore-certificate-errors"
JAVA = "java {tmp}/Get.java"
LONG_GROUPS = "P-521:P-384:P-256:X25519:X448:ffdhe2048:ffdhe3072:ffdhe4096:ffdhe6144:ffdhe8192"
LONG_ALPN = ",".join(f"protocol-{i:03}" for i in range(350))
HUGE_ALPN = ",".join(f"protocol-{i:04}" + "x" * 200 for i in range(100))
SECLEVEL_0 = "-cipher DEFAULT@SECLEVEL=0"

# Programs that the rows run, by name.
FILES = {
    "Get.java": """
import java.net.URI;
import java.net.http.*;
public class Get {
    public static void main(String[] a) throws Exception {
        HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(),
            HttpResponse.BodyHandlers.ofString());
    }
}
""",
    "get.py": """
import http.client, ssl, sys
tls = ssl._create_unverified_context()
if sys.argv[1] == "https":
    c = http.client.HTTPSConnection(sys.argv[2], context=tls, timeout=3)
else:
    c = http.client.HTTPConnection(sys.argv[2], timeout=3)
c.request("GET", "/", headers={"X-Other": "a"})
c.getresponse()
""",
    "get.js": """
const url = process.argv[2];
require(url.split(":")[0]).get(url, {rejectUnauthorized: false}).on("error", () => {});
""",
    "get.pl": """
use HTTP::Tiny;
HTTP::Tiny->new(timeout => 3)->get($ARGV[0]);
""",
}

# file, port, command, result (found, none, more), protocol, flags, name or reason
CLIENTS = [
    # TLS
    ("openssl", 443, f"{OPENSSL} -servername {NAME}", "found", "tls", "", NAME),
    ("openssl-tls13", 443, f"{OPENSSL} -tls1_3 -servername {NAME}", "found", "tls", "", NAME),
    ("openssl-tls12", 443, f"{OPENSSL} -tls1_2 -servername {NAME}", "found", "tls", "", NAME),
    ("openssl-tls11", 443, f"{OPENSSL} -tls1_1 {SECLEVEL_0} -servername {NAME}",
     "found", "tls", "", NAME),
    ("openssl-tls10", 443, f"{OPENSSL} -tls1 {SECLEVEL_0} -servername {NAME}",
     "found", "tls", "", NAME),
    ("openssl-no-name", 443, f"{OPENSSL} -noservername", "none", "tls", "", "no server name"),
    ("openssl-no-name-tls12", 443, f"{OPENSSL} -tls1_2 -noservername", "none", "tls", "",
     "no server name"),
    ("openssl-upper-case", 443, f"{OPENSSL} -servername WWW.Example.COM", "found", "tls", "", NAME),
    ("openssl-final-dot", 443, f"{OPENSSL} -servername {NAME}.", "found", "tls", "", NAME),
    ("openssl-ipv4", 443, f"{OPENSSL} -servername 192.0.2.1", "none", "tls", "", "an address"),
    ("openssl-ipv6", 443, f"{OPENSSL} -servername 2001:db8::1", "none", "tls", "", "an address"),
    ("openssl-decimal-ipv4", 443, f"{OPENSSL} -servername 2130706433", "none", "tls", "",
     "not a domain name"),
    ("openssl-spaces", 443, [*OPENSSL.split(), "-servername", "www example com"], "none", "tls",
     "", "not a domain name"),
    ("openssl-escape", 443, [*OPENSSL.split(), "-servername", "a\x1b[2Jb.example"], "none", "tls",
     "", "not a domain name"),
    ("openssl-utf8", 443, [*OPENSSL.split(), "-servername", "bücher.example"], "none", "tls", "",
     "not a domain name"),
    ("openssl-underscore", 443, f"{OPENSSL} -servername my_host.example.com", "found", "tls", "",
     "my_host.example.com"),
    ("openssl-alpn", 443, f"{OPENSSL} -alpn h2,http/1.1 -servername {NAME}", "found", "tls", "",
     NAME),
    ("openssl-groups", 443, f"{OPENSSL} -groups {LONG_GROUPS} -servername {NAME}", "found", "tls",
     "", NAME),
    ("openssl-ffdhe8192", 443, f"{OPENSSL} -tls1_3 -groups ffdhe8192 -servername {NAME}", "found",
     "tls", "", NAME),
    ("openssl-several-records", 443,
     f"{OPENSSL} -max_send_frag 512 -alpn {LONG_ALPN} -servername {NAME}", "found", "tls", "",
     NAME),
    ("openssl-huge", 443, f"{OPENSSL} -alpn {HUGE_ALPN} -servername {NAME}", "none", "tls", "",
     "a ClientHello of more than 16 KiB"),
    ("gnutls", 443, f"gnutls-cli --insecure -p 443 {NAME}", "found", "tls", "", NAME),
    ("gnutls-tls12", 443,
     f"gnutls-cli --insecure --priority NORMAL:-VERS-ALL:+VERS-TLS1.2 -p 443 {NAME}", "found",
     "tls", "", NAME),
    ("gnutls-tls13-only", 443,
     f"gnutls-cli --insecure --priority NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE "
     f"-p 443 {NAME}", "found", "tls", "", NAME),
    ("gnutls-ssl30-record", 443,
     f"gnutls-cli --insecure --priority NORMAL:%LATEST_RECORD_VERSION -p 443 {NAME}", "found",
     "tls", "", NAME),
    ("gnutls-no-name", 443, f"gnutls-cli --insecure --disable-sni -p 443 {NAME}", "none", "tls",
     "", "no server name"),
    ("gnutls-address", 443, "gnutls-cli --insecure -p 443 127.0.0.1", "none", "tls", "",
     "no server name"),
    ("curl-https", 443, f"{CURL} https://{NAME}/", "found", "tls", "", NAME),
    ("curl-https-final-dot", 443, f"{CURL} https://{NAME}./", "found", "tls", "", NAME),
    ("curl-https-http11", 443, f"{CURL} --http1.1 https://{NAME}/", "found", "tls", "", NAME),
    ("curl-https-tls12", 443, f"{CURL} --tls-max 1.2 https://{NAME}/", "found", "tls", "", NAME),
    ("curl-https-ipv4", 443, f"{CURL} https://127.0.0.1/", "none", "tls", "", "no server name"),
    ("curl-https-ipv6", 443, f"{CURL} https://[::1]/", "none", "tls", "", "no server name"),
    ("python-https", 443, f"/usr/bin/python3 {{tmp}}/get.py https {NAME}", "found", "tls", "",
     NAME),
    ("wget-https", 443, f"wget -q -t1 -T3 -O- --no-check-certificate https://{NAME}/", "found",
     "tls", "", NAME),
    ("git-https", 443, f"git -c http.sslVerify=false ls-remote https://{NAME}/a.git", "found",
     "tls", "", NAME),
    ("node-https", 443, f"node {{tmp}}/get.js https://{NAME}/", "found", "tls", "", NAME),
    ("java-https", 443, f"{JAVA} https://{NAME}/", "found", "tls", "", NAME),
    ("aria2-https", 443,
     f"aria2c -q --async-dns=false -d {{tmp}} --check-certificate=false -m1 https://{NAME}/",
     "found", "tls", "", NAME),
    # X25519MLKEM768, and a decoy instead of an encrypted hello
    ("chromium-https", 443, f"{CHROMIUM} https://{NAME}/", "found", "tls", "ech", NAME),
    # HTTP
    ("curl-http", 80, f"{CURL} http://{NAME}/a?b", "found", "http", "", NAME),
    ("curl-http10", 80, f"{CURL} --http1.0 http://{NAME}/", "found", "http", "", NAME),
    ("curl-http-port", 8080, f"{CURL} http://{NAME}:8080/", "found", "http", "", NAME),
    ("curl-http-final-dot", 80, f"{CURL} http://{NAME}./", "found", "http", "", NAME),
    ("curl-http-ipv4", 80, f"{CURL} http://127.0.0.1/", "none", "http", "", "an address"),
    ("curl-http-ipv6", 80, f"{CURL} http://[::1]/", "none", "http", "", "an address"),
    ("curl-http-ipv6-port", 8080, f"{CURL} http://[::1]:8080/", "none", "http", "", "an address"),
    ("curl-http-no-host", 80, f"{CURL} -H Host: http://{NAME}/", "none", "http", "", "no Host"),
    ("curl-http-two-hosts", 80, [*CURL.split(), "-H", "X-Other: a\r\nhost: b.example",
                                 f"http://{NAME}/"], "none", "http", "", "duplicate Host"),
    ("curl-http-user", 80, f"{CURL} http://user:secret@{NAME}/", "found", "http", "", NAME),
    ("curl-http-post", 80, f"{CURL} -d a=b http://{NAME}/", "found", "http", "", NAME),
    ("curl-http-options", 80, f"{CURL} -X OPTIONS --request-target * http://{NAME}/", "found",
     "http", "", NAME),
    ("curl-http-proxy", 8080, f"{CURL} -x http://localhost:8080 http://{NAME}/a", "found", "http",
     "to-proxy", NAME),
    ("curl-http-proxy-ipv6", 8080, f"{CURL} -x http://localhost:8080 http://[2001:db8::1]/", "none",
     "http", "", "an address"),
    ("curl-https-proxy", 8080, f"{CURL} -x http://localhost:8080 https://{NAME}/", "found", "http",
     "to-proxy", NAME),
    ("curl-https-proxy-ipv6", 8080, f"{CURL} -x http://localhost:8080 https://[2001:db8::1]/",
     "none", "http", "", "an address"),
    ("curl-http2-upgrade", 80, f"{CURL} --http2 http://{NAME}/", "found", "http", "", NAME),
    ("curl-http2-prior", 80, f"{CURL} --http2-prior-knowledge http://{NAME}/", "none", "-", "",
     "HTTP/2 with prior knowledge"),
    ("curl-websocket", 80, [*CURL.split(), "-H", "Connection: Upgrade", "-H", "Upgrade: websocket",
                            f"http://{NAME}/"], "found", "http", "", NAME),
    ("nghttp-http2-prior", 80, f"nghttp http://{NAME}/", "none", "-", "",
     "HTTP/2 with prior knowledge"),
    ("python-http", 80, f"/usr/bin/python3 {{tmp}}/get.py http {NAME}", "found", "http", "", NAME),
    ("wget-http", 80, f"wget -q -t1 -T3 -O- http://{NAME}/", "found", "http", "", NAME),
    ("git-http", 80, f"git ls-remote http://{NAME}/a.git", "found", "http", "", NAME),
    ("node-http", 80, f"node {{tmp}}/get.js http://{NAME}/", "found", "http", "", NAME),
    ("java-http2-upgrade", 80, f"{JAVA} http://{NAME}/", "found", "http", "", NAME),
    ("perl-http", 80, f"perl {{tmp}}/get.pl http://{NAME}/", "found", "http", "", NAME),
    ("chromium-http", 80, f"{CHROMIUM} http://{NAME}/", "found", "http", "", NAME),
    # others
    ("ssh", 22, f"ssh -o BatchMode=yes -o ConnectTimeout=3 {NAME}", "none", "-", "",
     "not TLS or HTTP"),
    ("git-native", 9418, f"git ls-remote git://{NAME}/a.git", "none", "-", "", "not TLS or HTTP"),
    ("curl-socks5", 1080, f"{CURL} -x socks5h://localhost:1080 http://{NAME}/", "none", "-", "",
     "not TLS or HTTP"),
    ("curl-mqtt", 1883, f"{CURL} mqtt://{NAME}/a", "none", "-", "", "not TLS or HTTP"),
    ("curl-ldap", 389, f"{CURL} ldap://{NAME}/a", "none", "-", "", "not TLS or HTTP"),
    ("curl-dict", 2628, f"{CURL} dict://{NAME}/d:a", "none", "-", "", "not TLS or HTTP"),
    ("curl-gopher", 70, f"{CURL} gopher://{NAME}/1a", "none", "-", "", "not TLS or HTTP"),
    ("curl-rtsp", 554, f"{CURL} rtsp://{NAME}/a", "none", "-", "", "not TLS or HTTP"),
]


def u8(body):
    return struct.pack("!B", len(body)) + body


def u16(body):
    return struct.pack("!H", len(body)) + body


def extension(kind, body):
    return struct.pack("!H", kind) + u16(body)


def host_name(name, kind=0):
    return struct.pack("!B", kind) + u16(name)


def server_name(*names):
    return extension(0, u16(b"".join(names)))


WWW = server_name(host_name(NAME.encode()))
VERSIONS = extension(43, u8(b"\x03\x04\x03\x03"))
OUTER = extension(0xfe0d, b"\0" + b"\0\1\0\1" + b"\x07" + u16(b"k" * 32) + u16(b"p" * 200))
INNER = extension(0xfe0d, b"\1")


def body(extensions, session=b"s" * 32, ciphers=b"\x13\x01\x13\x02", compression=b"\0"):
    front = b"\x03\x03" + bytes(range(32)) + u8(session) + u16(ciphers) + u8(compression)
    return front if extensions is None else front + u16(b"".join(extensions))


def message(content, kind=1):
    return struct.pack("!B", kind) + struct.pack("!I", len(content))[1:] + content


def record(content, version=b"\x03\x01", kind=22):
    return struct.pack("!B", kind) + version + u16(content)


def records(content, *lens):
    """Cut into records of these lengths, the last of which goes on."""
    out = b""
    for i in range(len(content)):
        n = lens[min(i, len(lens) - 1)]
        out, content = out + record(content[:n]), content[n:]
        if not content:
            break
    return out


def hello(*extensions, **more):
    return record(message(body(extensions, **more)))


def spoiled(at, change):
    """A hello with one byte changed, `at` bytes from where the server name's extension begins."""
    whole = bytearray(hello(WWW, VERSIONS))
    place = whole.index(WWW) + at
    whole[place] = (whole[place] + change) % 256
    return bytes(whole)


PLAIN = message(body([VERSIONS, WWW]))
MALFORMED = "malformed ClientHello"
NEITHER = "not TLS or HTTP"
MORE = ("more", "tls", "", "")
LABEL = "abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghijklmnopqrstuv."
LONGEST = LABEL * 4 + "example.x"  # 253


def named(*names):
    return hello(server_name(*(host_name(name) for name in names)), VERSIONS)


def found(flags="", name=NAME):
    return "found", "tls", flags, name


def none(why, protocol="tls"):
    return "none", protocol, "", why


# file, bytes, and what is made of them
HAND_MADE = [
    ("records-of-1", records(PLAIN, 1), *found()),
    ("records-of-7", records(PLAIN, 7), *found()),
    ("records-of-100", records(PLAIN, 100), *found()),
    ("records-cut-type", records(PLAIN, 1, 1000), *found()),
    ("records-cut-length", records(PLAIN, 2, 1, 1000), *found()),
    ("records-cut-name", records(PLAIN, PLAIN.index(b"example") + 3, 1000), *found()),
    ("records-with-payload", records(PLAIN, 100) + record(b"\1", kind=20) + b"\x17\x03\x03\0\1x",
     *found()),
    ("records-incomplete", records(PLAIN, 50)[:-1], *MORE),
    ("record-no-message", record(b"") + record(PLAIN), *none(NEITHER, "-")),
    ("record-empty-between", record(PLAIN[:50]) + record(b"") + record(PLAIN[50:]),
     *none(MALFORMED)),
    ("record-alert-between", record(PLAIN[:50]) + record(b"\1\0", kind=21) + record(PLAIN[50:]),
     *none(MALFORMED)),
    ("record-other-version-between", record(PLAIN[:50]) + record(PLAIN[50:], b"\x02\x00"),
     *none(MALFORMED)),
    ("record-ssl30", record(PLAIN, b"\x03\x00"), *found()),
    ("record-tls12", record(PLAIN, b"\x03\x03"), *found()),
    ("record-tls99", record(PLAIN, b"\x03\x63"), *found()),
    ("record-dtls", b"\x16\xfe\xff\0\0\0\0\0\0\0\0" + u16(PLAIN), *none(NEITHER, "-")),
    ("record-alert", record(b"\2\x28", kind=21), *none(NEITHER, "-")),
    ("record-length-16385", b"\x16\x03\x01\x40\x01" + PLAIN, *none(NEITHER, "-")),
    ("message-16385", record(b"\1\0\x40\1" + PLAIN[4:]),
     *none("a ClientHello of more than 16 KiB")),
    ("ssl2", b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10" + b"\0\0\x2f" * 7 + b"r" * 16,
     *none(NEITHER, "-")),
    ("server-hello", record(message(b"\x03\x03" + bytes(70), 2)), *none("not a ClientHello", "-")),
    ("hello-request", record(message(b"", 0)), *none("not a ClientHello", "-")),
    ("no-extensions", record(message(body(None))), *none("no server name")),
    ("empty-extensions", hello(), *none("no server name")),
    ("no-session", hello(WWW, session=b""), *found()),
    ("ech-outer", hello(WWW, VERSIONS, OUTER), *found("ech")),
    ("ech-outer-first", hello(OUTER, WWW), *found("ech")),
    ("ech-outer-no-name", hello(VERSIONS, OUTER), *none("no server name")),
    ("ech-outer-address", hello(server_name(host_name(b"192.0.2.1")), OUTER), *none("an address")),
    ("ech-inner", hello(WWW, VERSIONS, INNER), *found()),
    ("ech-empty-first", hello(extension(0xfe0d, b""), WWW), *none(MALFORMED)),
    ("ech-empty", hello(WWW, extension(0xfe0d, b"")), *none(MALFORMED)),
    ("name-single-label", named(b"localhost"), *found("", "localhost")),
    ("name-longest", named(LONGEST.encode()), *found("", LONGEST)),
    ("name-longest-final-dot", named(LONGEST.encode() + b"."), *found("", LONGEST)),
    ("name-too-long", named(LONGEST.encode() + b"x"), *none("not a domain name")),
    ("name-far-too-long", named(b"a." * 400 + b"example"), *none("not a domain name")),
    ("name-dot", named(b"."), *none("not a domain name")),
    ("name-two-dots", named(NAME.encode() + b".."), *none("not a domain name")),
    ("name-nul", named(b"www.example.com\0.b.example"), *none("not a domain name")),
    ("name-nul-end", named(b"www.example.com\0"), *none("not a domain name")),
    ("name-latin1", named(b"b\xfccher.example"), *none("not a domain name")),
    ("name-wildcard", named(b"*.example.com"), *none("not a domain name")),
    ("name-port", named(b"www.example.com:443"), *none("not a domain name")),
    ("name-bracketed", named(b"[2001:db8::1]"), *none("an address")),
    ("name-empty", named(b""), *none("an empty server name")),
    ("name-twice", named(NAME.encode(), NAME.encode()), *none("several server names")),
    ("name-of-two-kinds", hello(server_name(host_name(NAME.encode()), host_name(b"x", 1))),
     *none("several server names")),
    ("name-of-other-kind", hello(server_name(host_name(NAME.encode(), 1))),
     *none("a server name of another type")),
    ("name-list-empty", hello(extension(0, b"\0\0")), *none(MALFORMED)),
    ("name-list-empty-first", hello(extension(0, b"\0\0"), VERSIONS), *none(MALFORMED)),
    ("name-into-next-extension",
     hello(extension(0, u16(b"\0" + struct.pack("!H", len(NAME.encode() + VERSIONS)) +
                            NAME.encode())), VERSIONS), *none(MALFORMED)),
    ("name-extension-of-1", hello(extension(0, b"\xff"), b"\xff\0\0\1a"), *none(MALFORMED)),
    ("name-extension-empty", hello(extension(0, b"")), *none(MALFORMED)),
    ("name-extension-twice", hello(WWW, VERSIONS, WWW), *none(MALFORMED)),
    ("name-extension-longer", spoiled(3, 1), *none(MALFORMED)),
    ("name-extension-shorter", spoiled(3, -1), *none(MALFORMED)),
    ("name-list-longer", spoiled(5, 1), *none(MALFORMED)),
    ("name-list-shorter", spoiled(5, -1), *none(MALFORMED)),
    ("name-longer", spoiled(8, 1), *none(MALFORMED)),
    ("name-shorter", spoiled(8, -1), *none("several server names")),
    ("extensions-longer", spoiled(-1, 1), *none(MALFORMED)),
    ("extensions-shorter", spoiled(-1, -1), *none(MALFORMED)),
    ("extensions-and-more", record(message(body([WWW]) + b"\0")), *none(MALFORMED)),
    ("extension-cut", record(message(body([WWW, VERSIONS[:3]]))), *none(MALFORMED)),
    ("extension-beyond", record(message(body([WWW, b"\0\x2b\0\x09"]))), *none(MALFORMED)),
    ("session-too-long", hello(WWW, session=b"s" * 33), *none(MALFORMED)),
    ("ciphers-odd", hello(WWW, ciphers=b"\x13\x01\x13"), *none(MALFORMED)),
    ("ciphers-none", hello(WWW, ciphers=b""), *none(MALFORMED)),
    ("compression-none", hello(WWW, compression=b""), *none(MALFORMED)),
    ("message-empty", record(message(b"")), *none(MALFORMED)),
    ("message-cut", record(message(body([WWW])[:40])), *none(MALFORMED)),
]


def listen(port):
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen()
    return listener


def first_bytes(listener, client):
    """Of the first connection that sends any, and then waits."""
    deadline = time.monotonic() + CLIENT_SECONDS
    connections, got = {}, b""
    while time.monotonic() < deadline:
        ready = select.select([listener, *connections], [], [], QUIET_SECONDS)[0]
        if listener in ready:
            connection = listener.accept()[0]
            connections[connection] = b""
        for connection in [c for c in ready if c is not listener]:
            more = connection.recv(65536)
            connections[connection] += more
            if not more:
                del connections[connection]
        got = next((b for b in connections.values() if b), got)
        if not ready and (got or client.poll() is not None):
            break
    for connection in connections:
        connection.close()
    return got[:KEPT_BYTES]


def record_client(port, command, places):
    """None where the client is not there."""
    words = command if isinstance(command, list) else command.split()
    words = [word.format(**places) if "{root}" in word or "{tmp}" in word else word
             for word in words]
    environment = dict(os.environ, HOME=places["tmp"], GIT_TERMINAL_PROMPT="0",
                       LD_LIBRARY_PATH=f"{places['root']}/usr/lib/x86_64-linux-gnu:"
                       f"{places['root']}/usr/lib/x86_64-linux-gnu/pulseaudio",
                       PATH=f"{places['root']}/usr/bin:{places['root']}/bin:{os.environ['PATH']}")
    with listen(port) as listener:
        try:
            client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, env=environment, cwd="/")
        except FileNotFoundError:
            return None
        try:
            return first_bytes(listener, client)
        finally:
            client.kill()
            client.wait()


def own_namespaces():
    """With the names of the rows, and nothing but loopback."""
    links = subprocess.run(["ip", "-br", "link"], stdout=subprocess.PIPE, text=True, check=True)
    if [line.split()[0] for line in links.stdout.splitlines()] != ["lo"]:
        sys.exit("run it as: unshare -mn " + sys.argv[0])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write(f"127.0.0.1 localhost {NAME} {NAME}.\n")
        hosts.flush()
        os.chmod(hosts.name, 0o644)
        subprocess.run(["mount", "--bind", hosts.name, "/etc/hosts"], check=True)


def write_table():
    rows = [(name, result, protocol, flags or "-", text or "-")
            for name, _, _, result, protocol, flags, text in CLIENTS]
    rows += [(name, result, protocol, flags or "-", text or "-")
             for name, _, result, protocol, flags, text in HAND_MADE]
    lines = ["# Written by make.py: file, result, protocol, flags, name or reason."]
    lines += ["|".join(row) for row in rows]
    (HERE / "table").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="/")
    parser.add_argument("word", nargs="?", default="")
    options = parser.parse_args()
    write_table()
    for name, content, *_ in HAND_MADE:
        (HERE / name).write_bytes(content)
    own_namespaces()
    with tempfile.TemporaryDirectory() as tmp:
        for name, text in FILES.items():
            pathlib.Path(tmp, name).write_text(text)
        for name, port, command, *_ in CLIENTS:
            if options.word not in name:
                continue
            content = record_client(port, command, {"root": options.root.rstrip("/"), "tmp": tmp})
            if content:
                (HERE / name).write_bytes(content)
            else:
                print(f"{name}: {'no such client' if content is None else 'nothing came'}")


main()
