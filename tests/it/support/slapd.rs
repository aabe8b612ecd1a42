//! OpenLDAP, as Debian has it, with certificates of the suite's own authority.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::folder;

pub const BASE: &str = "dc=example,dc=org";
pub const READER: &str = "cn=reader,dc=example,dc=org";
pub const READER_SECRET: &str = "of-the-reader-alone";

/// A certificate authority that lives as long as this value.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key in PEM for these names, in force or over.
    pub fn certificate(&self, names: &[&str], in_force: bool) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "directory of the suite");
        if !in_force {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// How a server is made.
pub struct Made<'a> {
    /// Certificate and key.
    pub certificate: (String, String),
    /// Lines of the configuration, before the database.
    pub settings: &'a str,
    /// Entries below those that every server has.
    pub entries: &'a str,
}

/// A server that can be stopped and started again; it ends with this value.
pub struct Slapd {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    place: PathBuf,
    child: Option<Child>,
}

impl Slapd {
    pub fn start(authority: &Authority) -> Self {
        Self::with_entries(authority, &company())
    }

    pub fn with_entries(authority: &Authority, entries: &str) -> Self {
        Self::with(Made { certificate: authority.certificate(&["127.0.0.1"], true), settings: "", entries })
    }

    pub fn with(made: Made<'_>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let place = folder().join(format!("slapd-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(place.join("db")).unwrap();
        // A copy: where a system confines the program that it has installed, this is another one.
        std::fs::copy("/usr/sbin/slapd", place.join("slapd"))
            .expect("slapd is there: scripts/bootstrap.sh test installs it");
        std::fs::write(place.join("server.crt"), &made.certificate.0).unwrap();
        std::fs::write(place.join("server.key"), &made.certificate.1).unwrap();
        let (dir, more) = (place.display(), made.settings);
        let settings = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\n\
             pidfile {dir}/slapd.pid\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             TLSCertificateFile {dir}/server.crt\nTLSCertificateKeyFile {dir}/server.key\n\
             sizelimit size.soft=500 size.hard=500 size.pr=1000 size.prtotal=unlimited\n{more}\n\
             database mdb\nmaxsize 268435456\nsuffix \"{BASE}\"\nrootdn \"cn=root,{BASE}\"\ndirectory {dir}/db\n\
             index objectClass,uid,mail,member,entryUUID eq\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by users read by anonymous auth\n"
        );
        std::fs::write(place.join("slapd.conf"), settings).unwrap();
        std::fs::write(place.join("entries.ldif"), format!("{}{}", common(), made.entries)).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = Self { plain: free(), tls: free(), place, child: None };
        server.add_entries();
        server.start_again();
        server
    }

    fn add_entries(&self) {
        let added = self
            .program()
            .args(["-T", "a", "-q", "-f"])
            .arg(self.place.join("slapd.conf"))
            .arg("-l")
            .arg(self.place.join("entries.ldif"))
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }

    /// Other entries in place of all that it has.
    pub fn replace_entries(&mut self, entries: &str) {
        self.stop();
        std::fs::remove_dir_all(self.place.join("db")).unwrap();
        std::fs::create_dir_all(self.place.join("db")).unwrap();
        std::fs::write(self.place.join("entries.ldif"), format!("{}{entries}", common())).unwrap();
        self.add_entries();
        self.start_again();
    }

    fn program(&self) -> Command {
        Command::new(self.place.join("slapd"))
    }

    pub fn start_again(&mut self) {
        let child = self
            .program()
            .args(["-d", "0", "-f"])
            .arg(self.place.join("slapd.conf"))
            .args(["-h", &format!("ldap://{} ldaps://{}", self.plain, self.tls)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..3000 {
            if TcpStream::connect(self.tls).is_ok() && TcpStream::connect(self.plain).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("slapd does not start");
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn ldaps(&self) -> String {
        format!("ldaps://{}", self.tls)
    }

    pub fn ldap(&self) -> String {
        format!("ldap://{}", self.plain)
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn common() -> String {
    format!(
        "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
         dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: {READER_SECRET}\n\n\
         dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: ou=groups,{BASE}\nobjectClass: organizationalUnit\nou: groups\n\n"
    )
}

/// Somebody with this login, whose password is `of-<login>`.
pub fn person(login: &str, name: &str) -> String {
    entry_of(&format!("uid={login}"), login, name, &format!("{login}@example.org"))
}

/// The same with a name of its own in the directory, and another address.
pub fn entry_of(rdn: &str, login: &str, name: &str, email: &str) -> String {
    let id = uuid_of(login);
    format!(
        "dn: {rdn},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {login}\ncn: {name}\nsn: {name}\nmail: {email}\n\
         userPassword: of-{login}\nentryUUID: {id}\n\n"
    )
}

/// What the directory calls somebody for ever: made of the login, so that tests can tell.
pub fn uuid_of(login: &str) -> String {
    let number = login.bytes().fold(7_u64, |number, byte| number.wrapping_mul(1_000_003).wrapping_add(byte.into()));
    format!("00000000-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff)
}

pub fn group(name: &str, members: &[&str]) -> String {
    let mut text = format!("dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: {name}\n");
    for member in members {
        writeln!(text, "member: {member},{BASE}").unwrap();
    }
    text + "\n"
}

/// Ada is an admin by a group in a group in a circle of groups; Bob is in staff alone; Eve is in nothing.
pub fn company() -> String {
    [
        person("ada", "Ada Example"),
        person("bob", "Bob Example"),
        person("eve", "Eve Example"),
        group("staff", &["uid=ada,ou=people", "uid=bob,ou=people"]),
        group("engineers", &["uid=ada,ou=people", "cn=circle,ou=groups"]),
        group("admins", &["cn=engineers,ou=groups"]),
        group("circle", &["cn=admins,ou=groups"]),
    ]
    .concat()
}
