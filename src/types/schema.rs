//! The shape of a row: named, typed columns, and which of them carry time.

use compact_str::CompactString;

use super::Type;

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name as written in SQL; looked up without regard to case only when no exact match exists.
    pub name: CompactString,
    /// The type of its values.
    pub ty: Type,
    /// Whether a value may be NULL.
    pub nullable: bool,
    /// Whether the column is a time attribute: the one a watermark is declared on, or a window's time.
    pub rowtime: bool,
}

impl Column {
    /// A nullable column without a role in time.
    pub fn new(name: impl Into<CompactString>, ty: Type) -> Self {
        Self {
            name: name.into(),
            ty,
            nullable: true,
            rowtime: false,
        }
    }
}

/// The columns of a row, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// The columns.
    pub columns: Vec<Column>,
}

impl Schema {
    /// A schema of these columns.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns }
    }

    /// The position of the column `name`: an exact match, else the only one that differs by case alone.
    pub fn position(&self, name: &str) -> Option<usize> {
        let exact = self.columns.iter().position(|c| c.name == name);
        exact.or_else(|| {
            let mut alike = self
                .columns
                .iter()
                .enumerate()
                .filter(|(_, c)| c.name.eq_ignore_ascii_case(name));
            match (alike.next(), alike.next()) {
                (Some((index, _)), None) => Some(index),
                _ => None,
            }
        })
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}
