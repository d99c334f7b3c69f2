//! The two clients behind one face: an old program and a new one make the same calls.

use switchback::{CallError, Channel};

use crate::World;
use crate::contract::{CallKey, Download, DownloadV1, Execution, Find};
use crate::contract::{PackagesClient, PackagesError, PackagesV1Client, two_fields};
use crate::packages::Field;

/// A client of either world.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Knows version 1 alone.
    V1(PackagesV1Client),
    /// Knows both.
    V2(PackagesClient),
}

/// An answer, whichever its version.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Who gave it.
    pub(crate) by: Execution,
    /// The record: name and version alone if it came in version 1.
    pub(crate) fields: Vec<Field>,
    /// Of a download: copies of the package counted so far.
    pub(crate) total: Option<u64>,
}

impl Caller {
    /// A client over this channel.
    pub(crate) const fn new(world: World, channel: Channel) -> Self {
        match world {
            World::V1 => Self::V1(PackagesV1Client::new(channel)),
            World::V2 => Self::V2(PackagesClient::new(channel)),
        }
    }

    /// Looks a package up.
    ///
    /// # Errors
    /// As the call's.
    pub(crate) async fn find(
        &self,
        key: CallKey,
        name: String,
    ) -> Result<Answer, CallError<PackagesError>> {
        let request = Find { key, name };
        match self {
            Self::V1(client) => {
                let found = client.find(request).await?;
                let fields = two_fields(found.name, found.version);
                Ok(Answer { by: found.by, fields, total: None })
            }
            Self::V2(client) => {
                let found = client.find(request).await?;
                Ok(Answer { by: found.by, fields: found.fields, total: None })
            }
        }
    }

    /// Downloads one copy.
    ///
    /// # Errors
    /// As the call's.
    pub(crate) async fn download(
        &self,
        key: CallKey,
        name: String,
    ) -> Result<Answer, CallError<PackagesError>> {
        match self {
            Self::V1(client) => {
                let receipt = client.download(DownloadV1 { key, name }).await?;
                let fields = two_fields(receipt.name, receipt.version);
                Ok(Answer { by: receipt.by, fields, total: Some(receipt.total) })
            }
            Self::V2(client) => {
                let receipt = client.download(Download { key, name, copies: 1 }).await?;
                let total = Some(receipt.total);
                Ok(Answer { by: receipt.by, fields: receipt.fields, total })
            }
        }
    }
}
