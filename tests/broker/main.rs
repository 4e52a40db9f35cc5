//! The delivery promise on a real broker: mosquitto, real kills, real outages, a real full disk.
//!
//! Run by `.ci/run`, or with
//! `cargo test --release --test broker -- --ignored --test-threads 1`.
//! Every test computes what has to come out from what was published, and compares all of it. What a test needs and
//! does not find makes it fail. Random choices come from seeds; a failure prints its seed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::unnecessary_debug_formatting
)]

mod brokers;
mod clients;
mod forwarding;
mod headwater;
mod oracle;
mod proxy;
mod random;
mod waiting;
mod wire;

mod alarms;
mod broker_restarts;
mod doctor;
mod flash;
mod floods;
mod full_disk;
mod hostile_input;
mod kills;
mod networks;
mod shutdown;
mod throughput;
mod upstream_answers;
mod upstream_outages;
