//! An index over the filters behind one node: of a thousand rules on one stream, which can be true for this row?
//!
//! Each filter is listed under one of its conditions, `column = constant`, `IN`, `LIKE 'prefix%'`, or a comparison with a
//! constant; a row asks those alone that are listed under its values, and they are evaluated in full. A filter without
//! such a condition is always asked.
//!
//! Invariants: no filter is left out that would have been true, or that would have failed; those that are asked come in
//! the order in which they stand in the pipeline. A condition is used only if those before it cannot fail: a row for
//! which an expression has no value is a dead letter, with the index as without.

use std::mem::{Discriminant, discriminant};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rust_decimal::Decimal;

use crate::expr::{Comparison, Expr};
use crate::state::push_key;
use crate::types::Value;

/// With fewer filters that can be listed, asking all is as quick.
const LEAST_LISTED: usize = 8;

/// The index; filters are known by their position among the consumers of a node.
#[derive(Debug)]
pub(super) struct PredicateIndex {
    /// Those that are asked for every row, among them what is no filter.
    always: Vec<u32>,
    equal: Vec<Equal>,
    prefixes: Vec<Prefixes>,
    bounds: Vec<Bounds>,
    key: Vec<u8>,
}

/// `column = constant`, with constants of one kind.
#[derive(Debug)]
struct Equal {
    column: usize,
    kind: Discriminant<Value>,
    by_value: HashMap<Box<[u8]>, Vec<u32>, FixedState>,
}

/// `column LIKE 'prefix…'`.
#[derive(Debug)]
struct Prefixes {
    column: usize,
    /// The lengths of all prefixes, in bytes, ascending.
    lengths: Vec<usize>,
    by_prefix: HashMap<Box<[u8]>, Vec<u32>, FixedState>,
}

/// `column >= constant` and `column > constant`, or the other two, with constants of one kind.
#[derive(Debug)]
struct Bounds {
    column: usize,
    kind: Discriminant<Value>,
    /// Whether the constants are lower bounds of the column.
    lower: bool,
    /// The ranks of the constants, ascending; and at the same place the filter of each.
    ranks: Vec<i64>,
    filters: Vec<u32>,
}

/// What a filter can be listed under; the best kind first.
#[derive(Clone, Debug)]
enum Listing<'e> {
    Equal(usize, Vec<&'e Value>),
    Prefix(usize, &'e str),
    Bound {
        column: usize,
        lower: bool,
        bound: &'e Value,
    },
}

impl Listing<'_> {
    const fn rank(&self) -> u8 {
        match self {
            Self::Equal(..) => 0,
            Self::Prefix(..) => 1,
            Self::Bound { .. } => 2,
        }
    }
}

impl PredicateIndex {
    /// Over the consumers of a node, each with its predicate if it is a filter; `None` if there is nothing to gain.
    pub(super) fn new<'e>(consumers: impl Iterator<Item = Option<&'e Expr>>) -> Option<Self> {
        let mut index = Self {
            always: Vec::new(),
            equal: Vec::new(),
            prefixes: Vec::new(),
            bounds: Vec::new(),
            key: Vec::new(),
        };
        let mut listed = 0;
        for (at, predicate) in consumers.enumerate() {
            match predicate.and_then(listing) {
                Some(listing) => {
                    listed += 1;
                    index.list(at as u32, &listing);
                }
                None => index.always.push(at as u32),
            }
        }
        for Bounds { ranks, filters, .. } in &mut index.bounds {
            let mut sorted: Vec<_> = ranks.drain(..).zip(filters.drain(..)).collect();
            sorted.sort_unstable();
            (*ranks, *filters) = sorted.into_iter().unzip();
        }
        (listed >= LEAST_LISTED).then_some(index)
    }

    fn list(&mut self, at: u32, listing: &Listing<'_>) {
        match listing {
            Listing::Equal(column, values) => {
                for value in values {
                    let kind = discriminant(*value);
                    let of_kind = |one: &Equal| one.column == *column && one.kind == kind;
                    let place = self.equal.iter().position(of_kind).unwrap_or_else(|| {
                        self.equal.push(Equal {
                            column: *column,
                            kind,
                            by_value: HashMap::default(),
                        });
                        self.equal.len() - 1
                    });
                    let mut key = Vec::new();
                    push_key(value, &mut key);
                    let found = self.equal[place].by_value.entry(key.into()).or_default();
                    if found.last() != Some(&at) {
                        found.push(at);
                    }
                }
            }
            Listing::Prefix(column, prefix) => {
                let of_column = |one: &Prefixes| one.column == *column;
                let place = self.prefixes.iter().position(of_column);
                let place = place.unwrap_or_else(|| {
                    self.prefixes.push(Prefixes {
                        column: *column,
                        lengths: Vec::new(),
                        by_prefix: HashMap::default(),
                    });
                    self.prefixes.len() - 1
                });
                let prefixes = &mut self.prefixes[place];
                if let Err(place) = prefixes.lengths.binary_search(&prefix.len()) {
                    prefixes.lengths.insert(place, prefix.len());
                }
                let by_prefix = &mut prefixes.by_prefix;
                by_prefix
                    .entry(prefix.as_bytes().into())
                    .or_default()
                    .push(at);
            }
            Listing::Bound {
                column,
                lower,
                bound,
            } => {
                let kind = discriminant(*bound);
                let same =
                    |one: &Bounds| one.column == *column && one.kind == kind && one.lower == *lower;
                let place = self.bounds.iter().position(same).unwrap_or_else(|| {
                    self.bounds.push(Bounds {
                        column: *column,
                        kind,
                        lower: *lower,
                        ranks: Vec::new(),
                        filters: Vec::new(),
                    });
                    self.bounds.len() - 1
                });
                // Whoever is listed so has a rank.
                let bounds = &mut self.bounds[place];
                bounds.ranks.extend(rank(bound));
                bounds.filters.push(at);
            }
        }
    }

    /// Puts those that are to be asked for a row into `found`, in order.
    pub(super) fn candidates(&mut self, row: &[Value], found: &mut Vec<u32>) {
        found.clear();
        found.extend_from_slice(&self.always);
        for equal in &self.equal {
            let value = &row[equal.column];
            if discriminant(value) == equal.kind {
                self.key.clear();
                push_key(value, &mut self.key);
                if let Some(same) = equal.by_value.get(self.key.as_slice()) {
                    found.extend_from_slice(same);
                }
            } else if !value.is_null() {
                found.extend(equal.by_value.values().flatten());
            }
        }
        for prefixes in &self.prefixes {
            match &row[prefixes.column] {
                Value::Str(text) => {
                    let fitting = prefixes
                        .lengths
                        .iter()
                        .map_while(|length| text.as_bytes().get(..*length));
                    for prefix in fitting {
                        if let Some(same) = prefixes.by_prefix.get(prefix) {
                            found.extend_from_slice(same);
                        }
                    }
                }
                Value::Null => {}
                _ => found.extend(prefixes.by_prefix.values().flatten()),
            }
        }
        for Bounds {
            column,
            kind,
            lower,
            ranks,
            filters,
        } in &self.bounds
        {
            let value = &row[*column];
            let within = match rank(value) {
                _ if value.is_null() => 0..0,
                Some(rank) if discriminant(value) == *kind && *lower => {
                    0..ranks.partition_point(|bound| *bound <= rank)
                }
                Some(rank) if discriminant(value) == *kind => {
                    ranks.partition_point(|bound| *bound < rank)..ranks.len()
                }
                _ => 0..ranks.len(),
            };
            found.extend_from_slice(&filters[within]);
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// The best condition that a filter can be listed under.
fn listing(predicate: &Expr) -> Option<Listing<'_>> {
    let conditions = match predicate {
        Expr::And(conditions) => conditions,
        _ => std::slice::from_ref(predicate),
    };
    let mut best: Option<Listing<'_>> = None;
    for condition in conditions {
        if let Some(listing) = of_condition(condition)
            && best
                .as_ref()
                .is_none_or(|best| listing.rank() < best.rank())
        {
            best = Some(listing);
        }
        if !cannot_fail(condition) {
            break;
        }
    }
    best
}

fn of_condition(condition: &Expr) -> Option<Listing<'_>> {
    match condition {
        Expr::Compare { op, left, right } => {
            let (column, op, constant) = match (&**left, &**right) {
                (Expr::Column(column), Expr::Literal(constant)) => (*column, *op, constant),
                (Expr::Literal(constant), Expr::Column(column)) => {
                    (*column, op.mirrored(), constant)
                }
                _ => return None,
            };
            match op {
                Comparison::Eq if has_one_form(constant) => {
                    Some(Listing::Equal(column, vec![constant]))
                }
                Comparison::Gt | Comparison::GtEq if is_ordered(constant) => Some(Listing::Bound {
                    column,
                    lower: true,
                    bound: constant,
                }),
                Comparison::Lt | Comparison::LtEq if is_ordered(constant) => Some(Listing::Bound {
                    column,
                    lower: false,
                    bound: constant,
                }),
                _ => None,
            }
        }
        Expr::In { expr, list } => {
            let Expr::Column(column) = **expr else {
                return None;
            };
            let constants = list.iter().map(|item| match item {
                Expr::Literal(constant) if has_one_form(constant) => Some(constant),
                _ => None,
            });
            Some(Listing::Equal(column, constants.collect::<Option<_>>()?))
        }
        Expr::Between { expr, low, .. } => match (&**expr, &**low) {
            (Expr::Column(column), Expr::Literal(bound)) if is_ordered(bound) => {
                Some(Listing::Bound {
                    column: *column,
                    lower: true,
                    bound,
                })
            }
            _ => None,
        },
        Expr::Like { expr, pattern } => match (&**expr, pattern.prefix()) {
            (Expr::Column(column), prefix) if !prefix.is_empty() => {
                Some(Listing::Prefix(*column, prefix))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether equal values of its kind, and only they, have equal bytes as keys.
fn has_one_form(constant: &Value) -> bool {
    matches!(
        constant,
        Value::Str(_) | Value::Int(_) | Value::Bool(_) | Value::Timestamp(_) | Value::Date(_)
    )
}

/// Whether values of its kind have an order that comparisons follow.
fn is_ordered(constant: &Value) -> bool {
    match constant {
        Value::Double(bound) => !bound.is_nan(),
        _ => rank(constant).is_some(),
    }
}

/// A number for a value of an ordered kind, which is never less than that of a lesser one; two decimals may have the same.
#[inline]
fn rank(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) | Value::Timestamp(number) => Some(*number),
        Value::Date(days) => Some(i64::from(*days)),
        Value::Double(number) if number.is_nan() => Some(i64::MAX),
        Value::Double(number) => {
            // Without a zero that is negative. Of numbers below zero the greater have the lesser bits.
            let bits = (number + 0.0).to_bits() as i64;
            Some(if bits < 0 { bits ^ i64::MAX } else { bits })
        }
        Value::Decimal(number) => Some(millionths(number)),
        _ => None,
    }
}

/// How many millionths a decimal has; those that are too many for the type are equal.
fn millionths(number: &Decimal) -> i64 {
    let scale = number.scale();
    let millionths = match scale.checked_sub(6) {
        Some(finer) => number.mantissa() / 10_i128.pow(finer),
        None => number.mantissa() * 10_i128.pow(6 - scale),
    };
    millionths.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Whether a condition has a value for every row.
fn cannot_fail(condition: &Expr) -> bool {
    let held = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(_));
    match condition {
        Expr::Compare { left, right, .. } | Expr::Distinct { left, right } => {
            held(left) && held(right)
        }
        Expr::Between { expr, low, high } => held(expr) && held(low) && held(high),
        Expr::In { expr, list } => held(expr) && list.iter().all(held),
        Expr::Like { expr, .. } | Expr::IsNull(expr) => held(expr),
        Expr::Not(expr) | Expr::IsBool { expr, .. } => cannot_fail(expr),
        _ => held(condition),
    }
}

#[cfg(test)]
mod tests;
