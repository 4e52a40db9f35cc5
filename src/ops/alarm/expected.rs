//! Keys that are to report: they are known, and may be silent, before anything of them has come.
//!
//! The table is handed in whole, and again when its file has changed. A key is waited for from the time at which it is
//! listed, or from that at which time begins. A key that is taken off the list is not waited for any more: if it is
//! told to be silent, that is cleared; if it had never reported, it is forgotten.

use std::collections::HashSet;

use super::super::keyed::KeyState;
use super::{Alarms, Context, Emit, EvalError, Row, key_bytes};
use crate::types::{EventTime, Progress, Timeline};

impl Alarms {
    /// Takes over the list.
    pub(super) fn expect(
        &mut self,
        rows: &[Row],
        context: &Context,
        emit: &mut dyn Emit,
    ) -> Result<(), EvalError> {
        let Some(expected) = &self.plan.expected else {
            return Ok(());
        };
        let mut listed: Vec<Vec<u8>> = Vec::with_capacity(rows.len());
        for row in rows {
            let key: Row = expected
                .keys
                .iter()
                .map(|key| key.eval(row, context))
                .collect::<Result<_, _>>()?;
            let mut bytes = Vec::new();
            key_bytes(&key, &mut bytes);
            listed.push(bytes);
        }
        let all: HashSet<&[u8]> = listed.iter().map(Vec::as_slice).collect();
        for slot in self.slots() {
            let known = &self.state.get(slot).known;
            if known.expected && !all.contains(self.state.key(slot)) {
                self.withdraw(slot, emit);
            }
        }
        let now = Some(self.now(Timeline::SHARED)).filter(|now| *now > EventTime::MIN);
        for key in &listed {
            let Some(slot) = self.state.slot(key) else {
                emit.discard(self.too_many_keys(key));
                continue;
            };
            let partition = self.state.get(slot);
            if partition.known.expected {
                continue;
            }
            let partition = self.state.change(slot);
            partition.changed = true;
            partition.known.expected = true;
            partition.known.heard = partition.known.heard.or(now);
            self.arm(slot);
        }
        Ok(())
    }

    /// Waits no longer for a key.
    fn withdraw(&mut self, slot: u32, emit: &mut dyn Emit) {
        let Some((which, ..)) = self.plan.silence() else {
            return;
        };
        let line = self.state.get(slot).line;
        let now = self.now(line);
        emit.on(Progress {
            line,
            watermark: self.reached(line),
        });
        let mut partition = std::mem::take(self.state.change(slot));
        partition.changed = true;
        self.rules_filled(&mut partition);
        self.tell(
            &mut partition,
            which,
            now,
            slot,
            emit,
            |alarm, _, now, out| {
                alarm.withdraw(now, out);
            },
        );
        partition.known.expected = false;
        partition.known.heard = None;
        if !partition.known.reported {
            partition.known = super::partition::Known::default();
        }
        *self.state.change(slot) = partition;
        if self.state.get(slot).is_empty() {
            self.state.emptied();
        }
        self.arm(slot);
    }

    /// Time begins on a line: from now on the keys are waited for that had been listed before.
    pub(super) fn begin(&mut self, to: Progress) {
        let begun = self.cut(to.watermark);
        for slot in self.slots() {
            let partition = self.state.get(slot);
            let known = &partition.known;
            if partition.line == to.line && known.expected && known.heard.is_none() {
                let partition = self.state.change(slot);
                partition.changed = true;
                partition.known.heard = Some(begun);
                self.arm(slot);
            }
        }
    }
}
