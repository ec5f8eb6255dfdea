"""Figures: what a case reports, in which unit it is shown, what it aims at, and how two rivals compare.

A run of a case by a rival gives {figure: value}. Values are kept as they are reported: time and cpu in ns an iteration,
everything else in the unit of its name. `better` is always the smaller one, but for a rate.
"""
import csv
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = "mpg"
NS_IN = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True)
class Target:
    value: float  # in the figure's unit, on the machine where it was set
    rival: str = None  # who was measured there as well,
    theirs: float = None  # and took so much

    def among(self, rivals):
        """What it comes to in a run: the same share of what the rival takes, where it takes part."""
        there = rivals.get(self.rival)
        return self.value * there.median / self.theirs if there else self.value


@dataclass(frozen=True)
class Figure:
    name: str = "time"
    unit: str = "ns"
    targets: dict = field(default_factory=dict)  # number of procs -> Target

    def shown(self, value):
        """The value in this figure's unit."""
        return value / NS_IN[self.unit] if self.name in ("time", "cpu") else value

    @property
    def more_is_better(self):
        return self.name == "rate"

    def cost_ratio(self, ours, other):
        """Above 1: ours is the worse one. None where there is nothing to divide by."""
        if self.more_is_better:
            ours, other = other, ours
        if other == 0:
            return 1.0 if ours == 0 else None
        return ours / other


def read_cases(path=HERE / "cases.csv"):
    """{case: [Figure, ...]}"""
    table = {}
    with open(path, newline="", encoding="utf-8") as f:
        for case, unit, figure, one, two, rival, at_one, at_two in csv.reader(
                line for line in f if not line.startswith("#")):
            targets = {procs: Target(float(value), rival, float(theirs)) if theirs else Target(float(value))
                       for procs, value, theirs in ((1, one, at_one), (2, two, at_two)) if value}
            table.setdefault(case, []).append(Figure(figure, unit, targets))
    return table


def read_floors(path=HERE / "floors.csv"):
    """{case: [(how many, floor case), ...]}"""
    with open(path, newline="", encoding="utf-8") as f:
        return {case: [(float(count), f"floor/{name}") for count, name in (term.split() for term in terms.split("+"))]
                for case, terms in csv.reader(line for line in f if not line.startswith("#"))}


def figures_of(cases, case):
    return cases.get(case, [Figure()])


def split_procs(name):
    """'chan/x/procs:2' -> ('chan/x', 2); a name without procs counts as 1."""
    case, found, procs = name.rpartition("/procs:")
    return (case, int(procs)) if found else (name, 1)


def argument(case, key):
    """argument('net/echo/connections:64', 'connections') -> 64, or None."""
    found = re.search(rf"(?:^|/){key}:(\d+)(?:/|$)", case)
    return int(found.group(1)) if found else None


@dataclass(frozen=True)
class Summary:
    median: float
    low: float
    high: float
    runs: int

    @property
    def spread(self):
        """Half the distance from the lowest to the highest, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def summary(values):
    return Summary(statistics.median(values), min(values), max(values), len(values))


@dataclass
class Row:
    """One figure of one case: what each rival has."""
    name: str  # the case with its number of procs
    figure: Figure
    rivals: dict  # rival -> Summary, in the figure's unit
    cpu: dict  # rival -> CPU time an iteration in the same unit, where the figure is a time and the rival tells it
    floor: float = None  # what the case is made of at the least, in the figure's unit

    @property
    def case(self):
        return split_procs(self.name)[0]

    @property
    def procs(self):
        return split_procs(self.name)[1]

    @property
    def target(self):
        target = self.figure.targets.get(min(self.procs, 2))
        return target and target.among(self.rivals)

    def best_other(self):
        """(name, Summary) of the best rival, or None."""
        others = [(name, s) for name, s in self.rivals.items() if name != OURS]
        if not others:
            return None
        best = max if self.figure.more_is_better else min
        return best(others, key=lambda pair: pair[1].median)

    def ratio_to_best(self):
        best = self.best_other()
        if best is None or OURS not in self.rivals:
            return None
        return self.figure.cost_ratio(self.rivals[OURS].median, best[1].median)

    def ratio_to_target(self):
        if self.target is None or OURS not in self.rivals:
            return None
        return self.figure.cost_ratio(self.rivals[OURS].median, self.target)


def floor_of(terms, values):
    """The sum in ns, from the floors measured in the same run; None where one of them was not."""
    total = 0.0
    for count, floor in terms:
        runs = [run["time"] for run in values.get(floor, {}).get(OURS, []) if "time" in run]
        if not runs:
            return None
        total += count * statistics.median(runs)
    return total or None


INSTRUCTIONS = Figure("instructions", "instr.")


def make_rows(cases, values, floors=None):
    """values: {name: {rival: [{figure: value}, ...]}} -> [Row]"""
    rows = []
    for name, by_rival in values.items():
        case, _ = split_procs(name)
        floor = floor_of((floors or {}).get(case, []), values)
        for figure in [*figures_of(cases, case), INSTRUCTIONS]:
            rivals, cpu = {}, {}
            for rival, runs in by_rival.items():
                seen = [figure.shown(run[figure.name]) for run in runs if figure.name in run]
                if seen:
                    rivals[rival] = summary(seen)
                used = [run["cpu"] / NS_IN[figure.unit] for run in runs if figure.name == "time" and "cpu" in run]
                if used:
                    cpu[rival] = statistics.median(used)
            if rivals:
                has_floor = floor and figure.name == "time"
                rows.append(Row(name, figure, rivals, cpu, figure.shown(floor) if has_floor else None))
    return rows


def above_floor(rows, times=1.5):
    """[(ratio, Row)]: what takes more than so many times its floor; the worst first."""
    found = [(row.rivals[OURS].median / row.floor, row) for row in rows if row.floor and OURS in row.rivals]
    return sorted(((ratio, row) for ratio, row in found if ratio > times), key=lambda pair: -pair[0])


@dataclass(frozen=True)
class Loss:
    row: Row
    to: str  # "target" or a rival's name
    theirs: float
    ratio: float  # how many times worse; None where theirs is 0
    clear: bool  # no run of ours was as good as theirs


def losses(rows):
    """Where ours is worse than the target or than the best rival; the worst first."""
    found = []
    for row in rows:
        if OURS not in row.rivals:
            continue
        ours = row.rivals[OURS]
        best_run = ours.high if row.figure.more_is_better else ours.low
        best = row.best_other()
        for to, theirs in (("target", row.target), best and (best[0], best[1].median) or (None, None)):
            if theirs is None:
                continue
            ratio = row.figure.cost_ratio(ours.median, theirs)
            if ratio is None or ratio > 1:
                least = row.figure.cost_ratio(best_run, theirs)
                found.append(Loss(row, to, theirs, ratio, least is None or least > 1))
    return sorted(found, key=lambda loss: -(loss.ratio or float("inf")))


def number(value):
    """Three digits that say something."""
    if value is None:
        return ""
    if abs(value) >= 100_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
