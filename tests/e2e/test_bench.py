# SPDX-License-Identifier: MIT
"""The benchmark measures: each case once by each way, for a moment, and nothing may go wrong."""
import pathlib
import sys
import unittest

import lab

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import bench
import plot
import sets


class Bench(lab.TestCase):
    def way(self, name):
        if bench.missing(name):
            self.skipTest(bench.missing(name))
        way = bench.WAYS[name]()
        lab.TestCase.live.append(way.net)
        self.addCleanup(self._close, way.net)
        return way

    def smoke(self, name):
        """Errors raise, and so does a case in which nothing came through."""
        chosen = bench.options(["--smoke"])
        found = bench.measure([self.way(name)], list(bench.CASES), chosen, lambda line: None)
        for case, ways in found.items():
            with self.subTest(case=case):
                for key, values in ways.get(name, {}).items():
                    if key in ("rate", "flows", "bulk", "p50"):
                        self.assertGreater(min(values), 0, key)
        text = "\n".join(bench.table(found, [name]))
        self.assertIn("connect+request+close", text)
        return found

    def test_nat(self):
        found = self.smoke("nat")
        chart = plot.bars(bench.plot_rows(bench.medians(found)), ["nat"], "nat")
        self.assertEqual(chart.count('height="14"'), 6)

    @lab.needs_program("redsocks")
    def test_redsocks(self):
        self.smoke("redsocks")

    def test_transocksd(self):
        found = self.smoke("transocksd-1")
        self.assertEqual(found["idle"]["transocksd-1"].get("fds"), [2.0])

    def test_transocksd_two_workers(self):
        self.smoke("transocksd-2")

    @lab.needs_program("microsocks")
    def test_microsocks(self):
        self.smoke("microsocks")

    @lab.needs_program("danted")
    def test_danted(self):
        self.smoke("danted")

    def test_usocksd(self):
        found = self.smoke("usocksd-2")
        self.assertEqual(found["idle"]["usocksd-2"].get("fds"), [2.0])

    def test_what_only_means(self):
        for words, cases, tables, with_sets in (
                ([], list(bench.CASES), {"transocksd", "usocksd"}, True),
                (["--only", "crc,sets"], ["crc"], {"transocksd"}, True),
                (["--only", "usocksd"], list(bench.CASES), {"usocksd"}, False),
                (["--only", "usocksd,crc"], ["crc"], {"usocksd"}, False),
                (["--only", "sets"], [], {"transocksd"}, True)):
            with self.subTest(words):
                chosen = bench.options(words)
                self.assertEqual(chosen.cases, cases)
                self.assertEqual({bench.WAYS[name].table for name in chosen.ways}, tables)
                self.assertEqual(chosen.sets, with_sets)

    def test_access_log(self):
        found = self.smoke("transocksd-1-info")
        self.assertEqual([case for case, ways in found.items() if ways], ["crc"])

    def test_sets(self):
        """The program itself sees to it that each answer is right."""
        found = sets.measure(bench.TOOLS / "sets", smoke=True)
        self.assertEqual([row["entries"] for row in found["domains"]], [100, 1000])
        self.assertIn("1,000 domains: loaded in", "\n".join(sets.table(found)))

    def test_errors_are_not_fast_answers(self):
        """With nobody behind the redirection there is no figure at all."""
        way = self.way("transocksd-1")
        for mode in ("crc", "pingpong", "bulk-down", "bulk-up"):
            with self.subTest(mode=mode), self.assertRaisesRegex(bench.Failed, '"done": 0|"bytes": 0'):
                bench.load(way, None, mode, "-n", 4, "-s", 0.1, "-w", 0)

    def test_a_refusal_is_not_an_answer(self):
        way = self.way("usocksd-1")
        client, argv = bench.load_argv(way, None, "crc", "-n", 4, "-s", 0.1, "-w", 0, "-d", 1)
        argv[argv.index(bench.DEST)] = "127.0.0.1"
        with way.proxy(), self.assertRaisesRegex(bench.Failed, '"socks": '):
            bench.checked(client.run(*argv).stdout, way, "crc")


if __name__ == "__main__":
    lab.main()
