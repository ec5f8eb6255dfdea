"""Tables: results.json with every single value, results.csv with a line a rival, results.md to read."""
import csv
import json

from figures import OURS, above_floor, losses, number
from rivals import room


def loss_lines(rows):
    lines = []
    for loss in losses(rows):
        row = loss.row
        ratio = f"{loss.ratio:.2f}x" if loss.ratio else "  -  "
        lines.append(f"{ratio:>8}  {row.name} {row.figure.name}: {number(row.rivals[OURS].median)} {row.figure.unit}, "
                     f"{loss.to} {number(loss.theirs)}{'' if loss.clear else '  (within the spread)'}")
    return lines


def floor_lines(rows):
    return [f"{ratio:7.2f}x  {row.name}: {number(row.rivals[OURS].median)} {row.figure.unit}, "
            f"floor {number(row.floor)}" for ratio, row in above_floor(rows)]


def write_json(path, head, values):
    path.write_text(json.dumps({**head, "values": values}, indent=1) + "\n", encoding="utf-8")


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f)
        out.writerow(["case", "procs", "figure", "unit", "rival", "median", "low", "high", "spread", "runs", "cpu",
                      "mpg/rival", "target"])
        for row in rows:
            ours = row.rivals.get(OURS)
            for rival, s in row.rivals.items():
                ratio = row.figure.cost_ratio(ours.median, s.median) if ours and rival != OURS else None
                out.writerow([row.case, row.procs, row.figure.name, row.figure.unit, rival, f"{s.median:.6g}",
                              f"{s.low:.6g}", f"{s.high:.6g}", f"{s.spread:.3f}", s.runs,
                              f"{row.cpu[rival]:.6g}" if rival in row.cpu else "",
                              f"{ratio:.3f}" if ratio is not None else "",
                              f"{row.target:.6g}" if rival == OURS and row.target is not None else ""])


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def cell(row, rival):
    s = row.rivals.get(rival)
    if s is None:
        return ""
    return f"{number(s.median)} ±{100 * s.spread:.0f}%" if s.runs > 1 else number(s.median)


def case_tables(rows):
    lines = []
    for name in dict.fromkeys(room(row.name) for row in rows):
        mine = [row for row in rows if room(row.name) == name]
        rivals = [r for r in dict.fromkeys(r for row in mine for r in row.rivals) if r != OURS]
        head = ["case", "procs", "figure", OURS, "its CPU", *rivals, "to the best", "target", "to the target", "floor"]
        body = [[f"`{row.case}`", row.procs, f"{row.figure.name}, {row.figure.unit}", cell(row, OURS),
                 number(row.cpu.get(OURS)), *(cell(row, r) for r in rivals), number(row.ratio_to_best()),
                 number(row.target), number(row.ratio_to_target()), number(row.floor)] for row in mine]
        lines += [f"## {name}", "", *table(head, body), ""]
    return lines


def write_markdown(path, head, rows, pictures):
    m = head["machine"]
    lines = [f"# Benchmarks of {head['date']}", "",
             "Medians; ± is half the distance from the lowest to the highest run. A ratio above 1 says that mpg is the "
             "worse one, also for rates. A target is a share of what a rival takes in the same run (suite/cases.csv). CPU "
             "is that of the whole process for one iteration. What a case is stands in its source; how it is measured, "
             "in docs/performance.md.", ""]
    facts = [(key, m[key]) for key in m if key != "rivals"]
    facts += [("versions", "; ".join(f"{name}: {version}" for name, version in m["rivals"].items())),
              ("command", f"`{head['command']}`"),
              ("rounds", f"{head['rounds']} interleaved, {head['seconds']} s an operation"),
              ("load average", f"{head['load_before']:.2f} before, {head['load_after']:.2f} after"),
              ("stolen", f"{100 * head['steal']:.1f} % of the CPU time, by the hypervisor")]
    lines += table(["", ""], facts) + [""]
    if head["load_before"] > 0.5:
        lines += ["**The machine was not quiet: only ratios of the same run say something.**", ""]
    for what, why in head["absent"].items():
        lines.append(f"- absent: {what}: {why}")
    for problem in head["problems"]:
        lines.append(f"- {problem.splitlines()[0]}")
    lines += ["", *(f"![{p.stem}]({p.name})\n" for p in pictures), *case_tables(rows)]
    lines += ["## Where mpg loses", "", "To the target of the line, or to the best rival in this run.", "", "```",
              *(loss_lines(rows) or ["nowhere"]), "```", "",
              "## More than 1.5 times the floor", "", "What a case is made of at the least stands in suite/floors.csv, "
              "why mpg takes more, in docs/performance.md.", "", "```", *(floor_lines(rows) or ["nothing"]), "```", "",
              "## What the rivals do not have", ""]
    for rival, missing in head["missing"].items():
        lines.append(f"- {rival}: " + (", ".join(f"`{case}`" for case in missing) or "nothing"))
    lines += ["", "## Commands", "", "Of each rival's first case; the others differ in the name.", "", "```",
              *head["commands"].values(), "```"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
