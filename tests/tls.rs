//! TLS on a real broker: mosquitto that wants a client certificate, a user name and a password.
//!
//! Ignored in the plain `cargo test`: it needs mosquitto and openssl and is run by `.ci/run`, or with
//! `cargo test --test tls -- --ignored`. What it does not find makes it fail.
#![cfg(feature = "tls")]
#![allow(clippy::print_stderr)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PIPELINE: &str = "
    CREATE TABLE readings (v BIGINT) WITH (
      'connector' = 'mqtt', 'topic' = 'in', 'qos' = '1', 'format' = 'json'
    );
    CREATE TABLE doubled (v BIGINT) WITH (
      'connector' = 'mqtt', 'topic' = 'out', 'qos' = '1', 'retain' = 'true', 'format' = 'json'
    );
    INSERT INTO doubled SELECT v * 2 FROM readings;
";

/// A process that ends with its test.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it and reads along what it says, on both outputs.
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let outputs: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for output in outputs {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        Self { child, lines }
    }

    fn count(&self, text: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }

    fn wait_for(&self, text: &str, times: usize) {
        let start = Instant::now();
        while self.count(text) < times {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{text:?} was not said {times} times: {:#?}",
                self.lines.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; it has to succeed.
fn done(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// A certificate authority with its certificates, in a directory.
struct Authority<'a> {
    dir: &'a Path,
    name: &'a str,
}

impl<'a> Authority<'a> {
    fn new(dir: &'a Path, name: &'a str) -> Self {
        let authority = Self { dir, name };
        let mut openssl = authority.new_key(name);
        openssl
            .args(["-x509", "-days", "2", "-out"])
            .arg(authority.path(name, "pem"))
            .args(["-addext", "keyUsage=critical,keyCertSign"]);
        done(&mut openssl);
        authority
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.dir.join(format!("{name}.{ending}"))
    }

    /// A request for a certificate with a key of its own.
    fn new_key(&self, name: &str) -> Command {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-new", "-newkey", "ec", "-nodes"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj"])
            .arg(format!("/CN={name}"))
            .arg("-keyout")
            .arg(self.path(name, "key"));
        openssl
    }

    /// A certificate for `name`, signed.
    fn issue(&self, name: &str) {
        done(self.new_key(name).arg("-out").arg(self.path(name, "csr")));
        let extensions = self.path(name, "ext");
        fs::write(
            &extensions,
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        let mut openssl = Command::new("openssl");
        openssl
            .args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"])
            .arg(self.path(name, "csr"))
            .arg("-CA")
            .arg(self.path(self.name, "pem"))
            .arg("-CAkey")
            .arg(self.path(self.name, "key"))
            .arg("-extfile")
            .arg(extensions)
            .arg("-out")
            .arg(self.path(name, "pem"));
        done(&mut openssl);
    }
}

/// mosquitto that takes only clients with a certificate of `authority.pem` and the password of `gateway`.
fn mosquitto(dir: &Path) -> (Process, u16) {
    let passwords = dir.join("passwords");
    done(
        Command::new("mosquitto_passwd")
            .args(["-c", "-b"])
            .arg(&passwords)
            .args(["gateway", "s3cret"]),
    );
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    for _ in 0..20 {
        let port = {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\ncafile {dir}/authority.pem\ncertfile {dir}/server.pem\n\
             keyfile {dir}/server.key\nrequire_certificate true\nallow_anonymous false\n\
             password_file {dir}/passwords\nuser {user}\n",
            dir = dir.display()
        );
        fs::write(&config, text).unwrap();
        let mut executable = PathBuf::from("mosquitto");
        if Path::new("/usr/sbin/mosquitto").is_file() {
            executable = "/usr/sbin/mosquitto".into();
        }
        let mut broker = Process::start(Command::new(executable).arg("-c").arg(&config));
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return (broker, port);
            }
            if broker.child.try_wait().unwrap().is_some() {
                // Somebody else was faster to take the port.
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{:#?}", broker.lines.lock().unwrap());
    }
    panic!("mosquitto does not start");
}

/// `headwater run` against the broker, with the authority, certificate and password of these names.
fn headwater(dir: &Path, port: u16, authority: &str, client: &str, password: &str) -> Process {
    let home = tempfile::tempdir_in(dir).unwrap().keep();
    fs::write(home.join("pipeline.sql"), PIPELINE).unwrap();
    fs::write(home.join("password"), format!("{password}\n")).unwrap();
    let certificate = if client.is_empty() {
        String::new()
    } else {
        format!("client_cert_file = \"../{client}.pem\"\nclient_key_file = \"../{client}.key\"\n")
    };
    let config = format!(
        "pipelines.files = [\"pipeline.sql\"]\n\
         state.ballast = \"0B\"\n\
         [connections.broker]\nurl = \"mqtts://localhost:{port}\"\nca_file = \"../{authority}.pem\"\n{certificate}\
         username = \"gateway\"\npassword_file = \"password\"\n"
    );
    fs::write(home.join("headwater.toml"), config).unwrap();
    Process::start(
        Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["run", "--config"])
            .arg(home.join("headwater.toml")),
    )
}

/// A client of mosquitto's own, with the right certificate.
fn client(name: &str, dir: &Path, port: u16) -> Command {
    let mut command = Command::new(name);
    command
        .args(["-h", "localhost", "-p", &port.to_string(), "-q", "1"])
        .args(["-u", "gateway", "-P", "s3cret", "--cafile"])
        .arg(dir.join("authority.pem"))
        .arg("--cert")
        .arg(dir.join("client.pem"))
        .arg("--key")
        .arg(dir.join("client.key"));
    command
}

#[test]
#[ignore = "needs mosquitto and openssl; run by .ci/run"]
fn mutual_tls_with_a_password() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let authority = Authority::new(dir, "authority");
    authority.issue("server");
    authority.issue("client");
    let stranger = Authority::new(dir, "stranger");
    stranger.issue("impostor");
    let (_broker, port) = mosquitto(dir);

    // A message goes through. The broker keeps the last one, so nobody has to wait for it in time.
    let gateway = headwater(dir, port, "authority", "client", "s3cret");
    gateway.wait_for("connected to the broker", 1);
    gateway.wait_for("connected upstream", 1);
    let mut derived = String::new();
    for v in 1..=20 {
        // The first ones may be published before the subscription is made.
        let message = format!("{{\"v\":{v}}}");
        done(client("mosquitto_pub", dir, port).args(["-t", "in", "-m", &message]));
        let mut watcher = client("mosquitto_sub", dir, port);
        let output = watcher.args(["-t", "out", "-C", "1", "-W", "1"]).output();
        derived = String::from_utf8(output.unwrap().stdout).unwrap();
        if !derived.is_empty() {
            break;
        }
    }
    let row: serde_json::Value = serde_json::from_str(&derived).expect("a row came through");
    assert_eq!(row["v"].as_i64().unwrap() % 2, 0);
    drop(gateway);

    // What is wrong is said, and it is tried again.
    for (authority, certificate, password) in [
        ("stranger", "client", "s3cret"),
        ("authority", "impostor", "s3cret"),
        ("authority", "", "s3cret"),
        ("authority", "client", "wrong"),
    ] {
        let gateway = headwater(dir, port, authority, certificate, password);
        // Three times on each of the two connections.
        gateway.wait_for("trying again", 6);
        let lines = gateway.lines.lock().unwrap().join("\n");
        println!("--- {authority} {certificate} {password}\n{lines}");
        let reason = match (authority, certificate, password) {
            ("stranger", ..) => "UnknownIssuer",
            (_, "impostor", _) => "UnknownCA",
            (_, "", _) => "CertificateRequired",
            _ => "NotAuthorized",
        };
        assert!(lines.contains(reason), "no {reason} in\n{lines}");
        assert!(!lines.contains("connected upstream"), "{lines}");
        assert!(!lines.contains("connected to the broker"), "{lines}");
        assert!(!lines.contains("s3cret"), "a password is in the log");
    }
}
