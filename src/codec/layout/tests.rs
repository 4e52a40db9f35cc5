//! Guesses against the long way, over random messages.

#![allow(clippy::unwrap_used)]

use fastrand::Rng;

use super::scalar::Number;
use super::*;
use crate::codec::{CodecError, JsonFormat};
use crate::types::Type;

const TYPES: [Type; 10] = [
    Type::String,
    Type::Double,
    Type::Float,
    Type::TinyInt,
    Type::Int,
    Type::BigInt,
    Type::Boolean,
    Type::Timestamp { precision: 3 },
    Type::TimestampLtz { precision: 0 },
    Type::Decimal {
        precision: 10,
        scale: 2,
    },
];

const SCALARS: [&str; 41] = [
    "0",
    "-0",
    "1",
    "-1",
    "127",
    "128",
    "-129",
    "01",
    "1.",
    ".5",
    "1.50",
    "-0.0",
    "21.37",
    "1e3",
    "1e999",
    "1E-2",
    "1e",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "123456789012345678",
    "0.1234567890123456",
    "1767225600123",
    "1767225600",
    "true",
    "false",
    "null",
    "nul",
    "\"\"",
    "\"a\"",
    "\"21.5\"",
    "\"-7\"",
    "\"tr\\u0075e\"",
    "\"a\\\"b\"",
    "\"\u{e4}\u{1f600}\"",
    "\"2026-01-01 00:00:00.5\"",
    "\"2026-01-01T00:00:00Z\"",
    "\"1767225600\"",
    "[]",
    "{}",
    "\"a\u{1}\"",
];

const KEYS: [&str; 6] = ["a", "b", "c", "long key", "\u{e4}", "d"];

fn columns(random: &mut Rng) -> Vec<InputColumn> {
    let count = 1 + random.usize(..4);
    (0..count)
        .map(|at| InputColumn {
            name: format!("c{at}").into(),
            ty: TYPES[random.usize(..TYPES.len())].clone(),
            nullable: random.usize(..5) > 0,
            origin: Origin::Payload {
                path: (0..=random.usize(..5) / 4)
                    .map(|_| KEYS[random.usize(..KEYS.len())].to_owned())
                    .collect(),
            },
        })
        .collect()
}

/// The keys and shape of a message, without its values.
enum Template {
    Scalar,
    Object(Vec<(&'static str, Template)>),
    Array(Vec<Template>),
}

impl Template {
    fn random(random: &mut Rng, depth: usize) -> Self {
        match random.usize(..8) {
            0 if depth > 0 => Self::Array(
                (0..random.usize(..3))
                    .map(|_| Self::random(random, depth - 1))
                    .collect(),
            ),
            1 | 2 if depth > 0 => Self::object(random, depth - 1),
            _ => Self::Scalar,
        }
    }

    fn object(random: &mut Rng, depth: usize) -> Self {
        let fields = (0..random.usize(..6)).map(|_| {
            let key = KEYS[random.usize(..KEYS.len())];
            (key, Self::random(random, depth))
        });
        Self::Object(fields.collect())
    }

    fn write(&self, random: &mut Rng, out: &mut String) {
        match self {
            // Mostly plain values, so that messages are sound.
            Self::Scalar if random.usize(..4) > 0 => {
                out.push_str(["21.37", "1", "true", "\"x\"", "1767225600123"][random.usize(..5)]);
            }
            Self::Scalar => out.push_str(SCALARS[random.usize(..SCALARS.len())]),
            Self::Object(fields) => {
                out.push('{');
                for (at, (key, value)) in fields.iter().enumerate() {
                    out.push_str(if at > 0 { ", \"" } else { "\"" });
                    out.push_str(key);
                    out.push_str("\":");
                    value.write(random, out);
                }
                out.push('}');
            }
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    item.write(random, out);
                }
                out.push(']');
            }
        }
    }
}

/// Changes a few characters of a message.
fn damage(random: &mut Rng, text: &mut String) {
    for _ in 0..=random.usize(..2) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let Some(&at) = places.get(random.usize(..places.len().max(1))) else {
            return;
        };
        let sign = [
            '"', '{', '}', ',', ':', ' ', '0', '.', '-', 'e', '\\', 'x', '\n', '\u{7f}',
        ];
        match random.usize(..3) {
            0 => drop(text.remove(at)),
            1 => text.insert(at, sign[random.usize(..sign.len())]),
            _ => {
                text.remove(at);
                text.insert(at, sign[random.usize(..sign.len())]);
            }
        }
    }
}

fn decode(
    shape: &JsonShape,
    layouts: &mut Layouts,
    columns: &[InputColumn],
    payload: &[u8],
) -> Result<Vec<Row>, CodecError> {
    let mut rows = Vec::new();
    let count = shape.decode(payload, layouts, columns, &mut rows)?;
    rows.truncate(count);
    Ok(rows)
}

#[test]
fn a_guess_gives_what_the_long_way_gives() {
    let (mut guessed, mut long) = (0, 0);
    for seed in 0..5_000 {
        let mut random = Rng::with_seed(seed);
        let columns = columns(&mut random);
        let options = JsonFormat {
            timestamp: [
                TimestampFormat::Sql,
                TimestampFormat::EpochMillis,
                TimestampFormat::EpochSeconds,
            ][random.usize(..3)]
            .clone(),
            ignore_parse_errors: random.usize(..3) == 0,
            fail_on_missing_field: random.usize(..4) == 0,
            id_field: None,
        };
        let paths = columns
            .iter()
            .enumerate()
            .map(|(at, column)| match &column.origin {
                Origin::Payload { path } => (at, path.as_slice()),
                _ => unreachable!("all are of the payload"),
            });
        let shape = JsonShape::new(&options, paths);
        let templates: Vec<Template> = (0..=random.usize(..6))
            .map(|_| Template::object(&mut random, 2))
            .collect();
        let mut layouts = Layouts::default();
        for _ in 0..30 {
            let mut text = String::new();
            templates[random.usize(..templates.len())].write(&mut random, &mut text);
            if random.usize(..4) == 0 {
                damage(&mut random, &mut text);
            }
            let mut payload = text.clone().into_bytes();
            if random.usize(..8) == 0 && !payload.is_empty() {
                // A byte that makes it no UTF-8, or is lost within a character.
                let at = random.usize(..payload.len());
                payload[at] = 0x80 + random.usize(..0x80) as u8;
            }
            let payload = &payload[..];
            let expected = decode(&shape, &mut Layouts::default(), &columns, payload);
            let mut row = vec![Value::Null; columns.len()];
            if layouts.fill(payload, &shape, &columns, &mut row) {
                guessed += 1;
            } else {
                long += 1;
            }
            let given = decode(&shape, &mut layouts, &columns, payload);
            // By their text: NaN has no part here, and -0.0 is not 0.0.
            assert_eq!(
                format!("{given:?}"),
                format!("{expected:?}"),
                "seed {seed}: {text}\n{columns:?}"
            );
        }
    }
    assert!(
        guessed > 10_000 && long > 20_000,
        "{guessed} guessed, {long} not"
    );
}

/// What one field of a sensor's messages looks like, in all of them.
enum Habit {
    Text(usize),
    Number {
        negative: bool,
        whole: usize,
        fraction: usize,
    },
    Word(&'static str),
}

impl Habit {
    fn random(random: &mut Rng) -> Self {
        match random.usize(..8) {
            0 | 1 => Self::Text(random.usize(..30)),
            2 => Self::Word(["true", "null", "[]", "\"\u{e4}\"", "1e3"][random.usize(..5)]),
            _ => {
                let (most_whole, most_fraction) = (random.usize(1..18), random.usize(1..12));
                Self::Number {
                    negative: random.usize(..4) == 0,
                    whole: 1 + random.usize(..most_whole),
                    fraction: random.usize(..most_fraction),
                }
            }
        }
    }

    fn write(&self, random: &mut Rng, out: &mut String) {
        let digits = |random: &mut Rng, count: usize, out: &mut String| {
            out.extend((0..count).map(|_| random.digit(10)));
        };
        match *self {
            Self::Text(length) => {
                out.push('"');
                out.extend((0..length).map(|_| random.alphanumeric()));
                out.push('"');
            }
            Self::Number {
                negative,
                whole,
                fraction,
            } => {
                out.push_str(if negative { "-" } else { "" });
                let begin = out.len();
                digits(random, whole, out);
                // Mostly one that is a number; a zero in front is an error that is to be noticed.
                if whole > 1 && out[begin..].starts_with('0') && random.usize(..20) > 0 {
                    out.replace_range(begin..=begin, "7");
                }
                if fraction > 0 {
                    out.push('.');
                    digits(random, fraction, out);
                }
            }
            Self::Word(word) => out.push_str(word),
        }
    }
}

/// Changes one byte of a message, or puts two in each other's place: its length stays, and so does the layout that is
/// guessed.
fn blur(random: &mut Rng, message: &mut [u8]) {
    const SIGNS: &[u8] = b"\"\\0.-e,:}\x1f\x7f\x80 9";
    let at = random.usize(..message.len());
    match random.usize(..4) {
        0 => message.swap(at, random.usize(..message.len())),
        1 => message[at] ^= 1 << random.usize(..8),
        2 => message[at] = random.u8(..),
        _ => message[at] = SIGNS[random.usize(..SIGNS.len())],
    }
}

#[test]
fn a_guess_by_the_form_of_values_gives_what_the_long_way_gives() {
    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let mut guessed = 0;
    for seed in 0..4_000 {
        let mut random = Rng::with_seed(seed);
        let habits: Vec<Habit> = (0..=random.usize(..6))
            .map(|_| Habit::random(&mut random))
            .collect();
        let mut columns = Vec::new();
        for (name, habit) in NAMES.iter().zip(&habits) {
            if random.usize(..3) == 0 {
                continue;
            }
            let ty = match habit {
                Habit::Text(_) => Type::String,
                Habit::Number { fraction: 0, .. } => TYPES[1 + random.usize(..8)].clone(),
                _ => Type::Double,
            };
            columns.push(InputColumn {
                name: (*name).into(),
                ty,
                nullable: true,
                origin: Origin::Payload {
                    path: vec![(*name).to_owned()],
                },
            });
        }
        let formats = [TimestampFormat::EpochMillis, TimestampFormat::EpochSeconds];
        let options = JsonFormat {
            timestamp: formats[random.usize(..2)].clone(),
            ignore_parse_errors: false,
            fail_on_missing_field: random.bool(),
            id_field: None,
        };
        let paths = columns.iter().enumerate();
        let paths = paths.map(|(at, column)| match &column.origin {
            Origin::Payload { path } => (at, path.as_slice()),
            _ => unreachable!("all are of the payload"),
        });
        let shape = JsonShape::new(&options, paths);
        let mut layouts = Layouts::default();
        for _ in 0..60 {
            let mut text = String::from("{");
            for (at, (name, habit)) in NAMES.iter().zip(&habits).enumerate() {
                text.push_str(if at > 0 { ",\"" } else { "\"" });
                text.push_str(name);
                text.push_str("\":");
                habit.write(&mut random, &mut text);
            }
            text.push('}');
            let mut payload = text.into_bytes();
            if random.usize(..3) == 0 {
                blur(&mut random, &mut payload);
            }
            let expected = decode(&shape, &mut Layouts::default(), &columns, &payload);
            let mut row = vec![Value::Null; columns.len()];
            if layouts.fill(&payload, &shape, &columns, &mut row) {
                guessed += 1;
            }
            let given = decode(&shape, &mut layouts, &columns, &payload);
            let text = String::from_utf8_lossy(&payload);
            assert_eq!(
                format!("{given:?}"),
                format!("{expected:?}"),
                "seed {seed}: {text}\n{columns:?}"
            );
        }
    }
    assert!(guessed > 100_000, "{guessed} guessed");
}

#[test]
fn a_quick_number_is_the_one_that_the_library_reads() {
    let mut random = Rng::with_seed(1);
    for _ in 0..200_000 {
        let (before, behind) = (1 + random.usize(..12) as u32, 1 + random.usize(..9) as u32);
        let whole = random.usize(..10_usize.pow(before));
        let fraction = random.usize(..10_usize.pow(behind));
        let text = match random.usize(..3) {
            0 => format!("{whole}"),
            1 => format!("-{whole}.{fraction}"),
            _ => format!("{whole}.{fraction:05}"),
        };
        let (number, end) = Number::read(text.as_bytes(), 0).unwrap();
        assert_eq!(end, text.len());
        if let Some(double) = number.double() {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(double.to_bits(), expected.to_bits(), "{text}");
        }
    }
}

/// A table with the one column `v`.
fn one_integer() -> ([InputColumn; 1], JsonShape) {
    let path = ["v".to_owned()];
    let options = JsonFormat {
        timestamp: TimestampFormat::Sql,
        ignore_parse_errors: false,
        fail_on_missing_field: false,
        id_field: None,
    };
    let shape = JsonShape::new(&options, [(0, &path[..])].into_iter());
    let column = InputColumn {
        name: "v".into(),
        ty: Type::Int,
        nullable: true,
        origin: Origin::Payload { path: path.into() },
    };
    ([column], shape)
}

#[test]
fn values_that_seldom_change_are_passed_at_once() {
    let (columns, shape) = one_integer();
    let mut layouts = Layouts::default();
    let mut take = |number: i64, state: &str| {
        let text = format!(r#"{{"unit":"°C","v":{number},"state":"{state}","seq":{number}}}"#);
        let rows = decode(&shape, &mut layouts, &columns, text.as_bytes()).unwrap();
        assert_eq!(rows, [[Value::Int(number)]]);
        assert_eq!(layouts.known.len(), 1);
        layouts.known[0].stretches.len()
    };
    for number in 1_000..2_000 {
        // Of another length, once; and other texts of the same length each time, from then on.
        let state = match number {
            ..1_300 => "run",
            1_300..1_600 => "stopped",
            _ => ["stopped", "started"][number as usize % 2],
        };
        assert_eq!(take(number, state), 1);
    }
    for number in 1_000..2_000 {
        let stretches = take(number, ["run", "\u{1f600}"][number as usize % 2]);
        assert!(stretches == 2 || number < 1_100, "{stretches}");
    }
    // Both numbers, too, are now long and now short.
    for number in 1_000..3_000 {
        let stretches = take(number * (1 + 99 * (number % 2)), "run");
        assert!(stretches == 4 || number < 1_200, "{stretches}");
    }
}

#[test]
fn messages_without_a_layout_in_common_are_learned_seldom() {
    let (columns, shape) = one_integer();
    let mut layouts = Layouts::default();
    for number in 0..10_000 {
        let text = format!("{{\"k{number}\":0,\"v\":{number}}}");
        let rows = decode(&shape, &mut layouts, &columns, text.as_bytes()).unwrap();
        assert_eq!(rows, [[Value::Int(number)]]);
    }
    assert_eq!(layouts.paused, MOST_SELDOM);
    // What all have in common is found again.
    for number in 0..5_000 {
        let text = format!("{{\"v\":{number}}}");
        decode(&shape, &mut layouts, &columns, text.as_bytes()).unwrap();
    }
    assert_eq!(layouts.paused, 0);
}
