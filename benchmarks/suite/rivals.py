"""Who is measured, and by which program.

A rival knows the names of its cases and measures one of them in a process of its own.
"""
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from figures import NS_IN, OURS, argument, split_procs

GOOGLE_SUFFIX = re.compile(r"/(iterations:\d+|process_time|real_time|manual_time)(?=/|$)")
RATE = 50_000  # requests a second of the open loop with many connections
RATE_ALONE = 5_000  # and with one
RATE_STALL = 2_000  # and of the stall cases: 125 of them stall, an eighth of a CPU


class Failed(RuntimeError):
    """A case that did not give a figure."""


def output_of(command, environment=None):
    try:
        done = subprocess.run(command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Failed(f"{' '.join(map(str, command))}: {e}") from e
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def parse_figures(text):
    """The lines "name,value" of a twin or of the load generator."""
    figures = {}
    for line in text.splitlines():
        name, comma, value = line.partition(",")
        try:
            if comma:
                figures[name] = float(value)
        except ValueError:
            pass  # not ours: other programs may print lines with commas
    if not figures:
        raise Failed(f"no figure in: {text[-500:]!r}")
    return figures


def parse_google(text):
    """The one run in the JSON of a Google Benchmark program."""
    runs = json.loads(text)["benchmarks"]
    if len(runs) != 1 or runs[0].get("error_occurred"):
        raise Failed(runs[0].get("error_message", "failed") if runs else "no result")
    run = runs[0]
    to_ns = NS_IN[run["time_unit"]]
    figures = {name: float(value) for name, value in run.items()
               if isinstance(value, (int, float)) and name not in GOOGLE_FIELDS}
    return {"time": run["real_time"] * to_ns, "cpu": run["cpu_time"] * to_ns, **figures}


def instructions(program, name, iterations):
    """{function: instructions} of a run by valgrind's callgrind; "" for all."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/callgrind.out"
        output_of(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", program,
                   f"--benchmark_filter=^{re.escape(name)}/"], {"MPG_BENCH_ITERATIONS": str(iterations)})
        return parse_callgrind(output_of(["callgrind_annotate", "--threshold=100", "--auto=no", out]))


def parse_callgrind(text):
    counts = {}
    for count, what in re.findall(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(.*)$", text, re.M):
        function = "" if what.startswith("PROGRAM TOTALS") else short_function(what)
        counts[function] = counts.get(function, 0) + int(count.replace(",", ""))
    if "" not in counts:
        raise Failed(f"callgrind_annotate is not understood: {text[-500:]!r}")
    return counts


def short_function(text):
    """'???:void mpg::f<int>(int)'2 [/a/program]' -> 'mpg::f'"""
    text = re.sub(r"\s*\[[^\]]*\]|'\d+", "", text).partition(":")[2]
    if text.startswith("_ZN"):  # too long for callgrind's demangler
        return "::".join(mangled_names(text[3:])) or text
    text = text.replace("(anonymous namespace)::", "")
    while (shorter := re.sub(r"<[^<>]*>", "", text)) != text:
        text = shorter
    words = text.split("(")[0].split()
    return words[-1] if words else text


def mangled_names(text):
    """'3mpg5sched3runIZ...' -> ['mpg', 'sched', 'run']"""
    names = []
    while found := re.match(r"\d+", text):
        length = int(found.group())
        names.append(text[found.end():found.end() + length])
        text = text[found.end() + length:]
    return [name for name in names if not name.startswith("_GLOBAL_")]


GOOGLE_FIELDS = {"family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads",
                 "iterations", "real_time", "cpu_time"}


def parse_wrk(text):
    """What `load wrk` prints: wrk's report, then the server's CPU time."""
    def find(pattern):
        found = re.search(pattern, text)
        if not found:
            raise Failed(f"not understood: {text[-500:]!r}")
        return found
    requests = float(find(r"(\d+) requests in").group(1))
    figures = {"rate": float(find(r"Requests/sec:\s*([\d.]+)").group(1)),
               "cpu_us": 1e6 * float(find(r"server_cpu_seconds,(\S+)").group(1)) / requests}
    for name, percent in (("p50_us", 50), ("p99_us", 99)):
        value, unit = find(rf"\s{percent}%\s+([\d.]+)(us|ms|s)\b").groups()
        figures[name] = float(value) * NS_IN[unit] / NS_IN["us"]
    if re.search(r"Non-2xx|Socket errors", text):
        raise Failed(f"wrk met errors: {text[-500:]!r}")
    return figures


class Rival:
    """name; cases: the full names (with procs) that it has."""

    def __init__(self, name):
        self.name = name
        self.commands = {}  # full name -> how to measure it, but for the minimal time
        self.programs = {}  # full name -> the Google Benchmark program that has it

    @property
    def cases(self):
        return list(self.commands)

    def add_google(self, programs):
        """Our own benchmarks: one case of a Google Benchmark program."""
        for program in programs:
            for full in output_of([program, "--benchmark_list_tests"]).split():
                name = GOOGLE_SUFFIX.sub("", full)
                self.programs[name] = program
                self.commands[name] = lambda seconds, p=program, f=full: (
                    [p, f"--benchmark_filter=^{re.escape(f)}$", "--benchmark_format=json",
                     f"--benchmark_min_time={seconds}"], parse_google)

    def count_instructions(self, name, ns):
        """{function: instructions of an iteration}, "" for all; None for what is no operation, or a floor.

        An iteration takes about so many ns. The difference of two runs of different length, all threads together, so
        that start and end are not in it. It repeats almost exactly, also on a busy machine.
        """
        if name not in self.programs or room(name) in ("floor", "program", "memory", "idle", "wake", "hogs"):
            return None
        few = max(20, int(1e6 / max(ns, 1)))
        few = few // 1000 * 1000 if few > 1000 else few  # whole batches
        short, long = (instructions(self.programs[name], name, n) for n in (few, 5 * few))
        return {function: (count - short.get(function, 0)) / (4 * few) for function, count in long.items()}

    def add_twin(self, program):
        for name in output_of([program, "--list"]).split():
            self.commands[name] = lambda seconds, n=name: (
                [program, "--run", n, "--min-time", str(seconds)], parse_figures)

    def add_echo(self, load, server, all_procs=(1, 2), can_stall=True):
        def case(name, procs, mode, *options):
            self._add_load(name, procs, load, [mode, *options], server, parse_figures)
        for procs in all_procs:
            for connections in (1, 64, 512, 4096):
                count = ["--connections", str(connections)]
                case(f"net/echo/connections:{connections}", procs, "closed", *count)
                rate = RATE_ALONE if connections == 1 else RATE
                case(f"net/latency/connections:{connections}", procs, "open", *count, "--rate", str(rate))
        for procs in all_procs if can_stall else ():
            for kind in ("burn", "block"):
                case(f"net/stall/{kind}", procs, "open", "--request", kind, "--rate", str(RATE_STALL))

    def add_health(self, load, server, has_wrk):
        for connections in (64, 256) if has_wrk else ():
            self._add_load(f"net/healthz/connections:{connections}", 1, load,
                           ["wrk", "--connections", str(connections)], server, parse_wrk)
        self._add_load("net/healthz_latency/connections:64", 1, load,
                       ["open", "--request", "healthz", "--rate", str(RATE)], server, parse_figures)
        for name, mode in (("start/first_200", "first-200"), ("start/resident/connections:64", "resident")):
            self._add_load(name, len(os.sched_getaffinity(0)), load, [mode, "--request", "healthz"], server,
                           parse_figures, named=False)

    def add_size(self, name, program):
        """The size of the program without its symbols."""
        script = 'strip -o "$0.stripped" "$0" && stat --printf="bytes,%s\\n" "$0.stripped"'
        self.commands[name] = lambda seconds: (["sh", "-c", script, program], parse_figures)

    def add_cost(self, root):
        """What one translation unit that includes <mpg/mpg.hpp> costs."""
        compiler = f'echo "#include <mpg/mpg.hpp>" | c++ -std=c++20 -O0 -I"{root}/include" -x c++ -'
        begin, end = "begin=$(date +%s%N)", 'echo "time,$(($(date +%s%N) - begin))"'
        scripts = {"cost/lines": f'echo "lines,$({compiler} -E -P | grep -c .)"',
                   "cost/compile": f"{begin}; {compiler} -c -o /dev/null && {end}"}
        for name, script in scripts.items():
            self.commands[name] = lambda seconds, s=script: (["sh", "-c", s], parse_figures)

    def _add_load(self, name, procs, load, options, server, parse, named=True):
        full = f"{name}/procs:{procs}" if named else name
        self.commands[full] = lambda seconds: (
            [load, *options, "--procs", str(procs), "--seconds", str(10 * seconds), "--", server], parse)

    def command(self, name, seconds):
        """The exact command, to be run in the checkout; `seconds` is that of an operation, a server is measured ten times
        as long."""
        checkout = f"{Path(__file__).resolve().parents[2]}/"
        return [str(word).replace(checkout, "") for word in self.commands[name](seconds)[0]]

    def measure(self, name, seconds):
        """{figure: value}"""
        command, parse = self.commands[name](seconds)
        return parse(output_of(list(map(str, command))))


def executable(path):
    return path.is_file() and os.access(path, os.X_OK)


def our_rival(build, name=OURS, has_wrk=True):
    bench = build / "benchmarks"
    sources = Path(__file__).resolve().parents[1]  # what an earlier commit has left in the build is not run
    programs = sorted(p for p in bench.glob("*_bench") if executable(p) and (sources / f"{p.name}.cpp").is_file())
    if not programs:
        raise Failed(f"no *_bench program in {bench}")
    rival = Rival(name)
    rival.add_google(programs)
    if executable(bench / "echo_server"):
        rival.add_echo(bench / "load", bench / "echo_server")
    server = build / "examples/health_server_static"
    if executable(server):
        rival.add_health(bench / "load", server, has_wrk)
        rival.add_size("start/size/health_server", server)
    if executable(build / "examples/01_hello_tasks"):
        rival.add_size("start/size/hello", build / "examples/01_hello_tasks")
    rival.add_cost(build.parents[1])
    return rival


def other_rivals(build, has_wrk=True, has_nginx=True):
    """([Rival], {what is absent: why})"""
    load, twins = build / "benchmarks/load", build / "benchmarks/twins"
    # name, cases, echo server and its numbers of procs, health server, the package that brings it
    table = [("go", build / "twins_go", build / "echo_go", (1, 2), build / "health_go", "golang-go"),
             ("tokio", build / "twins_tokio", build / "echo_tokio", (1, 2), None, "librust-tokio-dev and cargo"),
             ("boost.fiber", twins / "twins_boost", None, (), None, "libboost-fiber1.81-dev"),
             ("onetbb", twins / "twins_onetbb", None, (), None, "libtbb-dev"),
             ("raw epoll", None, twins / "echo_raw_epoll", (1,), None, "a C++ compiler"),
             ("nginx", None, None, (), twins / "health_nginx" if has_nginx else twins / "absent", "nginx-light")]
    rivals, absent = [], {}
    for name, cases, echo, procs, health, package in table:
        rival = Rival(name)
        if cases and executable(cases):
            rival.add_twin(cases)
        if echo and executable(echo):
            rival.add_echo(load, echo, procs, can_stall=name != "raw epoll")
        if health and executable(health):
            rival.add_health(load, health, has_wrk)
        if name == "go" and rival.cases:
            for case, program in (("health_server", health), ("hello", build / "hello_go")):
                if executable(program):
                    rival.add_size(f"start/size/{case}", program)
        if rival.cases:
            rivals.append(rival)
        else:
            absent[name] = f"not built; it needs {package}"
    if not has_wrk:
        absent["wrk"] = "not installed, so net/healthz is not measured"
    return rivals, absent


def room(name):
    return split_procs(name)[0].split("/")[0]


def spread_rooms(names):
    """The same names, each room evenly over the whole: so that who runs out of time has something of each."""
    rooms = {}
    for name in names:
        rooms.setdefault(room(name), []).append(name)
    return [name for _, name in sorted(((i + 0.5) / len(mine), name) for mine in rooms.values()
                                       for i, name in enumerate(mine))]


def is_slow(name):
    """What a quick run leaves out: more than a second, or a big part of the machine's memory."""
    case, _ = split_procs(name)
    return (case.startswith(("idle", "hogs/")) or case == "program/create_1m" or (argument(case, "tasks") or 0) > 100_000
            or (argument(case, "connections") or 0) > 512)
