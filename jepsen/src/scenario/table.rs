//! The table.

use std::time::Duration;

use super::{Bound, Scenario};
use crate::chaos::{
    CLOSED_IN_TIME, DAMAGE_IS_FOUND, ENDS_AT_ONCE, GARBAGE_IS_REFUSED, HALTS_NAMED, KEPT_ASIDE, NO_BAD_BYTE, Nemesis,
    OTHERS_ARE_SERVED, QUERIES_END, READS_SERVE, THROTTLED, WHOLE_AGAIN, WIPED_IS_REFUSED, WITHIN_MEMORY,
};
use crate::cluster::{Capability, DiskKind};

const SHORT: Duration = Duration::from_secs(30);
const LONGER: Duration = Duration::from_secs(60);
/// What a node may have in use whose queries and tails are kept small.
const LITTLE_MEMORY: u64 = 1 << 30;

const PLAIN: Scenario = Scenario {
    row: None,
    name: "",
    what: "",
    nemesis: Nemesis::None,
    needs: &[],
    disks: DiskKind::Directory,
    scrubs: false,
    memory: None,
    settings: &[],
    faults: &[],
    probes: &[],
    promises: &[],
    cut_off: (0, 0),
    padding: 200,
    records_a_second: 300,
    members: 0,
    short: SHORT,
};

/// Everything that can be run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { row: Some(1), name: "calm", what: "no faults", short: Duration::from_secs(20), ..PLAIN },
    Scenario {
        row: Some(2),
        name: "kill-leader",
        what: "kill -9 of a leader about every 5 s; nobody waits longer than 2 s (99th percentile)",
        nemesis: Nemesis::KillLeader,
        faults: &[("kill-leader", 5, 3)],
        promises: &[Bound::Gap("kill-leader", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(3),
        name: "kill-all",
        what: "kill -9 of all nodes at once; they serve within 10 s of their start",
        nemesis: Nemesis::KillAll,
        faults: &[("kill-all", 20, 2)],
        promises: &[Bound::Back("kill-all", 10_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(4),
        name: "power-cut-one",
        what: "the power of a leader's machine goes: what it had not synced is lost",
        nemesis: Nemesis::CutOne,
        needs: &[Capability::PowerCuts],
        disks: DiskKind::Loop,
        faults: &[("power-cut-one", 20, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(5),
        name: "power-cut-all",
        what: "the power of all machines goes at once",
        nemesis: Nemesis::CutAll,
        needs: &[Capability::PowerCuts],
        disks: DiskKind::Loop,
        faults: &[("power-cut-all", 20, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(6),
        name: "pause-and-power-cut",
        what: "a minority halts, others acknowledge, one of them loses its power, and goes on with the minority alone",
        nemesis: Nemesis::PauseAndCut,
        needs: &[Capability::PowerCuts],
        disks: DiskKind::Loop,
        faults: &[("pause-and-cut", 10, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(7),
        name: "pause-leader",
        what: "SIGSTOP of a leader for 1 to 60 s; it answers nothing old when it wakes up, and another leads within 2 s",
        nemesis: Nemesis::PauseLeader,
        faults: &[("pause-leader", 5, 2)],
        promises: &[Bound::Replaced("pause-leader", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(8),
        name: "partitions",
        what: "links cut as halves, ring, bridge, one way and one by one; a minority acknowledges nothing, and all is well 5 s later",
        nemesis: Nemesis::Partitions,
        needs: &[Capability::Namespaces],
        faults: &[("halves", 5, 1), ("ring", 5, 1), ("bridge", 5, 1), ("one-way", 5, 1), ("clog", 5, 1)],
        promises: &[
            Bound::Back("halves", 5_000),
            Bound::Back("ring", 5_000),
            Bound::Back("bridge", 5_000),
            Bound::Back("one-way", 5_000),
            Bound::Back("clog", 5_000),
        ],
        cut_off: (25, 5),
        short: LONGER,
        ..PLAIN
    },
    Scenario {
        row: Some(9),
        name: "bad-network",
        what: "100 ms delay, 10 % of packets lost, some twice or out of order; at most one election a minute, of all shards",
        nemesis: Nemesis::BadNetwork,
        needs: &[Capability::Router],
        faults: &[("bad-network", 5, 1)],
        promises: &[Bound::Elections("bad-network", 1)],
        records_a_second: 15,
        short: LONGER,
        ..PLAIN
    },
    Scenario {
        row: Some(10),
        name: "bit-flips",
        what: "two bits flip in each replay segment, column segment or log file of one node, which is started then",
        nemesis: Nemesis::FlipBits,
        scrubs: true,
        faults: &[("flip-rec", 5, 1), ("flip-col", 5, 1), ("flip-lane", 5, 1)],
        probes: &[(DAMAGE_IS_FOUND, 10, 2), (NO_BAD_BYTE, 15, 3), (WHOLE_AGAIN, 10, 2), (KEPT_ASIDE, 5, 1)],
        short: LONGER,
        ..PLAIN
    },
    Scenario {
        row: Some(11),
        name: "torn-chunks",
        what: "files of one node end early, or have a chunk of zeroes or of other bytes",
        nemesis: Nemesis::LoseChunks,
        scrubs: true,
        faults: &[("lose-chunk-rec", 5, 1), ("lose-chunk-col", 5, 1), ("lose-chunk-lane", 5, 1)],
        probes: &[(DAMAGE_IS_FOUND, 10, 2), (NO_BAD_BYTE, 15, 3), (WHOLE_AGAIN, 10, 2), (KEPT_ASIDE, 5, 1)],
        short: LONGER,
        ..PLAIN
    },
    Scenario {
        row: Some(12),
        name: "damage-everywhere-once",
        what: "of every segment one copy has a chunk of zeroes; everything can be read from every node",
        nemesis: Nemesis::DamageEachOnce,
        scrubs: true,
        faults: &[("damage-once", 5, 1)],
        probes: &[(NO_BAD_BYTE, 15, 3)],
        ..PLAIN
    },
    Scenario {
        row: Some(13),
        name: "damage-on-all",
        what: "the same bits of all copies of a segment flip: those offsets are named, and all others can be read",
        nemesis: Nemesis::DamageOnAll,
        faults: &[("damage-on-all", 5, 1)],
        probes: &[(HALTS_NAMED, 5, 1)],
        ..PLAIN
    },
    Scenario {
        row: Some(13),
        name: "damaged-logs",
        what: "bits flip in the logs of all nodes: none goes on with less than it had",
        nemesis: Nemesis::DamageAllLogs,
        faults: &[("flip-all-lanes", 5, 2)],
        probes: &[(KEPT_ASIDE, 10, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(14),
        name: "damaged-votes",
        what: "votes, then states and manifests of one node are damaged: it does not start, and changes nothing",
        nemesis: Nemesis::DamageVotes,
        faults: &[("damage-vote", 5, 1), ("damage-state", 5, 1)],
        probes: &[(DAMAGE_IS_FOUND, 10, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(14),
        name: "forgotten-end",
        what: "the end of a log is lost while only a node that never had it is there: the two do not go on by themselves",
        nemesis: Nemesis::ForgetTheEnd,
        faults: &[("forget-end", 5, 2)],
        // So few that one at a time is on its way: the last write is that of a record that was acknowledged.
        records_a_second: 20,
        ..PLAIN
    },
    Scenario {
        row: Some(15),
        name: "fsync-error",
        what: "a sync of a leader's log fails once: it ends within a second",
        nemesis: Nemesis::SyncErrors,
        needs: &[Capability::Levers],
        faults: &[("sync-error", 5, 2)],
        probes: &[(ENDS_AT_ONCE, 5, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(16),
        name: "full-disks",
        what: "a follower's device without room, then a leader's; reads serve, and writes go on when there is room",
        nemesis: Nemesis::FullDisks,
        needs: &[Capability::SmallDisks],
        disks: DiskKind::Small,
        faults: &[("full-follower", 5, 1), ("full-leader", 5, 1)],
        probes: &[(READS_SERVE, 10, 2)],
        promises: &[Bound::Back("full-leader", 30_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(17),
        name: "slow-disk",
        what: "each sync of a leader takes up to two seconds longer; nobody waits longer than 2 s (99th percentile)",
        nemesis: Nemesis::SlowDisk,
        needs: &[Capability::Levers],
        faults: &[("slow-disk", 6, 2)],
        promises: &[Bound::Gap("slow-disk", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(18),
        name: "clocks",
        what: "the clock of a leader is an hour ahead, behind, or jumps; retention drops nothing by it",
        nemesis: Nemesis::Clocks,
        needs: &[Capability::Levers],
        settings: &[("retention", "50m"), ("bucket", "1m")],
        faults: &[("clock-ahead", 5, 1), ("clock-behind", 5, 1), ("clock-strobe", 5, 1)],
        ..PLAIN
    },
    Scenario {
        row: Some(19),
        name: "members",
        what: "nodes join, leave and are replaced, with kills and partitions; a wiped node under its old id is refused",
        nemesis: Nemesis::Members,
        needs: &[Capability::Namespaces],
        faults: &[("join", 5, 1), ("leave", 5, 1), ("replace", 5, 1), ("kill-leader", 5, 1), ("halves", 5, 1)],
        probes: &[(WIPED_IS_REFUSED, 5, 1)],
        short: LONGER,
        ..PLAIN
    },
    Scenario {
        row: Some(20),
        name: "rolling-restart",
        what: "one node after the other is stopped and started under load; nobody waits longer than 2 s",
        nemesis: Nemesis::RollingRestart,
        faults: &[("restart", 15, 3)],
        promises: &[Bound::Gap("restart", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(20),
        name: "upgrade",
        what: "the same from this release to another and back (needs --other-binary)",
        nemesis: Nemesis::Upgrade,
        faults: &[("to-other-release", 5, 3), ("to-this-release", 5, 3)],
        promises: &[Bound::Gap("to-other-release", 2_000), Bound::Gap("to-this-release", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(21),
        name: "rebalance",
        what: "kill -9 of a member of a consumer group every 5 s, and of leaders; no committed offset goes back, and the group \
               is given every record",
        nemesis: Nemesis::Rebalance,
        needs: &[Capability::KafkaClient],
        members: 4,
        faults: &[("kill-member", 20, 5), ("kill-leader", 5, 1)],
        short: LONGER,
        ..PLAIN
    },
    Scenario {
        row: Some(22),
        name: "kill-in-work",
        what: "kill -9 in the middle of a seal, a roll and the fetch of a segment; each offset is a row and a hit once",
        nemesis: Nemesis::AimedKills,
        faults: &[("kill-in-seal", 17, 1), ("kill-in-roll", 17, 1), ("kill-in-fetch", 16, 1)],
        padding: 1_000,
        ..PLAIN
    },
    Scenario {
        row: Some(23),
        name: "delete-segments",
        what: "a node loses all its replay segments, or all its column segments, and gets them from others",
        nemesis: Nemesis::DeleteSegments,
        scrubs: true,
        faults: &[("delete-rec", 5, 1), ("delete-col", 5, 1)],
        probes: &[(NO_BAD_BYTE, 10, 2), (WHOLE_AGAIN, 10, 2)],
        ..PLAIN
    },
    Scenario {
        row: Some(23),
        name: "delete-derived",
        what: "all nodes lose all column segments, and make them again",
        nemesis: Nemesis::DeleteDerived,
        faults: &[("delete-derived", 5, 1)],
        ..PLAIN
    },
    Scenario {
        row: Some(24),
        name: "overload",
        what: "five times as much is produced as the cluster takes: it refuses that, within its memory, and is back 30 s later",
        nemesis: Nemesis::Overload,
        memory: Some(LITTLE_MEMORY),
        faults: &[("overload", 1, 1)],
        probes: &[(THROTTLED, 1, 1), (WITHIN_MEMORY, 1, 1)],
        promises: &[Bound::Recovered("overload", 30_000, 2)],
        records_a_second: 100,
        ..PLAIN
    },
    Scenario {
        row: Some(26),
        name: "slow-clients",
        what: "2,000 connections that are idle and 2,000 that are slow; others are served",
        nemesis: Nemesis::SlowClients,
        faults: &[("slow-clients", 5, 1)],
        probes: &[(CLOSED_IN_TIME, 5, 1), (OTHERS_ARE_SERVED, 5, 1)],
        promises: &[Bound::Gap("slow-clients", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(27),
        name: "bombs",
        what: "lengths that lie, other protocols, nested JSON and what is long once it is decompressed, on all ports",
        nemesis: Nemesis::Garbage,
        faults: &[("garbage", 5, 1)],
        probes: &[(GARBAGE_IS_REFUSED, 5, 1), (OTHERS_ARE_SERVED, 5, 1)],
        ..PLAIN
    },
    Scenario {
        row: Some(28),
        name: "hostile-queries",
        what: "groups, joins, sorts, regular expressions and recursions without an end: each ends at its budget, and who \
               produces waits less than twice as long",
        nemesis: Nemesis::HostileQueries,
        memory: Some(LITTLE_MEMORY),
        faults: &[("hostile-queries", 5, 1)],
        probes: &[(QUERIES_END, 5, 1), (WITHIN_MEMORY, 5, 1)],
        promises: &[Bound::Slowed("hostile-queries", 2)],
        ..PLAIN
    },
    Scenario {
        name: "soak",
        what: "leaders killed and paused, all killed, links cut, restarts and kills in the middle of work, in turn",
        nemesis: Nemesis::Mixed,
        needs: &[Capability::Namespaces],
        faults: &[
            ("kill-leader", 5, 1),
            ("pause-leader", 5, 1),
            ("kill-all", 5, 1),
            ("halves", 5, 1),
            ("restart", 15, 3),
            ("kill-in-seal", 5, 1),
        ],
        short: Duration::from_secs(90),
        ..PLAIN
    },
];

/// Rows of the matrix that are commands of their own.
pub(crate) const ELSEWHERE: &[(u8, &str, &str)] = &[
    (30, "fuzzing", "bytes that lie, for each decoder: `fuzz/run`, and in every test run"),
    (31, "sabotage", "bugs that are planted: `stratalog-jepsen sabotage`"),
];

/// Rows of the matrix that cannot be run yet, and what they wait for.
pub(crate) const NOT_BUILT: &[(u8, &str, &str)] = &[(25, "tenants", "tenants"), (29, "foreign-ids", "tenants")];
