use super::*;

fn settings(toml: &str) -> Cluster {
    toml::from_str(toml).unwrap()
}

fn refused(toml: &str) -> String {
    settings(toml).validate().unwrap_err().to_string()
}

#[test]
fn a_node_is_alone_unless_it_is_told_otherwise() {
    assert_eq!(settings("").listen(), None);
    assert_eq!(settings("join = ['10.0.0.2:7071']").listen(), Some(DEFAULT_LISTEN));
    assert_eq!(settings("listen = '127.0.0.1:9000'").listen(), Some("127.0.0.1:9000"));
    settings("").validate().unwrap();
}

#[test]
fn seeds_are_a_list_or_text_with_commas() {
    let expected = ["10.0.0.1:7071", "10.0.0.2:7071"];
    assert_eq!(settings("join = ['10.0.0.1:7071', '10.0.0.2:7071']").join.0, expected);
    assert_eq!(settings("join = '10.0.0.1:7071, 10.0.0.2:7071'").join.0, expected);
}

#[test]
fn a_listener_outside_loopback_needs_a_secret_or_certificates() {
    let error = refused("listen = '10.0.0.1:7071'");
    assert!(error.contains("cluster.secret_file") && error.contains("[cluster.tls]"), "{error}");
    settings("listen = '10.0.0.1:7071'\nsecret = '0123456789abcdef'").validate().unwrap();
    let error = refused("secret = 'short'");
    assert!(error.contains("16"), "{error}");
}

#[test]
fn every_address_of_the_machine_is_none_that_others_can_reach() {
    let error = refused("listen = '0.0.0.0:7071'\nsecret = '0123456789abcdef'");
    assert!(error.contains("cluster.advertise"), "{error}");
    for address in ["0.0.0.0:7071", "[::]:7071", "10.0.0.1", ":7071", "10.0.0.1:0", "http://a:1/b"] {
        let error = refused(&format!("advertise = '{address}'"));
        assert!(error.contains("cluster.advertise") && error.contains(address), "{error}");
    }
}

#[test]
fn clients_are_told_where_listeners_are() {
    let local: SocketAddr = "127.0.0.1:7070".parse().unwrap();
    let everywhere: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let options = settings("advertise = 'node1.example:7071'").options(&bound(local, everywhere)).unwrap();
    assert_eq!(
        (options.grpc_address.as_str(), options.http_address.as_str(), options.kafka_address.as_str()),
        ("127.0.0.1:7070", "node1.example:8080", "127.0.0.1:9092")
    );
    let options =
        settings("grpc_advertise = 'a:1'\nkafka_advertise = 'b:2'").options(&bound(local, everywhere)).unwrap();
    assert_eq!((options.grpc_address.as_str(), options.http_address.as_str()), ("a:1", ""));
    assert_eq!(options.kafka_address, "b:2");
    let silent = Bound { kafka: None, ..bound(local, everywhere) };
    assert_eq!(settings("kafka_advertise = 'b:2'").options(&silent).unwrap().kafka_address, "", "nobody listens");
}

#[test]
fn a_secret_comes_from_one_place_and_is_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
    let path = file.path().display();
    assert!(settings(&format!("secret_file = '{path}'")).options(&any()).unwrap().transport.secret.is_some());
    let both = refused(&format!("secret = '0123456789abcdef'\nsecret_file = '{path}'"));
    assert!(both.contains("not both"), "{both}");
    let told = settings("secret = 'a word that nobody may see'");
    let shown = format!("{told:?}{}", toml::to_string(&told).unwrap());
    assert!(!shown.contains("nobody"), "{shown}");
}

fn any() -> Bound {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    bound(address, address)
}

fn bound(grpc: SocketAddr, http: SocketAddr) -> Bound {
    Bound { grpc, http, kafka: Some(SocketAddr::from(([127, 0, 0, 1], 9092))), kafka_listeners: BTreeMap::new() }
}

#[test]
fn certificates_come_together() {
    let error = refused("[tls]\nca = 'ca.pem'");
    assert!(error.contains("cluster.tls.cert") && error.contains("cluster.tls.key"), "{error}");
    let error = refused("[tls]\nca = '/no/ca.pem'\ncert = '/no/cert.pem'\nkey = '/no/key.pem'");
    assert!(error.contains("cluster.tls.ca") && error.contains("/no/ca.pem"), "{error}");
}
