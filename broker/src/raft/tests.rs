//! Raft over the real log: openraft's own suite, restarts, and three voters in one process on simulated disks.
//!
//! The voters share a runtime whose clock is paused, and their lanes have no threads: time passes when nothing else can
//! happen. Only the library's election timeouts are drawn by chance.

mod cluster;
mod crashes;
mod doubts;
mod ending;
mod full;
mod installs;
mod leading;
mod log;
mod machine;
mod members;
mod nemesis;
mod network;
mod proposing;
mod repairs;
mod replica;
mod rolling;
mod sabotage;
mod traps;
