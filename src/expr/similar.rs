//! SIMILAR TO: the regular expressions of standard SQL, translated into those of the library.
//!
//! Invariant: the whole text has to match. `%` is any text, `_` one character; `| * + ? { } ( ) [ ]` mean what they
//! do elsewhere; everything else stands for itself.

use super::EvalError;

/// The pattern as a regular expression of the library.
pub(super) fn translate(pattern: &str, escape: Option<char>) -> Result<String, EvalError> {
    let mut out = String::with_capacity(pattern.len() + 12);
    out.push_str(r"(?s)\A(?:");
    let mut chars = pattern.chars();
    let (mut in_class, mut in_braces) = (false, false);
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => match chars.next() {
                Some(next) => push_plain(&mut out, next),
                None => {
                    return Err(EvalError::new(format!(
                        "the pattern '{pattern}' ends with its escape character"
                    )));
                }
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
            }
            // [[:ALPHA:]] is written [[:alpha:]] there.
            '[' => {
                out.push('[');
                for c in chars.by_ref() {
                    out.extend(c.to_lowercase());
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '^' | '-' if in_class => out.push(c),
            '%' if !in_class => out.push_str(".*"),
            '_' if !in_class => out.push('.'),
            '{' | '}' if !in_class => {
                in_braces = c == '{';
                out.push(c);
            }
            ',' if in_braces => out.push(c),
            '|' | '*' | '+' | '?' | '(' | ')' if !in_class => out.push(c),
            c => push_plain(&mut out, c),
        }
    }
    out.push_str(r")\z");
    Ok(out)
}

fn push_plain(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}
