//! What the node says about itself, kept for `system.events` besides being written to its log.

use std::fmt::{Debug, Write};
use std::sync::{Arc, LazyLock};

use stratalog_broker::{CONSENSUS_CALL_LOG_TARGETS, CONSENSUS_LOG_TARGET, Events};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The log of a process is one, and so are its events.
static EVENTS: LazyLock<Arc<Events>> = LazyLock::new(Arc::default);

/// The events of this process.
pub(crate) fn events() -> Arc<Events> {
    EVENTS.clone()
}

/// Keeps what the log says, whatever level is written.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Keep.with_filter(filter_fn(is_notable))
}

/// Warnings of anybody, but for the calls that a stop of consensus fails, and what we say ourselves but for the steps of
/// elections.
fn is_notable(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target.starts_with("stratalog") && !target.starts_with(CONSENSUS_LOG_TARGET);
    let of_calls = CONSENSUS_CALL_LOG_TARGETS.iter().any(|calls| target.starts_with(calls));
    metadata.is_event() && !of_calls && (*metadata.level() <= Level::WARN || (ours && *metadata.level() <= Level::INFO))
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let source = event.metadata().target().split("::").next().unwrap_or_default();
        EVENTS.record(&level, source, text.message + &text.fields);
    }
}

/// The message of an event, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_is_worth_to_know_is_kept_with_its_fields() {
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "elsewhere::inside", file = 7, "a disk is slow");
            tracing::info!(target: "elsewhere", "nobody asked");
            tracing::error!(target: CONSENSUS_CALL_LOG_TARGETS[0], "a call failed");
            tracing::debug!(target: "stratalog_broker", "a detail");
            tracing::info!(target: "stratalog_broker::rows", "sealed");
        });
        let kept: Vec<_> = events().list().into_iter().map(|e| (e.level, e.source, e.message)).collect();
        let expected = [("info", "stratalog_broker", "sealed"), ("warn", "elsewhere", "a disk is slow file=7")];
        let expected = expected.map(|(level, source, text)| (level.to_owned(), source.to_owned(), text.to_owned()));
        assert_eq!(kept[..2], expected);
    }
}
