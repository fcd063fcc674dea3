//! The Rust crate rdkafka: librdkafka, compiled with it.

mod admin;
mod group;
mod log;

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::{Value, json};

pub type Outcome = Result<(), Box<dyn Error>>;

/// `--name value` after the command.
pub struct Args(HashMap<String, String>);

impl Args {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One that has to be there.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("--{name} is missing"))
    }

    pub fn number(&self, name: &str) -> Result<i64, Box<dyn Error>> {
        Ok(self.text(name)?.parse()?)
    }

    pub fn numbers(&self, name: &str) -> Result<Vec<i64>, Box<dyn Error>> {
        let text = self.get(name).unwrap_or_default();
        text.split(',').filter(|number| !number.is_empty()).map(|number| Ok(number.parse()?)).collect()
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.get("timeout").and_then(|seconds| seconds.parse().ok()).unwrap_or(60.0))
    }

    pub fn config(&self) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.text("servers")?).set("fetch.wait.max.ms", "100");
        Ok(config)
    }
}

pub fn tell(line: &Value) {
    let mut out = std::io::stdout().lock();
    // Whoever reads may have gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

pub fn decode(text: &Value) -> Result<Option<Vec<u8>>, base64::DecodeError> {
    text.as_str().map(|text| BASE64.decode(text)).transpose()
}

fn encode(data: Option<&[u8]>) -> Value {
    data.map_or(Value::Null, |data| BASE64.encode(data).into())
}

pub fn tell_message(message: &BorrowedMessage, event: Option<&str>) {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers: Vec<Value> = headers.map(|header| json!([header.key, encode(header.value)])).collect();
    let mut line = json!({
        "partition": message.partition(), "offset": message.offset(), "timestamp": message.timestamp().to_millis(),
        "key": encode(message.key()), "value": encode(message.payload()), "headers": headers,
    });
    if let Some(event) = event {
        line["event"] = event.into();
    }
    tell(&line);
}

fn about() -> Outcome {
    let version = include_str!("../Cargo.toml").split("rdkafka = { version = \"=").nth(1).and_then(|rest| rest.split('"').next());
    tell(&json!({"client": "rdkafka", "version": version, "library": rdkafka::util::get_rdkafka_version().1}));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let mut args = HashMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        args.insert(name.trim_start_matches("--").to_owned(), value);
    }
    let args = Args(args);
    match command.as_str() {
        "about" => about(),
        "produce" => log::produce(&args).await,
        "consume" => log::consume(&args),
        "offsets" => log::offsets(&args),
        "group" => group::group(&args),
        "committed" => group::committed(&args),
        _ => admin::run(&command, &args).await,
    }
}
