//! The command line of consumer groups.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List the groups
    List,
    /// Show a group: who is in it, and how far it is behind in each partition
    #[command(after_help = "\
Examples:
  stratalog group describe readers
  stratalog group describe readers --output json")]
    Describe {
        /// The group
        group: String,
    },
    /// Set how far a group has read; its consumers have to be stopped
    #[command(after_help = "\
Offsets before the beginning of a partition, or behind its end, become that. Without --topic, the partitions are those of
which the group has committed an offset.

Examples:
  stratalog group reset readers --to-earliest --dry-run
  stratalog group reset readers --topic logs --to-time -2h
  stratalog group reset readers --shift-by -100")]
    Reset(GroupReset),
    /// Delete a group, and how far it has read; its consumers have to be stopped
    Delete {
        /// The group
        group: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GroupReset {
    /// The group
    pub(crate) group: String,
    /// All partitions of this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    #[command(flatten)]
    pub(crate) to: GroupResetTo,
    /// Only say what would be set
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Where a group is to read on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct GroupResetTo {
    /// Where partitions begin
    #[arg(long)]
    pub(crate) to_earliest: bool,
    /// Where partitions end
    #[arg(long)]
    pub(crate) to_latest: bool,
    /// An offset
    #[arg(long, value_name = "N")]
    pub(crate) to_offset: Option<u64>,
    /// The first record at or after a time: RFC 3339 (UTC if no zone is given), or relative to now: -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to_time: Option<String>,
    /// So many on from what was committed, or back
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) shift_by: Option<i64>,
}
