//! `parlor serve`.

use std::env::VarError;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::FalseyValueParser;
use parlor::protocol::limits::{
    CODE_MAX_CHARS, CODE_MIN_CHARS, HOLD_MAX_SECS, LONGEST_WAIT_SECS, SEND_BUFFER_BYTES,
    SEND_BUFFER_KIB, TOTAL_HISTORY_BYTES,
};
use parlor::protocol::{BadText, RoomCode, Text};
use parlor::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::log::{self, LogFormat};
use super::systemd::{self, Sockets};
use super::{PORT_IN_USE, files, next_steps};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; may be given more than once. Port 0 is any free port [default:
    /// 127.0.0.1:7777]
    #[arg(long, value_name = "ADDR:PORT", env = "PARLOR_LISTEN", value_delimiter = ',')]
    #[arg(value_parser = parse_address)]
    listen: Vec<SocketAddr>,

    /// Where the bridge for browsers listens; may be given more than once [default:
    /// 127.0.0.1:7778]
    #[arg(long, value_name = "ADDR:PORT", env = "PARLOR_WEB", value_delimiter = ',')]
    #[arg(value_parser = parse_address)]
    web: Vec<SocketAddr>,

    /// No bridge for browsers
    #[arg(long, env = "PARLOR_NO_WEB", value_parser = FalseyValueParser::new())]
    no_web: bool,

    /// Listen on all interfaces, ports 7777 and 7778: people on the network can come
    #[arg(long, env = "PARLOR_PUBLIC", value_parser = FalseyValueParser::new())]
    public: bool,

    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: super::tls::TlsFlags,

    /// An origin whose pages may use the bridge, besides its own, like https://example.org; may be
    /// given more than once
    #[arg(long, value_name = "ORIGIN", env = "PARLOR_ALLOW_ORIGIN", value_delimiter = ',')]
    #[arg(value_parser = parse_origin)]
    allow_origin: Vec<String>,

    /// An origin whose pages may show the page in a frame; may be given more than once
    #[arg(long, value_name = "ORIGIN", env = "PARLOR_EMBED_ORIGIN", value_delimiter = ',')]
    #[arg(value_parser = parse_origin)]
    embed_origin: Vec<String>,

    /// A proxy stands before the bridge: believe its X-Forwarded-For, and any Host
    #[arg(long, env = "PARLOR_TRUST_PROXY", value_parser = FalseyValueParser::new())]
    trust_proxy: bool,

    /// Write the ports that are really bound to this file, as JSON, once all listen
    #[arg(long, value_name = "FILE", env = "PARLOR_PORTS_FILE")]
    ports_file: Option<PathBuf>,

    /// Lines a second that a client may send in the long run, 0 for no limit; faster ones are
    /// slowed down, never refused [default: 10, and no limit for this machine]
    #[arg(long, value_name = "N", env = "PARLOR_RATE")]
    rate: Option<u32>,

    /// Lines that a client may send at once before --rate counts
    #[arg(long, value_name = "N", env = "PARLOR_BURST", default_value_t = Config::default().burst)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    burst: u32,

    /// How long HOLD keeps a seat when it doesn't say, 1 to 600
    #[arg(long, value_name = "SECS", env = "PARLOR_HOLD", default_value_t = Config::default().hold)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=HOLD_MAX_SECS))]
    hold: u64,

    /// Messages of history that a room keeps (1 MiB of them at most)
    #[arg(long, value_name = "N", env = "PARLOR_HISTORY")]
    #[arg(default_value_t = Config::default().history)]
    history: usize,

    /// MiB of history over all rooms; past it the room that has been silent for longest loses its
    /// oldest messages first
    #[arg(long, value_name = "MIB", env = "PARLOR_MAX_HISTORY")]
    #[arg(default_value_t = (TOTAL_HISTORY_BYTES >> 20) as u32)]
    max_history: u32,

    /// Characters of a new room's code, 4 to 16
    #[arg(long, value_name = "N", env = "PARLOR_CODE_LENGTH")]
    #[arg(default_value_t = CODE_MIN_CHARS as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(CODE_MIN_CHARS as u64..=CODE_MAX_CHARS as u64))]
    code_length: u64,

    /// The code of the room that always exists: 1 to 16 letters and digits
    #[arg(long, value_name = "CODE", env = "PARLOR_LOBBY", default_value = "LOBBY")]
    #[arg(value_parser = parse_lobby)]
    lobby: RoomCode,

    /// No room always exists
    #[arg(long, env = "PARLOR_NO_LOBBY", value_parser = FalseyValueParser::new())]
    no_lobby: bool,

    /// A file with the secret that makes an operator (OPER secret); or put the secret itself into
    /// PARLOR_OPER_SECRET
    #[arg(long, value_name = "FILE", env = "PARLOR_OPER_SECRET_FILE")]
    oper_secret_file: Option<PathBuf>,

    /// Connections at one time, of browsers too; past them the bridge answers 503
    #[arg(long, value_name = "N", env = "PARLOR_MAX_CONNECTIONS")]
    #[arg(default_value_t = Config::default().max_connections)]
    max_connections: usize,

    /// Connections and held seats of one address; this machine is exempt
    #[arg(long, value_name = "N", env = "PARLOR_MAX_PER_ADDRESS")]
    #[arg(default_value_t = Config::default().max_per_address)]
    max_per_address: usize,

    /// How long a connection's first line may take, once it has begun; silence is no offence
    #[arg(long, value_name = "SECS", env = "PARLOR_FIRST_COMMAND")]
    #[arg(default_value_t = Config::default().first_command)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=LONGEST_WAIT_SECS))]
    first_command: u64,

    /// How long a client may take for a TLS handshake, and for the head of an HTTP request
    #[arg(long, value_name = "SECS", env = "PARLOR_HANDSHAKE")]
    #[arg(default_value_t = Config::default().handshake)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=LONGEST_WAIT_SECS))]
    handshake: u64,

    /// How long a connection may accept no byte while output waits; then it is ended as slow
    #[arg(long, value_name = "SECS", env = "PARLOR_STALL")]
    #[arg(default_value_t = Config::default().stall)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=LONGEST_WAIT_SECS))]
    stall: u64,

    /// KiB that the system may hold for a client who doesn't read, 4 to 4096; Linux takes twice as
    /// much
    #[arg(long, value_name = "KIB", env = "PARLOR_SEND_BUFFER")]
    #[arg(default_value_t = (SEND_BUFFER_BYTES >> 10) as u32)]
    #[arg(value_parser = clap::value_parser!(u32).range(
        *SEND_BUFFER_KIB.start() as i64..=*SEND_BUFFER_KIB.end() as i64
    ))]
    send_buffer: u32,

    /// Rooms at one time
    #[arg(long, value_name = "N", env = "PARLOR_MAX_ROOMS")]
    #[arg(default_value_t = Config::default().max_rooms)]
    max_rooms: usize,

    /// Members of one room
    #[arg(long, value_name = "N", env = "PARLOR_MAX_MEMBERS")]
    #[arg(default_value_t = Config::default().max_members)]
    max_members: usize,

    /// Where rooms live: memory, or sqlite:FILE, then they survive a restart
    #[arg(long, value_name = "STORE", env = "PARLOR_STORE", default_value = "memory")]
    #[arg(value_parser = parse_store)]
    store: StorePlace,

    /// Replace a damaged store by what is sound in it; the damaged file is kept beside it
    #[arg(long, env = "PARLOR_SALVAGE", value_parser = FalseyValueParser::new())]
    salvage: bool,

    /// How logs are written; RUST_LOG says what is logged
    #[arg(long, value_enum, env = "PARLOR_LOG_FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Log every line both ways, with escapes visible: texts, tokens and codes too. For a lab
    #[arg(long, env = "PARLOR_TRACE_WIRE", value_parser = FalseyValueParser::new())]
    trace_wire: bool,
}

/// Where rooms live.
#[derive(Debug, Clone)]
enum StorePlace {
    Memory,
    File(PathBuf),
}

impl Serve {
    pub(crate) fn run(self) -> ExitCode {
        let usage = |text: String| {
            eprintln!("parlor: {text}");
            ExitCode::from(2)
        };
        let _log = match log::install(self.log_format, self.trace_wire) {
            Ok(log) => log,
            Err(text) => return usage(text),
        };
        let settings = Sockets::take().and_then(|sockets| Ok((self.config(&sockets)?, sockets)));
        let (config, sockets) = match settings {
            Ok(settings) => settings,
            Err(text) => return usage(text),
        };
        let result = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| (ExitCode::FAILURE, format!("cannot start: {error}")))
            .and_then(|runtime| runtime.block_on(self.serve(config, sockets)));
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err((code, text)) => {
                eprintln!("parlor: {text}");
                code
            }
        }
    }

    fn config(&self, sockets: &Sockets) -> Result<Config, String> {
        let mut config = Config::default();
        if self.public && !(self.listen.is_empty() && self.web.is_empty()) {
            let text = "--public says where to listen; give no --listen and no --web, and no \
                        PARLOR_LISTEN and no PARLOR_WEB";
            return Err(text.to_owned());
        }
        if self.no_web && !self.web.is_empty() {
            let text = "--no-web and --web say two things, or PARLOR_NO_WEB and PARLOR_WEB do; \
                        take one of them";
            return Err(text.to_owned());
        }
        if self.public && sockets.are_passed() {
            return Err("--public and systemd both say where to listen; leave one out".to_owned());
        }
        if self.no_web && !sockets.web.is_empty() {
            return Err("--no-web, but systemd passes a socket named web; leave one out".to_owned());
        }
        let host: IpAddr = match self.public {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        };
        let or_default = |given: &[SocketAddr], port| match given {
            [] if sockets.are_passed() => Vec::new(),
            [] => vec![SocketAddr::new(host, port)],
            given => given.to_vec(),
        };
        config.listen = or_default(&self.listen, Config::PORT);
        if !self.no_web {
            config.web = or_default(&self.web, Config::WEB_PORT);
        }
        #[cfg(feature = "tls")]
        {
            config.tls = self.tls.load()?;
        }
        config.allow_origins.clone_from(&self.allow_origin);
        config.embed_origins.clone_from(&self.embed_origin);
        config.trust_proxy = self.trust_proxy;
        config.rate = self.rate;
        config.burst = self.burst;
        config.hold = self.hold;
        config.history = self.history;
        config.max_history = (self.max_history as usize) << 20;
        config.code_length = self.code_length as usize;
        config.lobby = (!self.no_lobby).then_some(self.lobby);
        config.oper_secret = self.oper_secret()?;
        config.max_connections = self.max_connections;
        config.max_per_address = self.max_per_address;
        config.first_command = self.first_command;
        config.handshake = self.handshake;
        config.stall = self.stall;
        config.send_buffer = (self.send_buffer as usize) << 10;
        config.max_rooms = self.max_rooms;
        config.max_members = self.max_members;
        if let StorePlace::File(file) = &self.store {
            config.store = Some(file.clone());
        }
        config.salvage = self.salvage;
        config.trace_wire = self.trace_wire;
        Ok(config)
    }

    fn oper_secret(&self) -> Result<Option<String>, String> {
        const VARIABLE: &str = "PARLOR_OPER_SECRET";
        let (source, secret) = match &self.oper_secret_file {
            Some(file) => {
                let source = file.display().to_string();
                let text = fs::read_to_string(file)
                    .map_err(|error| format!("cannot read {source}: {error}"))?;
                (source, text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => match std::env::var(VARIABLE) {
                Err(VarError::NotUnicode(_)) => return Err(format!("{VARIABLE} is not UTF-8")),
                Ok(secret) if !secret.is_empty() => (VARIABLE.to_owned(), secret),
                _ => return Ok(None),
            },
        };
        // What OPER can't say would make nobody an operator.
        let why = match Text::new(&secret) {
            Ok(_) => return Ok(Some(secret)),
            Err(BadText::Empty) => "is empty".to_owned(),
            Err(_) if secret.contains(['\r', '\n']) => {
                "is one line, and here are several".to_owned()
            }
            Err(why) => format!("can't be sent: {why}"),
        };
        Err(format!("{source}: the operators' secret {why}"))
    }

    async fn serve(&self, config: Config, sockets: Sockets) -> Result<(), (ExitCode, String)> {
        let failed = |text: String| (ExitCode::FAILURE, text);
        raise_file_limit(config.max_connections);
        #[cfg(feature = "tls")]
        if config.tls.is_some() || systemd::supervises() {
            super::tls::reload_on_hangup(config.tls.clone())
                .map_err(|error| failed(format!("cannot start: {error}")))?;
        }
        let server = self.bind(config, sockets)?;
        // Signals count from here: whoever reads the ports file may stop the server at once.
        let stop = stop_signal().map_err(|error| failed(format!("cannot start: {error}")))?;
        if let Some(file) = &self.ports_file {
            write_ports(file, server.local_addrs(), server.web_addrs())
                .map_err(|error| failed(format!("cannot write {}: {error}", file.display())))?;
        }
        next_steps::tell(&server, self.speaks_tls(), self.log_format);
        systemd::tell_ready();
        let stop = async {
            stop.await;
            systemd::tell_stopping();
        };
        server.serve(stop).await;
        info!("stopped");
        Ok(())
    }

    fn speaks_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.are_given();
        #[cfg(not(feature = "tls"))]
        false
    }

    fn bind(&self, config: Config, sockets: Sockets) -> Result<Server, (ExitCode, String)> {
        let mut config_in_ipv4 = config.clone();
        let bound = Server::bind_with(config, sockets.lines, sockets.web).or_else(|error| {
            // A machine without IPv6 has all its interfaces in IPv4.
            if !self.public || error.is_in_use() || error.store().is_some() {
                return Err(error);
            }
            let Config { listen, web, .. } = &mut config_in_ipv4;
            for address in listen.iter_mut().chain(web) {
                address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            }
            Server::bind(config_in_ipv4)
        });
        bound.map_err(|error| match error.address().filter(|_| error.is_in_use()) {
            Some(address) => (ExitCode::from(PORT_IN_USE), port_in_use(address)),
            None => (ExitCode::FAILURE, error.to_string()),
        })
    }
}

fn port_in_use(address: SocketAddr) -> String {
    let port = address.port();
    let another = SocketAddr::new(address.ip(), 0);
    format!(
        "port {port} is in use ({address}): another program listens there, maybe another parlor. \
         Stop it, or take any free ports with --listen {another} --web {another}"
    )
}

/// Written beside the file and then moved there: a reader sees nothing or all.
fn write_ports(file: &Path, lines: &[SocketAddr], web: &[SocketAddr]) -> io::Result<()> {
    let list = |bound: &[SocketAddr]| {
        let quoted: Vec<_> = bound.iter().map(|address| format!("\"{address}\"")).collect();
        quoted.join(",")
    };
    let json = format!("{{\"line\":[{}],\"web\":[{}]}}\n", list(lines), list(web));
    let mut whole = file.as_os_str().to_owned();
    whole.push(".part");
    fs::write(&whole, json)?;
    fs::rename(&whole, file)
}

/// Completes at the first SIGTERM or SIGINT; a second one ends the program at once.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (first, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut first = Some(first);
        loop {
            let signal = tokio::select! {
                _ = term.recv() => SignalKind::terminate(),
                _ = int.recv() => SignalKind::interrupt(),
            };
            match first.take() {
                Some(first) => drop(first.send(())),
                // The shell's way to say which signal it was.
                None => std::process::exit(128 + signal.as_raw_value()),
            }
        }
    });
    Ok(async move {
        let _ = stopped.await;
    })
}

/// Takes as many files as the system gives: every connection is one.
fn raise_file_limit(connections: usize) {
    let wanted = connections as u64 + files::OTHERS;
    if let Some(files) = files::take_all().filter(|files| *files < wanted) {
        warn!(files, connections, "there are fewer files than connections; raise: ulimit -n");
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let example = "it is written ADDR:PORT, like 127.0.0.1:7777, 0.0.0.0:7777 or [::1]:7777";
    text.parse().map_err(|_| example.to_owned())
}

fn parse_origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', ' ', ';', ',']) => {
            Ok(text.to_owned())
        }
        _ => Err("it is written like https://example.org, without a path".to_owned()),
    }
}

fn parse_store(text: &str) -> Result<StorePlace, String> {
    match text.strip_prefix("sqlite:") {
        Some(file) if !file.is_empty() => Ok(StorePlace::File(file.into())),
        None if text == "memory" => Ok(StorePlace::Memory),
        _ => {
            Err("it is written memory or sqlite:FILE, like sqlite:/var/lib/parlor/rooms.db"
                .to_owned())
        }
    }
}

fn parse_lobby(text: &str) -> Result<RoomCode, String> {
    RoomCode::lobby(text).map_err(|_| "a lobby's code is 1 to 16 letters and digits".to_owned())
}
