//! Configurations and what is wrong with them.

use super::*;

fn errors(text: &str) -> Vec<String> {
    match Config::parse("headwater.toml", text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = Config::parse("headwater.toml", "").unwrap();
    assert_eq!(config.connections, []);
    assert_eq!(
        config.commit,
        Commit {
            mode: CommitMode::ExactlyOnce,
            interval: SECOND,
            quiet_interval: 60 * SECOND,
            flash_budget_bytes: None,
        }
    );
    assert_eq!(config.limits.max_keys, 100_000);
    assert_eq!(config.pipelines, ["pipelines/*.sql"]);
}

#[test]
fn everything_can_be_said() {
    let config = Config::parse(
        "headwater.toml",
        r#"
        [connections.plant]
        url = "mqtt://broker.local"
        receive_maximum = 20
        [connections.cloud]
        url = "mqtts://[fd00::1]:8884"
        client_id = "gw-7"
        username = "gw"
        credential = "mqtt-password"
        ca_file = "ca.pem"
        client_cert_file = "gw.pem"
        client_key_file = "gw.key"
        outbox = { limit = "1 GB", policy = "drop-oldest" }
        [outbox]
        max_age = "7d"
        drain = "live-first"
        [commit]
        mode = "periodic"
        interval = "250 ms"
        quiet_interval = "1 min"
        flash_budget = "200 MB"
        [state]
        dir = "/var/lib/headwater"
        cache_size = "4MiB"
        [pipelines]
        files = ["a.sql", "more/*.sql"]
        [log]
        level = "debug"
        format = "json"
        "#,
    )
    .unwrap();
    let [cloud, plant] = config.connections.as_slice() else {
        panic!("two connections");
    };
    assert_eq!(
        (plant.host.as_str(), plant.port, plant.tls),
        ("broker.local", 1883, false)
    );
    assert_eq!(plant.outbox, config.outbox);
    assert_eq!(
        (cloud.host.as_str(), cloud.port, cloud.tls),
        ("fd00::1", 8884, true)
    );
    assert_eq!(
        cloud.password,
        Some(Secret::Credential("mqtt-password".to_owned()))
    );
    assert_eq!(cloud.outbox.limit_bytes, 1_000_000_000);
    assert_eq!(cloud.outbox.drain, Drain::LiveFirst);
    assert_eq!(cloud.outbox.max_age, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(cloud.place.to_string(), "headwater.toml:5:22");
    assert_eq!(config.commit.interval, Duration::from_millis(250));
    assert_eq!(config.commit.quiet_interval, 60 * SECOND);
    assert_eq!(config.commit.flash_budget_bytes, Some(200_000_000));
}

#[test]
fn all_errors_come_at_once_each_at_its_place() {
    let text = r#"[connections.plant]
url = "http://broker"
pasword_file = "x"
keep_alive = 30
[connections.cloud]
password = "secret"
receive_maximum = 70000
[comit]
interval = "1s"
[commit]
mode = "sometimes"
[outbox]
limit = "64"
"#;
    assert_eq!(
        errors(text),
        [
            "headwater.toml:2:7: http:// is not supported: write mqtt:// or mqtts://",
            "headwater.toml:3:1: [connections.plant] has no key pasword_file (did you mean password_file?)",
            "headwater.toml:4:14: keep_alive is a string, not an integer",
            "headwater.toml:5:14: [connections.cloud] has no url (add url = \"…\")",
            "headwater.toml:6:1: a password does not belong into the configuration (put it into a file and write \
             password_file = \"path\", or credential = \"name\" for a systemd credential)",
            "headwater.toml:7:19: receive_maximum = 70000 is out of bounds: 1 to 65535",
            "headwater.toml:8:2: headwater.toml has no key comit (did you mean commit?)",
            "headwater.toml:11:8: mode is one of exactly-once, periodic, not 'sometimes'",
            "headwater.toml:13:9: '64' has no unit: write a number and a unit: 512KB, 64MB, 64MiB, 1GB",
        ]
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (text, error) in [
        (
            "[commit]\ninterval = \"1 min\"\nquiet_interval = \"30s\"",
            "headwater.toml:3:1: quiet_interval is shorter than interval: input of which nothing was derived waits at \
             least as long as rows (write a longer quiet_interval, or a shorter interval)",
        ),
        (
            "[connections]\nurl = \"mqtt://x\"",
            "headwater.toml:2:1: url in [connections] is not a section (give it a name: [connections.default])",
        ),
        (
            "[connections.a]\nurl = \"mqtt://u:p@x\"",
            "headwater.toml:2:7: user name and password do not belong into the url: write username and password_file",
        ),
        (
            "[connections.a]\nurl = \"mqtt://x\"\nca_file = \"c\"",
            "headwater.toml:3:1: ca_file has no effect without TLS (write url = \"mqtts://…\")",
        ),
        (
            "[connections.a]\nurl = \"mqtts://x\"\nclient_key_file = \"c\"",
            "headwater.toml:3:1: a client key needs its certificate (add client_cert_file = \"path\")",
        ),
        (
            "[connections.a]\nurl = \"mqtt://x\"\npassword_file = \"c\"",
            "headwater.toml:3:1: a password needs a user name (add username = \"…\")",
        ),
        (
            "[connections.a]\nurl = \"mqtt://x:0\"",
            "headwater.toml:2:7: '0' is not a port (1 to 65535)",
        ),
        (
            "state = 1",
            "headwater.toml:1:1: state is a section, not an integer (write [state])",
        ),
        (
            "[pipelines]\nfiles = [\"*/a.sql\"]",
            "headwater.toml:2:10: * may only stand in the last part of a path",
        ),
    ] {
        assert_eq!(errors(text), [error]);
    }
    assert!(errors("x = ").len() == 1);
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in ".{0,200}") {
        let _ = Config::parse("x", &text);
    }

    #[test]
    fn arbitrary_toml_does_not_panic(text in "(\\[?[a-z.]{0,12}\\]?( = (\"[a-z0-9 :/]{0,9}\"|[0-9]{1,4}|\\[\\]|true))?\n){0,8}") {
        let _ = Config::parse("x", &text);
    }
}
