use super::*;

fn request<'a>(verb: &'a str, resource: &'a str) -> Selected<'a> {
    Selected { verb, resource, name: "" }
}

fn status(verdict: &Verdict) -> Option<u16> {
    verdict.refusal.as_ref().map(|refusal| refusal.status)
}

#[test]
fn fault_affects_only_selected_requests() {
    let faults = Faults::new(1);
    faults.add(Fault {
        verbs: vec!["patch".into()],
        resources: vec!["services/status".into()],
        status: Some(409),
        times: Some(2),
        ..Fault::default()
    });
    assert_eq!(status(&faults.decide(request("get", "services/status"))), None);
    assert_eq!(status(&faults.decide(request("patch", "services"))), None);
    assert_eq!(status(&faults.decide(request("patch", "services/status"))), Some(409));
    assert_eq!(status(&faults.decide(request("patch", "services/status"))), Some(409));
    assert_eq!(status(&faults.decide(request("patch", "services/status"))), None);
    assert_eq!(faults.active(), vec![]);
}

#[test]
fn fault_with_names_affects_only_these_objects() {
    let faults = Faults::new(1);
    faults.refuse(&["services/status"], &["shop/web", "bad/*"], "denied");
    for (name, refused) in
        [("shop/web", true), ("shop/web-2", false), ("bad/any", true), ("good/any", false), ("", false)]
    {
        let verdict = faults.decide(Selected { verb: "patch", resource: "services/status", name });
        assert_eq!(status(&verdict), refused.then_some(422), "{name:?}");
    }
}

#[test]
fn seat_is_free_after_the_request() {
    let faults = Faults::new(1);
    faults.add(Fault { seats: Some(1), latency_ms: 5, ..Fault::default() });
    let first = faults.decide(request("patch", "services"));
    assert_eq!((status(&first), first.delay), (None, Duration::from_millis(5)));
    let second = faults.decide(request("patch", "services"));
    assert_eq!((status(&second), second.delay), (Some(429), Duration::ZERO));
    assert_eq!(status(&faults.decide(request("watch", "services"))), None);
    drop(first);
    assert_eq!(status(&faults.decide(request("patch", "services"))), None);
}

#[test]
fn delays_add_up_and_first_status_applies() {
    let faults = Faults::new(1);
    faults.latency(Duration::from_millis(20));
    faults.latency(Duration::from_millis(5));
    faults.fail(429, 1.0, &[], &[]);
    faults.fail(500, 1.0, &[], &[]);
    let verdict = faults.decide(request("get", "nodes"));
    assert_eq!(verdict.delay, Duration::from_millis(25));
    assert_eq!(status(&verdict), Some(429));
}

#[test]
fn fault_probability_is_respected() {
    let faults = Faults::new(7);
    faults.fail(500, 0.25, &[], &[]);
    let hits = (0..4000).filter(|_| status(&faults.decide(request("get", "nodes"))).is_some()).count();
    assert!((850..1150).contains(&hits), "{hits}");
}
