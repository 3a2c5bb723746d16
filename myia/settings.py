"""All settings: the only reader of the environment; each value has a working default."""

import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from certification.lib import redis_address
from certification.stack import embedded
from myia import logs
from myia.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()

# Embedded servers, generated secrets, logs and process files live in `.myia` of this folder.
MYIA_ROOT = Path(env.str("MYIA_ROOT", default=str(BASE_DIR)))
MYIA_DIR = MYIA_ROOT / ".myia"

VERSION = "0.1.0"
DEBUG = env.bool("DEBUG", default=False)
# Behind HTTPS: enables secure cookies, HSTS and redirects.
HTTPS = env.bool("HTTPS", default=False)
PORT = env.port("PORT", default=3001)
# Where the web server listens: 0.0.0.0 in a container, behind a proxy.
WEB_HOST = env.str("WEB_HOST", default="127.0.0.1")
WEB_PROCESSES = env.int("WEB_PROCESSES", default=2, minimum=1)
# Those of this machine always: supervisors and health checks call us by them.
ALLOWED_HOSTS = [*env.list("ALLOWED_HOSTS", default=[]), "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

DATABASE_URL = env.address("DATABASE_URL")
# Past a pooler, for commands that need a session of their own; "": DATABASE_URL.
DATABASE_DIRECT_URL = env.address("DATABASE_DIRECT_URL")
# A read replica; "": everything is read from the first server.
DATABASE_REPLICA_URL = env.address("DATABASE_REPLICA_URL")
is_command = Path(sys.argv[0]).name == "manage.py" and "runserver" not in sys.argv
DIRECT_COMMANDS = {"backup", "dbshell", "migrate", "restore"}
if DATABASE_URL and DATABASE_DIRECT_URL and is_command and DIRECT_COMMANDS & set(sys.argv[1:2]):
    DATABASE_URL = DATABASE_DIRECT_URL
REDIS_URL = env.redis("REDIS_URL")
# A second server for what may be lost at any time; "": the same.
CACHE_URL = env.redis("CACHE_URL")
if not REDIS_URL and env.str("REDIS_HOST", default=""):
    REDIS_URL = f"redis://{env.str('REDIS_HOST')}:{env.port('REDIS_PORT', default=6379)}/0"
# Which of the two servers we start ourselves.
EMBEDDED_POSTGRES, EMBEDDED_VALKEY = not DATABASE_URL, not REDIS_URL
if EMBEDDED_POSTGRES or EMBEDDED_VALKEY:
    embedded_urls = embedded.urls(MYIA_ROOT)
    DATABASE_URL, REDIS_URL = (
        DATABASE_URL or embedded_urls.database_url,
        REDIS_URL or embedded_urls.redis_url,
    )


def read_secret_key() -> str:
    """Return the configured key; with the embedded database, one that is generated once and that
    only we can read.
    """
    if key := env.secret("SECRET_KEY"):
        return key
    if not EMBEDDED_POSTGRES:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. With your own DATABASE_URL, set it to a long random value, for "
            "example: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    file = MYIA_DIR / "secret_key"
    if not file.exists():
        MYIA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        try:
            os.link(draft, file)  # atomic: two processes that start together agree on one key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    embedded.give_to_account(MYIA_ROOT, file)
    return file.read_text()


SECRET_KEY = read_secret_key()
# previous keys, still valid for what they signed
SECRET_KEY_FALLBACKS = [key for key in env.secret("SECRET_KEY_FALLBACKS").split(",") if key]

# --- Certification ---
CERTIFICATION_QUEUE_NAME = env.str("CERTIFICATION_QUEUE_NAME", default="model-certification")
# runs at once per worker process
CERTIFICATION_CONCURRENCY = env.int("CERTIFICATION_CONCURRENCY", default=16)
CERTIFICATION_CALLS_PER_RUN = env.int("CERTIFICATION_CALLS_PER_RUN", default=4)
# Calls in flight per worker process, for all its runs; 0: no limit beyond that of each run.
# for the runs of large jobs, on one machine; the worker for single runs is one more
CERTIFICATION_BULK_WORKERS = env.int(
    "CERTIFICATION_BULK_WORKERS", default=min(os.cpu_count() or 1, 4)
)
CERTIFICATION_CALLS_IN_FLIGHT = env.int("CERTIFICATION_CALLS_IN_FLIGHT", default=0)
CERTIFICATION_TIMEOUT = env.int("CERTIFICATION_TIMEOUT", default=300_000)  # ms for one run
CERTIFICATION_MAX_RETRIES = env.int("CERTIFICATION_MAX_RETRIES", default=3)
CERTIFICATION_TTL_DAYS = env.int("CERTIFICATION_TTL_DAYS", default=30)
# jobs with more runs use the bulk queue
CERTIFICATION_BULK_RUNS = env.int("CERTIFICATION_BULK_RUNS", default=20)
# seconds until the runs of a paused queue fail
CERTIFICATION_PAUSE_LIMIT = env.int("CERTIFICATION_PAUSE_LIMIT", default=3600)
# seconds without a heartbeat until a run counts as stalled
CERTIFICATION_HEARTBEAT_TIMEOUT = env.int("CERTIFICATION_HEARTBEAT_TIMEOUT", default=30)
# seconds before a message counts as lost
CERTIFICATION_RESEND_AFTER = env.int("CERTIFICATION_RESEND_AFTER", default=30)
WORKER_HEALTH_HOST = env.str("WORKER_HEALTH_HOST", default="127.0.0.1")
WORKER_HEALTH_PORT = env.port("WORKER_HEALTH_PORT", default=3002)  # 0: no health server
# Set by systemd: where it listens for a service, and for how long a worker may be silent.
NOTIFY_SOCKET = env.str("NOTIFY_SOCKET", default="")
WATCHDOG_SECONDS = env.int("WATCHDOG_USEC", default=0, maximum=2**53) / 1_000_000
FLOWER_HOST = env.str("FLOWER_HOST", default="127.0.0.1")
FLOWER_PORT = env.port("FLOWER_PORT", default=5555)
# user:password; `up` generates and stores one when empty
FLOWER_BASIC_AUTH = env.secret("FLOWER_BASIC_AUTH")
# Regions whose runs only certain workers take: the same list for every process. A worker with
# WORKER_REGIONS takes the runs of its regions and nothing else.
PINNED_REGIONS = env.list("PINNED_REGIONS", default=[])
WORKER_REGIONS = env.list("WORKER_REGIONS", default=[])

# seconds that browsers and proxies cache a badge
BADGE_MAX_AGE = env.int("BADGE_MAX_AGE", default=300)
# seconds that browsers cache a model's public page and processes share it
PUBLIC_CACHE_SECONDS = env.int("PUBLIC_CACHE_SECONDS", default=60)
# seconds that processes share what they read for a badge; 0: none
BADGE_CACHE_SECONDS = env.int("BADGE_CACHE_SECONDS", default=10)

# --- Certificates ---
# Where people reach us: what QR codes and certificates name. Look-ups a minute from one address; 0:
# no limit.
PUBLIC_URL = (env.address("PUBLIC_URL") or f"http://localhost:{PORT}").rstrip("/")
CERTIFICATE_ISSUER = env.str("CERTIFICATE_ISSUER", default="MyIA Certification")
VERIFICATIONS_PER_MINUTE = env.int("VERIFICATIONS_PER_MINUTE", default=30)
# The private Ed25519 key (PEM) or its file. Without either one is made on first use in this folder,
# which belongs to the account of the services.
CERTIFICATE_KEY = env.str("CERTIFICATE_KEY", default="").replace("\\n", "\n")
CERTIFICATE_KEY_FILE = env.str("CERTIFICATE_KEY_FILE", default="")
CERTIFICATE_FOLDER = MYIA_DIR / "certificates"
PRIVATE_FOLDER = MYIA_DIR / "private"  # what else is made on first use and nobody else may read
BACKUP_DIR = MYIA_DIR / "backups"
services_account = None
if EMBEDDED_POSTGRES:
    # Made here: started by root, the services run as an account that cannot write beside them.
    services_account = embedded.account(MYIA_ROOT)
    for folder in (CERTIFICATE_FOLDER, PRIVATE_FOLDER, BACKUP_DIR):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        embedded.give_to_account(MYIA_ROOT, folder)
PRIVATE_FILES_OWNER = services_account and (services_account.pw_uid, services_account.pw_gid)

# --- Backups ---
BACKUP_DIR = Path(env.str("BACKUP_DIR", default="") or BACKUP_DIR)
# 32 random bytes in base64, or their file; without either one is made at the first backup. 0 seals
# nothing: for a BACKUP_DIR that is encrypted itself.
BACKUP_KEY = env.str("BACKUP_KEY", default="")
BACKUP_KEY_FILE = env.str("BACKUP_KEY_FILE", default="")
BACKUP_ENCRYPT = env.bool("BACKUP_ENCRYPT", default=True)
# how many days, weeks and months keep their newest backup
BACKUP_KEEP_DAILY = env.int("BACKUP_KEEP_DAILY", default=7, minimum=1)
BACKUP_KEEP_WEEKLY = env.int("BACKUP_KEEP_WEEKLY", default=4, minimum=0)
BACKUP_KEEP_MONTHLY = env.int("BACKUP_KEEP_MONTHLY", default=12, minimum=0)

BEDROCK_BACKEND = env.str("BEDROCK_BACKEND", default="auto")  # auto | aws | emulator
EMULATOR_PORT = env.port("EMULATOR_PORT", default=4599)
EMULATOR_TIME_SCALE = env.float("EMULATOR_TIME_SCALE", default=1.0, minimum=0)
EMULATOR_SCENARIO = env.str("EMULATOR_SCENARIO", default="")
# who may switch the emulator's scenario (`practice`); `up` generates and stores one when empty
EMULATOR_CONTROL_SECRET = env.secret("EMULATOR_CONTROL_SECRET")
BEDROCK_ENDPOINT_URL = env.address("BEDROCK_ENDPOINT_URL")

# --- Webhooks ---
# Receivers are called over HTTPS at public addresses; your own networks (CIDR) and plain HTTP must
# be allowed here.
WEBHOOK_ALLOWED_NETWORKS = env.list("WEBHOOK_ALLOWED_NETWORKS", default=[])
WEBHOOK_ALLOW_HTTP = env.bool("WEBHOOK_ALLOW_HTTP", default=False)
WEBHOOK_TIMEOUT = env.int("WEBHOOK_TIMEOUT", default=10)  # seconds for one attempt
# a file of certificates; empty: the system's
WEBHOOK_CA_BUNDLE = env.str("WEBHOOK_CA_BUNDLE", default="")
# days of failures only
WEBHOOK_DISABLE_AFTER_DAYS = env.int("WEBHOOK_DISABLE_AFTER_DAYS", default=3)

# --- Django ---
INSTALLED_APPS = [
    "myia.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_celery_results",
    "django_htmx",
    "django_structlog",
    "axes",
    "corsheaders",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "certification",
]
MIDDLEWARE = [
    "certification.lib.request_metrics.RequestMetrics",
    "certification.lib.probes.Probes",
    "certification.api.authentication.TokenFromQuery",
    "certification.api.envelope.RequestId",
    "certification.api.envelope.UnusableValues",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "certification.badges.views.BadgeMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "certification.web.logins.NotedSessions",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "certification.operations.audit.AuditTrail",
    "certification.api.read_only.ReadOnlyMode",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "certification.lib.request_log.RequestLog",
    "axes.middleware.AxesMiddleware",
    "certification.web.read_replica.ReadReplica",
]
ROOT_URLCONF = "myia.urls"
WSGI_APPLICATION = "myia.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "certification.web.looks.context",
            ],
        },
    }
]

PGBOUNCER_PORT = 6432
DATABASES = {"default": env.database(DATABASE_URL)}
# A server that follows the first one: lists, badges and public pages are read there while it is not
# more than a few seconds behind (lib/postgresql/replica.py).
if DATABASE_REPLICA_URL:
    DATABASES["replica"] = env.database(DATABASE_REPLICA_URL)
    DATABASES["replica"]["OPTIONS"]["target_session_attrs"] = "any"
    DATABASES["replica"]["TEST"] = {"MIRROR": "default"}
    DATABASE_ROUTERS = ["certification.lib.postgresql.replica.Router"]
for database in DATABASES.values():
    database["CONN_MAX_AGE"] = 0  # the pool below has the connections
    database["CONN_HEALTH_CHECKS"] = False  # lib/postgresql looks without asking
    database["OPTIONS"] = {
        "connect_timeout": 5,  # seconds
        "tcp_user_timeout": 10_000,  # ms without an acknowledgement from the server's machine
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        # Only what models/sql.py prepares is prepared.
        "prepare_threshold": 0,
        **database["OPTIONS"],
        "pool": {
            "min_size": 1,
            "max_size": env.int("DATABASE_POOL_SIZE", default=10, minimum=1),
            "timeout": 30,
        },
    }
if DATABASE_REPLICA_URL:
    DATABASES["replica"]["OPTIONS"]["pool"]["timeout"] = 1  # then the first one is read
# A pooler that gives each transaction another session (PgBouncer, by its port unless it is said)
# forgets what a session prepared and the cursors that it holds.
POOLER_PORTS = set(str(DATABASES["default"].get("PORT", "")).split(","))
DATABASE_POOLER = env.choice(
    "DATABASE_POOLER",
    "transaction" if {str(PGBOUNCER_PORT)} == POOLER_PORTS else "none",
    "none",
    "transaction",
)
if DATABASE_POOLER == "transaction":
    for database in DATABASES.values():
        database["OPTIONS"]["prepare_threshold"] = None
        database["DISABLE_SERVER_SIDE_CURSORS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Nothing uses Django's cache, which pickles what it stores; lib/shared_cache.py is ours.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

AUTH_USER_MODEL = "certification.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_VERBOSE = False
AXES_LOCKOUT_CALLABLE = "certification.api.envelope.locked_out"
SESSION_ENGINE = "certification.models.sessions"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("pt-br", _("Brazilian Portuguese"))]
LOCALE_PATHS = [BASE_DIR / "certification" / "locale"]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Without collectstatic, files are served from the source tree; a production image runs it with
# STATIC_ROOT set.
STATIC_ROOT = env.str("STATIC_ROOT", default="") or None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# --- Security ---
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
# What probes and scrapers ask, each process by its own address, not through the proxy with its TLS.
PROBED_ADDRESSES = r"^(live|ready|health|api/health|metrics)$"
SECURE_REDIRECT_EXEMPT = [PROBED_ADDRESSES]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- JSON API ---
API_TOKEN_HOURS = env.float("API_TOKEN_HOURS", default=12)  # until a token must be refreshed
API_LOGIN_DAYS = env.float("API_LOGIN_DAYS", default=7)  # until a login ends, however refreshed
API_MAX_BODY_BYTES = env.int("API_MAX_BODY_BYTES", default=1_048_576)
# Seconds that processes share a response that is read often (certifications, matrix) while nothing
# changes; 0: none.
API_CACHE_SECONDS = env.int("API_CACHE_SECONDS", default=15)
# Requests per minute: reads and writes per user (per address without one), reads of jobs by who
# started them, logins and log lines of frontends per address; 0: no limit.
API_RATES = {
    "read": env.int("API_READS_PER_MINUTE", default=1000),
    "write": env.int("API_WRITES_PER_MINUTE", default=100),
    "job": env.int("API_JOB_READS_PER_MINUTE", default=6000),
    "login": env.int("API_LOGINS_PER_MINUTE", default=10),
    "log": env.int("API_LOG_LINES_PER_MINUTE", default=600),
}
# Event streams hold a thread each, of the 16 of a web process.
EVENT_STREAMS_PER_PROCESS = env.int("EVENT_STREAMS_PER_PROCESS", default=8)
EVENT_STREAMS_PER_USER = env.int("EVENT_STREAMS_PER_USER", default=4)
# seconds between heartbeats of a stream; its user is checked then
EVENT_HEARTBEAT = env.float("EVENT_HEARTBEAT", default=15)
# seconds between reads of a job without a notification
EVENT_POLL = env.float("EVENT_POLL", default=3)
# Proxies in front of us that append to X-Forwarded-For; 0: none, and the header is ignored.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
AXES_CLIENT_IP_CALLABLE = "certification.lib.request_rates.caller_ip"
CORS_ALLOWED_ORIGINS = env.list(
    "CORS_ALLOWED_ORIGINS", default=[f"http://localhost:{port}" for port in (3000, 3002, 3003)]
)
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    *("accept", "authorization", "content-type", "x-requested-with"),
    *("idempotency-key", "if-none-match", "last-event-id", "x-request-id"),
]
CORS_EXPOSE_HEADERS = ["ETag", "Retry-After", "X-Request-Id"]
REST_FRAMEWORK = {  # the rest is in certification.api.views.View
    "DEFAULT_SCHEMA_CLASS": "certification.api.schema.EnvelopeSchema",
    "UNAUTHENTICATED_USER": None,
    "NUM_PROXIES": TRUSTED_PROXIES,
    "COERCE_DECIMAL_TO_STRING": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MyIA Certification",
    "VERSION": "1.0",
    "DESCRIPTION": "Whether an AI model on AWS Bedrock works in a region, tested by calling it.",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": ["certification.api.examples.attach"],
}

# --- Queue ---
CELERY_BROKER_URL, broker_options = redis_address.for_kombu(REDIS_URL)
if REDIS_URL.startswith("rediss+sentinel:"):
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": "required"}
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
# Routines and schedules store their results, also those that a command runs; certification runs
# have rows of their own, and what beat does every minute leaves a mark. `cleanup` deletes results.
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_EAGER_RESULT = True
CELERY_RESULT_EXPIRES = None
CELERY_TASK_DEFAULT_QUEUE = "maintenance"
# The row is the truth and the message a hint: a message is acknowledged when received, and a lost
# one is sent again.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# a worker full of long runs takes no message that another could start now
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = CERTIFICATION_CONCURRENCY
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False  # Flower requests them when it is open
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_WORKER_CONSUMER = "certification.engine.consumer:Consumer"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # a Redis that is full or read-only is waited for
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "max_connections": max(50, CERTIFICATION_CONCURRENCY * 2),
    "visibility_timeout": 3600,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 30,
    **broker_options,
}
CELERY_BEAT_SCHEDULER = "certification.engine.beat:Scheduler"
# What was sent is stored at once: whoever takes over does not send it again.
CELERY_BEAT_SYNC_EVERY = 1


def by_the_clock(routine: str, **moment: str | int) -> dict[str, Any]:
    """Return the schedule of a routine of operations/routines.py."""
    return {
        "task": "certification.operations.tasks.run_routine",
        "schedule": crontab(**moment),
        "args": [routine],
        "options": {"expires": 3600},
    }


CELERY_BEAT_SCHEDULE = {
    "reconcile": {
        "task": "certification.tasks.reconcile",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "alerts": {
        "task": "certification.monitoring.tasks.check_alerts",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "webhooks": {
        "task": "certification.tasks.deliver_webhooks",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "hourly routine": by_the_clock("hourly", minute=0),
    "daily routine": by_the_clock("daily", hour=3, minute=0),
    "weekly routine": by_the_clock("weekly", day_of_week="sunday", hour=2, minute=0),
    "monthly routine": by_the_clock("monthly", day_of_month=1, hour=1, minute=0),
    "quarterly routine": by_the_clock(
        "quarterly",
        month_of_year="1,4,7,10",
        day_of_month="1-7",
        day_of_week="monday",
        hour=1,
        minute=0,
    ),
}
# --- Alerts ---
# ALERT_<RULE>=warning,critical: from which values on a rule of the alert engine is an alert.
ALERT_LIMITS = env.limits(
    "ALERT_", others=("ALERT_URLS", "ALERT_ESCALATION", "ALERT_REPEAT", "ALERT_MESSAGES")
)
# Who is notified, as Apprise's addresses with blanks between them, or in a file (ALERT_URLS_FILE):
# of every alert, of critical ones too, and of critical ones that nobody has acknowledged.
ALERT_SECRET_URLS = {
    name: env.secret_urls(f"ALERT_URLS{name and '_'}{name}")
    for name in ("", "CRITICAL", "L2", "L3", "L4")
}
# minutes until L2, L3 and L4 are notified
ALERT_ESCALATION_MINUTES = env.minutes("ALERT_ESCALATION_MINUTES", default=(15, 60, 240))
# minutes until an alert that nobody has acknowledged is sent again; 0: never
ALERT_REPEAT_MINUTES = env.int("ALERT_REPEAT_MINUTES", default=240, minimum=0)
# messages to one channel in an hour; more alerts come together, in one message each ten minutes
ALERT_MESSAGES_PER_HOUR = env.int("ALERT_MESSAGES_PER_HOUR", default=20, minimum=1)

# --- Retention ---
# RETENTION_<NAME>=days: how long what is stored, other than operations/retention.py says; 0: for
# ever.
RETENTION_DAYS = env.days("RETENTION_")
# Runs are evidence. Those that prove a status or a certificate stay, however many days this is.
RETENTION_DAYS["runs"] = env.int("RUN_RETENTION_DAYS", default=0, minimum=0, maximum=36_500)

# Called after each good round of alerts, so that a watcher outside notices when there is none.
HEARTBEAT_URL = env.secret("HEARTBEAT_URL")
# What cron sends as a Bearer to /maintenance/...; without it these addresses do not exist.
MAINTENANCE_SECRET = env.secret("MAINTENANCE_SECRET")

# --- Metrics ---
# Who may read /metrics: addresses of these networks, or whoever sends the token as a Bearer.
METRICS_NETWORKS = env.list("METRICS_NETWORKS", default=["127.0.0.0/8", "::1/128"])
METRICS_TOKEN = env.secret("METRICS_TOKEN")
# a series for each pair of model and region: thousands
METRICS_CERTIFICATION_STATUS = env.bool("METRICS_CERTIFICATION_STATUS", default=True)
DJANGO_STRUCTLOG_CELERY_ENABLED = True
# One line a request: lib/request_log.py adds to it what the line of its start has, and the address.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False

# --- Logs ---
LOG_FORMAT = env.choice(
    "LOG_FORMAT", "console" if sys.stderr.isatty() else "json", "json", "console"
)
# Commands write for people; log lines would be mixed with their output.
LOG_LEVEL = env.choice(
    "LOG_LEVEL",
    "WARNING" if is_command else "INFO",
    *logs.LEVELS,
)
# <logger>=<level>, by commas: what these loggers and those below them write, instead of LOG_LEVEL.
LOG_LEVELS = env.list("LOG_LEVELS", default=[])
LOG_DIR = env.str("LOG_DIR", default="")
LOG_SYSLOG = env.str("LOG_SYSLOG", default="")
# Milliseconds; 0: no warnings. Those of a command would be mixed with what it prints.
SLOW_REQUEST_MS = env.int("SLOW_REQUEST_MS", default=2_000, minimum=0)
SLOW_QUERY_MS = env.int("SLOW_QUERY_MS", default=0 if is_command else 1_000, minimum=0)
PROCESS_NAME = logs.process_name(sys.argv)
logs.configure_structlog()
LOGGING = logs.configuration(
    LOG_FORMAT,
    LOG_LEVEL,
    LOG_DIR,
    process=PROCESS_NAME,
    levels=logs.parse_levels(LOG_LEVELS),
    syslog=LOG_SYSLOG,
)
# Set by the supervisor: which of its processes this is, and whether it replaces one that ended
# without being told to.
SUPERVISED_PROCESS = env.str("SUPERVISED_PROCESS", default="")
SUPERVISED_REPLACES = env.bool("SUPERVISED_REPLACES", default=False)
