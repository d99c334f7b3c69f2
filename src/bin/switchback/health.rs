//! `switchback health`: whether calls are welcome, for scripts and orchestrators.

use switchback::builtin::ServingState;
use switchback::{CallError, Code};

use crate::args::ServerArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, clean};
use crate::remote::Remote;

/// Yes if it is serving.
pub(crate) async fn run(args: &ServerArgs, service: &str) -> Result<Answer, Failure> {
    let remote = Remote::connect(args).await?;
    let state = match remote.health(service).await {
        Ok(state) => state,
        Err(CallError::Rpc(status)) if status.code() == Code::UNKNOWN_METHOD => {
            let what = format!("{} has no health service", clean(&remote.address));
            let hint = "serve it with `Server::health`; it is connected, so it lives";
            return Err(Failure::server(&what).do_this(Some(hint)));
        }
        Err(error) => return Err(Failure::built_in("switchback.Health/check", &error)),
    };
    let (word, json) = match state {
        ServingState::Serving => ("serving", "Serving"),
        ServingState::NotServing => ("not serving", "NotServing"),
        ServingState::Unknown => ("not known to this server", "Unknown"),
    };
    let what = if service.is_empty() { remote.address.as_str() } else { service };
    let document = serde_json::json!({
        "address": remote.address, "service": service, "state": json,
    });
    let exit = (state != ServingState::Serving).then_some(Exit::No);
    let text = format!("{}: {word}\n", clean(what));
    Ok(Answer { text, json: Answer::json(&document)?, exit })
}
