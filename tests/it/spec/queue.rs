//! Callers that wait for a place, against a model: first come, first served.

use proptest::prelude::*;
use switchback::proto::{QueueFull, Ticket, WaitQueue};

/// A caller's number, and its ticket.
type Waiting = Vec<(u32, Ticket)>;

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave { pick: usize },
    SetWaker { pick: usize },
    Enter { room: usize },
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Join),
        3 => (0_usize..100).prop_map(|pick| Step::Leave { pick }),
        1 => (0_usize..100).prop_map(|pick| Step::SetWaker { pick }),
        4 => (0_usize..12).prop_map(|room| Step::Enter { room }),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 1..150)
}

fn check(queue: &WaitQueue<u32>, waiting: &Waiting, gone: &[Ticket], room: usize) {
    assert_eq!((queue.len(), queue.is_empty()), (waiting.len(), waiting.is_empty()));
    for (at, (_, ticket)) in waiting.iter().enumerate() {
        assert_eq!(queue.may_enter(Some(*ticket), room), at < room, "place {at}, room {room}");
    }
    let newcomer = waiting.len() < room;
    assert_eq!(queue.may_enter(None, room), newcomer, "a newcomer overtakes nobody");
    for ticket in gone {
        assert_eq!(queue.may_enter(Some(*ticket), room), newcomer, "who left is a newcomer");
    }
    let first: Vec<u32> = queue.first(room).copied().collect();
    let expected: Vec<u32> = waiting.iter().take(room).map(|(who, _)| *who).collect();
    assert_eq!(first, expected, "those may enter who are woken");
}

proptest! {
    /// Nobody overtakes: with any room, exactly the first ones may enter and are woken.
    #[test]
    fn the_wait_queue_is_its_model(steps in steps(), max in 0_usize..12) {
        let mut queue = WaitQueue::new(max);
        let (mut waiting, mut gone) = (Waiting::new(), Vec::new());
        let mut next = 0;
        for step in steps {
            let room = if let Step::Enter { room } = step { room } else { 3 };
            match step {
                Step::Join => {
                    let joined = queue.join(next);
                    prop_assert_eq!(joined.is_ok(), waiting.len() < max);
                    match joined {
                        Ok(ticket) => waiting.push((next, ticket)),
                        Err(full) => prop_assert_eq!(full, QueueFull { max }),
                    }
                    next += 2;
                }
                Step::Leave { pick } if !waiting.is_empty() => {
                    let (_, ticket) = waiting.remove(pick % waiting.len());
                    queue.leave(ticket);
                    queue.leave(ticket);
                    gone.push(ticket);
                }
                Step::SetWaker { pick } if !waiting.is_empty() => {
                    let at = pick % waiting.len();
                    waiting[at].0 += 1;
                    queue.set_waker(waiting[at].1, waiting[at].0);
                }
                Step::Enter { room } => {
                    let mut expected: Vec<u32> =
                        waiting.iter().take(room).map(|(who, _)| *who).collect();
                    // Whoever may enter takes a place, asked in the worst order: last first.
                    for left in (1..=room).rev() {
                        let mut asked = waiting.iter().rev();
                        let may = asked.find(|(_, of)| queue.may_enter(Some(*of), left));
                        let Some((who, ticket)) = may.copied() else { break };
                        queue.leave(ticket);
                        waiting.retain(|known| known.1 != ticket);
                        gone.push(ticket);
                        let at = expected.iter().position(|known| *known == who);
                        expected.remove(at.expect("only one of the first enters"));
                    }
                    prop_assert_eq!(expected, [0; 0], "the first of the queue, and nobody else");
                }
                Step::Clear => {
                    let all: Vec<u32> = queue.clear().collect();
                    let expected: Vec<u32> = waiting.iter().map(|(who, _)| *who).collect();
                    prop_assert_eq!(all, expected);
                    gone.extend(waiting.drain(..).map(|(_, ticket)| ticket));
                }
                Step::Leave { .. } | Step::SetWaker { .. } => {}
            }
            check(&queue, &waiting, &gone, room);
        }
    }
}
