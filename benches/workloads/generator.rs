//! The input: sensor messages of 154 bytes, with 12 fields of which the queries read 5, the same for the same arguments.

/// Bytes of a message.
pub(crate) const MESSAGE_BYTES: usize = 154;
/// How often a device reports, in milliseconds of event time.
const PERIOD_MILLIS: u64 = 10_000;
/// The event time of the first message: 2026-01-01.
pub(crate) const FIRST_MILLIS: u64 = 1_767_225_600_000;

/// Messages one behind the other.
pub(crate) struct Messages {
    bytes: Vec<u8>,
}

impl Messages {
    /// `count` messages of `devices` devices that report in turn; measured values are random, from a fixed seed.
    pub(crate) fn new(count: usize, devices: usize) -> Self {
        let mut bytes = Vec::with_capacity(count * MESSAGE_BYTES);
        let mut random = Random(0x5eed);
        for number in 0..count {
            let device = number % devices;
            let round = number / devices;
            let millis = FIRST_MILLIS
                + round as u64 * PERIOD_MILLIS
                + device as u64 * PERIOD_MILLIS / devices as u64;
            let temperature = 20.0 + random.below(4_000) as f64 / 100.0;
            let vibration = 1.0 + random.below(8_000) as f64 / 1_000.0;
            let rpm = 1_000 + random.below(1_000);
            let voltage = 220.0 + random.below(200) as f64 / 10.0;
            let pressure = 1.0 + random.below(1_000) as f64 / 1_000.0;
            let message = format!(
                r#"{{"id":"pump-{device:07}","ts":{millis},"temp":{temperature:.2},"at":"a1","vib":{vibration:.3},"rpm":{rpm},"vol":{voltage:.1},"pa":{pressure:.3},"st":"run","ok":true,"fw":"1.4","seq":{:06}}}"#,
                100_000 + number % 900_000
            );
            assert_eq!(message.len(), MESSAGE_BYTES, "{message}");
            bytes.extend_from_slice(message.as_bytes());
        }
        Self { bytes }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(MESSAGE_BYTES)
    }
}

/// A generator of numbers (xorshift64*): the workloads are the same on every machine and for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
