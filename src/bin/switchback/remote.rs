//! A server at the other end of an address, and what it says it serves.
//!
//! Built-in services are asked in bincode, and in JSON if the server lacks that: a peer in another
//! language may have JSON alone. A server without reflection still says on every connection which
//! numbers and versions it serves.

use std::collections::BTreeMap;

use switchback::builtin::{DescribedMethod, ListedMethod, NotDescribed};
use switchback::client::{CountersClient, ReflectionClient};
use switchback::policy::RetryPolicy;
use switchback::wire::{MethodId, MethodRow};
use switchback::{CallError, Channel, ClientConfig, Code, Codec};

use crate::args::ServerArgs;
use crate::failure::Failure;

/// A server that answered.
#[derive(Debug)]
pub(crate) struct Remote {
    /// As a URL.
    pub(crate) address: String,
    /// The build it says it is; may be empty.
    pub(crate) build: String,
    channel: Channel,
    /// Connected if it is used.
    json: Channel,
}

/// What a server serves.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// By id.
    pub(crate) methods: Vec<KnownMethod>,
    /// Whether the server has reflection, so that names are known.
    pub(crate) is_reflected: bool,
}

/// A method that a server serves.
#[derive(Clone, Debug)]
pub(crate) struct KnownMethod {
    /// `"service/method"`, if it is known.
    pub(crate) name: Option<String>,
    pub(crate) id: MethodId,
    pub(crate) ceiling: u16,
    /// Ascending.
    pub(crate) versions: Vec<KnownVersion>,
}

/// One of its versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownVersion {
    pub(crate) version: u16,
    pub(crate) is_callable: bool,
    /// 64 bits; 0: not known.
    pub(crate) fingerprint: u64,
    /// `None`: nobody said.
    pub(crate) idempotent: Option<bool>,
}

impl Remote {
    /// Connects.
    pub(crate) async fn connect(args: &ServerArgs) -> Result<Self, Failure> {
        let address = url(&args.address);
        let open = |codec| {
            let mut builder = Channel::builder().config(config(args)).codec(codec);
            if args.insecure {
                builder = builder.insecure_plaintext();
            }
            builder.lazy(&address).map_err(|error| Failure::connection(&address, &error))
        };
        let (channel, json) = (open(Codec::BINCODE)?, open(Codec::JSON)?);
        let build = channel.server_build().await;
        let build = build.map_err(|error| Failure::connection(&address, &error))?;
        Ok(Self { address, build, channel, json })
    }

    /// The channel for raw calls.
    pub(crate) const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What it serves: from its reflection, else from what it says on its connection.
    pub(crate) async fn catalog(&self) -> Result<Catalog, Failure> {
        let listed = match ReflectionClient::new(self.channel.clone()).methods().await {
            Err(error) if is_codec(&error) => {
                ReflectionClient::new(self.json.clone()).methods().await
            }
            listed => listed,
        };
        match listed {
            Ok(methods) => {
                let methods = methods.into_iter().map(KnownMethod::from).collect();
                Ok(Catalog { methods, is_reflected: true })
            }
            Err(CallError::Rpc(status)) if status.code() == Code::UNKNOWN_METHOD => {
                let rows = self.channel.server_methods().await;
                let rows = rows.map_err(|error| Failure::connection(&self.address, &error))?;
                let methods = rows.iter().map(KnownMethod::from).collect();
                Ok(Catalog { methods, is_reflected: false })
            }
            Err(error) => Err(Failure::built_in("switchback.Reflection/list", &error)),
        }
    }

    /// The contract of one version; `None` if the server does not describe its methods.
    pub(crate) async fn described(
        &self,
        method: &str,
        version: u16,
    ) -> Result<Option<DescribedMethod>, Failure> {
        let ask =
            |channel: &Channel| ReflectionClient::new(channel.clone()).describe(method, version);
        let described = match ask(&self.channel).await {
            Err(error) if is_codec(&error) => ask(&self.json).await,
            described => described,
        };
        match described {
            Ok(described) => Ok(Some(described)),
            Err(CallError::Rpc(status)) if status.code() == Code::UNKNOWN_METHOD => Ok(None),
            Err(CallError::App(NotDescribed::NoSuchMethod | NotDescribed::NoSuchVersion(_))) => {
                let what = format!("{method} version {version} is no longer served");
                Err(Failure::server(&what).do_this(Some("it was a moment ago: try again")))
            }
            Err(error) => Err(Failure::built_in("switchback.Reflection/describe", &error)),
        }
    }

    /// How often each (method, version) was started; nothing if the server does not tell.
    pub(crate) async fn counted(&self) -> Result<BTreeMap<(String, u16), u64>, Failure> {
        let read = match CountersClient::new(self.channel.clone()).read().await {
            Err(error) if is_codec(&error) => CountersClient::new(self.json.clone()).read().await,
            read => read,
        };
        match read {
            Ok(page) => {
                let rows = page.methods.into_iter();
                Ok(rows.map(|row| ((row.name, row.version), row.started)).collect())
            }
            Err(CallError::Rpc(status)) if status.code() == Code::UNKNOWN_METHOD => {
                Ok(BTreeMap::new())
            }
            Err(error) => Err(Failure::built_in("switchback.Counters/read", &error)),
        }
    }

    /// Whether a service is serving, `""` for the server.
    pub(crate) async fn health(
        &self,
        service: &str,
    ) -> Result<switchback::builtin::ServingState, CallError<std::convert::Infallible>> {
        use switchback::client::HealthClient;
        let checked = match HealthClient::new(self.channel.clone()).check(service).await {
            Err(error) if is_codec(&error) => {
                HealthClient::new(self.json.clone()).check(service).await
            }
            checked => checked,
        };
        checked.map(|health| health.state)
    }
}

impl Catalog {
    /// The method with this name.
    pub(crate) fn find(&self, name: &str) -> Option<&KnownMethod> {
        let id = MethodId::of(name);
        let is_it = |method: &&KnownMethod| match &method.name {
            Some(known) => known == name,
            None => method.id == id,
        };
        self.methods.iter().find(is_it)
    }
}

impl KnownMethod {
    /// The highest version that may be called.
    pub(crate) fn newest(&self) -> Option<KnownVersion> {
        self.versions.iter().rev().find(|version| version.is_callable).copied()
    }
}

impl From<ListedMethod> for KnownMethod {
    fn from(listed: ListedMethod) -> Self {
        let version = |version: &switchback::builtin::ListedVersion| KnownVersion {
            version: version.version,
            is_callable: version.callable,
            fingerprint: version.fingerprint,
            idempotent: Some(version.idempotent),
        };
        Self {
            id: MethodId(listed.id),
            ceiling: listed.ceiling,
            versions: listed.versions.iter().map(version).collect(),
            name: Some(listed.name),
        }
    }
}

impl From<&MethodRow> for KnownMethod {
    fn from(row: &MethodRow) -> Self {
        let version = |version: &switchback::wire::VersionRow| KnownVersion {
            version: version.version,
            is_callable: row.is_callable(version.version),
            fingerprint: version.fingerprint,
            idempotent: None,
        };
        let mut built_in = BUILT_IN.iter().filter(|name| MethodId::of(name) == row.method);
        Self {
            name: built_in.next().map(|name| (*name).to_owned()),
            id: row.method,
            ceiling: row.ceiling,
            versions: row.versions.iter().map(version).collect(),
        }
    }
}

/// Settings of a channel of this program: a failure is told, not tried again.
pub(crate) fn config(args: &ServerArgs) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.call_timeout = args.timeout;
    config.connect_timeout = config.connect_timeout.min(args.timeout);
    config.handshake_timeout = config.handshake_timeout.min(args.timeout);
    config.build = concat!("switchback ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut retry = RetryPolicy::default();
    retry.attempts_max = 1;
    config.retry = retry;
    config
}

/// The address with its scheme: people write host:port.
pub(crate) fn url(address: &str) -> String {
    match address.contains("://") {
        true => address.to_owned(),
        false if address.starts_with('/') => format!("unix://{address}"),
        false => format!("tcp://{address}"),
    }
}

fn is_codec<E>(error: &CallError<E>) -> bool {
    let status = error.status();
    status.is_some_and(|status| {
        status.code() == Code::UNSUPPORTED_CODEC && status.codecs().contains(&Codec::JSON.id())
    })
}

/// Known without reflection (BI-1).
const BUILT_IN: [&str; 4] = [
    "switchback.Counters/read",
    "switchback.Health/check",
    "switchback.Reflection/describe",
    "switchback.Reflection/list",
];
