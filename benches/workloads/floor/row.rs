//! A row as a line of JSON: the fields in the order in which they are added, the digits by the libraries that are fast at it.

/// A line that is being written. What stands before a value, its name and the quotes, is given with it.
pub(super) struct Row<'a>(&'a mut String);

impl<'a> Row<'a> {
    /// A row that begins with text.
    pub(super) fn new(rows: &'a mut String, before: &str, text: &str) -> Self {
        rows.push_str(before);
        rows.push_str(text);
        Self(rows)
    }

    pub(super) fn integer(&mut self, before: &str, value: i64) {
        self.0.push_str(before);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    pub(super) fn number(&mut self, before: &str, value: f64) {
        self.0.push_str(before);
        self.0.push_str(zmij::Buffer::new().format_finite(value));
    }

    pub(super) fn end(self) {
        self.0.push_str("}\n");
    }
}
