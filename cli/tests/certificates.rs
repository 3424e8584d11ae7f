//! Certificates of `cordon cert issue`, judged by the TLS stack that will use them.

#[cfg(test)]
mod certificates {
    use cordon_daemon::tls::{self, ClientAuth, Identity, Roots};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;

    fn issue(pki: &Path, arguments: &[&str]) -> (PathBuf, PathBuf) {
        let output = Command::new(env!("CARGO_BIN_EXE_cordon"))
            .args(["cert", "issue", "--json", "--dir"])
            .arg(pki)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let path = |field: &str| PathBuf::from(answer[field].as_str().unwrap());
        (path("certificate"), path("key"))
    }

    fn roots(pki: &Path) -> Roots {
        Roots::load(&pki.join("ca.pem")).unwrap()
    }

    /// Shakes hands in memory, mutually authenticated, and gives the client certificate the server saw.
    fn handshake(
        server: (&Path, &(PathBuf, PathBuf)),
        client: (&Path, &(PathBuf, PathBuf)),
        name: &str,
    ) -> Result<Vec<u8>, rustls::Error> {
        let identity = |files: &(PathBuf, PathBuf)| Identity::load(&files.0, &files.1).unwrap();
        let accepts = tls::server_config(identity(server.1), ClientAuth::Required(roots(server.0))).unwrap();
        let offers = tls::client_config(roots(client.0), Some(identity(client.1))).unwrap();
        let mut server = ServerConnection::new(accepts)?;
        let mut client =
            ClientConnection::new(Arc::clone(&offers), ServerName::try_from(name.to_owned()).unwrap())?;
        while server.is_handshaking() || client.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(server.peer_certificates().unwrap()[0].to_vec())
    }

    #[test]
    fn what_is_issued_is_accepted_by_name_address_and_uri() {
        let scratch = tempfile::tempdir().unwrap();
        let pki = scratch.path().join("pki");
        let server = issue(&pki, &["--name", "gateway.cordon.test", "--name", "localhost", "--server"]);
        let client = issue(&pki, &["--service", "signup", "--days", "1"]);
        for name in ["gateway.cordon.test", "localhost", "127.0.0.1"] {
            let seen = handshake((&pki, &server), (&pki, &client), name).unwrap();
            let uri = b"spiffe://cordon.test/signup";
            assert!(seen.windows(uri.len()).any(|window| window == uri));
        }
        assert!(handshake((&pki, &server), (&pki, &client), "vault.cordon.test").is_err());
    }

    #[test]
    fn a_server_certificate_is_no_client_certificate_and_the_reverse() {
        let scratch = tempfile::tempdir().unwrap();
        let pki = scratch.path().join("pki");
        let server = issue(&pki, &["--name", "vault.cordon.test", "--server"]);
        let client = issue(&pki, &["--service", "operator"]);
        assert!(handshake((&pki, &server), (&pki, &server), "vault.cordon.test").is_err());
        assert!(handshake((&pki, &client), (&pki, &client), "vault.cordon.test").is_err());
    }

    #[test]
    fn certificates_of_another_ca_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (ours, theirs) = (scratch.path().join("a"), scratch.path().join("b"));
        let server = issue(&ours, &["--name", "vault.cordon.test", "--server"]);
        let client = issue(&theirs, &["--service", "signup"]);
        assert!(handshake((&ours, &server), (&ours, &client), "vault.cordon.test").is_err());
    }

    #[test]
    fn a_reopened_ca_issues_what_the_first_certificates_trust() {
        let scratch = tempfile::tempdir().unwrap();
        let pki = scratch.path().join("pki");
        let server = issue(&pki, &["--name", "vault.cordon.test", "--server"]);
        for service in ["signup", "billing", "operator"] {
            let client = issue(&pki, &["--service", service]);
            handshake((&pki, &server), (&pki, &client), "vault.cordon.test").unwrap();
        }
    }

    #[test]
    fn issuing_twice_is_refused_and_names_the_file() {
        let scratch = tempfile::tempdir().unwrap();
        let pki = scratch.path().join("pki");
        issue(&pki, &["--service", "signup"]);
        let again = Command::new(env!("CARGO_BIN_EXE_cordon"))
            .args(["cert", "issue", "--service", "signup", "--dir"])
            .arg(&pki)
            .output()
            .unwrap();
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("signup.pem"));
    }
}
