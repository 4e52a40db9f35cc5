"""What a shipped binary is optimised for, played with an instrumented one: see cross/profile.

  cross/train.py first|days|tls|operators [EMULATOR…] BINARY

`first`, what every gateway does: `run` with a broker, devices that report, windows, a filter, rows that go out, and a start
with state. `days`, what most do in a minute: more queries, a broker upstream that is away for a while, broken messages, a
reload, and a start with all that waits. `tls`, the same with that broker behind TLS. `operators`, what has no part in all this:
the examples and the files in tests/sql. A function that is never run here is laid out among the cold ones and made
small; it stays as correct as it was.

Fails if what should have happened did not. Where the counts go is said by LLVM_PROFILE_FILE.
"""

import glob
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BINARY = sys.argv[2:]
EVENTS = 20_000
DEVICES = 500
FIRST = """
CREATE TABLE readings (device STRING, ts TIMESTAMP_LTZ(3), x DOUBLE, level INT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'mqtt', 'connection' = 'site', 'topic' = 'readings/+', 'qos' = '1', 'format' = 'json',
      'json.timestamp-format.standard' = 'epoch-millis');
CREATE TABLE sums (device STRING, window_end TIMESTAMP(3), n BIGINT, mean DOUBLE, greatest DOUBLE)
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'sums/{device}', 'qos' = '1', 'format' = 'json',
      'json.id-field' = 'event');
CREATE TABLE totals (device STRING, n BIGINT, mean DOUBLE)
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'totals/{device}', 'qos' = '1', 'format' = 'json');
CREATE TABLE jumps (device STRING, ts TIMESTAMP_LTZ(3), x DOUBLE)
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'jumps', 'qos' = '1', 'format' = 'json');
INSERT INTO sums SELECT device, window_end, COUNT(*), AVG(x), MAX(x)
FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY device, window_start, window_end;
INSERT INTO totals SELECT device, COUNT(*), AVG(x)
FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY device, window_start, window_end;
INSERT INTO jumps SELECT device, ts, x FROM readings WHERE x >= 40;
"""
SQL = FIRST + """
CREATE TABLE rises (device STRING, first TIMESTAMP_LTZ(3), last TIMESTAMP_LTZ(3))
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'rises', 'qos' = '1', 'format' = 'json');
CREATE TABLE odd (device STRING, score DOUBLE)
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'odd', 'qos' = '1', 'format' = 'json');
INSERT INTO rises SELECT device, first, last FROM readings MATCH_RECOGNIZE (PARTITION BY device ORDER BY ts
  MEASURES A.ts AS first, C.ts AS last AFTER MATCH SKIP PAST LAST ROW PATTERN (A B C) WITHIN INTERVAL '10' MINUTE
  DEFINE A AS A.x > 6, B AS B.x > A.x, C AS C.level > 2);
INSERT INTO odd SELECT device, a.score FROM (SELECT device, ANOMALY_SCORE(x) OVER (PARTITION BY device ORDER BY ts) AS a
  FROM readings) WHERE a.alarm;
"""
CERTIFICATE = ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=localhost "
               "-addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem")


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Gateway:
    """A folder with brokers and a configuration, and what runs in it."""

    def __init__(self, place, tls=False, alone=False):
        """`alone`: its broker is the one upstream, too, and it has only the first queries."""
        self.place = place
        self.children = []
        self.site_port, self.upstream_port, self.plain_port = free_ports(3)
        subprocess.run(CERTIFICATE.split(), cwd=place, check=True, stderr=subprocess.DEVNULL)
        (place / "site.conf").write_text(
            f"listener {self.site_port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        # Without TLS for the subscriber.
        (place / "upstream.conf").write_text(
            f"user root\nallow_anonymous true\nmax_queued_messages 0\n"
            f"listener {self.plain_port} 127.0.0.1\n"
            f"listener {self.upstream_port} 127.0.0.1\ncertfile {place}/cert.pem\nkeyfile {place}/key.pem\n")
        self.rows_port = self.site_port if alone else self.plain_port
        (place / "p.sql").write_text(re.sub("'connection' = '[a-z]+', ", "", FIRST) if alone else SQL)
        upstream = (f'url = "mqtts://localhost:{self.upstream_port}"\nca_file = "cert.pem"' if tls else
                    f'url = "mqtt://127.0.0.1:{self.plain_port}"')
        (place / "headwater.toml").write_text(
            f'[connections.site]\nurl = "mqtt://127.0.0.1:{self.site_port}"\nclient_id = "gateway"\n'
            + ("" if alone else f"[connections.upstream]\n{upstream}\n") +
            '[state]\ndir = "state"\n[commit]\ninterval = "50ms"\n[limits]\nmax_keys = 50000\n[pipelines]\nfiles = ["*.sql"]\n')
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(place / "notify"))
        self.ready = threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()

    def start(self, command, **options):
        child = subprocess.Popen(command, **options)
        self.children.append(child)
        return child

    def broker(self, name):
        broker = self.start(["mosquitto", "-c", self.place / f"{name}.conf"], stderr=subprocess.DEVNULL)
        time.sleep(1)
        return broker

    def run(self):
        """Headwater as under a service manager, from its start to its readiness."""
        self.ready.clear()
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.place / "notify")}
        headwater = self.start([*BINARY, "run", "--config", self.place / "headwater.toml"], env=environment,
                               stderr=open(self.place / "log", "ab"))
        if not self.ready.wait(120):
            raise SystemExit(f"cross/train.py: run does not get ready: {self.log()}")
        time.sleep(2)
        return headwater

    def listen(self):
        while True:
            if "READY=1" in self.notify.recv(4096).decode():
                self.ready.set()

    def publish(self, topic, events):
        lines = "".join(json.dumps(event) + "\n" for event in events)
        subprocess.run(["mosquitto_pub", "-p", str(self.site_port), "-q", "1", "-t", topic, "-l"], input=lines, text=True,
                       check=True)

    def log(self):
        return (self.place / "log").read_text()[-3000:]

    def end(self):
        for child in self.children:
            child.kill()


def readings(first, count, start):
    """Devices that report every ten seconds, each a wave with a jump now and then."""
    for number in range(first, first + count):
        device, round_ = number % DEVICES, number // DEVICES
        yield {"device": f"device-{device}", "ts": start + round_ * 10_000 + device, "level": number * 7 % 11,
               "x": round(5 + number * 13 % 31 / 9, 2) + (40 if number % 4_001 == 0 else 0), "unit": "mm/s", "ok": True}


def stop(gateway, headwater):
    headwater.send_signal(signal.SIGTERM)
    if headwater.wait(120) != 0:
        raise SystemExit(f"cross/train.py: run ended with {headwater.returncode}: {gateway.log()}")


class Upstream:
    """Counts the rows that come to the broker upstream."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.rows = 0

    def subscribe(self):
        subscriber = self.gateway.start(["mosquitto_sub", "-p", str(self.gateway.rows_port), "-q", "1", "-t", "sums/#"],
                                        stdout=subprocess.PIPE)
        threading.Thread(target=self.read, args=(subscriber.stdout,), daemon=True).start()
        time.sleep(0.5)

    def read(self, lines):
        for _ in lines:
            self.rows += 1

    def until(self, wanted):
        end = time.time() + 120
        while self.rows < wanted:
            if time.time() > end:
                raise SystemExit(f"cross/train.py: {self.rows} rows came upstream, not {wanted}: {self.gateway.log()}")
            time.sleep(0.1)


def windows(events):
    """How many rows so many events give, but for the windows that are open."""
    return (events // DEVICES // 6 - 1) * DEVICES


def first():
    with tempfile.TemporaryDirectory(prefix="headwater-train.") as folder:
        gateway = Gateway(pathlib.Path(folder), alone=True)
        try:
            gateway.broker("site")
            upstream = Upstream(gateway)
            upstream.subscribe()
            start = (int(time.time()) // 60 - 60) * 60_000
            few = EVENTS // 4
            for begin in range(0, 2 * few, few):
                headwater = gateway.run()
                gateway.publish("readings/a", readings(begin, few, start))
                upstream.until(windows(begin + few))
                stop(gateway, headwater)
        finally:
            gateway.end()
    print(f"cross/train.py: {2 * few} events, {upstream.rows} rows upstream")


def days(tls):
    with tempfile.TemporaryDirectory(prefix="headwater-train.") as folder:
        gateway = Gateway(pathlib.Path(folder), tls)
        try:
            gateway.broker("site")
            broker = gateway.broker("upstream")
            upstream = Upstream(gateway)
            upstream.subscribe()
            start = (int(time.time()) // 60 - 60) * 60_000
            headwater = gateway.run()
            half = EVENTS // 2
            gateway.publish("readings/a", readings(0, half, start))
            gateway.publish("readings/broken", ["no object", {"device": 1, "ts": "never"}])
            upstream.until(windows(half))
            headwater.send_signal(signal.SIGHUP)
            time.sleep(1)
            stop(gateway, headwater)
            # Upstream is away when it starts again, with its state.
            broker.kill()
            broker.wait()
            headwater = gateway.run()
            gateway.publish("readings/a", readings(half, half, start))
            time.sleep(2)
            gateway.broker("upstream")
            upstream.subscribe()
            # Windows of before the restart, which have been counted, and those after it.
            upstream.until(windows(EVENTS))
            stop(gateway, headwater)
        finally:
            gateway.end()
    print(f"cross/train.py: {EVENTS} events, {upstream.rows} rows upstream")


def operators():
    def run(*arguments):
        subprocess.run([*BINARY, *arguments], check=True, stdout=subprocess.DEVNULL)

    run("replay", "--config", "config/headwater.toml", "config/examples/plant.jsonl")
    for name in ("patterns", "anomalies", "alarms"):
        run("test", "--config", f"config/{name}.toml", *sorted(glob.glob(f"config/examples/{name}/*.slt")))
    # One file takes longer than all others together, over a million rows, and shows nothing that the rest does not.
    run("test", *sorted(set(glob.glob("tests/sql/*.slt")) - {"tests/sql/alarms_silence.slt"}))


os.chdir(pathlib.Path(__file__).resolve().parent.parent)
{"first": first, "days": lambda: days(tls=False), "tls": lambda: days(tls=True), "operators": operators}[sys.argv[1]]()
