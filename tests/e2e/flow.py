# SPDX-License-Identifier: MIT
"""A flow through transocksd of which the test itself holds both ends, and what tests do with them."""
import fcntl
import json
import socket
import struct
import termios
import time

import lab
import peers

PORT = 7100


def start(case, config="", upstream="direct://", kind="host"):
    """transocksd with one worker, and its rules: on the only host or on the gateway."""
    t = case.build(kind)
    t.daemon_host = t.gateway if kind == "gateway" else t.host
    listen = 'listen = ":1081"\n' if kind == "gateway" else ""
    t.config = f'workers = 1\n{listen}proxy_url = "%s"\n{config}\n'
    t.daemon = t.daemon_host.transocksd(t.config % upstream)
    t.daemon.wait_line(message="ready")
    t.daemon_host.rules("install", *(("--gateway", "lan0") if kind == "gateway" else ()))
    return t


def pair(case, t, address="11.0.0.1"):
    """Both ends of a flow that has carried a byte: (client's, far)."""
    with t.inet.listen(address, PORT) as server:
        client = t.client.connect(address, PORT)
        case.addCleanup(client.close)
        far = server.accept()[0]
    case.addCleanup(far.close)
    far.settimeout(lab.LONG)
    client.sendall(b"x")
    case.assertEqual(far.recv(1), b"x")
    return client, far


def status(host, daemon):
    """What --status --json tells."""
    program = lab.BUILD / ("usocksd" if "usocksd" in daemon.config.name else "transocksd")
    return json.loads(host.run(program, "-f", daemon.config, "--status", "--json").stdout)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ends_by_reset(case, sock, within):
    """Reads until the reset, which comes `within` so many seconds, and lab.PATIENCE."""
    end = time.monotonic() + within * lab.PATIENCE
    sock.settimeout(within * lab.PATIENCE)
    with case.assertRaises(ConnectionResetError):
        while sock.recv(65536):
            case.assertLess(time.monotonic(), end)
        raise AssertionError("a clean end")


def talk(sock, text=b"ping", seconds=lab.LONG):
    """One round trip to an echo server; False if the connection is dead or mute for so long."""
    try:
        sock.settimeout(seconds)
        sock.sendall(text)
        return sock.recv(100) == text
    except OSError:
        return False


def send_pattern(sock, length):
    for position in range(0, length, peers.PERIOD):
        sock.sendall(peers.pattern(0, position, min(peers.PERIOD, length - position)))


def read_pattern(sock, length, start=0):
    """Reads `length` bytes of the pattern from position `start` on."""
    position, end = start, start + length
    while position < end:
        data = sock.recv(min(65536, end - position))
        if not data or data != peers.pattern(0, position, len(data)):
            raise AssertionError(f"{'wrong bytes' if data else 'end of file'} at {position}")
        position += len(data)


def fill(sock):
    """Sends the pattern until nobody has taken any more for a moment; how much that was."""
    count = 0
    sock.settimeout(0.5)
    try:
        while True:
            count += sock.send(peers.pattern(0, count, 32768))
    except TimeoutError:
        sock.settimeout(lab.LONG)
        return count


def unsent(sock):
    """Bytes that the other kernel has not acknowledged (SIOCOUTQ)."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
