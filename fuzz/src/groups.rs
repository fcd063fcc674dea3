//! What members of consumer groups say. The broker is too heavy to be built here; these files of it name nothing of the rest.

#[path = "../../broker/src/groups/consumer.rs"]
mod consumer;
#[path = "../../broker/src/groups/lies.rs"]
pub mod lies;
