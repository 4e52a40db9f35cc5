//! A simulated disk under the store: it remembers what was written since the last flush, and can show what a power
//! cut may leave of it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use headwater::store::StorageBackend;

/// The generator `SplitMix64`: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `n`.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    // Not used by every test that shares this file.
    #[allow(dead_code)]
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Something that was handed to the disk and not yet flushed.
#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

/// What is called before each flush takes effect, with a way to make the images a power cut may leave.
pub(crate) type OnFlush = Box<dyn FnMut(&Cut<'_>) + Send>;

/// The moment of a flush.
#[derive(Debug)]
pub(crate) struct Cut<'d> {
    durable: &'d [u8],
    pending: &'d [Pending],
}

impl Cut<'_> {
    /// One image that may be left: each unflushed write is there, lost or torn, and they reached the disk in any
    /// order. The length of the file changes before or after the data. Only bytes that were being written are at
    /// risk.
    pub(crate) fn image(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.durable.to_vec();
        let mut order: Vec<usize> = (0..self.pending.len()).collect();
        // Half of the images in the order written: a clean prefix is a likely cut, too.
        let in_order = random.once_in(2);
        if !in_order {
            for i in (1..order.len()).rev() {
                order.swap(i, random.below(i + 1));
            }
        }
        let prefix = random.below(order.len() + 1);
        let keep_one_in = 1 + random.below(4);
        for (position, index) in order.iter().enumerate() {
            let kept = if in_order {
                position <= prefix
            } else {
                keep_one_in == 1 || !random.once_in(keep_one_in)
            };
            if !kept {
                continue;
            }
            let torn = if in_order {
                position == prefix
            } else {
                random.once_in(3)
            };
            match &self.pending[*index] {
                Pending::SetLen(len) => image.resize(*len, 0),
                Pending::Write(offset, data) if torn => tear(&mut image, *offset, data, random),
                Pending::Write(offset, data) => put(&mut image, *offset, data),
            }
        }
        image
    }
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

/// A prefix, a suffix, or some of the sectors.
fn tear(image: &mut Vec<u8>, offset: usize, data: &[u8], random: &mut Random) {
    let at = random.below(data.len() + 1);
    match random.below(3) {
        0 => put(image, offset, &data[..at]),
        1 => put(image, offset + at, &data[at..]),
        _ => {
            for (i, sector) in data.chunks(512).enumerate() {
                if random.once_in(2) {
                    put(image, offset + i * 512, sector);
                }
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    on_flush: Option<OnFlush>,
    /// How many operations still succeed, how the next one fails, and what the failed flush leaves.
    failure: Option<(usize, io::ErrorKind, Random)>,
    has_failed: bool,
}

impl Inner {
    /// The error that this operation has to give.
    fn fail(&mut self) -> io::Result<()> {
        match &mut self.failure {
            None => Ok(()),
            Some((0, kind, _)) => {
                self.has_failed = true;
                Err((*kind).into())
            }
            Some((left, ..)) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    /// A disk that holds `image`, all of it flushed.
    pub(crate) fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            live: image.clone(),
            durable: image,
            ..Inner::default()
        })))
    }

    /// Calls `on_flush` from now on.
    pub(crate) fn watch(&self, on_flush: OnFlush) {
        self.with(|disk| disk.on_flush = Some(on_flush));
    }

    /// Calls nobody from now on.
    pub(crate) fn unwatch(&self) {
        self.with(|disk| disk.on_flush = None);
    }

    /// From the `after`-th write, resize or flush on, all fail.
    #[allow(dead_code, reason = "each test uses its part of the disk")]
    pub(crate) fn fail(&self, after: usize, kind: io::ErrorKind, random: Random) {
        self.with(|disk| disk.failure = Some((after, kind, random)));
    }

    /// The disk works again. What was not flushed is there, lost or torn: the page cache is gone. Whether it had
    /// failed.
    #[allow(dead_code, reason = "each test uses its part of the disk")]
    pub(crate) fn mend(&self) -> bool {
        self.with(|disk| {
            let failure = disk.failure.take();
            let Some((.., mut random)) = failure.filter(|_| std::mem::take(&mut disk.has_failed))
            else {
                return false;
            };
            let image = Cut {
                durable: &disk.durable,
                pending: &disk.pending,
            }
            .image(&mut random);
            disk.pending.clear();
            (disk.live, disk.durable) = (image.clone(), image);
            true
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|disk| disk.live.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        self.with(|disk| {
            let bytes = disk
                .live
                .get(offset..offset + out.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|disk| {
            disk.fail()?;
            disk.live.resize(len as usize, 0);
            disk.pending.push(Pending::SetLen(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk| {
            disk.fail()?;
            let mut on_flush = disk.on_flush.take();
            if let Some(on_flush) = &mut on_flush {
                on_flush(&Cut {
                    durable: &disk.durable,
                    pending: &disk.pending,
                });
            }
            disk.on_flush = on_flush;
            // Only what changed: the whole file at every flush would be most of the test's time.
            for pending in std::mem::take(&mut disk.pending) {
                match pending {
                    Pending::SetLen(len) => disk.durable.resize(len, 0),
                    Pending::Write(offset, data) => put(&mut disk.durable, offset, &data),
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|disk| {
            disk.fail()?;
            put(&mut disk.live, offset as usize, data);
            disk.pending
                .push(Pending::Write(offset as usize, data.to_vec()));
            Ok(())
        })
    }
}
