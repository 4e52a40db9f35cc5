//! Takes a TOML document apart with a memory of what was asked for, so that all errors come at once, each at its
//! place, and what was never asked for is an unknown key.
//!
//! Not serde: a derived `Deserialize` ends at the first error and cannot place an error of meaning.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::plan::{Diagnostic, Place, nearest, quantity};

/// Collects the errors of a document.
pub(super) struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<(usize, Diagnostic)>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            text,
            problems: Vec::new(),
        }
    }

    /// Reads the document; `None` if it is no TOML.
    pub(super) fn root<T>(
        &mut self,
        read: impl FnOnce(&mut Self, &mut Section<'_>) -> T,
    ) -> Option<T> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        if !errors.is_empty() {
            for error in errors {
                let at = error.span().map_or(0, |span| span.start);
                self.report(at, error.message().to_owned(), None);
            }
            return None;
        }
        let span = document.span();
        let table = document.get_ref();
        let mut section = Section {
            name: String::new(),
            table: Some(table),
            span,
            known: Vec::new(),
        };
        let value = read(self, &mut section);
        section.close(self);
        Some(value)
    }

    /// All errors in the order of their places.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.problems.sort_by_key(|(at, _)| *at);
        self.problems
            .into_iter()
            .map(|(_, problem)| problem)
            .collect()
    }

    fn place(&self, at: usize) -> Place {
        Place::of_offset(self.file, self.text, at)
    }

    fn report(&mut self, at: usize, message: String, hint: Option<String>) {
        let place = self.place(at);
        self.problems.push((
            at,
            Diagnostic {
                place,
                message,
                hint,
            },
        ));
    }
}

/// A table of the document, or the absence of one: then every key has its default.
pub(super) struct Section<'d> {
    name: String,
    table: Option<&'d DeTable<'d>>,
    span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'d> Section<'d> {
    /// Declares a key without reading it.
    pub(super) fn knows(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Reports an error at a key.
    pub(super) fn report(
        &self,
        r: &mut Reader<'_>,
        key: &str,
        message: impl Into<String>,
        hint: &str,
    ) {
        let at = self
            .entry(key)
            .map_or(self.span.start, |(span, _)| span.start);
        r.report(at, message.into(), Some(hint.to_owned()));
    }

    /// A key that must not be there.
    pub(super) fn refuse(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        message: &str,
        hint: &str,
    ) {
        if self.has(key) {
            self.known.push(key);
            self.report(r, key, message, hint);
        }
    }

    /// A table; its absence is an empty one.
    pub(super) fn section<T>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_>, &mut Section<'_>) -> T,
    ) -> T {
        self.known.push(key);
        let found = self.entry(key);
        let table = found
            .as_ref()
            .and_then(|(_, value)| value.get_ref().as_table());
        if let (Some((span, value)), None) = (&found, table) {
            let kind = kind(value.get_ref());
            r.report(
                span.start,
                format!("{key} is a section, not {kind}"),
                Some(format!("write [{}]", self.path(key))),
            );
        }
        let span = found.map_or_else(|| self.span.clone(), |(span, _)| span);
        let mut section = Section {
            name: self.path(key),
            table,
            span,
            known: Vec::new(),
        };
        let value = read(r, &mut section);
        section.close(r);
        value
    }

    /// A table of tables with free names.
    pub(super) fn sections<T>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_>, &mut Section<'_>, &str, Place) -> T,
    ) -> Vec<T> {
        let mut values = Vec::new();
        let path = self.path(key);
        self.known.push(key);
        let Some((span, value)) = self.entry(key) else {
            return values;
        };
        let Some(table) = value.get_ref().as_table() else {
            r.report(
                span.start,
                format!("{key} is a section"),
                Some(format!("write [{path}.NAME]")),
            );
            return values;
        };
        for (name, value) in table {
            let span = name.span();
            let Some(inner) = value.get_ref().as_table() else {
                r.report(
                    span.start,
                    format!("{} in [{path}] is not a section", name.get_ref()),
                    Some(format!("give it a name: [{path}.default]")),
                );
                continue;
            };
            let place = r.place(span.start);
            let mut section = Section {
                name: format!("{path}.{}", name.get_ref()),
                table: Some(inner),
                span,
                known: Vec::new(),
            };
            values.push(read(r, &mut section, name.get_ref(), place));
            section.close(r);
        }
        values
    }

    /// A string that must be there.
    pub(super) fn required<T>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        check: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            r.report(
                self.span.start,
                format!("[{}] has no {key}", self.name),
                Some(format!("add {key} = \"…\"")),
            );
        }
        self.text(r, key, check)
    }

    /// A string.
    pub(super) fn text<T>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        check: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        self.value(r, key, |value| match value.as_str() {
            Some(text) => check(text.to_owned()),
            None => Err(format!("{key} is a string, not {}", kind(value))),
        })
    }

    /// The path of a file.
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// A file's path.
    pub(super) fn file(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<PathBuf> {
        self.text(r, key, |text| {
            if text.is_empty() {
                Err(format!("{key} is empty"))
            } else {
                Ok(PathBuf::from(text))
            }
        })
    }

    /// A list of strings.
    pub(super) fn texts(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        check: impl Fn(String) -> Result<String, String>,
    ) -> Option<Vec<String>> {
        self.known.push(key);
        let (_, value) = self.entry(key)?;
        let Some(items) = value.get_ref().as_array() else {
            r.report(
                value.span().start,
                format!("{key} is a list of strings"),
                Some(format!("write {key} = [\"…\"]")),
            );
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            let checked = match item.get_ref().as_str() {
                Some(text) => check(text.to_owned()),
                None => Err(format!("{key} is a list of strings")),
            };
            match checked {
                Ok(text) => texts.push(text),
                Err(message) => r.report(item.span().start, message, None),
            }
        }
        Some(texts)
    }

    /// An integer within bounds.
    pub(super) fn integer(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        (least, most): (i64, i64),
        default: i64,
    ) -> i64 {
        self.value(r, key, |value| {
            let number = value
                .as_integer()
                .and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok())
                .ok_or_else(|| format!("{key} is a whole number, not {}", kind(value)))?;
            if (least..=most).contains(&number) {
                Ok(number)
            } else {
                Err(format!(
                    "{key} = {number} is out of bounds: {least} to {most}"
                ))
            }
        })
        .unwrap_or(default)
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        (least, most): (Duration, Duration),
        default: Duration,
    ) -> Duration {
        self.text(r, key, |text| {
            let value = quantity::parse_duration(&text)?;
            if (least..=most).contains(&value) {
                return Ok(value);
            }
            let (least, most) = (
                quantity::show_duration(least),
                quantity::show_duration(most),
            );
            Err(format!(
                "{key} = {text} is out of bounds: {least} to {most}"
            ))
        })
        .unwrap_or(default)
    }

    /// A size in bytes within bounds.
    pub(super) fn size(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        (least, most): (u64, u64),
        default: u64,
    ) -> u64 {
        self.text(r, key, |text| {
            let value = quantity::parse_size(&text)?;
            if (least..=most).contains(&value) {
                return Ok(value);
            }
            let (least, most) = (quantity::show_size(least), quantity::show_size(most));
            Err(format!(
                "{key} = {text} is out of bounds: {least} to {most}"
            ))
        })
        .unwrap_or(default)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        self.text(r, key, |text| {
            choices
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                    format!("{key} is one of {}, not '{text}'", names.join(", "))
                })
        })
        .unwrap_or(default)
    }

    fn entry(&self, key: &str) -> Option<(Range<usize>, &'d Spanned<DeValue<'d>>)> {
        let (name, value) = self.table?.get_key_value(key)?;
        Some((name.span(), value))
    }

    fn value<T>(
        &mut self,
        r: &mut Reader<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(key);
        let (_, value) = self.entry(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(message) => {
                r.report(value.span().start, message, None);
                None
            }
        }
    }

    /// Reports every key that nobody asked for.
    fn close(self, r: &mut Reader<'_>) {
        let Some(table) = self.table else {
            return;
        };
        for (name, _) in table {
            let key: &str = name.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let of = if self.name.is_empty() {
                "headwater.toml".to_owned()
            } else {
                format!("[{}]", self.name)
            };
            let hint = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("it knows {}", self.known.join(", ")),
            };
            r.report(
                name.span().start,
                format!("{of} has no key {key}"),
                Some(hint),
            );
        }
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
