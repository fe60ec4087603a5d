#!/usr/bin/env python3
"""How ottla's speed depends on partitions, threads, brokers, the size of messages and that of the queue.

    benches/scale.py                  measure all, write benches/scale.json and benches/scale.svg
    benches/scale.py --quick          once each, few messages: only to see that it works
    benches/scale.py --axes threads   only some of the axes
    benches/scale.py --draw           draw scale.json again, without measuring

It runs the example producer_perf, by itself against the in-process cluster, which takes its part of the processors and
of the memory. --sink COMMAND names a broker that keeps nothing and is a process of its own, so that the figures are
the client's alone: a command whose first line of output has HOST:PORT as its second word, and in which {partitions} is
replaced by how many its topic shall have, for example

    benches/scale.py --sink 'nullsink --listen 127.0.0.1:0 --partitions {partitions}'

It serves all axes but that of the brokers. Needs Python 3 and nothing else, and a machine that has nothing else to do.
"""

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Bytes that a run produces, about: the in-process cluster keeps them all.
RUN_BYTES = 100_000_000
# What a sink can take more, since it keeps nothing.
SINK_TIMES = 5
RECORD_OVERHEAD = 1000


class Axis:
    """One thing that is varied while the rest stays: 100 bytes, 3 partitions, one thread, one broker."""

    def __init__(self, name, title, label, values, options, brokers=False, by_bytes=False):
        self.name, self.title, self.label, self.values = name, title, label, values
        self.options, self.brokers, self.by_bytes = options, brokers, by_bytes


def size_options(size):
    return ["--size", size, "--batch-bytes", max(1_000_000, size + RECORD_OVERHEAD)]


AXES = [
    Axis("partitions", "Partitions", "partitions, a message to each in turn", [1, 100, 10_000],
         lambda value: ["--partitions", value]),
    Axis("threads", "Threads", "threads that produce", [1, 2, 4, 8], lambda value: ["--threads", value]),
    Axis("brokers", "Brokers", "brokers, in the client's process", [1, 3, 10],
         lambda value: ["--brokers", value, "--partitions", 30], brokers=True),
    Axis("size", "Size of messages", "size of a message", [10, 100, 1_000, 10_000, 100_000, 1_000_000],
         size_options, by_bytes=True),
    Axis("queue", "Size of the queue", "messages that the queue holds", [1_000, 10_000, 100_000, 1_000_000],
         lambda value: ["--queue-messages", value, "--queue-bytes", 256 << 20]),
]


def main():
    arguments = parse()
    folder = Path(arguments.out)
    data, picture = folder / "scale.json", folder / "scale.svg"
    if arguments.draw:
        found = json.loads(data.read_text())
    else:
        found = measure(arguments)
        data.write_text(json.dumps(found, indent=1) + "\n")
    picture.write_text(draw(found))
    print(f"{data}\n{picture}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [axis.name for axis in AXES]
    parser.add_argument("--runs", type=int, default=3, help="of each point, of which the median counts (default 3)")
    parser.add_argument("--quick", action="store_true", help="one run of few messages for each point")
    parser.add_argument("--axes", default=",".join(names), help="of " + ",".join(names) + " (default all)")
    parser.add_argument("--sink", metavar="COMMAND", help="a broker that keeps nothing")
    parser.add_argument("--out", metavar="DIR", default=ROOT / "benches", help="where to write (default benches)")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    parser.add_argument("--program", metavar="PATH", help="producer_perf, already built")
    arguments = parser.parse_args()
    arguments.axes = arguments.axes.split(",")
    unknown = set(arguments.axes) - set(names)
    if unknown:
        parser.error("there is no axis " + ", ".join(sorted(unknown)))
    if arguments.sink and "{partitions}" not in arguments.sink:
        parser.error("--sink needs {partitions} in its command")
    return arguments


# Measuring.


def measure(arguments):
    program = arguments.program or build()
    runs = 1 if arguments.quick else arguments.runs
    axes = []
    for axis in AXES:
        if axis.name not in arguments.axes:
            continue
        sink = None if axis.brokers else arguments.sink
        budget = RUN_BYTES * (SINK_TIMES if sink else 1) // (20 if arguments.quick else 1)
        points = [point(program, axis, value, runs, sink, budget) for value in axis.values]
        axes.append({"axis": axis.name, "sink": sink is not None, "points": points})
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "runs": runs,
        "quick": arguments.quick,
        "axes": axes,
    }


def build():
    command = ["cargo", "build", "--release", "--example", "producer_perf"]
    subprocess.run(command, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "producer_perf"


def point(program, axis, value, runs, sink, budget):
    """The medians of all runs of one point, each figure by itself."""
    size = value if axis.by_bytes else 100
    # Small messages cost more than their bytes.
    count = max(budget // max(size, 50), 20)
    partitions = value if axis.name == "partitions" else 3
    options = ["--count", count, "--warmup", count // 10, *axis.options(value)]
    accounts = [run(program, options, sink, partitions) for _ in range(runs)]

    def median(figure):
        return statistics.median(figure(account) for account in accounts)

    found = {
        "value": value,
        "messages": count,
        "messages_per_second": round(median(lambda account: account["n"] / account["wall_s"])),
        "mb_per_second": round(median(lambda account: account["bytes"] / account["wall_s"]) / 1e6, 3),
        "cpu_us_per_message": round(
            median(lambda account: (account["user_s"] + account["sys_s"]) / account["n"]) * 1e6, 4),
        "peak_mb": round(median(lambda account: account["max_rss_kb"]) / 1024, 1),
    }
    print(f"{axis.name} {value}: {found['messages_per_second']} messages/s, {found['mb_per_second']} MB/s, "
          f"{found['cpu_us_per_message']} us/message, {found['peak_mb']} MB", file=sys.stderr)
    return found


def run(program, options, sink, partitions):
    """The account of one run of producer_perf."""
    command = [str(part) for part in [program, *options]]
    broker = None
    try:
        if sink:
            words = shlex.split(sink.replace("{partitions}", str(partitions)))
            broker = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            line = broker.stdout.readline().split()
            if len(line) < 2:
                sys.exit(f"the first line of the sink has no second word: {' '.join(line)!r}")
            command += ["--bootstrap", line[1]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        if broker:
            broker.kill()
            broker.wait()
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


# Drawing.

WIDTH, MARGIN = 1020, 24
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT, TOP = 3, (WIDTH - 2 * MARGIN) // 3, 400, 84
# Inside a panel: the two plots, one above the other, on the same x axis.
LEFT, RIGHT, PLOT_HEIGHT, PLOTS = 58, 18, 130, (46, 204)
INK, FAINT, GRID = "#1f2933", "#66727f", "#e3e7eb"
COLOURS = ("#1769aa", "#c2410c")
FONT = "font-family=\"'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif\""


def draw(found):
    axes = {axis.name: axis for axis in AXES}
    rows = math.ceil(len(found["axes"]) / COLUMNS)
    height = TOP + rows * PANEL_HEIGHT + 16
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(MARGIN, 34, "How ottla scales", 20, weight="bold"),
        text(MARGIN, 57, subtitle(found), 12, FAINT),
        text(MARGIN, 75, conditions(found), 12, FAINT),
    ]
    for index, measured in enumerate(found["axes"]):
        x = MARGIN + index % COLUMNS * PANEL_WIDTH
        y = TOP + index // COLUMNS * PANEL_HEIGHT
        out += panel(axes[measured["axis"]], measured, x, y)
    if len(found["axes"]) % COLUMNS == COLUMNS - 1:
        # The place that is left.
        out += notes(found, MARGIN + (COLUMNS - 1) * PANEL_WIDTH, TOP + (rows - 1) * PANEL_HEIGHT)
    return "\n".join(out + ["</svg>"]) + "\n"


def subtitle(found):
    runs = f"medians of {found['runs']} runs" if found["runs"] > 1 else "one run"
    if found["quick"]:
        runs = "one quick run, which says nothing"
    return f"{found['date']}, {found['machine']}; {runs}"


def conditions(found):
    return "Messages of 100 bytes without a key, 3 partitions, one thread and one broker, but for what a panel is about."


def notes(found, x, y):
    sinks = {axis["axis"]: axis["sink"] for axis in found["axes"]}
    words = ["Acks of all replicas, idempotent,", "5 ms to linger, batches of 1 MB,", "a queue of 100,000 messages.", ""]
    if any(sinks.values()):
        words += ["The broker is another process that", "acknowledges at once and keeps", "nothing."]
        if "brokers" in sinks:
            words += ["", "Brokers: an in-process cluster with", "30 partitions."]
    else:
        words += ["The brokers are in the client's process", "and keep all messages: they take their", "part of the processors."]
        if "brokers" in sinks:
            words += ["", "Brokers: 30 partitions."]
    words += ["", "CPU: user and system time of the", "client's process.", "", "All horizontal axes are logarithmic."]
    head = text(x + 4, y + 24, "How it was measured", 15, weight="bold")
    return [head] + [text(x + 4, y + 48 + 18 * index, words, 12, FAINT) for index, words in enumerate(words)]


def panel(axis, measured, x, y):
    points = measured["points"]
    xs = [point["value"] for point in points]
    if axis.by_bytes:
        throughput = ("MB/s", [point["mb_per_second"] for point in points])
    else:
        throughput = ("million messages/s", [point["messages_per_second"] / 1e6 for point in points])
    whose = "" if measured["sink"] else ", cluster included"
    cost = (f"CPU µs per message{whose}", [point["cpu_us_per_message"] for point in points])
    out = [text(x + 4, y + 24, axis.title, 15, weight="bold")]
    for (label, ys), top, colour in zip((throughput, cost), PLOTS, COLOURS):
        out += plot(x + LEFT, y + top, xs, ys, label, colour)
    bottom = y + PLOTS[1] + PLOT_HEIGHT
    for value in xs:
        words = in_bytes(value) if axis.by_bytes else f"{value:,}"
        out.append(text(x_of(value, xs, x + LEFT), bottom + 18, words, 11, INK, "middle"))
    middle = x + LEFT + (PANEL_WIDTH - LEFT - RIGHT) / 2
    out.append(text(middle, bottom + 36, axis.label, 12, FAINT, "middle"))
    return out


def plot(x, y, xs, ys, label, colour):
    """One line over a logarithmic x axis; y begins at 0 unless it spans too much for that."""
    right, bottom = x + PANEL_WIDTH - LEFT - RIGHT, y + PLOT_HEIGHT
    is_log = max(ys) > 30 * max(min(ys), 1e-9)
    ticks = decades(min(ys), max(ys)) if is_log else steps(max(ys))
    # Room for the figure above the highest point.
    room, most = PLOT_HEIGHT - 28, max(*ys, ticks[-1])

    def y_of(value):
        if is_log:
            return bottom - room * math.log(value / ticks[0]) / math.log(most / ticks[0])
        return bottom - room * value / most

    out = [text(x - LEFT + 4, y + 2, label + (", logarithmic" if is_log else ""), 12, colour)]
    for tick in ticks:
        at = y_of(tick)
        out.append(line(x, at, right, at, GRID if tick != ticks[0] else FAINT))
        out.append(text(x - 7, at + 4, f"{tick:,.10g}", 11, FAINT, "end"))
    for value in xs:
        out.append(line(x_of(value, xs, x), bottom, x_of(value, xs, x), bottom + 4, FAINT))
    places = [(x_of(a, xs, x), y_of(b)) for a, b in zip(xs, ys)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>')
    for (a, b), value in zip(places, ys):
        out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>')
        out.append(text(a, b - 8, exact(value), 11, INK, "middle", halo=True))
    return out


def x_of(value, xs, x):
    """Half a label's width is left on both sides."""
    inset, width = 18, PANEL_WIDTH - LEFT - RIGHT
    return x + inset + (width - 2 * inset) * math.log(value / xs[0]) / math.log(xs[-1] / xs[0])


def steps(most):
    """From 0 to above the most, in three or four round steps."""
    raw = most / 3
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    return [step * index for index in range(math.ceil(most / step - 1e-9) + 1)]


def decades(least, most):
    """Powers of ten from below the least to the most, or of a hundred and so on where these are too many."""
    low, high = math.floor(math.log10(least)), math.floor(math.log10(most))
    return [10.0 ** power for power in range(low, high + 1, math.ceil((high - low) / 4))]


def in_bytes(value):
    for factor, unit in ((1_000_000, "MB"), (1_000, "KB")):
        if value >= factor:
            return f"{value // factor} {unit}"
    return f"{value} B"


def exact(value):
    """As a point has it: three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 if value < 10 else 1}f}" if value >= 0.995 else f"{value:.3f}"


def text(x, y, words, size, colour=INK, anchor="start", weight="normal", halo=False):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    # White around it, where a line may pass behind.
    around = ' stroke="#ffffff" stroke-width="3" paint-order="stroke"' if halo else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}"{around}>{words}</text>')


def line(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


if __name__ == "__main__":
    main()
