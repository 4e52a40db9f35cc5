//! NEXMark: people, auctions and bids 1 : 3 : 46, by the description of its public generator, and its queries q0 to q8.
//!
//! Half of the bids are for one auction in a hundred and three in four by one person in a hundred; an auction is open for
//! about as long as a hundred auctions take to come. Here a thousand events come in a second of event time. The tables that
//! a query reads are all that it is fed, as a broker would.
//!
//! What differs from the queries of its implementation for Flink, and why:
//! - q3 joins each auction with its seller as of the auction: a join without bounds on time would keep all rows for ever, and is
//!   refused. People come before their auctions and do not change, so the rows are the same.
//! - q4 and q6 say an auction's final price when no bid has come for ten seconds, not anew with each bid: there are no rows that
//!   are taken back. q4's averages are those of each ten seconds. q6, the last ten per seller, Flink itself refuses.
//! - q5 and q7 are as they are there: joins of windows with their own maxima, by a window and by bounds on time.

use std::io::Write as _;

use super::input::{Batch, FIRST_MILLIS, Generator, Random};
use super::workload::{Check, Input, Query, Workload};

/// Events in a second of event time, whatever is read of them.
const RATE: u64 = 1_000;
/// Of so many events one is a person, three are auctions.
const CYCLE: u64 = 50;
const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;

/// The tables, by the numbers that their messages carry.
pub(crate) const TABLES: &[&str] = &["person", "auction", "bid"];

/// The tables that are read.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    people: bool,
    auctions: bool,
    bids: bool,
}

impl Tables {
    /// Of each [`CYCLE`] events those that are read.
    fn share(self) -> u64 {
        u64::from(self.people) + 3 * u64::from(self.auctions) + 46 * u64::from(self.bids)
    }

    pub(crate) fn events(self, seconds: u64) -> usize {
        (seconds * RATE / CYCLE * self.share()) as usize
    }

    pub(crate) fn generator(self) -> impl Generator {
        Events {
            tables: self,
            number: 0,
            random: Random(0xbeef),
        }
    }
}

struct Events {
    tables: Tables,
    number: u64,
    random: Random,
}

impl Events {
    fn people(&self) -> u64 {
        self.number / CYCLE + 1
    }

    fn auctions(&self) -> u64 {
        (self.number / CYCLE * 3 + (self.number % CYCLE).min(3)).max(1)
    }

    /// A person: the hot one, or one of the last thousand.
    fn person(&mut self, hot: bool) -> u64 {
        let last = self.people() - 1;
        let among = self.people().min(1_000);
        FIRST_ID
            + if hot {
                last / 100 * 100
            } else {
                last - self.random.below(among)
            }
    }

    fn price(&mut self) -> u64 {
        let exponent = self.random.below(6_000) as f64 / 1_000.0;
        (10_f64.powf(exponent) * 100.0) as u64
    }

    /// Text of no meaning.
    fn filler(&mut self, length: u64) -> String {
        let letters = (0..length).map(|_| char::from(b'a' + self.random.below(26) as u8));
        letters.collect()
    }

    fn write_person(&mut self, millis: u64, batch: &mut Batch) {
        const STATES: [(&str, &str); 6] = [
            ("AZ", "Phoenix"),
            ("CA", "Palo Alto"),
            ("ID", "Boise"),
            ("OR", "Portland"),
            ("WA", "Bend"),
            ("WY", "Cheyenne"),
        ];
        let id = FIRST_ID + self.people() - 1;
        let (state, city) = STATES[self.random.below(6) as usize];
        let (name, card) = (self.filler(10), 1_000 + self.random.below(9_000));
        let extra = self.filler(90);
        batch.push(0, |bytes| {
            let _ = write!(
                bytes,
                r#"{{"id":{id},"name":"{name}","emailAddress":"{name}@example.com","creditCard":"{card} {card} {card} {card}","city":"{city}","state":"{state}","dateTime":{millis},"extra":"{extra}"}}"#
            );
        });
    }

    fn write_auction(&mut self, millis: u64, batch: &mut Batch) {
        let id = FIRST_ID + self.auctions();
        let hot = self.random.below(4) > 0;
        let seller = self.person(hot);
        let category = FIRST_CATEGORY + self.random.below(5);
        let initial = self.price();
        let reserve = initial + self.price();
        // As long as a hundred auctions take on average.
        let expires = millis + 1 + self.random.below(2 * 100 * CYCLE / 3 * 1_000 / RATE);
        let (name, description, extra) = (self.filler(20), self.filler(100), self.filler(200));
        batch.push(1, |bytes| {
            let _ = write!(
                bytes,
                r#"{{"id":{id},"itemName":"{name}","description":"{description}","initialBid":{initial},"reserve":{reserve},"dateTime":{millis},"expires":{expires},"seller":{seller},"category":{category},"extra":"{extra}"}}"#
            );
        });
    }

    fn write_bid(&mut self, millis: u64, batch: &mut Batch) {
        let last = self.auctions();
        let among = last.min(100);
        let auction = FIRST_ID
            + if self.random.below(2) > 0 {
                (last / 100 * 100).max(1)
            } else {
                last - self.random.below(among)
            };
        let hot = self.random.below(4) > 0;
        let (bidder, price, channel) = (self.person(hot), self.price(), self.random.below(4));
        let extra = self.filler(20);
        batch.push(2, |bytes| {
            let _ = write!(
                bytes,
                r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":"channel-{channel}","url":"https://www.example.com/{auction}","dateTime":{millis},"extra":"{extra}"}}"#
            );
        });
    }
}

impl Generator for Events {
    fn write(&mut self, batch: &mut Batch) {
        let Tables {
            people,
            auctions,
            bids,
        } = self.tables;
        loop {
            let millis = FIRST_MILLIS + self.number * 1_000 / RATE;
            let place = self.number % CYCLE;
            let written = batch.len();
            match place {
                0 if people => self.write_person(millis, batch),
                1..=3 if auctions => self.write_auction(millis, batch),
                4.. if bids => self.write_bid(millis, batch),
                _ => {}
            }
            self.number += 1;
            if batch.len() > written {
                return;
            }
        }
    }
}

const OPTIONS: &str = "WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) \
WITH ('connector' = 'filesystem', 'path' = 'nexmark', 'json.timestamp-format.standard' = 'epoch-millis');\n";

/// A pipeline over the tables.
pub(crate) fn pipeline(tables: Tables, script: &str) -> String {
    let mut sql = String::new();
    if tables.people {
        sql += "CREATE TABLE person (id BIGINT, name STRING, `emailAddress` STRING, `creditCard` STRING, city STRING, \
                state STRING, `dateTime` TIMESTAMP(3), extra STRING, ";
        sql += OPTIONS;
    }
    if tables.auctions {
        sql += "CREATE TABLE auction (id BIGINT, `itemName` STRING, description STRING, `initialBid` BIGINT, \
                reserve BIGINT, `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING, ";
        sql += OPTIONS;
    }
    if tables.bids {
        sql += "CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, \
                `dateTime` TIMESTAMP(3), extra STRING, ";
        sql += OPTIONS;
    }
    sql + script
}

const BIDS: Tables = Tables {
    people: false,
    auctions: false,
    bids: true,
};
const PEOPLE_AND_AUCTIONS: Tables = Tables {
    people: true,
    auctions: true,
    bids: false,
};
const AUCTIONS_AND_BIDS: Tables = Tables {
    people: false,
    auctions: true,
    bids: true,
};

const fn one(
    name: &'static str,
    what: &'static str,
    tables: Tables,
    script: &'static str,
) -> Workload {
    Workload {
        name,
        what,
        floor: "scan",
        check: Check::SomeRows,
        input: Input::Nexmark(tables),
        warm_seconds: 20,
        seconds: 20,
        counted_devices: 0,
        memory_devices: 0,
        query: Query::Script(script),
    }
}

/// Its queries.
pub(crate) const WORKLOADS: &[Workload] = &[
    one(
        "nexmark-q0",
        "pass through",
        BIDS,
        "CREATE TABLE o (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3), extra STRING) WITH ('connector' = 'print');
         INSERT INTO o SELECT auction, bidder, price, `dateTime`, extra FROM bid;",
    ),
    one(
        "nexmark-q1",
        "prices in another currency",
        BIDS,
        "CREATE TABLE o (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), at TIMESTAMP(3), extra STRING)
           WITH ('connector' = 'print');
         INSERT INTO o SELECT auction, bidder, 0.908 * price, `dateTime`, extra FROM bid;",
    ),
    one(
        "nexmark-q2",
        "bids for certain auctions",
        BIDS,
        "CREATE TABLE o (auction BIGINT, price BIGINT) WITH ('connector' = 'print');
         INSERT INTO o SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0;",
    ),
    Workload {
        warm_seconds: 100,
        seconds: 250,
        ..one(
            "nexmark-q3",
            "who sells in three states; the seller as of the auction instead of a join without bounds",
            PEOPLE_AND_AUCTIONS,
            "CREATE TABLE o (name STRING, city STRING, state STRING, id BIGINT) WITH ('connector' = 'print');
             INSERT INTO o SELECT p.name, p.city, p.state, a.id
             FROM auction AS a JOIN person FOR SYSTEM_TIME AS OF a.`dateTime` AS p ON a.seller = p.id
             WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA');",
        )
    },
    one(
        "nexmark-q4",
        "average final price by category; each ten seconds, of auctions without a bid for ten seconds",
        AUCTIONS_AND_BIDS,
        "CREATE TABLE o (category BIGINT, at TIMESTAMP(3), price BIGINT) WITH ('connector' = 'print');
         CREATE VIEW inside AS SELECT a.id, a.category, b.price, b.`dateTime` AS ts
           FROM auction AS a JOIN bid AS b ON a.id = b.auction
             AND b.`dateTime` BETWEEN a.`dateTime` AND a.`dateTime` + INTERVAL '10' SECOND
           WHERE b.`dateTime` <= a.expires;
         CREATE VIEW finals AS SELECT id, category, window_time AS t, MAX(price) AS final
           FROM SESSION(TABLE inside PARTITION BY id, DESCRIPTOR(ts), INTERVAL '10' SECOND)
           GROUP BY id, category, window_start, window_end, window_time;
         INSERT INTO o SELECT category, window_end, AVG(final)
         FROM TUMBLE(TABLE finals, DESCRIPTOR(t), INTERVAL '10' SECOND) GROUP BY category, window_start, window_end;",
    ),
    one(
        "nexmark-q5",
        "the auctions with most bids, 10 s by 2 s",
        BIDS,
        "CREATE TABLE o (auction BIGINT, num BIGINT) WITH ('connector' = 'print');
         CREATE VIEW counts AS SELECT auction, COUNT(*) AS num, window_start, window_end
           FROM HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)
           GROUP BY auction, window_start, window_end;
         CREATE VIEW most AS SELECT MAX(num) AS num, window_start, window_end FROM counts GROUP BY window_start, window_end;
         INSERT INTO o SELECT c.auction, c.num FROM counts AS c JOIN most AS m
         ON c.window_start = m.window_start AND c.window_end = m.window_end AND c.num = m.num;",
    ),
    one(
        "nexmark-q6",
        "average of a seller's last ten final prices, of auctions without a bid for ten seconds",
        AUCTIONS_AND_BIDS,
        "CREATE TABLE o (seller BIGINT, price BIGINT) WITH ('connector' = 'print');
         CREATE VIEW inside AS SELECT a.id, a.seller, b.price, b.`dateTime` AS ts
           FROM auction AS a JOIN bid AS b ON a.id = b.auction
             AND b.`dateTime` BETWEEN a.`dateTime` AND a.`dateTime` + INTERVAL '10' SECOND
           WHERE b.`dateTime` <= a.expires;
         CREATE VIEW finals AS SELECT id, seller, window_time AS t, MAX(price) AS final
           FROM SESSION(TABLE inside PARTITION BY id, DESCRIPTOR(ts), INTERVAL '10' SECOND)
           GROUP BY id, seller, window_start, window_end, window_time;
         INSERT INTO o SELECT seller, AVG(final) OVER (PARTITION BY seller ORDER BY t ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
         FROM finals;",
    ),
    one(
        "nexmark-q7",
        "the highest bids of each ten seconds",
        BIDS,
        "CREATE TABLE o (auction BIGINT, price BIGINT, bidder BIGINT, at TIMESTAMP(3), extra STRING) WITH ('connector' = 'print');
         CREATE VIEW highest AS SELECT MAX(price) AS price, window_time AS t
           FROM TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND) GROUP BY window_start, window_end, window_time;
         INSERT INTO o SELECT b.auction, b.price, b.bidder, b.`dateTime`, b.extra FROM bid AS b JOIN highest AS h
         ON b.price = h.price AND b.`dateTime` BETWEEN h.t - INTERVAL '9.999' SECOND AND h.t;",
    ),
    Workload {
        warm_seconds: 100,
        seconds: 250,
        ..one(
            "nexmark-q8",
            "who has come and opened an auction within the same ten seconds",
            PEOPLE_AND_AUCTIONS,
            "CREATE TABLE o (id BIGINT, name STRING, since TIMESTAMP(3)) WITH ('connector' = 'print');
             CREATE VIEW p AS SELECT id, name, window_start, window_end
               FROM TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)
               GROUP BY id, name, window_start, window_end;
             CREATE VIEW a AS SELECT seller, window_start, window_end
               FROM TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)
               GROUP BY seller, window_start, window_end;
             INSERT INTO o SELECT p.id, p.name, p.window_start FROM p JOIN a
             ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;",
        )
    },
];
