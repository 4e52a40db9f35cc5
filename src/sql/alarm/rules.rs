//! Which alarms a call of ALARM makes: limits, conditions and silence, with their delays.

use compact_str::CompactString;
use sqlparser::ast::{Expr as Ast, Spanned};
use sqlparser::tokenizer::Location;

use crate::expr::{Arithmetic, Comparison, Expr, Typed};
use crate::plan::{AlarmRule, MAX_ALARMS, Trigger};
use crate::types::{Timespan, Type, Value};

use super::super::planner::{Home, Planned, Planner, same};
use super::super::scope::Scope;
use super::settings::{Each, Settings, flag, literal_text, map_entries, span};

/// The limits: the setting, the alarm, and whether it is a lower one. Of two that a reading crosses the inner one comes
/// first.
const LIMITS: [(&str, &str, bool); 4] = [
    ("high", "HI", false),
    ("high_high", "HIHI", false),
    ("low", "LO", true),
    ("low_low", "LOLO", true),
];
const SILENT: &str = "SILENT";
/// The name of a condition that has none.
const CONDITION: &str = "CONDITION";

impl Planner<'_> {
    /// The value, as a DOUBLE, and the alarms.
    pub(super) fn alarm_rules(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        settings: &mut Settings<'_>,
        at: Location,
    ) -> Planned<(Option<Expr>, Vec<AlarmRule>)> {
        let value = match settings.get("value") {
            Some(ast) => Some((ast, self.alarm_number(home, scope, ast, "value")?)),
            None => None,
        };
        let mut triggers = self.limits(home, scope, settings, value.as_ref().map(|(_, v)| v))?;
        self.conditions(home, scope, settings, &mut triggers)?;
        self.silence(home, settings, &mut triggers)?;
        if triggers.is_empty() {
            let message = "this ALARM raises nothing";
            let hint = "give a limit (value => x, high => 8), a condition (condition => door = 'open'), or silent_after => INTERVAL '5' MINUTE";
            return Err(self.refuse(home, at, message, hint));
        }
        if triggers.len() > MAX_ALARMS {
            let message = format!(
                "this ALARM has {} alarms, and {MAX_ALARMS} is the most",
                triggers.len()
            );
            return Err(self.refuse(
                home,
                at,
                message,
                "write a second ALARM over the same table",
            ));
        }
        for (which, (name, _)) in triggers.iter().enumerate() {
            if triggers[..which].iter().any(|(other, _)| same(other, name)) {
                let message = format!("two alarms of this ALARM are named '{name}'");
                return Err(self.refuse(home, at, message, "rename one"));
            }
        }
        let rules = self.behaviours(home, settings, triggers)?;
        let value = match value {
            Some((ast, value)) => {
                let cast = value.cast(&Type::Double, false);
                Some(cast.map_err(|error| self.blame(home, ast, error))?.expr)
            }
            None => None,
        };
        Ok((value, rules))
    }

    fn alarm_number(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        ast: &Ast,
        setting: &str,
    ) -> Planned<Typed> {
        let typed = self.convert(home, scope, ast)?;
        if typed.ty.is_numeric() {
            return Ok(typed);
        }
        let message = format!(
            "the setting {setting} of ALARM is a number, and this is {}",
            typed.ty
        );
        Err(self.refuse(
            home,
            ast.span().start,
            message,
            "convert it: CAST(x AS DOUBLE)",
        ))
    }

    /// HI, HIHI, LO, LOLO.
    fn limits(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        settings: &mut Settings<'_>,
        value: Option<&Typed>,
    ) -> Planned<Vec<(String, Trigger)>> {
        let mut limits = Vec::new();
        for (setting, name, low) in LIMITS {
            if let Some(ast) = settings.get(setting) {
                limits.push((setting, name.to_owned(), low, ast));
            }
        }
        let Some(value) = value.filter(|_| !limits.is_empty()) else {
            if let Some((setting, ..)) = limits.first() {
                let message =
                    format!("the setting {setting} of ALARM needs a value that it limits");
                let hint = format!("write value => x, {setting} => …");
                return Err(self.refuse(home, settings.place_of(setting), message, hint));
            }
            settings.pointless(self, home, "deadband", "a limit")?;
            return Ok(Vec::new());
        };
        let names: Vec<String> = limits.iter().map(|(_, name, ..)| name.clone()).collect();
        let deadband = match settings.get("deadband") {
            Some(ast) => Some(Each::of(self, home, "deadband", ast, &names)?),
            None => None,
        };
        let mut triggers = Vec::new();
        for (which, (setting, name, low, ast)) in limits.into_iter().enumerate() {
            let limit = self.alarm_number(home, scope, ast, setting)?;
            let (beyond, inside, inwards) = if low {
                (Comparison::LtEq, Comparison::Gt, Arithmetic::Add)
            } else {
                (Comparison::GtEq, Comparison::Lt, Arithmetic::Sub)
            };
            let mut clears_at = limit.clone();
            if let Some(ast) = deadband.as_ref().and_then(|deadband| deadband.get(which)) {
                let deadband = self.alarm_number(home, scope, ast, "deadband")?;
                if is_negative(&deadband.expr) {
                    let message = "the deadband of ALARM is a distance and cannot be negative";
                    return Err(self.refuse(
                        home,
                        ast.span().start,
                        message,
                        "write it without the sign",
                    ));
                }
                clears_at = Typed::arith(inwards, clears_at, deadband)
                    .map_err(|error| self.blame(home, ast, error))?;
            }
            let raise = Typed::compare(beyond, value.clone(), limit);
            let clear = Typed::compare(inside, value.clone(), clears_at);
            let raise = raise.map_err(|error| self.blame(home, ast, error))?.expr;
            let clear = clear.map_err(|error| self.blame(home, ast, error))?.expr;
            triggers.push((name, Trigger::Limit { low, raise, clear }));
        }
        Ok(triggers)
    }

    /// `condition`, `clear` and `name`, or `conditions`.
    fn conditions(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        settings: &mut Settings<'_>,
        triggers: &mut Vec<(String, Trigger)>,
    ) -> Planned<()> {
        if let Some(ast) = settings.get("condition") {
            let raise = self.convert_predicate(home, scope, ast, "the condition of ALARM")?;
            let clear = match settings.get("clear") {
                Some(ast) => {
                    let clear = self.convert_predicate(home, scope, ast, "clear of ALARM")?;
                    Some(clear.expr)
                }
                None => None,
            };
            let name = match settings.get("name") {
                Some(ast) => literal_text(self, home, ast)?,
                None => CONDITION.to_owned(),
            };
            let raise = raise.expr;
            triggers.push((name, Trigger::Condition { raise, clear }));
        } else {
            settings.pointless(self, home, "clear", "condition")?;
            settings.pointless(self, home, "name", "condition")?;
        }
        let Some(ast) = settings.get("conditions") else {
            return Ok(());
        };
        let Some(entries) = map_entries(ast) else {
            let message = "the setting conditions of ALARM is a MAP of names and conditions";
            let hint = "write conditions => MAP['overload', amps > 90, 'low oil', bar < 1.2]";
            return Err(self.refuse(home, settings.place_of("conditions"), message, hint));
        };
        for (name, ast) in entries {
            let name = literal_text(self, home, name)?;
            let raise = self.convert_predicate(home, scope, ast, "the condition of ALARM")?;
            let raise = raise.expr;
            triggers.push((name, Trigger::Condition { raise, clear: None }));
        }
        Ok(())
    }

    /// `silent_after` and `grace`.
    fn silence(
        &mut self,
        home: &Home<'_>,
        settings: &mut Settings<'_>,
        triggers: &mut Vec<(String, Trigger)>,
    ) -> Planned<()> {
        let Some(ast) = settings.get("silent_after") else {
            return settings.pointless(self, home, "grace", "silent_after");
        };
        let after = span(self, home, "silent_after", ast, false)?;
        let grace = match settings.get("grace") {
            Some(ast) => span(self, home, "grace", ast, true)?,
            // Whoever reports that often has reported within it.
            None => after,
        };
        triggers.push((SILENT.to_owned(), Trigger::Silence { after, grace }));
        Ok(())
    }

    /// The alarms with what is set for all or some of them.
    fn behaviours(
        &mut self,
        home: &Home<'_>,
        settings: &mut Settings<'_>,
        triggers: Vec<(String, Trigger)>,
    ) -> Planned<Vec<AlarmRule>> {
        let all: Vec<String> = triggers.iter().map(|(name, _)| name.clone()).collect();
        // Silence stands behind the others, and is its own delay. A condition may have its name.
        let is_silence =
            |(_, trigger): &(String, Trigger)| matches!(trigger, Trigger::Silence { .. });
        let delayed = all.len() - usize::from(triggers.last().is_some_and(is_silence));
        let mut each = |planner: &mut Self, setting: &'static str, names: &[String]| {
            let ast = settings.get(setting);
            ast.map(|ast| Each::of(planner, home, setting, ast, names))
                .transpose()
        };
        let on_delay = each(self, "on_delay", &all[..delayed])?;
        let off_delay = each(self, "off_delay", &all[..delayed])?;
        let re_alarm = each(self, "re_alarm", &all)?;
        let latch = each(self, "latch", &all)?;
        let severity = each(self, "severity", &all)?;
        if delayed == 0 {
            settings.pointless(self, home, "on_delay", "a limit or a condition")?;
            settings.pointless(self, home, "off_delay", "a limit or a condition")?;
        }
        let mut rules = Vec::with_capacity(triggers.len());
        for (which, (name, trigger)) in triggers.into_iter().enumerate() {
            let delay =
                |planner: &mut Self, setting: &str, each: Option<&Each<'_>>| match set(each, which)
                {
                    Some(ast) if which < delayed => span(planner, home, setting, ast, true),
                    _ => Ok(Timespan::ZERO),
                };
            let on_delay = delay(self, "on_delay", on_delay.as_ref())?;
            let off_delay = delay(self, "off_delay", off_delay.as_ref())?;
            rules.push(AlarmRule {
                name: CompactString::from(name),
                severity: match set(severity.as_ref(), which) {
                    Some(ast) => Some(literal_text(self, home, ast)?.into()),
                    None => None,
                },
                trigger,
                on_delay,
                off_delay,
                re_alarm: match set(re_alarm.as_ref(), which) {
                    Some(ast) => Some(span(self, home, "re_alarm", ast, false)?),
                    None => None,
                },
                latch: match set(latch.as_ref(), which) {
                    Some(ast) => flag(self, home, ast)?,
                    None => false,
                },
            });
        }
        Ok(rules)
    }
}

/// What is written of a setting for an alarm.
fn set<'q>(each: Option<&Each<'q>>, which: usize) -> Option<&'q Ast> {
    each.and_then(|each| each.get(which))
}

/// Whether a constant is below zero.
fn is_negative(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(Value::Int(number)) => *number < 0,
        Expr::Literal(Value::Double(number)) => *number < 0.0,
        Expr::Literal(Value::Decimal(number)) => number.is_sign_negative() && !number.is_zero(),
        _ => false,
    }
}
