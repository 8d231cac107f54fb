# SPDX-License-Identifier: MIT
"""
Servers and clients to test against, one per process: peers.py KIND ADDRESS PORT [ARGUMENT...]

    http                    pages: / says who asked whom, /bytes/N sends N bytes of the pattern, /both/N both, one
                            behind the other
    https CERT KEY          the same by TLS, with a certificate and its key from these files
    echo                    sends back what it gets, and ends when the client has ended
    transfer                the far end of `load`; prints a line for each transfer
    banner N [MS]           sends N bytes of the pattern, MS later if that is given, and ends at once
    silent                  accepts and reads, never sends
    reset N                 sends N bytes of the pattern, then a reset
    socks greeting          SOCKS5: answers the greeting, never the request
    socks no-method         SOCKS5: takes none of the methods
    socks garbage           answers with something else
    socks cut               SOCKS5: answers the greeting, closes at the request
    socks code N            SOCKS5: answers the request with reply code N
    socks greedy            SOCKS5 to the real destination, prints how many bytes came first
    socks drip MS           SOCKS5 to the real destination, each byte of its answers MS apart
    socks4                  SOCKS4 and 4a to the real destination, prints what was asked for
    socks4 code N           SOCKS4: answers the request with code N
    connect reply TEXT      HTTP CONNECT: prints the request, answers with TEXT (escapes as in
                            Python) and sends back what it gets; without TEXT it answers nothing
    dns NAME=ADDRESS...     answers A and AAAA; other names do not exist; NAME=silent gets no answer,
                            NAME=half none about AAAA,
                            NAME=long an answer that is cut, so that the client asks again by TCP,
                            NAME=brief one that counts for a second,
                            NAME=fail an error,
                            NAME=turns one of its addresses after the other, which count for no time; a NAME
                            "*.x" is any below x
    load COUNT SEED         a client: COUNT transfers at once, every byte and end of file checked
    arrivals RATE SECONDS   a client: RATE flows a second, each of which must get its bytes back from `echo`; on
                            SIGTERM it ends early, and it says what became of them
    relay MS HOST PORT      passes on what comes MS later, both ways; prints a line for each turn of a connection
                            in which the client side speaks

Servers print "ready" when they listen and a line for each connection. ADDRESS "::" takes both
families.
"""
import asyncio
import ipaddress
import random
import re
import resource
import signal
import socket
import ssl
import struct
import sys
import threading

# What is at position p of a stream: PATTERN[(p + seed) % PERIOD]. The period is a prime and so no
# multiple of a buffer: a lost, doubled or swapped piece shows at its first byte.
PERIOD = 65521
PATTERN = random.Random(1928).randbytes(PERIOD)
_REPEATED = PATTERN * 3


def pattern(seed, position, length):
    """The bytes [position, position + length) of stream `seed`; at most 2 * PERIOD of them."""
    start = (position + seed) % PERIOD
    return _REPEATED[start:start + length]


def say(text):
    print(text, flush=True)


# --------------------------------------------------------------------------------------------------
# Servers


async def http(reader, writer, _):
    request = await reader.readuntil(b"\r\n\r\n")
    path = request.split()[1].decode()
    peer, here = writer.get_extra_info("peername")[0], writer.get_extra_info("sockname")[0]
    say(f"http {bare(peer)} {path}")
    kind, _, length = path.strip("/").partition("/")
    length = int(length) if kind in ("bytes", "both") else 0
    page = b"" if kind == "bytes" else who(bare(here), bare(peer))
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                 b"Content-Length: %d\r\n\r\n" % (len(page) + length) + page)
    await send_pattern(writer, 0, length)
    await writer.drain()


def who(here, peer):
    return f"This is {here}, and you came from {peer}.\n".encode()


async def echo(reader, writer, _):
    say(f"echo {bare(writer.get_extra_info('peername')[0])}")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def banner(_, writer, args):
    say(f"banner {bare(writer.get_extra_info('peername')[0])}")
    await asyncio.sleep(int(args[1]) / 1000 if len(args) > 1 else 0)
    await send_pattern(writer, 0, int(args[0]))


async def silent(reader, writer, _):
    say(f"silent {bare(writer.get_extra_info('peername')[0])}")
    while await reader.read(65536):
        pass
    say("silent end")


async def reset(reader, writer, args):
    say(f"reset {bare(writer.get_extra_info('peername')[0])}")
    await send_pattern(writer, 0, int(args[0]))
    await asyncio.sleep(0.2)  # what was sent should arrive before the reset overtakes it
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def send_pattern(writer, seed, length):
    for position in range(0, length, PERIOD):
        writer.write(pattern(seed, position, min(PERIOD, length - position)))
        await writer.drain()


async def read_pattern(reader, seed, length):
    """Reads to the end of file: None if exactly those bytes came, else what was wrong."""
    position = 0
    while data := await reader.read(32768):
        if data != pattern(seed, position, len(data)):
            return f"wrong byte in [{position}, {position + len(data)})"
        position += len(data)
    return None if position == length else f"end of file at {position} of {length}"


# A transfer begins with its header: id, order, bytes up, bytes down.
HEADER = struct.Struct("!IBQQ")
CLIENT_ENDS_FIRST, SERVER_ENDS_FIRST, BOTH_AT_ONCE = range(3)


async def transfer(reader, writer, _):
    number, order, up, down = HEADER.unpack(await reader.readexactly(HEADER.size))
    if order == CLIENT_ENDS_FIRST:
        bad = await read_pattern(reader, number, up)
        await send_pattern(writer, number + 7, down)
        writer.write_eof()
    elif order == SERVER_ENDS_FIRST:
        await send_pattern(writer, number + 7, down)
        writer.write_eof()
        bad = await read_pattern(reader, number, up)
    else:
        sending = asyncio.create_task(send_pattern(writer, number + 7, down))
        bad = await read_pattern(reader, number, up)
        await sending
        writer.write_eof()
    say(f"transfer {number} {bad or 'ok'}")


async def socks_request(reader, writer):
    """Serves the greeting; the destination of the request as (host, port)."""
    version, count = await reader.readexactly(2)
    if version != 5:
        raise ValueError(f"version {version}")
    await reader.readexactly(count)
    writer.write(b"\x05\x00")
    _, _, _, kind = await reader.readexactly(4)
    if kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    return host, struct.unpack("!H", await reader.readexactly(2))[0]


async def socks(reader, writer, args):
    mode = args[0]
    say(f"socks {bare(writer.get_extra_info('peername')[0])}")
    if mode in ("no-method", "garbage"):
        await reader.read(512)
        writer.write(b"\x05\xff" if mode == "no-method" else b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        return
    if mode == "drip":
        return await socks_drip(reader, writer, int(args[1]) / 1000)
    if mode == "greedy":
        first = await reader.read(512)
        say(f"socks first {len(first)} bytes")
        replay = asyncio.StreamReader()
        replay.feed_data(first)
        asyncio.create_task(feed(reader, replay))
        return await socks_drip(replay, writer, 0)
    host, port = await socks_request(reader, writer)
    say(f"socks request {host} {port}")
    if mode == "code":
        writer.write(struct.pack("!BBBBIH", 5, int(args[1]), 0, 1, 0, 0))
        await writer.drain()
    elif mode != "cut":
        await reader.read(1)


async def socks4(reader, writer, args):
    version, command, port, number = struct.unpack("!BBHI", await reader.readexactly(8))
    user = (await reader.readuntil(b"\0"))[:-1].decode()
    host = str(ipaddress.ip_address(number))
    if 0 < number < 256:
        host = (await reader.readuntil(b"\0"))[:-1].decode()
    say(f"socks4 {version} {command} user={user} {host} {port}")
    code = int(args[1]) if args else 90
    far = await asyncio.open_connection(host, port) if code == 90 else None
    writer.write(struct.pack("!BBHI", 0, code, 0, 0))
    await writer.drain()
    if far is not None:
        await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
        far[1].close()


async def connect(reader, writer, args):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    say("connect " + " | ".join(head.split("\r\n")[:-2]))
    if len(args) > 1:
        writer.write(args[1].encode().decode("unicode_escape").encode())
    await pump(reader, writer)


async def feed(source, target):
    while data := await source.read(65536):
        target.feed_data(data)
    target.feed_eof()


async def socks_drip(reader, writer, pause):
    async def drip(data):
        for byte in data:
            await asyncio.sleep(pause)
            writer.write(bytes([byte]))
            await writer.drain()

    _, count = await reader.readexactly(2)
    await reader.readexactly(count)
    await drip(b"\x05\x00")
    kind = (await reader.readexactly(4))[3]
    host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    port = struct.unpack("!H", await reader.readexactly(2))[0]
    far_reader, far_writer = await asyncio.open_connection(host, port)
    await drip(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
    far_writer.close()


async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def bare(address):
    return address.removeprefix("::ffff:")


async def relay(reader, writer, args):
    """`turn N` of a connection: the client side has spoken for the Nth time, after an answer or at first."""
    delay, (far_reader, far_writer) = int(args[0]) / 1000, await asyncio.open_connection(*args[1:3])
    port, turns, last = writer.get_extra_info("peername")[1], 0, None

    async def late(source, target, up):
        nonlocal turns, last
        queue = asyncio.Queue()

        async def deliver():
            while True:
                at, data = await queue.get()
                await asyncio.sleep(max(0, at - asyncio.get_running_loop().time()))
                if not data:
                    return target.close()
                target.write(data)

        delivery = asyncio.create_task(deliver())
        while True:
            try:
                data = await source.read(65536)
            except OSError:
                data = b""
            if data and up and last != "up":
                turns += 1
                say(f"relay {port} turn {turns}")
            last = "up" if up else "down"
            queue.put_nowait((asyncio.get_running_loop().time() + delay, data))
            if not data:
                return await delivery

    await asyncio.gather(late(reader, far_writer, True), late(far_reader, writer, False))


KINDS = {"relay": relay, "http": http, "https": http, "echo": echo, "transfer": transfer, "banner": banner,
         "silent": silent, "reset": reset,
         "socks": socks, "socks4": socks4, "connect": connect}


def tls_of(args):
    """What a server by TLS needs: ARGS are the files of its certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*args)
    return context


async def serve(kind, address, port, args):
    async def connection(reader, writer):
        try:
            await KINDS[kind](reader, writer, args)
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            say(f"{kind} error: {error}")
        finally:
            writer.close()

    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    sock.listen(1024)
    server = await asyncio.start_server(connection, sock=sock, backlog=1024,
                                        ssl=tls_of(args) if kind == "https" else None)
    say("ready")
    await server.serve_forever()


# --------------------------------------------------------------------------------------------------
# DNS, RFC 1035: one question, answers of one type


def dns(address, port, args):
    names = {}
    for word in args:
        name, value = word.split("=")
        names.setdefault(name.lower(), []).append(value)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    threading.Thread(target=dns_tcp, args=(listener, names), daemon=True).start()
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, port))
    say("ready")
    while True:
        query, client = sock.recvfrom(512)
        reply = dns_reply(query, names, "udp")
        if reply is not None:
            sock.sendto(reply, client)


def dns_tcp(listener, names):
    """One connection at a time, each message behind its length."""
    while True:
        connection, client = listener.accept()
        say(f"dns by tcp from {bare(client[0])}")
        with connection, connection.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2:
                query = stream.read(struct.unpack("!H", head)[0])
                reply = dns_reply(query, names, "tcp")
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def dns_turn(name, kind, values, turns={}):  # pylint: disable=dangerous-default-value
    """For the name's next question: names whose first answer is the first, and names whose is the last."""
    addresses = [value for value in values if value != "turns"]
    turn = turns.get((name, kind), len(name))
    turns[name, kind] = turn + 1
    return ["turns", addresses[turn % len(addresses)]]


def dns_reply(query, names, transport):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    question = query[12:at + 5]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    name = ".".join(labels).lower()
    say(f"dns {name} {'AAAA' if kind == 28 else 'A' if kind == 1 else kind}")
    values = names.get(name) or names.get(re.sub(r"^[^.]*", "*", name), [])
    if "turns" in values:
        values = dns_turn(name, kind, values)
    if "silent" in values or ("half" in values and kind == 28):
        return None
    if "long" in values and transport == "udp":
        return query[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + question
    answers = b""
    count = 0
    ttl = 0 if "turns" in values else 1 if "brief" in values else 60
    for raw in (ipaddress.ip_address(value) for value in values if value not in ("long", "brief", "fail", "turns", "half")):
        if kind == (28 if raw.version == 6 else 1):
            answers += struct.pack("!HHHIH", 0xC00C, kind, 1, ttl, len(raw.packed)) + raw.packed
            count += 1
    rcode = 2 if "fail" in values else 0 if values else 3
    return query[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, count, 0, 0) + question + answers


# --------------------------------------------------------------------------------------------------
# The load: COUNT transfers of random sizes at once


def one_transfer(address, port, number, sizes, start, results):
    order, up, down = sizes
    try:
        start.wait()
        with socket.create_connection((address, port), timeout=120) as sock:
            sock.settimeout(120)
            sock.sendall(HEADER.pack(number, order, up, down))
            if order == CLIENT_ENDS_FIRST:
                upload(sock, number, up)
                bad = download(sock, number, down)
            elif order == SERVER_ENDS_FIRST:
                bad = download(sock, number, down)
                upload(sock, number, up)
            else:
                sender = threading.Thread(target=upload, args=(sock, number, up))
                sender.start()
                bad = download(sock, number, down)
                sender.join()
    except OSError as error:
        bad = str(error)
    results[number] = bad


def upload(sock, number, length):
    random_size = random.Random(number)
    position = 0
    while position < length:
        step = min(random_size.choice((1, 100, 1460, 16384, PERIOD)), length - position)
        sock.sendall(pattern(number, position, step))
        position += step
    sock.shutdown(socket.SHUT_WR)


def download(sock, number, length):
    position = 0
    while data := sock.recv(32768):
        if data != pattern(number + 7, position, len(data)):
            return f"wrong byte in [{position}, {position + len(data)})"
        position += len(data)
    return None if position == length else f"end of file at {position} of {length}"


def load(address, port, count, seed):
    rng = random.Random(seed)
    start, results, threads, total = threading.Barrier(count), {}, [], [0, 0]
    for number in range(count):
        # Mostly small, some large enough to fill every buffer on the way, some empty.
        sizes = [rng.choice((0, 1, rng.randrange(2000), rng.randrange(200_000),
                             rng.randrange(2_000_000))) for _ in range(2)]
        total = [total[0] + HEADER.size + sizes[0], total[1] + sizes[1]]
        sizes = (number % 3, *sizes)
        thread = threading.Thread(target=one_transfer,
                                  args=(address, port, number, sizes, start, results))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    bad = {n: why for n, why in results.items() if why is not None}
    for number, why in sorted(bad.items()):
        say(f"load {number}: {why}")
    say(f"load {count - len(bad)} ok, {len(bad)} bad, {total[0]} up, {total[1]} down")
    sys.exit(1 if bad else 0)


# --------------------------------------------------------------------------------------------------
# Arrivals: new flows all the time, seen by their client


async def arrival(address, port, number, results):
    started = asyncio.get_running_loop().time()
    word = struct.pack("!Q", number)
    try:
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(word)
        bad = None if await reader.readexactly(len(word)) == word else "wrong bytes"
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as error:
        bad = type(error).__name__
    results.append((asyncio.get_running_loop().time() - started, bad))


async def arrivals(address, port, rate, seconds):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    begun, tasks, results = loop.time(), set(), []
    say("ready")
    while not stop.is_set() and loop.time() - begun < seconds:
        while len(results) + len(tasks) < (loop.time() - begun) * rate:
            task = asyncio.create_task(arrival(address, port, len(results) + len(tasks), results))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    took = loop.time() - begun
    while tasks:
        await asyncio.wait(tasks)
    bad = [why for _, why in results if why is not None]
    times = sorted(1000 * t for t, _ in results)
    say(f"arrivals {len(results) - len(bad)} ok, {len(bad)} bad, {len(results) / took:.0f} a second, "
        f"half within {times[len(times) // 2]:.1f} ms, 99 % within {times[len(times) * 99 // 100]:.1f} ms, "
        f"all within {times[-1]:.0f} ms; {' '.join(sorted(set(bad)))}")


def main():
    kind, address, port, *args = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if kind == "load":
        load(address, int(port), int(args[0]), int(args[1]))
    elif kind == "arrivals":
        asyncio.run(arrivals(address, int(port), int(args[0]), float(args[1])))
    elif kind == "dns":
        dns(address, int(port), args)
    else:
        asyncio.run(serve(kind, address, int(port), args))


if __name__ == "__main__":
    main()
