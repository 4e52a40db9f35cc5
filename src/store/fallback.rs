//! The fallback: a compact copy of one epoch in a file of its own, for the day the redb file does not open.
//!
//! ```text
//! "hwfallbk" · format byte · record* · end
//! record  kind byte · length (u32, little-endian) · payload
//!         head:   epoch, next dead letter id, committed bytes, outbox chunks and dead letters left out
//!         meta, base (number, bytes), delta (epoch, bytes), outbox (connection, first number, bytes), dead (id, bytes)
//! end     0xff · length 8 · XXH3 of everything before
//! ```
//! The state must fit into the limit, or no fallback is written (the old one stays). The outbox goes in oldest first
//! as far as it fits, then dead letters. It is made by rename, so there is always the old one or the new one. Nothing
//! in it is used before its checksum was checked over the whole file, record by record, without holding it in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3Default;

use super::error::Fault;
use super::ledger::{Filler, Ledger, Record};
use super::record::{FORMAT, Kind};
use super::{Layout, files};
use crate::state::{Decoder, Encoder};

const MAGIC: &[u8; 8] = b"hwfallbk";
const END: u8 = 0xff;
const HEADER_BYTES: u64 = 9;
const RECORD_BYTES: u64 = 5;

/// Ids of dead letters go on from here past those of the fallback: the file that was lost may have given some out
/// since.
const DEAD_ID_GAP: u64 = 1_000_000;

/// What writing the fallback did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FallbackStats {
    /// The epoch it holds.
    pub epoch: u64,
    /// Its length.
    pub file_bytes: u64,
    /// Outbox chunks that had no room.
    pub outbox_left_out: u64,
    /// Dead letters that had no room.
    pub dead_letters_left_out: u64,
}

/// What a fallback holds beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) epoch: u64,
    pub(super) next_dead_id: u64,
    pub(super) committed_bytes: u64,
    pub(super) outbox_left_out: u64,
    pub(super) dead_left_out: u64,
}

/// Writes the fallback of what `ledger` holds; `None` if the state does not fit.
pub(super) fn write(
    layout: &Layout,
    ledger: &Ledger,
    limit_bytes: u64,
) -> Result<Option<FallbackStats>, Fault> {
    let totals = ledger.head().totals;
    if totals.base_bytes + totals.delta_bytes > limit_bytes {
        return Ok(None);
    }
    let path = layout.fallback();
    files::write_whole(&path, |file| {
        let mut out = Writer {
            out: BufWriter::with_capacity(64 << 10, file),
            hash: Xxh3Default::new(),
            len_bytes: 0,
        };
        out.all(MAGIC)?;
        out.all(&[FORMAT])?;
        let mut summary = Summary {
            epoch: ledger.head().epoch,
            next_dead_id: ledger.head().next_dead_id,
            committed_bytes: totals.committed_bytes,
            ..Summary::default()
        };
        let mut encoder = Encoder::new();
        let mut outbox_is_full = false;
        ledger.visit(|record| {
            encoder.clear();
            match record {
                Record::Meta(payload) => out.record(Kind::Meta, &[payload]),
                Record::Base(number, payload) => {
                    encoder.u64(number);
                    out.record(Kind::Base, &[encoder.as_slice(), payload])
                }
                Record::Delta(epoch, payload) => {
                    encoder.u64(epoch);
                    out.record(Kind::Delta, &[encoder.as_slice(), payload])
                }
                Record::Outbox {
                    connection,
                    first_number,
                    payload,
                } => {
                    encoder.str(connection);
                    encoder.u64(first_number);
                    // Once one had no room none goes in: a gap in the middle is worse than a short outbox.
                    outbox_is_full |=
                        out.len_bytes + encoder.len() as u64 + payload.len() as u64 + RECORD_BYTES
                            > limit_bytes;
                    if outbox_is_full {
                        summary.outbox_left_out += 1;
                        return Ok(());
                    }
                    out.record(Kind::Outbox, &[encoder.as_slice(), payload])
                }
                Record::Dead(id, payload) => {
                    encoder.u64(id);
                    if out.len_bytes + payload.len() as u64 + 15 > limit_bytes {
                        summary.dead_left_out += 1;
                        return Ok(());
                    }
                    out.record(Kind::Dead, &[encoder.as_slice(), payload])
                }
            }
        })?;
        out.record(Kind::Head, &[&summary.encode()])?;
        let hash = out.hash.digest();
        out.all(&[END])?;
        out.all(&8u32.to_le_bytes())?;
        out.all(&hash.to_le_bytes())?;
        out.out.flush()?;
        Ok(Some(FallbackStats {
            epoch: summary.epoch,
            file_bytes: out.len_bytes,
            outbox_left_out: summary.outbox_left_out,
            dead_letters_left_out: summary.dead_left_out,
        }))
    })
}

/// Checks the whole file and says what it holds; `None` if there is none.
pub(super) fn check(path: &Path) -> Result<Option<Summary>, Fault> {
    let mut summary = None;
    let found = read(path, &mut |kind, payload| {
        if kind == Kind::Head as u8 {
            summary = Some(Summary::decode(payload)?);
        }
        Ok(())
    })?;
    match summary {
        _ if !found => Ok(None),
        Some(summary) => Ok(Some(summary)),
        None => Err(Fault::damaged("the fallback has no head")),
    }
}

/// Puts the records of a fallback that was checked into a new file.
pub(super) fn restore(
    path: &Path,
    summary: &Summary,
    filler: &mut Filler<'_>,
) -> Result<(), Fault> {
    read(path, &mut |kind, payload| {
        let mut decoder = Decoder::new(payload);
        match kind {
            k if k == Kind::Meta as u8 => filler.put(&Record::Meta(payload)),
            k if k == Kind::Base as u8 => {
                let number = decoder.u64()?;
                filler.put(&Record::Base(number, rest(payload, &decoder)))
            }
            k if k == Kind::Delta as u8 => {
                let epoch = decoder.u64()?;
                filler.put(&Record::Delta(epoch, rest(payload, &decoder)))
            }
            k if k == Kind::Outbox as u8 => {
                let (connection, first_number) = (decoder.str()?, decoder.u64()?);
                filler.put(&Record::Outbox {
                    connection,
                    first_number,
                    payload: rest(payload, &decoder),
                })
            }
            k if k == Kind::Dead as u8 => {
                let id = decoder.u64()?;
                filler.put(&Record::Dead(id, rest(payload, &decoder)))
            }
            _ => Ok(()),
        }
    })?;
    let head = &mut filler.page.head;
    head.epoch = summary.epoch;
    head.next_dead_id = summary.next_dead_id.saturating_add(DEAD_ID_GAP);
    head.totals.committed_bytes = summary.committed_bytes;
    Ok(())
}

type Visitor<'v> = dyn FnMut(u8, &[u8]) -> Result<(), Fault> + 'v;

/// Reads all records; whether there is a file. An error if anything about it is not as it was written, but only after
/// the records were shown: [`check`] first.
fn read(path: &Path, visitor: &mut Visitor<'_>) -> Result<bool, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut left_bytes = file.metadata()?.len();
    let mut input = BufReader::with_capacity(64 << 10, file);
    let mut hash = Xxh3Default::new();
    let mut header = [0; HEADER_BYTES as usize];
    input.read_exact(&mut header)?;
    left_bytes = left_bytes.saturating_sub(HEADER_BYTES);
    if &header[..8] != MAGIC {
        return Err(Fault::damaged("the fallback does not begin like one"));
    }
    if header[8] != FORMAT {
        return Err(Fault::OtherFormat {
            found: header[8].to_string(),
        });
    }
    hash.update(&header);
    let mut payload = Vec::new();
    loop {
        let mut record = [0; RECORD_BYTES as usize];
        input.read_exact(&mut record)?;
        let [kind, len @ ..] = record;
        let len_bytes = u64::from(u32::from_le_bytes(len));
        left_bytes = left_bytes.saturating_sub(RECORD_BYTES);
        if len_bytes > left_bytes {
            return Err(Fault::damaged("the fallback ends early"));
        }
        left_bytes -= len_bytes;
        payload.resize(len_bytes as usize, 0);
        input.read_exact(&mut payload)?;
        if kind == END {
            return if payload == hash.digest().to_le_bytes() && left_bytes == 0 {
                Ok(true)
            } else {
                Err(Fault::damaged("the fallback fails its checksum"))
            };
        }
        hash.update(&record);
        hash.update(&payload);
        visitor(kind, &payload)?;
    }
}

fn rest<'a>(payload: &'a [u8], decoder: &Decoder<'_>) -> &'a [u8] {
    &payload[payload.len() - decoder.remaining()..]
}

impl Summary {
    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        for number in [
            self.epoch,
            self.next_dead_id,
            self.committed_bytes,
            self.outbox_left_out,
            self.dead_left_out,
        ] {
            encoder.u64(number);
        }
        encoder.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut decoder = Decoder::new(bytes);
        let summary = Self {
            epoch: decoder.u64()?,
            next_dead_id: decoder.u64()?,
            committed_bytes: decoder.u64()?,
            outbox_left_out: decoder.u64()?,
            dead_left_out: decoder.u64()?,
        };
        decoder.finish()?;
        Ok(summary)
    }
}

struct Writer {
    out: BufWriter<File>,
    hash: Xxh3Default,
    len_bytes: u64,
}

impl Writer {
    fn all(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.hash.update(bytes);
        self.len_bytes += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }

    fn record(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<(), Fault> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let len = u32::try_from(len)
            .map_err(|_| Fault::Misuse("a record is longer than 4 GiB".into()))?;
        self.all(&[kind as u8])?;
        self.all(&len.to_le_bytes())?;
        parts.iter().try_for_each(|part| self.all(part))
    }
}
