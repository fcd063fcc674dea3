//! Stories of topics that come, change and go.

use super::story::Story;
use crate::check::Kind;
use crate::history::{MetaChange, MetaSeen, Outcome, When};

use MetaChange::{Alter, Create, Delete, Read};
use MetaSeen::{Absent, Done, Exists, Setting};

fn info() -> Outcome<MetaSeen> {
    Outcome::Info("no answer".to_owned())
}

#[test]
fn changes_that_follow_each_other_pass() {
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done).meta(2, Create(2), Exists).meta(1, Alter(3), Done).meta(1, Read, Setting(3));
    story.meta(2, Delete, Done).meta(2, Delete, Done).meta(1, Alter(4), Absent).meta(2, Create(5), Done).meta(
        2,
        Read,
        Setting(5),
    );
    story.passes();
}

#[test]
fn a_lost_change_is_found() {
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done).meta(1, Alter(2), Done).meta(1, Read, Setting(1));
    let what = story.fails(&[Kind::NotLinearizable]);
    assert!(what.contains("Read → Setting(1)"), "{what}");
}

#[test]
fn a_topic_is_not_created_twice_nor_gone_by_itself() {
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done).meta(2, Create(2), Done).fails(&[Kind::NotLinearizable]);
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done).meta(2, Alter(2), Absent).fails(&[Kind::NotLinearizable]);
}

#[test]
fn a_read_is_as_new_as_the_last_change_whichever_node_acknowledged_it() {
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done).meta(1, Alter(2), Done).meta(2, Read, Setting(2)).passes();
    story.meta(2, Read, Setting(1)).fails(&[Kind::NotLinearizable]);
}

#[test]
fn a_change_of_unknown_outcome_may_show_or_not() {
    let change = |shown: u64| {
        let mut story = Story::new(1);
        story.meta(1, Create(1), Done);
        let at = story.when();
        story.meta_at(1, at, Alter(2), info()).meta(2, Read, Setting(shown));
        story
    };
    change(1).passes();
    change(2).passes();
}

#[test]
fn a_deletion_of_unknown_outcome_took_effect_or_not_at_every_node() {
    let begun = || {
        let mut story = Story::new(1);
        story.meta(1, Create(1), Done);
        let at = story.when();
        story.meta_at(1, at, Delete, info());
        story
    };
    begun().meta(1, Read, Absent).meta(2, Alter(2), Absent).passes();
    begun().meta(1, Read, Setting(1)).meta(2, Alter(2), Done).passes();
    begun().meta(1, Read, Absent).meta(2, Alter(2), Done).fails(&[Kind::NotLinearizable]);
}

#[test]
fn concurrent_changes_may_take_effect_in_any_order() {
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done);
    let When(start, _) = story.when();
    story.meta_at(1, When(start, start + 50), Alter(2), Outcome::Ok(Done));
    story.meta_at(2, When(start + 10, start + 40), Alter(3), Outcome::Ok(Done));
    story.sleep(1);
    story.meta(1, Read, Setting(2)).passes();
}

#[test]
fn what_certainly_did_nothing_is_not_judged() {
    let mut story = Story::new(1);
    story.meta(1, Create(1), Done);
    let at = story.when();
    story.meta_at(1, at, Delete, Outcome::Fail("not the leader".to_owned())).meta(1, Read, Setting(1)).passes();
}
