"""Tests of the suite: what is read, what is computed from it, and what is said to be lost."""
import csv
import json
import tempfile
import unittest
from pathlib import Path

import figures
import machine
import report
import rivals
from figures import OURS, Figure, Target, make_rows, read_cases

GOOGLE = """{"context": {"num_cpus": 2}, "benchmarks": [{"name": "memory/blocked_task/tasks:10000/procs:1/x",
"family_index": 0, "repetitions": 1, "threads": 1, "iterations": 1, "real_time": 2.5, "cpu_time": 2.0,
"time_unit": "ms", "bytes": 4381.0}]}"""
GOOGLE_FAILED = """{"benchmarks": [{"name": "x", "error_occurred": true, "error_message": "it did not answer"}]}"""
TWIN = "time,371.4\ncpu,402\n"
LOAD = "rate,54480.612\ncpu_us,6.18\np99_us,7997.9\nclient_is_bottleneck,0\n"
WRK = """Running 2s test @ http://127.0.0.1:36461/healthz
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.96ms    8.39ms  66.33ms   94.97%
    Req/Sec    63.57k    22.37k   93.04k    70.00%
  Latency Distribution
     50%  389.00us
     75%    2.13ms
     90%    5.33ms
     99%   53.00ms
  63771 requests in 1.01s, 8.88MB read
Requests/sec:  63260.05
Transfer/sec:      8.81MB
server_cpu_seconds,0.33593509
"""
CALLGRIND = """Events recorded:  Ir
8,929,060 (100.0%)  PROGRAM TOTALS
Ir                file:function
969,256 (10.86%)  ???:mpg::sched::switch_away(mpg::sched::machine*, void (*)(void*) noexcept) [/build/task_bench]
962,596 (10.78%)  ???:mpg::sched::switch_away(mpg::sched::machine*, void (*)(void*) noexcept)'2 [/build/task_bench]
807,062 ( 9.04%)  ./elf/./elf/dl-lookup.c:do_lookup_x [/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2]
7,040 ( 0.01%)  ???:_ZN3mpg6selectIJNS_8channels9recv_caseIRNS_4chanIiEEZN12_GLOBAL__N_1 [/build/x]
140,000 ( 1.57%)  ???:void (anonymous namespace)::yield_now<a<b>, c>(int)::{lambda(void*)#1}::_FUN(void*) [/build/x]
"""
CASES = {"task/yield": [Figure("time", "ns", {1: Target(10.0), 2: Target(10.0)})],
         "program/sieve": [Figure("time", "ms", {1: Target(130.0)})],
         "idle": [Figure("cpu_percent", "%", {1: Target(0.0), 2: Target(0.0)})],
         "net/echo": [Figure("rate", "1/s", {1: Target(340000.0)}), Figure("cpu_us", "us", {1: Target(2.9)})]}
VALUES = {
    "task/yield/procs:1": {OURS: [{"time": 12.0, "cpu": 12.5}, {"time": 9.0, "cpu": 9.5}, {"time": 11.0, "cpu": 11.5}],
                           "go": [{"time": 86.0}, {"time": 90.0}, {"time": 80.0}], "tokio": [{"time": 40.0}]},
    "program/sieve/procs:1": {OURS: [{"time": 100e6, "cpu": 100e6}], "go": [{"time": 50e6, "cpu": 99e6}]},
    "idle/procs:64": {OURS: [{"cpu_percent": 0.5}], "go": [{"cpu_percent": 0.0}]},
    "net/echo/procs:1": {OURS: [{"rate": 170000.0, "cpu_us": 2.0}], "go": [{"rate": 100000.0, "cpu_us": 4.0}]},
}


class Parsing(unittest.TestCase):
    def test_google_benchmark(self):
        self.assertEqual(rivals.parse_google(GOOGLE), {"time": 2.5e6, "cpu": 2.0e6, "bytes": 4381.0})

    def test_an_error_is_not_a_figure(self):
        with self.assertRaisesRegex(rivals.Failed, "did not answer"):
            rivals.parse_google(GOOGLE_FAILED)
        with self.assertRaises(rivals.Failed):
            rivals.parse_google('{"benchmarks": []}')
        with self.assertRaises(rivals.Failed):
            rivals.parse_figures("nothing\n")

    def test_twin_and_load(self):
        self.assertEqual(rivals.parse_figures(TWIN), {"time": 371.4, "cpu": 402.0})
        self.assertEqual(rivals.parse_figures(LOAD)["client_is_bottleneck"], 0)

    def test_wrk(self):
        got = rivals.parse_wrk(WRK)
        self.assertEqual((got["rate"], got["p50_us"], got["p99_us"]), (63260.05, 389.0, 53000.0))
        self.assertAlmostEqual(got["cpu_us"], 1e6 * 0.33593509 / 63771)
        with self.assertRaises(rivals.Failed):
            rivals.parse_wrk(WRK + "  Non-2xx or 3xx responses: 3\n")

    def test_callgrind(self):
        got = rivals.parse_callgrind(CALLGRIND)
        self.assertEqual(got, {"": 8929060, "mpg::sched::switch_away": 1931852, "yield_now": 140000,
                               "do_lookup_x": 807062, "mpg::select": 7040})
        with self.assertRaises(rivals.Failed):
            rivals.parse_callgrind("")

    def test_names(self):
        self.assertEqual(figures.split_procs("chan/x/procs:2"), ("chan/x", 2))
        self.assertEqual(figures.split_procs("start/first_200"), ("start/first_200", 1))
        self.assertEqual(figures.argument("net/echo/connections:512", "connections"), 512)
        self.assertIsNone(figures.argument("net/echo", "connections"))
        self.assertEqual(rivals.GOOGLE_SUFFIX.sub("", "a/b:1/procs:2/iterations:1/process_time/real_time"),
                         "a/b:1/procs:2")
        self.assertTrue(rivals.is_slow("memory/blocked_task/tasks:1000000/procs:1"))
        self.assertFalse(rivals.is_slow("chan/prod_cons/cap:1000/procs:1"))

    def test_a_quick_run_has_something_of_each_room(self):
        names = ["chan/a", "chan/b", "chan/c", "chan/d", "net/x", "net/y"]
        got = rivals.spread_rooms(names)
        self.assertEqual(sorted(got), names)
        self.assertEqual({rivals.room(n) for n in got[:3]}, {"chan", "net"})

    def test_the_table_of_cases(self):
        cases = read_cases()
        self.assertEqual(cases["task/yield"][0].targets, {1: Target(10.0, "go", 86.0), 2: Target(10.0, "go", 90.0)})
        self.assertEqual(cases["start/size/health_server"][0].targets[1], Target(1500000.0))
        self.assertEqual([f.name for f in cases["net/echo/connections:64"]], ["rate", "cpu_us", "p99_us"])
        self.assertEqual(figures.figures_of(cases, "not/there"), [Figure("time", "ns", {})])


class Comparing(unittest.TestCase):
    def setUp(self):
        self.rows = {(row.case, row.figure.name): row for row in make_rows(CASES, VALUES)}

    def test_median_and_spread(self):
        s = self.rows["task/yield", "time"].rivals[OURS]
        self.assertEqual((s.median, s.low, s.high, s.runs), (11.0, 9.0, 12.0, 3))
        self.assertAlmostEqual(s.spread, 1.5 / 11)
        self.assertEqual(self.rows["task/yield", "time"].cpu, {OURS: 11.5})

    def test_units(self):
        self.assertEqual(self.rows["program/sieve", "time"].rivals[OURS].median, 100.0)
        self.assertEqual(self.rows["program/sieve", "time"].cpu["go"], 99.0)

    def test_ratios(self):
        self.assertEqual(self.rows["task/yield", "time"].best_other()[0], "tokio")
        self.assertAlmostEqual(self.rows["task/yield", "time"].ratio_to_best(), 11 / 40)
        self.assertAlmostEqual(self.rows["net/echo", "rate"].ratio_to_best(), 100 / 170)  # more is better
        self.assertAlmostEqual(self.rows["net/echo", "rate"].ratio_to_target(), 2.0)

    def test_a_target_is_a_share_of_what_the_rival_takes_in_the_run(self):
        cases = {"task/yield": [Figure("time", "ns", {1: Target(10.0, "go", 86.0)})],
                 "net/echo": [Figure("rate", "1/s", {1: Target(300.0, "go", 200.0)})],
                 "program/sieve": [Figure("time", "ms", {1: Target(80.0, "onetbb", 40.0)})]}
        rows = {row.case: row for row in make_rows(cases, VALUES)}
        self.assertAlmostEqual(rows["task/yield"].target, 10 * 86 / 86)
        self.assertAlmostEqual(rows["net/echo"].target, 150000.0)
        self.assertAlmostEqual(rows["net/echo"].ratio_to_target(), 150 / 170)
        self.assertEqual(rows["program/sieve"].target, 80.0)  # it takes no part

    def test_losses(self):
        found = [(loss.row.case, loss.row.figure.name, loss.to, loss.clear) for loss in
                 figures.losses(self.rows.values())]
        self.assertEqual(found, [("idle", "cpu_percent", "target", True), ("idle", "cpu_percent", "go", True),
                                 ("program/sieve", "time", "go", True), ("net/echo", "rate", "target", True),
                                 ("task/yield", "time", "target", False)])  # one run of 9 ns was within 10

    def test_floors(self):
        floors = figures.read_floors()
        self.assertEqual(floors["chan/prod_cons/cap:0"], [(2.0, "floor/channel_operation"), (1.0, "floor/bare_switch")])
        values = {**VALUES, "floor/bare_switch": {OURS: [{"time": 2.0}]}, "floor/b": {OURS: [{"time": 3.0}]}}
        rows = make_rows(CASES, values, {"task/yield": [(1.0, "floor/bare_switch"), (2.0, "floor/b")],
                                         "program/sieve": [(1.0, "floor/not_measured")]})
        self.assertEqual([(row.case, row.floor, ratio) for ratio, row in figures.above_floor(rows, 1.0)],
                         [("task/yield", 8.0, 11 / 8)])
        self.assertEqual(figures.above_floor(rows), [])

    def test_number(self):
        self.assertEqual([figures.number(x) for x in (None, 0, 2.345, 23.45, 234.5, 2345678)],
                         ["", "0.00", "2.35", "23.4", "234", "2,345,678"])


class Writing(unittest.TestCase):
    def test_tables(self):
        rows = make_rows(CASES, VALUES)
        head = {"date": "2026-11-22 10:00", "machine": {"cpu": "a CPU", "cpus": 2, "rivals": {"go": "go1.19"}},
                "command": "scripts/bench", "rounds": 3, "seconds": 0.2, "load_before": 3.0, "load_after": 0.1,
                "steal": 0.02,
                "absent": {"tokio": "not built"}, "problems": ["failed: x of go: it fell"],
                "missing": {"go": ["select/wide"]}, "commands": {"go": "twins --run x"}}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            report.write_json(folder / "r.json", head, VALUES)
            report.write_csv(folder / "r.csv", rows)
            report.write_markdown(folder / "r.md", head, rows, [folder / "chan.png"])
            self.assertEqual(json.loads((folder / "r.json").read_text())["values"], VALUES)
            with open(folder / "r.csv", newline="", encoding="utf-8") as f:
                lines = list(csv.DictReader(f))
            go = next(line for line in lines if line["case"] == "task/yield" and line["rival"] == "go")
            self.assertEqual((go["median"], go["mpg/rival"]), ("86", "0.128"))
            text = (folder / "r.md").read_text()
        for wanted in ("2.0 % of the CPU", "absent: tokio: not built", "failed: x of go", "not quiet",
                       "`task/yield`", "`select/wide`",
                       "2.00x  program/sieve/procs:1 time: 100 ms, go 50.0", "![chan](chan.png)", "twins --run x"):
            self.assertIn(wanted, text)

    def test_slug(self):
        self.assertEqual(machine.slug({"cpu": "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "cpus": 2}),
                         "xeon-platinum-8375c-2cpu")


class Measuring(unittest.TestCase):
    def test_a_twin_is_listed_and_run(self):
        with tempfile.TemporaryDirectory() as folder:
            twin = Path(folder) / "twin"
            twin.write_text('#!/bin/sh\n[ "$1" = --list ] && echo task/yield/procs:1 || echo "time,$4"\n')
            twin.chmod(0o755)
            rival = rivals.Rival("go")
            rival.add_twin(twin)
            self.assertEqual(rival.cases, ["task/yield/procs:1"])
            self.assertEqual(rival.measure("task/yield/procs:1", 0.25), {"time": 0.25})

    def test_a_program_that_fails_is_a_failure(self):
        with self.assertRaisesRegex(rivals.Failed, "status 1"):
            rivals.output_of(["false"])

    def test_who_is_not_there_is_absent(self):
        with tempfile.TemporaryDirectory() as folder:
            found, absent = rivals.other_rivals(Path(folder), has_wrk=False, has_nginx=False)
        self.assertEqual(found, [])
        self.assertEqual(set(absent), {"go", "tokio", "boost.fiber", "onetbb", "raw epoll", "nginx", "wrk"})


if __name__ == "__main__":
    unittest.main()
