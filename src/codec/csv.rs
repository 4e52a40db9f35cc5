//! The CSV format: records as RFC 4180 writes them, a column for each field in order.
//!
//! A first record that spells the names of all columns is a header: fields then go by name, and may be more than the
//! columns. An empty field is NULL, for text too.

use compact_str::CompactString;

use super::decode::{InputColumn, cleared_row, wrong_type};
use super::scalar::parse_scalar;
use super::{CodecError, CsvFormat, encode_text};
use crate::types::{Row, Schema, Value};

/// The rows of `text`, in `rows` from the start; gives how many.
pub(super) fn decode(
    text: &str,
    options: &CsvFormat,
    columns: &[InputColumn],
    slots: &[usize],
    rows: &mut Vec<Row>,
) -> Result<usize, CodecError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(options.delimiter)
        .from_reader(text.as_bytes());
    let mut order: Vec<usize> = (0..slots.len()).collect();
    let mut named = false;
    let mut count = 0;
    let mut record = csv::StringRecord::new();
    let invalid = |detail: String| CodecError::InvalidCsv { detail };
    let mut first = true;
    while reader
        .read_record(&mut record)
        .map_err(|error| invalid(error.to_string()))?
    {
        let line = record.position().map_or(0, csv::Position::line);
        if std::mem::take(&mut first)
            && let Some(found) = header(&record, columns, slots)
        {
            (order, named) = (found, true);
            continue;
        }
        if !named && record.len() != slots.len() {
            let (found, wanted) = (record.len(), slots.len());
            return Err(invalid(format!(
                "line {line} has {found} fields and the table {wanted} columns"
            )));
        }
        let row = cleared_row(rows, count, columns.len());
        for (&slot, &field) in slots.iter().zip(&order) {
            let column = &columns[slot];
            let field = record.get(field).unwrap_or_default();
            if field.is_empty() {
                if !column.nullable {
                    let column = column.name.clone();
                    return Err(CodecError::NullValue { column });
                }
                continue;
            }
            row[slot] = parse_scalar(field, &column.ty, &options.timestamp)
                .ok_or_else(|| wrong_type(column, field))?;
        }
        count += 1;
    }
    if count == 0 && !named {
        return Err(CodecError::EmptyPayload);
    }
    Ok(count)
}

/// For each column its field, if the record is a header.
fn header(
    record: &csv::StringRecord,
    columns: &[InputColumn],
    slots: &[usize],
) -> Option<Vec<usize>> {
    let place = |slot: &usize| {
        let name: &CompactString = &columns[*slot].name;
        record
            .iter()
            .position(|field| field.trim().eq_ignore_ascii_case(name))
    };
    slots.iter().map(place).collect()
}

/// Writes a row as one record, without a line end.
pub fn encode_csv(row: &[Value], schema: &Schema, options: &CsvFormat, out: &mut String) {
    let mut field = String::new();
    for (at, (value, column)) in row.iter().zip(&schema.columns).enumerate() {
        if at > 0 {
            out.push(char::from(options.delimiter));
        }
        field.clear();
        encode_text(value, &column.ty, &options.timestamp, &mut field);
        let plain = !field.contains([char::from(options.delimiter), '"', '\n', '\r']);
        if plain {
            out.push_str(&field);
        } else {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        }
    }
}
