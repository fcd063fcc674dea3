//! Statements that change something: checked here, done by [`Changes`](crate::Changes), answered with one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use stratalog_proto::config::Format;
use stratalog_proto::{Code, Error};

use crate::admission::About;
use crate::core::Core;
use crate::delivery::{Batches, Rows};
use crate::error::place;
use crate::positions;
use crate::query::Query;
use crate::sql::{Change, predicate_text};

/// Makes the change. At the deadline its statement ends with [`Code::Timeout`], wherever that is noticed first.
///
/// # Errors
/// [`Code::UnknownTopic`] with a near name; [`Code::Overloaded`]; those of the change.
pub(crate) async fn make(core: &Core, change: Change, query: &Arc<Query>) -> Result<Rows, Error> {
    query.begins_to_change();
    let _place = core.admission.enter(query, About::Change).await?;
    let (column, text) = begin(core, change, query).await?;
    answer(column, &text)
}

/// One row with one column of text.
///
/// # Errors
/// None but defects.
pub(crate) fn answer(column: &str, text: &str) -> Result<Rows, Error> {
    let values: ArrayRef = Arc::new(StringArray::from_iter_values([text]));
    let row = RecordBatch::try_from_iter([(column, values)]);
    let row = row.map_err(|error| Error::new(Code::Internal, format!("cannot answer a statement: {error}")))?;
    Ok(Rows { batches: Batches::Row(row), place: None })
}

/// The name and the text of the answer.
async fn begin(core: &Core, change: Change, query: &Arc<Query>) -> Result<(&'static str, String), Error> {
    match change {
        Change::Create { topic, if_not_exists, partitions, config } => {
            let name = &topic.name;
            match core.changes.create_topic(name, partitions, *config).await {
                Ok(()) => Ok(("created", topic.name)),
                Err(error) if if_not_exists && error.code == Code::TopicExists => Ok(("created", String::new())),
                Err(error) => Err(error),
            }
        }
        Change::Alter { topic, if_exists, change } => {
            let found = core.topic(&topic.name, &place(topic.at)).await;
            if if_exists && found.is_err() {
                return Ok(("altered", String::new()));
            }
            found?;
            core.changes.alter_topic(&topic.name, change).await?;
            Ok(("altered", topic.name))
        }
        Change::Drop { topic, if_exists } => {
            let found = core.topic(&topic.name, &place(topic.at)).await;
            if if_exists && found.is_err() {
                return Ok(("dropped", String::new()));
            }
            found?;
            core.changes.delete_topic(&topic.name).await?;
            Ok(("dropped", topic.name))
        }
        Change::Delete { topic, predicate } => {
            let info = core.topic(&topic.name, &place(topic.at)).await?;
            if info.config.format == Format::Raw {
                let message = format!("topic `{}` has the format raw: its records have no rows to erase", topic.name);
                return Err(Error::new(Code::InvalidRequest, message));
            }
            let text = predicate_text((*predicate).clone())?;
            let snapshot = core.snapshot(&info, &[], query).await?.snapshot;
            positions::check(core, snapshot, *predicate, query).await?;
            Ok(("job", core.changes.delete_rows(&topic.name, &text).await?))
        }
    }
}
