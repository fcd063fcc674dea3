//! What statements change. The broker implements [`Changes`]; queries hold nothing else of it.

use async_trait::async_trait;
use stratalog_proto::config::{ColumnSpec, TopicConfig, check_columns};
use stratalog_proto::{Code, Error};

/// Topics and rows, as `CREATE TABLE`, `ALTER TABLE`, `DROP TABLE` and `DELETE` change them.
///
/// A change that was begun goes on to its end when its statement ends early.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// Creates a topic; 0 `partitions` are the default number of them.
    ///
    /// # Errors
    /// [`Code::TopicExists`], [`Code::InvalidTopicName`], [`Code::InvalidConfig`]; [`Code::Timeout`] if the outcome is
    /// unknown.
    async fn create_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<(), Error>;

    /// Changes settings of a topic, all or none.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidConfig`], naming key and value.
    async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<(), Error>;

    /// Deletes a topic with all that is in it.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::Timeout`] if the outcome is unknown.
    async fn delete_topic(&self, name: &str) -> Result<(), Error>;

    /// Begins to erase the rows of a topic for which `predicate`, the text of a condition that
    /// [`Engine::matching`](crate::Engine::matching) takes, is true. Gives the id of the job.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; what the shards report.
    async fn delete_rows(&self, topic: &str, predicate: &str) -> Result<String, Error>;
}

/// What `ALTER TABLE` changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// Settings by key, as a user writes them.
    pub settings: Vec<(String, String)>,
    /// Columns to declare besides those that are.
    pub columns: Vec<ColumnSpec>,
    /// How many partitions there are to be, never fewer than there are; `None`: as many as there are.
    pub partitions: Option<u32>,
}

impl TopicChange {
    /// Applies the change to the settings of a topic. Its partitions are none of them.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`], naming key and value; `config` is then of no use.
    pub fn apply(&self, config: &mut TopicConfig) -> Result<(), Error> {
        for (key, value) in &self.settings {
            config.set(key, value)?;
        }
        config.columns.extend(self.columns.iter().cloned());
        check_columns(&config.columns).map_err(|why| Error::new(Code::InvalidConfig, why))
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::config::ColumnType;

    use super::*;

    #[test]
    fn a_change_adds_columns_to_those_declared() {
        let column = |name: &str| ColumnSpec { name: name.to_owned(), column_type: ColumnType::Text, required: false };
        let mut config = TopicConfig { columns: vec![column("a")], ..TopicConfig::default() };
        let settings = vec![("retention".to_owned(), "7d".to_owned())];
        TopicChange { settings, columns: vec![column("b")], ..TopicChange::default() }.apply(&mut config).unwrap();
        assert_eq!(config.columns, [column("a"), column("b")]);
        assert!(config.retention_ns.is_some());
        let twice = TopicChange { columns: vec![column("a")], ..TopicChange::default() };
        assert_eq!(twice.apply(&mut config).unwrap_err().code, Code::InvalidConfig);
    }
}
