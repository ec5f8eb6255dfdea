"""Pictures of the rows, where matplotlib is installed."""
from collections import defaultdict

from figures import OURS, argument
from rivals import room

try:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
except ImportError:
    pyplot = None

COLOURS = {OURS: "#c0392b", "go": "#00a3c4", "tokio": "#7f5539", "boost.fiber": "#5b8e3e", "onetbb": "#8e6bbf",
           "raw epoll": "#7f7f7f", "nginx": "#e0a100"}


def available():
    return pyplot is not None


def colour(rival):
    return COLOURS.get(rival, "#444444")


def save(figure, path):
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return path


def rivals_in(rows):
    """In the order of the colours, so that a rival has the same place everywhere."""
    seen = dict.fromkeys(r for row in rows for r in row.rivals)
    return sorted(seen, key=lambda r: list(COLOURS).index(r) if r in COLOURS else len(COLOURS))


def bars(rows, title, path):
    """A group of bars a case, a bar a rival, from the lowest to the highest run as its whisker; logarithmic."""
    rivals = rivals_in(rows)
    height = sum(len(row.rivals) + 1 for row in rows)
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.17 * height))
    y, ticks, labels, named = 0, [], [], set()
    for row in rows:
        first = y
        for rival in (r for r in rivals if r in row.rivals):
            s = row.rivals[rival]
            if s.median > 0:
                axes.barh(y, s.median, height=0.85, color=colour(rival), label=None if rival in named else rival,
                          xerr=[[s.median - s.low], [s.high - s.median]], error_kw={"elinewidth": 1, "capsize": 2})
                named.add(rival)
            y += 1
        if row.target:
            axes.plot([row.target] * 2, [first - 0.5, y - 0.5], color="black", linewidth=1, linestyle=":",
                      label=None if "target" in named else "target")
            named.add("target")
        ticks.append((first + y - 1) / 2)
        figure_name = "" if row.figure.name == "time" else f" {row.figure.name}"
        labels.append(f"{row.name}{figure_name} ({row.figure.unit})")
        y += 1
    axes.set_xscale("log")
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.grid(axis="x", which="major", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.set_title(title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    return save(figure, path)


def lines(rows, key, x_label, y_label, title, path):
    """A line a rival over an argument of the case's name."""
    points = defaultdict(list)
    for row in rows:
        for rival, s in row.rivals.items():
            points[rival].append((argument(row.case, key), s))
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for rival in rivals_in(rows):
        mine = sorted(points[rival], key=lambda p: p[0])
        axes.errorbar([x for x, _ in mine], [s.median for _, s in mine],
                      yerr=[[s.median - s.low for _, s in mine], [s.high - s.median for _, s in mine]],
                      marker="o", capsize=3, color=colour(rival), label=rival)
    axes.set_xscale("log")
    axes.set_xticks(sorted({x for mine in points.values() for x, _ in mine}),
                    [f"{x:,}" for x in sorted({x for mine in points.values() for x, _ in mine})])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title)
    axes.grid(linewidth=0.4)
    axes.legend(fontsize=8)
    return save(figure, path)


def percentiles(rows, title, path):
    """p50, p99 and p99.9 a rival; a group of them a case."""
    names = list(dict.fromkeys(row.name for row in rows))
    figure, all_axes = pyplot.subplots(1, len(names), figsize=(2.2 + 2.6 * len(names), 4), sharey=True, squeeze=False)
    for axes, name in zip(all_axes[0], names):
        mine = [row for row in rows if row.name == name]
        for rival in rivals_in(rows):
            seen = [(row.figure.name, row.rivals[rival].median) for row in mine if rival in row.rivals]
            axes.plot([f.removesuffix("_us").replace("p999", "p99.9") for f, _ in seen], [v for _, v in seen],
                      marker="o", color=colour(rival), label=rival)
        axes.set_yscale("log")
        axes.set_title(name.removeprefix("net/"), fontsize=8)
        axes.grid(linewidth=0.4)
    all_axes[0][0].set_ylabel("latency, us")
    all_axes[0][-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.suptitle(title)
    return save(figure, path)


def scaling(rows, path):
    """How many times faster (or slower) each case is with two procs than with one."""
    by_case = defaultdict(dict)
    for row in rows:
        if row.figure.name == "time" and row.procs in (1, 2):
            for rival, s in row.rivals.items():
                by_case[row.case, rival][row.procs] = s.median
    both = {key: v[1] / v[2] for key, v in by_case.items() if len(v) == 2 and v[2]}
    if not both:
        return None
    cases = list(dict.fromkeys(case for case, _ in both))
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.24 * len(cases)))
    for rival in rivals_in(rows):
        mine = [(case, both[case, rival]) for case in cases if (case, rival) in both]
        if not mine:
            continue
        axes.plot([x for _, x in mine], [cases.index(case) for case, _ in mine], "o", color=colour(rival), label=rival,
                  markersize=5)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}")
    axes.set_yticks(range(len(cases)), cases, fontsize=7)
    axes.invert_yaxis()
    axes.grid(linewidth=0.4)
    axes.set_xlabel("speed with 2 procs / speed with 1 (to the right of 1: faster)")
    axes.set_title("scaling")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    return save(figure, path)


def draw(rows, folder):
    """All that the rows allow; the paths."""
    def of(case, figure=None, procs=None):
        return [r for r in rows if r.case.startswith(case) and figure in (None, r.figure.name)
                and procs in (None, r.procs)]
    made = []
    for name in dict.fromkeys(room(row.name) for row in rows):
        mine = [row for row in rows if room(row.name) == name]
        if mine and name not in ("net", "memory", "idle"):
            made.append(bars(mine, name, folder / f"{name}.png"))
    for figure, label in (("rate", "requests a second"), ("cpu_us", "CPU time of the server a request, us")):
        echo = of("net/echo", figure, 1)
        if echo:
            made.append(lines(echo, "connections", "connections", label, f"echo of 64 bytes: {label}",
                              folder / f"connections_{figure}.png"))
    for case, title in (("net/latency", "echo at a fixed rate"), ("net/stall", "echo while others stall"),
                        ("net/healthz_latency", "GET /healthz at a fixed rate")):
        latency = [r for r in of(case) if r.figure.name.startswith("p")]
        if latency:
            made.append(percentiles(latency, title, folder / f"{case.replace('net/', '')}.png"))
    healthz = of("net/healthz/")
    if healthz:
        made.append(bars(healthz, "GET /healthz under wrk", folder / "healthz.png"))
    memory = of("memory/blocked_task", "bytes", 1)
    if memory:
        made.append(lines(memory, "tasks", "tasks", "bytes", "resident bytes of a blocked task",
                          folder / "memory.png"))
    made.append(scaling(rows, folder / "scaling.png"))
    return [path for path in made if path]
