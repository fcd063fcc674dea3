//! ApiVersions: what is answered here.

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;

use super::api::{APIS, Api, Request};
use super::connection::Client;
use super::wire::Malformed;

pub(super) fn answer(client: &Client, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: ApiVersionsRequest = request.decode()?;
    client.shown.made_by(&asked.client_software_name, &asked.client_software_version);
    request.encode(&ApiVersionsResponse::default().with_api_keys(APIS.iter().map(versions).collect()))
}

/// The answer to a version of ApiVersions that is not known: one of version 0, which says which are.
pub(super) fn which_are_known() -> Vec<Bytes> {
    let known = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions).map(versions).collect();
    let response =
        ApiVersionsResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()).with_api_keys(known);
    let mut body = BytesMut::new();
    response.encode(&mut body, 0).expect("version 0 can say this");
    vec![body.freeze()]
}

fn versions(api: &Api) -> ApiVersion {
    ApiVersion::default().with_api_key(api.key as i16).with_min_version(api.oldest).with_max_version(api.newest)
}
