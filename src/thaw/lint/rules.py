"""The rules: codes, what they say, and the names of functions that trigger them.

Sources of the rules: Lambda's developer guide on SnapStart ("Handling uniqueness", "Best practices"), the documentation
of the libraries named here on when they connect or start threads. What connects only when it is first used (redis,
requests, boto3, SQLAlchemy's engines, gRPC channels) is no finding.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`sentence` follows the name of the call and of its keeper; `resource`: closing it undoes the finding."""

    code: str
    title: str
    sentence: str
    resource: bool = False


_REMEDY = "make it in the handler, or again in an after-restore hook"
_REOPEN = "close it in a before-snapshot hook and open it in an after-restore hook, or open it in the handler"

RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("TS101", "random value", f"every clone has the same random value: {_REMEDY}"),
        Rule("TS102", "random generator", "every clone goes on with the same random numbers: seed it again in an "
             "after-restore hook, or use random.SystemRandom or secrets"),
        Rule("TS103", "seed", "every clone goes on with the same random numbers: seed in an after-restore hook"),
        Rule("TS111", "unique id", f"every clone has the same id: {_REMEDY}"),
        Rule("TS112", "process number", f"a clone is another process with another number: {_REMEDY}"),
        Rule("TS121", "time", f"every clone has the time of the publish: {_REMEDY}"),
        Rule("TS131", "credentials", f"every clone has the secret of the publish, which may have expired: {_REMEDY}"),
        Rule("TS141", "connection", f"every clone finds it broken: {_REOPEN}", resource=True),
        Rule("TS151", "temporary file", f"every clone has the same file under the same name: {_REMEDY}", resource=True),
        Rule("TS161", "thread", "it goes on in every clone from where it was frozen: start it in an after-restore hook "
             "or the handler", resource=True),
        Rule("TS171", "child process", "it belongs to the snapshot, or keeps it from being taken: start it in an "
             "after-restore hook or the handler", resource=True),
    )
}  # fmt: skip


def _all(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_RANDOM = _all(
    "random",
    "random randint randrange getrandbits randbytes choice choices sample uniform triangular betavariate expovariate "
    "gammavariate gauss lognormvariate normalvariate vonmisesvariate paretovariate weibullvariate binomialvariate",
)
_RANDOM += _all("secrets", "token_bytes token_hex token_urlsafe choice randbelow randbits")
_RANDOM += ["os.urandom", "os.getrandom", "ssl.RAND_bytes", "bcrypt.gensalt", "nacl.utils.random"]
_RANDOM += _all(
    "numpy.random",
    "rand randn randint random random_sample ranf sample choice bytes permutation normal uniform standard_normal "
    "poisson binomial exponential beta gamma",
)
_RANDOM += [
    "cryptography.fernet.Fernet.generate_key",
    "cryptography.hazmat.primitives.asymmetric.rsa.generate_private_key",
    "cryptography.hazmat.primitives.asymmetric.ec.generate_private_key",
    "cryptography.hazmat.primitives.ciphers.aead.AESGCM.generate_key",
    "Crypto.Random.get_random_bytes",
]
_IDS = ["uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "bson.ObjectId", "bson.objectid.ObjectId"]
_IDS += ["ulid.ULID", "ulid.new", "shortuuid.uuid", "shortuuid.ShortUUID.random", "nanoid.generate", "ksuid.Ksuid"]
_IDS += ["cuid2.cuid_wrapper", "snowflake.SnowflakeGenerator"]
_TIMES = _all("time", "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns ctime asctime")
_TIMES += _all("datetime.datetime", "now utcnow today")
_TIMES += [
    "datetime.date.today",
    "pendulum.now",
    "pendulum.today",
    "arrow.now",
    "arrow.utcnow",
    "django.utils.timezone.now",
]
_SECRETS = _all("aws_lambda_powertools.utilities.parameters", "get_secret")
_CONNECTIONS = [
    f"{name}.connect"
    for name in (
        "psycopg2", "psycopg", "psycopg.Connection", "pymysql", "MySQLdb", "mysql.connector", "mariadb", "pymssql",
        "pyodbc", "cx_Oracle", "oracledb", "snowflake.connector", "redshift_connector", "pg8000", "pg8000.native",
        "asyncpg", "aiomysql", "mongoengine", "nats", "jaydebeapi", "vertica_python", "clickhouse_driver",
        "databricks.sql", "trino.dbapi", "pyhive.hive", "psycopg2cffi",
    )
]  # fmt: skip
_CONNECTIONS += [
    "pymysql.Connection", "pymysql.connections.Connection", "pg8000.native.Connection",
    "psycopg2.pool.SimpleConnectionPool", "psycopg2.pool.ThreadedConnectionPool", "psycopg_pool.ConnectionPool",
    "mysql.connector.pooling.MySQLConnectionPool", "pymongo.MongoClient", "pymongo.mongo_client.MongoClient",
    "pymongo.Connection", "socket.create_connection", "smtplib.SMTP", "smtplib.SMTP_SSL", "ftplib.FTP",
    "ftplib.FTP_TLS", "imaplib.IMAP4", "imaplib.IMAP4_SSL", "poplib.POP3", "poplib.POP3_SSL", "telnetlib.Telnet",
    "kafka.KafkaProducer", "kafka.KafkaConsumer", "pika.BlockingConnection", "websocket.create_connection",
    "websockets.sync.client.connect", "pymssql.Connection", "oracledb.create_pool", "cx_Oracle.SessionPool",
    "ldap.initialize", "pysftp.Connection", "asyncpg.create_pool", "confluent_kafka.Consumer",
    "confluent_kafka.Producer", "rethinkdb.connect", "hazelcast.HazelcastClient", "simple_salesforce.Salesforce",
    "exchangelib.Account", "clickhouse_connect.get_client",
]  # fmt: skip
_TEMPORARY = _all(
    "tempfile", "NamedTemporaryFile TemporaryFile SpooledTemporaryFile TemporaryDirectory mkstemp mkdtemp mktemp"
)
_PROCESSES = [
    "subprocess.Popen", "multiprocessing.Pool", "multiprocessing.Manager", "multiprocessing.pool.Pool", "os.fork",
    "os.posix_spawn", "os.popen", "pexpect.spawn", "torch.multiprocessing.Pool",
]  # fmt: skip

CALLS: dict[str, str] = {
    **dict.fromkeys(_RANDOM, "TS101"),
    **dict.fromkeys(_IDS, "TS111"),
    **dict.fromkeys(["os.getpid", "threading.get_native_id", "threading.get_ident"], "TS112"),
    **dict.fromkeys(_TIMES, "TS121"),
    **dict.fromkeys(_SECRETS, "TS131"),
    **dict.fromkeys(_CONNECTIONS, "TS141"),
    **dict.fromkeys(_TEMPORARY, "TS151"),
    **dict.fromkeys(_PROCESSES, "TS171"),
}
"""Calls whose result must not be kept, by their full names."""

WITHOUT_ARGUMENTS: dict[str, tuple[str, int]] = {
    "time.localtime": ("TS121", 1), "time.gmtime": ("TS121", 1), "time.strftime": ("TS121", 2),
}  # fmt: skip
"""Calls that mean the present moment unless they are given one as argument number n."""

LAZY_WITHOUT_HOST = frozenset({"smtplib.SMTP", "smtplib.SMTP_SSL", "ftplib.FTP", "ftplib.FTP_TLS"})
"""These connect only when they are given a host."""

GENERATORS = frozenset(
    [
        "random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.PCG64",
        "numpy.random.Generator", "numpy.random.SeedSequence", "numpy.random.MT19937", "numpy.random.Philox",
    ]
)  # fmt: skip
"""Random generators. One with a constant seed is meant to repeat itself."""

SEEDS = frozenset(["random.seed", "numpy.random.seed"])
"""They change a generator that the module does not hold; a constant seed is meant."""

SHUFFLES = frozenset(["random.shuffle", "numpy.random.shuffle"])
"""They put random order into their argument."""

SECRET_METHODS = frozenset(
    [
        "get_secret_value", "batch_get_secret_value", "assume_role", "assume_role_with_web_identity",
        "assume_role_with_saml", "get_session_token", "get_federation_token", "get_frozen_credentials",
        "generate_db_auth_token", "get_cluster_credentials", "get_authorization_token", "get_secret_string",
        "create_token",
    ]
)  # fmt: skip
"""Methods of AWS clients that answer with a secret, whatever the client is called. `get_credentials` is none: the
session renews those."""

PARAMETER_METHODS = frozenset(["get_parameter", "get_parameters", "get_parameters_by_path", "get_secret"])
"""Secrets where they are asked for decrypted (WithDecryption, decrypt)."""

READS_VARIABLE = frozenset(["os.environ.get", "os.getenv", "os.environ.setdefault"])
SECRET_VARIABLES = frozenset(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
"""Lambda's own credentials of an environment: with SnapStart they are not there during Init, and change later."""

STARTS: dict[tuple[str, str], str] = {
    ("threading.Thread", "start"): "TS161",
    ("threading.Timer", "start"): "TS161",
    ("multiprocessing.Process", "start"): "TS171",
    ("multiprocessing.context.Process", "start"): "TS171",
    ("concurrent.futures.ThreadPoolExecutor", "submit"): "TS161",
    ("concurrent.futures.ThreadPoolExecutor", "map"): "TS161",
    ("concurrent.futures.thread.ThreadPoolExecutor", "submit"): "TS161",
    ("concurrent.futures.ProcessPoolExecutor", "submit"): "TS171",
    ("concurrent.futures.ProcessPoolExecutor", "map"): "TS171",
    ("multiprocessing.pool.ThreadPool", "map"): "TS161",
    ("logging.handlers.QueueListener", "start"): "TS161",
    ("apscheduler.schedulers.background.BackgroundScheduler", "start"): "TS161",
    ("socket.socket", "connect"): "TS141",
    ("paramiko.SSHClient", "connect"): "TS141",
    ("paramiko.client.SSHClient", "connect"): "TS141",
    ("smtplib.SMTP", "connect"): "TS141",
    ("smtplib.SMTP_SSL", "connect"): "TS141",
    ("paho.mqtt.client.Client", "connect"): "TS141",
    ("paho.mqtt.client.Client", "loop_start"): "TS161",
    ("AWSIoTPythonSDK.MQTTLib.AWSIoTMQTTClient", "connect"): "TS141",
    ("sqlalchemy.create_engine", "connect"): "TS141",
    ("sqlalchemy.engine.create_engine", "connect"): "TS141",
    ("cassandra.cluster.Cluster", "connect"): "TS141",
    ("peewee.MySQLDatabase", "connect"): "TS141",
    ("peewee.PostgresqlDatabase", "connect"): "TS141",
    ("http.client.HTTPConnection", "request"): "TS141",
    ("http.client.HTTPSConnection", "request"): "TS141",
    ("http.client.HTTPConnection", "connect"): "TS141",
    ("http.client.HTTPSConnection", "connect"): "TS141",
    ("redis.Redis", "ping"): "TS141",
    ("redis.StrictRedis", "ping"): "TS141",
    ("redis.from_url", "ping"): "TS141",
}
"""(what made the object, its method): from this call on the object is what the rule is about."""

KINDS = frozenset(kind for kind, _ in STARTS)
NAMES = KINDS | GENERATORS | SEEDS | SHUFFLES | CALLS.keys() | WITHOUT_ARGUMENTS.keys()
"""Everything that a rule knows by its full name."""

ENDS = frozenset(
    [
        "close", "stop", "terminate", "kill", "join", "wait", "communicate", "shutdown", "cancel", "cleanup", "quit",
        "logout", "disconnect", "unlink", "dispose", "aclose", "exit", "server_close",
    ]
)  # fmt: skip
"""Methods after which an object is no connection, file, thread or process any more."""

HOOKS_BEFORE = frozenset(["snapshot_restore_py.register_before_snapshot", "snapshot_restore.register_before_snapshot"])
HOOKS_AFTER = frozenset(["snapshot_restore_py.register_after_restore", "snapshot_restore.register_after_restore"])
