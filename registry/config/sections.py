"""*Sections* of the settings: each key with its type, its default, and its description for operators.

Tests: ``tests/config/test_settings.py``.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FilePath,
    IPvAnyNetwork,
    SecretStr,
    Tag,
)

from registry.config.durations import PARSED, Seconds, SecondsOrNone, WholeSeconds
from registry.config.mistakes import CHOICE, NO_CHOICE
from registry.config.urls import check_address, check_database

MIB = 1 << 20

Count = Annotated[int, Field(ge=1)]
AUTO: Final = "auto"
"""The machine decides."""
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def split_commas(value: object) -> object:
    """A list in the environment need not be JSON: ``10.0.0.0/8, ::1``."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _check_not_empty(value: object) -> object:
    if value == "":
        raise ValueError("is empty; . is where the command is started, and / is a whole bucket")
    return value


class Section(BaseModel):
    """One object of the file. Its values never change while a process runs; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, title="")


def _choose_workers(value: object) -> str | None:
    if value == AUTO:
        return f"{CHOICE}auto"
    is_number = isinstance(value, (int, float)) or (isinstance(value, str) and value.strip().lstrip("-").isdecimal())
    return f"{CHOICE}number" if is_number else None


Workers = Annotated[
    Annotated[Literal["auto"], Tag(f"{CHOICE}auto")] | Annotated[Count, Tag(f"{CHOICE}number")],
    Discriminator(
        _choose_workers, custom_error_type=NO_CHOICE, custom_error_message='is neither "auto" nor a whole number'
    ),
]


class TlsSettings(Section):
    """Serving HTTPS. Changed files count for new connections within two seconds, without a restart."""

    certificate: FilePath
    """PEM file with the certificate and the intermediates below it."""
    key: FilePath
    """PEM file with the private key of the certificate."""
    client_ca: FilePath | None = None
    """PEM file with the authorities of client certificates; null asks for none."""
    client_auth: Literal["required", "optional"] = "required"
    """Whether a client without a certificate is turned away, where client_ca is set."""
    client_crl: FilePath | None = None
    """PEM file with a revocation list (CRL) of each authority that signs client certificates; null asks none."""
    handshake_timeout: Seconds = 15
    """Seconds that the TLS handshake of a new connection may take."""


class HttpSettings(Section):
    """Listening and answering."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 or :: for every network."""
    port: int = Field(default=5000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and logs it."""
    workers: Workers = AUTO
    """Processes that serve, all on one port, one storage and one database; "auto": one for each core, four at most."""
    external_url: Annotated[str, AfterValidator(check_address)] | None = None
    """Address under which clients reach the registry: absolute URLs begin with it, relative ones with its path."""
    relative_locations: bool = True
    """Answer with paths in Location and Link; false makes absolute URLs if the whole address is known."""
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(split_commas)] = (
        ip_network("127.0.0.1"),
        ip_network("::1"),
    )
    """Addresses and networks whose X-Forwarded-Proto, -Host, -Prefix and -For headers are believed."""
    tls: TlsSettings | None = None
    """Certificate and key of HTTPS; null serves HTTP."""
    drain_timeout: Seconds = 30
    """Seconds that requests in flight have to end after SIGTERM."""
    idle_timeout: Seconds = 60
    """Seconds without a byte that end the wait for a request body; a whole request may take any time."""
    answer_timeout: Seconds = 60
    """Seconds without a byte taken that end the sending of an answer; a whole answer may take any time."""
    first_byte_timeout: Seconds = 30
    """Seconds until the first byte of a request on a new connection."""
    head_timeout: Seconds = 30
    """Seconds that the head of a request may take, from its first byte to its last."""
    keep_alive_timeout: Seconds = 75
    """Seconds that a connection is kept open between two requests."""
    max_head_bytes: int = Field(default=64 << 10, ge=1 << 10)
    """Bytes of the head of a request, and of the trailers behind a chunked body; 431 beyond."""
    max_target_bytes: int = Field(default=8 << 10, ge=256)
    """Bytes of the target (the path with the query) of a request; 414 beyond."""
    max_headers: int = Field(default=128, ge=16)
    """Header lines of a request; 431 beyond."""
    max_connections: Count = 4096
    """Connections of one process, if its descriptors suffice; beyond, probes are answered and the rest gets 503."""


class S3Settings(Section):
    """A bucket of Amazon S3 or of a store that speaks its protocol."""

    bucket: str = Field(pattern=r"^([a-zA-Z0-9._-]{1,255}|arn:.+)$")
    """Name of the bucket, which must exist."""
    region: str | None = None
    """Region of the bucket; null takes it from the environment or profile."""
    endpoint_url: Annotated[str, AfterValidator(check_address)] | None = None
    """Address of the store; null is Amazon's."""
    access_key_id: str | None = None
    """Access key; null takes credentials from the environment, a profile, or the machine's role."""
    secret_access_key: SecretStr | None = None
    """Secret of the access key."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Place of the bucket's name: path (endpoint/bucket) or virtual (bucket.endpoint); auto chooses."""
    part_size: int = Field(default=16 * MIB, ge=5 * MIB, le=5 << 30)
    """Bytes of a part of a large upload, which has at most 10,000 parts."""
    checksums: Literal["auto", "crc32c", "sha256"] = "auto"
    """Checksum of parts of large uploads; auto: crc32c if a probe finds that the store compares it, else sha256."""
    attempts: Count = 4
    """Times that a throttled or unanswered request is sent, the first one included."""
    connect_timeout: Seconds = 5
    """Seconds that connecting may take."""
    read_timeout: Seconds = 30
    """Seconds that the store may be silent."""
    timeout: Seconds = 70
    """Seconds that a request may take with its repetitions, not counting the bytes that it moves."""
    connections: Count = 64
    """Requests of each worker at a time; while all wait for a silent store, further ones get 503."""
    redirect_endpoint_url: Annotated[str, AfterValidator(check_address)] | None = None
    """Address of the store for clients that are redirected to it; null: endpoint_url."""


class RedirectRule(Section):
    """Downloads that go to the store itself. An empty field of a rule matches everything."""

    networks: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(split_commas)] = ()
    """Addresses and networks of clients."""
    user_agents: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = ()
    """Patterns of the User-Agent header, with * and ?."""
    repositories: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = ()
    """Patterns of repository names, with * and ?."""
    redirect: bool = True
    """Whether matching downloads are redirected."""


def _choose_redirect(value: object) -> str | None:
    if isinstance(value, list | tuple):
        return f"{CHOICE}rules"
    return f"{CHOICE}word" if value in ("off", "on") else None


Redirect = Annotated[
    Annotated[Literal["off", "on"], Tag(f"{CHOICE}word")] | Annotated[tuple[RedirectRule, ...], Tag(f"{CHOICE}rules")],
    Discriminator(
        _choose_redirect, custom_error_type=NO_CHOICE, custom_error_message="is neither off, on, nor a list of rules"
    ),
]


class GcsSettings(Section):
    """A bucket of Google Cloud Storage or of a store that speaks its JSON protocol."""

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$")
    """Name of the bucket, which must exist."""
    endpoint_url: Annotated[str, AfterValidator(check_address)] | None = None
    """Address of the store; null is Google's."""
    credentials_file: FilePath | None = None
    """JSON key of a service account; null takes what the platform offers (GOOGLE_APPLICATION_CREDENTIALS, its role)."""
    anonymous: bool = False
    """Ask without credentials: for emulators."""
    project: str | None = None
    """Project that pays for the requests; null is that of the bucket."""
    part_size: int = Field(default=16 * MIB, ge=MIB // 4, le=5 << 30)
    """Bytes of a part of a large upload; parts are objects until they are composed into one."""
    attempts: Count = 4
    """Times that a throttled or unanswered request is sent, the first one included."""
    connect_timeout: Seconds = 5
    """Seconds that connecting may take."""
    read_timeout: Seconds = 30
    """Seconds that the store may be silent."""
    timeout: Seconds = 70
    """Seconds that a request may take with its repetitions, not counting the bytes that it moves."""
    connections: Count = 64
    """Requests of each worker at a time; while all wait for a silent store, further ones get 503."""


class StorageSettings(Section):
    """Where content is kept."""

    driver: Literal["local", "s3", "gcs"] = "local"
    """Kind of storage: local, a directory of this machine; s3 or gcs, a bucket."""
    root_directory: Annotated[Path, BeforeValidator(_check_not_empty)] = Path("registry-data")
    """Directory of the storage, relative to the working directory; in a bucket, the prefix of all keys."""
    s3: S3Settings | None = None
    """The bucket, if driver is s3."""
    gcs: GcsSettings | None = None
    """The bucket, if driver is gcs."""
    redirect: Redirect = "off"
    """Send clients to the bucket for blobs: off, on, or rules, of which the first match decides (no match: off)."""
    redirect_expiry: WholeSeconds = Field(default=1200, ge=1, le=604800)
    """Seconds for which the signed URL of a redirect is valid."""
    fsync: bool = True
    """Answer a push only when its bytes are on stable storage; false is faster and loses pushes in a power cut."""
    dedupe: bool = True
    """Store the bytes of a blob once and link them into every repository."""
    delete: bool = True
    """Let clients delete tags, manifests and blobs."""
    upload_expiry: Seconds = 86400
    """Seconds after which an upload that no client continued is removed."""
    rescan_interval: Seconds = 60
    """Seconds between walks of the storage for layouts that other tools placed."""

    @property
    def bucket(self) -> S3Settings | GcsSettings | None:
        """The section of the driver in use, which has its name; None if there is none."""
        section: S3Settings | GcsSettings | None = getattr(self, self.driver, None)
        return section


class DatabaseSettings(Section):
    """The cache database."""

    url: Annotated[str, AfterValidator(check_database)] | None = Field(default=None, repr=False)
    """SQLAlchemy URL, sqlite or postgresql+psycopg; null is SQLite in {root_directory}/.database/registry.db."""
    timeout: Seconds = 10
    """Seconds that a step of a transaction may wait for the database; then requests are answered 503."""
    connect_timeout: Seconds = 5
    """Seconds that PostgreSQL may take to accept a connection."""


class ManifestsSettings(Section):
    """Which manifests are accepted."""

    max_bytes: Count = 8 * MIB
    """Bytes of the largest manifest that is accepted; 413 beyond."""
    missing_blobs: Literal["reject", "accept"] = "reject"
    """Reject or accept a manifest that names a blob which its repository lacks."""
    missing_manifests: Literal["reject", "accept"] = "reject"
    """Reject or accept an index that names a manifest which its repository lacks."""


def _choose_interval(value: object) -> str | None:
    return f"{CHOICE}auto" if value == AUTO else f"{CHOICE}seconds"


Interval = Annotated[
    Annotated[Literal["auto"], Tag(f"{CHOICE}auto")]
    | Annotated[Annotated[float, PARSED, Field(gt=0, allow_inf_nan=False)], Tag(f"{CHOICE}seconds")],
    Discriminator(_choose_interval),
]


class GcSettings(Section):
    """Keeping and collecting unreferenced content."""

    interval: Interval | None = AUTO
    """Seconds between two collections; null: only the command; auto: a day, if no earlier release wrote the storage."""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 500
    """Objects that a collection deletes in a second, at most; null for no bound."""
    untagged_after: SecondsOrNone | None = None
    """Seconds after which a manifest goes that has no tag, is listed by none and was not pulled; null: never."""
    orphans_after: SecondsOrNone = 604800
    """Seconds after which objects go of which nothing knows; the longest of this and undelete_window counts."""
    lease: SecondsOrNone = 86400
    """Seconds for which content is kept without a reference after a client uploaded, mounted or checked it."""
    grace: SecondsOrNone = 86400
    """Seconds for which content is kept after it has fallen out of use, before it may be collected."""
    undelete_window: SecondsOrNone = 1209600
    """Seconds for which manifests that were deleted can be restored, with everything that they name."""


class AuditSettings(Section):
    """The audit log: changes, refusals, logins that failed, and tokens, one JSON object a line."""

    file: Path | None = None
    """File that it is appended to, also after a rotation; null: stderr if auth or access is there, else nothing."""


class LogSettings(Section):
    """The log, on stderr."""

    format: Literal["auto", "text", "json"] = "auto"
    """Form of the lines: text, json, or auto: text on a terminal, JSON otherwise."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged; requests are logged at info."""
    audit: AuditSettings = AuditSettings()
    """The audit log."""


class MetricsSettings(Section):
    """Prometheus metrics."""

    enabled: bool = True
    """Serve the sum over all workers at /metrics."""
    protect: bool = False
    """Serve /metrics to known identities alone (auth): a scraper sends a user and password, a key or a certificate."""
    usage_interval: Annotated[SecondsOrNone, Field(gt=0)] | None = 3600
    """Seconds between two counts of what takes room on storage, for its metrics; null: none."""


class LimitsSettings(Section):
    """Bounds on what one process uses."""

    upload_buffers: int = Field(default=256 * MIB, ge=4 * MIB)
    """Memory for upload bodies in each worker, in bytes; over a bucket slow uploads spill theirs to the store."""
    threads: Count = 32
    """Threads in each worker that read, write and query."""
    queue_timeout: Seconds = 15
    """Seconds that a request waits for a thread; then it is answered 503."""
    read_memory: int = Field(default=64 * MIB, ge=0)
    """Bytes of manifests, tags and referrers that each worker keeps in memory."""
    page_size: Count = 1000
    """Most entries of one page of tags, catalog or referrers."""
    uploads: Count = 20_000
    """Upload sessions open on all replicas; beyond, the account or address with the most sessions loses its oldest."""
    uploads_per_address: Count = 5_000
    """Upload sessions open for one account or, without credentials, one address (or IPv6 network of 64 bits)."""


class PricesSettings(Section):
    """What a store bills, in US dollars or any other currency; the defaults are Amazon's for S3 Standard."""

    lists: Price = 0.005
    """For 1,000 listings of up to 1,000 objects."""
    heads: Price = 0.0004
    """For 1,000 HEAD requests."""
    gets: Price = 0.0004
    """For 1,000 reads."""
    puts: Price = 0.005
    """For 1,000 writes."""
    copies: Price = 0.005
    """For 1,000 copies inside the store, and parts of one."""
    deletes: Price = 0
    """For 1,000 deletions; one of them may delete many objects."""
    gib_read: Price = 0
    """For each GiB read by this machine; 0 if both are in one region."""
    gib_month: Price = 0.023
    """For keeping a GiB for a month."""


class MigrationSettings(Section):
    """Migrating a bucket that another registry filled."""

    parallel: Count = 16
    """Requests in flight at the same time."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Most requests per second of a run, so that clients keep their share; null for no limit."""
    prices: PricesSettings = PricesSettings()
    """What a store bills, in US dollars or any other currency; the defaults are Amazon's for S3 Standard."""
