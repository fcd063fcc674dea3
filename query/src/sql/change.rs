//! Statements that change something: what they ask for, out of what the parser makes of them.

use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{
    AlterTable, AlterTableOperation, ColumnDef, ColumnOption, CreateTable, CreateTableOptions, Delete, Expr, FromTable,
    HiveFormat, ObjectName, ObjectType, SqlOption, Statement, TableFactor, UnaryOperator, Value,
};
use stratalog_proto::config::{ColumnSpec, ColumnType, TopicConfig};
use stratalog_proto::{Code, Error};

use super::{INFORMATION, SYSTEM, TableName};
use crate::changes::TopicChange;

/// What a statement changes.
#[derive(Debug)]
pub(crate) enum Change {
    /// `CREATE TABLE`; 0 partitions are the default number.
    Create { topic: TableName, if_not_exists: bool, partitions: u32, config: Box<TopicConfig> },
    /// `ALTER TABLE`
    Alter { topic: TableName, if_exists: bool, change: TopicChange },
    /// `DROP TABLE`
    Drop { topic: TableName, if_exists: bool },
    /// `DELETE FROM topic WHERE predicate`
    Delete { topic: TableName, predicate: Box<Expr> },
}

/// Why a statement is no [`Change`].
#[derive(Debug)]
pub(super) enum Refused {
    /// It is another kind of statement.
    NoChange(Box<Statement>),
    /// It is one that is not possible.
    Invalid(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Invalid(error)
    }
}

/// The setting that `WITH` has besides those of a topic.
const PARTITIONS: &str = "partitions";

impl Change {
    /// The change that a statement asks for; the statement itself if it asks for none of ours.
    ///
    /// # Errors
    /// [`Code::InvalidSql`] for a change that is not possible, and how it is written.
    pub(super) fn of(statement: Statement) -> Result<Self, Refused> {
        match statement {
            Statement::CreateTable(create) => Ok(created(create)?),
            Statement::AlterTable(alter) => Ok(altered(alter)?),
            Statement::Drop { object_type: ObjectType::Table, if_exists, names, cascade, purge, temporary, .. } => {
                if cascade || purge || temporary {
                    return Err(invalid("DROP TABLE has no CASCADE, PURGE or TEMPORARY here".to_owned()).into());
                }
                Ok(dropped(&names, if_exists)?)
            }
            Statement::Delete(delete) => Ok(deleted(delete)?),
            other => Err(Refused::NoChange(Box::new(other))),
        }
    }
}

fn created(create: CreateTable) -> Result<Change, Error> {
    const FORM: &str = "write CREATE TABLE name (column type [NOT NULL], …) [WITH (key = value, …)]";
    if create.query.is_some() || create.like.is_some() || create.or_replace || create.temporary || create.external {
        return Err(invalid(format!("a table cannot be made of another one, replaced, or be temporary here; {FORM}")));
    }
    if !create.constraints.is_empty() {
        return Err(invalid(format!("a table has no constraints but NOT NULL; {FORM}")));
    }
    if !is_plain(&create) {
        return Err(invalid(format!("the statement has a clause that a table cannot have here; {FORM}")));
    }
    let options = match create.table_options {
        CreateTableOptions::None => Vec::new(),
        CreateTableOptions::With(options) => options,
        _ => return Err(invalid(format!("settings of a table stand in WITH (…); {FORM}"))),
    };
    let mut change = TopicChange { settings: settings(options)?, ..TopicChange::default() };
    for column in create.columns {
        change.columns.push(declared(column)?);
    }
    let (partitions, settings) = change.settings.into_iter().partition(|(key, _)| key == PARTITIONS);
    change.settings = settings;
    let mut config = Box::new(TopicConfig::default());
    change.apply(&mut config)?;
    let partitions = partitions_of(partitions)?;
    Ok(Change::Create { topic: of_a_user(&create.name)?, if_not_exists: create.if_not_exists, partitions, config })
}

/// Whether a statement has nothing but a name, columns and settings. It is built anew from these, so that a clause that a
/// later parser knows is refused, too.
fn is_plain(create: &CreateTable) -> bool {
    let plain = CreateTableBuilder::new(create.name.clone())
        .columns(create.columns.clone())
        .if_not_exists(create.if_not_exists)
        .table_options(create.table_options.clone())
        .hive_formats(create.hive_formats.clone().filter(|formats| *formats == HiveFormat::default()))
        .build();
    *create == plain
}

fn partitions_of(settings: Vec<(String, String)>) -> Result<u32, Error> {
    let Some((_, value)) = settings.into_iter().next_back() else { return Ok(0) };
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| invalid(format!("`{PARTITIONS}` cannot be `{value}`: it is a number from 1")))
}

fn altered(alter: AlterTable) -> Result<Change, Error> {
    const FORM: &str = "write ALTER TABLE name ADD COLUMN column type, or ALTER TABLE name SET (key = value)";
    if alter.only || alter.location.is_some() || alter.on_cluster.is_some() || alter.table_type.is_some() {
        return Err(invalid(format!("the statement has a clause that is not possible here; {FORM}")));
    }
    let mut change = TopicChange::default();
    for operation in alter.operations {
        match operation {
            AlterTableOperation::AddColumn { if_not_exists: false, column_def, column_position: None, .. } => {
                change.columns.push(declared(column_def)?);
            }
            AlterTableOperation::AddColumn { if_not_exists: true, .. } => {
                let message = "ADD COLUMN IF NOT EXISTS is not possible: leave IF NOT EXISTS out; a column that is declared \
                               already is refused, and nothing changes";
                return Err(invalid(message.to_owned()));
            }
            AlterTableOperation::SetOptionsParens { options } => change.settings.extend(settings(options)?),
            other => {
                let first = other.to_string().split_whitespace().take(2).collect::<Vec<_>>().join(" ");
                return Err(invalid(format!("ALTER TABLE … {first} is not possible here; {FORM}")));
            }
        }
    }
    let (partitions, settings): (Vec<_>, _) = change.settings.into_iter().partition(|(key, _)| key == PARTITIONS);
    change.settings = settings;
    change.partitions = Some(partitions_of(partitions)?).filter(|partitions| *partitions > 0);
    Ok(Change::Alter { topic: of_a_user(&alter.name)?, if_exists: alter.if_exists, change })
}

fn dropped(names: &[ObjectName], if_exists: bool) -> Result<Change, Error> {
    match names {
        [name] => Ok(Change::Drop { topic: of_a_user(name)?, if_exists }),
        _ => Err(invalid("DROP TABLE takes one table at a time".to_owned())),
    }
}

fn deleted(delete: Delete) -> Result<Change, Error> {
    const FORM: &str = "write DELETE FROM name WHERE condition";
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = delete.from;
    let plain = delete.tables.is_empty()
        && delete.using.is_none()
        && delete.returning.is_none()
        && delete.output.is_none()
        && delete.order_by.is_empty()
        && delete.limit.is_none();
    let topic = match from.as_slice() {
        [only] if only.joins.is_empty() => match &only.relation {
            TableFactor::Table { name, alias: None, args: None, .. } => Some(of_a_user(name)?),
            _ => None,
        },
        _ => None,
    };
    match (topic, delete.selection) {
        (Some(topic), Some(predicate)) if plain => Ok(Change::Delete { topic, predicate: Box::new(predicate) }),
        (Some(_), None) if plain => {
            Err(invalid(format!("DELETE without WHERE would erase every row; DROP TABLE does that, or {FORM}")))
        }
        _ => Err(invalid(format!("DELETE takes one table, without an alias, and a condition; {FORM}"))),
    }
}

/// The name of a topic, which is none of our own tables.
fn of_a_user(name: &ObjectName) -> Result<TableName, Error> {
    let table = TableName::of(name);
    let schema = table.name.split('.').next().unwrap_or_default();
    if schema == SYSTEM || schema == INFORMATION {
        return Err(invalid(format!("`{}` is a table of the node: it is only read", table.name)));
    }
    Ok(table)
}

fn declared(column: ColumnDef) -> Result<ColumnSpec, Error> {
    let name = column.name.value;
    let written = column.data_type.to_string();
    let plain = written.split('(').next().unwrap_or_default().trim();
    let plain = plain.strip_suffix(" WITH TIME ZONE").unwrap_or(plain);
    let column_type = ColumnType::parse(plain).ok_or_else(|| {
        invalid(format!(
            "column `{name}` cannot be {written}: the types are boolean, bigint, double, text and timestamp"
        ))
    })?;
    let mut required = false;
    for option in column.options {
        match option.option {
            ColumnOption::NotNull => required = true,
            ColumnOption::Null => required = false,
            other => return Err(invalid(format!("column `{name}` cannot be {other}: it is NOT NULL or nothing"))),
        }
    }
    Ok(ColumnSpec { name, column_type, required })
}

fn settings(options: Vec<SqlOption>) -> Result<Vec<(String, String)>, Error> {
    let setting = |option| match option {
        SqlOption::KeyValue { key, value } => {
            let text = setting_text(&value).ok_or_else(|| {
                invalid(format!("setting `{}` is a text, a number or a word, as in retention = '7d'", key.value))
            })?;
            Ok((key.value, text))
        }
        other => Err(invalid(format!("`{other}` is not a setting; write key = value"))),
    };
    options.into_iter().map(setting).collect()
}

/// A value as a user of the command line writes it.
fn setting_text(value: &Expr) -> Option<String> {
    match value {
        Expr::Identifier(word) => Some(word.value.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Some(format!("-{}", setting_text(expr)?)),
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Some(number.clone()),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
            Value::DollarQuotedString(text) => Some(text.value.clone()),
            Value::Boolean(truth) => Some(truth.to_string()),
            Value::Null => Some(String::new()),
            _ => None,
        },
        _ => None,
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidSql, message)
}
