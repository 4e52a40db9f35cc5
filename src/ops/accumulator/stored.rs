//! How an accumulator is written down and read back.
//!
//! Whoever reads knows the aggregate, so that no kind is written. The bytes do not tell how a number is held in memory.

use super::cardinality::Cardinality;
use super::collect::{Bag, List, Text, arguments_of};
use super::exact::{Squares, Sum};
use super::failure::Failure;
use super::kind::Kind;
use super::moments::{Moments, Pairs};
use super::quantile::{Sketch, Tally};
use super::small::{Plain, Rows};
use super::time_weighted::TimeWeighted;
use crate::plan::Aggregate;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

impl Kind {
    /// Writes what most are, in the bytes that [`encode`](Self::encode) writes; whether it was that.
    #[inline]
    pub(super) fn encode_usual(&self, out: &mut Encoder) -> bool {
        match self {
            Self::Count(count) => out.u64(*count),
            Self::Doubles { count, sum } => out.u64_and_f64(count.get() + 1, *sum),
            Self::Best {
                plain: Plain::Double,
                bits,
            } => out.double(f64::from_bits(*bits)),
            _ => return false,
        }
        true
    }

    /// COUNT, MIN, MAX and the like never fail. All others begin with a number that is 0 if they have, and then say why.
    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Count(count) => out.u64(*count),
            Self::Best { plain, bits } => out.value(&plain.value(*bits)),
            Self::BestOther(value) => out.value(value),
            Self::Held {
                plain,
                arrival,
                bits,
            } => {
                out.u64(u64::from(*arrival));
                if *arrival > 0 {
                    out.value(&plain.value(*bits));
                }
            }
            Self::HeldOther { arrival, value } => {
                out.u64(u64::from(*arrival));
                out.value(value);
            }
            Self::By(held) => {
                out.value(&held.0);
                out.value(&held.1);
            }
            Self::Exact { .. } | Self::Wide(_) => self.sum().unwrap_or_default().encode(out),
            Self::Doubles { sum, count } => {
                out.u64(count.get() + 1);
                out.f64(*sum);
            }
            Self::Bits { bits, count } => {
                out.u64(count.get() + 1);
                out.i64(*bits);
            }
            Self::Moments(moments) => moments.encode(out),
            Self::Squares(squares) => squares.encode(out),
            Self::Pairs(pairs) => pairs.encode(out),
            Self::Text(text) => text.encode(out),
            Self::List(list) => list.encode(out),
            Self::Bag(bag) => bag.encode(out),
            Self::Tally(tally) => tally.encode(out),
            Self::Sketch(sketch) => sketch.encode(out),
            Self::Cardinality(cardinality) => cardinality.encode(out),
            Self::TimeWeighted(samples) => samples.encode(out),
            // The aggregate of each once follows from the set.
            Self::Distinct(distinct) => distinct.0.encode(out),
            Self::Failed(failure) => {
                out.u64(0);
                out.u8(*failure as u8);
            }
        }
    }

    /// Reads an accumulator like `self`, which has taken nothing.
    pub(super) fn decode(
        self,
        aggregate: &Aggregate,
        from: &mut Decoder<'_>,
    ) -> Result<Self, StateError> {
        match &self {
            Self::Count(_) => return Ok(Self::Count(from.u64()?)),
            Self::Best { .. } => return Ok(Self::best(&from.value()?)),
            Self::Held { .. } => {
                let arrival = u32::try_from(from.u64()?).map_err(|_| StateError::Invalid {
                    what: "place in the order of arrival",
                })?;
                let value = if arrival > 0 {
                    from.value()?
                } else {
                    Value::Null
                };
                return Ok(Self::held(&value, arrival));
            }
            Self::By(_) => return Ok(Self::By(Box::new((from.value()?, from.value()?)))),
            _ => {}
        }
        let first = from.u64()?;
        if first == 0 {
            let number = from.u8()?;
            let failure = Failure::ALL
                .into_iter()
                .find(|failure| *failure as u8 == number);
            return failure.map(Self::Failed).ok_or(StateError::Invalid {
                what: "failure of an aggregate",
            });
        }
        Ok(match self {
            Self::Exact { .. } => Self::of_sum(Sum::decode(first, from)?),
            Self::Doubles { .. } => Self::Doubles {
                count: Rows::new(first - 1),
                sum: from.f64()?,
            },
            Self::Bits { .. } => Self::Bits {
                count: Rows::new(first - 1),
                bits: from.i64()?,
            },
            Self::Moments(_) => Self::Moments(Moments::decode(first, from)?.into()),
            Self::Squares(_) => Self::Squares(Squares::decode(first, from)?.into()),
            Self::Pairs(_) => Self::Pairs(Pairs::decode(first, from)?.into()),
            Self::Text(_) => Self::Text(Text::decode(first, from)?.into()),
            Self::List(_) => Self::List(List::decode(from)?.into()),
            Self::Bag(_) => Self::Bag(Bag::decode(first, from)?.into()),
            Self::Tally(_) => Self::Tally(Tally::decode(first, from)?.into()),
            Self::Sketch(_) => Self::Sketch(Sketch::decode(from)?.into()),
            Self::Cardinality(_) => Self::Cardinality(Cardinality::decode(first, from)?.into()),
            Self::TimeWeighted(_) => Self::TimeWeighted(TimeWeighted::decode(from)?.into()),
            Self::Distinct(distinct) => {
                let (seen, mut once) = (Bag::decode(first, from)?, distinct.1);
                for key in seen.keys() {
                    let arguments = arguments_of(key, &aggregate.argument_types)?;
                    // Each was taken before.
                    once.update(aggregate, &arguments, 1)
                        .map_err(|_| StateError::Invalid {
                            what: "set of values",
                        })?;
                }
                Self::Distinct(Box::new((seen, once)))
            }
            Self::Count(_)
            | Self::Wide(_)
            | Self::Best { .. }
            | Self::BestOther(_)
            | Self::Held { .. }
            | Self::HeldOther { .. }
            | Self::By(_)
            | Self::Failed(_) => unreachable!("read above, or never new"),
        })
    }
}
