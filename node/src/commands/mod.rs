//! One file a command. Each is a client like any other, which talks gRPC to a node; only `log` and `verify` read a node's
//! files, and only `restore` writes them.

mod backup;
mod cluster;
mod consume;
mod dead_letter_note;
mod dead_letters;
mod group;
mod log;
mod produce;
mod repl;
mod restore;
mod retention;
mod search;
mod segments;
mod sql;
mod topic;

use std::io::{IsTerminal, Write};

use clap::CommandFactory;

use crate::cli::{Cli, Command, Global, OutputFormat};
use crate::failure::Failure;

pub(crate) use sql::{lag_note, print_answer, stats_line};

/// Runs a command to its end.
///
/// # Errors
/// What `main` prints and exits with.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let global = cli.global;
    match cli.command {
        Command::Serve(serve) => crate::serve::run(&serve).await,
        Command::Quickstart(quickstart) => crate::quickstart::run(&quickstart).await,
        Command::Topic(command) => topic::run(&global, command).await,
        Command::Produce(command) => produce::run(&global, &command).await,
        Command::Consume(command) => consume::run(&global, &command).await,
        Command::Sql(command) => sql::run(&global, &command).await,
        Command::Search(command) => search::run(&global, &command).await,
        Command::Segments(command) => segments::run(&global, &command.topic).await,
        Command::DeadLetters(command) => dead_letters::run(&global, &command).await,
        Command::Retention(command) => retention::run(&global, &command).await,
        Command::Group(command) => group::run(&global, &command).await,
        Command::Dev(dev) => crate::dev::run(&dev).await,
        Command::Cluster(command) => cluster::run(&global, &command).await,
        Command::Verify(command) => log::verify_node(&global, &command),
        Command::Backup(command) => backup::run(&global, &command).await,
        Command::Restore(command) => restore::run(&global, &command).await,
        Command::Log(command) => log::run(&global, &command),
        Command::Completions { shell } => {
            // Into memory first: clap_complete panics where a reader has left.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stratalog", &mut script);
            Ok(std::io::stdout().write_all(&script)?)
        }
    }
}

/// Asks before something and `what` it has is deleted; a script says `--yes`.
fn confirm(thing: &str, name: &str, what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("deleting {thing} deletes {what}: say --yes")));
    }
    eprint!("Delete {thing} and {what}? Type its name to go on: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::io("read", "the answer", &error))?;
    if answer.trim() == name { Ok(()) } else { Err(Failure::Refused("nothing was deleted".to_owned())) }
}

impl Global {
    /// A connection to the node.
    async fn client(&self) -> Result<stratalog_client::Client, Failure> {
        Ok(stratalog_client::Client::connect(&self.endpoint).await?)
    }

    /// The format of rows; a table if none was asked for.
    fn format(&self) -> OutputFormat {
        self.output.unwrap_or(OutputFormat::Table)
    }
}
