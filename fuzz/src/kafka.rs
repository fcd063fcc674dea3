//! Kafka's requests. The gateway is too heavy to be built here; this folder of it names nothing of the rest.

#[path = "../../gateway/src/kafka/fuzzing/mod.rs"]
pub mod fuzzing;
#[allow(dead_code)]
#[path = "../../gateway/src/kafka/requests/mod.rs"]
mod requests;
