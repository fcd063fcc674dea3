//! Who is woken by what, counted at the tasks.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::task::{Wake, Waker};

use proptest::prelude::*;

use super::*;

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A waiter with the task that waits for it.
struct Waiting {
    waiter: Arc<Waiter>,
    task: Arc<Task>,
}

impl Waiting {
    fn new() -> Self {
        Self { waiter: Waiter::new(), task: Arc::default() }
    }

    fn on(waiters: &Waiters, partitions: &[TopicPartition]) -> Self {
        let waiting = Self::new();
        waiters.add(partitions, &waiting.waiter);
        assert!(waiting.poll().is_pending());
        waiting
    }

    fn poll(&self) -> Poll<bool> {
        self.waiter.poll(&Context::from_waker(&Waker::from(Arc::clone(&self.task))))
    }

    fn woken(&self) -> usize {
        self.task.0.load(Ordering::Relaxed)
    }
}

fn tp(topic: u128, partition: u32) -> TopicPartition {
    let topic = TopicId::from_slice(&topic.to_be_bytes()).unwrap();
    TopicPartition { topic, partition: PartitionId(partition) }
}

#[test]
fn an_append_wakes_those_who_wait_for_its_partition_and_nobody_else() {
    let waiters = Waiters::default();
    let quiet: Vec<_> = (0..10_000).map(|n| Waiting::on(&waiters, &[tp(1, n)])).collect();
    let busy: Vec<_> = (0..3).map(|_| Waiting::on(&waiters, &[tp(2, 0), tp(2, 7)])).collect();
    for _ in 0..100 {
        waiters.wake(&[tp(2, 7)]);
    }
    assert!(quiet.iter().all(|waiting| waiting.woken() == 0));
    assert!(busy.iter().all(|waiting| waiting.woken() == 1), "once, until it has looked");
    assert!(busy.iter().all(|waiting| waiting.poll() == Poll::Ready(true) && waiting.poll().is_pending()));
}

#[test]
fn an_append_before_the_first_look_is_not_missed() {
    let (waiters, waiting) = (Waiters::default(), Waiting::new());
    waiters.add(&[tp(1, 0)], &waiting.waiter);
    waiters.wake(&[tp(1, 0)]);
    assert_eq!(waiting.poll(), Poll::Ready(true));
}

#[test]
fn a_topic_that_is_gone_wakes_the_waiters_of_all_its_partitions() {
    let waiters = Waiters::default();
    let of_it: Vec<_> = [0, 5, u32::MAX].map(|n| Waiting::on(&waiters, &[tp(2, n)])).into();
    let others = [Waiting::on(&waiters, &[tp(1, u32::MAX)]), Waiting::on(&waiters, &[tp(3, 0)])];
    waiters.wake_topic(tp(2, 0).topic);
    assert!(of_it.iter().all(|waiting| waiting.woken() == 1));
    assert!(others.iter().all(|waiting| waiting.woken() == 0));
}

#[test]
fn an_append_comes_before_the_end_of_the_time_and_the_end_stays() {
    let waiters = Waiters::default();
    let waiting = Waiting::on(&waiters, &[tp(1, 0)]);
    waiters.wake(&[tp(1, 0)]);
    waiting.waiter.expire();
    let answers = [waiting.poll(), waiting.poll(), waiting.poll()];
    assert_eq!(answers, [Poll::Ready(true), Poll::Ready(false), Poll::Ready(false)]);
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u32>),
    Remove(usize),
    Append(Vec<u32>),
    Expire(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let partitions = || prop::collection::btree_set(0u32..8, 1..4).prop_map(|set| set.into_iter().collect());
    prop_oneof![
        partitions().prop_map(Step::Add),
        (0usize..20).prop_map(Step::Remove),
        partitions().prop_map(Step::Append),
        (0usize..20).prop_map(Step::Expire),
    ]
}

/// What a waiter has to see.
struct Model {
    waiting: Waiting,
    partitions: Vec<TopicPartition>,
    listed: bool,
    appended: bool,
    expired: bool,
}

proptest! {
    #[test]
    fn every_waiter_sees_exactly_the_appends_to_its_partitions(steps in prop::collection::vec(step(), 0..60)) {
        let waiters = Waiters::default();
        let mut models: Vec<Model> = Vec::new();
        for step in steps {
            match step {
                Step::Add(partitions) => {
                    let partitions: Vec<_> = partitions.into_iter().map(|n| tp(1, n)).collect();
                    let waiting = Waiting::on(&waiters, &partitions);
                    models.push(Model { waiting, partitions, listed: true, appended: false, expired: false });
                }
                Step::Remove(at) => if let Some(model) = models.get_mut(at) {
                    waiters.remove(&model.partitions, &model.waiting.waiter);
                    model.listed = false;
                },
                Step::Append(partitions) => {
                    let appended: BTreeSet<_> = partitions.into_iter().map(|n| tp(1, n)).collect();
                    waiters.wake(&appended.iter().copied().collect::<Vec<_>>());
                    for model in models.iter_mut().filter(|model| model.listed) {
                        model.appended |= model.partitions.iter().any(|tp| appended.contains(tp));
                    }
                }
                Step::Expire(at) => if let Some(model) = models.get_mut(at) {
                    model.waiting.waiter.expire();
                    model.expired = true;
                },
            }
            let listed: usize = models.iter().filter(|model| model.listed).map(|model| model.partitions.len()).sum();
            prop_assert_eq!(waiters.taken(), listed);
        }
        for model in models {
            let expected = match (model.appended, model.expired) {
                (true, _) => Poll::Ready(true),
                (false, true) => Poll::Ready(false),
                (false, false) => Poll::Pending,
            };
            prop_assert_eq!(model.waiting.woken() > 0, expected.is_ready());
            prop_assert_eq!(model.waiting.poll(), expected);
        }
    }
}
