//! The settings of a detector: named arguments with constants, `threshold => 4`.
//!
//! Invariant: each setting that is written is asked for, or refused at its place with the name that is nearest.

use std::fmt;

use sqlparser::ast::{Expr as Ast, Ident};

use crate::expr::{ResolveError, Typed};
use crate::plan::{Diagnostic, Place, nearest};
use crate::types::{Timespan, Value};

use super::super::convert::{Converter, at};
use super::super::lex::place;

/// What a number may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bounds {
    Any,
    Positive,
    NotNegative,
    /// Both included.
    Within(f64, f64),
}

impl Bounds {
    fn hold(self, number: f64) -> bool {
        match self {
            Self::Any => true,
            Self::Positive => number > 0.0,
            Self::NotNegative => number >= 0.0,
            Self::Within(least, most) => (least..=most).contains(&number),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("a number"),
            Self::Positive => f.write_str("a number above 0"),
            Self::NotNegative => f.write_str("a number from 0"),
            Self::Within(least, most) => write!(f, "a number from {least} to {most}"),
        }
    }
}

/// A setting that was written.
#[derive(Debug)]
struct Given {
    name: String,
    value: Value,
    place: Place,
}

/// What was written, and which settings have been asked for.
#[derive(Debug)]
pub(super) struct Settings {
    /// The function.
    function: &'static str,
    /// Where the call is.
    place: Place,
    given: Vec<Given>,
    known: Vec<&'static str>,
}

impl Settings {
    pub(super) fn new(function: &'static str, place: Place) -> Self {
        Self {
            function,
            place,
            given: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Notes a setting.
    pub(super) fn add(
        &mut self,
        converter: &mut Converter<'_>,
        name: &Ident,
        ast: &Ast,
    ) -> Result<(), Diagnostic> {
        let place = match name.span.start.line {
            0 => self.place.clone(),
            _ => place(converter.file, name.span.start),
        };
        let typed = converter.convert(ast)?;
        self.put(&name.value, typed, place)
    }

    /// Notes a setting whose value stands at `place`.
    pub(super) fn put(&mut self, name: &str, typed: Typed, place: Place) -> Result<(), Diagnostic> {
        let Some(value) = typed.expr.as_literal().cloned() else {
            let message = format!("the setting {name} of {} is a constant", self.function);
            let hint = "write a number, text in single quotes, TRUE, FALSE or an INTERVAL";
            return Err(at(place, ResolveError::hinted(message, hint)));
        };
        if self.given.iter().any(|given| same(&given.name, name)) {
            let message = format!("{} has the setting {name} twice", self.function);
            return Err(at(place, ResolveError::hinted(message, "remove one")));
        }
        self.given.push(Given {
            name: name.to_owned(),
            value,
            place,
        });
        Ok(())
    }

    /// What was written of a setting.
    fn get(&mut self, name: &'static str) -> Option<&Given> {
        self.known.push(name);
        self.given.iter().find(|given| same(&given.name, name))
    }

    /// Reads a setting; `expected` says what it is where it is something else.
    fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Diagnostic> {
        let function = self.function;
        let Some(given) = self.get(name) else {
            return Ok(None);
        };
        if let Some(value) = read(&given.value) {
            return Ok(Some(value));
        }
        let message = format!("the setting {name} of {function} is {expected}");
        Err(at(given.place.clone(), ResolveError::new(message)))
    }

    /// A number within bounds.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        bounds: Bounds,
    ) -> Result<Option<f64>, Diagnostic> {
        self.read(name, &bounds.to_string(), |value| {
            number(value).filter(|number| bounds.hold(*number))
        })
    }

    /// A number within bounds, or what it is without.
    pub(super) fn number_or(
        &mut self,
        name: &'static str,
        bounds: Bounds,
        default: f64,
    ) -> Result<f64, Diagnostic> {
        Ok(self.number(name, bounds)?.unwrap_or(default))
    }

    /// A whole number within bounds, which are included.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        [least, most]: [u32; 2],
    ) -> Result<Option<u32>, Diagnostic> {
        let expected = format!("a whole number from {least} to {most}");
        self.read(name, &expected, |value| match value {
            Value::Int(count) => u32::try_from(*count)
                .ok()
                .filter(|count| (least..=most).contains(count)),
            _ => None,
        })
    }

    /// TRUE or FALSE; FALSE without.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Diagnostic> {
        let flag = self.read(name, "TRUE or FALSE", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })?;
        Ok(flag.unwrap_or(false))
    }

    /// Text that is read by `read`, which knows what `expected` says.
    pub(super) fn text<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Diagnostic> {
        self.read(name, expected, |value| match value {
            Value::Str(text) => read(text),
            _ => None,
        })
    }

    /// A positive span of time.
    pub(super) fn span(&mut self, name: &'static str) -> Result<Option<Timespan>, Diagnostic> {
        let expected = "a positive INTERVAL of days to seconds, such as INTERVAL '5' MINUTE";
        self.read(name, expected, |value| match value {
            Value::Interval(micros) if *micros > 0 => Some(Timespan::from_micros(*micros)),
            _ => None,
        })
    }

    /// A value that must be there.
    pub(super) fn required<T>(
        &self,
        name: &str,
        example: &str,
        value: Option<T>,
    ) -> Result<T, Diagnostic> {
        value.ok_or_else(|| {
            let message = format!("{} needs the setting {name}", self.function);
            let hint = format!("write {name} => {example} behind the value");
            at(self.place.clone(), ResolveError::hinted(message, hint))
        })
    }

    /// The place of a setting, else of the call.
    pub(super) fn place_of(&self, name: &str) -> Place {
        let given = self.given.iter().find(|given| same(&given.name, name));
        given.map_or_else(|| self.place.clone(), |given| given.place.clone())
    }

    /// The settings say what cannot be together, at one of them.
    pub(super) fn contradiction(&self, name: &str, hint: &str) -> Diagnostic {
        let message = format!("the settings of {} contradict each other", self.function);
        at(self.place_of(name), ResolveError::hinted(message, hint))
    }

    /// A setting has no effect as the others are.
    pub(super) fn useless(&self, name: &str, why: &str, hint: &str) -> Diagnostic {
        let message = format!("{}: {why}", self.function);
        at(self.place_of(name), ResolveError::hinted(message, hint))
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Result<(), Diagnostic> {
        let known = |given: &&Given| self.known.iter().any(|known| same(known, &given.name));
        let Some(unknown) = self.given.iter().find(|given| !known(given)) else {
            return Ok(());
        };
        let (function, name) = (self.function, &unknown.name);
        let message = format!("{function} has no setting {name}");
        let all = match self.known.as_slice() {
            [] => "it has none".to_owned(),
            known => format!("its settings are {}", known.join(", ")),
        };
        let hint = match nearest(name, self.known.iter().copied()) {
            Some(near) => format!("did you mean {near}? {all}"),
            None => all,
        };
        Err(at(
            unknown.place.clone(),
            ResolveError::hinted(message, hint),
        ))
    }
}

/// Names are the same in any case.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Decimal(value) => value.to_string().parse().ok(),
        Value::Double(value) => Some(*value).filter(|value| value.is_finite()),
        _ => None,
    }
}
