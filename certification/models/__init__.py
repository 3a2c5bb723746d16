"""Rows, their transitions and their queries."""

from certification.models.access import KEY_PREFIX, ApiKey, RevokedToken
from certification.models.accounts import Role, User
from certification.models.alerts import (
    AlertChannel,
    AlertEpisode,
    AlertNotification,
    AlertSilence,
    NotificationKind,
    Severity,
)
from certification.models.audit import AuditEntry
from certification.models.capacity_days import CapacityDay
from certification.models.catalogue import (
    AIModel,
    Lifecycle,
    ModelAlias,
    ModelKind,
    Provider,
    Region,
    Route,
    RouteKind,
)
from certification.models.certificates import (
    Certificate,
    CertificateDocument,
    CertificateKey,
    CertificateState,
    CertificateStatus,
)
from certification.models.certifications import ModelCertification
from certification.models.custom_cases import CustomCase
from certification.models.errors import ErrorGroup
from certification.models.jobs import (
    ACTIVE,
    TERMINAL,
    WAITING,
    Backend,
    CertificationJob,
    CertificationRun,
    JobType,
    Priority,
    RunOutcome,
    State,
    TestResult,
    Tier,
)
from certification.models.judgements import RunJudgement
from certification.models.next_actions import NextAction
from certification.models.parameter_support import ParameterSupport
from certification.models.people import (
    ChecklistRecord,
    ChecklistTick,
    Contact,
    DocumentReview,
    Drill,
    TrainingTick,
)
from certification.models.preferences import (
    Density,
    Dismissal,
    Motion,
    Preference,
    SavedView,
    StartPage,
    Theme,
)
from certification.models.queue_pause import PauseCause, QueuePause
from certification.models.routines import RoutineMark
from certification.models.run_events import RunEvent
from certification.models.run_totals import RunTotal
from certification.models.sessions import Session
from certification.models.target_days import TargetDay, TargetMinute
from certification.models.webhooks import (
    DeliveryStatus,
    WebhookDelivery,
    WebhookEvent,
    WebhookSubscription,
)

__all__ = [
    "ACTIVE",
    "KEY_PREFIX",
    "TERMINAL",
    "WAITING",
    "AIModel",
    "AlertChannel",
    "AlertEpisode",
    "AlertNotification",
    "AlertSilence",
    "ApiKey",
    "AuditEntry",
    "Backend",
    "CapacityDay",
    "Certificate",
    "CertificateDocument",
    "CertificateKey",
    "CertificateState",
    "CertificateStatus",
    "CertificationJob",
    "CertificationRun",
    "ChecklistRecord",
    "ChecklistTick",
    "Contact",
    "CustomCase",
    "DeliveryStatus",
    "Density",
    "Dismissal",
    "DocumentReview",
    "Drill",
    "ErrorGroup",
    "JobType",
    "Lifecycle",
    "ModelAlias",
    "ModelCertification",
    "ModelKind",
    "Motion",
    "NextAction",
    "NotificationKind",
    "ParameterSupport",
    "PauseCause",
    "Preference",
    "Priority",
    "Provider",
    "QueuePause",
    "Region",
    "RevokedToken",
    "Role",
    "Route",
    "RouteKind",
    "RoutineMark",
    "RunEvent",
    "RunJudgement",
    "RunOutcome",
    "RunTotal",
    "SavedView",
    "Session",
    "Severity",
    "StartPage",
    "State",
    "TargetDay",
    "TargetMinute",
    "TestResult",
    "Theme",
    "Tier",
    "TrainingTick",
    "User",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookSubscription",
]
