//! Functions between text, bytes and their spellings: hexadecimal, Base64, URL encoding, character sets.
//!
//! What is not of the spelling is NULL where Flink makes it NULL, and an error where Flink's job would fail.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::expr::cast::hex;
use crate::types::{Type, Value};

use super::Kind::{Bytes, Integer, Text};
use super::Output::Is;
use super::{Args, EvalError, Function, function};

const STRING: super::Output = Is(Type::String);

pub(super) const FUNCTIONS: &[Function] = &[
    function("HEX", &[Integer], STRING, |a| {
        Ok(Value::str(format!("{:X}", a.int(0)?)))
    }),
    function("HEX", &[Text], STRING, |a| {
        Ok(Value::str(hex(a.text(0)?.as_bytes()).to_uppercase()))
    }),
    function("HEX", &[Bytes], STRING, |a| {
        Ok(Value::str(hex(a.bytes(0)?).to_uppercase()))
    }),
    function("BIN", &[Integer], STRING, |a| {
        Ok(Value::str(format!("{:b}", a.int(0)?)))
    }),
    function("UNHEX", &[Text], Is(Type::Bytes), unhex).may_be_null(),
    function("TO_BASE64", &[Text], STRING, |a| {
        Ok(Value::str(STANDARD.encode(a.text(0)?)))
    }),
    function("TO_BASE64", &[Bytes], STRING, |a| {
        Ok(Value::str(STANDARD.encode(a.bytes(0)?)))
    }),
    function("FROM_BASE64", &[Text], STRING, from_base64),
    function("URL_ENCODE", &[Text], STRING, |a| {
        Ok(Value::str(url_encode(a.text(0)?)))
    }),
    function("URL_DECODE", &[Text], STRING, |a| {
        Ok(url_decode(a.text(0)?).map_or(Value::Null, Value::str))
    })
    .may_be_null(),
    function("ENCODE", &[Text, Text], Is(Type::Bytes), |a| {
        let bytes = Charset::find(a.text(1)?)?.encode(a.text(0)?);
        Ok(Value::Bytes(bytes.into()))
    }),
    function("DECODE", &[Bytes, Text], STRING, |a| {
        Ok(Value::str(Charset::find(a.text(1)?)?.decode(a.bytes(0)?)))
    }),
];

/// Of an odd count of digits the first is left out and a zero byte put in front, as in Flink.
fn unhex(args: &Args<'_>) -> Result<Value, EvalError> {
    let digits = args.text(0)?.as_bytes();
    let odd = digits.len() % 2;
    let nibble = |b: &u8| char::from(*b).to_digit(16);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    if odd == 1 {
        if nibble(&digits[0]).is_none() {
            return Ok(Value::Null);
        }
        bytes.push(0);
    }
    for pair in digits[odd..].chunks_exact(2) {
        match (nibble(&pair[0]), nibble(&pair[1])) {
            (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
            _ => return Ok(Value::Null),
        }
    }
    Ok(Value::Bytes(bytes.into()))
}

fn from_base64(args: &Args<'_>) -> Result<Value, EvalError> {
    let bytes = STANDARD
        .decode(args.text(0)?)
        .map_err(|e| EvalError::new(format!("FROM_BASE64 got what is not Base64: {e}")))?;
    String::from_utf8(bytes)
        .map(Value::str)
        .map_err(|_| EvalError::new("FROM_BASE64 gives a STRING, and these bytes are not UTF-8"))
}

/// `application/x-www-form-urlencoded`, as Java's `URLEncoder`.
fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => {
                out.push('%');
                out.push_str(&hex(&[other]).to_uppercase());
            }
        }
    }
    out
}

fn url_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high << 4 | low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A character set of ENCODE and DECODE.
#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16 {
        little: bool,
        /// Whether a mark of the byte order is written, and obeyed when read.
        marked: bool,
    },
}

impl Charset {
    fn find(name: &str) -> Result<Self, EvalError> {
        let utf16 = |little, marked| Self::Utf16 { little, marked };
        Ok(match name.to_ascii_uppercase().as_str() {
            "US-ASCII" | "ASCII" => Self::Ascii,
            "ISO-8859-1" | "LATIN1" => Self::Latin1,
            "UTF-8" | "UTF8" => Self::Utf8,
            "UTF-16BE" => utf16(false, false),
            "UTF-16LE" => utf16(true, false),
            "UTF-16" => utf16(false, true),
            _ => {
                let shown: String = name.chars().take(40).collect();
                return Err(EvalError::new(format!(
                    "there is no character set '{shown}': use US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE or UTF-16"
                )));
            }
        })
    }

    /// The bytes of a text; a character that the set lacks becomes `?`.
    fn encode(self, text: &str) -> Vec<u8> {
        let narrow = |greatest: u32| {
            let byte = |c: char| {
                if u32::from(c) <= greatest {
                    c as u8
                } else {
                    b'?'
                }
            };
            text.chars().map(byte).collect()
        };
        match self {
            Self::Ascii => narrow(0x7f),
            Self::Latin1 => narrow(0xff),
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16 { little, marked } => {
                let mark = marked.then_some(0xfeff);
                let units = mark.into_iter().chain(text.encode_utf16());
                let pair = |unit: u16| {
                    if little {
                        unit.to_le_bytes()
                    } else {
                        unit.to_be_bytes()
                    }
                };
                units.flat_map(pair).collect()
            }
        }
    }

    /// The text of bytes; what is none becomes U+FFFD.
    fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Ascii => bytes
                .iter()
                .map(|b| {
                    if b.is_ascii() {
                        char::from(*b)
                    } else {
                        char::REPLACEMENT_CHARACTER
                    }
                })
                .collect(),
            Self::Latin1 => bytes.iter().copied().map(char::from).collect(),
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16 { mut little, marked } => {
                let mut rest = bytes;
                if marked && let [a, b, after @ ..] = bytes {
                    match (a, b) {
                        (0xff, 0xfe) => (little, rest) = (true, after),
                        (0xfe, 0xff) => rest = after,
                        _ => {}
                    }
                }
                let units: Vec<u16> = rest
                    .chunks(2)
                    .map(|pair| match (pair, little) {
                        (&[a, b], true) => u16::from_le_bytes([a, b]),
                        (&[a, b], false) => u16::from_be_bytes([a, b]),
                        // Half a unit.
                        _ => 0xfffd,
                    })
                    .collect();
                String::from_utf16_lossy(&units)
            }
        }
    }
}
