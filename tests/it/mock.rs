//! `#[service(mock)]`: a mock answers as the test says, by the way of real calls.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::testing::Faults;
use switchback::{CallError, Code, Cx, Disposition, Schema, Server, Status};

use crate::support::{assert_status, now};

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Transfer {
    pub(crate) cents: u64,
    pub(crate) memo: String,
}

/// Version 1 had no memo.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct TransferV1 {
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Receipt {
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) enum LedgerError {
    Overdrawn { missing_cents: u64 },
}

impl From<TransferV1> for Transfer {
    fn from(old: TransferV1) -> Self {
        Self { cents: old.cents, memo: "(none)".to_owned() }
    }
}

impl TryFrom<Transfer> for TransferV1 {
    type Error = &'static str;

    fn try_from(new: Transfer) -> Result<Self, Self::Error> {
        if new.memo == "(none)" {
            Ok(Self { cents: new.cents })
        } else {
            Err("no memos in version 1")
        }
    }
}

#[switchback::service(name = "it.MockLedger", mock)]
pub(crate) trait Ledger {
    /// Moves money.
    #[rpc(version = 2, idempotent)]
    #[compat(1, req = TransferV1)]
    async fn transfer(&self, cx: &Cx, req: Transfer) -> Result<Receipt, LedgerError>;

    /// Cannot fail.
    #[rpc(version = 1, blocking)]
    fn count(&self, cx: &Cx, req: u8) -> u64;

    /// Fails with a status.
    #[rpc(version = 1)]
    async fn audit(&self, cx: &Cx, req: ()) -> Result<String, Status>;

    #[cfg(any())]
    #[rpc(version = 1)]
    async fn left_out(&self, cx: &Cx, req: Unknown) -> Unknown;
}

fn transfer(cents: u64) -> Transfer {
    Transfer { cents, memo: "rent".to_owned() }
}

/// Each shape of method answers, errors of the method's own and statuses included; calls are
/// counted.
#[tokio::test(start_paused = true)]
async fn answers_are_what_the_test_says() {
    let mock = LedgerMock::new()
        .transfer(|req: Transfer| match req.cents {
            0..=99 => Ok(Receipt { cents: req.cents }),
            cents => Err(CallError::App(LedgerError::Overdrawn { missing_cents: cents - 99 })),
        })
        .count(|req| u64::from(req) * 2)
        .audit(|()| Err(Status::new(Code::PERMISSION_DENIED, "not you")));
    let ledger = mock.client();

    assert_eq!(ledger.transfer(transfer(7)).await, Ok(Receipt { cents: 7 }));
    let overdrawn = ledger.transfer(transfer(100)).await.unwrap_err();
    assert_eq!(overdrawn, CallError::App(LedgerError::Overdrawn { missing_cents: 1 }));
    assert_eq!(ledger.count(21).await, Ok(42));
    let denied = ledger.audit(()).await;
    let status = assert_status(denied, Code::PERMISSION_DENIED, Disposition::Processed);
    assert_eq!(status.message(), "not you");
    assert_eq!(["transfer", "count", "audit"].map(|method| mock.calls(method)), [2, 1, 1]);
}

/// A method without an answer says which; an answer that is set later is used by clients that are
/// connected already.
#[tokio::test(start_paused = true)]
async fn what_has_no_answer_says_so() {
    let mock = LedgerMock::new();
    let ledger = mock.client();
    let unanswered = ledger.transfer(transfer(1)).await;
    let status = assert_status(unanswered, Code::UNIMPLEMENTED, Disposition::Processed);
    assert!(status.message().contains("it.MockLedger/transfer"), "{status}");
    assert_eq!(mock.calls("transfer"), 1);

    let _same = mock.clone().transfer(|req| Ok(Receipt { cents: req.cents }));
    assert_eq!(ledger.transfer(transfer(2)).await, Ok(Receipt { cents: 2 }));
    let _same = mock.clone().transfer(|_| Ok(Receipt { cents: 0 }));
    assert_eq!(ledger.transfer(transfer(3)).await, Ok(Receipt { cents: 0 }));
    assert_eq!(mock.calls("transfer"), 3);
}

/// A misspelt method is a mistake of the test, and told there.
#[test]
#[should_panic(expected = "LedgerMock has no method \"trnasfer\"")]
fn a_misspelt_method_is_told() {
    let _ = LedgerMock::new().calls("trnasfer");
}

/// Old clients meet the mock in their version, through the conversions of the contract: shown by a
/// mock that has version 1 alone left, and a memo that version 1 cannot say.
#[tokio::test(start_paused = true)]
async fn versions_are_those_of_the_contract() {
    let mock = LedgerMock::new().transfer_with(|cx: Cx, req: Transfer| async move {
        Ok(Receipt { cents: req.cents + u64::from(cx.version()) * 1000 })
    });
    let server = Server::new().service(mock.clone()).bind("mem://").await.unwrap();
    let (url, dispatch) = (server.url(), server.dispatch());
    tokio::spawn(server.serve_until(std::future::pending()));
    let ledger = LedgerClient::connect(&url).await.unwrap();
    assert_eq!(ledger.transfer(transfer(1)).await, Ok(Receipt { cents: 2001 }));

    dispatch.set_ceiling("it.MockLedger/transfer", Some(1)).unwrap();

    let old = Transfer { cents: 1, memo: "(none)".to_owned() };
    assert_eq!(ledger.transfer(old).await, Ok(Receipt { cents: 1001 }));
    let refused = ledger.transfer(transfer(1)).await.unwrap_err();
    let CallError::Rpc(refused) = refused else { panic!("{refused:?}") };
    assert!(refused.message().contains("no memos in version 1"), "{refused}");
    assert_eq!(mock.calls("transfer"), 2);
}

/// An answer may wait, on virtual time, past a deadline, that of a blocking method too; and a mock
/// outlives the end of its connections: a day later it answers.
#[tokio::test(start_paused = true)]
async fn time_takes_no_time() {
    let mock = LedgerMock::new()
        .transfer_with(|_, req| async move {
            tokio::time::sleep(Duration::from_secs(req.cents)).await;
            Ok(Receipt { cents: req.cents })
        })
        .count_with(|_, n| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            u64::from(n)
        });
    let ledger = mock.client();
    let begun = now();
    assert_eq!(ledger.transfer(transfer(9)).await, Ok(Receipt { cents: 9 }));
    assert_status(
        ledger.transfer(transfer(11)).await.map_err(|error| match error {
            CallError::Rpc(status) => CallError::<()>::Rpc(status),
            CallError::App(_) => CallError::App(()),
        }),
        Code::DEADLINE_EXCEEDED,
        Disposition::Maybe,
    );
    assert_eq!(ledger.count(3).await, Ok(3));
    assert!((20_000..20_100).contains(&(now() - begun).as_millis()));

    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(ledger.transfer(transfer(0)).await, Ok(Receipt { cents: 0 }));
}

/// A panic in an answer costs that call, as a handler's does; the next is answered.
#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_call() {
    let mock = LedgerMock::new().count(|n| u64::from(n.checked_sub(1).unwrap()));
    let ledger = mock.client();
    let status = ledger.count(0).await.unwrap_err();
    assert!(
        matches!(&status, CallError::Rpc(status) if status.code() == Code::INTERNAL),
        "{status}"
    );
    assert_eq!(ledger.count(1).await, Ok(0));
}

/// A mock may be served behind faults: a call that is idempotent survives a cut, by a retry.
#[tokio::test(start_paused = true)]
async fn a_mock_may_stand_behind_faults() {
    let faults = Faults::seeded(3);
    let mock = LedgerMock::new().transfer_with({
        let faults = faults.clone();
        move |cx, req| {
            let faults = faults.clone();
            async move {
                if cx.attempt() == 0 {
                    faults.cut();
                }
                Ok(Receipt { cents: req.cents })
            }
        }
    });
    let server = Server::new().service(mock.clone()).bind("mem://").await.unwrap();
    let connector = faults.connector_to(&server.url()).unwrap();
    tokio::spawn(server.serve_until(std::future::pending()));
    let ledger = LedgerClient::new(switchback::Channel::builder().transport(connector).unwrap());

    assert_eq!(ledger.transfer(transfer(5)).await, Ok(Receipt { cents: 5 }));
    assert_eq!((mock.calls("transfer"), faults.begun()), (2, 2));
}
