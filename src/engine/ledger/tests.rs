//! The ledger beside a list of all that was noted, and brokers that were met.

use super::*;

fn connected() -> Ledger {
    let mut ledger = Ledger::new(10);
    assert!(!ledger.connected(false));
    ledger
}

fn reopened(ledger: &mut Ledger, whole: bool) -> Ledger {
    let mut out = Encoder::new();
    if whole {
        ledger.snapshot(&mut out);
    } else {
        ledger.seal(&mut out);
    }
    let mut restored = Ledger::new(10);
    restored
        .restore(&mut Decoder::new(out.as_slice()))
        .expect("what was written can be read");
    restored
}

#[test]
fn a_redelivery_after_a_crash_is_a_duplicate_only_if_all_agrees() {
    for whole in [false, true] {
        let mut before = connected();
        assert_eq!(before.judge(false, 1, 100), Verdict::New);
        let mut after = reopened(&mut before, whole);
        assert!(!after.connected(true));
        assert_eq!(after.judge(true, 1, 100), Verdict::Duplicate);
        assert_eq!(
            after.judge(true, 1, 100),
            Verdict::Duplicate,
            "again, after another cut"
        );
        assert_eq!(after.judge(true, 2, 100), Verdict::New, "never committed");
        assert_eq!(after.judge(true, 1, 101), Verdict::New, "other bytes");
        assert_eq!(
            after.judge(false, 1, 101),
            Verdict::New,
            "not marked as repeated"
        );
    }
}

#[test]
fn each_of_the_bits_that_are_kept_tells_publishes_apart() {
    for bit in 0..32 {
        let mut before = connected();
        before.judge(false, 1, 7);
        let mut after = reopened(&mut before, false);
        after.connected(true);
        assert_eq!(after.judge(true, 1, 7 ^ 1 << bit), Verdict::New, "{bit}");
    }
}

#[test]
fn ids_come_back_in_whatever_order_they_are() {
    let ids = [5, 6, 7, 65_534, 65_535, 1, 2, 40_000, 8, 3];
    for whole in [false, true] {
        let mut before = connected();
        for (id, hash) in ids.into_iter().zip(100..) {
            assert_eq!(before.judge(false, id, hash), Verdict::New);
        }
        let mut after = reopened(&mut before, whole);
        assert!(!after.connected(true));
        for (id, hash) in ids.into_iter().zip(100..) {
            assert_eq!(after.judge(true, id, hash), Verdict::Duplicate, "{id}");
        }
    }
}

#[test]
fn ids_that_count_up_cost_a_byte_each_and_the_same_one() {
    let mut ledger = connected();
    for id in 20_001..=21_000 {
        ledger.judge(false, id, u64::MAX);
    }
    let mut out = Encoder::new();
    assert!(ledger.seal(&mut out));
    let beside_hashes = out.len() - HASH_BYTES * 1_000;
    assert!(beside_hashes < 1_020, "{beside_hashes}");
    let bytes = out.as_slice().iter();
    let zeros: usize = bytes.map(|byte| usize::from(*byte == 0)).sum();
    assert!(zeros >= 999, "{zeros}");
}

#[test]
fn a_backlog_that_is_sent_again_and_again_pushes_nothing_out() {
    // Ten thousand publishes in doubt; each life reads the first two thousand again and is killed.
    let mut ledger = connected();
    for id in 1..=10_000 {
        ledger.judge(false, id, 7);
    }
    for _ in 0..40 {
        ledger = reopened(&mut ledger, true);
        ledger.connected(true);
        for id in 1..=2_000 {
            assert_eq!(ledger.judge(true, id, 7), Verdict::Duplicate);
        }
    }
    for id in 1..=10_000 {
        assert_eq!(ledger.judge(true, id, 7), Verdict::Duplicate, "{id}");
    }
}

#[test]
fn a_lost_session_empties_the_ledger() {
    let mut ledger = connected();
    ledger.judge(false, 1, 100);
    assert!(ledger.connected(false), "a known session is lost");
    assert_eq!(ledger.judge(true, 1, 100), Verdict::New);
    let mut after = reopened(&mut ledger, false);
    after.connected(true);
    assert_eq!(after.judge(true, 1, 100), Verdict::Duplicate);
}

#[test]
fn ids_that_are_used_again_at_once_prove_nothing() {
    let mut ledger = connected();
    ledger.judge(false, 1, 100);
    ledger.judge(false, 1, 100);
    assert!(ledger.reuses_ids());
    ledger.connected(true);
    assert_eq!(ledger.judge(true, 1, 100), Verdict::PossibleDuplicate);
}

#[test]
fn a_broker_that_rolled_back_is_not_mistaken_for_one_that_reuses_ids() {
    let mut ledger = connected();
    for id in 1..=5 {
        ledger.judge(false, id, 100);
    }
    ledger.connected(true);
    assert_eq!(
        ledger.judge(false, 3, 100),
        Verdict::New,
        "counts from an older number"
    );
    assert!(!ledger.reuses_ids());
    let mut again = reopened(&mut ledger, false);
    again.connected(true);
    assert_eq!(
        again.judge(true, 4, 100),
        Verdict::New,
        "the same after a crash"
    );
    assert_eq!(
        ledger.judge(true, 4, 100),
        Verdict::New,
        "a new message, its first copy lost"
    );
}

/// A list of all that was noted, looked through from its end.
#[derive(Default)]
struct Naive {
    noted: Vec<(u16, u64, bool)>,
    forgotten: usize,
    connection_began: usize,
    reuses_ids: bool,
    memory: Option<usize>,
}

impl Naive {
    const CLOSE: usize = 3 * 10 + 64;

    fn connected(&mut self, session_present: bool) {
        self.connection_began = self.noted.len();
        self.noted.iter_mut().for_each(|noted| noted.2 = false);
        if !session_present {
            (self.forgotten, self.memory, self.reuses_ids) = (self.noted.len(), None, false);
        }
    }

    fn judge(&mut self, dup: bool, id: u16, hash: u64) -> Verdict {
        let memory = self.memory.unwrap_or(MEMORY as usize);
        let oldest = (self.noted.len() + 1).saturating_sub(memory + 1);
        let known = self.noted.iter().rposition(|noted| noted.0 == id);
        let known = known.filter(|at| *at >= oldest.max(self.forgotten));
        let mut verdict = Verdict::New;
        if let Some(at) = known {
            let distance = self.noted.len() - at;
            match self.noted[at] {
                (_, before, _) if dup && before == hash => {
                    if !self.reuses_ids {
                        self.noted[at].2 = true;
                        return Verdict::Duplicate;
                    }
                    verdict = Verdict::PossibleDuplicate;
                }
                (.., false) => self.forgotten = self.forgotten.max(self.connection_began),
                _ if distance <= Self::CLOSE => self.reuses_ids = true,
                _ => self.memory = Some(memory.min(distance / 2).max(Self::CLOSE)),
            }
        }
        self.noted.push((id, hash, true));
        verdict
    }
}

#[test]
fn it_judges_as_a_list_of_all_would() {
    let mut rng = fastrand::Rng::with_seed(11);
    for ids in [3_u32, 120, 3_000, 65_535] {
        let (mut ledger, mut naive) = (connected(), Naive::default());
        let mut counted = 0;
        let mut seen = [0; 3];
        for _ in 0..70_000 {
            let dup = rng.u8(..3) == 0;
            let id = if dup {
                // One of late.
                (counted + ids - rng.u32(..ids.min(400))) % ids + 1
            } else {
                counted = (counted + 1) % ids;
                counted + 1
            };
            let hash = u64::from(rng.u8(..8) / 7);
            let verdict = ledger.judge(dup, id as u16, hash);
            assert_eq!(verdict, naive.judge(dup, id as u16, hash), "{ids} {id}");
            seen[verdict as usize] += 1;
            if rng.u16(..2_000) == 0 {
                // What is read back is of an earlier connection, and so are both after the next.
                let session_present = rng.u8(..10) > 0;
                ledger = reopened(&mut ledger, true);
                ledger.connected(session_present);
                naive.connected(session_present);
            }
        }
        assert!(seen[0] > 0 && seen[1] + seen[2] > 0, "{ids}: {seen:?}");
    }
}

/// mosquitto 2.0 handed over a backlog of 20,000: the ledger knew the newest 364 of the redeliveries' ids, forgot
/// each before its turn came, and everything was counted again and again.
#[test]
fn a_whole_backlog_in_doubt_is_recognised_in_its_order() {
    for whole in [false, true] {
        let mut before = connected();
        for id in 1..=20_000 {
            assert_eq!(before.judge(false, id, 7), Verdict::New);
        }
        let mut after = reopened(&mut before, whole);
        for _ in 0..3 {
            after.connected(true);
            for id in 1..=20_000 {
                assert_eq!(after.judge(true, id, 7), Verdict::Duplicate, "{id}");
            }
        }
        assert_eq!(after.judge(false, 20_001, 7), Verdict::New);
        assert!(!after.reuses_ids());
    }
}

#[test]
fn what_is_half_of_the_ids_ago_is_forgotten() {
    let mut ledger = connected();
    for round in 0..3_u32 {
        for id in 1..=65_535 {
            assert_eq!(ledger.judge(false, id, 7), Verdict::New, "{round}");
        }
    }
    ledger.connected(true);
    // Sent before, but so long ago that the id stands for another message with the same bytes, whose first copy
    // was lost.
    assert_eq!(ledger.judge(true, 1, 7), Verdict::New);
    assert_eq!(ledger.judge(true, 65_000, 7), Verdict::Duplicate);
    assert!(!ledger.reuses_ids());
}

#[test]
fn a_broker_with_few_ids_is_remembered_for_half_of_them() {
    let mut ledger = connected();
    for _ in 0..2 {
        for id in 1..=1_000 {
            ledger.judge(false, id, 7);
        }
    }
    assert!(!ledger.reuses_ids());
    let snapshot = reopened(&mut ledger, true);
    let delta = reopened(&mut ledger, false);
    for mut ledger in [ledger, snapshot, delta] {
        ledger.connected(true);
        assert_eq!(ledger.judge(true, 400, 7), Verdict::New);
        assert_eq!(ledger.judge(true, 900, 7), Verdict::Duplicate);
    }
}
