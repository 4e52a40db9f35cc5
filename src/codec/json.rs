//! JSON by projection: only the fields that some column reads are looked at.
//!
//! The columns' paths form a tree. A visitor walks the document along it, skips what no column reads (without
//! recursion, so nesting cannot exhaust the stack) and hands each leaf's text to the column's type. Most messages need no
//! walk: see `layout`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compact_str::CompactString;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde_json::value::RawValue;

use super::decode::{InputColumn, Origin, cleared_row, row_of, utf8, wrong_type};
use super::layout::Layouts;
use super::scalar::parse_scalar;
use super::{CodecError, JsonFormat, TimestampFormat};
use crate::types::{Field, Row, Type, Value};

/// How deep ARRAY, ROW and MAP columns may nest: more than any declared type needs.
const MAX_TYPE_DEPTH: usize = 32;

/// What the columns of a table read of a document.
#[derive(Debug)]
pub(super) struct JsonShape {
    pub(super) root: Node,
    pub(super) options: JsonFormat,
}

/// A place in the document: the columns that read it and the fields below it that columns read.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) slots: Vec<usize>,
    children: Vec<(String, Node)>,
}

impl Node {
    /// Whether columns read below it.
    pub(super) fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// What columns read below a key.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        let mut children = self.children.iter();
        children.find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

impl JsonShape {
    pub(super) fn new<'a>(
        options: &JsonFormat,
        paths: impl Iterator<Item = (usize, &'a [String])>,
    ) -> Self {
        let mut root = Node::default();
        for (slot, path) in paths {
            let mut node = &mut root;
            for key in path {
                let at = node.children.iter().position(|(name, _)| name == key);
                let at = at.unwrap_or_else(|| {
                    node.children.push((key.clone(), Node::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].1;
            }
            node.slots.push(slot);
        }
        Self {
            root,
            options: options.clone(),
        }
    }

    /// Fills `rows` from the document; returns how many.
    #[inline]
    pub(super) fn decode(
        &self,
        payload: &[u8],
        layouts: &mut Layouts,
        columns: &[InputColumn],
        rows: &mut Vec<Row>,
    ) -> Result<usize, CodecError> {
        let row = row_of(rows, 0, columns.len());
        if layouts.fill(payload, self, columns, row) {
            return Ok(1);
        }
        self.decode_unguessed(payload, layouts, columns, rows)
    }

    fn decode_unguessed(
        &self,
        payload: &[u8],
        layouts: &mut Layouts,
        columns: &[InputColumn],
        rows: &mut Vec<Row>,
    ) -> Result<usize, CodecError> {
        let text = utf8(payload)?;
        if text.trim_start().starts_with('[') && self.root.slots.is_empty() {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(invalid)?;
            for (index, element) in elements.iter().enumerate() {
                let row = cleared_row(rows, index, columns.len());
                self.fill(element.get(), columns, row)?;
            }
            return Ok(elements.len());
        }
        let row = cleared_row(rows, 0, columns.len());
        self.fill(text, columns, row)?;
        layouts.learn(text, self, columns);
        Ok(1)
    }

    fn fill(&self, text: &str, columns: &[InputColumn], row: &mut Row) -> Result<(), CodecError> {
        if self.root.slots.is_empty() && !text.trim_start().starts_with('{') {
            let detail = "a JSON object or an array of objects is needed".to_owned();
            return Err(CodecError::InvalidJson { detail });
        }
        let strict = self.options.fail_on_missing_field;
        let mut walk = Walk {
            shape: self,
            columns,
            row,
            seen: vec![false; if strict { columns.len() } else { 0 }],
            error: None,
            at_once: true,
        };
        let mut walked = walk.document(text);
        if walked.is_err() {
            // Once more, for what is wrong with it.
            walk.at_once = false;
            walked = walk.document(text);
        }
        if let Some(error) = walk.error {
            return Err(error);
        }
        walked.map_err(invalid)?;
        let seen = walk.seen;
        for (slot, column) in columns.iter().enumerate() {
            if !row[slot].is_null() || !matches!(column.origin, Origin::Payload { .. }) {
                continue;
            }
            if !column.nullable {
                return Err(CodecError::NullValue {
                    column: column.name.clone(),
                });
            }
            if strict && !seen[slot] {
                return Err(CodecError::MissingField {
                    column: column.name.clone(),
                });
            }
        }
        Ok(())
    }
}

fn invalid(error: serde_json::Error) -> CodecError {
    CodecError::InvalidJson {
        detail: error.to_string(),
    }
}

/// One pass over one document.
struct Walk<'a> {
    shape: &'a JsonShape,
    columns: &'a [InputColumn],
    row: &'a mut Row,
    /// Whether the column's field was present, be it null; kept only where a missing field is an error.
    seen: Vec<bool>,
    /// The first field of a wrong type.
    error: Option<CodecError>,
    /// Whether arrays, rows and maps are read while they are walked over. One of a wrong type then ends the walk, and
    /// nothing says where; else their text is found first.
    at_once: bool,
}

impl Walk<'_> {
    fn document(&mut self, text: &str) -> Result<(), serde_json::Error> {
        let shape = self.shape;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        self.node(&shape.root, &mut deserializer)
            .and_then(|()| deserializer.end())
    }

    fn node<'de, D: Deserializer<'de>>(&mut self, node: &Node, from: D) -> Result<(), D::Error> {
        if node.slots.is_empty() {
            return from.deserialize_any(Fields { walk: self, node });
        }
        if let ([slot], true, true) = (&*node.slots, node.children.is_empty(), self.at_once)
            && is_nested(&self.columns[*slot].ty)
        {
            let ty = &self.columns[*slot].ty;
            let typed = Typed {
                ty,
                timestamps: &self.shape.options.timestamp,
                depth: 0,
            };
            self.row[*slot] = typed.deserialize(from)?;
            if let Some(seen) = self.seen.get_mut(*slot) {
                *seen = true;
            }
            return Ok(());
        }
        let raw: &'de RawValue = serde::Deserialize::deserialize(from)?;
        for &slot in &node.slots {
            self.leaf(slot, raw.get());
        }
        if !node.children.is_empty() {
            let mut below = serde_json::Deserializer::from_str(raw.get());
            below
                .deserialize_any(Fields { walk: self, node })
                .map_err(D::Error::custom)?;
        }
        Ok(())
    }

    fn leaf(&mut self, slot: usize, raw: &str) {
        let column = &self.columns[slot];
        if let Some(seen) = self.seen.get_mut(slot) {
            *seen = true;
        }
        match parse_value(raw, &column.ty, &self.shape.options.timestamp, 0) {
            Some(value) => self.row[slot] = value,
            None if self.shape.options.ignore_parse_errors => self.row[slot] = Value::Null,
            None if self.error.is_none() => self.error = Some(wrong_type(column, raw)),
            None => {}
        }
    }
}

/// Visits an object's fields along a node's children; anything but an object has none.
struct Fields<'w, 'a> {
    walk: &'w mut Walk<'a>,
    node: &'w Node,
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Key(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Below {
                    walk: &mut *self.walk,
                    node,
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Finds the child that a key names, without keeping the key.
struct Key<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Key<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Key<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(key))
    }
}

struct Below<'w, 'a> {
    walk: &'w mut Walk<'a>,
    node: &'w Node,
}

impl<'de> DeserializeSeed<'de> for Below<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.walk.node(self.node, from)
    }
}

/// The value of type `ty` in the JSON text `raw`; NULL for `null`, `None` for another type.
pub(super) fn parse_value(
    raw: &str,
    ty: &Type,
    timestamps: &TimestampFormat,
    depth: usize,
) -> Option<Value> {
    if raw == "null" {
        return Some(Value::Null);
    }
    if depth > MAX_TYPE_DEPTH {
        return None;
    }
    match ty {
        _ if is_nested(ty) => {
            let typed = Typed {
                ty,
                timestamps,
                depth,
            };
            typed
                .deserialize(&mut serde_json::Deserializer::from_str(raw))
                .ok()
        }
        // Bytes are Base64 in JSON, where they are written and where they are read.
        Type::Bytes => {
            let text = serde_json::from_str::<String>(raw).ok()?;
            Some(Value::Bytes(STANDARD.decode(text).ok()?.into()))
        }
        _ if raw.starts_with('"') => {
            let inner = &raw[1..raw.len() - 1];
            if inner.contains('\\') {
                parse_scalar(&serde_json::from_str::<String>(raw).ok()?, ty, timestamps)
            } else {
                parse_scalar(inner, ty, timestamps)
            }
        }
        // Objects and arrays are only text; a bare `true` is no number and a bare number no boolean.
        Type::String => Some(Value::str(raw)),
        _ if raw.starts_with(['{', '[']) => None,
        _ => parse_scalar(raw, ty, timestamps),
    }
}

/// Whether values of a type hold others.
const fn is_nested(ty: &Type) -> bool {
    matches!(ty, Type::Array(_) | Type::Row(_) | Type::Map(..))
}

/// Reads a value of a type, in one pass over all that is nested in it. Anything of another type is an error, which says no
/// more than that: the text has been found to be JSON before.
#[derive(Clone, Copy)]
struct Typed<'t> {
    ty: &'t Type,
    timestamps: &'t TimestampFormat,
    depth: usize,
}

impl<'t> Typed<'t> {
    /// The same for what is nested in it.
    const fn of(self, ty: &'t Type) -> Self {
        Self {
            ty,
            depth: self.depth + 1,
            ..self
        }
    }
}

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self.ty {
            ty if is_nested(ty) && self.depth <= MAX_TYPE_DEPTH => from.deserialize_option(self),
            ty => {
                let raw: &'de RawValue = serde::Deserialize::deserialize(from)?;
                parse_value(raw.get(), ty, self.timestamps, self.depth)
                    .ok_or_else(|| D::Error::custom("another type"))
            }
        }
    }
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.ty)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self.ty {
            Type::Array(_) => from.deserialize_seq(self),
            _ => from.deserialize_map(self),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let Type::Array(item) = self.ty else {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        };
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.of(item))? {
            values.push(value);
        }
        Ok(Value::Array(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        match self.ty {
            Type::Row(fields) => {
                let mut values = vec![Value::Null; fields.len()];
                // Most objects have their members in the order of the columns.
                let mut expected = 0;
                while let Some(at) = map.next_key_seed(Member { fields, expected })? {
                    match at {
                        // Of two of one name the last counts, but both have to be of the type.
                        Some(at) => {
                            values[at] = map.next_value_seed(self.of(&fields[at].ty))?;
                            expected = at + 1;
                        }
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Value::Row(values.into()))
            }
            Type::Map(key_type, value_type) => {
                let mut pairs = Vec::new();
                while let Some(name) = map.next_key::<CompactString>()? {
                    let key = parse_scalar(&name, key_type, self.timestamps)
                        .ok_or_else(|| A::Error::custom("another type"))?;
                    pairs.push((key, map.next_value_seed(self.of(value_type))?));
                }
                Ok(Value::Map(pairs.into()))
            }
            _ => Err(A::Error::invalid_type(Unexpected::Map, &self)),
        }
    }
}

/// Finds the field that a key names, from the one that is expected on, without keeping the key.
#[derive(Clone, Copy)]
struct Member<'f> {
    fields: &'f [Field],
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Member<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let (before, after) = self.fields.split_at(self.expected);
        let found = after.iter().position(|field| field.name == key);
        Ok(found
            .map(|at| before.len() + at)
            .or_else(|| before.iter().position(|field| field.name == key)))
    }
}
