# SPDX-License-Identifier: MIT
"""Prometheus' text format 0.0.4, read strictly, and how it is asked for."""
import math
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
NUMBER = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?")
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def unescape(text):
    return re.sub(r"\\.", lambda m: ESCAPES[m[0]], text)


def labels_of(text):
    """The labels between the braces, as a sorted tuple of pairs."""
    found, at = [], 0
    while True:
        m = LABEL.match(text, at)
        if not m:
            raise ValueError(f"no label at {text[at:]!r}")
        found.append((m[1], unescape(m[2])))
        at = m.end()
        if at == len(text):
            break
        if text[at] != ",":
            raise ValueError(f"no comma at {text[at:]!r}")
        at += 1
    if len({name for name, _ in found}) != len(found):
        raise ValueError(f"a label twice: {text}")
    return tuple(sorted(found))


class Metrics:
    """
    What one scrape says: `types` by name, `samples` {(name, labels): value}.

    value("flows"), value("bytes_total", direction="up") are samples without the prefix; of a histogram
    "x_count", "x_sum" and "x_bucket" (with le).
    """

    def __init__(self, text, prefix):
        self.prefix, self.types, self.samples = prefix, {}, {}
        self.name = helped = None
        if not text.endswith("\n"):
            raise ValueError("the last line does not end")
        for line in text[:-1].split("\n"):
            kind, _, rest = line.partition(" ") if line.startswith("#") else ("", "", line)
            if kind:
                word, name, rest = rest.split(" ", 2)
                if kind != "#" or not name.startswith(prefix) or not NAME.fullmatch(name):
                    raise ValueError(f"bad comment: {line}")
                if word == "HELP" and name not in self.types:
                    helped = name
                elif word == "TYPE" and helped == name and rest in ("counter", "gauge", "histogram"):
                    self.types[name] = rest
                    self.name, helped = name, None
                else:
                    raise ValueError(f"not expected here: {line}")
            else:
                self._sample(rest)
        for name, kind in self.types.items():
            if (kind == "counter") != name.endswith("_total"):
                raise ValueError(f"{name} is a {kind}")
            if kind == "histogram":
                self._check_histogram(name)

    def _sample(self, line):
        m = re.fullmatch(r"([^ {]+)(?:\{(.+)\})? ([^ ]+)", line)
        if not m or not NUMBER.fullmatch(m[3]):
            raise ValueError(f"no sample: {line!r}")
        suffix = m[1].removeprefix(self.name)
        if not m[1].startswith(self.name) or \
                suffix not in (("_bucket", "_sum", "_count") if self.types[self.name] == "histogram" else ("",)):
            raise ValueError(f"not one of {self.name}: {line}")
        key = (m[1], labels_of(m[2]) if m[2] else ())
        if key in self.samples:
            raise ValueError(f"twice: {line}")
        self.samples[key] = float(m[3]) if "." in m[3] else int(m[3])

    def _check_histogram(self, name):
        series = {}
        for (sample, labels), value in self.samples.items():
            if sample == name + "_bucket":
                le = dict(labels)["le"]
                rest = tuple(pair for pair in labels if pair[0] != "le")
                series.setdefault(rest, []).append((math.inf if le == "+Inf" else float(le), value))
        for labels, buckets in series.items():
            bounds, counts = zip(*buckets)
            if list(bounds) != sorted(set(bounds)) or list(counts) != sorted(counts) or bounds[-1] != math.inf:
                raise ValueError(f"{name}: buckets {buckets}")
            if self.samples[name + "_count", labels] != counts[-1]:
                raise ValueError(f"{name}: _count is not the last bucket")
            if (self.samples[name + "_sum", labels] > 0) and counts[-1] == 0:
                raise ValueError(f"{name}: a sum of nothing")
        if sum(sample.startswith(name) for sample, _ in self.samples) != \
                sum(len(b) + 2 for b in series.values()):
            raise ValueError(f"{name}: samples without buckets")

    def value(self, name, **labels):
        return self.samples[self.prefix + name, tuple(sorted(labels.items()))]

    def nonzero(self, name):
        """{labels as a tuple of values, in the order of their names: value} of one metric."""
        return {tuple(v for _, v in labels): value
                for (sample, labels), value in self.samples.items()
                if sample == self.prefix + name and value != 0}


def ask(host, address, port=1082, path="/metrics", method="GET", raw=None, seconds=30):
    """(code, {header: value}, body) of one request; `raw` are its bytes."""
    with host.connect(address, port, seconds) as sock:
        sock.sendall(raw or f"{method} {path} HTTP/1.1\r\nHost: metrics.test\r\n\r\n".encode())
        got = b""
        while data := sock.recv(65536):
            got += data
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if method != "HEAD" and int(headers["content-length"]) != len(body):
        raise ValueError(f"{len(body)} bytes instead of {headers['content-length']}")
    return int(first.split()[1]), headers, body


def scrape(host, address, prefix, port=1082):
    code, headers, body = ask(host, address, port)
    if (code, headers["content-type"]) != (200, "text/plain; version=0.0.4; charset=utf-8"):
        raise ValueError(f"{code} {headers}")
    return Metrics(body.decode(), prefix)
