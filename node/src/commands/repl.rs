//! The interactive SQL session: history, input over several lines, and a few commands of its own.

use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use stratalog_client::{Client, QueryOptions};

use super::sql::execute;
use crate::cli::OutputFormat;
use crate::failure::Failure;

const HELP: &str = "\
End a statement with `;`. It may span lines. Ctrl-C drops the input, Ctrl-D or \\q leaves.
  \\t              the topics               \\d TOPIC         its columns
  \\s TOPIC        its segments             \\o FORMAT        table, json, ndjson or csv
  SELECT … FROM topic WHERE MATCH('words') AND _time > now() - INTERVAL '1 hour';";

/// Reads and runs statements until the user leaves. A statement that fails is reported and the session goes on.
///
/// # Errors
/// Only if the terminal itself fails.
pub(super) async fn run(client: Client, format: OutputFormat, options: QueryOptions) -> Result<(), Failure> {
    let mut session = Session { client, format, options };
    let mut editor = DefaultEditor::new().map_err(terminal)?;
    let history = history_file();
    if let Some(path) = &history {
        // A session without history is still a session: the first one has none to load.
        let _ = editor.load_history(path);
    }
    println!("Stratalog SQL. \\h for help, \\q to leave.");
    let mut statement = String::new();
    loop {
        let prompt = if statement.is_empty() { "stratalog> " } else { "       ... " };
        // The editor blocks on the terminal; nothing else runs in this process meanwhile.
        match tokio::task::block_in_place(|| editor.readline(prompt)) {
            Ok(line) => {
                if !session.line(&line, &mut statement, &mut editor).await? {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => statement.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal(error)),
        }
    }
    if let Some(path) = &history
        && let Err(error) = editor.save_history(path)
    {
        eprintln!("the history was not saved to {}: {error}", path.display());
    }
    Ok(())
}

struct Session {
    client: Client,
    format: OutputFormat,
    options: QueryOptions,
}

impl Session {
    /// Takes one line; false ends the session.
    async fn line(&mut self, line: &str, statement: &mut String, editor: &mut DefaultEditor) -> Result<bool, Failure> {
        let command = line.trim();
        if statement.is_empty() && command.starts_with('\\') {
            return Ok(self.command(command).await);
        }
        if statement.is_empty() && matches!(command.trim_end_matches(';'), "exit" | "quit") {
            return Ok(false);
        }
        if command.is_empty() && statement.is_empty() {
            return Ok(true);
        }
        statement.push_str(line);
        statement.push('\n');
        if command.ends_with(';') {
            let query = std::mem::take(statement);
            editor.add_history_entry(query.trim()).map_err(terminal)?;
            self.execute(query.trim().trim_end_matches(';')).await;
        }
        Ok(true)
    }

    async fn command(&mut self, command: &str) -> bool {
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        let (argument, quoted) = (argument.trim(), argument.trim().replace('\'', "''"));
        match name {
            "\\q" => return false,
            "\\t" => self.execute("SELECT * FROM system.topics").await,
            "\\d" if !argument.is_empty() => {
                self.execute(&format!("DESCRIBE \"{}\"", argument.replace('"', "\"\""))).await
            }
            "\\s" if !argument.is_empty() => {
                self.execute(&format!("SELECT * FROM system.segments WHERE topic = '{quoted}'")).await;
            }
            "\\o" => match <OutputFormat as clap::ValueEnum>::from_str(argument, true) {
                Ok(format) => self.format = format,
                Err(_) => eprintln!("\\o takes table, json, ndjson or csv"),
            },
            _ => println!("{HELP}"),
        }
        true
    }

    async fn execute(&self, query: &str) {
        if let Err(failure) = execute(&self.client, self.format, query, &self.options).await {
            eprintln!("error: {failure}");
        }
    }
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".stratalog_history"))
}

fn terminal(error: ReadlineError) -> Failure {
    Failure::Refused(format!("cannot read from the terminal: {error}"))
}
