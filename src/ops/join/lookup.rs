//! Lookup joins: each row with the rows of a table that has its key, as the table is now: a device registry.
//!
//! The table is handed in whole, and again when its file has changed; there is no other state. What a row meets
//! depends on when it comes; so a row that is processed again after a crash may meet a newer table.

use std::collections::HashMap;

use super::super::keyed::read_key;
use super::super::{Discard, Emit};
use crate::expr::{Context, EvalError};
use crate::plan;
use crate::types::{Fingerprint, Lineage, Row, Value};

/// A lookup join.
#[derive(Debug)]
pub struct LookupJoin {
    join: plan::LookupJoin,
    fingerprint: Fingerprint,
    rows: Vec<Row>,
    /// The rows of each key.
    index: HashMap<Box<[u8]>, Vec<u32>>,
    joined: Row,
    key: Vec<u8>,
}

impl LookupJoin {
    /// The operator of a plan's node, with an empty table.
    pub fn new(join: &plan::LookupJoin, fingerprint: Fingerprint) -> Self {
        Self {
            join: join.clone(),
            fingerprint,
            rows: Vec::new(),
            index: HashMap::new(),
            joined: Row::new(),
            key: Vec::new(),
        }
    }

    /// Replaces the table.
    pub fn load(&mut self, rows: &[Row], context: &Context) -> Result<(), EvalError> {
        let mut index: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        let mut key = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            if read_key(&self.join.table_keys, row, context, &mut key)? {
                let at = at as u32;
                index.entry(key.as_slice().into()).or_default().push(at);
            }
        }
        (self.rows, self.index) = (rows.to_vec(), index);
        Ok(())
    }

    /// Joins a row.
    pub fn process(
        &mut self,
        row: &[Value],
        lineage: Lineage,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let known = match read_key(&self.join.keys, row, context, &mut self.key) {
            Ok(true) => self.index.get(self.key.as_slice()),
            Ok(false) => None,
            Err(error) => return emit.discard(Discard::expression(&error)),
        };
        let mut met = 0;
        let output = &mut self.joined;
        for &at in known.into_iter().flatten() {
            output.clear();
            output.extend_from_slice(row);
            output.extend_from_slice(&self.rows[at as usize]);
            let fits = match &self.join.residual {
                Some(residual) => residual.test(output, context),
                None => Ok(true),
            };
            match fits {
                Ok(true) => {
                    emit.row(output, lineage.child(self.fingerprint, met));
                    met += 1;
                }
                Ok(false) => {}
                Err(error) => emit.discard(Discard::expression(&error)),
            }
        }
        if met == 0 && self.join.outer {
            output.clear();
            output.extend_from_slice(row);
            output.extend(std::iter::repeat_n(Value::Null, self.join.width));
            emit.row(output, lineage.child(self.fingerprint, 0));
        }
    }
}
