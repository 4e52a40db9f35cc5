//! Tables that rows are looked up in: the bytes of a file become rows, whole or not at all.

use super::Engine;
use crate::codec::{Decoder, InputColumn, Message, Origin};
use crate::plan::{ColumnOrigin, Format, LookupTable, TableId};
use crate::types::{EventTime, Row};

impl Engine {
    /// Replaces the rows of a table with those of a file; gives how many there are. If one cannot be read, or if there
    /// are more than keys are allowed, the table stays as it was; the error names the line.
    pub fn load_table(&mut self, id: TableId, bytes: &[u8]) -> Result<usize, String> {
        let plan = self.plan.clone();
        let rows = rows_of(&plan.tables[id.0], bytes)?;
        let (found, most) = (rows.len(), self.max_keys);
        if found > most {
            return Err(format!(
                "it has {found} rows, and limits.max_keys allows {most}"
            ));
        }
        let rows_before = self.output.counters.rows_out;
        let mut exit = self.output.during(&plan, None, 0);
        let loaded = self.graph.load(&plan, id, &rows, &mut exit);
        loaded.map_err(|error| error.to_string())?;
        // A key that is expected now, or no longer: what is not told yet is found again after a crash.
        self.changed |= self.output.counters.rows_out > rows_before;
        Ok(found)
    }
}

fn rows_of(table: &LookupTable, bytes: &[u8]) -> Result<Vec<Row>, String> {
    let columns = table.columns.iter().map(|column| InputColumn {
        name: column.name.clone(),
        ty: column.ty.clone(),
        nullable: column.nullable,
        origin: match &column.origin {
            ColumnOrigin::Payload { path } => Origin::Payload { path: path.clone() },
            _ => Origin::Elsewhere,
        },
    });
    let mut decoder = Decoder::new(&table.format, columns.collect());
    let mut decode = |payload: &[u8]| {
        let message = Message {
            topic: "",
            payload,
            qos: 0,
            retain: false,
            received: EventTime::MIN,
        };
        decoder.decode(&message).map_err(|error| error.to_string())
    };
    if matches!(table.format, Format::Csv(_)) {
        return match bytes {
            [] => Ok(Vec::new()),
            bytes => decode(bytes),
        };
    }
    let mut rows = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let found = decode(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        rows.extend(found);
    }
    Ok(rows)
}
