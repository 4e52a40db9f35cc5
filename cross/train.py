"""What a shipped binary is optimised for, played with an instrumented one: see cross/profile.

  cross/train.py days|operators [EMULATOR…] BINARY

`days`, a gateway's in a minute: `run` with a broker on site and one upstream, behind TLS and without, devices that report,
rows that are forwarded, upstream away for a while, a reload, an orderly end, and a start with state. `operators`, those that
have no part in that: the examples and the files in tests/sql. A function that is never run here is laid out among the cold
ones and made small; it stays as correct as it was.

Fails if what should have happened did not. Where the counts go is said by LLVM_PROFILE_FILE.
"""

import glob
import json
import os
import pathlib
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
SQL = """
CREATE TABLE readings (device STRING, ts TIMESTAMP_LTZ(3), x DOUBLE, level INT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'mqtt', 'connection' = 'site', 'topic' = 'readings/+', 'qos' = '1', 'format' = 'json',
      'json.timestamp-format.standard' = 'epoch-millis');
CREATE TABLE sums (device STRING, window_end TIMESTAMP(3), n BIGINT, mean DOUBLE, greatest DOUBLE)
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'sums/{device}', 'qos' = '1', 'format' = 'json',
      'json.id-field' = 'event');
CREATE TABLE rises (device STRING, first TIMESTAMP_LTZ(3), last TIMESTAMP_LTZ(3))
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'rises', 'qos' = '1', 'format' = 'json');
CREATE TABLE odd (device STRING, score DOUBLE)
WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'odd', 'qos' = '1', 'format' = 'json');
INSERT INTO sums SELECT device, window_end, COUNT(*), AVG(x), MAX(x)
FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY device, window_start, window_end;
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

    def __init__(self, place, tls):
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
        (place / "p.sql").write_text(SQL)
        upstream = (f'url = "mqtts://localhost:{self.upstream_port}"\nca_file = "cert.pem"' if tls else
                    f'url = "mqtt://127.0.0.1:{self.plain_port}"')
        (place / "headwater.toml").write_text(
            f'[connections.site]\nurl = "mqtt://127.0.0.1:{self.site_port}"\nclient_id = "gateway"\n'
            f'[connections.upstream]\n{upstream}\n'
            '[state]\ndir = "state"\n[commit]\ninterval = "50ms"\n[pipelines]\nfiles = ["*.sql"]\n')
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


def days(tls):
    with tempfile.TemporaryDirectory(prefix="headwater-train.") as folder:
        gateway = Gateway(pathlib.Path(folder), tls)
        rows = 0

        def read(lines):
            nonlocal rows
            for _ in lines:
                rows += 1

        def until(wanted):
            end = time.time() + 120
            while rows < wanted:
                if time.time() > end:
                    raise SystemExit(f"cross/train.py: {rows} rows came upstream, not {wanted}: {gateway.log()}")
                time.sleep(0.1)

        try:
            gateway.broker("site")
            upstream = gateway.broker("upstream")

            def subscribe():
                subscriber = gateway.start(["mosquitto_sub", "-p", str(gateway.plain_port), "-q", "1", "-t", "sums/#"],
                                           stdout=subprocess.PIPE)
                threading.Thread(target=read, args=(subscriber.stdout,), daemon=True).start()
                time.sleep(0.5)

            subscribe()
            start = (int(time.time()) // 60 - 60) * 60_000
            headwater = gateway.run()
            half = EVENTS // 2
            gateway.publish("readings/a", readings(0, half, start))
            gateway.publish("readings/broken", ["no object", {"device": 1, "ts": "never"}])
            windows = half // DEVICES // 6 - 1
            until(windows * DEVICES)
            headwater.send_signal(signal.SIGHUP)
            time.sleep(1)
            stop(gateway, headwater)
            # Upstream is away when it starts again, with its state.
            upstream.kill()
            upstream.wait()
            headwater = gateway.run()
            gateway.publish("readings/a", readings(half, half, start))
            time.sleep(2)
            gateway.broker("upstream")
            subscribe()
            # Windows of before the restart, which have been counted, and those after it.
            until((EVENTS // DEVICES // 6 - 1) * DEVICES)
            stop(gateway, headwater)
        finally:
            gateway.end()
    print(f"cross/train.py: {EVENTS} events, {rows} rows upstream")


def operators():
    def run(*arguments):
        subprocess.run([*BINARY, *arguments], check=True, stdout=subprocess.DEVNULL)

    run("replay", "--config", "config/headwater.toml", "config/examples/plant.jsonl")
    for name in ("patterns", "anomalies", "alarms"):
        run("test", "--config", f"config/{name}.toml", *sorted(glob.glob(f"config/examples/{name}/*.slt")))
    # One file takes longer than all others together, over a million rows, and shows nothing that the rest does not.
    run("test", *sorted(set(glob.glob("tests/sql/*.slt")) - {"tests/sql/alarms_silence.slt"}))


os.chdir(pathlib.Path(__file__).resolve().parent.parent)
if sys.argv[1] == "days":
    days(tls=True)
    days(tls=False)
else:
    operators()
