#!/usr/bin/env python3
"""Replays the series of the Numenta Anomaly Benchmark through `headwater replay`, and scores what comes out.

    benches/nab/run.py DATA WINDOWS SCORER [--headwater BINARY] [--out DIR] [--set 'lean => TRUE']

DATA     folder with one CSV per series below it, `group/name.csv`, with the columns timestamp and value
WINDOWS  JSON with the labelled windows of each `group/name.csv`; its keys are the series that are run
SCORER   a program that takes --labels and --results DIR, as NAB's scoring does

Each series is a run of its own, so none knows another. The default threshold is used for all of them, and the scorer is
told that every alarm counts. Prints the scores, and then what a key and an event cost, of the default and of lean: bytes
of state, time and instructions (`cargo run --example anomaly_cost`, under valgrind).
"""
import argparse
import csv
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Events whose instructions are counted, from the first one on.
COUNTED = 20_000


def recording(path):
    """The messages of a series, as `mosquitto_sub -F %j` writes them; and its rows.

    Where a series steps back in time its rows are fed in their order, at the latest time so far: they are not late."""
    lines, rows, latest = [], [], ""
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            latest = max(latest, row["timestamp"].strip().replace(" ", "T"))
            time = latest + "Z"
            payload = json.dumps({"ts": time, "x": float(row["value"])})
            lines.append(json.dumps({"topic": "nab/series", "payload": payload, "qos": 1, "tst": time}))
            rows.append((row["timestamp"], row["value"]))
    return "\n".join(lines) + "\n", rows


def replay(binary, config, path):
    messages, rows = recording(path)
    run = subprocess.run(
        [binary, "replay", "--config", str(config), "-"],
        input=messages, capture_output=True, text=True, check=False,
    )
    if run.returncode != 0:
        sys.exit(f"{path}: {run.stderr}")
    given = [json.loads(line) for line in run.stdout.splitlines()]
    if len(given) != len(rows):
        sys.exit(f"{path}: {len(rows)} rows in, {len(given)} out: {run.stderr}")
    return [(time, value, row["anomaly_score"]) for (time, value), row in zip(rows, given)]


def cost():
    """Prints bytes per key, time and instructions per event, with the optimiser's full work."""
    build = ["cargo", "build", "--quiet", "--profile", "bench", "--no-default-features", "--example", "anomaly_cost", "--message-format=json"]
    built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = [json.loads(line) for line in built.splitlines()]
    program = next(m["executable"] for m in found if m.get("executable") and m["target"]["name"] == "anomaly_cost")
    for mode in ["default", "lean"]:
        said = subprocess.run([program, "1000000", mode], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        with tempfile.TemporaryDirectory() as scratch:
            count = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={scratch}/out",
                     "--toggle-collect=anomaly_cost::take*", program, str(COUNTED), mode]
            counted = subprocess.run(count, check=True, capture_output=True, text=True).stderr
        instructions = int(re.search(r"Collected : (\d+)", counted)[1]) / COUNTED
        print(f"{said}, {instructions:,.0f} instructions", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("windows", type=pathlib.Path)
    parser.add_argument("scorer")
    parser.add_argument("--headwater", default=str(ROOT / "target/debug/headwater"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--set", default="", help="settings of ANOMALY_SCORE other than the defaults")
    arguments = parser.parse_args()
    series = sorted(json.loads(arguments.windows.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        out = arguments.out or scratch / "results"
        sql = (HERE / "pipelines/nab.sql").read_text(encoding="utf-8")
        if arguments.set:
            sql = sql.replace("ANOMALY_SCORE(x)", f"ANOMALY_SCORE(x, {arguments.set})")
        (scratch / "pipelines").mkdir()
        (scratch / "pipelines/nab.sql").write_text(sql, encoding="utf-8")
        config = scratch / "headwater.toml"
        config.write_text((HERE / "headwater.toml").read_text(encoding="utf-8"), encoding="utf-8")
        for name in series:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["timestamp", "value", "anomaly_score"])
                writer.writerows(replay(arguments.headwater, config, arguments.data / name))
        for title, threshold in [("every alarm", ["--threshold", "0.000001"]), ("best threshold", [])]:
            print(f"{title}:", flush=True)
            subprocess.run(
                [sys.executable, arguments.scorer, "--labels", str(arguments.windows), "--results", str(out), *threshold],
                check=True,
            )
    cost()


if __name__ == "__main__":
    main()
