#!/usr/bin/env python3
"""Runs the benchmarks and their twins by turns and prints a table of medians.

    benchmarks/compare.py BUILD/benchmarks [--twin NAME=PROGRAM]... [--health PROGRAM] [--filter REGEX] [--rounds N]
                          [--min-time SECONDS] [--json FILE] [--markdown] [--echo PROGRAM]

    benchmarks/compare.py build/benchmarks --twin go=build/twins_go --twin boost=build/twins_boost --rounds 7

Each case runs in a process of its own: ours, each twin's, ours, each twin's, ... so that all see the same machine in
the same minute. What counts is the ratio. Where a twin lacks the case its column stays empty.
--health and --echo name a rival's servers, for server/... and net/...; their values stand in the first twin's column.
Exit status: 0 when every case ran, 1 when one failed, 2 for wrong usage.
"""
import argparse
import csv
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUFFIX = re.compile(r"/(iterations:\d+|process_time|real_time|manual_time)(?=/|$)")
TO_UNIT = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def read_targets():
    """case -> [(figure, unit, {procs: target})]"""
    table = {}
    with open(HERE / "targets.csv", newline="") as f:
        for case, unit, figure, one, two in csv.reader(line for line in f if not line.startswith("#")):
            table.setdefault(case, []).append((figure, unit, {1: one, 2: two}))
    return table


def split_procs(name):
    """'chan/x/procs:2' -> ('chan/x', 2); a name without procs counts as 1."""
    case, found, procs = name.rpartition("/procs:")
    return (case, int(procs)) if found else (name, 1)


def output_of(command, env=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def cases_of(program):
    lines = output_of([program, "--benchmark_list_tests"]).split("\n")
    return [(SUFFIX.sub("", full), full) for full in lines if full]


def measure(program, full_name, figures, min_time, env=None):
    """{figure: value} of one run of one case by a Google Benchmark program."""
    out = output_of([program, f"--benchmark_filter=^{re.escape(full_name)}$", "--benchmark_format=json",
                     f"--benchmark_min_time={min_time}"], env)
    runs = json.loads(out)["benchmarks"]
    if len(runs) != 1 or runs[0].get("error_occurred"):
        raise RuntimeError(f"{full_name}: {runs[0].get('error_message') if runs else 'no result'}")
    run = runs[0]
    return {figure: run["real_time"] * TO_UNIT[run["time_unit"]] / TO_UNIT[unit] if figure == "time"
            else float(run[figure]) for figure, unit, _ in figures}


def measure_twin(program, name, min_time):
    out = output_of([program, "-filter", f"^{re.escape(name)}$", "-min-time", f"{min_time}s"])
    return float(out.strip().rsplit(",", 1)[1])


def number(value):
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values):
    """Half the distance from the smallest to the largest, in percent of the median."""
    middle = statistics.median(values)
    return f"{50 * (max(values) - min(values)) / middle:.0f} %" if middle and len(values) > 1 else ""


def machine():
    cpu = "unknown CPU"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return f"{cpu}, {len(os.sched_getaffinity(0))} CPUs, {platform.system()} {platform.release()}"


def commit():
    try:
        return output_of(["git", "-C", str(HERE), "describe", "--always", "--dirty"]).strip()
    except (OSError, RuntimeError):
        return "unknown"


def print_table(head, rows, markdown):
    cells = [head] + [[str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for number_of_row, row in enumerate(cells):
        line = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("| " + " | ".join(line) + " |" if markdown else "  ".join(line))
        if number_of_row == 0 and markdown:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


class Twin:
    """A program with the cases of somebody else; see twins/."""

    def __init__(self, argument):
        self.name, equals, self.program = argument.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError("wanted: NAME=PROGRAM")
        self.cases = set(output_of([self.program, "-list"]).split())


def run_rounds(program, name, full, figures, options):
    """{rival: [{figure: value}, ...]} of one case, taken by turns; ours is called mpg."""
    values = {}
    servers = {"server": {"MPG_BENCH_SERVER": options.health}, "net/h": {"MPG_BENCH_SERVER": options.health},
               "net/e": {"MPG_BENCH_ECHO": options.echo}}
    other = next((env for prefix, env in servers.items() if name.startswith(prefix) and None not in env.values()), None)
    for _ in range(options.rounds):
        values.setdefault("mpg", []).append(measure(program, full, figures, options.min_time))
        for twin in options.twin:
            if name in twin.cases:
                value = measure_twin(twin.program, name, options.min_time)
                values.setdefault(twin.name, []).append({figures[0][0]: value})
        if other:
            values.setdefault(options.twin[0].name if options.twin else "rival", []).append(
                measure(program, full, figures, options.min_time, other))
    return values


def column(runs, figure):
    """The values of one figure, or [] where this rival does not have it."""
    return [run[figure] for run in runs if figure in run]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="folder of the built *_bench programs")
    parser.add_argument("--twin", type=Twin, action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("--health", help="a rival's health server: the built program of benchmarks/twins/go/health")
    parser.add_argument("--echo", help="a rival's echo server: the built program of benchmarks/twins/go/echo")
    parser.add_argument("--filter", default="", help="regular expression that names must match")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.2, help="seconds an operation is repeated for")
    parser.add_argument("--json", help="file for all single values")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()

    programs = sorted(p for p in options.build.glob("*_bench") if os.access(p, os.X_OK))
    if not programs:
        parser.error(f"no *_bench program in {options.build}")
    targets = read_targets()
    rivals = [t.name for t in options.twin] or (["rival"] if options.health or options.echo else [])

    print(f"machine:  {machine()}\ncommit:   {commit()}\ncommand:  {' '.join(sys.argv)}\n"
          f"medians of {options.rounds} interleaved rounds; spread: half of max - min\n", flush=True)
    head = ["case", "procs", "figure", "unit", "mpg", "spread"]
    for rival in rivals:
        head += [rival, "spread", f"mpg/{rival}"]
    head.append("target")
    rows, all_values, failed = [], {}, False
    for program in programs:
        for name, full in cases_of(program):
            if not re.search(options.filter, name):
                continue
            case, procs = split_procs(name)
            figures = targets.get(case, [("time", "ns", {})])
            try:
                values = run_rounds(program, name, full, figures, options)
            except (OSError, RuntimeError, ValueError, KeyError, IndexError) as e:
                print(f"{name}: {e}", file=sys.stderr)
                failed = True
                continue
            all_values[name] = values
            for figure, unit, target in figures:
                ours = column(values["mpg"], figure)
                mine = statistics.median(ours)
                row = [case, procs, figure, unit, number(mine), spread(ours)]
                for rival in rivals:
                    its = column(values.get(rival, []), figure)
                    middle = statistics.median(its) if its else None
                    row += [number(middle), spread(its) if its else "", f"{mine / middle:.2f}" if middle else ""]
                rows.append(row + [target.get(min(procs, 2), "")])
                print("  ".join(map(str, row)), file=sys.stderr, flush=True)
    print_table(head, rows, options.markdown)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "commit": commit(),
                                                  "command": sys.argv, "values": all_values}, indent=1))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
