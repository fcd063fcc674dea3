//! The command line: what can be asked, with help and examples. It holds no behaviour.

mod backup;
mod cluster;
mod files;
mod group;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use backup::{Backup, Restore};
pub(crate) use cluster::{Cluster, Dev};
pub(crate) use files::{Log, LogDump, Verify};
pub(crate) use group::{Group, GroupReset, GroupResetTo};

/// The address that clients use when none is given.
pub(crate) const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7070";

/// Write events and telemetry to a replicated log; replay, query, search and drop the same records.
#[derive(Debug, Parser)]
#[command(name = "stratalog", version, propagate_version = true, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the server or the local machine refused or failed; nothing is half done unless the message says so
  2  the command line or the configuration is not valid
  3  the server could not be reached
  4  no answer in time: whether it happened is unknown";

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// gRPC address of a node; of several, with commas between them: where one does not answer, the next is asked
    #[arg(long, global = true, env = "STRATALOG_ENDPOINT", value_name = "URLS", default_value = DEFAULT_ENDPOINT)]
    pub(crate) endpoint: String,
    /// How rows are printed; the default is a table (`consume`: the values alone, a line each)
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
}

/// How rows are printed. `docs/CLI.md` documents the JSON of each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Aligned columns, for people
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values with a header line
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Serve(Serve),
    /// Run a cluster of several nodes on this machine, to develop against it and to try what it survives
    Dev(Dev),
    /// See the whole product work in a minute, on generated or on your own data
    Quickstart(Quickstart),
    /// Create, list, describe, alter, verify or delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// Write NDJSON or lines of text to a topic
    Produce(Produce),
    /// Replay the records of a topic
    Consume(Consume),
    /// Ask with SQL; without a query, interactively
    Sql(Sql),
    /// Find records by their text
    Search(Search),
    /// List the live segments of a topic
    Segments(Segments),
    /// Find out why records became no rows, and try them again
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Drop old rows by the segment, and records by their offset
    #[command(subcommand)]
    Retention(Retention),
    /// See how far consumer groups are behind, and change how far they have read
    #[command(subcommand)]
    Group(Group),
    /// See how the cluster is, and change who is in it and who has what
    #[command(subcommand)]
    Cluster(Cluster),
    /// Check every file of a node that is stopped: ends with 1 if something is damaged or missing
    Verify(Verify),
    /// Copy the cluster to a directory or an object store, while it serves
    Backup(Backup),
    /// Make a data directory of a backup
    Restore(Restore),
    /// Look into the data directory of a node that is stopped
    #[command(subcommand)]
    Log(Log),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  stratalog serve
  stratalog serve --data /var/lib/stratalog
  STRATALOG_ROWS__SEAL_AGE=5s stratalog serve --config stratalog.toml
  stratalog serve --data ./second --grpc 127.0.0.1:7080 --http 127.0.0.1:8090 --kafka 127.0.0.1:9102 \\
    --peer 127.0.0.1:7081 --join 127.0.0.1:7071
  stratalog serve --config stratalog.toml --check")]
pub(crate) struct Serve {
    /// Settings, in TOML (docs/CONFIG.md); environment and flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// gRPC listener
    #[arg(long, value_name = "ADDR")]
    pub(crate) grpc: Option<String>,
    /// HTTP listener
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Kafka listener; empty: none
    #[arg(long, value_name = "ADDR")]
    pub(crate) kafka: Option<String>,
    /// Listener for the other nodes of a cluster
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer: Option<String>,
    /// Nodes of the cluster to join, by their listeners for nodes, with commas between them
    #[arg(long, value_name = "ADDRS")]
    pub(crate) join: Option<String>,
    /// Allow a listener outside loopback, though there is neither TLS nor authentication
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print the settings that would be used, and end
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stratalog quickstart
  stratalog quickstart --nodes 3
  stratalog quickstart --exit --events 30000
  stratalog quickstart --input access.ndjson --time-field timestamp --data ./my-data")]
pub(crate) struct Quickstart {
    /// Keep the data here; otherwise it is deleted at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Run it on a cluster of so many nodes, each a process of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) nodes: u16,
    /// How many events are generated
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) events: u64,
    /// Use these NDJSON records instead of generated ones
    #[arg(long, value_name = "FILE", conflicts_with = "events")]
    pub(crate) input: Option<PathBuf>,
    /// The field of your records that holds the event time
    #[arg(long, value_name = "FIELD", requires = "input")]
    pub(crate) time_field: Option<String>,
    /// End after the tour instead of serving on
    #[arg(long)]
    pub(crate) exit: bool,
    /// gRPC listener of the one node; a free port is taken if the default one is in use
    #[arg(long, value_name = "ADDR", conflicts_with = "nodes")]
    pub(crate) grpc: Option<String>,
    /// HTTP listener of the one node; a free port is taken if the default one is in use
    #[arg(long, value_name = "ADDR", conflicts_with = "nodes")]
    pub(crate) http: Option<String>,
    /// Kafka listener of the one node; a free port is taken if the default one is in use
    #[arg(long, value_name = "ADDR", conflicts_with = "nodes")]
    pub(crate) kafka: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic
    #[command(after_help = "\
Examples:
  stratalog topic create logs --time-field timestamp --retention 7d
  stratalog topic create access --format text --pattern '%{COMBINEDAPACHELOG}' --time-field timestamp
  stratalog topic create app --format text --multiline java --retention-bytes 10GiB
  stratalog topic create orders --columns 'id bigint not null, amount double, placed_at timestamp'
  stratalog topic create events --set max.message.bytes=4194304")]
    Create(TopicCreate),
    /// List the topics
    List,
    /// Show a topic's settings, what became of its records, and its partitions
    Describe {
        /// The topic
        name: String,
    },
    /// Change a topic's settings
    #[command(after_help = "\
A change counts for what is made into rows from then on; rows that were made stay as they are, but for dead letters,
which `stratalog dead-letters retry` tries again. An empty value takes a setting away. The bucket is fixed, and so is
whether the format is raw.

Examples:
  stratalog topic alter logs --retention 30d
  stratalog topic alter logs --time-field ts
  stratalog topic alter access --format text --pattern '%{COMBINEDAPACHELOG}'
  stratalog topic alter logs --set time.field=
  stratalog topic alter logs --partitions 16")]
    Alter {
        /// The topic
        name: String,
        /// How many partitions it has from now on: never fewer than it has
        #[arg(long)]
        partitions: Option<u32>,
        #[command(flatten)]
        settings: TopicSettings,
    },
    /// Move a topic's rows from memory into column segments now
    #[command(after_help = "\
It happens by itself as rows grow many or old. Rows are queried the same before and after.

Example:
  stratalog topic seal logs")]
    Seal {
        /// The topic
        name: String,
    },
    /// Merge a topic's column segments into as few as possible
    #[command(after_help = "\
Small segments of one time bucket are merged by themselves, within rows.merge_rate. This goes on to the end at full speed,
and takes out rows that `stratalog retention delete-records` has hidden.

Example:
  stratalog topic merge logs")]
    Merge {
        /// The topic
        name: String,
    },
    /// Read every record batch of a topic: ends with 1 if something cannot be read
    #[command(after_help = "\
The node goes on serving. It checks the checksums of files and of batches, and that no offset is missing.

Example:
  stratalog topic verify logs --output json")]
    Verify {
        /// The topic
        name: String,
    },
    /// Delete a topic and all its records
    Delete {
        /// The topic
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TopicCreate {
    /// 1 to 249 of a-z A-Z 0-9 . _ -
    pub(crate) name: String,
    /// Number of partitions; the server's default if not given
    #[arg(long, value_name = "N")]
    pub(crate) partitions: Option<u32>,
    /// Copies of what is written, each on a node of its own; the cluster's default if not given
    #[arg(long, value_name = "N")]
    pub(crate) replication: Option<u32>,
    /// Width of a time bucket, such as 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) bucket: Option<String>,
    #[command(flatten)]
    pub(crate) settings: TopicSettings,
}

/// Settings of a topic that may change.
#[derive(Debug, Args)]
pub(crate) struct TopicSettings {
    /// How a value becomes a row: json, text, logfmt or raw
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The field that holds the event time; otherwise the record's timestamp
    #[arg(long, value_name = "FIELD")]
    pub(crate) time_field: Option<String>,
    /// How text is taken apart: a regular expression with named groups, or grok such as %{COMBINEDAPACHELOG}
    #[arg(long, value_name = "PATTERN")]
    pub(crate) pattern: Option<String>,
    /// Which lines begin a record: a regular expression, or java for stack traces
    #[arg(long, value_name = "PATTERN")]
    pub(crate) multiline: Option<String>,
    /// Declared columns: boolean, bigint, double, text or timestamp; `not null` where each record has to have it
    #[arg(long, value_name = "NAME TYPE, …")]
    pub(crate) columns: Option<String>,
    /// How long rows are kept, such as 7d; otherwise for ever
    #[arg(long, value_name = "DURATION")]
    pub(crate) retention: Option<String>,
    /// How many bytes are kept, such as 10GiB; otherwise without limit
    #[arg(long, value_name = "BYTES")]
    pub(crate) retention_bytes: Option<String>,
    /// Any setting by its key
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each line is one record. Without files, or for `-`, lines are read from standard input.

Examples:
  stratalog produce logs app.ndjson
  zcat access.log.gz | stratalog produce access -
  stratalog produce orders orders.ndjson --key-field customer.id")]
pub(crate) struct Produce {
    /// The topic
    pub(crate) topic: String,
    /// Files to read
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The JSON field whose value becomes the record's key; records of one key keep their order
    #[arg(long, value_name = "FIELD")]
    pub(crate) key_field: Option<String>,
    /// Write all records to this partition
    #[arg(long, value_name = "P", conflicts_with = "key_field")]
    pub(crate) partition: Option<u32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "lz4")]
    pub(crate) compression: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --output, each record's value is written as it was produced, followed by a line feed.
--from takes earliest, latest, an offset, or a time such as 2026-11-21T08:00:00Z or -2h.

Examples:
  stratalog consume logs --count 10
  stratalog consume logs --from -1h --follow
  stratalog consume logs --partition 0 --from 1500 --output ndjson
  stratalog consume logs --follow --zone eu-1a")]
pub(crate) struct Consume {
    /// The topic
    pub(crate) topic: String,
    /// Where to start
    #[arg(long, value_name = "FROM", default_value = "earliest", allow_hyphen_values = true)]
    pub(crate) from: String,
    /// This partition only
    #[arg(long, value_name = "P")]
    pub(crate) partition: Option<u32>,
    /// Wait for more at the end instead of ending
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Read the replica of the node that is asked, if it has one: less travels between nodes, and records come a little
    /// later
    #[arg(long, conflicts_with = "zone")]
    pub(crate) from_follower: bool,
    /// The zone where this runs: read the replicas of the nodes whose `cluster.zone` it is, as far as they are up to date
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// End after this many records
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A topic is a table. Without a query an interactive session starts; `\\h` helps there.

Examples:
  stratalog sql \"SELECT service, count(*) FROM logs GROUP BY service ORDER BY 2 DESC\"
  stratalog sql \"SELECT _time, message FROM logs WHERE MATCH('timeout') ORDER BY _time DESC LIMIT 10\"
  stratalog sql -f report.sql --output csv
  stratalog sql 'SELECT * FROM logs WHERE user = $1 AND _time > $2' --param \"it's\" --param timestamp:2026-11-21
  stratalog sql \"SELECT * FROM system.topics\"")]
pub(crate) struct Sql {
    /// The query
    #[arg(conflicts_with = "file")]
    pub(crate) query: Option<String>,
    /// Read the query from a file (`-`: standard input)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Give up after this time, such as 30s
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// The value of $1, then of $2, …: null, true, 42, 1.5, else text; or TYPE:VALUE with boolean, bigint, double, text
    /// or timestamp
    #[arg(long = "param", value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) parameters: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Words are combined with AND unless OR or NOT stands between them; see docs/SEARCH.md.
Times are RFC 3339 (UTC if no zone is given), or relative to now: -2h.

Examples:
  stratalog search logs 'connection reset'
  stratalog search logs 'level:error AND \"could not connect\" NOT service:test*' --since 1h
  stratalog search logs 'status:>=500' --from 2026-11-21T08:00 --to 2026-11-21T09:00 --limit 20")]
pub(crate) struct Search {
    /// The topic
    pub(crate) topic: String,
    /// The query
    pub(crate) query: String,
    /// Only the last while, such as 1h
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    pub(crate) since: Option<String>,
    /// Event time at or after this
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Event time before this
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// At most this many hits, newest first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Segments {
    /// The topic
    pub(crate) topic: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Say why, and how many for each reason, the most frequent first
    #[command(after_help = "Example:\n  stratalog dead-letters list logs")]
    List {
        /// The topic
        topic: String,
        /// At most this many reasons
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show dead letters with the values that they came with, the newest first
    #[command(after_help = "\
Values are read from the log, byte for byte; bytes that are not UTF-8 are written \\xNN.

Examples:
  stratalog dead-letters show logs -n 3
  stratalog dead-letters show logs --reason 'time field'
  stratalog dead-letters show logs --partition 0 --offset 1500")]
    Show {
        /// The topic
        topic: String,
        /// Only those whose reason contains this
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// In this partition only
        #[arg(long, value_name = "P")]
        partition: Option<u32>,
        /// The one at this offset
        #[arg(long, value_name = "OFFSET", requires = "partition")]
        offset: Option<u64>,
        /// At most this many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Make rows of them once more, by the topic's settings of now
    #[command(after_help = "\
Change the settings first: the same values with the same settings are dead again. Rows that are no dead letters stay as
they are. Try it again after a failure: what was mended is not tried twice.

Example:
  stratalog topic alter logs --time-field ts
  stratalog dead-letters retry logs")]
    Retry {
        /// The topic
        topic: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Drop every segment whose time bucket ends at or before a time
    #[command(after_help = "\
Rows leave SQL and search at once, and the files' space is given back when their last reader is done. Rows that are not in
a segment yet are sealed first; with --dry-run they are only counted.

Examples:
  stratalog retention drop logs --before 2026-11-21T08:00:00Z --dry-run
  stratalog retention drop logs --before -7d")]
    Drop {
        /// The topic
        topic: String,
        /// RFC 3339 (UTC if no zone is given), or relative to now: -7d
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        before: String,
        /// Only list what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop what `retention` and `retention.bytes` of a topic no longer keep, now
    #[command(after_help = "\
The node does so by itself every 30 seconds. With --dry-run it says what the settings of now would drop.

Examples:
  stratalog retention apply logs --dry-run
  stratalog retention apply logs")]
    Apply {
        /// The topic
        topic: String,
        /// Only list what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete the records of a partition below an offset, and their rows
    #[command(after_help = "\
Nobody can read them from then on. The space is given back once a file holds nothing else.

Examples:
  stratalog retention delete-records orders --partition 0 --before 120000
  stratalog retention delete-records orders --before end")]
    DeleteRecords {
        /// The topic
        topic: String,
        /// The partition; every one if not given
        #[arg(long = "partition", value_name = "P")]
        partitions: Vec<u32>,
        /// The first offset to keep; `end`, or -1: none
        #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, value_parser = first_kept)]
        before: u64,
    },
}

/// The first offset to keep; 2^64 - 1 for none.
fn first_kept(text: &str) -> Result<u64, String> {
    match text {
        "end" | "-1" => Ok(u64::MAX),
        offset => offset.parse().map_err(|_| "write an offset, or `end`".to_owned()),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_first_offset_to_keep_may_be_the_end() {
        let cases = [("end", Some(u64::MAX)), ("-1", Some(u64::MAX)), ("0", Some(0)), ("-2", None), ("1h", None)];
        for (text, expected) in cases {
            assert_eq!(first_kept(text).ok(), expected, "{text}");
        }
    }
}
