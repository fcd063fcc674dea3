//! `stratalog search`.

use stratalog_proto::v1;

use super::{dead_letter_note, print_answer};
use crate::cli::{Global, Search};
use crate::failure::Failure;
use crate::times::{now_ns, parse_duration, parse_time_ns};

pub(super) async fn run(global: &Global, command: &Search) -> Result<(), Failure> {
    let since = command.since.as_deref().map(parse_duration).transpose()?;
    let from_ns = match since {
        Some(ns) => Some(now_ns().saturating_sub_unsigned(ns)),
        None => command.from.as_deref().map(parse_time_ns).transpose()?,
    };
    let request = v1::SearchRequest {
        topic: command.topic.clone(),
        query: command.query.clone(),
        from_ns,
        to_ns: command.to.as_deref().map(parse_time_ns).transpose()?,
        limit: command.limit,
        ..v1::SearchRequest::default()
    };
    let client = global.client().await?;
    let printed = print_answer(global.format(), client.search(request).await?).await?;
    if printed.rows == 0 {
        dead_letter_note::tell(&client, &printed.dead_letter_topics).await;
    }
    Ok(())
}
