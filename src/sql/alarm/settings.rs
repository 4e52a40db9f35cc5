//! The settings of ALARM: arguments by name. Some are one for all alarms of the call, or `MAP['HI', …]` for some of them.
//!
//! Invariant: each setting that is written is asked for, or refused at its place with the name that is nearest.

use sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned,
};
use sqlparser::tokenizer::Location;

use crate::expr::{Expr, Typed};
use crate::plan::nearest;
use crate::types::{Timespan, Value};

use super::super::convert::plain_name;
use super::super::planner::{Failed, Home, Planned, Planner, same};
use super::super::scope::Scope;
use super::super::splice;

/// What was written, and which settings have been asked for.
pub(super) struct Settings<'q> {
    /// Where the call is.
    pub(super) at: Location,
    given: Vec<(&'q Ident, &'q Ast)>,
    known: Vec<&'static str>,
}

impl<'q> Settings<'q> {
    pub(super) fn new(at: Location) -> Self {
        Self {
            at,
            given: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Notes a setting.
    pub(super) fn add(
        &mut self,
        planner: &mut Planner<'_>,
        home: &Home<'_>,
        name: &'q Ident,
        ast: &'q Ast,
    ) -> Planned<()> {
        if self
            .given
            .iter()
            .any(|(known, _)| same(&known.value, &name.value))
        {
            let message = format!("ALARM has the setting {} twice", name.value);
            return Err(planner.refuse(home, name.span.start, message, "remove one"));
        }
        self.given.push((name, ast));
        Ok(())
    }

    /// What was written of a setting.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'q Ast> {
        self.known.push(name);
        let mut given = self.given.iter();
        given
            .find(|(known, _)| same(&known.value, name))
            .map(|(_, ast)| *ast)
    }

    /// Where a setting is named, else where the call is.
    pub(super) fn place_of(&self, name: &str) -> Location {
        let mut given = self.given.iter();
        given
            .find(|(known, _)| same(&known.value, name))
            .map_or(self.at, |(known, _)| known.span.start)
    }

    /// A setting has no meaning without another: refuses it if it was written.
    pub(super) fn pointless(
        &mut self,
        planner: &mut Planner<'_>,
        home: &Home<'_>,
        name: &'static str,
        without: &str,
    ) -> Planned<()> {
        if self.get(name).is_none() {
            return Ok(());
        }
        let message = format!("the setting {name} of ALARM has no effect without {without}");
        let hint = format!("add {without}, or remove {name}");
        Err(planner.refuse(home, self.place_of(name), message, hint))
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self, planner: &mut Planner<'_>, home: &Home<'_>) -> Planned<()> {
        let known = |name: &str| self.known.iter().any(|known| same(known, name));
        let Some((unknown, _)) = self.given.iter().find(|(name, _)| !known(&name.value)) else {
            return Ok(());
        };
        let mut all = self.known.clone();
        all.sort_unstable();
        all.dedup();
        let list = all.join(", ");
        let hint = match nearest(&unknown.value, all.iter().copied()) {
            Some(near) => format!("did you mean {near}? Its settings are {list}"),
            None => format!("its settings are {list}"),
        };
        let message = format!("ALARM has no setting {}", unknown.value);
        Err(planner.refuse(home, unknown.span.start, message, hint))
    }
}

/// A setting that is one for all alarms, or a MAP from names to values.
pub(super) enum Each<'q> {
    All(&'q Ast),
    Some(Vec<(usize, &'q Ast)>),
}

impl<'q> Each<'q> {
    /// Reads which of the alarms that can have it, `names`, a setting is of.
    pub(super) fn of(
        planner: &mut Planner<'_>,
        home: &Home<'_>,
        setting: &str,
        ast: &'q Ast,
        names: &[String],
    ) -> Planned<Self> {
        let Some(entries) = map_entries(ast) else {
            return Ok(Self::All(ast));
        };
        let mut found = Vec::new();
        for (key, value) in entries {
            let name = literal_text(planner, home, key)?;
            let Some(which) = names.iter().position(|known| same(known, &name)) else {
                let message = format!(
                    "the setting {setting} of ALARM names the alarm '{name}', which it cannot be of"
                );
                let hint = format!("the alarms that can have it are {}", names.join(", "));
                return Err(planner.refuse(home, key.span().start, message, hint));
            };
            if found.iter().any(|(known, _)| *known == which) {
                let message =
                    format!("the setting {setting} of ALARM names the alarm '{name}' twice");
                return Err(planner.refuse(home, key.span().start, message, "remove one"));
            }
            found.push((which, value));
        }
        Ok(Self::Some(found))
    }

    /// What is written for an alarm.
    pub(super) fn get(&self, which: usize) -> Option<&'q Ast> {
        match self {
            Self::All(ast) => Some(ast),
            Self::Some(entries) => entries
                .iter()
                .find(|(known, _)| *known == which)
                .map(|(_, ast)| *ast),
        }
    }
}

/// The keys and values of `MAP[k, v, …]`; `None` for something else.
pub(super) fn map_entries(ast: &Ast) -> Option<Vec<(&Ast, &Ast)>> {
    let Ast::Function(call) = ast else {
        return None;
    };
    let FunctionArguments::List(list) = &call.args else {
        return None;
    };
    if plain_name(&call.name) != Some(splice::MAP) {
        return None;
    }
    let items: Option<Vec<&Ast>> = list
        .args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(item)) => Some(item),
            _ => None,
        })
        .collect();
    let items = items.filter(|items| items.len().is_multiple_of(2))?;
    Some(
        items
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect(),
    )
}

/// A constant.
fn constant(planner: &mut Planner<'_>, home: &Home<'_>, ast: &Ast) -> Planned<Typed> {
    planner.convert(home, &Scope::default(), ast)
}

/// Text in single quotes.
pub(super) fn literal_text(
    planner: &mut Planner<'_>,
    home: &Home<'_>,
    ast: &Ast,
) -> Planned<String> {
    match constant(planner, home, ast)?.expr {
        Expr::Literal(Value::Str(text)) if !text.trim().is_empty() => Ok(text.to_string()),
        _ => Err(planner.refuse(
            home,
            ast.span().start,
            "this must be text",
            "write it in single quotes: 'HI'",
        )),
    }
}

/// TRUE or FALSE.
pub(super) fn flag(planner: &mut Planner<'_>, home: &Home<'_>, ast: &Ast) -> Planned<bool> {
    match constant(planner, home, ast)?.expr {
        Expr::Literal(Value::Bool(flag)) => Ok(flag),
        _ => Err(planner.refuse(
            home,
            ast.span().start,
            "this setting of ALARM is TRUE or FALSE",
            "write TRUE or FALSE",
        )),
    }
}

/// A span of time that is not negative; zero only where it is `allowed`.
pub(super) fn span(
    planner: &mut Planner<'_>,
    home: &Home<'_>,
    setting: &str,
    ast: &Ast,
    zero: bool,
) -> Planned<Timespan> {
    let refused = |planner: &mut Planner<'_>, message: String| -> Failed {
        let hint = "write an INTERVAL of days to seconds, such as INTERVAL '5' MINUTE";
        planner.refuse(home, ast.span().start, message, hint)
    };
    let Expr::Literal(Value::Interval(micros)) = constant(planner, home, ast)?.expr else {
        let message = format!("the setting {setting} of ALARM is a span of time");
        return Err(refused(planner, message));
    };
    if micros < 0 || (micros == 0 && !zero) {
        let message = format!("the setting {setting} of ALARM must be longer than zero");
        return Err(refused(planner, message));
    }
    if micros % Timespan::MILLISECOND.as_micros() != 0 {
        let message = format!("the setting {setting} of ALARM must be whole milliseconds");
        return Err(refused(planner, message));
    }
    Ok(Timespan::from_micros(micros))
}
