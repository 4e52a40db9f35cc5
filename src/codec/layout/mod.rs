//! A guess at a JSON message: that it has the layout of one before it, as the messages of a sensor have.
//!
//! A layout is what stands between the values of a message: braces, keys, commas, spaces. A message that has the same
//! bytes there, and a scalar where the layout has one, is the same JSON with other values; nothing is taken on trust. What
//! differs, and what is seldom (a backslash, a number in scientific notation where one is read), goes the long way by
//! `serde_json`, which also gives all errors.
//!
//! Values of which nearly all have the same form (so many digits before the point and behind it; a unit, a version, a
//! state, which are the same each time) count as part of what stands between the others: one comparison passes several of
//! them, mostly the whole message, and those that are read are where they were in the last one. Where it fails, and at
//! values whose form changes often, they are looked at one by one.
//!
//! Bounds: [`LAYOUTS`] per table, each of at most [`MAX_PARTS`] values and [`MAX_BYTES`] bytes between them, and what a form
//! may be long. Where messages have no layout in common, learning is tried ever more seldom.
//!
//! Invariant: a guess that succeeds gives what the long way gives.

mod form;
mod read;
mod scalar;
mod template;
mod words;

use self::form::{Form, Known};
use self::read::Read;
use self::scalar::Scalar;
use self::template::{Expected, Template};
pub(super) use self::words::special;
use super::TimestampFormat;
use super::decode::{InputColumn, Origin};
use super::json::{JsonShape, Node};
use crate::types::{Row, Value};

/// Layouts that are known at a time.
const LAYOUTS: usize = 4;
/// Values of a layout.
const MAX_PARTS: usize = 256;
/// Bytes between the values of a layout.
const MAX_BYTES: usize = 8 * 1024;
/// How deep objects and arrays are followed.
const MAX_DEPTH: usize = 16;
/// The greatest number of messages of which one is learned.
const MOST_SELDOM: u32 = 1_024;
/// A value that has another form than in the message before more often than once in so many messages counts as one without:
/// to put together anew what is compared costs about as much as a form saves in so many messages.
const SELDOM_CHANGED: u32 = 64;

/// So many messages are looked back on for that, and half of them at the least.
const REMEMBERED_MESSAGES: u32 = 16_384;

/// The layouts that messages of one table had.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    known: Vec<Layout>,
    /// The one that fitted last.
    last: usize,
    /// The next one to be replaced.
    oldest: usize,
    /// Messages to pass before the next is learned, and how many it was the last time.
    pause: u32,
    paused: u32,
}

/// What stands between the values of a message.
#[derive(Debug, Default)]
struct Layout {
    parts: Vec<Part>,
    /// What stands behind the last value.
    rest: Box<[u8]>,
    /// The columns that it has no value for, but for those of metadata, which are written for each message.
    absent: Vec<usize>,
    /// The same message as it is compared: from one value without a form to the next.
    stretches: Vec<Stretch>,
    /// How many messages have had it.
    messages: u32,
}

/// A value, and what stands before it.
#[derive(Debug)]
struct Part {
    /// What stands before it, behind the value before.
    before: Box<[u8]>,
    /// What becomes of it.
    read: Read,
    /// What it looked like in the last message, if that seldom changes.
    form: Option<Form>,
    /// How often it was another than in the message before.
    changes: u32,
}

/// Values that have a form, with what stands before, between and behind them.
#[derive(Debug)]
struct Stretch {
    template: Template,
    /// What is read within, in the order of the message.
    known: Box<[Known]>,
    /// The part of the first of them, if there is one.
    first: usize,
    /// The part of the value that follows; behind the last value there is none.
    last: usize,
    /// What becomes of that value.
    read: Option<Read>,
}

impl Layouts {
    /// Fills `row`, but for columns of metadata, if the message has a layout that is known. If not, some may have been filled.
    pub(super) fn fill(
        &mut self,
        message: &[u8],
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> bool {
        let last = self.known.get_mut(self.last);
        if last.is_some_and(|last| last.fill(message, shape, columns, row).is_some()) {
            self.paused = 0;
            return true;
        }
        self.fill_by_another(message, shape, columns, row)
    }

    /// The same by those that did not fit last.
    #[cold]
    fn fill_by_another(
        &mut self,
        message: &[u8],
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> bool {
        for step in 1..self.known.len() {
            let at = (self.last + step) % self.known.len();
            if self.known[at].fill(message, shape, columns, row).is_some() {
                self.last = at;
                self.paused = 0;
                return true;
            }
        }
        false
    }

    /// Learns the layout of a message that went the long way and was sound.
    pub(super) fn learn(&mut self, text: &str, shape: &JsonShape, columns: &[InputColumn]) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let fits = |layout: &Layout| layout.parts.len() <= MAX_PARTS;
        if let Some(layout) = Layout::of(text, shape, columns).filter(fits) {
            if self.known.len() < LAYOUTS {
                self.last = self.known.len();
                self.known.push(layout);
            } else {
                self.last = self.oldest;
                self.known[self.oldest] = layout;
                self.oldest = (self.oldest + 1) % LAYOUTS;
            }
        }
        if self.known.len() == LAYOUTS || self.known.is_empty() {
            self.paused = (2 * self.paused + 1).min(MOST_SELDOM);
            self.pause = self.paused;
        }
    }
}

impl Layout {
    fn of(text: &str, shape: &JsonShape, columns: &[InputColumn]) -> Option<Self> {
        let mut learner = Learner {
            text,
            at: 0,
            literal: 0,
            layout: Self::default(),
            format: &shape.options.timestamp,
            columns,
        };
        learner.spaces();
        learner.value(Some(&shape.root), 0)?;
        let mut layout = learner.layout;
        let read = |slot: &usize| layout.parts.iter().any(|p| p.read.slot() == Some(*slot));
        let written = |slot: &usize| matches!(columns[*slot].origin, Origin::Metadata(_));
        let slots = (0..columns.len()).filter(|slot| !written(slot));
        layout.absent = slots.filter(|slot| !read(slot)).collect();
        layout.rest = text.as_bytes()[learner.literal..].into();
        let literals = layout.parts.iter().map(|part| part.before.len());
        let bytes = literals.sum::<usize>() + layout.rest.len();
        layout.stretch();
        (bytes <= MAX_BYTES && !layout.parts.is_empty()).then_some(layout)
    }

    /// Puts together what is compared at once.
    fn stretch(&mut self) {
        self.stretches.clear();
        let exactly = |bytes: &[u8], expected: &mut Vec<Expected>| {
            expected.extend(bytes.iter().copied().map(Expected::Byte));
        };
        let (mut expected, mut known) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (at, part) in self.parts.iter().enumerate() {
            exactly(&part.before, &mut expected);
            if let Some(form) = &part.form {
                form.expect(&part.read, &mut expected, &mut known);
                continue;
            }
            self.stretches.push(Stretch {
                template: Template::new(&expected),
                known: std::mem::take(&mut known).into(),
                first,
                last: at,
                read: Some(part.read.clone()),
            });
            expected.clear();
            first = at + 1;
        }
        exactly(&self.rest, &mut expected);
        self.stretches.push(Stretch {
            template: Template::new(&expected),
            known: known.into(),
            first,
            last: self.parts.len(),
            read: None,
        });
    }

    fn fill(
        &mut self,
        message: &[u8],
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> Option<()> {
        let mut at = 0;
        let mut as_expected = true;
        for stretch in &self.stretches {
            at = match stretch.read(message, at, row) {
                Some(behind) => behind,
                None => {
                    as_expected = false;
                    self.walk(stretch, message, at, shape, columns, row)?
                }
            };
            if let Some(read) = &stretch.read {
                at = read.value(message, at, shape, columns, row)?;
            }
        }
        if at != message.len() {
            return None;
        }
        for slot in &self.absent {
            row[*slot] = Value::Null;
        }
        self.messages += 1;
        if !as_expected || self.messages >= REMEMBERED_MESSAGES {
            self.look_back(message, as_expected);
        }
        Some(())
    }

    /// Learns from a message that is not as expected; and from time to time what was long ago counts less, or a value that
    /// changes from now on would be taken for constant for long.
    #[cold]
    fn look_back(&mut self, message: &[u8], as_expected: bool) {
        if self.messages >= REMEMBERED_MESSAGES {
            self.messages /= 2;
            self.parts.iter_mut().for_each(|part| part.changes /= 2);
        }
        if !as_expected {
            self.note_changes(message);
        }
    }

    /// Reads one by one the values of a stretch of which some have another form; gives where the stretch ends.
    #[cold]
    fn walk(
        &self,
        stretch: &Stretch,
        message: &[u8],
        mut at: usize,
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> Option<usize> {
        for part in &self.parts[stretch.first..stretch.last] {
            at = behind(&part.before, message, at)?;
            at = part.read.value(message, at, shape, columns, row)?;
        }
        let part = self.parts.get(stretch.last);
        behind(part.map_or(&self.rest, |part| &part.before), message, at)
    }

    /// Learns from a message that has this layout which values have another form than they had.
    fn note_changes(&mut self, message: &[u8]) {
        let mut at = 0;
        for part in &mut self.parts {
            let Some((begin, end)) = behind(&part.before, message, at).and_then(|begin| {
                let (_, end) = Scalar::read(message, begin)?;
                Some((begin, end))
            }) else {
                break;
            };
            at = end;
            let value = &message[begin..end];
            let Some(known) = &part.form else { continue };
            if known.fits(value) {
                continue;
            }
            part.changes += 1;
            if part.changes * SELDOM_CHANGED > self.messages + 256 {
                part.form = known.loosened(value);
                part.changes = 0;
            } else if let Some(form) = Form::of(value, &part.read) {
                part.form = Some(form);
            }
        }
        self.stretch();
    }
}

impl Stretch {
    /// Reads what stands at `at`, if it is as expected; gives where it ends.
    #[inline]
    fn read(&self, message: &[u8], at: usize, row: &mut Row) -> Option<usize> {
        let found = self.template.find(message, at)?;
        for known in &self.known {
            known.read(message, at, found, row)?;
        }
        Some(at + found.len())
    }
}

/// Where `bytes` end in `message`, if they stand there at `at`.
fn behind(bytes: &[u8], message: &[u8], at: usize) -> Option<usize> {
    message
        .get(at..)?
        .starts_with(bytes)
        .then_some(at + bytes.len())
}

/// Walks a message that is known to be JSON.
struct Learner<'t> {
    text: &'t str,
    at: usize,
    /// Where that begins which stands before the next value.
    literal: usize,
    layout: Layout,
    format: &'t TimestampFormat,
    columns: &'t [InputColumn],
}

impl Learner<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes a sign, if it is the next.
    fn take(&mut self, sign: u8) -> bool {
        let found = self.byte() == Some(sign);
        self.at += usize::from(found);
        self.spaces();
        found
    }

    fn value(&mut self, node: Option<&Node>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH || self.layout.parts.len() > MAX_PARTS {
            return None;
        }
        let slots = node.map_or(&[][..], |node| &node.slots);
        match self.byte()? {
            // A column that reads all of it would have to be read another way.
            b'{' | b'[' if !slots.is_empty() => None,
            b'{' => self.object(node, depth),
            b'[' => self.array(depth),
            // Where columns read below it, the long way looks closer at a scalar.
            _ if node.is_some_and(Node::has_children) => None,
            _ => self.scalar(slots),
        }
    }

    fn object(&mut self, node: Option<&Node>, depth: usize) -> Option<()> {
        self.take(b'{');
        if self.take(b'}') {
            return Some(());
        }
        loop {
            let begin = self.at + 1;
            let (Scalar::Text, end) = Scalar::read(self.text.as_bytes(), self.at)? else {
                return None;
            };
            let key = &self.text[begin..end - 1];
            self.at = end;
            self.spaces();
            self.take(b':');
            let child = node.and_then(|node| node.child(key));
            self.value(child, depth + 1)?;
            self.spaces();
            if !self.take(b',') {
                return self.take(b'}').then_some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[');
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(None, depth + 1)?;
            self.spaces();
            if !self.take(b',') {
                return self.take(b']').then_some(());
            }
        }
    }

    fn scalar(&mut self, slots: &[usize]) -> Option<()> {
        let layout = &mut self.layout;
        let read = match slots {
            [] => Read::Not,
            [slot] => Read::of(*slot, &self.columns[*slot].ty, self.format),
            // Two columns that read one value are filled the long way.
            _ => return None,
        };
        // A key that comes twice: the last one counts.
        let slot = read.slot();
        if slot.is_some() && layout.parts.iter().any(|part| part.read.slot() == slot) {
            return None;
        }
        let bytes = self.text.as_bytes();
        let (_, end) = Scalar::read(bytes, self.at)?;
        layout.parts.push(Part {
            before: bytes[self.literal..self.at].into(),
            form: Form::of(&bytes[self.at..end], &read),
            read,
            changes: 0,
        });
        self.at = end;
        self.literal = end;
        Some(())
    }
}

#[cfg(test)]
mod tests;
