//! What a service manager sees of `headwater run`: READY, STATUS, RELOADING, STOPPING, and signs of life that stop when
//! something is stuck and go on while it waits. A socket of the test's own stands for systemd's.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A service: its files, its process, and the socket on which it reports.
struct Service {
    dir: TempDir,
    socket: UnixDatagram,
    child: Child,
}

impl Service {
    /// Starts `binary` on a configuration and a pipeline (`{dir}` in them is the service's directory).
    fn start(binary: &Path, config: &str, sql: &str, stall: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("notify.sock");
        let socket = UnixDatagram::bind(&address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let config = format!("pipelines.files = [\"*.sql\"]\nstate.dir = \"state\"\n{config}");
        fs::write(dir.path().join("headwater.toml"), config).unwrap();
        write_pipeline(dir.path(), sql);
        let child = Command::new(binary)
            .args(["run", "--config"])
            .arg(dir.path().join("headwater.toml"))
            .env("NOTIFY_SOCKET", &address)
            .env("WATCHDOG_USEC", "2000000")
            .env("HEADWATER_STALL", stall)
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { dir, socket, child }
    }

    /// The next report, if one comes soon.
    fn report(&self) -> Option<String> {
        let mut bytes = [0; 8192];
        let len = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..len].to_vec()).unwrap())
    }

    /// Waits for a report that has all of `parts`.
    #[track_caller]
    fn until(&self, parts: &[&str]) -> String {
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < PATIENCE {
            if let Some(report) = self.report() {
                if parts.iter().all(|part| report.contains(part)) {
                    return report;
                }
                last = report;
            }
        }
        panic!(
            "no report with {parts:?}; the last: {last:?}; {}",
            self.log()
        );
    }

    /// Counts signs of life for a while.
    fn signs_of_life(&self, during: Duration) -> usize {
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < during {
            count += usize::from(
                self.report()
                    .is_some_and(|report| report.contains("WATCHDOG=1")),
            );
        }
        count
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    #[track_caller]
    fn stop(mut self) {
        self.signal("TERM");
        self.until(&["STOPPING=1"]);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_pipeline(dir: &Path, sql: &str) {
    let sql = sql.replace("{dir}", dir.to_str().unwrap());
    fs::write(dir.join("pipeline.sql"), sql).unwrap();
}

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_headwater"))
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn plant(port: u16) -> String {
    format!("[connections.plant]\nurl = \"mqtt://127.0.0.1:{port}\"\n")
}

const OVER_MQTT: &str = "
    CREATE TABLE readings (k STRING, v BIGINT) WITH (
      'connector' = 'mqtt', 'topic' = 'in/+', 'qos' = '1', 'format' = 'json');
    CREATE TABLE doubled (k STRING, v BIGINT) WITH (
      'connector' = 'mqtt', 'topic' = 'out/{k}', 'qos' = '1', 'format' = 'json');
    INSERT INTO doubled SELECT k, v * 2 FROM readings;
";

#[test]
fn a_service_without_its_broker_is_ready_alive_and_says_what_is_missing() {
    let service = Service::start(&shipped(), &plant(closed_port()), OVER_MQTT, "");
    service.until(&["READY=1", "WATCHDOG=1"]);
    let status = service.until(&["STATUS=broker plant is not reached", "WATCHDOG=1"]);
    for part in [
        "upstream plant is not reached",
        "0.0 messages/s in",
        "0 events (0.0 MB) wait for upstream",
        "memory ",
    ] {
        assert!(status.contains(part), "{status}");
    }
    assert!(service.signs_of_life(Duration::from_secs(5)) >= 4);
    service.stop();
}

#[test]
fn a_broker_that_accepts_and_never_answers_is_waited_for() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let service = Service::start(&shipped(), &plant(port), OVER_MQTT, "");
    service.until(&["READY=1"]);
    assert!(service.signs_of_life(Duration::from_secs(5)) >= 4);
    service.stop();
}

/// Sums of a file's numbers, with `value` as what is summed, and further statements.
fn over_files(value: &str, further: &str) -> String {
    format!(
        "CREATE TABLE timed (v BIGINT, at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR at AS at) WITH (
           'connector' = 'filesystem', 'path' = '{{dir}}/numbers.jsonl', 'format' = 'json',
           'scan.watermark.idle-timeout' = '1 s');
         CREATE TABLE sums (n BIGINT) WITH (
           'connector' = 'filesystem', 'path' = '{{dir}}/sums.jsonl', 'format' = 'json');
         INSERT INTO sums SELECT {value} FROM TUMBLE(TABLE timed, DESCRIPTOR(at), INTERVAL '1' SECOND)
           GROUP BY window_start, window_end;
         {further}"
    )
}

#[test]
fn a_reload_takes_what_is_good_and_leaves_what_is_bad() {
    let input = tempfile::tempdir().unwrap();
    let numbers = input.path().join("numbers");
    fs::write(numbers.with_extension("jsonl"), "{\"v\":1}\n{\"v\":2}\n").unwrap();
    let sql = |value: &str, further: &str| {
        over_files(value, further).replace("{dir}/numbers", numbers.to_str().unwrap())
    };
    let service = Service::start(&shipped(), "", &sql("SUM(v)", ""), "");
    service.until(&["READY=1"]);
    let sums = service.dir.path().join("sums.jsonl");
    until("the first sum", || {
        fs::read_to_string(&sums).is_ok_and(|text| text.contains("{\"n\":3}"))
    });
    let rewrite = |value: &str, further: &str| {
        write_pipeline(service.dir.path(), &sql(value, further));
        service.signal("HUP");
        service.until(&["RELOADING=1"]);
    };

    rewrite("SUM(w)", "");
    service.until(&["READY=1", "STATUS=reload refused: ", "pipeline.sql:", "w"]);
    service.until(&["WATCHDOG=1", "STATUS=reload refused: "]);

    rewrite("SUM(v * 2)", "");
    service.until(&[
        "READY=1",
        "STATUS=reload refused: the state of ",
        "state reset",
    ]);

    let further = "CREATE TABLE counts (n BIGINT) WITH (
        'connector' = 'filesystem', 'path' = '{dir}/counts.jsonl', 'format' = 'json');
      INSERT INTO counts SELECT n FROM (SELECT COUNT(*) AS n FROM TUMBLE(TABLE more, DESCRIPTOR(at), INTERVAL '1' SECOND)
        GROUP BY window_start, window_end);
      CREATE TABLE more (v BIGINT, at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR at AS at) WITH (
        'connector' = 'filesystem', 'path' = '{dir}/more.jsonl', 'format' = 'json',
        'scan.watermark.idle-timeout' = '1 s');";
    fs::write(service.dir.path().join("more.jsonl"), "{\"v\":1}\n").unwrap();
    rewrite("SUM(v)", further);
    let ready = service.until(&["READY=1"]);
    assert!(!ready.contains("refused"), "{ready}");
    let counts = service.dir.path().join("counts.jsonl");
    until("the new query's row", || {
        fs::read_to_string(&counts).is_ok_and(|text| text.contains("{\"n\":1}"))
    });
    // What was read before the reload was not read again.
    assert_eq!(fs::read_to_string(&sums).unwrap().lines().count(), 1);
    service.stop();
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lists of long texts fill the budget; their windows close by the clock, because the source is silent while it is
/// not read, and then there is room again.
#[test]
fn at_the_memory_budget_input_stops_and_goes_on_when_windows_have_closed() {
    const LINES: usize = 40_000;
    let input = tempfile::tempdir().unwrap();
    let path = input.path().join("texts.jsonl");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    let text = "x".repeat(900);
    for line in 0..LINES {
        writeln!(
            file,
            "{{\"k\":{},\"at\":{},\"s\":\"{text}\"}}",
            line % 20_000,
            now.as_millis()
        )
        .unwrap();
    }
    file.flush().unwrap();
    let sql = format!(
        "CREATE TABLE texts (k BIGINT, at TIMESTAMP_LTZ(3), s STRING, WATERMARK FOR at AS at) WITH (
           'connector' = 'filesystem', 'path' = '{}', 'format' = 'json',
           'json.timestamp-format.standard' = 'epoch-millis', 'scan.watermark.idle-timeout' = '1 s');
         CREATE TABLE lists (k BIGINT, n INT) WITH (
           'connector' = 'filesystem', 'path' = '{{dir}}/lists.jsonl', 'format' = 'json');
         INSERT INTO lists SELECT k, CARDINALITY(ARRAY_AGG(s))
         FROM TUMBLE(TABLE texts, DESCRIPTOR(at), INTERVAL '3' SECOND) GROUP BY k, window_start, window_end;",
        path.display()
    );
    let service = Service::start(&shipped(), "limits.memory = \"24MB\"\n", &sql, "");
    service.until(&[
        "STATUS=memory budget reached, no input is taken",
        "WATCHDOG=1",
        "of 24 MB",
    ]);
    until("room again", || {
        service.log().contains("the memory budget has room again")
    });
    until("the end of the input", || {
        service.log().contains("read to its end")
    });
    let lists = service.dir.path().join("lists.jsonl");
    until("lists", || {
        fs::read_to_string(&lists).is_ok_and(|text| text.lines().count() >= 100)
    });
    service.stop();
}

/// The binary in which a part can be made to stand still.
fn build_with_faults() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault-injection");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--bin", "headwater", "--no-default-features"])
        .args(["--features", "fault-injection", "--target-dir"])
        .arg(&target)
        .current_dir(root)
        .status()
        .unwrap();
    assert!(status.success());
    target.join("debug/headwater")
}

#[test]
#[ignore = "builds a second binary; part of .ci/run"]
fn what_is_stuck_gives_no_signs_of_life() {
    let binary = build_with_faults();
    let input = tempfile::tempdir().unwrap();
    let path = input.path().join("numbers");
    fs::write(path.with_extension("jsonl"), "{\"v\":1}\n").unwrap();
    let sql = over_files("SUM(v)", "").replace("{dir}/numbers", path.to_str().unwrap());
    for part in ["engine", "store"] {
        let service = Service::start(&binary, "", &sql, part);
        until("the standstill", || {
            service.log().contains("standing still")
        });
        // The patience with a commit is a second here, half of what the service manager has.
        std::thread::sleep(Duration::from_millis(2_500));
        while service.report().is_some() {}
        assert_eq!(service.signs_of_life(Duration::from_secs(5)), 0, "{part}");
        assert_eq!(service.log().contains("STUCK: a commit"), part == "store");
    }
    let service = Service::start(&binary, "", &sql, "");
    service.until(&["READY=1"]);
    assert!(service.signs_of_life(Duration::from_secs(5)) >= 4);
}
