//! Groups that end.

use std::io;
use std::time::Duration;

use stratalog_storage::simulation::Op;
use tokio::time::sleep;

use super::cluster::{ALL, Cluster, simulate};
use crate::fatal::simulated;

#[test]
fn a_group_that_is_stopped_stops_no_process_and_one_that_ends_by_an_error_does() {
    simulated::begin();
    simulate(async {
        let (mut cluster, leader) = Cluster::agreed(61, 2).await;
        cluster.at(leader).group.lead(Duration::ZERO).await.unwrap();
        let follower = ALL.into_iter().find(|id| *id != leader).unwrap();
        cluster.at(follower).group.lead(Duration::ZERO).await.unwrap();
        cluster.crash(follower, false).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(simulated::take(), None, "it was told to stop");
        cluster.restart(follower).await.unwrap();
        cluster.at(follower).group.lead(Duration::ZERO).await.unwrap();
        cluster.at(follower).disk.set_fault(|op, path| match op {
            Op::View if path.starts_with("/lane") => Err(io::Error::other("a medium that fails")),
            _ => Ok(()),
        });
        cluster.produce_some(2).await;
        sleep(Duration::from_secs(10)).await;
        let why = simulated::take().expect("a process that stops");
        assert!(why.contains("shard 3 ended by itself") && why.contains("a medium that fails"), "{why}");
    });
}
