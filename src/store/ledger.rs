//! The tables of one open redb file: the transaction of an epoch, and the reading of what is there.
//!
//! Quick repair stays off: it saves the allocator's state with every commit, 12 KB more for a small one, so that reopening
//! after a crash need not read the file. But every byte is read and checked at open anyway.
//!
//! A commit runs with a read of the epoch before it still open. Without one redb takes the pages that it has freed back at
//! once, and for that keeps a second list of freed pages, of its own trees, which costs a page with each commit (measured:
//! 28 KB instead of 24). With one they are taken back by the next commit, and the file is longer by what one commit writes.
//! On a full disk that may be the one that needs them: then an empty commit comes before it ([`Ledger::reclaim`]).
//!
//! Invariants: a write transaction that is not committed whole changes nothing; every transaction is durable and
//! committed in two phases (on a card that lies about flushing, 14 % of crash images did not open instead of 55 %);
//! after any fault that [`Fault::poisons`] the ledger is dropped by its owner and not used again.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

use super::backend::{Disk, Meter, Metered};
use super::epoch::{EpochWriter, put_head, put_log};
use super::error::Fault;
use super::head::{DeltaVisitor, Head, HeadPage, LogReader, PAGE_BYTES};
use super::record::{FRAME_BYTES, Kind, decode_dead, decode_outbox, fill_frame, open_frame};
use super::{
    CommitStats, DeadLetter, EpochCommit, OutboxIndex, Recovered, RecoveryNote, StoreOptions,
};
use crate::state::{Packed, unpack, unpacked_len};

type Bytes = &'static [u8];
pub(super) const HEAD: TableDefinition<u8, Bytes> = TableDefinition::new("head");
/// By number of the chunk and number of its piece.
pub(super) const BASE: TableDefinition<(u64, u32), Bytes> = TableDefinition::new("base");
/// By number of the piece.
pub(super) const DELTAS: TableDefinition<u64, Bytes> = TableDefinition::new("deltas");
pub(super) const OUTBOX: TableDefinition<(&str, u64), Bytes> = TableDefinition::new("outbox");
pub(super) const DEAD: TableDefinition<u64, Bytes> = TableDefinition::new("dead");

pub(super) const HEAD_KEY: u8 = 0;

/// What a visitor of [`Ledger::visit`] is shown; chunks, deltas and the rows of outbox chunks as they are stored: packed.
pub(super) enum Record<'a> {
    Meta(&'a [u8]),
    Base(u64, &'a [u8]),
    Delta(u64, &'a [u8]),
    Outbox {
        connection: &'a str,
        first_number: u64,
        payload: &'a [u8],
    },
    Dead(u64, &'a [u8]),
}

/// An open file.
#[derive(Debug)]
pub(super) struct Ledger {
    db: Handle,
    meter: Arc<Meter>,
    page: HeadPage,
}

impl Ledger {
    /// Makes the tables in an empty backend. `fill` may put the records of a fallback in.
    pub(super) fn create(
        disk: Disk,
        options: &StoreOptions,
        fill: impl FnOnce(&mut Filler<'_>) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let meter = Arc::new(Meter::default());
        let result = (|| {
            let metered = Metered::new(disk, Arc::clone(&meter));
            let db = Handle(Some(builder(options).create_with_backend(metered)?));
            let tx = begin(&db)?;
            tx.open_table(BASE)?;
            tx.open_table(DELTAS)?;
            tx.open_table(OUTBOX)?;
            tx.open_table(DEAD)?;
            let mut filler = Filler {
                tx: &tx,
                page: HeadPage {
                    head: Head {
                        next_dead_id: 1,
                        ..Head::default()
                    },
                    ..HeadPage::default()
                },
            };
            fill(&mut filler)?;
            let mut page = filler.page;
            put_head(&tx, &mut page)?;
            tx.commit()?;
            Ok((db, page))
        })();
        let (db, page) = result.map_err(|fault| meter.fault(fault))?;
        Ok(Self { db, meter, page })
    }

    /// Opens a file that was made before, and reads and checks all of it.
    pub(super) fn open(disk: Disk, options: &StoreOptions) -> Result<(Self, Recovered), Fault> {
        let ledger = Self::reopen(disk, options)?;
        let recovered = ledger.guard(|| ledger.recover())?;
        Ok((ledger, recovered))
    }

    /// Opens a file that this process had open before, and reads only its head.
    pub(super) fn reopen(disk: Disk, options: &StoreOptions) -> Result<Self, Fault> {
        let meter = Arc::new(Meter::default());
        let metered = Metered::new(disk, Arc::clone(&meter));
        let result = without_panic(|| {
            let db = Handle(Some(
                builder(options)
                    .set_check_integrity_on_open(true)
                    .create_with_backend(metered)?,
            ));
            let tx = db.begin_read()?;
            let page = match tx.open_table(HEAD)?.get(HEAD_KEY)? {
                Some(frame) => HeadPage::decode(open_frame(frame.value(), Kind::Head, 0)?)?,
                None => return Err(Fault::damaged("it has no head record")),
            };
            Ok((db, page))
        });
        let (db, page) = result.map_err(|fault| meter.fault(fault))?;
        Ok(Self { db, meter, page })
    }

    pub(super) const fn head(&self) -> &Head {
        &self.page.head
    }

    /// One epoch, one transaction.
    pub(super) fn commit(
        &mut self,
        commit: &EpochCommit,
        options: &StoreOptions,
    ) -> Result<CommitStats, Fault> {
        let expected = self.head().epoch + 1;
        if commit.epoch != expected {
            return Err(Fault::Misuse(format!(
                "epoch {expected} is next, not {}",
                commit.epoch
            )));
        }
        let written_before = self.meter.written_bytes();
        let (page, mut stats) = self.guard(|| {
            // See above: dropped after the commit.
            let _epoch_before = self.db.begin_read()?;
            let tx = begin(&self.db)?;
            let mut epoch = EpochWriter::new(&tx, self.page.clone());
            match epoch.write(commit, options) {
                Ok(()) => {
                    let (page, stats) = (epoch.page, epoch.stats);
                    tx.commit()?;
                    Ok((page, stats))
                }
                Err(fault) => {
                    tx.abort()?;
                    Err(fault)
                }
            }
        })?;
        self.page = page;
        stats.totals = self.head().totals;
        stats.written_bytes = self.meter.written_bytes() - written_before;
        Ok(stats)
    }

    /// Takes back the pages that the last commit has freed.
    pub(super) fn reclaim(&self) -> Result<(), Fault> {
        self.guard(|| Ok(begin(&self.db)?.commit()?))
    }

    pub(super) fn read_outbox(
        &self,
        connection: &str,
        first_number: u64,
    ) -> Result<Vec<u8>, Fault> {
        if let Some(payload) = self.page.outbox.get(&(connection.into(), first_number)) {
            return rows_of(payload);
        }
        self.guard(|| {
            let table = self.db.begin_read()?.open_table(OUTBOX)?;
            let Some(frame) = table.get((connection, first_number))? else {
                return Err(Fault::Missing(format!(
                    "outbox chunk of {connection} that starts at row {first_number}"
                )));
            };
            open_frame(frame.value(), Kind::Outbox, first_number)
                .map_err(Fault::of_one_record)
                .and_then(rows_of)
        })
    }

    pub(super) fn dead_letter(&self, id: u64) -> Result<DeadLetter, Fault> {
        self.guard(|| {
            let table = self.db.begin_read()?.open_table(DEAD)?;
            let frame = table
                .get(id)?
                .ok_or_else(|| Fault::Missing(format!("dead letter {id}")))?;
            open_frame(frame.value(), Kind::Dead, id)
                .and_then(decode_dead)
                .map_err(Fault::of_one_record)
        })
    }

    /// At most `limit` dead letters with an id between, in the order of ids or against it; damaged ones are skipped
    /// and logged.
    pub(super) fn dead_letters(
        &self,
        ids: std::ops::RangeInclusive<u64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<(u64, DeadLetter)>, Fault> {
        self.guard(|| {
            let table = self.db.begin_read()?.open_table(DEAD)?;
            let mut range = table.range(ids)?;
            let mut letters = Vec::new();
            while letters.len() < limit {
                let Some(entry) = (if newest_first {
                    range.next_back()
                } else {
                    range.next()
                }) else {
                    break;
                };
                let (id, frame) = entry?;
                let id = id.value();
                let letter = open_frame(frame.value(), Kind::Dead, id).and_then(decode_dead);
                if let Ok(letter) = letter {
                    letters.push((id, letter));
                } else {
                    tracing::warn!(id, "a dead letter is damaged");
                }
            }
            Ok(letters)
        })
    }

    /// Shows every record whose payload is intact, in the order meta, base, deltas, outbox, dead letters.
    pub(super) fn visit<E: From<Fault>>(
        &self,
        mut visitor: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let fault = |fault: Fault| E::from(self.meter.fault(fault));
        let tx = self.db.begin_read().map_err(|e| fault(e.into()))?;
        let mut result = Ok(());
        visit(&tx, &self.page, &mut |record, payload| match payload {
            Err(damaged) if matches!(record, Slot::Outbox(..) | Slot::Dead(_)) => {
                tracing::warn!(error = ?damaged, "a damaged record is left out");
                Ok(())
            }
            Err(damaged) => Err(damaged),
            Ok(payload) => {
                let record = match record {
                    Slot::Meta => Record::Meta(payload),
                    Slot::Base(number) => Record::Base(number, payload),
                    Slot::Delta(epoch) => Record::Delta(epoch, payload),
                    Slot::Outbox(connection, first_number) => Record::Outbox {
                        connection,
                        first_number,
                        payload,
                    },
                    Slot::Dead(id) => Record::Dead(id, payload),
                };
                visitor(record).map_err(|error| {
                    result = Err(error);
                    Fault::Misuse(String::new()) // only stops the walk; the error is in `result`
                })
            }
        })
        .or_else(|stopped| {
            std::mem::replace(&mut result, Ok(())).and_then(|()| Err(fault(stopped)))
        })
    }

    fn recover(&self) -> Result<Recovered, Fault> {
        let mut recovered = Recovered {
            epoch: self.head().epoch,
            ..Recovered::default()
        };
        let tx = self.db.begin_read()?;
        let (mut dead_letters, mut outbox_chunks) = (0, 0);
        let (mut base_bytes, mut delta_bytes) = (0, 0);
        visit(&tx, &self.page, &mut |slot, payload| {
            match slot {
                Slot::Meta => recovered.meta = Some(payload?.to_vec()),
                Slot::Base(_) => {
                    let packed = payload?;
                    base_bytes += packed.len() as u64;
                    recovered.base.push(Packed::from_stored(packed)?);
                }
                Slot::Delta(epoch) => {
                    let packed = payload?;
                    delta_bytes += packed.len() as u64;
                    recovered.deltas.push((epoch, unpack(packed)?.into_owned()));
                }
                Slot::Outbox(connection, first_number) => {
                    outbox_chunks += 1;
                    let index = payload.and_then(decode_outbox).and_then(
                        |(rows, appended_at_micros, bytes)| {
                            Ok((rows, appended_at_micros, unpacked_len(bytes)?))
                        },
                    );
                    match index {
                        Ok((rows, appended_at_micros, len)) => {
                            recovered.outbox.push(OutboxIndex {
                                connection: connection.into(),
                                first_number,
                                rows,
                                len_bytes: len as u64,
                                appended_at_micros,
                            });
                        }
                        Err(_) => recovered.notes.push(RecoveryNote::DamagedOutboxChunk {
                            connection: connection.into(),
                            first_number,
                        }),
                    }
                }
                Slot::Dead(_) => dead_letters += 1,
            }
            Ok(())
        })?;
        recovered
            .outbox
            .sort_by(|a, b| (&a.connection, a.first_number).cmp(&(&b.connection, b.first_number)));
        let totals = &self.head().totals;
        let agrees = recovered.base.len() as u64 == totals.base_chunks
            && base_bytes == totals.base_bytes
            && recovered.deltas.len() as u64 == totals.deltas
            && delta_bytes == totals.delta_bytes
            && outbox_chunks == totals.outbox_chunks
            && dead_letters == totals.dead_letters
            && recovered
                .deltas
                .last()
                .is_none_or(|(epoch, _)| *epoch <= self.head().epoch)
            && recovered.meta.is_some() == (self.head().epoch > 0);
        if agrees {
            Ok(recovered)
        } else {
            Err(Fault::damaged(
                "the head record and the tables do not agree",
            ))
        }
    }

    fn guard<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        without_panic(work).map_err(|fault| self.meter.fault(fault))
    }
}

/// The database, which may be closed without a panic (see [`without_panic`]).
#[derive(Debug)]
struct Handle(Option<Database>);

impl Deref for Handle {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::error!("redb ran into an inconsistent page while closing");
        }
    }
}

/// redb promises an error for a file damaged from outside only where it verifies; elsewhere a rotten page may run
/// into one of its assertions. What is on the disk comes from outside, so such a panic is damage, and the handle is
/// dropped after it.
fn without_panic<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::damaged("redb ran into an inconsistent page")))
}

fn builder(options: &StoreOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder
}

fn begin(db: &Database) -> Result<WriteTransaction, Fault> {
    let mut tx = db.begin_write()?;
    tx.set_durability(Durability::Immediate)?;
    tx.set_two_phase_commit(true);
    Ok(tx)
}

pub(super) fn put<'k, K: redb::Key + 'static>(
    table: &mut Table<'_, K, Bytes>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
    kind: Kind,
    number: u64,
    payload: &[u8],
) -> Result<(), Fault> {
    let mut slot = table.insert_reserve(key, payload.len() + FRAME_BYTES)?;
    fill_frame(slot.as_mut(), kind, number, payload);
    Ok(())
}

enum Slot<'a> {
    Meta,
    Base(u64),
    Delta(u64),
    Outbox(&'a str, u64),
    Dead(u64),
}

type Visitor<'v> = dyn FnMut(Slot<'_>, Result<&[u8], Fault>) -> Result<(), Fault> + 'v;

/// Walks over all records, those in the head's page among them.
fn visit(tx: &ReadTransaction, page: &HeadPage, visitor: &mut Visitor<'_>) -> Result<(), Fault> {
    if let Some(meta) = &page.meta {
        visitor(Slot::Meta, Ok(meta))?;
    }
    visit_base(tx, &mut |number, payload| {
        visitor(Slot::Base(number), payload)
    })?;
    visit_log(tx, page, &mut |epoch, packed| {
        visitor(Slot::Delta(epoch), Ok(packed))
    })?;
    for entry in tx.open_table(OUTBOX)?.iter()? {
        let (key, frame) = entry?;
        let (connection, first_number) = key.value();
        visitor(
            Slot::Outbox(connection, first_number),
            open_frame(frame.value(), Kind::Outbox, first_number),
        )?;
    }
    // Those came after the ones in the table.
    for ((connection, first_number), payload) in &page.outbox {
        visitor(Slot::Outbox(connection, *first_number), Ok(payload))?;
    }
    for entry in tx.open_table(DEAD)?.iter()? {
        let (key, frame) = entry?;
        visitor(
            Slot::Dead(key.value()),
            open_frame(frame.value(), Kind::Dead, key.value()),
        )?;
    }
    Ok(())
}

type BlobVisitor<'v> = dyn FnMut(u64, Result<&[u8], Fault>) -> Result<(), Fault> + 'v;

/// Puts the pieces of the log together.
fn visit_log(
    tx: &ReadTransaction,
    page: &HeadPage,
    visitor: &mut DeltaVisitor<'_>,
) -> Result<(), Fault> {
    let mut log = LogReader::default();
    let mut pieces = 0;
    for entry in tx.open_table(DELTAS)?.iter()? {
        let (key, frame) = entry?;
        if key.value() != pieces {
            break;
        }
        log.read(open_frame(frame.value(), Kind::Delta, pieces)?, visitor)?;
        pieces += 1;
    }
    if pieces != page.log_pieces {
        return Err(Fault::damaged(format!(
            "its log of deltas has {pieces} pieces where there should be {}",
            page.log_pieces
        )));
    }
    log.read(&page.log_tail, visitor)?;
    log.finish()
}

/// Puts the pieces of each chunk together.
fn visit_base(tx: &ReadTransaction, visitor: &mut BlobVisitor<'_>) -> Result<(), Fault> {
    let kind = Kind::Base;
    let mut whole = Vec::new();
    let mut fault = None;
    let mut last: Option<(u64, u32)> = None;
    for entry in tx.open_table(BASE)?.iter()? {
        let (key, frame) = entry?;
        let (number, piece) = key.value();
        let expected = match last {
            Some((before, pieces)) if before == number => pieces,
            Some((before, _)) => {
                visitor(before, fault.take().map_or(Ok(&whole), Err))?;
                whole.clear();
                0
            }
            None => 0,
        };
        last = Some((number, piece.saturating_add(1)));
        match open_frame(frame.value(), kind, piece_number(number, piece)) {
            Ok(bytes) if piece == expected => whole.extend_from_slice(bytes),
            Ok(_) => {
                fault = Some(Fault::damaged(format!(
                    "{} {number} has no piece {expected}",
                    kind.name()
                )));
            }
            Err(broken) => fault = Some(broken),
        }
    }
    match last {
        Some((number, _)) => visitor(number, fault.map_or(Ok(&whole), Err)),
        None => Ok(()),
    }
}

/// What a piece's checksum is seeded with.
const fn piece_number(number: u64, piece: u32) -> u64 {
    number ^ ((piece as u64) << 32)
}

/// Writes a packed chunk under its number.
pub(super) fn put_pieces(
    table: &mut Table<'_, (u64, u32), Bytes>,
    number: u64,
    packed: &[u8],
) -> Result<(), Fault> {
    let mut rest = packed;
    for piece in 0.. {
        let (bytes, behind) = rest.split_at(rest.len().min(PAGE_BYTES));
        let seed = piece_number(number, piece);
        put(table, (number, piece), Kind::Base, seed, bytes)?;
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The rows of an outbox chunk.
fn rows_of(payload: &[u8]) -> Result<Vec<u8>, Fault> {
    decode_outbox(payload)
        .and_then(|(_, _, bytes)| Ok(unpack(bytes)?.into_owned()))
        .map_err(Fault::of_one_record)
}

/// Puts records back as they were stored.
pub(super) struct Filler<'t> {
    tx: &'t WriteTransaction,
    pub(super) page: HeadPage,
}

impl Filler<'_> {
    pub(super) fn put(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        let totals = &mut self.page.head.totals;
        match *record {
            Record::Meta(payload) => {
                self.page.meta = Some(payload.to_vec());
                Ok(())
            }
            Record::Base(number, payload) => {
                totals.base_chunks += 1;
                totals.base_bytes += payload.len() as u64;
                put_pieces(&mut self.tx.open_table(BASE)?, number, payload)
            }
            Record::Delta(epoch, payload) => {
                self.page.append_delta(epoch, payload);
                put_log(self.tx, &mut self.page)
            }
            Record::Outbox {
                connection,
                first_number,
                payload,
            } => {
                totals.outbox_chunks += 1;
                totals.outbox_bytes += payload.len() as u64;
                put(
                    &mut self.tx.open_table(OUTBOX)?,
                    (connection, first_number),
                    Kind::Outbox,
                    first_number,
                    payload,
                )
            }
            Record::Dead(id, payload) => {
                totals.dead_letters += 1;
                totals.dead_letter_bytes += payload.len() as u64;
                put(&mut self.tx.open_table(DEAD)?, id, Kind::Dead, id, payload)
            }
        }
    }
}
