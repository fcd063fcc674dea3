//! Object stores by their URLs.

use object_store::ObjectStore;
use stratalog_proto::{Code, Error};
use url::Url;

/// Who runs a store, by the scheme of its URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Amazon, and whatever speaks S3.
    S3,
    Google,
    Azure,
}

impl Provider {
    /// `None` for a scheme that is none of theirs.
    pub(crate) fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Provider::S3),
            "gs" => Some(Provider::Google),
            "az" => Some(Provider::Azure),
            _ => None,
        }
    }

    /// The variables of the environment to look at first.
    pub(crate) fn variables(self) -> &'static str {
        match self {
            Provider::S3 => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT",
            Provider::Google => "GOOGLE_APPLICATION_CREDENTIALS",
            Provider::Azure => "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
        }
    }

    /// What to do about an error of a store.
    pub(crate) fn advice(self, error: &object_store::Error) -> String {
        use object_store::Error;
        let variables = self.variables();
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                format!(
                    "; look at the credentials ({variables}) and at whether they may list, read, write and remove there"
                )
            }
            Error::NotFound { .. } => "; is there such a bucket?".to_owned(),
            Error::NotImplemented { .. } | Error::NotSupported { .. } => {
                "; take a store that writes an object only if there is none of its name".to_owned()
            }
            _ => format!("; see that the store can be reached ({variables}), and try it again"),
        }
    }
}

/// The store of a URL, with credentials and endpoint of the environment.
///
/// # Errors
/// [`Code::InvalidConfig`] for a URL that names no bucket, or more than that and a path; for an environment that does not
/// suffice; and in a build that has no object stores.
pub(crate) fn connect(provider: Provider, url: &Url) -> Result<Box<dyn ObjectStore>, Error> {
    // Not the URL itself: what should not be in it may be a secret.
    let invalid = |what: &str| Error::new(Code::InvalidConfig, format!("the URL of an object store {what}"));
    if !url.username().is_empty() || url.password().is_some() {
        let message = format!("has no credentials: they belong into the environment ({})", provider.variables());
        return Err(invalid(&message));
    }
    if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
        return Err(invalid("names a bucket and a path, and nothing else"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("names a bucket: s3://BUCKET/PATH"));
    }
    built::store(provider, url)
}

#[cfg(feature = "cloud")]
mod built {
    use std::time::Duration;

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
    use stratalog_proto::{Code, Error};
    use url::Url;

    use super::Provider;

    /// How long one request may take, unless the environment says it: no object travels in pieces above 8 MiB.
    const REQUEST: &str = "60s";
    /// How long a request is tried again, and how often at most.
    const RETRY_FOR: Duration = Duration::from_secs(90);
    const RETRIES: usize = 30;
    const BACKOFF: BackoffConfig =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(10), base: 4. };

    pub(super) fn store(provider: Provider, url: &Url) -> Result<Box<dyn ObjectStore>, Error> {
        let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_FOR };
        let unless_set = |variable: &str| std::env::var_os(variable).is_none();
        let built: Result<Box<dyn ObjectStore>, object_store::Error> = match provider {
            Provider::S3 => {
                let mut builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
                if unless_set("AWS_TIMEOUT") {
                    builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST);
                }
                builder.build().map(|store| Box::new(store) as _)
            }
            Provider::Google => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry);
                if unless_set("GOOGLE_TIMEOUT") {
                    builder = builder.with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), REQUEST);
                }
                builder.build().map(|store| Box::new(store) as _)
            }
            Provider::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry);
                if unless_set("AZURE_TIMEOUT") {
                    builder = builder.with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), REQUEST);
                }
                builder.build().map(|store| Box::new(store) as _)
            }
        };
        built.map_err(|error| {
            let message = format!("cannot use {url}: {error}; look at the environment ({})", provider.variables());
            Error::new(Code::InvalidConfig, message)
        })
    }
}

#[cfg(not(feature = "cloud"))]
mod built {
    use object_store::ObjectStore;
    use stratalog_proto::{Code, Error};
    use url::Url;

    use super::Provider;

    pub(super) fn store(_: Provider, url: &Url) -> Result<Box<dyn ObjectStore>, Error> {
        let message = format!(
            "cannot use {url}: this binary was built without object stores; take one that was built with the feature \
             `cloud`, or name a directory"
        );
        Err(Error::new(Code::InvalidConfig, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(url: &str) -> Result<Box<dyn ObjectStore>, Error> {
        let url = Url::parse(url).unwrap();
        connect(Provider::of_scheme(url.scheme()).unwrap(), &url)
    }

    #[test]
    fn a_url_has_no_secrets_and_they_are_not_repeated() {
        for url in ["s3://me:secret@bucket/x", "s3://secret@bucket", "gs://bucket/x?secret", "az://bucket#secret"] {
            let refused = tried(url).unwrap_err();
            assert_eq!(refused.code, Code::InvalidConfig);
            assert!(!refused.message.contains("secret"), "{refused}");
        }
        assert!(tried("s3:///x").unwrap_err().message.contains("names a bucket"));
        assert!(Provider::of_scheme("http").is_none());
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn a_store_is_made_of_its_url_and_the_environment() {
        assert!(tried("s3://bucket/some/path").is_ok());
        let refused = tried("az://container/path").unwrap_err();
        assert!(refused.message.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{refused}");
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn a_build_without_stores_says_so() {
        for url in ["s3://bucket", "gs://bucket/x", "az://container/x"] {
            let refused = tried(url).unwrap_err();
            assert!(refused.code == Code::InvalidConfig && refused.message.contains("built without"), "{refused}");
        }
    }
}
