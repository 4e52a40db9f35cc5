"""The package on an emulated gateway: installed, fed, its power cut, looked at. Called by tests/pi/run.

The broker that feeds and that takes what comes out stands on this machine, outside of what loses its power, so that
what it was told is known. What Headwater has acknowledged to it is not sent again: if it were lost, it would be missing.
"""

import collections
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time

CACHE, DEB = sys.argv[1], sys.argv[2]
PORT = 18990
DEVICES = 50
CONFIG = f"""
[connections.site]
url = "mqtt://10.0.2.2:{PORT}"
client_id = "gateway"
[connections.local]
url = "mqtt://localhost:1883"
[state]
dir = "/var/lib/headwater"
[limits]
max_keys = 200000
[pipelines]
files = ["pipelines/*.sql"]
"""
SQL = """
CREATE TABLE events (
  id BIGINT, device STRING, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'mqtt', 'connection' = 'site', 'topic' = 'in/events', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'epoch-millis');
CREATE TABLE copies (id BIGINT) WITH ('connector' = 'mqtt', 'connection' = 'site', 'topic' = 'out/copies', 'qos' = '1',
  'format' = 'json', 'json.id-field' = 'event');
CREATE TABLE counts (device STRING, n BIGINT, total BIGINT) WITH ('connector' = 'mqtt', 'connection' = 'site',
  'topic' = 'out/counts', 'qos' = '1', 'format' = 'json', 'json.id-field' = 'event');
INSERT INTO copies SELECT id FROM events WHERE id >= 0;
INSERT INTO counts SELECT device, COUNT(*), SUM(id) FROM TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY device, window_start, window_end;
"""


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


class Machine:
    """The emulated gateway, driven over its serial line."""

    def __init__(self, image, volatile):
        self.children = []
        drive = f"file={image},format=raw,cache=writeback"
        if volatile:
            # Writes stay in a cache that only a flush empties; it is lost with the power.
            socket = os.path.join(os.path.dirname(image), "nbd.sock")
            if os.path.exists(socket):
                os.unlink(socket)
            command = ["nbdkit", "-f", "-U", socket, "--filter=cache", "file", image, "cache=writeback"]
            self.children.append(subprocess.Popen(command, preexec_fn=os.setsid))
            while not os.path.exists(socket):
                time.sleep(0.1)
            drive = f"file=nbd+unix:///?socket={socket},format=raw,cache=writeback"
        self.begin = time.time()
        self.qemu = subprocess.Popen(
            ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512",
             "-kernel", f"{CACHE}/vmlinuz", "-initrd", f"{CACHE}/initrd.gz",
             "-append", "console=ttyAMA0 quiet loglevel=3 mitigations=off",
             "-drive", f"if=none,id=d0,{drive}", "-device", "virtio-blk-pci,drive=d0",
             "-drive", f"file={PACKAGE},format=raw,if=none,id=d1,readonly=on", "-device", "virtio-blk-pci,drive=d1",
             "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=", "-display", "none", "-monitor", "none", "-serial", "stdio",
             "-no-reboot"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=os.setsid)
        self.children.append(self.qemu)
        os.set_blocking(self.qemu.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.qemu.stdout, selectors.EVENT_READ)
        self.seen = ""
        self.number = 0

    def until(self, pattern, seconds):
        end = time.time() + seconds
        while time.time() < end:
            if found := re.search(pattern, self.seen):
                before, self.seen = self.seen[:found.start()], self.seen[found.end():]
                return before
            if self.selector.select(1):
                piece = os.read(self.qemu.stdout.fileno(), 65536)
                if not piece:
                    raise SystemExit(f"the machine has ended: {self.seen[-2000:]}")
                self.seen += piece.decode(errors="replace").replace("\r", "")
        raise SystemExit(f"waited in vain for {pattern!r}: {self.seen[-2000:]}")

    def type(self, line):
        self.qemu.stdin.write(line.encode() + b"\n")
        self.qemu.stdin.flush()

    def login(self):
        self.until(r"root@gateway:~# ", 900)
        self.type("stty -echo; PS1=; unset PROMPT_COMMAND; bind 'set enable-bracketed-paste off' 2>/dev/null; export PAGER=cat SYSTEMD_PAGER=cat; echo logged-in")
        self.until(r"\nlogged-in\n", 120)
        say(f"root prompt after {time.time() - self.begin:.0f} s")

    def run(self, command, seconds=300, may_fail=False):
        """Runs a command; gives its output."""
        self.number += 1
        mark = f"done-{self.number}"
        self.type(f"{command}\necho \"\"; echo {mark} $?")
        output = self.until(rf"{mark} (?=\d)", seconds)
        while "\n" not in self.seen:
            self.selector.select(1)
            self.seen += (os.read(self.qemu.stdout.fileno(), 65536) or b"").decode(errors="replace").replace("\r", "")
        status, self.seen = self.seen.split("\n", 1)
        if int(status) and not may_fail:
            raise SystemExit(f"{command}: status {status}: {output}")
        return output.strip()

    def cut(self):
        """Cuts the power."""
        for child in reversed(self.children):
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


class Feed:
    """Publishes numbered events, and remembers them."""

    def __init__(self, first_millis):
        self.first_millis = first_millis
        self.next = 0
        self.lock = threading.Lock()
        self.pub = subprocess.Popen(["mosquitto_pub", "-p", str(PORT), "-q", "1", "-t", "in/events", "-i", "feed", "-l"],
                                    stdin=subprocess.PIPE, text=True)

    def send(self, count, pause=0.0):
        for _ in range(count):
            millis = self.first_millis + self.next * 20
            self.line({"id": self.next, "device": f"d{self.next % DEVICES}", "ts": millis})
            self.next += 1
            if pause:
                time.sleep(pause)

    def line(self, event):
        self.pub.stdin.write(json.dumps(event) + "\n")
        self.pub.stdin.flush()


class Watch:
    """What comes out."""

    def __init__(self):
        self.copies = collections.Counter()
        self.ids = {}
        self.counts = {}
        self.sub = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", "-p", str(PORT), "-q", "1", "-c", "-i", "watch", "-t", "out/#", "-v"],
                                    stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.sub.stdout:
            topic, payload = line.split(" ", 1)
            row = json.loads(payload)
            if topic == "out/copies":
                self.copies[row["id"]] += 1
                known = self.ids.setdefault(row["id"], row["event"])
                assert known == row["event"], f"another id for event {row}: {known}"
            else:
                known = self.counts.setdefault(row["event"], row)
                assert known == row, f"another result for a window: {known} {row}"

    def until(self, what, done, seconds=600):
        end = time.time() + seconds
        while not done():
            if time.time() > end:
                raise SystemExit(f"waited in vain: {what}: {len(self.copies)} copies, {len(self.counts)} windows")
            time.sleep(0.2)


def memory(machine, label):
    pid = machine.run("systemctl show -P MainPID headwater")
    text = machine.run(f"cat /proc/{pid}/smaps_rollup")
    value = {key: int(re.search(rf"^{key}: +(\d+) kB", text, re.M)[1]) for key in ("Rss", "Pss", "Private_Dirty")}
    say(f"MEMORY {label}: RSS {value['Rss'] / 1000:.1f} MB, PSS {value['Pss'] / 1000:.1f} MB, private {value['Private_Dirty'] / 1000:.1f} MB")


def recovered(machine, label):
    machine.run("systemctl is-system-running --wait; true", 600)
    failed = machine.run("systemctl --failed --no-legend --plain")
    state = machine.run("systemctl is-active headwater", may_fail=True)
    if state != "active" or failed:
        raise SystemExit(f"after {label}: headwater is {state}; failed: {failed}; {machine.run('journalctl -u headwater -n 30 --no-pager')}")
    say(f"after {label}: the service is back by itself, {time.time() - machine.begin:.0f} s after the power")
    say("STATUS " + machine.run("systemctl show -P StatusText headwater"))


# Ended from outside, it cleans up as well.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
work = tempfile.mkdtemp(prefix="headwater-pi.", dir=CACHE)
PACKAGE = os.path.join(work, "package.tar")
with open(os.path.join(work, "headwater.toml"), "w") as file:
    file.write(CONFIG)
with open(os.path.join(work, "pi.sql"), "w") as file:
    file.write(SQL)
subprocess.run(["tar", "-cf", PACKAGE, "-C", os.path.dirname(os.path.abspath(DEB)), os.path.basename(DEB), "-C", work,
                "headwater.toml", "pi.sql"], check=True)
with open(PACKAGE, "ab") as file:
    file.write(b"\0" * (-os.path.getsize(PACKAGE) % 512))
image = os.path.join(work, "run.img")
subprocess.run(["cp", "--sparse=always", f"{CACHE}/base.img", image], check=True)
broker_conf = os.path.join(work, "mosquitto.conf")
with open(broker_conf, "w") as file:
    file.write(f"listener {PORT} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 200\n")
broker = subprocess.Popen(["mosquitto", "-c", broker_conf], stderr=subprocess.DEVNULL)
machine, clients = None, []
try:
    time.sleep(1)
    watch, feed = Watch(), Feed(int(time.time() * 1000) - 3 * 3_600_000)
    clients = [watch.sub, feed.pub]

    say("boot, install, start")
    machine = Machine(image, volatile=True)
    machine.login()
    say(machine.run("systemctl is-system-running --wait; uname -mr; free -m | sed -n 2p", 600))
    machine.run("cd /tmp && tar xf /dev/vdb")
    say(machine.run(f"dpkg -i {os.path.basename(DEB)} 2>&1 | tail -n 3; systemctl is-active headwater", 300))
    say("with the shipped example: " + machine.run("sleep 3; systemctl show -P StatusText headwater"))
    machine.run("cp headwater.toml /etc/headwater/; rm /etc/headwater/pipelines/*; cp pi.sql /etc/headwater/pipelines/; headwater check")
    # Another connection and other queries: the state of the example is to be dropped.
    machine.run("systemctl stop headwater && runuser -u headwater -- headwater state reset --all && systemctl start headwater", may_fail=True)
    say(machine.run("systemctl is-active headwater; journalctl -u headwater -n 5 --no-pager"))
    say(machine.run("systemd-analyze security headwater --no-pager | sed -n 's/.*Overall/Overall/p'"))
    time.sleep(10)
    memory(machine, "idle")
    feed.send(200)
    watch.until("the first copies", lambda: len(watch.copies) >= 200)
    machine.run("sync")

    for label, volatile_next in (("a cut, volatile write cache", True), ("a second cut, volatile write cache", False), ("a cut, page cache lost", False)):
        say("events flow")
        begin = len(watch.copies)
        flow = threading.Thread(target=feed.send, args=(3_000, 0.004))
        flow.start()
        watch.until("copies while events flow", lambda: len(watch.copies) >= begin + 700)
        machine.cut()
        say(f"power cut: {feed.next} sent, {len(watch.copies)} came out")
        flow.join()
        machine = Machine(image, volatile_next)
        machine.login()
        recovered(machine, label)
        watch.until("every event came out", lambda: len(watch.copies) >= feed.next)
        say(f"all {feed.next} events came out; {sum(watch.copies.values()) - len(watch.copies)} copies more than once, with the same id")

    feed.line({"id": -1, "device": "end", "ts": feed.first_millis + feed.next * 20 + 600_000})
    expected = collections.Counter()
    for number in range(feed.next):
        expected[number % DEVICES] += 1
    total = lambda: sum(row["n"] for row in watch.counts.values())
    watch.until("all windows close", lambda: total() >= feed.next)
    time.sleep(3)
    per_device = collections.Counter()
    sums = 0
    for row in watch.counts.values():
        per_device[int(row["device"][1:])] += row["n"]
        sums += row["total"]
    assert per_device == expected, (per_device, expected)
    assert sums == feed.next * (feed.next - 1) // 2, "the sum of all ids"
    say(f"RESULT {feed.next} events, three power cuts: each counted exactly once in {len(watch.counts)} windows, none missing")

    memory(machine, "50 keys, after recovery")
    base = feed.first_millis + feed.next * 20 + 700_000
    sent = 0
    for keys in (1_000, 100_000):
        before = sum(watch.copies.values())
        for key in range(sent, keys):
            feed.line({"id": 10_000_000 + key, "device": f"k{key}", "ts": base + key % 1000})
        watch.until(f"{keys} keys", lambda: len(watch.copies) >= feed.next + keys, 1_800)
        sent = keys
        time.sleep(15)
        memory(machine, f"{keys} keys")
    say("STATUS " + machine.run("systemctl show -P StatusText headwater"))
    machine.run("systemctl restart headwater", 300)
    times = machine.run("systemctl show -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic headwater")
    start = int(re.search(r"ExecMainStartTimestampMonotonic=(\d+)", times)[1])
    active = int(re.search(r"ActiveEnterTimestampMonotonic=(\d+)", times)[1])
    say(f"START with 100,000 keys: {(active - start) / 1e6:.2f} s emulated; state {machine.run('du -sh /var/lib/headwater | cut -f1')}")
    memory(machine, "100,000 keys, just started")
    say(machine.run("runuser -u headwater -- headwater doctor; true", 300))
    machine.run("cp /etc/headwater/headwater.toml . && echo nonsense >>/etc/headwater/headwater.toml && systemctl reload headwater; sleep 2")
    status = machine.run("systemctl show -P StatusText headwater")
    assert status.startswith("reload refused"), status
    say("a bad reload: " + status)
    machine.run("systemctl restart headwater; sleep 20", may_fail=True)
    state = machine.run("systemctl show -P ActiveState -P NRestarts -P ExecMainStatus headwater").split()
    assert sorted(state) == sorted(["failed", "0", "78"]), state
    machine.run("cp headwater.toml /etc/headwater/ && systemctl restart headwater", 300)
    say("a bad configuration is not started again and again; a good one starts")
finally:
    if machine:
        machine.cut()
    for process in clients + [broker]:
        process.kill()
    subprocess.run(["rm", "-rf", work])
