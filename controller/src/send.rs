//! One write to the API server.

use std::time::Duration;

use fairlead_crds::api;
use fairlead_crds::resolve::Kind;
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{PartialObjectMeta, Resource};
use kube::{Client, Error};

use crate::writer::{Answer, Target, Write};

/// Who writes, in `managedFields`.
pub const FIELD_MANAGER: &str = "fairlead-controller";

/// Sends a merge patch to the `status` subresource and says how it went. Ends within [`REQUEST_TIMEOUT`].
pub async fn send(client: Client, target: &Target, write: &Write) -> Answer {
    let result = match target {
        Target::Service(key) => {
            patch(Api::<PartialObjectMeta<Service>>::namespaced(client, &key.namespace), &key.name, write)
                .await
        }
        Target::Claim(key) => {
            patch(
                Api::<PartialObjectMeta<api::IPClaim>>::namespaced(client, &key.namespace),
                &key.name,
                write,
            )
            .await
        }
        Target::Finalizers(object) => {
            let api = cluster::<api::IPAddressPool>(client);
            let parameters =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let body = Patch::Merge(&write.body);
            match tokio::time::timeout(REQUEST_TIMEOUT, api.patch(&object.name, &parameters, &body)).await {
                Ok(result) => result.map(|pool| pool.metadata.resource_version.unwrap_or_default()),
                Err(late) => Err(Error::Service(Box::new(late))),
            }
        }
        Target::Object(object) => {
            let name = object.name.as_str();
            match object.kind {
                Kind::IPAddressPool => patch(cluster::<api::IPAddressPool>(client), name, write).await,
                Kind::L2Advertisement => patch(cluster::<api::L2Advertisement>(client), name, write).await,
                Kind::BGPAdvertisement => patch(cluster::<api::BGPAdvertisement>(client), name, write).await,
                Kind::BGPPeer => patch(cluster::<api::BGPPeer>(client), name, write).await,
                Kind::BFDProfile => patch(cluster::<api::BFDProfile>(client), name, write).await,
                Kind::Community => patch(cluster::<api::Community>(client), name, write).await,
            }
        }
    };
    match result {
        Ok(version) => Answer::Written(version),
        Err(error) => {
            let answer = classify(&error);
            let error = chain(&error);
            match answer {
                Answer::Conflict | Answer::Gone => tracing::debug!(?target, %error, "write is out of date"),
                Answer::Invalid => tracing::error!(?target, %error, "the API server refuses a write"),
                _ => tracing::debug!(?target, %error, "write failed; it will be tried again"),
            }
            answer
        }
    }
}

/// Only metadata of the answer is read.
fn cluster<K: Resource<DynamicType = ()>>(client: Client) -> Api<PartialObjectMeta<K>> {
    Api::all_with(client, &())
}

async fn patch<K>(api: Api<PartialObjectMeta<K>>, name: &str, write: &Write) -> Result<String, Error>
where
    K: Resource<DynamicType = ()>,
{
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = Patch::Merge(&write.body);
    match tokio::time::timeout(REQUEST_TIMEOUT, api.patch_status(name, &parameters, &body)).await {
        Ok(result) => Ok(result?.metadata.resource_version.unwrap_or_default()),
        Err(late) => Err(Error::Service(Box::new(late))),
    }
}

/// What an error means for the write.
fn classify(error: &Error) -> Answer {
    let Error::Api(status) = error else {
        // No answer: refused, reset, timed out.
        return Answer::Unavailable(None);
    };
    let retry_after = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
    let retry_after = retry_after.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    match status.code {
        404 | 410 => Answer::Gone,
        409 => Answer::Conflict,
        400 | 413 | 415 | 422 => Answer::Invalid,
        429 | 503 | 504 => Answer::Unavailable(retry_after),
        // Also 401 and 403: permissions may come later.
        _ => Answer::Failed,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn answers_of_the_api_server() {
        for (code, answer) in [
            (404, Answer::Gone),
            (409, Answer::Conflict),
            (422, Answer::Invalid),
            (429, Answer::Unavailable(None)),
            (503, Answer::Unavailable(None)),
            (500, Answer::Failed),
            (403, Answer::Failed),
        ] {
            let error = Error::Api(Box::new(Status { code, ..Status::default() }));
            assert_eq!(classify(&error), answer, "{code}");
        }
        assert_eq!(classify(&Error::Service("connection refused".into())), Answer::Unavailable(None));
    }
}
