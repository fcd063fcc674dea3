//! Declared columns of a topic.

use crate::{Code, Error, internal, v1};

/// The most columns that a topic declares.
pub const MAX_DECLARED_COLUMNS: usize = 500;
/// The longest name of a column, in bytes.
const MAX_NAME_BYTES: usize = 1_024;

/// The type of a declared column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `true`, `false`.
    Boolean,
    /// 64-bit integers.
    Bigint,
    /// 64-bit floats.
    Double,
    /// UTF-8.
    Text,
    /// Nanoseconds since the epoch, UTC, in all forms that an event time has.
    Timestamp,
}

impl ColumnType {
    const ALL: [Self; 5] = [Self::Boolean, Self::Bigint, Self::Double, Self::Text, Self::Timestamp];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Bigint => "bigint",
            Self::Double => "double",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
        }
    }

    /// The type that a user calls so, in any case; the usual other names too.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "boolean" | "bool" => Self::Boolean,
            "bigint" | "integer" | "int" | "smallint" | "int8" | "int4" => Self::Bigint,
            "double" | "double precision" | "float" | "real" | "float8" => Self::Double,
            "text" | "varchar" | "string" => Self::Text,
            "timestamp" | "timestamptz" => Self::Timestamp,
            _ => return None,
        })
    }

    fn number(self) -> u32 {
        Self::ALL.iter().position(|each| *each == self).expect("ALL has each type") as u32 + 1
    }
}

/// A declared column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnSpec {
    /// Its name; of a nested field the dotted path.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether a record without it is a dead letter.
    pub required: bool,
}

impl ColumnSpec {
    /// The replicated form.
    pub fn to_internal(&self) -> internal::Column {
        internal::Column { name: self.name.clone(), r#type: self.column_type.number(), required: self.required }
    }

    /// Reads the replicated form.
    ///
    /// # Errors
    /// [`Code::NewerVersion`] for a type that this version does not know.
    pub fn from_internal(column: &internal::Column) -> Result<Self, Error> {
        let at = (column.r#type as usize).wrapping_sub(1);
        let column_type = *ColumnType::ALL.get(at).ok_or_else(|| {
            let message = format!("column `{}` has type {}, which this node does not know", column.name, column.r#type);
            Error::new(Code::NewerVersion, message)
        })?;
        Ok(Self { name: column.name.clone(), column_type, required: column.required })
    }

    /// Reads the public form.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for a type that there is not.
    pub fn from_v1(column: &v1::Column) -> Result<Self, Error> {
        let column_type = ColumnType::parse(&column.r#type).ok_or_else(|| {
            let message = format!("column `{}` has type {}, which there is not", column.name, column.r#type);
            Error::new(Code::InvalidConfig, message)
        })?;
        Ok(Self { name: column.name.clone(), column_type, required: column.required })
    }

    /// The public form.
    pub fn to_v1(&self) -> v1::Column {
        let r#type = self.column_type.name().to_owned();
        v1::Column { name: self.name.clone(), r#type, required: self.required }
    }
}

/// Checks the names and the number of declared columns.
///
/// # Errors
/// What is wrong, in words.
pub fn check_columns(columns: &[ColumnSpec]) -> Result<(), String> {
    if columns.len() > MAX_DECLARED_COLUMNS {
        return Err(format!("a topic declares at most {MAX_DECLARED_COLUMNS} columns"));
    }
    for (at, column) in columns.iter().enumerate() {
        let name = &column.name;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(format!("a column name has 1 to {MAX_NAME_BYTES} bytes and no control characters"));
        }
        if name.starts_with('_') {
            return Err(format!("column `{name}` cannot be declared: names that begin with _ are the system's"));
        }
        if columns[..at].iter().any(|other| other.name == *name) {
            return Err(format!("column `{name}` is declared twice"));
        }
    }
    Ok(())
}

/// Reads `status bigint, user.id text not null`. A name with spaces, commas or quotes stands between double quotes, in which
/// a quote is written twice.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_columns(text: &str) -> Result<Vec<ColumnSpec>, String> {
    let parts = split(text).into_iter().map(str::trim).filter(|part| !part.is_empty());
    let columns = parts.map(parse_column).collect::<Result<Vec<_>, _>>()?;
    check_columns(&columns)?;
    Ok(columns)
}

/// Writes columns as [`parse_columns`] reads them.
pub fn format_columns(columns: &[ColumnSpec]) -> String {
    let column = |column: &ColumnSpec| {
        let required = if column.required { " not null" } else { "" };
        format!("{} {}{required}", quoted(&column.name), column.column_type.name())
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    let needs = |c: char| c.is_whitespace() || matches!(c, ',' | '"');
    if name.contains(needs) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

/// Cuts at the commas that are not between quotes.
fn split(text: &str) -> Vec<&str> {
    let mut in_quotes = false;
    let is_cut = |c: char| {
        in_quotes ^= c == '"';
        c == ',' && !in_quotes
    };
    text.split(is_cut).collect()
}

/// The name that a column begins with, and what stands behind it.
fn split_name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.split_once(char::is_whitespace).map(|(name, rest)| (name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if chars.next_if(|(_, next)| *next == '"').is_none() => return Some((name, &quoted[at + 1..])),
            c => name.push(c),
        }
    }
    None
}

fn parse_column(text: &str) -> Result<ColumnSpec, String> {
    let form = || format!("`{text}` is not a column; write NAME TYPE or NAME TYPE NOT NULL, as in `status bigint`");
    let (name, rest) = split_name(text).ok_or_else(form)?;
    let words: Vec<String> = rest.split_whitespace().map(str::to_ascii_lowercase).collect();
    let (required, words) = match words.as_slice() {
        [words @ .., not, null] if not == "not" && null == "null" => (true, words),
        words => (false, words),
    };
    let column_type = ColumnType::parse(&words.join(" ")).ok_or_else(|| {
        let names: Vec<_> = ColumnType::ALL.iter().map(|each| each.name()).collect();
        format!("`{}` is not a type; the types are {}", words.join(" "), names.join(", "))
    })?;
    Ok(ColumnSpec { name, column_type, required })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_as_a_user_writes_them() {
        let columns = parse_columns("status bigint, user.id TEXT not null,took double precision,").unwrap();
        let shown: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.column_type.name(), c.required)).collect();
        assert_eq!(shown, [("status", "bigint", false), ("user.id", "text", true), ("took", "double", false)]);
    }

    #[test]
    fn columns_are_written_as_they_are_read() {
        let columns = parse_columns("a bigint, \"two words\" text not null, \"a \"\"b\"\", c\" double").unwrap();
        let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["a", "two words", "a \"b\", c"]);
        assert_eq!(parse_columns(&format_columns(&columns)).unwrap(), columns);
        assert_eq!(format_columns(&[]), "");
    }

    #[test]
    fn what_is_wrong_with_a_column_is_said() {
        for (text, what) in [
            ("status", "NAME TYPE"),
            ("status money", "`money` is not a type"),
            ("a text, a bigint", "twice"),
            ("\"a text", "NAME TYPE"),
            ("\"a\" ", "is not a type"),
            ("_time timestamp", "the system's"),
        ] {
            let error = parse_columns(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
        let many = (0..=MAX_DECLARED_COLUMNS).map(|n| format!("c{n} text")).collect::<Vec<_>>().join(",");
        assert!(parse_columns(&many).is_err());
    }
}
