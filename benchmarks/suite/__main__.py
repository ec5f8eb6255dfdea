"""Runs the benchmarks and their twins by turns, and writes tables and pictures. scripts/bench calls this.

Each run of a case is a process of its own. A round takes one case after the other, and of a case one rival right after
the other, in an order that rotates from round to round; so all of them see the same machine in the same minute.
What counts is the ratio.

Exit status: 0 when every case ran, 1 when one failed, 2 for wrong usage.
"""
import argparse
import datetime
import re
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path

import machine
import pictures
import report
from figures import OURS, figures_of, make_rows, number, read_cases, read_floors, split_procs
from rivals import Failed, is_slow, other_rivals, our_rival, spread_rooms

REPOSITORY = Path(__file__).resolve().parents[2]


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose names match")
    parser.add_argument("--rivals", default="", metavar="REGEX", help="only rivals whose names match (and mpg)")
    parser.add_argument("--rounds", type=int, help="5, or 3 when quick")
    parser.add_argument("--min-time", type=float, metavar="SECONDS",
                        help="how long an operation is repeated (0.2; quick: 0.03); servers are measured ten times "
                             "as long")
    parser.add_argument("--quick", action="store_true", help="less than three minutes: without the slow cases, "
                        "short, and as many rounds as there is time for")
    parser.add_argument("--against", metavar="REV", help="compare with another commit of mpg instead of with rivals")
    parser.add_argument("--instructions", action="store_true",
                        help="count also the instructions of mpg's operations, with valgrind's callgrind")
    parser.add_argument("--output", type=Path, help="folder of the results; benchmarks/results/DATE-MACHINE when "
                        "everything is measured in full, else build/results")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build/release", help=argparse.SUPPRESS)
    parser.add_argument("--against-build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--list-programs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.min_time = options.min_time or (0.03 if options.quick else 0.2)
    options.budget = 140 if options.quick else None
    if options.rounds < 1 or options.min_time <= 0:
        parser.error("--rounds and --min-time must be positive")
    try:
        options.filter, options.rivals = re.compile(options.filter), re.compile(options.rivals)
    except re.error as e:
        parser.error(f"not a regular expression: {e}")
    return options


class Run:
    """All rounds of all cases."""

    def __init__(self, rivals, names, options):
        self.rivals, self.names, self.options = rivals, names, options
        self.values = defaultdict(lambda: defaultdict(list))  # name -> rival -> [{figure: value}]
        self.problems = {}  # (name, rival) -> what went wrong; a second try is not made
        self.took = {}  # name -> seconds in the last round
        self.begin = time.monotonic()
        self.cases = read_cases()
        self.out_of_time = []
        self.profiles = {}  # what -> [(function, instructions of an iteration)]

    def elapsed(self):
        return time.monotonic() - self.begin

    def left(self, done):
        """An estimate, in seconds; None before there is anything to go by."""
        if not self.took:
            return None
        average = sum(self.took.values()) / len(self.took)
        all_round = sum(self.took.get(name, average) for name in self.names)
        return max(0.0, self.options.rounds * all_round - sum(
            self.took.get(self.names[i % len(self.names)], average) for i in range(done)))

    def case(self, name, turn):
        begin = time.monotonic()
        having = [r for r in self.rivals if name in r.commands and (name, r.name) not in self.problems]
        for i in range(len(having)):
            rival = having[(i + turn) % len(having)]
            try:
                got = rival.measure(name, self.options.min_time)
                self.values[name][rival.name].append(got)
            except (Failed, ValueError, KeyError) as e:
                self.problems[name, rival.name] = f"failed: {name} of {rival.name}: {e}"
                print(self.problems[name, rival.name], flush=True)
        self.took[name] = time.monotonic() - begin

    def line(self, name):
        figure = figures_of(self.cases, split_procs(name)[0])[0]
        shown = [f"{rival} {number(figure.shown(runs[-1][figure.name]))}"
                 for rival, runs in self.values[name].items() if figure.name in runs[-1]]
        return f"{name}: {', '.join(shown) or 'no'} {figure.unit}"

    def run(self):
        total = self.options.rounds * len(self.names)
        done = 0
        for turn in range(self.options.rounds):
            for name in self.names:
                if self.options.budget and self.elapsed() > self.options.budget:
                    self.out_of_time = [n for n in self.names if n not in self.took]
                    return
                self.case(name, turn)
                done += 1
                left = self.left(done)
                if self.options.budget:
                    left = min(left, max(0.0, self.options.budget - self.elapsed()))
                print(f"[{done:4}/{total}] {clock(self.elapsed())} gone, about {clock(left)} left | {self.line(name)}",
                      flush=True)


    def count_instructions(self):
        """Once, of ours (and of another commit of it) with one P."""
        for name in (n for n in self.names if n.endswith("/procs:1")):
            for rival in self.rivals:
                runs = self.values[name].get(rival.name, [])
                try:
                    count = rival.count_instructions(name, runs[0]["time"]) if runs and "time" in runs[0] else None
                except Failed as e:
                    self.problems[name, rival.name] = f"failed: instructions of {name}: {e}"
                    continue
                if count is not None:
                    runs.append({"instructions": count.pop("")})
                    parts = sorted(count.items(), key=lambda part: -part[1])[:6]
                    self.profiles[f"{name} of {rival.name}"] = parts
                    print(f"{name}: {rival.name} {runs[-1]['instructions']:.0f} instructions: "
                          + ", ".join(f"{function} {n:.0f}" for function, n in parts if n >= 1), flush=True)


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def choose_rivals(options):
    has_wrk, has_nginx = (shutil.which(p, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin") is not None
                          for p in ("wrk", "nginx"))
    ours = our_rival(options.build, has_wrk=has_wrk)
    if options.against:
        return [ours, our_rival(options.against_build, f"{OURS}@{options.against}", has_wrk)], {}
    others, absent = other_rivals(options.build, has_wrk, has_nginx)
    return [ours] + [r for r in others if options.rivals.search(r.name)], absent


def output_folder(options, about, date):
    if options.output:
        return options.output
    whole = not (options.quick or options.against or options.filter.pattern or options.rivals.pattern)
    parent = REPOSITORY / "benchmarks/results" if whole else REPOSITORY / "build/results"
    return parent / f"{date:%Y-%m-%d}-{machine.slug(about)}"


def choose_names(ours, options):
    names = [n for n in ours.cases if options.filter.search(n) and not (options.quick and is_slow(n))]
    if not names:
        sys.exit(f"no case matches {options.filter.pattern}")
    return spread_rooms(names) if options.quick else names


def list_programs(options):
    """What the chosen cases run, relative to the build: so that another commit needs no more built."""
    ours = our_rival(options.build)
    words = {word for name in choose_names(ours, options) for word in ours.commands[name](options.min_time)[0]}
    build = options.build.resolve()
    print("\n".join(sorted(str(word.relative_to(build)) for word in map(Path, words) if build in word.parents)))


def main(arguments):
    options = parse_arguments(arguments)
    try:
        if options.list_programs:
            return list_programs(options)
        rivals, absent = choose_rivals(options)
    except Failed as e:
        sys.exit(f"{e}")
    names = choose_names(rivals[0], options)
    about, date, before = machine.describe(options.build, REPOSITORY), datetime.datetime.now(), machine.load_average()
    for key, value in {**about, **about["rivals"]}.items():
        if key != "rivals":
            print(f"{key + ':':13} {value}")
    for what, why in absent.items():
        print(f"absent:       {what}: {why}")
    if before > 0.5:
        print(f"warning:      the machine is not quiet (load {before:.2f}): only ratios of one run say something")
    if not pictures.available():
        absent["pictures"] = "they need python3-matplotlib"
    print(f"{len(names)} cases, {options.rounds} rounds, rivals: {', '.join(r.name for r in rivals)}\n", flush=True)

    run, ticks = Run(rivals, names, options), machine.cpu_times()
    interrupted = False
    try:
        run.run()
        if options.instructions:
            run.count_instructions()
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted: what has been measured is written")
    rows = make_rows(run.cases, run.values, read_floors())
    bottleneck = sorted({f"the client was the bottleneck: {name} of {rival}" for name, by in run.values.items()
                         for rival, runs in by.items() if any(r.get("client_is_bottleneck") for r in runs)})
    problems = [*run.problems.values(), *bottleneck, *(f"out of time: {n} was not measured" for n in run.out_of_time)]
    head = {
        "date": f"{date:%Y-%m-%d %H:%M}", "machine": about, "command": " ".join(["scripts/bench", *arguments]),
        "rounds": options.rounds, "seconds": options.min_time, "load_before": before,
        "load_after": machine.load_average(), "steal": machine.steal_since(ticks), "absent": absent,
        "problems": problems,
        "missing": {r.name: list(dict.fromkeys(split_procs(n)[0] for n in names
                                               if split_procs(n)[0] not in {split_procs(c)[0] for c in r.cases}))
                    for r in rivals[1:]},
        "profiles": run.profiles,
        "commands": {r.name: " ".join(r.command(next(n for n in names if n in r.commands), options.min_time))
                     for r in rivals if any(n in r.commands for n in names)},
    }
    folder = output_folder(options, about, date)
    folder.mkdir(parents=True, exist_ok=True)
    report.write_json(folder / "results.json", head, run.values)
    report.write_csv(folder / "results.csv", rows)
    drawn = pictures.draw(rows, folder) if pictures.available() else []
    report.write_markdown(folder / "results.md", head, rows, drawn)

    print(f"\n{len(rows)} figures in {clock(run.elapsed())}: {folder}")
    for problem in problems:
        print(problem.splitlines()[0])
    print("\nmore than 1.5 times the floor:")
    print("\n".join(report.floor_lines(rows)) or "nothing")
    print(f"\nwhere {OURS} loses, to the target or to the best rival in this run:")
    print("\n".join(report.loss_lines(rows)) or "nowhere")
    sys.exit(1 if run.problems or interrupted else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
