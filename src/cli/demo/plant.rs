//! A small plant: six pumps and three cold rooms, with the faults such things have.
//!
//! The values follow the time since the start, so that each fault comes round every few minutes.

use std::f64::consts::TAU;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mqtt5::{MqttClient, QoS};

use crate::types::EventTime;

/// Between two reports of a device.
const PERIOD: Duration = Duration::from_millis(500);

/// Reports until the broker is gone.
pub(super) async fn run(client: &MqttClient) -> anyhow::Result<()> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for step in 0_u64.. {
        tick.tick().await;
        let seconds = step as f64 * PERIOD.as_secs_f64();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = EventTime::from_millis(now.as_millis() as i64);
        for pump in 1..=6 {
            let payload = pump_report(pump, seconds, now, &mut noise);
            let topic = format!("plant/pumps/pump-{pump}/telemetry");
            client
                .publish_qos(topic, payload.into_bytes(), QoS::AtLeastOnce)
                .await?;
        }
        if step % 2 == 0 {
            for room in 1..=3 {
                let celsius = room_celsius(room, seconds) + 0.1 * noise.next();
                let topic = format!("plant/coldrooms/room-{room}/temperature");
                client
                    .publish_qos(
                        topic,
                        format!("{celsius:.2}").into_bytes(),
                        QoS::AtLeastOnce,
                    )
                    .await?;
            }
        }
    }
    Ok(())
}

fn pump_report(pump: u32, seconds: f64, now: EventTime, noise: &mut Noise) -> String {
    // The bearing of pump 3 wears for forty seconds in every two minutes, then somebody greases it.
    let worn = if pump == 3 {
        ((seconds % 120.0) - 20.0).clamp(0.0, 40.0) / 40.0
    } else {
        0.0
    };
    let worn = if seconds % 120.0 > 75.0 { 0.0 } else { worn };
    let vibration = 2.4 + 0.2 * f64::from(pump) + 6.0 * worn + 0.3 * noise.next();
    let current =
        14.0 + 0.5 * (seconds / 17.0 + f64::from(pump)).sin() + 2.0 * worn + 0.1 * noise.next();
    // The sensor of pump 5 loses contact for a moment every minute and says so in its own way.
    if pump == 5 && seconds % 60.0 < 1.0 {
        return format!(r#"{{"ts":"{now}","vibration":NaN,"current":{current:.2}}}"#);
    }
    format!(r#"{{"ts":"{now}","vibration":{vibration:.2},"current":{current:.2}}}"#)
}

fn room_celsius(room: u32, seconds: f64) -> f64 {
    let compressor = 0.8 * (seconds * TAU / 90.0 + f64::from(room)).sin();
    // The door of room 2 stays open for a minute in every three.
    let open = if room == 2 {
        ((seconds % 180.0) - 30.0).clamp(0.0, 60.0) / 60.0
    } else {
        0.0
    };
    let open = if seconds % 180.0 > 110.0 { 0.0 } else { open };
    3.5 + compressor + 8.0 * open
}

/// A xorshift generator: the demo needs something that looks like noise, not a source of randomness.
struct Noise(u64);

impl Noise {
    /// A number between -1 and 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as f64 / u64::MAX as f64 * 2.0 - 1.0
    }
}
