//! An array's elements to rows.

use crate::types::{Row, Value};

/// Calls `each` with `row` and one element of `array` appended, for each element in order. An element that is NULL
/// makes NULLs; a NULL or empty array makes nothing, or with `outer` one row of NULLs.
pub fn unnest(
    row: &[Value],
    array: &Value,
    width: usize,
    rows: bool,
    outer: bool,
    buffer: &mut Row,
    mut each: impl FnMut(u64, &mut Row),
) {
    let elements: &[Value] = if let Value::Array(elements) = array {
        elements
    } else {
        &[]
    };
    if elements.is_empty() && outer {
        buffer.clear();
        buffer.extend_from_slice(row);
        buffer.resize(row.len() + width, Value::Null);
        each(0, buffer);
    }
    for (index, element) in elements.iter().enumerate() {
        buffer.clear();
        buffer.extend_from_slice(row);
        match element {
            Value::Row(fields) if rows => buffer.extend_from_slice(fields),
            Value::Null if rows => buffer.resize(row.len() + width, Value::Null),
            element => buffer.push(element.clone()),
        }
        each(index as u64, buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(array: &Value, outer: bool) -> Vec<Row> {
        let mut got = Vec::new();
        let row = [Value::Int(1)];
        unnest(&row, array, 2, true, outer, &mut Row::new(), |_, row| {
            got.push(row.clone());
        });
        got
    }

    #[test]
    fn elements_become_rows() {
        let element = Value::Row([Value::str("a"), Value::Double(2.0)].into());
        let got = collect(&Value::Array([element, Value::Null].into()), false);
        assert_eq!(got[0], [Value::Int(1), Value::str("a"), Value::Double(2.0)]);
        assert_eq!(got[1], [Value::Int(1), Value::Null, Value::Null]);
    }

    #[test]
    fn nothing_to_unnest() {
        for empty in [Value::Null, Value::Array([].into())] {
            assert!(collect(&empty, false).is_empty());
            assert_eq!(
                collect(&empty, true),
                [[Value::Int(1), Value::Null, Value::Null]]
            );
        }
    }
}
