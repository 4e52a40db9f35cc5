//! Headwater processes sensor streams where they start: MQTT in, standing SQL queries, MQTT out, nothing lost.
//!
//! # The way of the data
//! ```text
//!  broker ─▶ mqtt::source ─▶ codec ─▶ engine: operators ─▶ outbox ─▶ mqtt::forward ─▶ upstream
//!    ▲            │            │            │                 ▲             │
//!    └─ PUBACK ◀──┴─ after ────┴── commit ◀─┴─── epoch ───────┘   PUBACK ───┘ then the row may go
//! ```
//! One way, one pass. The engine sees no socket, no file and no clock: time is an argument, and what it gives
//! back is data. The same engine therefore runs live, in `replay`, in tests and in the crash simulation, and
//! gives the same rows in each.
//!
//! # The map of the house
//! Imports point only to a lower floor; rooms on one floor do not know each other. `tests/architecture.rs` guards it.
//!
//! | floor | room | what lives there |
//! |---|---|---|
//! | 0 | [`types`] | values, rows, schemas, event time, identities |
//! | 1 | [`expr`] · [`codec`] · [`state`] | typed expressions and functions · payload bytes and rows · versioned state bytes |
//! | 2 | [`plan`] | the typed plan: data only |
//! | 3 | [`sql`] · [`config`] · [`ops`] | SQL text to plan (only here is sqlparser named) · TOML to checked configuration · operators |
//! | 4 | [`engine`] | the sans-IO driver: graph, watermarks, epochs, and the pure decisions on duplicates and commits |
//! | 5 | [`store`] · [`mqtt`] | the redb file (only here is redb named) · the broker connections (only here is rumqttc named) |
//! | 6 | [`runtime`] | tasks, channels, clock, signals, shutdown, the control socket |
//! | 7 | [`cli`], `main` | the commands |
//!
//! # The promise
//! Nothing acknowledged to the broker is lost, on storage that honours a flush; each delivery of the broker changes
//! state once; upstream gets each derived event at least once, with an id that is the same each time. How: `engine`
//! (which redelivery is a duplicate), `store` (one transaction an epoch) and `runtime` (acknowledge after it).

pub mod cli;
pub mod codec;
pub mod config;
pub mod engine;
pub mod expr;
pub mod mqtt;
pub mod ops;
pub mod plan;
pub mod runtime;
pub mod sql;
pub mod state;
pub mod store;
pub mod types;
