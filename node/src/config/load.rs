//! Layers file, environment and flags, and explains what does not fit.

use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};

use super::{Addresses, Settings};
use crate::cli::Serve;
use crate::failure::Failure;

const ENV_PREFIX: &str = "STRATALOG_";
/// Variables of the client commands, which share the prefix.
const NOT_SETTINGS: [&str; 2] = ["endpoint", "output"];

/// The settings that `serve` runs with.
///
/// # Errors
/// [`Failure::Usage`], naming the source, the key, what is wrong and what may have been meant.
pub(crate) fn load(flags: &Serve) -> Result<Settings, Failure> {
    let mut figment = Figment::from(Serialized::defaults(Settings::default()));
    if let Some(path) = &flags.config {
        figment = figment.merge(file(path)?);
    }
    let environment = Env::prefixed(ENV_PREFIX).ignore(&NOT_SETTINGS).split("__");
    let mut settings: Settings = figment.merge(environment).extract().map_err(|e| explain(&e))?;
    apply_flags(&mut settings, flags);
    settings.validate()?;
    Ok(settings)
}

fn file(path: &Path) -> Result<figment::providers::Data<Toml>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read the configuration {}: {error}", path.display())))?;
    // Parsed once here for toml's own message, which shows the line; figment would name only the problem.
    toml::from_str::<toml::Table>(&text)
        .map_err(|error| Failure::Usage(format!("the configuration {} is not TOML:\n{error}", path.display())))?;
    Ok(Toml::file(path))
}

fn apply_flags(settings: &mut Settings, flags: &Serve) {
    if let Some(data) = &flags.data {
        settings.data_dir.clone_from(data);
    }
    if let Some(grpc) = &flags.grpc {
        settings.grpc.listen.clone_from(grpc);
    }
    if let Some(http) = &flags.http {
        settings.http.listen.clone_from(http);
    }
    if let Some(kafka) = &flags.kafka {
        settings.kafka.listen.clone_from(kafka);
    }
    if let Some(peer) = &flags.peer {
        settings.cluster.listen.clone_from(peer);
    }
    if let Some(join) = &flags.join {
        settings.cluster.join = Addresses::parse(join);
    }
    settings.insecure |= flags.insecure;
}

fn explain(error: &figment::Error) -> Failure {
    let path = error.path.join(".");
    let source = error.metadata.as_ref().map_or_else(|| "the configuration".to_owned(), describe_source);
    let problem = match &error.kind {
        Kind::UnknownField(field, known) => unknown(&path, field, known),
        kind => format!("`{path}`: {kind}"),
    };
    Failure::Usage(format!("{source}: {problem}"))
}

fn describe_source(metadata: &figment::Metadata) -> String {
    match &metadata.source {
        Some(source) => format!("{} {source}", metadata.name),
        None => metadata.name.to_string(),
    }
}

fn unknown(path: &str, field: &str, known: &[&str]) -> String {
    let section = path.strip_suffix(field).unwrap_or("");
    let nearest = known.iter().map(|name| (strsim::damerau_levenshtein(field, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2 => {
            format!("there is no setting `{section}{field}`; did you mean `{section}{name}`?")
        }
        _ => format!("there is no setting `{section}{field}`; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use stratalog_mutation::Decoder;

    use super::*;

    fn from_toml(text: &str) -> Result<Settings, Failure> {
        Figment::from(Serialized::defaults(Settings::default()))
            .merge(Toml::string(text))
            .extract()
            .map_err(|e| explain(&e))
    }

    const SETTINGS: Decoder = Decoder {
        name: "settings",
        samples: written_defaults,
        run: read_settings,
        words: &[
            "[rows]\n",
            "[[x]]\n",
            "seal_age = ",
            "\"5s\"",
            "64MiB",
            "= -1",
            "\"\"\"",
            "'",
            "{",
            "}",
            "1e999",
            "\n",
        ],
        memory_bytes: 4 << 20,
    };

    fn written_defaults() -> Vec<Vec<u8>> {
        vec![toml::to_string(&Settings::default()).unwrap().into_bytes(), b"[rows]\nseal_age = \"5s\"\n".to_vec()]
    }

    fn read_settings(bytes: &[u8]) -> bool {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        let _ = toml::from_str::<toml::Table>(text);
        match from_toml(text) {
            // TOML has no numbers of 64 bits without a sign.
            Ok(settings) => toml::to_string(&settings).map_or(true, |written| from_toml(&written).is_ok()),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        }
    }

    #[test]
    fn x1_settings_that_lie() {
        SETTINGS.check_slow();
    }

    #[test]
    fn unknown_key_is_an_error_with_a_suggestion() {
        let error = from_toml("[rows]\nseal_aeg = \"5s\"").unwrap_err().to_string();
        assert!(error.contains("rows.seal_aeg"), "{error}");
        assert!(error.contains("did you mean `rows.seal_age`?"), "{error}");
    }

    #[test]
    fn value_out_of_form_names_its_key() {
        let error = from_toml("[rows]\nseal_bytes = \"lots\"").unwrap_err().to_string();
        assert!(error.contains("rows.seal_bytes") && error.contains("64MiB"), "{error}");
    }

    #[test]
    fn listener_outside_loopback_needs_insecure_by_name() {
        let mut settings = from_toml("[grpc]\nlisten = \"0.0.0.0:7070\"").unwrap();
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.contains("--insecure"), "{error}");
        settings.insecure = true;
        settings.validate().unwrap();
    }

    #[test]
    fn defaults_survive_being_written_and_read() {
        let written = toml::to_string(&Settings::default()).unwrap();
        let read = from_toml(&written).unwrap();
        assert_eq!(toml::to_string(&read).unwrap(), written);
    }
}
