//! The process of a client: commands in, answers out, and its end.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::{Answer, Command, Kind};
use crate::cluster::end_with_the_harness;
use crate::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Who was told to end, or has closed its output, ends within this.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// One client. Dropping it and its handle kills the process.
#[derive(Debug)]
pub(crate) struct KafkaClient {
    pub(crate) input: Input,
    pub(crate) answers: Answers,
    pub(crate) handle: Arc<Handle>,
}

/// Where commands go.
#[derive(Debug)]
pub(crate) struct Input(ChildStdin);

/// Where answers come from.
#[derive(Debug)]
pub(crate) struct Answers {
    lines: Lines<BufReader<ChildStdout>>,
    handle: Arc<Handle>,
}

/// What can be done to a process by others than the one who talks to it.
#[derive(Debug)]
pub(crate) struct Handle {
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
    /// Whether it may end.
    told: AtomicBool,
    /// What it said that is no answer.
    nonsense: Mutex<Option<String>>,
}

impl KafkaClient {
    pub(super) fn start(
        mut command: tokio::process::Command,
        process: u32,
        kind: Kind,
        log: &Path,
    ) -> Result<Self, Failure> {
        let errors = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        // SAFETY: between fork and exec only one system call is made, which takes and changes no memory.
        unsafe { command.pre_exec(end_with_the_harness) };
        let name = format!("Kafka client {process}, a {},", kind.name());
        let mut child = command.spawn().map_err(|error| Failure(format!("cannot start {name} {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure(format!("{name} has no input or output")));
        };
        let (child, told, nonsense) = (Mutex::new(child), AtomicBool::new(false), Mutex::default());
        let handle = Arc::new(Handle { name, log: log.to_owned(), child, told, nonsense });
        let answers = Answers { lines: BufReader::new(output).lines(), handle: Arc::clone(&handle) };
        Ok(Self { input: Input(input), answers, handle })
    }

    /// Says one thing, and waits for one answer; `None`: it has ended.
    pub(crate) async fn ask(&mut self, command: &Command) -> Option<Answer> {
        self.input.say(command).await;
        self.answers.next().await
    }
}

impl Input {
    /// One that has ended hears nothing: its answers end, too.
    pub(crate) async fn say(&mut self, command: &Command) {
        let mut line = serde_json::to_vec(command).expect("a command is JSON");
        line.push(b'\n');
        let _ = self.0.write_all(&line).await;
    }
}

impl Answers {
    /// The next line; `None`: there are no more, or none that can be understood.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let line = self.lines.next_line().await.ok()??;
        match serde_json::from_str(&line) {
            Ok(answer) => Some(answer),
            Err(error) => {
                *self.handle.nonsense.lock() = Some(format!("{error}: {line}"));
                None
            }
        }
    }
}

impl Handle {
    /// It may end from now on.
    pub(crate) fn may_end(&self) {
        self.told.store(true, Ordering::SeqCst);
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        let mut child = self.child.lock();
        // Who has ended by itself is not to be excused.
        if child.try_wait()?.is_none() {
            self.may_end();
            child.start_kill()?;
        }
        Ok(())
    }

    /// Waits for the end of one whose answers have ended; what is wrong with it, if anything is.
    pub(crate) async fn ended(&self) -> Result<(), String> {
        if let Some(said) = self.nonsense.lock().take() {
            // It goes with the handle.
            return Err(format!("{} said what is no answer: {said}", self.name));
        }
        let told = self.told.load(Ordering::SeqCst);
        let mut tries = ENDS_WITHIN.as_millis() / LOOK_EVERY.as_millis();
        let status = loop {
            if let Ok(Some(status)) = self.child.lock().try_wait() {
                break status;
            }
            if tries == 0 {
                // It goes with the handle.
                return Err(format!("{} answers no more and does not end", self.name));
            }
            tries -= 1;
            tokio::time::sleep(LOOK_EVERY).await;
        };
        if told { Ok(()) } else { Err(format!("{} ended by itself, {status}: {}", self.name, self.last_words())) }
    }

    fn last_words(&self) -> String {
        let told = std::fs::read_to_string(&self.log).unwrap_or_default();
        told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(script: &str, home: &Path) -> KafkaClient {
        let mut command = tokio::process::Command::new("sh");
        command.arg("-c").arg(script);
        KafkaClient::start(command, 7, Kind::Producer, &home.join("log")).unwrap()
    }

    #[tokio::test]
    async fn a_process_answers_and_its_end_is_told_unless_it_was_to_end() {
        let home = tempfile::tempdir().unwrap();
        let answers = r#"read line; echo '{"subscribed":{}}'; read line; echo out of luck >&2; exit 3"#;
        let mut one = client(answers, home.path());
        assert_eq!(one.ask(&Command::Subscribe {}).await, Some(Answer::Subscribed {}));
        assert_eq!(one.ask(&Command::End {}).await, None);
        let why = one.handle.ended().await.unwrap_err();
        assert_eq!(why, "Kafka client 7, a producer, ended by itself, exit status: 3: out of luck");
        let mut one = client("cat >/dev/null", home.path());
        one.handle.kill().unwrap();
        assert_eq!(one.ask(&Command::End {}).await, None);
        assert_eq!(one.handle.ended().await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_as_if_it_had_ended() {
        let home = tempfile::tempdir().unwrap();
        let mut one = client("echo hello; sleep 1", home.path());
        assert_eq!(one.answers.next().await, None);
        let why = one.handle.ended().await.unwrap_err();
        assert!(why.contains("a producer, said what is no answer") && why.ends_with(": hello"), "{why}");
    }
}
