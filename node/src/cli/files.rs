//! `stratalog verify` and `stratalog log`: commands that look into a data directory.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is changed. What a crash leaves behind and the next start clears away is told and is no error.

Examples:
  stratalog verify --data ./data
  stratalog verify --config stratalog.toml --deep --output json")]
pub(crate) struct Verify {
    /// Settings, in TOML, that say where everything is kept; environment and flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Read and decode all segments too, and check every record batch in the log
    #[arg(long)]
    pub(crate) deep: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Print the entries of the write-ahead log, in the order in which they were written
    #[command(after_help = "\
Entries that follow damaged bytes are printed too. Nothing is changed.

Examples:
  stratalog log dump ./data
  stratalog log dump /var/lib/stratalog --shard 3 --from 120000 --limit 20 --output ndjson")]
    Dump(LogDump),
    /// Check every file of a data directory, as `stratalog verify` does
    #[command(after_help = "\
Nothing is changed. What a crash leaves behind and the next start clears away is told and is no error.

Examples:
  stratalog log verify ./data
  stratalog log verify /var/lib/stratalog --deep --output json")]
    Verify {
        /// The data directory
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// Read and decode all segments too, and check every record batch in the log
        #[arg(long)]
        deep: bool,
    },
    /// Have a stopped node vote again that is in doubt whether it lost the end of its log
    #[command(after_help = "\
A node whose log ended within a write votes in no shard until a leader, or enough of the other voters, have told what they have.
If one of those is gone for good, and nobody else can be elected, this takes the log as complete. Records that only the
lost node and this one had acknowledged, and that were in the end of the log, are then lost without a trace.

Example:
  stratalog log accept-end /var/lib/stratalog --force")]
    AcceptEnd {
        /// The data directory
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// Say that acknowledged records may be lost by it
        #[arg(long, required = true)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LogDump {
    /// The data directory
    #[arg(value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// Entries of this shard only; 0 is the metadata group
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
    /// Entries from this index on
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) from: u64,
    /// At most this many entries
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<u64>,
}
