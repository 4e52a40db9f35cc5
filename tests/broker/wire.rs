//! MQTT 5 on the wire, as far as these tests need it: whole frames in and out of a blocking socket.
//!
//! Written by hand and not with the client library of the product, so that a fault of that library cannot hide in
//! the test's own clients.

use std::io::{self, ErrorKind, Read, Write};

/// The packet types that are named here.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const PINGRESP: u8 = 13;
}

/// A whole control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Type and flags.
    pub(crate) first: u8,
    /// What follows the remaining length.
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, body: Vec<u8>) -> Self {
        Self {
            first: kind << 4 | flags,
            body,
        }
    }

    pub(crate) const fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub(crate) const fn qos(&self) -> u8 {
        self.first >> 1 & 3
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        let first = byte[0];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            from.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(io::Error::new(ErrorKind::InvalidData, "remaining length"));
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(Self { first, body })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with_length(self.body.len())
    }

    /// The frame, with a remaining length that may be wrong.
    pub(crate) fn bytes_with_length(&self, mut length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 5);
        out.push(self.first);
        loop {
            let more = length > 0x7f;
            out.push((length & 0x7f) as u8 | u8::from(more) << 7);
            length >>= 7;
            if !more {
                break;
            }
        }
        out.extend_from_slice(&self.body);
        out
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.bytes())
    }
}

/// How a client introduces itself.
pub(crate) struct Connect<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
    /// Seconds; `u32::MAX` for ever.
    pub(crate) session_expiry: u32,
}

impl Connect<'_> {
    pub(crate) fn frame(&self) -> Frame {
        let mut body = Vec::new();
        put_text(&mut body, b"MQTT");
        body.push(5);
        body.push(u8::from(self.clean_start) << 1);
        // No keep-alive: the test's own clients may be slow.
        body.extend_from_slice(&0_u16.to_be_bytes());
        body.push(5);
        body.push(0x11);
        body.extend_from_slice(&self.session_expiry.to_be_bytes());
        put_text(&mut body, self.client_id.as_bytes());
        Frame::new(kind::CONNECT, 0, body)
    }
}

pub(crate) fn subscribe(packet_id: u16, filter: &str, qos: u8) -> Frame {
    let mut body = packet_id.to_be_bytes().to_vec();
    body.push(0);
    put_text(&mut body, filter.as_bytes());
    body.push(qos);
    Frame::new(kind::SUBSCRIBE, 2, body)
}

/// A PUBLISH; `packet_id` is there for `QoS` 1.
pub(crate) fn publish(topic: &[u8], payload: &[u8], packet_id: Option<u16>) -> Frame {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 5);
    put_text(&mut body, topic);
    if let Some(id) = packet_id {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.push(0);
    body.extend_from_slice(payload);
    Frame::new(kind::PUBLISH, u8::from(packet_id.is_some()) << 1, body)
}

pub(crate) fn puback(packet_id: u16) -> Frame {
    Frame::new(kind::PUBACK, 0, packet_id.to_be_bytes().to_vec())
}

/// What a PUBLISH carries.
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) packet_id: Option<u16>,
    pub(crate) properties: Properties,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    pub(crate) fn parse(frame: &Frame) -> Option<Self> {
        let mut rest = frame.body.as_slice();
        let topic = String::from_utf8(take_text(&mut rest)?.to_vec()).ok()?;
        let packet_id = if frame.qos() > 0 {
            Some(take_u16(&mut rest)?)
        } else {
            None
        };
        let properties = Properties::parse(&mut rest)?;
        Some(Self {
            topic,
            packet_id,
            properties,
            payload: rest.to_vec(),
        })
    }
}

/// What a CONNACK says.
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    pub(crate) reason: u8,
    pub(crate) properties: Properties,
}

impl ConnAck {
    pub(crate) fn parse(frame: &Frame) -> Option<Self> {
        let mut rest = frame.body.get(2..)?;
        Some(Self {
            session_present: frame.body[0] & 1 != 0,
            reason: frame.body[1],
            properties: Properties::parse(&mut rest).unwrap_or_default(),
        })
    }
}

/// The properties these tests look at.
#[derive(Default)]
pub(crate) struct Properties {
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) user: Vec<(String, String)>,
}

impl Properties {
    fn parse(from: &mut &[u8]) -> Option<Self> {
        let length = take_varint(from)?;
        let mut rest = from.get(..length)?;
        *from = &from[length..];
        let mut found = Self::default();
        while let Some((&id, after)) = rest.split_first() {
            rest = after;
            match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => rest = rest.get(1..)?,
                0x21 => found.receive_maximum = Some(take_u16(&mut rest)?),
                0x13 | 0x22 | 0x23 => rest = rest.get(2..)?,
                0x02 | 0x11 | 0x18 | 0x27 => rest = rest.get(4..)?,
                0x0b => {
                    take_varint(&mut rest)?;
                }
                0x26 => {
                    let name = String::from_utf8_lossy(take_text(&mut rest)?).into_owned();
                    let value = String::from_utf8_lossy(take_text(&mut rest)?).into_owned();
                    found.user.push((name, value));
                }
                // All others are text or bytes with a length.
                _ => {
                    take_text(&mut rest)?;
                }
            }
        }
        Some(found)
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("topics and ids are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

fn take_u16(from: &mut &[u8]) -> Option<u16> {
    let (bytes, rest) = from.split_first_chunk::<2>()?;
    *from = rest;
    Some(u16::from_be_bytes(*bytes))
}

fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(take_u16(from)?);
    let text = from.get(..length)?;
    *from = &from[length..];
    Some(text)
}

fn take_varint(from: &mut &[u8]) -> Option<usize> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}
