//! What each family of aggregates holds, and which family an aggregate is of.
//!
//! Invariant: all accumulators of one aggregate are of one kind, or have failed.

use super::super::Discard;
use super::cardinality::{self, Cardinality};
use super::collect::{Bag, Left, List, Text, arguments_of, key_of};
use super::exact::{Squares, Sum, moved};
use super::failure::{Failure, Step};
use super::moments::{Moments, Pairs, number};
use super::quantile::{self, Sketch, Tally};
use super::small::{Plain, Rows};
use super::time_weighted::{self, Rule, TimeWeighted};
use super::{MAX_BYTES, MAX_VALUES, Retracted};
use crate::plan::{Aggregate, AggregateFunction};
use crate::types::{EventTime, Type, Value};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Count(u64),
    /// A sum that fits.
    Exact {
        count: Rows,
        sum: i64,
    },
    /// One that does not.
    Wide(Box<Sum>),
    Doubles {
        count: Rows,
        sum: f64,
    },
    /// MIN or MAX so far; NULL before the first value.
    Best {
        plain: Plain,
        bits: u64,
    },
    /// The same of what is not plain.
    BestOther(Box<Value>),
    /// `FIRST_VALUE` or `LAST_VALUE`, and when it came; 0 before the first row.
    Held {
        plain: Plain,
        arrival: u32,
        bits: u64,
    },
    /// The same of what is not plain.
    HeldOther {
        arrival: u32,
        value: Box<Value>,
    },
    Bits {
        count: Rows,
        bits: i64,
    },
    Moments(Box<Moments>),
    Squares(Box<Squares>),
    Pairs(Box<Pairs>),
    /// `MAX_BY` and `MIN_BY`: the value, and what it is by.
    By(Box<(Value, Value)>),
    Text(Box<Text>),
    List(Box<List>),
    Bag(Box<Bag>),
    Tally(Box<Tally>),
    Sketch(Box<Sketch>),
    Cardinality(Box<Cardinality>),
    TimeWeighted(Box<TimeWeighted>),
    /// DISTINCT: the rows of arguments that were seen, and the aggregate of each once.
    Distinct(Box<(Bag, Kind)>),
    Failed(Failure),
}

/// The first constant of an aggregate as text.
fn separator(aggregate: &Aggregate) -> &str {
    match aggregate.parameters.first() {
        Some(Value::Str(text)) => text,
        _ => ",",
    }
}

fn fractions(aggregate: &Aggregate) -> &Value {
    aggregate.parameters.first().unwrap_or(&Value::Null)
}

/// How often PERCENTILE counts a row.
fn frequency(arguments: &[Value]) -> Result<u64, Failure> {
    match arguments.get(1) {
        Some(Value::Int(times)) => u64::try_from(*times).map_err(|_| Failure::Frequency),
        _ => Ok(1),
    }
}

fn sample(arguments: &[Value]) -> (i64, f64) {
    match arguments {
        [value, Value::Timestamp(micros)] => (*micros, number(value)),
        _ => (0, f64::NAN),
    }
}

/// Whether the row that came at `arrival` is held instead of the one that came at `held`, which is 0 for none.
fn replaces(aggregate: &Aggregate, arrival: u32, held: u32) -> bool {
    match aggregate.function {
        AggregateFunction::LastValue => arrival >= held,
        _ => held == 0 || arrival < held,
    }
}

/// Whether `value` is before `best` in the order that the aggregate looks for.
pub(super) fn better(aggregate: &Aggregate, value: &Value, best: &Value) -> bool {
    use AggregateFunction as F;
    let greatest = matches!(aggregate.function, F::Max | F::MaxBy);
    match value.compare(best) {
        _ if best.is_null() => true,
        Some(order) if greatest => order.is_gt(),
        Some(order) => order.is_lt(),
        None => false,
    }
}

impl Kind {
    pub(super) fn new(aggregate: &Aggregate) -> Self {
        use AggregateFunction as F;
        let plain = Self::of_all(aggregate);
        match aggregate.function {
            // Their values are a set already.
            F::Collect | F::ApproxCountDistinct => plain,
            _ if aggregate.distinct => Self::Distinct(Box::new((Bag::default(), plain))),
            _ => plain,
        }
    }

    /// The accumulator without DISTINCT.
    fn of_all(aggregate: &Aggregate) -> Self {
        use AggregateFunction as F;
        let ty = aggregate.argument_types.first().unwrap_or(&Type::Null);
        let exact = ty.is_integer()
            || matches!(
                ty,
                Type::Decimal { .. } | Type::IntervalDayTime | Type::IntervalYearMonth
            );
        match aggregate.function {
            F::Count => Self::Count(0),
            F::Sum | F::Avg if exact => Self::of_sum(Sum::default()),
            F::Sum | F::Avg => Self::Doubles {
                count: Rows::default(),
                sum: 0.0,
            },
            F::Min | F::Max => Self::best(&Value::Null),
            F::FirstValue | F::LastValue => Self::held(&Value::Null, 0),
            F::BitAnd | F::BitOr | F::BitXor => Self::Bits {
                count: Rows::default(),
                bits: if aggregate.function == F::BitAnd {
                    -1
                } else {
                    0
                },
            },
            F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp if exact => {
                Self::Squares(Box::default())
            }
            F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp => Self::Moments(Box::default()),
            F::CovarPop
            | F::CovarSamp
            | F::Corr
            | F::RegrCount
            | F::RegrSlope
            | F::RegrIntercept
            | F::RegrR2 => Self::Pairs(Box::default()),
            F::MaxBy | F::MinBy => Self::By(Box::default()),
            F::ListAgg => Self::Text(Box::default()),
            F::ArrayAgg => Self::List(Box::default()),
            F::Collect => Self::Bag(Box::default()),
            F::Percentile => Self::Tally(Box::default()),
            F::ApproxPercentile => Self::Sketch(Box::default()),
            F::ApproxCountDistinct => Self::Cardinality(Box::default()),
            F::TimeWeightedAvg => Self::TimeWeighted(Box::default()),
        }
    }

    /// Takes a row if it is of the most usual kind for one of the most usual aggregates; whether it was.
    #[inline]
    pub(super) fn take_usual(&mut self, aggregate: &Aggregate, arguments: &[Value]) -> bool {
        match (self, arguments) {
            (Self::Count(count), [] | [Value::Double(_) | Value::Int(_)]) => *count += 1,
            (Self::Doubles { sum, count }, [Value::Double(value)]) => {
                *sum += value;
                count.add(1);
            }
            (Self::Exact { count, sum }, [Value::Int(value)]) => {
                let Some(more) = sum.checked_add(*value) else {
                    return false;
                };
                *sum = more;
                count.add(1);
            }
            (
                Self::Best {
                    plain: Plain::Double,
                    bits,
                },
                [Value::Double(value)],
            ) => return take_best_double(aggregate, bits, *value),
            _ => return false,
        }
        true
    }

    /// Takes what another has taken, if both are of the most usual; whether they were.
    #[inline]
    pub(super) fn merge_usual(&mut self, aggregate: &Aggregate, later: &Self) -> bool {
        match (self, later) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (
                Self::Doubles { sum, count },
                Self::Doubles {
                    sum: more,
                    count: n,
                },
            ) => {
                *sum += more;
                count.add(n.get());
            }
            (
                Self::Best {
                    plain: Plain::Double,
                    bits,
                },
                Self::Best {
                    plain: Plain::Double,
                    bits: other,
                },
            ) => return take_best_double(aggregate, bits, f64::from_bits(*other)),
            _ => return false,
        }
        true
    }

    pub(super) fn update(
        &mut self,
        aggregate: &Aggregate,
        arguments: &[Value],
        arrival: u32,
    ) -> Step {
        // Only COUNT(*) has no argument, and it does not look.
        let value = arguments.first().unwrap_or(&Value::Null);
        match self {
            Self::Count(count) => *count += 1,
            Self::Exact { .. } | Self::Wide(_) => {
                let mut sum = self.sum().unwrap_or_default();
                sum.add(value, argument_type(aggregate), false)?;
                *self = Self::of_sum(sum);
            }
            Self::Doubles { sum, count } => {
                *sum += number(value);
                count.add(1);
            }
            Self::Best { .. } | Self::BestOther(_) => self.challenge(aggregate, value),
            Self::Held { arrival: came, .. } | Self::HeldOther { arrival: came, .. } => {
                let arrival = arrival.max(1);
                if replaces(aggregate, arrival, *came) {
                    *self = Self::held(value, arrival);
                }
            }
            Self::Bits { bits, count } => {
                if let Value::Int(more) = value {
                    *bits = combined(aggregate.function, *bits, *more);
                    count.add(1);
                }
            }
            Self::Moments(moments) => moments.add(number(value)),
            Self::Squares(squares) => squares.add(value, argument_type(aggregate), false)?,
            Self::Pairs(pairs) => {
                let x = arguments.get(1).map_or(f64::NAN, number);
                pairs.add(number(value), x);
            }
            Self::By(held) => {
                let by = arguments.get(1).unwrap_or(&Value::Null);
                if better(aggregate, by, &held.1) {
                    **held = (value.clone(), by.clone());
                }
            }
            Self::Text(text) => {
                if let Value::Str(more) = value {
                    text.add(more, separator(aggregate))?;
                }
            }
            Self::List(list) => list.add(value.clone())?,
            Self::Bag(bag) => {
                bag.add(&key_of(arguments), 1)?;
            }
            Self::Tally(tally) => tally.add(number(value), frequency(arguments)?)?,
            Self::Sketch(sketch) => sketch.add(number(value))?,
            Self::Cardinality(cardinality) => cardinality.add(&key_of(arguments)),
            Self::TimeWeighted(samples) => {
                samples.add(sample(arguments), Rule::of(aggregate.parameters.first()))?;
            }
            Self::Distinct(distinct) => {
                let (seen, once) = &mut **distinct;
                let key = key_of(arguments);
                if seen.add(&key, 1)? {
                    once.update_key(aggregate, &key)?;
                }
            }
            Self::Failed(_) => {}
        }
        Ok(())
    }

    /// Takes arguments in the form in which a set keeps them, so that it makes no difference whether they came by a row,
    /// a merge or a restart.
    fn update_key(&mut self, aggregate: &Aggregate, key: &[u8]) -> Step {
        let arguments = arguments_of(key, &aggregate.argument_types);
        self.update(aggregate, &arguments.expect("bytes that key_bytes made"), 1)
    }

    /// The same of those that [`merge_usual`](Self::merge_usual) leaves.
    pub(super) fn merge(&mut self, aggregate: &Aggregate, later: &Self) -> Step {
        match (&mut *self, later) {
            (Self::Failed(_), _) => {}
            (_, Self::Failed(failure)) => return Err(*failure),
            (Self::Exact { .. } | Self::Wide(_), Self::Exact { .. } | Self::Wide(_)) => {
                let mut sum = self.sum().unwrap_or_default();
                sum.merge(&later.sum().unwrap_or_default())?;
                *self = Self::of_sum(sum);
            }
            (Self::Best { .. } | Self::BestOther(_), Self::Best { plain, bits }) => {
                if *plain != Plain::Null {
                    self.challenge(aggregate, &plain.value(*bits));
                }
            }
            (Self::Best { .. } | Self::BestOther(_), Self::BestOther(best)) => {
                self.challenge(aggregate, best);
            }
            (
                Self::Held { arrival, .. } | Self::HeldOther { arrival, .. },
                Self::Held { arrival: came, .. } | Self::HeldOther { arrival: came, .. },
            ) => {
                if *came > 0 && replaces(aggregate, *came, *arrival) {
                    *self = later.clone();
                }
            }
            (
                Self::Bits { bits, count },
                Self::Bits {
                    bits: more,
                    count: n,
                },
            ) => {
                *bits = combined(aggregate.function, *bits, *more);
                count.add(n.get());
            }
            (Self::Moments(moments), Self::Moments(more)) => moments.merge(more),
            (Self::Squares(squares), Self::Squares(more)) => squares.merge(more)?,
            (Self::Pairs(pairs), Self::Pairs(more)) => pairs.merge(more),
            (Self::By(held), Self::By(other)) => {
                if !other.1.is_null() && better(aggregate, &other.1, &held.1) {
                    held.clone_from(other);
                }
            }
            (Self::Text(text), Self::Text(more)) => text.merge(more, separator(aggregate))?,
            (Self::List(list), Self::List(more)) => list.merge(more)?,
            (Self::Bag(bag), Self::Bag(more)) => bag.merge(more)?,
            (Self::Tally(tally), Self::Tally(more)) => tally.merge(more)?,
            (Self::Sketch(sketch), Self::Sketch(more)) => sketch.merge(more)?,
            (Self::Cardinality(cardinality), Self::Cardinality(more)) => cardinality.merge(more),
            (Self::TimeWeighted(samples), Self::TimeWeighted(more)) => {
                samples.merge(more, Rule::of(aggregate.parameters.first()))?;
            }
            (Self::Distinct(distinct), Self::Distinct(more)) => {
                let (seen, once) = &mut **distinct;
                for key in more.0.keys() {
                    if seen.add(key, more.0.count(key))? {
                        once.update_key(aggregate, key)?;
                    }
                }
            }
            _ => unreachable!("accumulators of one aggregate are of one kind"),
        }
        Ok(())
    }

    pub(super) fn retract(&mut self, aggregate: &Aggregate, arguments: &[Value]) -> Retracted {
        use AggregateFunction as F;
        let value = arguments.first().unwrap_or(&Value::Null);
        let done = match self {
            Self::Count(count) => {
                *count = moved(*count, true);
                true
            }
            Self::Exact { .. } | Self::Wide(_) => {
                let mut sum = self.sum().unwrap_or_default();
                let done = sum.add(value, argument_type(aggregate), true).is_ok();
                if done {
                    *self = Self::of_sum(sum);
                }
                done
            }
            Self::Squares(squares) => squares.add(value, argument_type(aggregate), true).is_ok(),
            // What is not the best is not missed.
            Self::Best { plain, bits } => better(aggregate, &plain.value(*bits), value),
            Self::BestOther(best) => better(aggregate, best, value),
            Self::By(held) => {
                let by = arguments.get(1).unwrap_or(&Value::Null);
                better(aggregate, &held.1, by)
            }
            Self::Bits { bits, count } if aggregate.function == F::BitXor => {
                if let Value::Int(less) = value {
                    *bits ^= less;
                    *count = Rows::new(moved(count.get(), true));
                }
                true
            }
            Self::Bag(bag) => bag.remove(&key_of(arguments)) != Left::Absent,
            Self::Tally(tally) => match frequency(arguments) {
                Ok(times) => {
                    tally.remove(number(value), times);
                    true
                }
                Err(_) => false,
            },
            Self::Sketch(sketch) => {
                sketch.remove(number(value));
                true
            }
            Self::Distinct(distinct) => {
                let (seen, once) = &mut **distinct;
                let key = key_of(arguments);
                match seen.count(&key) {
                    // The order of first arrivals may change with any of them.
                    _ if !once.retracts(aggregate) => false,
                    0 => false,
                    1 if once.retract(aggregate, arguments) == Retracted::Recompute => false,
                    _ => seen.remove(&key) != Left::Absent,
                }
            }
            _ => false,
        };
        if done {
            Retracted::Exactly
        } else {
            Retracted::Recompute
        }
    }

    pub(super) fn retracts(&self, aggregate: &Aggregate) -> bool {
        match self {
            Self::Count(_)
            | Self::Exact { .. }
            | Self::Wide(_)
            | Self::Squares(_)
            | Self::Bag(_)
            | Self::Tally(_)
            | Self::Sketch(_) => true,
            Self::Bits { .. } => aggregate.function == AggregateFunction::BitXor,
            Self::Distinct(distinct) => distinct.1.retracts(aggregate),
            _ => false,
        }
    }

    pub(super) fn result(
        &self,
        aggregate: &Aggregate,
        end: Option<EventTime>,
    ) -> Result<Value, Discard> {
        Ok(match self {
            Self::Count(count) => Value::Int(*count as i64),
            Self::Exact { .. } | Self::Wide(_) => {
                let sum = self.sum().unwrap_or_default();
                return sum.result(aggregate).map_err(unanswered);
            }
            Self::Doubles { count, .. } | Self::Bits { count, .. } if count.get() == 0 => {
                Value::Null
            }
            Self::Doubles { sum, count } => {
                let average = aggregate.function == AggregateFunction::Avg;
                let number = if average {
                    sum / count.get() as f64
                } else {
                    *sum
                };
                match aggregate.ty {
                    Type::Float => Value::Float(number as f32),
                    _ => Value::Double(number),
                }
            }
            Self::Best { .. } | Self::BestOther(_) | Self::Held { .. } | Self::HeldOther { .. } => {
                self.kept().unwrap_or_default()
            }
            Self::Bits { bits, .. } => Value::Int(*bits),
            Self::Moments(moments) => {
                let result = moments.spread().result(aggregate);
                return result.map_err(unanswered);
            }
            Self::Squares(squares) => {
                let spread = squares.spread(argument_type(aggregate));
                return spread.result(aggregate).map_err(unanswered);
            }
            Self::Pairs(pairs) => pairs.result(aggregate.function),
            Self::By(held) => held.0.clone(),
            Self::Text(text) => text.result(),
            Self::List(list) => list.result(),
            Self::Bag(bag) => {
                let result = bag.result(&aggregate.argument_types, aggregate.distinct);
                return result.map_err(unanswered);
            }
            Self::Tally(tally) => tally.result(fractions(aggregate)),
            Self::Sketch(sketch) => sketch.result(fractions(aggregate)),
            Self::Cardinality(cardinality) => Value::Int(cardinality.count()),
            Self::TimeWeighted(samples) => {
                samples.result(Rule::of(aggregate.parameters.first()), end)
            }
            Self::Distinct(distinct) => return distinct.1.result(aggregate, end),
            Self::Failed(failure) => return Err(failure.discard(aggregate)),
        })
    }

    pub(super) fn bytes_bound(&self) -> usize {
        // What a value costs beside its bytes: its entry, its place in the index, and its allocation.
        let kept = MAX_VALUES * 96;
        match self {
            Self::Exact { .. } => size_of::<Sum>(),
            Self::Best { .. } | Self::Held { .. } => size_of::<Value>(),
            Self::Moments(_) => size_of::<Moments>(),
            Self::Squares(_) => size_of::<Squares>(),
            Self::Pairs(_) => size_of::<Pairs>(),
            Self::By(_) => size_of::<(Value, Value)>(),
            // A string that grows is at most twice as large as its text.
            Self::Text(_) => size_of::<Text>() + 2 * MAX_BYTES,
            Self::List(_) | Self::Bag(_) => 2 * MAX_BYTES + kept,
            Self::Tally(_) => kept,
            Self::Sketch(_) => size_of::<Sketch>() + 2 * 2 * quantile::MAX_BUCKETS * 16,
            Self::Cardinality(_) => size_of::<Cardinality>() + cardinality::REGISTERS,
            Self::TimeWeighted(_) => size_of::<TimeWeighted>() + 2 * time_weighted::MAX_OPEN * 16,
            Self::Distinct(distinct) => {
                size_of::<(Bag, Self)>() + 2 * MAX_BYTES + kept + distinct.1.bytes_bound()
            }
            _ => 0,
        }
    }
}

/// MIN or MAX of doubles; false if the two have no order.
#[inline]
fn take_best_double(aggregate: &Aggregate, best: &mut u64, value: f64) -> bool {
    let Some(order) = value.partial_cmp(&f64::from_bits(*best)) else {
        return false;
    };
    let greatest = aggregate.function == AggregateFunction::Max;
    if order.is_gt() == greatest && order.is_ne() {
        *best = value.to_bits();
    }
    true
}

fn argument_type(aggregate: &Aggregate) -> &Type {
    aggregate.argument_types.first().unwrap_or(&Type::Null)
}

fn combined(function: AggregateFunction, left: i64, right: i64) -> i64 {
    match function {
        AggregateFunction::BitAnd => left & right,
        AggregateFunction::BitOr => left | right,
        _ => left ^ right,
    }
}

/// A result that has no value in its type.
fn unanswered(detail: String) -> Discard {
    Discard {
        reason: "expression_error",
        detail,
    }
}
