//! What the state remembers of erasures.

use stratalog_proto::JobId;
use stratalog_proto::config::ColumnType;

use super::super::erasures::{MAX_DONE_ERASURES, MAX_PREDICATE_BYTES, MAX_RUNNING_ERASURES};
use super::*;

fn job(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

fn erase(number: u128, predicate: &str) -> Command {
    let predicate = predicate.to_owned();
    let columns = vec![internal::Column { name: "a".to_owned(), r#type: 2, required: false }];
    Command::Erase(internal::Erase { job: job(number).to_bytes(), topic: TOPIC.to_bytes(), predicate, columns })
}

fn done(number: u128, error: &str) -> Command {
    let job = job(number).to_bytes();
    Command::EraseDone(internal::EraseDone { job, rows: 3, records: 4, error: error.to_owned() })
}

fn jobs(state: &ShardState) -> Vec<(u128, u64, bool)> {
    state.erasures().iter().map(|one| (one.job.0.as_u128(), one.index.0, one.done.is_some())).collect()
}

#[test]
fn an_erasure_is_remembered_with_the_entry_that_asked_first() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 50, &[erase(1, "a = 1")]);
    let again = apply(&mut state, 3, 60, &[erase(1, "a = 1"), erase(1, "a = 2"), erase(2, "a = 2")]);
    assert_eq!(codes(again), [Ok(CommandResult::Done), Err(Code::Conflict), Ok(CommandResult::Done)]);
    assert_eq!(jobs(&state), [(1, 2, false), (2, 3, false)]);
    assert_eq!(state.erasures()[0].columns[0].column_type, ColumnType::Bigint);
    assert_eq!(ShardState::decode(state.encode().into()).unwrap(), state);
    apply(&mut state, 4, 70, &[done(1, ""), done(1, "too late")]);
    let ended = state.erasures()[0].done.clone().unwrap();
    assert_eq!((ended.at_ns, ended.rows, ended.records, ended.error), (70, 3, 4, None));
    assert_eq!(codes(apply(&mut state, 5, 70, &[done(9, "")])), [Err(Code::Conflict)]);
    assert_eq!(ShardState::decode(state.encode().into()).unwrap(), state);
}

#[test]
fn an_erasure_that_cannot_be_is_refused() {
    let mut state = hosting(&[0]);
    let long = "x".repeat(MAX_PREDICATE_BYTES + 1);
    let Command::Erase(mut elsewhere) = erase(4, "a = 1") else { unreachable!() };
    elsewhere.topic = TopicId::new().to_bytes();
    let Command::Erase(mut nameless) = erase(4, "a = 1") else { unreachable!() };
    nameless.job = Bytes::from_static(b"job");
    let commands = [erase(1, ""), erase(2, &long), Command::Erase(elsewhere), Command::Erase(nameless)];
    let expected = [Code::InvalidRequest, Code::InvalidRequest, Code::UnknownTopic, Code::CorruptData].map(Err);
    assert_eq!(codes(apply(&mut state, 2, 0, &commands)), expected);
    let many: Vec<_> = (0..MAX_RUNNING_ERASURES as u128 + 1).map(|number| erase(number, "a = 1")).collect();
    assert_eq!(codes(apply(&mut state, 3, 0, &many)).pop(), Some(Err(Code::Overloaded)));
    assert_eq!(state.erasures().len(), MAX_RUNNING_ERASURES);
}

#[test]
fn the_newest_that_are_done_are_remembered_and_all_that_are_not() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[erase(0, "a = 1")]);
    let count = MAX_DONE_ERASURES as u128 + 5;
    let commands: Vec<_> = (1..=count).flat_map(|number| [erase(number, "a = 1"), done(number, "")]).collect();
    apply(&mut state, 3, 0, &commands);
    let known = jobs(&state);
    assert_eq!((known.len(), known[0], known[1]), (MAX_DONE_ERASURES + 1, (0, 2, false), (6, 3, true)));
}

#[test]
fn of_an_erasure_that_failed_the_beginning_of_its_condition_is_remembered() {
    let mut state = hosting(&[0]);
    let long = "é".repeat(MAX_PREDICATE_BYTES / 2);
    apply(&mut state, 2, 0, &[erase(1, &long), done(1, "it failed"), erase(1, &long)]);
    assert_eq!(state.erasures()[0].predicate, "é".repeat(500));
    assert_eq!(jobs(&state), [(1, 2, true)]);
}

#[test]
fn erasures_of_a_topic_end_with_it() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[erase(1, "a = 1"), erase(2, "a = 1"), done(1, &"é".repeat(1_000))]);
    apply(&mut state, 3, 0, &[Command::RemoveTopic(internal::RemoveTopic { topic: TOPIC.to_bytes() })]);
    let errors: Vec<_> = state.erasures().iter().map(|one| one.done.clone().unwrap().error.unwrap()).collect();
    assert_eq!(errors, ["é".repeat(500), "the topic was deleted".to_owned()]);
    assert_eq!(state.erasures()[1].predicate, "", "what was to be forgotten went with the topic");
    assert!(state.erasures().iter().all(|one| one.columns.is_empty()));
    assert_eq!(ShardState::decode(state.encode().into()).unwrap(), state);
}

#[test]
fn x1_erasures_of_a_state_that_contradict_themselves_are_refused() {
    use prost::Message;
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[erase(1, "a = 1")]);
    apply(&mut state, 3, 0, &[erase(2, "a = 1")]);
    let changes: [fn(&mut internal::ShardState); 3] = [
        |state| state.erasures.swap(0, 1),
        |state| state.erasures[0].job = Bytes::new(),
        |state| state.erasures[0].topic = Bytes::new(),
    ];
    for change in changes {
        let mut raw = internal::ShardState::decode(Bytes::from(state.encode())).unwrap();
        change(&mut raw);
        assert_eq!(ShardState::decode(raw.encode_to_vec().into()).unwrap_err().code, Code::CorruptData);
    }
}
