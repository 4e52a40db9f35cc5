"""A binary for another machine, run under emulation: `check`, `test` and `replay` of what is shipped give the same as the
native binary, and `run` loses and doubles nothing when it is killed.

  tests/emulated.py NATIVE EMULATOR… BINARY
"""

import glob
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

NATIVE, EMULATED = [sys.argv[1]], sys.argv[2:]
EVENTS = 3_000
CONFIG = "config/headwater.toml"


def output(binary, *arguments):
    return subprocess.run(binary + list(arguments), check=True, stdout=subprocess.PIPE).stdout


examples = {name: sorted(glob.glob(f"config/examples/{name}/*.slt")) for name in ("patterns", "anomalies", "alarms")}
for name, files in examples.items():
    assert files, f"no examples of {name}"
    output(EMULATED, "check", "--config", f"config/{name}.toml")
    output(EMULATED, "test", "--config", f"config/{name}.toml", *files)
output(EMULATED, "check", "--config", CONFIG)
rows = [output(binary, "replay", "--config", CONFIG, "config/examples/plant.jsonl") for binary in (NATIVE, EMULATED)]
assert rows[0] == rows[1], "replay gives other rows than the native binary"
assert len(rows[0].splitlines()) > 20
output(EMULATED, "test", "--config", CONFIG, "config/examples/plant.slt")
print(f"check and test pass for all examples, replay gives the same {len(rows[0].splitlines())} rows")

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
work = tempfile.mkdtemp(prefix="headwater-emulated.")
broker_conf = os.path.join(work, "mosquitto.conf")
with open(broker_conf, "w") as file:
    file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
with open(os.path.join(work, "headwater.toml"), "w") as file:
    file.write(f'[connections.site]\nurl = "mqtt://127.0.0.1:{port}"\nclient_id = "gateway"\n'
               '[state]\ndir = "state"\n[pipelines]\nfiles = ["*.sql"]\n')
with open(os.path.join(work, "p.sql"), "w") as file:
    file.write("""
      CREATE TABLE events (id BIGINT, device STRING, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts) WITH (
        'connector' = 'mqtt', 'topic' = 'in/events', 'qos' = '1', 'format' = 'json',
        'json.timestamp-format.standard' = 'epoch-millis');
      CREATE TABLE counts (device STRING, n BIGINT, total BIGINT) WITH (
        'connector' = 'mqtt', 'topic' = 'out/counts', 'qos' = '1', 'format' = 'json', 'json.id-field' = 'event');
      INSERT INTO counts SELECT device, COUNT(*), SUM(id)
      FROM TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY device, window_start, window_end;
    """)
broker = subprocess.Popen(["mosquitto", "-c", broker_conf], stderr=subprocess.DEVNULL)
children = [broker]
try:
    time.sleep(1)
    counts = {}
    sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-p", str(port), "-q", "1", "-t", "out/#"], stdout=subprocess.PIPE, text=True)
    children.append(sub)

    def read():
        for line in sub.stdout:
            row = json.loads(line)
            known = counts.setdefault(row["event"], row)
            assert known == row, f"another result for a window: {known} {row}"

    threading.Thread(target=read, daemon=True).start()

    def start():
        log = open(os.path.join(work, "log"), "ab")
        child = subprocess.Popen(EMULATED + ["run", "--config", os.path.join(work, "headwater.toml")], stderr=log)
        children.append(child)
        return child

    def until(what, done, seconds=120):
        end = time.time() + seconds
        while not done():
            if time.time() > end:
                raise SystemExit(f"waited in vain: {what}; {sum(row['n'] for row in counts.values())} counted; "
                                 + open(os.path.join(work, "log")).read()[-3000:])
            time.sleep(0.05)

    log = os.path.join(work, "log")
    headwater = start()
    until("the subscription", lambda: os.path.exists(log) and "connected to the broker" in open(log).read())
    time.sleep(2)
    first = int(time.time() * 1000) - 3_600_000
    pub = subprocess.Popen(["mosquitto_pub", "-p", str(port), "-q", "1", "-t", "in/events", "-l"], stdin=subprocess.PIPE, text=True)
    children.append(pub)

    def feed():
        for number in range(EVENTS):
            event = {"id": number, "device": f"d{number % 7}", "ts": first + number * 10}
            pub.stdin.write(json.dumps(event) + "\n")
            pub.stdin.flush()
            time.sleep(0.001)
        # It closes all windows.
        pub.stdin.write(json.dumps({"id": 0, "device": "end", "ts": first + EVENTS * 10 + 60_000}) + "\n")
        pub.stdin.close()

    feeding = threading.Thread(target=feed)
    feeding.start()
    until("windows before the kill", lambda: len(counts) >= 40)
    os.kill(headwater.pid, signal.SIGKILL)
    headwater.wait()
    headwater = start()
    feeding.join()
    until("all windows", lambda: sum(row["n"] for row in counts.values()) >= EVENTS)
    time.sleep(2)
    assert sum(row["n"] for row in counts.values()) == EVENTS
    assert sum(row["total"] for row in counts.values()) == EVENTS * (EVENTS - 1) // 2
    headwater.send_signal(signal.SIGTERM)
    assert headwater.wait(30) == 0
    print(f"{EVENTS} events with a kill: each counted once in {len(counts)} windows")
finally:
    for child in children:
        child.kill()
    subprocess.run(["rm", "-rf", work])
