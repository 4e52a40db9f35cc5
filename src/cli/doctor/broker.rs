//! A broker: whether it can be reached and trusted, keeps sessions, and sends enough at once.

use std::time::Duration;

use super::{Findings, mosquitto};
use crate::mqtt::Probe;
use crate::runtime::ConnectionSettings;

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn examine(connection: &ConnectionSettings, findings: &mut Findings) {
    let endpoint = &connection.endpoint;
    let subject = format!("broker {}", connection.name);
    let client_id = format!("{}-doctor", connection.client_id);
    let probe = Probe {
        endpoint,
        client_id: &client_id,
        patience: PATIENCE,
    };
    let loopback = is_loopback(&endpoint.host);
    let greeting = match probe.greet(true, connection.session_expiry).await {
        Ok(greeting) => greeting,
        Err(error) => {
            let remedy = if endpoint.tls.is_some() {
                "check host and port, the clock, and that ca_file names the authority that signed the broker's certificate"
            } else {
                "check host and port, that it listens on this network, and user name and password"
            };
            let place = format!("{}:{}", endpoint.host, endpoint.port);
            findings.fail(
                &subject,
                &format!("{place} is not reached: {error}"),
                remedy,
            );
            if loopback {
                mosquitto::examine_files(connection, findings);
            }
            return;
        }
    };
    let place = format!("{}:{}", endpoint.host, endpoint.port);
    if endpoint.tls.is_some() {
        findings.good(
            &subject,
            &format!("{place} answers, its certificate is verified"),
        );
    } else if loopback || endpoint.credentials.is_none() {
        findings.good(&subject, &format!("{place} answers, without TLS"));
    } else {
        findings.warn(
            &subject,
            &format!("{place} answers without TLS: the password crosses the network in the clear"),
            "write url = \"mqtts://…\" and have the broker listen with a certificate",
        );
    }
    session(
        &probe,
        connection,
        greeting.session_expiry,
        &subject,
        findings,
    )
    .await;
    if greeting.max_qos == 0 {
        findings.fail(
            &subject,
            "takes QoS 0 alone: nothing is exactly once with it",
            "allow QoS 1 (mosquitto: max_qos)",
        );
    }
    window(&probe, connection, &subject, findings).await;
    if greeting.receive_maximum < connection.in_flight {
        findings.good(
            &subject,
            &format!(
                "takes {} messages of ours at once, fewer than in_flight = {}: that many are sent",
                greeting.receive_maximum, connection.in_flight
            ),
        );
    }
    match probe.retained("$SYS/broker/#").await {
        Ok(said) => mosquitto::examine_counters(&said, &subject, findings),
        Err(error) => findings.good(&subject, &format!("says nothing about itself: {error}")),
    }
    if loopback {
        mosquitto::examine_files(connection, findings);
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

async fn session(
    probe: &Probe<'_>,
    connection: &ConnectionSettings,
    offered: Option<Duration>,
    subject: &str,
    findings: &mut Findings,
) {
    let wanted = connection.session_expiry;
    let again = probe.greet(false, wanted).await;
    // Gone with this one.
    let forgotten = probe.greet(true, Duration::ZERO).await;
    match (again, forgotten) {
        (Ok(again), Ok(_)) if again.session_present => match offered {
            Some(offered) if offered < wanted => findings.warn(
                subject,
                &format!(
                    "keeps our session for {} s, and session_expiry asks for {} s",
                    offered.as_secs(),
                    wanted.as_secs()
                ),
                "raise its limit (mosquitto: persistent_client_expiration), or what comes during a longer absence is lost",
            ),
            _ => findings.good(
                subject,
                &format!(
                    "keeps our session while we are away (asked for {} s, and it names no other limit)",
                    wanted.as_secs()
                ),
            ),
        },
        (Ok(_), Ok(_)) => findings.fail(
            subject,
            "forgets our session when we leave: what comes meanwhile is lost",
            "allow persistent sessions for this client",
        ),
        (Err(error), _) | (_, Err(error)) => findings.warn(
            subject,
            &format!("could not be asked whether it keeps sessions: {error}"),
            "run doctor again",
        ),
    }
}

async fn window(
    probe: &Probe<'_>,
    connection: &ConnectionSettings,
    subject: &str,
    findings: &mut Findings,
) {
    let wanted = connection.receive_maximum;
    // A queue of the default length (mosquitto: 1,000) holds these; a larger window is not told from this one.
    let messages = wanted.saturating_add(20).min(900);
    let topic = format!("headwater/doctor/{}", probe.client_id);
    match probe.window(&topic, messages, wanted).await {
        Ok(came) if came < wanted.min(messages) => findings.warn(
            subject,
            &format!(
                "sends {came} messages at once, although receive_maximum = {wanted}: at most {came} messages go into a commit"
            ),
            &format!("raise the broker's own limit of unacknowledged messages for a client to {wanted}"),
        ),
        Ok(came) if came > wanted => findings.good(
            subject,
            &format!("sends {came} messages at once, more than receive_maximum = {wanted}; there is room for them"),
        ),
        Ok(came) => findings.good(subject, &format!("sends {came} messages at once")),
        Err(error) => findings.good(
            subject,
            &format!("how many messages it sends at once is not known: {error}"),
        ),
    }
}
