//! `headwater` as a process: started, killed, asked, with its log read along.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::brokers::signal;

/// A deployment: a directory with configuration, pipeline and state, and the binary that runs it.
pub(crate) struct Deployment {
    dir: TempDir,
    state: PathBuf,
    binary: PathBuf,
}

/// What is not the same in every test.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The port of the broker that is read from.
    pub(crate) site: u16,
    /// The port of the broker that is forwarded to.
    pub(crate) upstream: u16,
    /// Lines for `[connections.site]`.
    pub(crate) site_options: &'a str,
    /// Lines for `[connections.upstream]`.
    pub(crate) upstream_options: &'a str,
    /// Further settings, with dotted keys: `commit.interval = "50ms"`.
    pub(crate) settings: &'a str,
    /// The pipeline.
    pub(crate) sql: &'a str,
}

impl Deployment {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let state = dir.path().join("state");
        Self::with_state(dir, state, setup)
    }

    /// With the state in a directory of the test's choice.
    pub(crate) fn with_state_in(state: &Path, setup: &Setup<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::with_state(dir, state.to_owned(), setup)
    }

    fn with_state(dir: TempDir, state: PathBuf, setup: &Setup<'_>) -> Self {
        let deployment = Self {
            dir,
            state,
            binary: binary(),
        };
        deployment.configure(setup);
        deployment
    }

    /// With another build of the binary.
    pub(crate) fn run_by(mut self, binary: &Path) -> Self {
        binary.clone_into(&mut self.binary);
        self
    }

    /// Writes configuration and pipeline, in place of what is there.
    pub(crate) fn configure(&self, setup: &Setup<'_>) {
        let config = format!(
            "pipelines.files = [\"pipeline.sql\"]\nlog.level = \"debug\"\nstate.dir = {:?}\n{}\n\
             [connections.site]\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"gateway\"\n{}\n\
             [connections.upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"gateway\"\n{}\n",
            self.state,
            setup.settings,
            setup.site,
            setup.site_options,
            setup.upstream,
            setup.upstream_options
        );
        fs::write(self.config(), config).expect("the directory is ours");
        fs::write(self.dir.path().join("pipeline.sql"), setup.sql).expect("the directory is ours");
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("headwater.toml")
    }

    /// Starts `headwater run`.
    pub(crate) fn start(&self) -> Headwater {
        let mut child = Command::new(&self.binary)
            .args(["run", "--log", "json", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("headwater can be started");
        let log = Arc::new(Log::default());
        let (writer, stderr) = (log.clone(), child.stderr.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                writer.push(String::from_utf8_lossy(&line).into_owned());
            }
            writer.end();
        });
        Headwater {
            child,
            log,
            ended: None,
        }
    }

    /// Runs another command to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(&self.binary)
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .output()
            .expect("headwater can be started")
    }

    /// Runs another command, which must succeed, and gives what it prints.
    #[track_caller]
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?}: {}: {errors}",
            output.status
        );
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// The dead letters, as `dead-letters list --json` gives them.
    #[track_caller]
    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        let text = self.say(&["dead-letters", "list", "--json"]);
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }
}

/// The binary of this build, or the one that the environment names: `.ci/run` tests what is shipped.
fn binary() -> PathBuf {
    let named = std::env::var_os("HEADWATER_TEST_BINARY").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_headwater")));
    assert!(binary.is_file(), "there is no {}", binary.display());
    binary
}

/// A running `headwater`. It is killed when it goes out of scope.
pub(crate) struct Headwater {
    child: Child,
    log: Arc<Log>,
    ended: Option<ExitStatus>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.lines
            .lock()
            .expect("nobody panics with it")
            .0
            .push(line);
        self.more.notify_all();
    }

    fn end(&self) {
        self.lines.lock().expect("nobody panics with it").1 = true;
        self.more.notify_all();
    }
}

impl Headwater {
    /// Waits for `count` lines of the log with `text` in them.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str, count: usize, patience: Duration) {
        let end = Instant::now() + patience;
        let mut lines = self.log.lines.lock().expect("nobody panics with it");
        loop {
            if lines.0.iter().filter(|line| line.contains(text)).count() >= count {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.1 {
                // Not while holding the lock: the log is printed on the way out.
                drop(lines);
                panic!("no {count} lines of the log say {text:?}");
            }
            lines = self
                .log
                .more
                .wait_timeout(lines, left)
                .expect("nobody panics with it")
                .0;
        }
    }

    /// Waits until the broker that is read from has accepted it.
    #[track_caller]
    pub(crate) fn wait_connected(&self) {
        self.wait_for_log("connected to the broker", 1, Duration::from_secs(60));
    }

    /// Waits until the broker has confirmed the first subscription: from now on it keeps what is published.
    #[track_caller]
    pub(crate) fn wait_subscribed(&self) {
        self.wait_for_log("\"subscribed\"", 1, Duration::from_secs(60));
    }

    pub(crate) fn log_lines(&self, text: &str) -> usize {
        self.log
            .lines
            .lock()
            .expect("nobody panics with it")
            .0
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    /// The summaries so far, as JSON objects.
    pub(crate) fn summaries(&self) -> Vec<Value> {
        let lines = self.log.lines.lock().expect("nobody panics with it");
        let parsed = lines
            .0
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line["message"] == "summary").collect()
    }

    /// How many discards of `reason` the summaries name, over all streams.
    pub(crate) fn discards(&self, reason: &str) -> u64 {
        let named = |text: &str| -> u64 {
            let items = text.split(", ").filter_map(|item| item.split_once(": "));
            let counts = items.filter_map(|(_, what)| what.split_once(' '));
            counts
                .filter(|(name, _)| *name == reason)
                .filter_map(|(_, count)| count.parse::<u64>().ok())
                .sum()
        };
        self.summaries()
            .iter()
            .filter_map(|line| line["drops"].as_str().map(named))
            .sum()
    }

    /// kill -9.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        assert!(self.is_running(), "it was running until it was killed");
        self.child.kill().expect("it is our child");
        self.ended = Some(self.child.wait().expect("it is our child"));
    }

    /// SIGTERM; panics unless it ends with success within `patience`. The log stays.
    #[track_caller]
    pub(crate) fn terminate(&mut self, patience: Duration) -> Duration {
        let start = Instant::now();
        signal(self.child.id(), "TERM");
        let ended = crate::waiting::until(patience, || !self.is_running());
        assert!(ended, "it does not end within {patience:?} of SIGTERM");
        let took = start.elapsed();
        assert!(
            self.ended.is_some_and(|status| status.success()),
            "it ended with {:?}",
            self.ended
        );
        // The rest of the log is on its way.
        crate::waiting::until(Duration::from_secs(5), || {
            self.log.lines.lock().expect("nobody panics with it").1
        });
        took
    }

    pub(crate) fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended.is_none()
    }

    /// Resident memory in bytes, now and at its highest.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let field = |name: &str| -> u64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .expect("Linux tells");
            line.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .expect("it is a number")
                * 1_024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Headwater {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking()
            && let Ok(lines) = self.log.lines.lock()
        {
            let from = lines.0.len().saturating_sub(40);
            eprintln!(
                "--- headwater ({:?}) ---\n{}",
                self.ended,
                lines.0[from..].join("\n")
            );
        }
    }
}
