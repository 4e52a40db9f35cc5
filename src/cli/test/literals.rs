//! What stands behind VALUES and PAYLOAD in a test file: constants, which become the JSON of a message.

use crate::types::Type;

use super::database::Refused;

/// A constant.
pub(super) struct Literal {
    /// What it says, without quotes.
    pub(super) text: String,
    quoted: bool,
}

impl Literal {
    /// The constant as JSON; an ARRAY, MAP or ROW is written as its JSON in quotes.
    pub(super) fn json(&self, ty: &Type) -> String {
        if !self.quoted {
            return self.text.to_lowercase();
        }
        match ty {
            Type::Array(_) | Type::Map(..) | Type::Row(_) => self.text.clone(),
            _ => serde_json::Value::String(self.text.clone()).to_string(),
        }
    }
}

/// Reads constants one after the other.
pub(super) struct Literals<'a>(&'a str);

impl<'a> Literals<'a> {
    /// Of an INSERT INTO, from behind the table's name.
    pub(super) fn behind_the_table(sql: &'a str) -> Self {
        let mut literals = Self(sql);
        for _ in ["INSERT", "INTO", "table"] {
            literals.word();
        }
        literals
    }

    /// The next word, in capitals.
    pub(super) fn word(&mut self) -> String {
        let rest = self.0.trim_start();
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '(' || c == '\'')
            .unwrap_or(rest.len());
        self.0 = &rest[end..];
        rest[..end].to_uppercase()
    }

    /// Takes the sign if it is the next.
    pub(super) fn takes(&mut self, sign: char) -> bool {
        match self.0.trim_start().strip_prefix(sign) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The next row: constants in parentheses.
    pub(super) fn row(&mut self) -> Result<Vec<Literal>, Refused> {
        if !self.takes('(') {
            return Err(self.expected("a row in parentheses"));
        }
        let mut row = vec![self.literal()?];
        while self.takes(',') {
            row.push(self.literal()?);
        }
        if !self.takes(')') {
            return Err(self.expected("a comma or )"));
        }
        Ok(row)
    }

    /// The next constant.
    pub(super) fn literal(&mut self) -> Result<Literal, Refused> {
        let mut rest = self.0.trim_start();
        for word in ["TIMESTAMP", "DATE", "TIME"] {
            if let Some(after) = rest.strip_prefix(word) {
                rest = after.trim_start();
            }
        }
        if let Some(mut inside) = rest.strip_prefix('\'') {
            let mut text = String::new();
            loop {
                let Some(end) = inside.find('\'') else {
                    return Err(self.expected("a closing quote"));
                };
                text.push_str(&inside[..end]);
                inside = &inside[end + 1..];
                match inside.strip_prefix('\'') {
                    Some(after) => {
                        text.push('\'');
                        inside = after;
                    }
                    None => break,
                }
            }
            self.0 = inside;
            return Ok(Literal { text, quoted: true });
        }
        let end = rest.find([',', ')']).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Ok(Literal {
            text: rest[..end].trim().to_owned(),
            quoted: false,
        })
    }

    /// The error that something else stands here.
    pub(super) fn expected(&self, what: &str) -> Refused {
        let rest: String = self.0.trim_start().chars().take(40).collect();
        Refused(format!("{what} is expected where `{rest}` stands"))
    }
}
