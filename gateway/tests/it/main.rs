//! The gateway in front of a real broker, driven over real sockets.

mod grpc_groups;
mod grpc_log;
mod grpc_query;
mod http_bad_input;
mod http_query;
mod http_records;
mod http_topics;
mod kafka;
mod lifecycle;
mod node;
mod waiting;
