//! Small tables that a command makes itself, and single objects.

use std::io::Write;

use serde_json::Value;

use super::new_table;
use crate::cli::OutputFormat;
use crate::failure::Failure;

/// Named columns and rows of JSON values; each format prints the same values.
pub(crate) struct Listing {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Listing {
    /// An empty listing with these columns, which are also the keys of its JSON.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Its columns.
    pub(crate) fn columns(&self) -> Vec<&'static str> {
        self.columns.clone()
    }

    /// Without the columns of these that have no value in any row.
    #[must_use]
    pub(crate) fn without_empty(mut self, of: &[&str]) -> Self {
        let is_empty = |at: usize| self.rows.iter().all(|row| row[at].is_null());
        let keep: Vec<bool> =
            self.columns.iter().enumerate().map(|(at, name)| !(of.contains(name) && is_empty(at))).collect();
        let mut kept = keep.iter();
        self.columns.retain(|_| *kept.next().expect("one for each column"));
        for row in &mut self.rows {
            let mut kept = keep.iter();
            row.retain(|_| *kept.next().expect("one for each column"));
        }
        self
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not one value a column.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        assert_eq!(row.len(), self.columns.len(), "one value a column");
        self.rows.push(row);
    }

    /// The rows as JSON objects.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| {
            let pairs = self.columns.iter().map(|c| (*c).to_owned()).zip(row.iter().cloned());
            Value::Object(pairs.collect())
        };
        self.rows.iter().map(object).collect()
    }

    /// Prints the listing.
    ///
    /// # Errors
    /// If standard output does not take it.
    pub(crate) fn print(&self, format: OutputFormat) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match format {
            OutputFormat::Table => writeln!(out, "{}", self.table())?,
            OutputFormat::Json => writeln!(out, "{:#}", Value::Array(self.objects()))?,
            OutputFormat::Ndjson => {
                for object in self.objects() {
                    writeln!(out, "{object}")?;
                }
            }
            OutputFormat::Csv => {
                writeln!(out, "{}", self.columns.join(","))?;
                self.print_csv_rows(&mut out)?;
            }
        }
        Ok(())
    }

    fn print_csv_rows(&self, out: &mut impl Write) -> Result<(), Failure> {
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|value| csv_cell(&plain(value))).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
        Ok(())
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = new_table();
        table.set_header(&self.columns);
        for row in &self.rows {
            table.add_row(row.iter().map(cell));
        }
        table
    }
}

/// Prints the rows of a listing as they come, however many there are. More rows than one table takes come as further
/// tables.
pub(crate) struct RowStream {
    format: OutputFormat,
    held: Listing,
    printed: u64,
}

/// Rows that one printed table holds at the most.
const TABLE_ROWS: usize = 1_000;

impl RowStream {
    /// A stream of rows with these columns, which are also the keys of its JSON.
    pub(crate) fn new(format: OutputFormat, columns: &[&'static str]) -> Self {
        Self { format, held: Listing::new(columns), printed: 0 }
    }

    /// Prints a row, now or with those that follow.
    ///
    /// # Errors
    /// If standard output does not take it.
    pub(crate) fn push(&mut self, row: Vec<Value>) -> Result<(), Failure> {
        self.held.push(row);
        if self.held.rows.len() < TABLE_ROWS { Ok(()) } else { self.print_held() }
    }

    /// Prints what is left, and for no rows at all what says so.
    ///
    /// # Errors
    /// If standard output does not take it.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        if self.printed == 0 {
            return self.held.print(self.format);
        }
        self.print_held()?;
        if self.format == OutputFormat::Json { Ok(writeln!(std::io::stdout(), "\n]")?) } else { Ok(()) }
    }

    fn print_held(&mut self) -> Result<(), Failure> {
        let first = self.printed == 0;
        self.printed += self.held.rows.len() as u64;
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Json => {
                for (n, object) in self.held.objects().into_iter().enumerate() {
                    write!(out, "{}{object}", if first && n == 0 { "[\n" } else { ",\n" })?;
                }
            }
            OutputFormat::Csv if !first => self.held.print_csv_rows(&mut out)?,
            OutputFormat::Table if self.held.rows.is_empty() => {}
            format => {
                drop(out);
                self.held.print(format)?;
            }
        }
        self.held.rows.clear();
        Ok(())
    }
}

/// Keys and values of one thing, in the order in which people read them.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// Prints one object: a table of its keys and values, or its JSON, or one CSV line under its keys.
///
/// # Errors
/// If standard output does not take it.
pub(crate) fn print_object(format: OutputFormat, fields: &Fields) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let object = || Value::Object(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
    match format {
        OutputFormat::Table => {
            let mut table = new_table();
            for (key, value) in fields {
                table.add_row([*key, &plain(value)]);
            }
            writeln!(out, "{table}")?;
        }
        OutputFormat::Json => writeln!(out, "{:#}", object())?,
        OutputFormat::Ndjson => writeln!(out, "{}", object())?,
        OutputFormat::Csv => {
            let keys: Vec<&str> = fields.iter().map(|(key, _)| *key).collect();
            let cells: Vec<String> = fields.iter().map(|(_, value)| csv_cell(&plain(value))).collect();
            writeln!(out, "{}\n{}", keys.join(","), cells.join(","))?;
        }
    }
    Ok(())
}

fn cell(value: &Value) -> comfy_table::Cell {
    let cell = comfy_table::Cell::new(plain(value));
    if value.is_number() { cell.set_alignment(comfy_table::CellAlignment::Right) } else { cell }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Object(none) if none.is_empty() => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_nobody_has_are_left_out_if_they_may_be() {
        let mut listing = Listing::new(&["name", "pattern", "note"]);
        listing.push(vec!["a".into(), Value::Null, Value::Null]);
        assert_eq!(listing.without_empty(&["pattern"]).columns(), ["name", "note"]);
        let mut listing = Listing::new(&["name", "pattern"]);
        listing.push(vec!["a".into(), Value::Null]);
        listing.push(vec!["b".into(), "x".into()]);
        assert_eq!(listing.without_empty(&["pattern"]).objects()[1]["pattern"], "x");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_cell("plain"), "plain");
    }
}
