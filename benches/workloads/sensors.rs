//! The input of most workloads: sensor messages of 154 bytes, with 12 fields of which the queries read 5.

use std::io::Write as _;

use super::input::{Batch, FIRST_MILLIS, Generator, Random};

/// Bytes of a message.
const MESSAGE_BYTES: usize = 154;

/// Who reports, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sensors {
    pub(crate) devices: usize,
    /// How often a device reports, in milliseconds of event time.
    pub(crate) period_millis: u64,
    /// One report in so many is left out by each device, at another time than by its neighbour; 0 for none.
    pub(crate) pause: u64,
}

impl Sensors {
    pub(crate) fn generator(self) -> impl Generator {
        Reports {
            sensors: self,
            slot: 0,
            number: 0,
            random: Random(0x5eed),
        }
    }
}

/// Devices report in turn, spread evenly over the period; measured values are random.
struct Reports {
    sensors: Sensors,
    /// Reports so far, those left out among them.
    slot: u64,
    /// Messages so far.
    number: u64,
    random: Random,
}

impl Generator for Reports {
    fn write(&mut self, batch: &mut Batch) {
        let Sensors {
            devices,
            period_millis,
            pause,
        } = self.sensors;
        let devices = devices as u64;
        let (device, round) = loop {
            let (device, round) = (self.slot % devices, self.slot / devices);
            self.slot += 1;
            if pause == 0 || (device + round) % pause != pause - 1 {
                break (device, round);
            }
        };
        let millis = FIRST_MILLIS + round * period_millis + device * period_millis / devices;
        let random = &mut self.random;
        let temperature = 20.0 + random.below(4_000) as f64 / 100.0;
        let vibration = 1.0 + random.below(8_000) as f64 / 1_000.0;
        let rpm = 1_000 + random.below(1_000);
        let voltage = 220.0 + random.below(200) as f64 / 10.0;
        let pressure = 1.0 + random.below(1_000) as f64 / 1_000.0;
        let number = 100_000 + self.number % 900_000;
        self.number += 1;
        batch.push(0, |bytes| {
            let begin = bytes.len();
            let _ = write!(
                bytes,
                r#"{{"id":"pump-{device:07}","ts":{millis},"temp":{temperature:.2},"at":"a1","vib":{vibration:.3},"rpm":{rpm},"vol":{voltage:.1},"pa":{pressure:.3},"st":"run","ok":true,"fw":"1.4","seq":{number}}}"#
            );
            assert_eq!(bytes.len() - begin, MESSAGE_BYTES, "a message's size");
        });
    }
}
