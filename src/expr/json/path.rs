//! SQL/JSON paths: `$`, `.key`, `."key"`, `['key']`, `[n]`, `[*]`, `.*`, in the modes `lax` and `strict`.
//!
//! Without a mode a path is strict, as in Flink. A strict path that misses is an error (for ON ERROR), a lax one finds
//! nothing (for ON EMPTY). Lax also looks into arrays for members and takes a single value for an array of one, as the
//! standard says and Flink does not. Behind a wildcard no member is missed. Filters, slices, methods and `..` are
//! refused by name.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::expr::ResolveError;

use super::JsonKind;

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::expr) struct JsonPath {
    lax: bool,
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    AnyMember,
    Element(usize),
    AnyElement,
}

/// What a path finds in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::expr) struct Selected<'a> {
    /// The values, as they stand in the text.
    pub(in crate::expr) items: Vec<&'a str>,
    /// Whether the path can find more than one value.
    pub(in crate::expr) many: bool,
}

/// Why a path finds no answer: the text is no JSON, or a strict path misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expr) enum PathError {
    NoJson,
    Missing,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoJson => "the text is not JSON",
            Self::Missing => "the strict path leads to nothing",
        })
    }
}

impl JsonPath {
    /// The path `$`.
    pub(in crate::expr) fn root() -> Self {
        Self {
            lax: false,
            steps: Box::new([]),
        }
    }

    /// Compiles a path.
    pub(in crate::expr) fn parse(text: &str) -> Result<Self, ResolveError> {
        let trimmed = text.trim();
        let (lax, rest) = match trimmed.split_once(char::is_whitespace) {
            Some((mode, rest)) if mode.eq_ignore_ascii_case("lax") => (true, rest.trim()),
            Some((mode, rest)) if mode.eq_ignore_ascii_case("strict") => (false, rest.trim()),
            _ => (false, trimmed),
        };
        let Some(mut rest) = rest.strip_prefix('$') else {
            return Err(wrong(text, "a path begins with $"));
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = if let Some(after) = rest.strip_prefix('.') {
                Self::member(text, after)?
            } else if let Some(after) = rest.strip_prefix('[') {
                Self::subscript(text, after.trim_start())?
            } else if rest.trim_start().starts_with('?') {
                return Err(refused(text, "a filter"));
            } else {
                return Err(wrong(text, "behind $ stand .key, ['key'], [n], [*] and .*"));
            };
            steps.push(step);
            rest = after;
        }
        Ok(Self {
            lax,
            steps: steps.into(),
        })
    }

    fn member<'t>(path: &str, rest: &'t str) -> Result<(Step, &'t str), ResolveError> {
        if rest.starts_with('.') {
            return Err(refused(path, "the descent .."));
        }
        if let Some(after) = rest.strip_prefix('*') {
            return Ok((Step::AnyMember, after));
        }
        // Flink's documentation writes $.["a b"].
        if let Some(after) = rest.strip_prefix('[') {
            return Self::subscript(path, after.trim_start());
        }
        if rest.starts_with(['"', '\'']) {
            let (key, after) = quoted(path, rest)?;
            return Ok((Step::Member(key), after));
        }
        let end = rest.find(['.', '[', ' ', '?', '(']).unwrap_or(rest.len());
        if end == 0 {
            return Err(wrong(path, "a name stands behind a point"));
        }
        if rest[end..].starts_with('(') {
            return Err(refused(path, &format!("the method {}()", &rest[..end])));
        }
        Ok((Step::Member(rest[..end].to_owned()), &rest[end..]))
    }

    fn subscript<'t>(path: &str, rest: &'t str) -> Result<(Step, &'t str), ResolveError> {
        let close = |after: &'t str| {
            after
                .trim_start()
                .strip_prefix(']')
                .ok_or_else(|| wrong(path, "[ is closed by ] behind one key or number"))
        };
        if let Some(after) = rest.strip_prefix('*') {
            return Ok((Step::AnyElement, close(after)?));
        }
        if rest.starts_with(['"', '\'']) {
            let (key, after) = quoted(path, rest)?;
            return Ok((Step::Member(key), close(after)?));
        }
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let what = match after.trim_start() {
            _ if rest.starts_with('-') => Some("a position from the end"),
            _ if rest.starts_with("last") => Some("last"),
            _ if rest.starts_with('?') => Some("a filter"),
            more if more.starts_with(':') || more.starts_with("to ") => Some("a slice"),
            more if more.starts_with(',') => Some("a list of positions"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(refused(path, what));
        }
        let position = digits
            .parse()
            .map_err(|_| wrong(path, "[ ] takes a position from 0, a quoted key or *"))?;
        Ok((Step::Element(position), close(after)?))
    }

    /// What the path finds in a document.
    pub(in crate::expr) fn select<'a>(&self, document: &'a str) -> Result<Selected<'a>, PathError> {
        let root: &RawValue = serde_json::from_str(document).map_err(|_| PathError::NoJson)?;
        let mut found = Selected {
            items: vec![root.get()],
            many: false,
        };
        for step in &self.steps {
            let mut next = Vec::new();
            // Behind a wildcard some of the values may lack what the path asks for.
            let strict = !self.lax && !found.many;
            for item in &found.items {
                let before = next.len();
                self.step(step, item, &mut next, &mut found.many);
                if strict
                    && next.len() == before
                    && matches!(step, Step::Member(_) | Step::Element(_))
                {
                    return Err(PathError::Missing);
                }
            }
            found.many |= matches!(step, Step::AnyMember | Step::AnyElement);
            found.items = next;
        }
        Ok(found)
    }

    fn step<'a>(&self, step: &Step, raw: &'a str, found: &mut Vec<&'a str>, many: &mut bool) {
        match (step, super::kind(raw)) {
            (Step::Member(key), JsonKind::Object) => found.extend(member(raw, key)),
            (Step::AnyMember, JsonKind::Object) => found.extend(members(raw)),
            (Step::Member(_) | Step::AnyMember, JsonKind::Array) if self.lax => {
                *many = true;
                for item in super::elements(raw) {
                    if super::kind(item) == JsonKind::Object {
                        self.step(step, item, found, many);
                    }
                }
            }
            (Step::Element(at), JsonKind::Array) => found.extend(element(raw, *at)),
            (Step::AnyElement, JsonKind::Array) => found.extend(super::elements(raw)),
            (Step::Element(0) | Step::AnyElement, _) if self.lax => found.push(raw),
            _ => {}
        }
    }
}

fn wrong(path: &str, hint: &str) -> ResolveError {
    ResolveError::hinted(format!("'{path}' is not a JSON path"), hint)
}

fn refused(path: &str, what: &str) -> ResolveError {
    ResolveError::hinted(
        format!("{what} in the JSON path '{path}' is not supported"),
        "a path is made of $, .key, ['key'], [n], [*] and .*",
    )
}

/// The key in quotes that the text begins with, and what is behind it.
fn quoted<'t>(path: &str, text: &'t str) -> Result<(String, &'t str), ResolveError> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    let mut key = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if Some(c) == quote => return Ok((key, &text[at + c.len_utf8()..])),
            '\\' => key.extend(chars.next().map(|(_, c)| c)),
            c => key.push(c),
        }
    }
    Err(wrong(path, "a quoted key ends with its quote"))
}

/// The value of a key; the last one, if it comes twice.
fn member<'a>(raw: &'a str, key: &str) -> Option<&'a str> {
    let mut found = None;
    walk_object(raw, &mut |name, value| {
        if name == key {
            found = Some(value);
        }
    });
    found
}

/// All values of an object in their order; of a key that comes twice both.
pub(in crate::expr) fn members(raw: &str) -> Vec<&str> {
    let mut found = Vec::new();
    walk_object(raw, &mut |_, value| found.push(value));
    found
}

fn walk_object<'a>(raw: &'a str, visit: &mut dyn FnMut(&str, &'a str)) {
    struct Members<'v, 'a>(&'v mut dyn FnMut(&str, &'a str));
    impl<'a> Visitor<'a> for Members<'_, 'a> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some((name, value)) = map.next_entry::<String, &'a RawValue>()? {
                (self.0)(&name, value.get());
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    // A key with half of a surrogate pair ends the walk: no path can name it.
    let _ = deserializer.deserialize_map(Members(visit));
}

fn element(raw: &str, at: usize) -> Option<&str> {
    struct Nth(usize);
    impl<'de> DeserializeSeed<'de> for Nth {
        type Value = Option<&'de RawValue>;

        fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_seq(self)
        }
    }
    impl<'de> Visitor<'de> for Nth {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            let mut at = 0;
            while let Some(value) = seq.next_element::<&'de RawValue>()? {
                if at == self.0 {
                    found = Some(value);
                }
                at += 1;
            }
            Ok(found)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    Nth(at)
        .deserialize(&mut deserializer)
        .ok()
        .flatten()
        .map(RawValue::get)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select<'a>(path: &str, document: &'a str) -> Result<Vec<&'a str>, PathError> {
        let path = JsonPath::parse(path).unwrap();
        path.select(document).map(|found| found.items)
    }

    #[test]
    fn paths_find_what_the_standard_says() {
        let document = r#"{"a":{"b":[10,{"c":18446744073709551616}]},"x y":"z","n":null,"l":[{"v":1},{"w":2},{"v":3}]}"#;
        for (path, found) in [
            ("$.a.b[0]", Ok(vec!["10"])),
            ("$.a.b[1].c", Ok(vec!["18446744073709551616"])),
            ("$['x y']", Ok(vec!["\"z\""])),
            (r#"$."x y""#, Ok(vec!["\"z\""])),
            (r#"$.["x y"]"#, Ok(vec!["\"z\""])),
            ("$.n", Ok(vec!["null"])),
            ("$.l[*].v", Ok(vec!["1", "3"])),
            ("$.l.v", Err(PathError::Missing)),
            ("lax $.l.v", Ok(vec!["1", "3"])),
            ("lax $.a[0].b[*].c", Ok(vec!["18446744073709551616"])),
            ("strict $.q", Err(PathError::Missing)),
            ("lax $.q.r", Ok(vec![])),
            ("lax $.a.b[9]", Ok(vec![])),
            ("$.a.b[9]", Err(PathError::Missing)),
            ("$.*.b[0]", Ok(vec!["10"])),
        ] {
            assert_eq!(select(path, document), found, "{path}");
        }
        assert_eq!(select("$", " 7 "), Ok(vec!["7"]));
        assert_eq!(select("$", "{"), Err(PathError::NoJson));
        assert_eq!(select("$.a", r#"{"a":1,"a":2}"#), Ok(vec!["2"]));
    }

    fn documents() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
                prop::collection::btree_map(".*", inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Calls `visit` with every place of a document and the path that leads there.
    fn each_place(
        value: &serde_json::Value,
        path: String,
        visit: &mut dyn FnMut(&str, &serde_json::Value),
    ) {
        visit(&path, value);
        if let Some(items) = value.as_array() {
            for (at, item) in items.iter().enumerate() {
                each_place(item, format!("{path}[{at}]"), visit);
            }
        }
        if let Some(members) = value.as_object() {
            for (key, member) in members {
                let key = key.replace('\\', "\\\\").replace('"', "\\\"");
                each_place(member, format!("{path}[\"{key}\"]"), visit);
            }
        }
    }

    proptest! {
        #[test]
        fn every_place_of_a_document_has_its_path(document in documents(), spread: bool) {
            let text = if spread {
                serde_json::to_string_pretty(&document).unwrap()
            } else {
                document.to_string()
            };
            each_place(&document, "$".to_owned(), &mut |path, value| {
                for mode in ["strict", "lax"] {
                    let found = select(&format!("{mode} {path}"), &text).unwrap();
                    assert_eq!(found.len(), 1, "{path} in {text}");
                    let found: serde_json::Value = serde_json::from_str(found[0]).unwrap();
                    assert_eq!(&found, value, "{path} in {text}");
                }
            });
        }

        #[test]
        fn no_text_makes_a_path_panic(path: String, document: String) {
            if let Ok(path) = JsonPath::parse(&path) {
                let _ = path.select(&document);
            }
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (path, part) in [
            ("a.b", "begins with $"),
            ("$..a", ".."),
            ("$.a[-1]", "from the end"),
            ("$.a[1:2]", "slice"),
            ("$.a[0,1]", "list"),
            ("$.a[last]", "last"),
            ("$.a ?(@.b > 1)", "filter"),
            ("$.a.size()", "size()"),
            ("$.a[", "position"),
            ("$.", "name"),
            ("$['a", "quote"),
            ("", "$"),
        ] {
            let error = JsonPath::parse(path).unwrap_err();
            let told = format!("{} {}", error.message, error.hint.unwrap_or_default());
            assert!(told.contains(part), "{path}: {told}");
        }
    }
}
