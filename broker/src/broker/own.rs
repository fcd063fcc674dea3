//! What a node says of itself, and not of the cluster.

use std::io;
use std::path::Path;
use std::sync::Arc;

use stratalog_query::{Catalog, PartitionInfo, TopicInfo};
use stratalog_storage::Space;

use super::Broker;
use crate::connections::Connections;

impl Broker {
    /// Partitions of a topic that is created without a number of them.
    pub fn default_partitions(&self) -> u32 {
        self.options.default_partitions
    }

    /// The connections of clients that stay open: who serves them says so here.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Where the node keeps everything.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// The space of the device that it is on. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn space(&self) -> io::Result<Space> {
        self.options.disk.space(&self.options.data_dir)
    }

    /// The partitions of a topic of which this node has a replica, ascending, as far as it has applied them.
    pub fn partitions_here(&self, topic: &TopicInfo) -> Vec<PartitionInfo> {
        self.rows.partitions(topic)
    }
}
