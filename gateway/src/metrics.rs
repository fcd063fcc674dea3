//! Counts and latencies of the gateway's own, in OpenMetrics text.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The last line of an OpenMetrics text.
const EOF: &str = "# EOF\n";

/// Labels of a finished HTTP request. `route` is the pattern, never the path, so that their number is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HttpLabels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

/// Labels of a finished gRPC call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GrpcLabels {
    pub(crate) method: &'static str,
    pub(crate) code: &'static str,
}

/// Labels of a finished request of a Kafka client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KafkaLabels {
    request: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    http_requests: Family<HttpLabels, Counter>,
    http_seconds: Family<RouteLabels, Histogram>,
    grpc_requests: Family<GrpcLabels, Counter>,
    kafka_requests: Family<KafkaLabels, Counter>,
    pub(crate) queries_cancelled: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("stratalog_gateway");
        let http_requests = Family::default();
        let http_seconds = Family::new_with_constructor((|| Histogram::new(LATENCY_SECONDS)) as fn() -> Histogram);
        let grpc_requests = Family::default();
        let kafka_requests = Family::default();
        let queries_cancelled = Counter::default();
        registry.register("http_requests", "HTTP requests answered", http_requests.clone());
        registry.register("http_request_seconds", "Time to the head of an HTTP answer", http_seconds.clone());
        registry.register(
            "grpc_requests",
            "gRPC calls answered; a produce stream counts each request",
            grpc_requests.clone(),
        );
        registry.register("kafka_requests", "Requests of Kafka clients done", kafka_requests.clone());
        registry.register("queries_cancelled", "Queries whose client left or stalled", queries_cancelled.clone());
        let registry = Mutex::new(registry);
        Self { registry, http_requests, http_seconds, grpc_requests, kafka_requests, queries_cancelled }
    }

    pub(crate) fn http(&self, labels: HttpLabels, elapsed: Duration) {
        let route = RouteLabels { route: labels.route.clone() };
        self.http_seconds.get_or_create(&route).observe(elapsed.as_secs_f64());
        self.http_requests.get_or_create(&labels).inc();
    }

    pub(crate) fn grpc(&self, method: &'static str, code: &'static str) {
        self.grpc_requests.get_or_create(&GrpcLabels { method, code }).inc();
    }

    /// `request`: the kind, as Kafka names it.
    pub(crate) fn kafka(&self, request: &'static str) {
        self.kafka_requests.get_or_create(&KafkaLabels { request }).inc();
    }

    /// The broker's metrics and ours as one text.
    pub(crate) fn encode_with(&self, broker: &str) -> String {
        let mut text = broker.strip_suffix(EOF).unwrap_or(broker).to_owned();
        encode_registry(&mut text, &self.registry.lock()).expect("writing to a string does not fail");
        text.push_str(EOF);
        text
    }
}

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_become_one() {
        let metrics = Metrics::new();
        metrics.http(HttpLabels { method: "GET", route: "/healthz".into(), status: 200 }, Duration::from_millis(2));
        metrics.grpc("Fetch", "OK");
        let text = metrics.encode_with("# TYPE a counter\na_total 1\n# EOF\n");
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with(EOF) && text.starts_with("# TYPE a counter\na_total 1\n"));
        assert!(
            text.contains(r#"stratalog_gateway_http_requests_total{method="GET",route="/healthz",status="200"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"stratalog_gateway_grpc_requests_total{method="Fetch",code="OK"} 1"#), "{text}");
    }
}
