//! `stratalog backup` and `stratalog restore`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use stratalog_proto::config::{BYTES_FORM, parse_bytes};

#[derive(Debug, Args)]
#[command(after_help = "\
Everything that was acknowledged before the command began is in the backup. The cluster serves on meanwhile. Segments that
an earlier backup has brought are not sent again; a backup that is interrupted leaves the earlier ones as they are. A place
has the backups of one cluster. Credentials and endpoint of an object store come from the environment: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME and _KEY.

Examples:
  stratalog backup --to /mnt/backups/prod
  stratalog backup --to s3://backups/prod --keep 14
  stratalog backup --to file:///mnt/backups/prod --rate 50MiB
  stratalog --endpoint 10.0.0.1:7070,10.0.0.2:7070 backup --to /mnt/backups/prod --output json")]
pub(crate) struct Backup {
    /// Where to: a directory, or a URL: file:///DIR, s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
    /// Once it is made, remove the backups beyond the newest N whole ones, and what only they need
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<NonZeroU32>,
    /// Bytes that are read from the cluster in a second, such as 50MiB; 0: as fast as it goes
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes)]
    pub(crate) rate: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A cluster of one node begins in the directory, with all topics and records at their offsets. It is another cluster than the
one that was copied: start it with `stratalog serve --data DIR`, and let nodes with empty directories join it.

Examples:
  stratalog restore --from /mnt/backups/prod --list
  stratalog restore --from s3://backups/prod --check
  stratalog restore --from /mnt/backups/prod --data /var/lib/stratalog
  stratalog restore --from /mnt/backups/prod --backup 20261122T010203456Z --data ./restored")]
pub(crate) struct Restore {
    /// Where from: a directory, or a URL: file:///DIR, s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: String,
    /// The directory to make; it has to be empty
    #[arg(long, value_name = "DIR", required_unless_present_any = ["list", "check"])]
    pub(crate) data: Option<PathBuf>,
    /// Which backup; the newest that is whole, unless it is said
    #[arg(long, value_name = "ID")]
    pub(crate) backup: Option<String>,
    /// Print the backups that are there, and end
    #[arg(long, conflicts_with_all = ["data", "backup"])]
    pub(crate) list: bool,
    /// Read everything that the backup names, write nothing, and end with 1 if something is missing or damaged
    #[arg(long, conflicts_with_all = ["data", "list"])]
    pub(crate) check: bool,
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| BYTES_FORM.to_owned())
}
