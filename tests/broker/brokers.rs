//! mosquitto on a port of its own: started, stopped, paused and started again as a test wants it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::waiting::{until, wait_until};

/// A mosquitto. It is killed when it goes out of scope.
pub(crate) struct Mosquitto {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
}

/// Queues without bound: nothing that these tests count may be lost by the broker itself.
const LOSES_NOTHING: &str = "max_queued_messages 0\nmax_queued_bytes 0\n";

impl Mosquitto {
    /// Starts one with `options` beside what all of them have.
    pub(crate) fn start(options: &str) -> Self {
        for _ in 0..20 {
            let dir = tempfile::tempdir().expect("a temporary directory can be made");
            let port = free_port();
            let config = format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence_location {}/\n\
                 log_dest file {}\nlog_type error\nlog_type warning\nlog_type notice\n\
                 {LOSES_NOTHING}{options}\n",
                dir.path().display(),
                dir.path().join("mosquitto.log").display(),
            );
            fs::write(dir.path().join("mosquitto.conf"), config).expect("the directory is ours");
            let mut broker = Self {
                child: None,
                port,
                dir,
            };
            if broker.try_start() {
                return broker;
            }
            // Somebody else was faster to take the port, or the options are wrong.
            eprintln!("mosquitto did not start: {}", broker.log());
            broker.end("KILL");
        }
        panic!("mosquitto does not start");
    }

    fn try_start(&mut self) -> bool {
        let child = Command::new(executable())
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto can be started");
        self.child = Some(child);
        until(Duration::from_secs(10), || {
            let ended = self
                .child
                .as_mut()
                .is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            ended || TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        }) && self.is_running()
    }

    fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("mosquitto.log")).unwrap_or_default()
    }

    /// Ends it as a service manager does.
    pub(crate) fn stop(&mut self) {
        self.end("TERM");
    }

    /// Starts it again on the same port, with what it has kept.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it was stopped");
        wait_until(
            "mosquitto has its port again",
            Duration::from_secs(30),
            || self.try_start(),
        );
    }

    /// Stops its clock: connections stay open and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        signal(child.id(), name);
    }

    fn end(&mut self, name: &str) {
        if let Some(mut child) = self.child.take() {
            if child.try_wait().is_ok_and(|status| status.is_none()) {
                signal(child.id(), "CONT");
                signal(child.id(), name);
            }
            let _ = child.wait();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.end("KILL");
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(20);
            eprintln!(
                "--- mosquitto on {} ---\n{}",
                self.port,
                lines[from..].join("\n")
            );
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell's own `kill`: a small Debian has no other.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {pid}"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "process {pid} takes signal {name}"
    );
}

/// A port of the loopback interface that nobody uses now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

fn executable() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join("mosquitto"))
        .find(|file| file.is_file());
    found.expect("mosquitto is missing: apt-get install mosquitto")
}
